"""From an architecture and a configuration to a manifest and a plan: who is who, who knows what."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from refmta.architectures import launch
from refmta.architectures.architecture import (
    OWN,
    RECIPIENT,
    ROOT,
    Architecture,
    CompartmentRow,
)
from refmta.architectures.assemble import Assembly, assemble
from refmta.architectures.catalogue import ARCHITECTURES, find, take_away
from refmta.architectures.configuration import Configuration, ConfigurationError, Settings
from refmta.architectures.evolution import EVOLUTION
from refmta.patterns.secure_preforking import Rules
from refmta.processes.plan import Plan
from refmta.processes.pool_slice import PoolSlice
from refmta.roles import (
    accounts,
    bounce,
    clean,
    enqueue,
    lmtpc,
    lmtpd,
    local,
    qmgr,
    remote,
    resolve,
    smtpd,
)
from refmta.stores.recipients import Recipients, recipients

SECRET = "ada-and-nobody-else"
TEXT = f"""\
hostname = "mx.example.org"
postmaster = "ada@example.org"
listen = ["127.0.0.1:2525"]
spool = "/spool"
[domains."example.org"]
mailboxes = ["ada", "{SECRET}"]
[users.grace]
uid = 5000
gid = 5001
home = "/home/grace"
"""
EVERY = {**ARCHITECTURES, **EVOLUTION}
every = pytest.mark.parametrize("architecture", EVERY.values(), ids=EVERY)


def settings(text: str = TEXT) -> Settings:
    configuration = msgspec.convert(tomllib.loads(text), Configuration)
    return Settings(path=Path("/etc/refmta.toml"), configuration=configuration)


def assembled(architecture: Architecture, *, root: bool = True, text: str = TEXT) -> Assembly:
    return assemble(architecture, settings(text), root=root)


@every
def test_every_user_that_the_rows_name_is_one_in_the_reserved_range(architecture):
    """Rows that name the same user share it; all others have one that nobody else has."""
    made = assembled(architecture)
    rows = made.manifest["compartments"]
    assert [row["gid"] for row in rows] == [row["uid"] for row in rows]
    whose: dict[int, set[str]] = {made.owners["virtual"]: {"virtual"}}
    for row in rows:
        user = architecture.row(row["name"]).user
        own = user in (OWN, RECIPIENT) or (user != ROOT and "users" not in architecture.layers)
        whose.setdefault(row["uid"], set()).add(row["name"] if own else user)
        assert row["privileged"] == (row["uid"] == 0) == (user == ROOT)
    assert all(len(names) == 1 for names in whose.values()), whose
    assert len({str(names) for names in whose.values()}) == len(whose)
    low, high = made.manifest["reserved"][-1]
    assert all(low <= each < high for each in whose if each)


def test_ours_shares_no_user():
    made = assembled(ARCHITECTURES["refmta"])
    ids = [row["uid"] for row in made.manifest["compartments"]] + [made.owners["virtual"]]
    assert len(set(ids)) == len(ids) and 0 not in ids


def test_who_is_root_may_be_told_to_be_another_user_but_for_who_becomes_the_recipient():
    """Sendmail's RunAsUser; lspawn could not do its work."""
    text = TEXT + "[sendmail]\nrun_as_user = true\n"
    owners = assembled(ARCHITECTURES["sendmail"], text=text).owners
    assert 0 not in owners.values()
    assert owners["virtual"] == owners["daemon"], "who can't become another owner"
    owners = assembled(ARCHITECTURES["qmail"], text=text).owners
    assert [name for name, uid in owners.items() if uid == 0] == ["lspawn"]


def test_without_the_layer_of_users_all_are_one_but_root_and_the_recipients():
    owners = assembled(take_away(ARCHITECTURES["qmail"], ["users"])).owners
    shared = {uid for name, uid in owners.items() if name not in ("lspawn", "virtual")}
    assert len(shared) == 1 and owners["lspawn"] == 0
    assert owners["virtual"] not in shared


