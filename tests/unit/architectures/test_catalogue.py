"""What each architecture is, decision by decision: the table of the paper's systems; and the steps
from the first of them to ours, of which each changes its pattern and nothing else.
"""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest

from refmta.architectures import catalogue, named
from refmta.architectures.architecture import ROOT, Architecture, CompartmentRow, Talk
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.decisions import decisions, differing
from refmta.architectures.evolution import EVOLUTION, PREFIX, STEPS
from refmta.architectures.refmta import REFMTA
from refmta.patterns.defense_in_depth import LAYERS

EVERY = {**ARCHITECTURES, **EVOLUTION}


def roots(architecture: Architecture) -> list[str]:
    return [row.name for row in architecture.compartments if row.user == ROOT]


#: name: whose are root's; store; mailboxes; who keeps the queue; layers.
WHAT = {
    "refmta": ([], "chunks", "maildir", "enqueue", tuple(LAYERS)),
    "sendmail": (["daemon", "runner"], "sendmail_qfdf", "mbox", "qmgr", ()),
    "qmail": (["lspawn"], "qmail_todo", "maildir", "qmgr", ("users",)),
    "postfix": (
        ["local"], "postfix_modebit", "maildir", "qmgr",
        ("users", "namespace", "jail", "capabilities"),
    ),
    "postfix-unjailed": (["local"], "postfix_modebit", "maildir", "qmgr", ("users",)),
    "sendmailx": ([], "sendmailx_ibdb", "maildir", "qmgr", ("users",)),
}  # fmt: skip


def test_what_the_six_are():
    assert {
        name: (roots(each), each.store, each.mailbox, each.keeper, each.layers)
        for name, each in ARCHITECTURES.items()
    } == WHAT


def test_the_monolith_is_one_program_and_no_channel_leaves_it():
    each = ARCHITECTURES["sendmail"]
    daemon, runner = (each.row(name) for name in ("daemon", "runner"))
    assert set(daemon.roles) == {"smtpd", *runner.roles} and daemon.uses == 1
    assert all(talk.client == talk.server for talk in each.talks)


def test_qmail_makes_a_process_for_each_connection_message_and_delivery():
    each = ARCHITECTURES["qmail"]
    once = {row.name for row in each.compartments if row.pooled and row.uses == 1}
    assert once == {"smtpd", "queue", "lspawn", "rspawn"}
    assert {talk.server for talk in each.talks if talk.fresh} == {"queue"}
    assert [row.name for row in each.compartments if row.becomes] == ["lspawn"]
    carried = {(talk.client, talk.server) for talk in each.talks if talk.carrier == "qmail"}
    assert carried == {
        ("smtpd", "queue"), ("send", "queue"), ("send", "lspawn"), ("send", "rspawn"),
        ("send", "clean"),
    }  # fmt: skip
    assert each.row("queue").user == each.row("clean").user != each.row("send").user


def test_postfix_shares_a_socket_and_a_user():
    for name in ("postfix", "postfix-unjailed"):
        each = ARCHITECTURES[name]
        assert {row.user for row in each.compartments} == {"postfix", ROOT}
        assert [row.name for row in each.compartments if row.acceptor == "workers"] == ["smtpd"]


def test_the_unjailed_one_differs_by_the_jail_alone():
    """And by what rests on its namespace."""
    both = [decisions(ARCHITECTURES[name]) for name in ("postfix", "postfix-unjailed")]
    kinds = {name.partition(": ")[2] or name for name in differing(*both)}
    assert {each for each in kinds if not each.startswith(("falls", "joins"))} == {
        "summary", "root", "layer namespace", "layer jail", "layer capabilities",
        "root after start",
    }  # fmt: skip


def test_sendmail_x_is_persistent_and_no_mail_work_is_root():
    each = ARCHITECTURES["sendmailx"]
    assert not roots(each) and not any(row.pooled or row.lazy for row in each.compartments)
    assert "enqueue" in each.row("smtps").roles
    (lmtp,) = [talk for talk in each.talks if talk.carrier == "stream"]
    assert (lmtp.client_role, lmtp.server_role) == ("lmtpc", "lmtpd")


@pytest.mark.parametrize("name", [*EVERY, "refmta-landlock-seccomp", "postfix-unjailed-users"])
def test_a_process_finds_by_its_name_what_the_catalogue_has(name: str):
    """It loads the one that it is part of."""
    assert named.find(name) == catalogue.find(name)


@pytest.mark.parametrize("name", ["", "monolith", "refmta-moat", "evolved-9", "postfixes"])
def test_what_there_is_not_is_found_by_nobody(name: str):
    for find in (named.find, catalogue.find):
        with pytest.raises(catalogue.UnknownArchitecture, match="there are: "):
            find(name)


# -- every decision is shown ----------------------------------------------------------------------

