"""Cases of the network: settings, groups, smaller ones, and the command's refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from unit.faultinject.toy_target import Toy

from faultinject import cases
from faultinject.cases import Case
from faultinject.network import places
from faultinject.network.command import network
from faultinject.network.harness import (
    GROUPS,
    SPECIAL,
    NetworkHarness,
    SettingsError,
    plan_of,
    run_on,
)


def case(**settings: object) -> Case:
    return Case(harness="network", target="refmta", seed=7, settings=settings)


def test_every_destination_is_in_one_group_and_has_a_place() -> None:
    grouped = [name for names in places.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(places.ALLOWED) and len(grouped) == len(set(grouped))
    assert all(places.GROUPS.values())
    addresses = [places.address(number) for number in range(len(grouped))]
    assert len(set(addresses)) == len(addresses)
    for name in grouped:
        assert places.destination(f"x@{places.domain(name)}") == name
        assert len(name) < 64
    for other in ("x@honest.example", "x@faulty.example", "x@nobody.faulty.example", "x"):
        assert places.destination(other) == ""


def test_the_issue_s_list_is_in_the_table() -> None:
    for name in (
        "smtp-slow-at-mail", "smtp-silence-at-data", "smtp-half-open-at-final",
        "smtp-reset-at-ehlo", "smtp-4yz-at-rcpt", "smtp-5yz-at-final", "smtp-close-at-final",
        "smtp-taken-and-close", "smtp-close-after-final", "dns-silent", "dns-it-is-you",
        "dns-wrong-id", "dns-servfail", "dns-nxdomain", "dns-nodata", "dns-null-mx",
        "dns-cname-loop", "dns-truncated",
    ):  # fmt: skip
        assert name in places.ALLOWED


def test_a_plan_has_everything_once() -> None:
    planned = list(NetworkHarness().plan("refmta", 3))
    assert [each.settings["group"] for each in planned] == list(GROUPS)
    assert all((each.harness, each.seed) == ("network", 3) for each in planned)
    plans = [plan_of(each) for each in planned]
    assert sum(each.isolates for each in plans) == 5 and sum(each.paces for each in plans) == 1
    met = {name for each in plans for name in each.bad}
    assert met == set(places.ALLOWED) == set(plan_of(case(group="all")).bad)


def test_settings_change_what_the_group_says() -> None:
    plan = plan_of(case(group="schedule", seconds=3, live=1))
    assert plan.paces and (plan.seconds, plan.live, plan.seed) == (3, 1, 7)
    assert plan_of(case(bad=["dns-silent"])).bad == ("dns-silent",)


WRONG = {
    "nothing": ({}, "no bad destination"),
    "no such group": ({"group": "weather"}, "no such group: weather"),
    "no such destination": ({"bad": ["smtp-rain"]}, "no such destination: smtp-rain"),
    "an unknown setting": ({"group": "names", "colour": 1}, "colour"),
    "a wrong type": ({"group": "names", "burst": "many"}, "burst"),
    "none at all": ({"group": "names", "live": 0}, "from 1 to 1000"),
    "too long": ({"group": "names", "seconds": 1e9}, "at most 3600"),
    "a negative wave": ({"group": "all", "wave": -1}, "wave"),
    "isolation beside many": ({"group": "names", "isolates": True}, "one bad destination"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_settings(what: str) -> None:
    settings, text = WRONG[what]
    with pytest.raises(SettingsError, match=text):
        plan_of(case(**settings))


def test_smaller_ones_end_with_one_destination_and_one_letter() -> None:
    harness, now = NetworkHarness(), case(group="isolation-dns-silent")
    assert plan_of(now).burst == 40
    steps = 0
    while smaller := list(harness.smaller(now)):
        plan_of(smaller[0])
        now, steps = smaller[0], steps + 1
    assert plan_of(now).bad == ("dns-silent",) and plan_of(now).burst == plan_of(now).live == 1
    halves = [plan_of(each).bad for each in harness.smaller(case(group="all"))][:2]
    assert halves[0] + halves[1] == plan_of(case(group="all")).bad
    assert steps < 20


def test_a_target_that_sends_nothing_is_unavailable(tmp_path: Path) -> None:
    outcome = run_on(Toy("sound"), case(group="names"), tmp_path)
    assert outcome.verdict == "unavailable" and outcome.reason


def test_unknown_targets_are_unavailable(tmp_path: Path) -> None:
    nobody = Case(harness="network", target="nobody", settings={"group": "names"})
    assert NetworkHarness().run(nobody, tmp_path).verdict == "unavailable"


REFUSED = {
    "no target": ([], "one of --target and --replay"),
    "an unknown one": (["--target", "nobody"], "no such target: nobody"),
    "an unknown group": (["--target", "refmta", "--group", "weather"], "weather"),
    "an unknown destination": (
        ["--target", "refmta", "--bad", "rain"],
        "no such destination: rain",
    ),
    "two of a kind": (
        ["--target", "refmta", "--group", "names", "--bad", "dns-silent"],
        "not both",
    ),
    "no case file": (["--replay", "/nowhere/case.json"], "No such file"),
    "no time": (["--target", "refmta", "--seconds", "0"], "0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line_and_exit_2(what: str) -> None:
    arguments, text = REFUSED[what]
    done = CliRunner().invoke(network, arguments)
    assert done.exit_code == 2 and text in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_case_files_are_refused_by_version_harness_and_settings(tmp_path: Path) -> None:
    file = tmp_path / "case.json"
    other = Case(harness="disk", target="refmta", settings={})
    for octets, text in (
        (json.dumps({"harness": "network", "target": "refmta", "version": 99}).encode(), "99"),
        (cases.encode(other), "a case of disk"),
        (cases.encode(case(bad=["smtp-rain"])), "no such destination"),
    ):
        file.write_bytes(octets)
        done = CliRunner().invoke(network, ["--replay", str(file)])
        assert done.exit_code == 2 and text in done.output, done.output


def test_the_list_names_every_destination_and_schedule() -> None:
    done = CliRunner().invoke(network, ["--list"])
    assert done.exit_code == 0
    assert all(name in done.output for name in (*places.ALLOWED, *places.GROUPS, *SPECIAL))
    assert "schedule of postfix" in done.output