@every
def test_without_root_nobody_changes_user(architecture):
    made = assembled(architecture, root=False)
    assert made.manifest["rootless"] is True
    assert {row["uid"] for row in made.manifest["compartments"]} == {None}
    assert set(made.owners.values()) == {None}


@every
def test_the_supervisor_is_compartment_0_and_has_no_slice(architecture):
    made = assembled(architecture)
    assert made.manifest["compartments"][0]["name"] == "supervisor"
    assert [each.number for each in made.plan.compartments] == list(
        range(1, len(architecture.compartments) + 1)
    )
    for compartment in made.plan.compartments:
        row = made.manifest["compartments"][compartment.number]
        assert row["name"] == compartment.name
        assert row["arguments"][-3:] == [architecture.name, compartment.name, "/spool"]
        assert row["per_user"] == compartment.per_user


@every
def test_each_compartment_knows_the_slices_of_its_own_roles_only(architecture):
    for compartment in assembled(architecture).plan.compartments:
        expected = {*compartment.roles, *(["pool"] if compartment.pooled else [])}
        assert set(compartment.slices) == expected


@every
def test_who_has_mailboxes_is_known_to_resolve_alone(architecture):
    """smtpd, seized, can ask about one address after another, but has no list."""
    for compartment in assembled(architecture).plan.compartments:
        knows = any(SECRET.encode() in each for each in compartment.slices.values())
        assert knows == ("resolve" in compartment.roles)


FORMS: dict[str, Any] = {
    "smtpd": smtpd.Slice, "enqueue": enqueue.Slice, "qmgr": qmgr.Slice, "local": local.Slice,
    "resolve": resolve.Slice, "accounts": accounts.Slice, "remote": remote.Slice,
    "bounce": bounce.Slice, "clean": clean.Slice, "lmtpc": lmtpc.Slice, "lmtpd": lmtpd.Slice,
    "pool": PoolSlice,
}  # fmt: skip


Read = list[tuple[str, str, Any]]


def slices_of(architecture: Architecture, text: str = TEXT) -> Read:
    """(compartment, role or "pool", its slice) of all."""
    return [
        (compartment.name, role, msgspec.msgpack.decode(octets, type=FORMS[role]))
        for compartment in assembled(architecture, text=text).plan.compartments
        for role, octets in compartment.slices.items()
    ]


@every
def test_each_role_can_read_its_slice_and_finds_the_configured_values(architecture):
    text = TEXT + "[limits]\nmessage_octets = 70000\nrecipients = 123\nagent_idle_s = 7.0\n"
    for name, role, read in slices_of(architecture, text):
        row = architecture.row(name)
        if role in ("smtpd", "enqueue"):
            assert read.message_octets == 70000 and read.hostname == "mx.example.org"
        if role == "smtpd":
            assert read.recipients == 123
        if role in ("local", "lmtpd"):
            assert read.idle_s == 7.0 and read.mailbox == architecture.mailbox
        jailed = "jail" in architecture.layers and row.jail == "spool"
        inside = "/" if jailed else "/spool"
        if role == "enqueue":
            assert (read.spool, read.root) == ("/spool", inside)  # as messages to people call it
        if role == "qmgr":
            assert read.spool == inside
        if role in ("enqueue", "qmgr"):
            assert read.store == architecture.store


@every
def test_one_process_recovers_the_queue(architecture):
    """Not each connection's: the keeper's role, in the compartment that stays."""
    keepers = [
        (name, role)
        for name, role, read in slices_of(architecture)
        if role in ("enqueue", "qmgr") and read.keeps
    ]
    assert len(keepers) == 1
    ((name, role),) = keepers
    assert role == architecture.keeper and not architecture.row(name).pooled