#: column -> another value.  What a row says of itself (name, reason) is no decision.
ROW: dict[str, Any] = {
    "roles": ("bounce",), "user": "shared", "per_user": True, "pooled": True, "lazy": False,
    "listener": True, "ends_with": "qmgr", "jail": "none", "reads": ("/",), "changes": ("/",),
    "network": True,
}  # fmt: skip
TALK: dict[str, Any] = {"carrier": "qmail", "fresh": True}
WHOLE: dict[str, Any] = {
    "summary": "another", "store": "qmail_todo", "mailbox": "mbox", "keeper": "qmgr",
    "layers": ("users",), "draining": ("smtpd",), "directories": (), "talks": (),
}  # fmt: skip


def changed(name: str, **columns: Any) -> Architecture:
    rows = (replace(e, **columns) if e.name == name else e for e in REFMTA.compartments)
    return replace(REFMTA, compartments=tuple(rows))


def talking(**columns: Any) -> Architecture:
    first, *others = REFMTA.talks
    return replace(REFMTA, talks=(replace(first, **columns), *others))


VARIANTS = [
    *((f"row.{key}", changed("resolve", **{key: value})) for key, value in ROW.items()),
    ("row.acceptor", changed("smtpd", acceptor="workers")),
    ("row.uses", changed("smtpd", uses=1)),
    ("row.becomes", changed("remote", user="root", becomes=True)),
    *((f"talk.{key}", talking(**{key: value})) for key, value in TALK.items()),
    *((f"whole.{key}", replace(REFMTA, **{key: value})) for key, value in WHOLE.items()),
]


@pytest.mark.parametrize(("column", "other"), VARIANTS, ids=[each for each, _ in VARIANTS])
def test_each_column_is_a_decision(column: str, other: Architecture):
    assert differing(decisions(REFMTA), decisions(other)), column


def test_no_column_was_forgotten():
    known = {f"row.{each.name}" for each in fields(CompartmentRow)} - {"row.name", "row.reason"}
    known |= {f"talk.{key}" for key in ("carrier", "fresh")}
    assert {each.name for each in fields(Talk)} - {"carrier", "fresh"} == {
        "client", "client_role", "server", "server_role",
    }  # fmt: skip
    known |= {f"whole.{each.name}" for each in fields(Architecture)}
    known -= {"whole.name", "whole.compartments", "whole.scan_s"}
    assert {column for column, _ in VARIANTS} == known
    becomes = differing(
        decisions(changed("remote", user="root")),
        decisions(changed("remote", user="root", becomes=True)),
    )
    assert becomes


# -- from the first to ours -----------------------------------------------------------------------

#: step -> kinds of decisions that it may change; rows come and go in those that divide processes.
DIVIDES = {
    "compartments", "roles", "process", "user", "root", "files", "network", "ends with", "channel",
    "store", "draining", "root after start",
}  # fmt: skip
MAY_CHANGE = {
    "Compartmentalization": DIVIDES,
    "Distributed Delegation": {"user", "process", "layer", "root after start"},
    "Trust Partitioning": DIVIDES - {"root after start"},
    "Unique Atomic Chunks": {"files", "store", "mailboxes", "keeper of the queue"},
    "Defense in Depth": {"layer", "root after start"},
    "Secure Pre-forking": {"process"},
    "Resident service": DIVIDES - {"root after start", "store"},
    "chroot Jail": {"root", "network", "layer"},
}
#: What follows from the rows.
FOLLOWS = {"summary", "falls", "joins"}


def kind(decision: str) -> str:
    """ "smtpd: user" is about users, "channel a -> b" about channels."""
    of_row = decision.partition(": ")[2]
    if of_row or decision in MAY_CHANGE["Unique Atomic Chunks"] | DIVIDES:
        return of_row or decision
    return decision.split(maxsplit=1)[0]


def test_it_begins_with_the_monolith_and_ends_with_ours():
    first, *_, last = EVOLUTION.values()
    names = {"name": "", "summary": ""}
    assert replace(first, **names) == replace(ARCHITECTURES["sendmail"], **names)
    differ = differing(decisions(replace(last, summary=REFMTA.summary)), decisions(REFMTA))
    assert differ == {} and last.scan_s == REFMTA.scan_s
    assert list(EVOLUTION) == [f"{PREFIX}-{number}" for number in range(len(STEPS) + 1)]


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS, 1)))
def test_each_step_changes_what_its_pattern_is_about_and_something(number: int, step: Any):
    before, after = (decisions(EVOLUTION[f"{PREFIX}-{each}"]) for each in (number - 1, number))
    kinds = {kind(each) for each in differing(before, after)} - FOLLOWS
    assert kinds and kinds <= MAY_CHANGE[step.pattern]


def test_no_step_brings_back_what_an_earlier_one_has_taken():
    """Root's processes, and layers."""
    line = list(EVOLUTION.values())
    for before, after in pairwise(line):
        assert set(before.layers) <= set(after.layers)
        assert bool(roots(before)) or not roots(after)
