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
from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.assemble import Assembly, assemble
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.configuration import Configuration, ConfigurationError, Settings
from refmta.patterns.secure_preforking import Rules
from refmta.processes.plan import Plan
from refmta.processes.pool import PoolSlice
from refmta.roles import accounts, bounce, enqueue, local, qmgr, remote, resolve, smtpd

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
every = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)


def settings(text: str = TEXT) -> Settings:
    configuration = msgspec.convert(tomllib.loads(text), Configuration)
    return Settings(path=Path("/etc/refmta.toml"), configuration=configuration)


def assembled(architecture: Architecture, *, root: bool = True, text: str = TEXT) -> Assembly:
    return assemble(architecture, settings(text), root=root)


@every
def test_every_compartment_is_a_user_of_its_own_in_the_reserved_range(architecture):
    made = assembled(architecture)
    rows = made.manifest["compartments"]
    ids = [row["uid"] for row in rows] + [made.owners["virtual"]]
    assert len(set(ids)) == len(ids)
    assert [row["gid"] for row in rows] == [row["uid"] for row in rows]
    low, high = made.manifest["reserved"][-1]
    assert all(low <= each < high for each in ids)


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
    "bounce": bounce.Slice, "pool": PoolSlice,
}  # fmt: skip


@every
def test_each_role_can_read_its_slice_and_finds_the_configured_values(architecture):
    text = TEXT + "[limits]\nmessage_octets = 70000\nrecipients = 123\nagent_idle_s = 7.0\n"
    read = {
        role: msgspec.msgpack.decode(octets, type=FORMS[role])
        for compartment in assembled(architecture, text=text).plan.compartments
        for role, octets in compartment.slices.items()
    }
    assert read["smtpd"].message_octets == read["enqueue"].message_octets == 70000
    assert read["smtpd"].recipients == 123
    assert read["local"].idle_s == 7.0
    assert read["enqueue"].spool == "/spool"  # as messages to people call it
    jailed = "jail" in architecture.layers
    assert read["enqueue"].root == read["qmgr"].spool == ("/" if jailed else "/spool")
    assert read["enqueue"].hostname == "mx.example.org"


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
    """Neither a listening socket nor the supervisor; and a pool's worker can't call a pool."""
    rows = {row.name: row for row in architecture.compartments}
    for row in rows.values():
        if row.lazy:
            assert any(each.server == row.name for each in architecture.talks)
            assert not row.listener and not row.per_user
    for each in architecture.talks:
        assert not (rows[each.client].pooled and rows[each.server].pooled)


@every
def test_draining_goes_down_the_stream(architecture):
    """Whoever asks stops before those who answer; qmgr, which enqueue tells, needs no telling."""
    place = {name: number for number, name in enumerate(architecture.draining)}
    for each in architecture.talks:
        if (each.client, each.server) != ("enqueue", "qmgr"):
            assert place[each.client] < place[each.server], each


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
