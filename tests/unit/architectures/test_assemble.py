"""From an architecture and a configuration to a manifest and a plan: who is who, who knows what."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from refmta.architectures import launch
from refmta.architectures.architecture import Architecture
from refmta.architectures.assemble import Assembly, assemble
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.configuration import Configuration, ConfigurationError, Settings
from refmta.processes.plan import Plan
from refmta.processes.pool import PoolSlice
from refmta.roles import enqueue, local, qmgr, resolve, smtpd

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
        assert row["arguments"][-2:] == [architecture.name, compartment.name]
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
    "resolve": resolve.Slice, "pool": PoolSlice,
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
    assert read["enqueue"].spool == read["qmgr"].spool == "/spool"
    assert read["enqueue"].hostname == "mx.example.org"


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
