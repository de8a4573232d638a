"""What comes next: fairness, closing, shrinking, and going on after a kill at any point."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec
import pytest
from unit.faultinject import toy_campaign
from unit.faultinject.toy_campaign import KNOWN, outcome_of
from unit.faultinject.toy_harness import BUG, ToyHarness

from faultinject.campaign.agenda import BROKEN, Agenda, file_of
from faultinject.campaign.records import Closed, Ran, Smallest
from faultinject.cases import Case


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Toys leave a file in the directory that they are given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


HERE = Path()


def work(agenda, most=10_000, seconds=lambda _: 1.0):
    return toy_campaign.work(agenda, HERE, most, seconds)


def agenda(*targets, harnesses=None, **options) -> Agenda:
    there = harnesses or [ToyHarness()]
    return Agenda(
        seed=5, targets=targets, harnesses={e.name: e for e in there}, known=KNOWN, **options
    )


def ran(records, planned=True):
    return [e.outcome.case for e in records if isinstance(e, Ran) and bool(e.of) != planned]


def test_every_cell_has_one_case_before_any_has_two():
    harnesses = [ToyHarness("toys"), ToyHarness("more-toys")]
    cases = ran(work(agenda("sound", "known", harnesses=harnesses)))
    assert len({(each.target, each.harness) for each in cases[:4]}) == 4
    assert Counter((each.target, each.harness) for each in cases) == Counter(
        {(t, h): 6 for t in ("sound", "known") for h in ("toys", "more-toys")}
    )


def test_a_cell_of_slow_cases_gets_no_more_time_than_one_of_quick_ones():
    harnesses = [ToyHarness("toys", cases=100), ToyHarness("slow", cases=100)]
    there = agenda("sound", harnesses=harnesses)
    records = work(there, 55, lambda case: 10.0 if case.harness == "slow" else 1.0)
    assert Counter(each.harness for each in ran(records)) == {"toys": 50, "slow": 5}


def test_what_is_running_counts_as_time():
    there = agenda("sound", "known")
    assert {there.next().case.target for _ in range(2)} == {"sound", "known"}


def test_the_same_seed_makes_the_same_plan_and_another_another():
    first, again = (ran(work(agenda("sound", "known"))) for _ in range(2))
    assert first == again
    other = Agenda(seed=6, targets=("sound", "known"), harnesses={"toys": ToyHarness()}, known={})
    assert ran(work(other)) != first


@pytest.mark.parametrize(
    ("target", "cases", "why"),
    [("sound", 6, "complete"), ("absent", 1, "unavailable"), ("dying", BROKEN, "broken")],
)
def test_how_a_cell_is_closed(target, cases, why):
    records = work(agenda(target))
    assert len(ran(records)) == cases
    assert [each.why for each in records if isinstance(each, Closed)] == [why]


def test_cases_of_each_cell_can_be_limited():
    records = work(agenda("sound", most=2))
    assert len(ran(records)) == 2
    assert [each.why for each in records if isinstance(each, Closed)] == ["enough"]


def test_what_would_take_longer_than_there_is_time_is_not_begun_and_said():
    harnesses = [ToyHarness("toys", cases=9), ToyHarness("slow", cases=9)]
    there = agenda("sound", harnesses=harnesses)
    work(there, 4, lambda case: 10.0 if case.harness == "slow" else 1.0)
    later = [there.next(left_s=5.0) for _ in range(3)]
    assert {each.case.harness for each in later} == {"toys"}
    assert set(there.unfinished) == {("sound", "toys"), ("sound", "slow")}, "both have cases left"


def test_of_a_cell_that_had_no_case_nothing_is_known_and_it_is_begun():
    assert agenda("sound").next(left_s=0.1) is not None


def test_when_no_time_is_left_nothing_is_begun():
    there = agenda("buggy")
    assert there.next(left_s=0.0) is None
    assert there.unfinished == (("buggy", "toys"),)


class Bad(ToyHarness):
    def plan(self, target, seed):
        yield next(super().plan(target, seed))
        raise OSError("no strace")


class Astray(ToyHarness):
    def plan(self, target, seed):
        yield from super().plan("another", seed)


@pytest.mark.parametrize(
    ("harness", "text"), [(Bad("bad"), "no strace"), (Astray("bad"), "of another")]
)
def test_a_plan_that_fails_breaks_its_own_cell_and_no_other(harness, text):
    records = work(agenda("sound", harnesses=[harness, ToyHarness()]))
    closed = {each.harness: each for each in records if isinstance(each, Closed)}
    assert (closed["bad"].why, closed["toys"].why) == ("broken", "complete")
    assert text in closed["bad"].reason
    assert sum(each.harness == "toys" for each in ran(records)) == 6


# -- findings -------------------------------------------------------------------------------------


def test_a_finding_is_shrunk_once_in_each_cell():
    records = work(agenda("buggy", "sound"))
    (smallest,) = [each for each in records if isinstance(each, Smallest)]
    assert set(smallest.case.settings["faults"]) == BUG
    assert (smallest.fails, smallest.runs, smallest.finding) == (2, 2, "lost")
    found = [e for e in records if isinstance(e, Ran) and e.outcome.verdict == "found" and not e.of]
    assert len(found) > 1 and smallest.of == found[0].outcome.case.key


def test_every_cell_has_a_case_before_anything_is_shrunk():
    names = ("buggy", "sound", "known", "absent")
    records = work(agenda(*names))
    first = [each for each in records if isinstance(each, Ran)][: len(names)]
    assert {each.outcome.case.target for each in first} == {*names}
    assert not any(each.of for each in first)


def test_shrinking_and_the_cells_have_their_turns():
    records = work(agenda("buggy", "sound", harnesses=[ToyHarness(cases=40)]), 50)
    turns = [bool(each.of) for each in records if isinstance(each, Ran)]
    begun = turns.index(True)
    shrinking = turns[begun : begun + 2 * sum(turns) - 1]
    assert sum(turns) >= 10 and "".join("ps"[each] for each in shrinking).count("ss") <= 1


def test_a_finding_late_in_a_campaign_has_no_claim_on_the_time_before():
    class Late(ToyHarness):
        def plan(self, target, seed):
            for case in super().plan(target, seed):
                faults = [1, 3] if case.seed < seed + 30 else case.settings["faults"]
                yield msgspec.structs.replace(case, settings={"faults": faults})

    records = work(agenda("buggy", "sound", harnesses=[Late(cases=60)]), 90)
    turns = "".join("ps"[bool(each.of)] for each in records if isinstance(each, Ran))
    assert turns.index("s") >= 60 and "sss" not in turns


def test_what_the_target_is_known_for_is_not_shrunk():
    records = work(agenda("known"))
    assert not ran(records, planned=False)
    assert not [each for each in records if isinstance(each, Smallest)]


def test_the_control_of_it_the_same_finding_unknown():
    there = agenda("known")
    there.known = {}
    case = Case(harness="toys", target="known", settings={"faults": [3, 7]})
    outcome = replace(outcome_of(case, HERE), verdict="found")
    assert there.findings(outcome) == ["lost"]
    there.known = KNOWN
    assert there.findings(outcome) == []


def test_shrinking_can_be_turned_off():
    assert not ran(work(agenda("buggy", tries=0)), planned=False)


@pytest.mark.parametrize("point", range(0, 60, 3))
def test_killed_at_any_point_it_goes_on_and_runs_nothing_twice(point):
    whole = work(agenda("buggy", "sound", "known"))
    before = whole[:point]
    later = agenda("buggy", "sound", "known")
    later.remember(before)
    after = work(later)
    both = [*before, *after]
    counts = Counter(e.outcome.case.key for e in both if isinstance(e, Ran) and not e.again)
    assert set(counts.values()) == {1}
    # the same work is done, whatever the order; one shrinking more may begin with another case
    planned = {each.key for each in ran(both)}
    assert planned | {c.key for c in ran(both, planned=False)} >= {c.key for c in ran(whole)}
    smallest = [each for each in both if isinstance(each, Smallest)]
    assert len(smallest) == 1 and set(smallest[0].case.settings["faults"]) == BUG


@pytest.mark.parametrize("target", ["absent", "dying"])
def test_what_gave_no_verdict_is_tried_again_by_the_next_start(target):
    before = work(agenda(target))
    later = agenda(target)
    later.remember(before)
    assert ran(work(later)) == ran(before)


def test_jobs_that_end_in_any_order_come_to_the_same():
    random = Random(1)
    there, flying, records = agenda("buggy", "known", "sound"), [], []
    while True:
        while len(flying) < 4 and (job := there.next()) is not None:
            flying.append(job)
        if not flying:
            break
        job = flying.pop(random.randrange(len(flying)))
        there.settle(job, outcome_of(job.case, HERE))
    records = there.records
    (smallest,) = [each for each in records if isinstance(each, Smallest)]
    assert set(smallest.case.settings["faults"]) == BUG


def test_a_case_file_is_named_after_its_cell_and_finding():
    case = Case(harness="kill", target="refmta:qmail/../x")
    assert file_of(case, "half_lost") == "refmta_qmail_.._x-kill-half_lost.json"
