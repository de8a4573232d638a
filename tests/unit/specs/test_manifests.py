"""The manifests of all architectures: made from rows alone, and without a contradiction."""

from __future__ import annotations

import pytest

from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.configuration import load
from specs.patterns.attacks import VICTIMS
from specs.patterns.manifest import Manifest
from subjects.architecture_manifest import Planted, manifest
from subjects.parts import between, parts, working

CONFIGURATION = """
hostname = "mx.judged.test"
postmaster = "ada@judged.test"
listen = ["127.0.0.1:2525"]
spool = "/var/spool/judged"
[domains."judged.test"]
system_users = true
[domains."former.test"]
[rewrite.canonical]
"@former.test" = "@judged.test"
[users.ada]
uid = 1900000500
gid = 1900000500
home = "/home/ada"
"""


@pytest.fixture
def made(tmp_path):
    def of(name: str) -> Manifest:
        file = tmp_path / "refmta.toml"
        file.write_text(CONFIGURATION, encoding="utf-8")
        recipients = {"ada": 1_900_000_500}
        return manifest(ARCHITECTURES[name], load(file), Planted(), recipients)

    return of


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_is_that_of_a_process(made, name):
    found = made(name)
    known = {part for row in found.compartments for part in row.parts}
    assert {each for talk in found.talks for each in (talk.client, talk.server)} <= known
    assert {*found.privileged, found.starter, *found.victims.values()} <= known
    assert {part for row in found.compartments for part in (*row.becomes, *row.fleeting)} <= known
    peers = {
        peer
        for row in found.compartments
        for rules in row.descriptors.values()
        for rule in rules
        for peer in rule.peers
    }
    assert peers <= known
    assert found.facts["rewriting"]["service"] in known


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_process_has_a_list_of_descriptors_and_every_compartment_a_budget(made, name):
    found = made(name)
    for row in found.compartments:
        assert set(row.descriptors) == set(row.parts), row.name
    assert set(found.budgets) == {row.name for row in found.compartments}
    assert set(found.victims) == set(VICTIMS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_marker_has_holders_and_each_asset_of_mail_an_owner(made, name):
    found = made(name)
    names = {row.name for row in found.compartments}
    for marker in found.markers:
        assert {*marker.holders} <= names
        assert marker.holders, marker.name
    for asset in found.assets:
        assert {*asset.owners} <= names
        assert asset.owners or asset.name in ("configuration", "control"), asset.name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_channel_within_a_process_is_nobodys_talk(made, name):
    architecture = ARCHITECTURES[name]
    assert all(each.client != each.server for each in between(architecture))
    assert all(talk.client != talk.server for talk in made(name).talks)


def test_who_is_root_is_said_by_the_rows(made):
    found = {name: set(made(name).privileged) - {"spawner"} for name in ARCHITECTURES}
    assert found == {
        "refmta": set(),
        "sendmail": {"daemon", "daemon template", "daemon worker", "runner"},
        # The children of lspawn are the recipients.
        "qmail": {"lspawn", "lspawn template"},
        "postfix": {"local"},
        "postfix-unjailed": {"local"},
        "sendmailx": set(),
    }


def test_who_hears_strangers_is_said_by_the_roles(made):
    found = {name: {r.name for r in made(name).compartments if r.hears} for name in ARCHITECTURES}
    assert found == {
        "refmta": {"smtpd", "remote"},
        "sendmail": {"daemon", "runner"},
        "qmail": {"smtpd", "rspawn"},
        "postfix": {"smtpd", "smtp"},
        "postfix-unjailed": {"smtpd", "smtp"},
        "sendmailx": {"smtps", "smtpc"},
    }


def test_a_pool_is_three_kinds_of_processes():
    row = ARCHITECTURES["qmail"].row("queue")
    assert parts(row) == ("queue", "queue template", "queue worker")
    assert working(row) == "queue worker"
    assert parts(ARCHITECTURES["qmail"].row("send")) == ("send",)
