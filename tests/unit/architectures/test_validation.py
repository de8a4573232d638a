"""An architecture with one thing wrong in it is refused by the row and the column."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refmta.architectures.architecture import Architecture, Directory, Talk, talk
from refmta.architectures.catalogue import ARCHITECTURES, take_away
from refmta.architectures.evolution import EVOLUTION
from refmta.architectures.refmta import REFMTA
from refmta.architectures.validation import problems
from refmta.patterns.defense_in_depth import LAYERS


def changed(which: str, /, **columns: Any) -> Architecture:
    """Ours with one row changed."""
    rows = tuple(
        replace(row, **columns) if row.name == which else row for row in REFMTA.compartments
    )
    return replace(REFMTA, compartments=rows)


def talking(*talks: Talk) -> Architecture:
    return replace(REFMTA, talks=(*REFMTA.talks, *talks))


EVERY = {**ARCHITECTURES, **EVOLUTION}


@pytest.mark.parametrize("architecture", EVERY.values(), ids=EVERY)
def test_ours_are_sound_and_stay_so_without_any_layer(architecture: Architecture):
    assert problems(architecture) == []
    for layer in LAYERS:
        assert problems(take_away(architecture, [layer])) == []


def directory(**columns: Any) -> Architecture:
    return replace(REFMTA, directories=(replace(REFMTA.directories[0], **columns),))


def draining(*names: str) -> Architecture:
    return replace(REFMTA, draining=names)


def inside(**how: Any) -> Architecture:
    """Ours, but smtpd looks recipients up for itself."""
    row = talk("smtpd", "smtpd.resolve", **how)
    talks = (row if (e.client, e.server) == ("smtpd", "resolve") else e for e in REFMTA.talks)
    return replace(changed("smtpd", roles=("smtpd", "resolve")), talks=tuple(talks))


def carried(client: str, server: str) -> Architecture:
    """Ours, but one channel is qmail's."""
    rows = (
        replace(each, carrier="qmail") if (each.client, each.server) == (client, server) else each
        for each in REFMTA.talks
    )
    return replace(REFMTA, talks=tuple(rows))


