"""The storm as a harness, against a mail server of sixty lines."""

from __future__ import annotations

from itertools import pairwise

import pytest
from unit.faultinject.toy_target import Toy

from faultinject import storm_harness, target
from faultinject.cases import Case
from faultinject.target import TargetError

HARNESS = storm_harness.harness()
SMALL = {"messages": 12, "seconds": 1.0, "clients": 2, "drain_s": 60.0}


def case(**settings) -> Case:
    return Case(harness="storm", target="toy", seed=3, settings={**SMALL, **settings})


@pytest.fixture
def toy(monkeypatch):
    """A target that loads as the toy that does this."""

    def be(how: str, **also):
        made = Toy(how)
        for name, value in also.items():
            setattr(made, name, value)
        monkeypatch.setattr(target, "load", lambda _: made)

    return be


def test_its_plan_is_of_storms_that_grow_each_with_a_seed_of_its_own():
    cases = list(HARNESS.plan("toy", 7))
    assert cases == list(HARNESS.plan("toy", 7))
    assert len({each.seed for each in cases}) == len(cases) == storm_harness.STORMS
    assert all(a.settings["messages"] <= b.settings["messages"] for a, b in pairwise(cases))
    assert all((each.harness, each.target) == ("storm", "toy") for each in cases)


def test_smaller_storms_are_smaller_until_there_is_none():
    current, seen = case(messages=4000, seconds=60.0, clients=8), 0
    while (simpler := next(HARNESS.smaller(current), None)) is not None:
        for name in ("messages", "seconds", "clients"):
            assert simpler.settings[name] <= current.settings[name]
        assert simpler.seed == current.seed and simpler != current
        current, seen = simpler, seen + 1
    assert seen > 5
    assert (current.settings["messages"], current.settings["seconds"]) == (4, 1.0)


def test_an_honest_server_holds(toy, tmp_path):
    toy("sound")
    outcome = HARNESS.run(case(), tmp_path)
    assert (outcome.verdict, outcome.findings, outcome.evidence) == ("held", (), {})
    assert outcome.counts["messages"] == 12 and outcome.counts["recipients"] >= 12


def test_the_control_one_that_forgets_is_found_with_its_evidence(toy, tmp_path):
    toy("forgetful")
    outcome = HARNESS.run(case(), tmp_path)
    assert outcome.verdict == "found" and "lost" in {each.name for each in outcome.findings}
    assert '"lost":' in outcome.evidence["report"]


def test_what_it_is_known_for_is_no_finding(toy, tmp_path):
    toy("forgetful", known_failures={"storm/lost": "it has no disk", "half_lost": "neither"})
    outcome = HARNESS.run(case(), tmp_path)
    assert outcome.verdict == "held" and outcome.findings and outcome.evidence


def test_what_is_missing_is_unavailable(toy, tmp_path):
    toy("sound", unavailable=lambda: "no toys here")
    outcome = HARNESS.run(case(), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("unavailable", "no toys here")


@pytest.mark.parametrize("error", [TargetError("it burns"), OSError(28, "No space left")])
def test_a_server_that_does_not_start_is_broken(error, toy, tmp_path):
    def start():
        raise error

    toy("sound", start=start)
    outcome = HARNESS.run(case(), tmp_path)
    assert outcome.verdict == "broken" and str(error) in outcome.reason


@pytest.mark.parametrize("settings", [{"mesages": 1}, {"messages": "many"}])
def test_wrong_settings_are_named(settings, toy, tmp_path):
    toy("sound")
    outcome = HARNESS.run(case(**settings), tmp_path)
    assert outcome.verdict == "broken" and "mes" in outcome.reason


def test_a_target_that_is_not_there_is_broken(tmp_path):
    wrong = Case(harness="storm", target="nonesuch")
    assert HARNESS.run(wrong, tmp_path).reason == "no such target: nonesuch"