@every
def test_who_writes_for_all_users_knows_them_and_nobody_else_does(architecture):
    """A table of recipients goes to those only who become them, one after the other."""
    for name, role, read in slices_of(architecture):
        row = architecture.row(name)
        if role == "pool":
            assert (read.becomes is not None) == row.becomes
        if role == "local":
            alone = row.per_user or row.becomes
            assert read.all_users == (not alone)
            table = Recipients() if alone else recipients(assembled(architecture).manifest)
            assert read.recipients == table


@every
def test_pools_are_told_who_accepts_and_how_often_a_worker_serves(architecture):
    pools = {name: read for name, role, read in slices_of(architecture) if role == "pool"}
    assert set(pools) == {row.name for row in architecture.compartments if row.pooled}
    for name, read in pools.items():
        row = architecture.row(name)
        assert (read.shared, read.uses) == (row.acceptor == "workers", row.uses)
        assert not read.trusted or row.listener


@pytest.mark.parametrize(
    ("name", "agents"),
    [
        ("refmta", "wanted"), ("sendmail", "shared"), ("qmail", "called"), ("postfix", "shared"),
        ("postfix-unjailed", "shared"), ("sendmailx", "shared"), ("evolved-1", "shared"),
        ("evolved-2", "wanted"),
    ],
)  # fmt: skip
def test_where_local_mail_goes_is_told_to_the_queue_manager(name: str, agents: str):
    told = {read.agents for _, role, read in slices_of(find(name)) if role == "qmgr"}
    assert told == {agents}


def test_what_only_a_monolith_can_choose_is_told_to_a_monolith_only():
    text = TEXT + '[sendmail]\ndelivery_mode = "interactive"\nsuper_safe = "false"\n'
    text += "queue_interval_s = 7.0\n"
    for name, architecture in ARCHITECTURES.items():
        read = {role: each for _, role, each in slices_of(architecture, text)}
        for role in ("enqueue", "qmgr"):
            expected = "interactive" if name == "sendmail" else "background"
            assert read[role].delivery == expected, (name, role)
            assert ("super_safe" in read[role].options) == (name == "sendmail"), (name, role)
    rounds = {
        name: read.scan_s
        for name, role, read in slices_of(ARCHITECTURES["sendmail"], text)
        if role == "qmgr"
    }
    assert rounds == {"daemon": 0.0, "runner": 7.0}


ONWARD = """\
[relay]
networks = ["10.0.0.0/8"]
smarthost = "[smart.example]:587"
port = 26
per_destination = 7
nameservers = ["127.0.0.1:5353"]
timeout_factor = 0.5
[remote]
max_workers = 9
[reports]
postmaster = ["failed"]
delay_warning_s = 11
[retry]
minimum_s = 12
maximum_s = 13
"""
WITH_BOTH = Architecture(
    name="both", summary="",
    compartments=(
        CompartmentRow(name="resolve", roles=("resolve",)),
        CompartmentRow(name="qmgr", roles=("qmgr",)),
        CompartmentRow(name="remote", roles=("remote",), pooled=True),
        CompartmentRow(name="bounce", roles=("bounce",)),
        CompartmentRow(name="local", roles=("local",), user=RECIPIENT, per_user=True),
        CompartmentRow(name="smtpd", roles=("smtpd",), pooled=True),
    ),
    talks=(), directories=(), draining=(),
)  # fmt: skip