ROWS = [
    (changed("resolve", user=""), "compartments.resolve.user: a compartment must have a user"),
    (changed("resolve", user="root; rm"), "compartments.resolve.user: a compartment must have"),
    (changed("resolve", user="recipient"), "compartments.resolve.user: 'recipient' with per_user"),
    (changed("local", user="own"), "compartments.local.user: 'own' with per_user True"),
    (changed("resolve", name="supervisor"), "compartments.supervisor.name: 'supervisor' can't be"),
    (changed("resolve", name="../x"), "compartments.../x.name: '../x' can't be"),
    (changed("resolve", name="qmgr"), "compartments.qmgr: there are 2 rows of that name"),
    (changed("resolve", roles=()), "compartments.resolve.roles: none"),
    (changed("resolve", roles=("oracle",)), "compartments.resolve.roles: there is no role 'oracle"),
    (changed("resolve", roles=("../x",)), "compartments.resolve.roles: there is no role '../x'"),
    (changed("resolve", roles=("users",)), "compartments.resolve.roles: there is no role 'users"),
    (changed("resolve", pooled=True), "compartments.resolve.roles: resolve can't be the session"),
    (changed("local", pooled=True), "compartments.local.pooled: the recipient's compartment is"),
    (changed("remote", listener=True), "compartments.remote.listener: only smtpd knows what"),
    (changed("resolve", uses=1), "compartments.resolve.uses: only a pool has workers"),
    (changed("resolve", acceptor="workers"), "compartments.resolve.acceptor: only a pool has"),
    (changed("remote", acceptor="workers"), "compartments.remote.acceptor: workers accept from"),
    (changed("smtpd", acceptor="workers"), "compartments.smtpd.acceptor: workers who accept make"),
    (changed("smtpd", uses=-1), "compartments.smtpd.uses: -1 is no number of sessions"),
    (changed("smtpd", becomes=True), "compartments.smtpd.becomes: only the workers of root's"),
    (changed("resolve", user="root", becomes=True), "compartments.resolve.becomes: only the"),
    (changed("smtpd", listener=False), "compartments: none has the listening sockets"),
    (changed("local", roles=("clean",)), "compartments: none has the role local or lmtpc"),
    (changed("resolve", jail="cellar"), "compartments.resolve.jail: 'cellar' is none of empty"),
    (changed("resolve", reads=("/chunks",)), "compartments.resolve.jail: an empty one has nothing"),
    (changed("resolve", jail="home", reason="x"), "compartments.resolve.jail: a home is"),
    (changed("resolve", jail="none"), "compartments.resolve.reason: why it has more"),
    (changed("smtpd", network=True), "compartments.smtpd.reason: why it has more"),
    (changed("enqueue", changes=("chunks",)), "compartments.enqueue.changes: 'chunks': must be"),
    (changed("enqueue", changes=("/chunks/../..",)), "compartments.enqueue.changes: '/chunks/../"),
    (changed("enqueue", changes=("/keys",)), "compartments.enqueue.changes: /keys: no directory"),
    (changed("enqueue", reads=("/chunks",)), "compartments.enqueue.reads: /chunks: in changes"),
    (changed("bounce", ends_with="ghost"), "compartments.bounce.ends_with: there is no compart"),
    (changed("qmgr", ends_with="bounce"), "compartments.qmgr.ends_with: a circle: qmgr -> bounce"),
    (changed("bounce", ends_with="bounce"), "compartments.bounce.ends_with: a circle"),
    (talking(talk("smtpd", "oracle")), "talks.smtpd-oracle: server: there is no compartment"),
    (talking(talk("oracle", "qmgr")), "talks.oracle-qmgr: client: there is no compartment"),
    (talking(talk("smtpd", "qmgr")), "talks.smtpd-qmgr: no border: smtpd and qmgr"),
    (talking(talk("qmgr", "qmgr")), "talks.qmgr-qmgr: client: nobody talks to itself"),
    (talking(talk("smtpd", "enqueue")), "talks.smtpd-enqueue: there are 2 rows"),
    (
        talking(Talk(client="qmgr", client_role="smtpd", server="resolve", server_role="resolve")),
        "talks.qmgr-resolve: client_role: qmgr does not have the role 'smtpd'",
    ),
    (replace(REFMTA, talks=REFMTA.talks[:-1]), "compartments.accounts.lazy: nobody talks to it"),
    (directory(owner="ghost"), "directories.chunks.owner: there is no compartment 'ghost'"),
    (directory(group="smtpd"), "directories.chunks.group: smtpd neither reads nor changes it"),
    (directory(path="../etc"), "directories.../etc.path: must be a path below"),
    (directory(mode=0o2775), "directories.chunks.mode: 2775: open to others"),
    (
        replace(REFMTA, directories=(*REFMTA.directories, REFMTA.directories[0])),
        "directories.chunks: there are 2 rows",
    ),
    (draining(*REFMTA.draining[1:]), "draining: smtpd is missing"),
    (draining(*REFMTA.draining, "ghost"), "draining: there is no compartment 'ghost'"),
    (draining(*REFMTA.draining, "smtpd"), "draining.smtpd: there are 2 rows"),
    (inside(carrier="qmail"), "talks.smtpd-smtpd: carrier: within one process nothing is carried"),
    (inside(fresh=True), "talks.smtpd-smtpd: carrier: within one process nothing is carried"),
    (carried("smtpd", "resolve"), "talks.smtpd-resolve: carrier: qmail has no format for what"),
    (replace(REFMTA, store="shoebox"), "store: there is no store 'shoebox'; there are: chunks, "),
    (replace(REFMTA, keeper="clean"), "keeper: no compartment has the role 'clean'"),
    (replace(REFMTA, scan_s=-1.0), "scan_s: -1.0 is no time"),
    (replace(REFMTA, layers=(*LAYERS, "moat")), "layers.moat: there is no such layer"),
    (replace(REFMTA, layers=("users", "jail")), "layers.jail: it rests on namespace"),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "said"), ROWS, ids=[row[1][:60] for row in ROWS])
def test_what_is_wrong_is_named_by_its_row(architecture: Architecture, said: str):
    found = problems(architecture)
    assert any(each.startswith(f"architecture refmta: {said}") for each in found), found


def test_each_kind_of_finding_can_fail():
    """Control: no finding is said of an architecture that has another thing wrong, only."""
    said = [problems(architecture) for architecture, _ in ROWS]
    assert all(said) and problems(REFMTA) == []
    assert len({line for lines in said for line in lines}) >= len(ROWS)


def test_who_may_be_root_and_share_a_socket():
    """The twins of what is refused above: each new column, where it fits."""
    assert problems(inside()) == []
    assert problems(take_away(changed("smtpd", acceptor="workers"), ["seccomp"])) == []
    assert problems(changed("smtpd", uses=1)) == []
    assert problems(changed("remote", user="root", becomes=True)) == []
    assert problems(carried("qmgr", "local")) == []


def test_a_second_process_per_user_is_one_too_many():
    row = replace(REFMTA.row("local"), name="other")
    twice = replace(
        REFMTA, compartments=(*REFMTA.compartments, row), draining=(*REFMTA.draining, "other")
    )
    assert any("more than one per_user" in each for each in problems(twice))


def test_directory_rows_are_needed_at_all():
    """A directory that nobody owns is found, and the type is the one that the launcher makes."""
    lost = Directory(path="lost", owner="smtpd", group="smtpd", mode=0o700)
    found = problems(replace(REFMTA, directories=(*REFMTA.directories, lost)))
    assert (
        "architecture refmta: directories.lost.owner: smtpd neither reads nor changes it" in found
    )
