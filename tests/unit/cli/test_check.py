"""What `refmta init` writes is right, and `refmta check` says who may relay."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from refmta.architectures import launch, machine
from refmta.architectures.architecture import talk
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.configuration import load
from refmta.architectures.machine import Missing
from refmta.architectures.refmta import REFMTA
from refmta.architectures.sections import Relay, Reports
from refmta.cli.check import is_wide
from refmta.cli.main import main
from refmta.protocol.relaying import parse_network

FEW = """\
hostname = "mx.example.org"
postmaster = "ada@example.org"
listen = ["127.0.0.1:0"]
spool = "spool"
[domains."example.org"]
mailboxes = ["ada"]
aliases = { eve = ["eve@example.com", "ada@example.org"] }
"""
RELAY = """\
[relay]
networks = ["127.0.0.0/8", "11.0.0.0/8"]
domains = ["Backup.example"]
next_hops = { "lan.example" = "[::1]:26" }
smarthost = "smart.example:587"
"""


def checked(tmp_path: Path, text: str, *options: str) -> tuple[int, str]:
    path = tmp_path / "refmta.toml"
    path.write_text(text)
    done = CliRunner().invoke(main, ["check", "-c", str(path), *options])
    return done.exit_code, done.stdout


def lines(tmp_path: Path, text: str) -> list[str]:
    """What is said about relaying; as root a closed directory above is a finding of its own."""
    _, out = checked(tmp_path, text)
    return [line for line in out.splitlines() if not line.startswith(str(tmp_path))]


UNSOUND = {
    "user": ("compartments.smtpd.user: a compartment must have a user, not none", ""),
    "talk": (
        "talks.smtpd-oracle: server: there is no compartment 'oracle'",
        talk("smtpd", "oracle"),
    ),
}


@pytest.mark.parametrize("what", UNSOUND)
@pytest.mark.parametrize("command", ["check", "serve"])
def test_an_unsound_architecture_is_named_by_its_row_and_nothing_starts(
    tmp_path, monkeypatch, command, what
):
    said, wrong = UNSOUND[what]
    rows = tuple(
        replace(row, user=wrong) if (what, row.name) == ("user", "smtpd") else row
        for row in REFMTA.compartments
    )
    talks = (*REFMTA.talks, wrong) if what == "talk" else REFMTA.talks
    broken = replace(REFMTA, name="broken", compartments=rows, talks=talks)
    monkeypatch.setitem(ARCHITECTURES, "broken", broken)
    monkeypatch.setattr(launch, "prepare", None)  # it would raise
    path = tmp_path / "refmta.toml"
    path.write_text(FEW)
    done = CliRunner().invoke(main, [command, "-c", str(path), "--architecture", "broken"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"architecture broken: {said}" in done.stderr.splitlines()
    assert not (tmp_path / "spool").exists()


def test_a_layer_that_is_missing_is_a_finding_unless_it_may_be(tmp_path, monkeypatch):
    lacks = [Missing("landlock", 38, "Function not implemented")]
    monkeypatch.setattr(machine, "lacking", lambda layers, _: lacks if "landlock" in layers else [])
    code, out = checked(tmp_path, FEW, "--json")
    (problem,) = [each for each in json.loads(out)["problems"] if each.startswith("layer")]
    assert code == 1 and problem == lacks[0].problem
    _, out = checked(tmp_path, FEW, "--json", "--allow-missing", "landlock")
    found = json.loads(out)
    assert not [each for each in found["problems"] if each.startswith("layer")]
    assert found["missing"]["landlock"] == lacks[0].reason


def test_without_a_section_nobody_relays_and_what_aliases_send_away_is_said(tmp_path):
    assert lines(tmp_path, FEW) == [
        "relaying: no client may send to other hosts",
        "next hop: everything else by its MX records",
        'leaves: domains."example.org".aliases."eve" to eve@example.com',
    ]


def test_who_may_relay_and_which_way(tmp_path):
    assert lines(tmp_path, FEW + RELAY)[:5] == [
        "relaying: clients in 127.0.0.0/8, 11.0.0.0/8 may send to other hosts",
        "relaying: everybody may send to backup.example",
        "warning: relay.networks: 11.0.0.0/8 is wide: 16777216 addresses may send through you",
        "next hop: lan.example by [IPv6:::1]:26",
        "next hop: everything else by smart.example:587",
    ]


def test_the_same_for_programs(tmp_path):
    _, out = checked(tmp_path, FEW + RELAY, "--json")
    assert json.loads(out)["relay"] == {
        "networks": ["127.0.0.0/8", "11.0.0.0/8"],
        "wide": ["11.0.0.0/8"],
        "domains": ["backup.example"],
        "next_hops": {"lan.example": "[IPv6:::1]:26"},
        "smarthost": "smart.example:587",
        "aliases": [{"key": 'domains."example.org".aliases."eve"', "address": "eve@example.com"}],
    }


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "2000::/3"])
def test_an_open_relay_is_refused(tmp_path, network):
    code, out = checked(tmp_path, f'{FEW}[relay]\nnetworks = ["{network}"]\n')
    assert (code, out) == (2, "")


@pytest.mark.parametrize(
    ("network", "wide"),
    [
        ("10.0.0.0/8", False), ("127.0.0.0/8", False), ("192.168.0.0/16", False),
        ("192.0.0.0/8", True), ("172.0.0.0/8", True), ("100.64.0.0/10", True),
        ("8.8.0.0/16", False),
        ("fc00::/7", False), ("fe80::/10", False), ("2001::/16", True), ("2a00:1::/32", False),
    ],
)  # fmt: skip
def test_a_wide_network_is_shown_with_a_warning(network, wide):
    assert is_wide(parse_network(network)) is wide


def test_what_init_writes_is_right_and_lets_nobody_relay(tmp_path):
    done = CliRunner().invoke(main, ["init", str(tmp_path), "--domain", "example.org"])
    assert done.exit_code == 0
    configuration = load(tmp_path / "refmta.toml").configuration
    assert (configuration.relay, configuration.reports) == (Relay(), Reports())


def test_what_init_leaves_in_comments_is_right_too(tmp_path):
    CliRunner().invoke(main, ["init", str(tmp_path), "--domain", "example.org"])
    path = tmp_path / "refmta.toml"
    path.write_text(re.sub(r"^# (\w+ =)", r"\1", path.read_text(), flags=re.MULTILINE))
    configuration = load(path).configuration
    assert configuration.relay.smarthost and configuration.relay.networks
    assert configuration.reports.postmaster == ("failed", "double")
    assert configuration.reports.delay_warning_s == Reports().delay_warning_s