def test_a_command_that_only_reads_the_configuration_loads_no_resolver():
    """dnspython costs a tenth of a command's time; the compartments' parents have no use for it."""
    code = "import sys, refmta.architectures.configuration as c; sys.exit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_configured_for_mail_that_leaves_arrives_where_it_is_needed():
    text = TEXT.replace("127.0.0.1:2525", "0.0.0.0:2525") + ONWARD
    made = assemble(WITH_BOTH, settings(text), root=True, machine=("192.0.2.1", "2001:db8::1"))
    slices = {each.name: each.slices for each in made.plan.compartments}
    read = {role: msgspec.msgpack.decode(slices[role][role], type=FORMS[role]) for role in slices}
    assert read["remote"] == remote.Slice(
        hostname="mx.example.org", port=26,
        own=("localhost", "0.0.0.0", "127.0.0.1", "192.0.2.1"), own_ports=(2525,),
        nameservers=("127.0.0.1:5353",), timeouts_factor=0.5,
    )  # fmt: skip
    assert read["bounce"] == bounce.Slice(hostname="mx.example.org", postmaster="ada@example.org")
    assert read["qmgr"] == qmgr.Slice(
        spool="/spool", hostname="mx.example.org", retry_minimum_s=12, retry_maximum_s=13,
        delay_warning_s=11,
        copies=("failed",), postmaster="ada@example.org", remote_workers=9, per_destination=7,
        local_workers=50,
    )  # fmt: skip
    assert read["resolve"].relay == resolve.RelaySlice(
        networks=("10.0.0.0/8",), smarthost="[smart.example]:587"
    )
    assert read["resolve"].literals == ("[0.0.0.0]", "[127.0.0.1]", "[192.0.2.1]")
    pools = {
        name: msgspec.msgpack.decode(slices[name]["pool"], type=PoolSlice).rules
        for name in ("remote", "smtpd")
    }
    assert pools == {
        "remote": Rules(max_workers=9, max_uses=1, spare=0),
        "smtpd": Rules(stress_command_s=10.0),
    }


@every
def test_the_plan_survives_its_way_to_the_supervisor(architecture):
    plan = assembled(architecture).plan
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(plan), type=Plan) == plan


@every
def test_every_name_in_an_architecture_means_something(architecture):
    names = [row.name for row in architecture.compartments]
    assert len(set(names)) == len(names)
    roles = {row.name: row.roles for row in architecture.compartments}
    for row in architecture.talks:
        assert row.client_role in roles[row.client] and row.server_role in roles[row.server]
    assert sorted(architecture.draining) == sorted(names)
    assert {row.ends_with for row in architecture.compartments} - {""} <= set(names)
    owners = assembled(architecture).owners
    for directory in architecture.directories:
        assert directory.owner in owners and directory.group in owners
        assert not directory.mode & 0o007


@every
def test_who_starts_on_first_use_has_a_client_and_nobody_else_starts_it(architecture):
    """Neither a listening socket nor the supervisor."""
    for row in architecture.compartments:
        if row.lazy:
            assert any(each.server == row.name for each in architecture.talks)
            assert not row.listener and not row.per_user


@every
def test_draining_goes_down_the_stream(architecture):
    """Whoever asks stops before those who answer, but for enqueue, whose news qmgr needs not hear:
    it looks for itself when it starts again.  Where what takes mail in also writes the queue, a
    report that is begun too late finds nobody, and is made after the next start.
    """
    place = {name: number for number, name in enumerate(architecture.draining)}
    for each in architecture.talks:
        takes_and_writes = "smtpd" in architecture.row(each.server).roles
        told = (each.client_role, each.server_role) == ("enqueue", "qmgr")
        if each.client != each.server and not takes_and_writes and not told:
            assert place[each.client] < place[each.server], each


def test_only_one_architecture_can_not_drain_in_order():
    late = {
        name
        for name, architecture in EVERY.items()
        for each in architecture.talks
        if each.client != each.server and "smtpd" in architecture.row(each.server).roles
    }
    assert late == {"sendmailx"}


@every
def test_users_of_the_configuration_and_the_owner_of_virtual_mailboxes_are_the_table(architecture):
    made = assembled(architecture)
    assert made.manifest["users"]["grace"] == {"uid": 5000, "gid": 5001, "home": "/home/grace"}
    virtual = made.manifest["users"]["virtual"]
    assert virtual == {
        "uid": made.owners["virtual"], "gid": made.owners["virtual"], "home": "/spool/mail",
    }  # fmt: skip


def test_an_unknown_architecture_is_answered_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="there are: refmta"):
        launch.architecture("monolith")


def test_a_memory_file_is_read_from_its_start():
    descriptor = launch.memory_file("x", b"content")
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)
