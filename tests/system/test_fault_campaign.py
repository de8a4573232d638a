"""Campaigns in earnest: processes, and kills of the campaign and of cases.

Toy harnesses do at once what real ones do seldom (`toy_harness`); one storm is real.

A sample of two minutes; with REFMTA_FAULTS=all in the environment everything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from unit.faultinject.toy_commands import (
    ALL,
    LIMIT_S,
    PATIENCE_S,
    await_,
    cases_of,
    everything,
    lines,
    planned,
    registered,
    run,
    start,
    words_of,
)  # fmt: skip
from unit.faultinject.toy_harness import BUG, leaks

from faultinject import cases
from faultinject.campaign import command, job, keeper
from faultinject.campaign.records import Closed, Ended, Ran, Smallest
from faultinject.campaign.results import read
from faultinject.cases import Case, Outcome

pytestmark = pytest.mark.timeout(LIMIT_S)
#: How a campaign is ended in the middle.
SIGNALS = (signal.SIGKILL, signal.SIGINT, *([signal.SIGTERM] if ALL else []))


@pytest.fixture
def toys(tmp_path_factory, monkeypatch) -> dict[str, str]:
    """The environment in which the toys are registered; of this process, too."""
    return registered(tmp_path_factory, monkeypatch)


def case(target: str, harness: str = "toys") -> Case:
    return Case(harness=harness, target=target, settings={"faults": [1, 3, 7]})


def sleeping() -> list[int]:
    """Processes that our toys have leaked."""
    return [
        int(each.name)
        for each in Path("/proc").iterdir()
        if each.name.isdigit() and leaks()[0] in words_of(each / "cmdline")
    ]


def left() -> list[str]:
    """Those, and mounts."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    return [*map(str, sleeping()), *(e for e in mounts if e.startswith(f"{leaks()[1]} "))]


# -- one case, apart ------------------------------------------------------------------------------


def outcome_of(case: Case) -> Outcome:
    with job.Job(case) as running:
        return running.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("target", "verdict", "reason"),
    [
        ("sound", "held", ""),
        ("buggy", "found", ""),
        ("absent", "unavailable", "it is not installed"),
        ("raising", "broken", "the harness failed: RuntimeError: out of order"),
        ("dying", "broken", "ended with signal 9"),
    ],
)
def test_a_case_has_an_outcome_whatever_happens(target, verdict, reason, toys):
    with job.Job(case(target)) as running:
        outcome = running.wait(PATIENCE_S)
    assert outcome.verdict == verdict and reason in outcome.reason
    assert outcome.case == case(target) and outcome.seconds > 0
    assert not running.place.exists()


def test_a_harness_that_is_not_here_is_named(toys):
    reason = outcome_of(case("sound", "nonesuch")).reason
    assert reason.startswith("no such harness here (but ") and "more-toys" in reason


def test_a_case_that_hangs_ends_in_time_although_it_ignores_being_asked(toys, monkeypatch):
    monkeypatch.setattr(job, "GRACE_S", 0.5)
    with job.Job(case("hanging")) as running:
        await_((running.place / "said").read_bytes, "it does not begin to hang")
        outcome = running.wait(1)
    assert outcome.verdict == "broken" and "did not end within 1 s" in outcome.reason
    assert outcome.evidence["what it said"] == "it hangs\n"


@pytest.mark.needs("root")
def test_what_a_case_leaves_behind_is_gone_with_it(toys):
    assert job.apart()
    assert outcome_of(case("leaking")).verdict == "held"
    assert left() == []


@pytest.mark.needs("root")
def test_the_control_of_it_without_namespaces_it_stays(toys, monkeypatch):
    monkeypatch.setattr(job, "apart", lambda: ("unshare", "--mount", "--fork", "--kill-child"))
    try:
        outcome_of(case("leaking"))
        assert len(left()) == 1
    finally:
        for each in sleeping():
            os.kill(each, signal.SIGKILL)


@pytest.mark.needs("root")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_campaign_that_is_ended_leaves_nothing_that_the_next_start_does_not_remove(
    number, toys, tmp_path
):
    """Its case has a process of another session and a mount, and doesn't end when it is asked."""
    arguments = ("campaign", "--targets", "clinging", "--harnesses", "toys", "--jobs", "1",
                 "--results", "r")  # fmt: skip
    with start(*arguments, place=tmp_path) as process, outcome_of_another() as others:
        (place,) = await_(lambda: cases_of(process.pid), "no case began")
        await_(left, "it did not leak")
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
        await_(lambda: left() == [], f"its processes live longer than {job.GRACE_S} s")
        code, _, err = run("campaign", "--targets", "sound", "--harnesses", "toys", "--cases", "1",
                           "--results", "q", place=tmp_path)  # fmt: skip
        assert code == 0, err
        assert not place.exists()
        assert others.exists(), "it is somebody else's, who is at work"


@contextmanager
def outcome_of_another() -> Iterator[Path]:
    """A case of another process that goes on, and its directory."""
    with job.Job(case("hanging")) as running:
        yield running.place


def test_the_keeper_reaps_and_hands_the_exit_code_on(toys, tmp_path):
    (tmp_path / "case.json").write_text("no case")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", keeper.__name__, "1", str(tmp_path)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.wait(PATIENCE_S) == 1  # fmt: skip


# -- a campaign -----------------------------------------------------------------------------------


def test_a_campaign_finds_shrinks_and_replays(toys, tmp_path):
    arguments = ("campaign", "--targets", "sound,buggy,known,absent", "--harnesses", "toys",
                 "--seed", "5", "--cases", "2", "--results", "r")  # fmt: skip
    code, out, err = run(*arguments, "--json", "summary.json", place=tmp_path)
    assert code == 1, err
    assert "found: lost" in out and "seed 5" in err
    cells = {e["target"]: e for e in json.loads((tmp_path / "summary.json").read_text())["cells"]}
    assert [cells[each]["state"] for each in ("sound", "buggy", "known", "absent")] == [
        "held", "found", "known", "unavailable",
    ]  # fmt: skip
    (smallest,) = [each for each in read(tmp_path / "r") if isinstance(each, Smallest)]
    assert set(smallest.case.settings["faults"]) == BUG
    assert (smallest.fails, smallest.runs) == (2, 2)
    file = tmp_path / "r" / "cases" / smallest.file
    code, out, err = run("replay", str(file), "--evidence", "e", place=tmp_path)
    assert code == 1 and "finding: lost: message" in out
    assert (tmp_path / "e" / "operations").read_text() == "3\n7"
    html = (tmp_path / "r" / "report.html").read_text()
    assert "Mail servers under fault injection" in html
    before = (tmp_path / "r" / "results.jsonl").read_bytes()
    code, out, _ = run(*arguments, place=tmp_path)  # nothing is left but what may be there now
    assert code == 1
    again = [e for e in read(tmp_path / "r")[before.count(b"\n") :] if isinstance(e, Ran)]
    assert again and {each.outcome.verdict for each in again} == {"unavailable"}
    html = (tmp_path / "r" / "report.html").read_text()
    code, out, _ = run(
        "report", "r", "--output", "again.html", "--picture", "matrix.png", place=tmp_path
    )  # fmt: skip
    assert code == 0 and (tmp_path / "again.html").read_text() == html
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_campaign_that_ends_in_the_middle_goes_on(number, toys, tmp_path):
    results = tmp_path / "r"
    arguments = ("campaign", "--targets", "sound,known", "--harnesses", "slow-toys", "--cases", "3",
                 "--seed", "7", "--results", "r", "--jobs", "2")  # fmt: skip
    with start(*arguments, place=tmp_path) as process:
        await_(lambda: lines(results) >= 2, "nothing was written")
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    if number == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
        assert (results / "report.html").exists()
        (ended,) = [each for each in read(results) if isinstance(each, Ended)]
        assert ended.why == "interrupted" and "cut off after" in err
        assert {each.case.harness for each in ended.cut} == {"slow-toys"}
    before = planned(results)
    assert 0 < len(before) < 6
    code, _, err = run(*arguments[:-2], place=tmp_path)
    assert code == 0, err
    assert len(planned(results)) == 6 and set(planned(results).values()) == {1}
    assert [e.at_s for e in read(results)[1:]] == sorted(e.at_s for e in read(results)[1:])


def test_the_budget_ends_it_and_a_larger_one_goes_on(toys, tmp_path):
    arguments = ("campaign", "--targets", "sound", "--harnesses", "slow-toys", "--cases", "5",
                 "--jobs", "1", "--results", "r")  # fmt: skip
    code, _, err = run(*arguments, "--budget", "2", place=tmp_path)
    assert code in (0, 3) and "the budget is spent" in err, "whether any case ended is chance"
    assert "1 of 1 cells have cases left" in err
    some = len(planned(tmp_path / "r"))
    assert some < 5
    code, _, err = run(*arguments, "--budget", "2", place=tmp_path)  # it is spent already
    assert len(planned(tmp_path / "r")) == some and "the budget is spent" in err
    code, _, err = run(*arguments, "--budget", "5m", place=tmp_path)
    assert code == 0 and "; seed" in err and len(planned(tmp_path / "r")) == 5


def test_a_case_that_overruns_the_budget_is_not_dropped_silently(toys, tmp_path):
    """Nor is it a verdict; the page says it, too."""
    code, out, err = run(
        "campaign", "--targets", "hanging", "--harnesses", "toys", "--budget", "3",
        "--results", "r", "--json", "s.json", place=tmp_path,
    )  # fmt: skip
    assert code == 3 and "not run" in out
    assert "cut off after" in err and "without a case that ended: hanging, toys" in err
    (cell,) = json.loads((tmp_path / "s.json").read_text())["cells"]
    assert cell["state"] == "not run" and cell["planned"] == 6 and cell["cut_off"]
    assert cases.decode(cell["cut_off"][0].encode(), "s").target == "hanging"
    assert "cut off after" in (tmp_path / "r" / "report.html").read_text()


def test_a_target_whose_cases_break_is_given_up_and_gives_no_verdict(toys, tmp_path):
    code, _, err = run(
        "campaign", "--targets", "sound,dying", "--harnesses", "toys", "--results", "r",
        place=tmp_path,
    )  # fmt: skip
    assert code == 3 and "dying, toys: broken" in err
    closed = {e.target: e.why for e in read(tmp_path / "r") if isinstance(e, Closed)}
    assert closed == {"sound": "complete", "dying": "broken"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("campaign", "--targets", "nonesuch"), 2, "no such target: nonesuch (there are: "),
        (("campaign", "--targets", ","), 2, "no targets"),
        (("campaign", "--targets", "sound", "--harnesses", "x"), 2, "no such harness: x (there"),
        (("campaign", "--targets", "sound", "--budget", "soon"), 2, "'soon' is no duration"),
        (("campaign", "--targets", "sound", "--budget", "0"), 2, "not between a second and"),
        (("campaign", "--targets", "sound", "--engine", "slurm"), 2, "neither local nor dask://"),
        (("campaign", "--targets", "sound", "--results", "f"), 2, "f: "),
        (("campaign", "--targets", "sound", "--results", "."), 2, "not empty"),
        (("replay", "none.json"), 2, "none.json: No such file"),
        (("replay", "f"), 2, "f: "),
        (("replay", "other.json"), 2, "of version 99, not 1"),
        (("replay", "strange.json"), 2, "no such harness: strange"),
        (("replay", "nowhere.json"), 2, "no such target: nowhere"),
        (("replay", "none"), 2, "none: No such file"),
        (("campaign", "--targets", "sound", "--json", "no/s.json"), 2, "no/s.json: No such"),
        (("campaign", "--targets", "sound", "--results", "old"), 2, "of version 99, not 1"),
        (("campaign", "--targets", "sound", "--seed", "-1"), 2, "-1 is not in the range"),
        (("report", "old"), 2, "of version 99, not 1"),
        (("report", "."), 2, "results.jsonl: No such file"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, code, said, toys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("{")
    (tmp_path / "other.json").write_text('{"version": 99}')
    strange = {"version": 1, "harness": "strange", "target": "sound"}
    (tmp_path / "strange.json").write_text(json.dumps(strange))
    nowhere = {"version": 1, "harness": "toys", "target": "nowhere"}
    (tmp_path / "nowhere.json").write_text(json.dumps(nowhere))
    (tmp_path / "old").mkdir()
    old = {"type": "campaign", "seed": 1, "targets": [], "harnesses": [], "version": 99}
    (tmp_path / "old" / "results.jsonl").write_text(json.dumps(old, separators=(",", ":")) + "\n")
    there = {each: each.read_bytes() if each.is_file() else b"" for each in tmp_path.rglob("*")}
    named = {"campaign": command.campaign, "replay": command.replay, "report": command.report}
    done = CliRunner().invoke(named[arguments[0]], arguments[1:])
    assert isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code == code and said in done.output.splitlines()[-1], done.output
    assert all(each.read_bytes() == octets for each, octets in there.items() if each.is_file())
    new = {each for each in tmp_path.rglob("*") if each.name != "lock"} - {*there}
    assert new <= {tmp_path / "refmta-campaign"}


@everything
def test_a_real_server_is_stormed_in_namespaces_of_its_own(toys, tmp_path):
    code, out, err = run(
        "campaign", "--targets", "refmta", "--harnesses", "storm", "--cases", "1", "--seed", "5",
        "--results", "r", place=tmp_path,
    )  # fmt: skip
    (ran,) = [each for each in read(tmp_path / "r") if isinstance(each, Ran)]
    assert (code, ran.outcome.verdict) == (0, "held"), (err, ran.outcome)
    assert ran.outcome.counts["messages"] == 60 and ran.outcome.counts["kills"] > 0
    assert "held" in out


def test_results_of_another_campaign_are_not_continued(toys, tmp_path):
    first = ("campaign", "--targets", "sound", "--harnesses", "toys", "--cases", "1",
             "--results", "r")  # fmt: skip
    assert run(*first, "--seed", "1", place=tmp_path)[0] == 0
    before = (tmp_path / "r" / "results.jsonl").read_bytes()
    for more, said in (
        (("--seed", "2"), "are of seed 1"),
        (("--targets", "buggy"), "are of targets sound"),
        (("--harnesses", "more-toys"), "are of harnesses toys"),
    ):
        code, _, err = run(*first, *more, place=tmp_path)
        assert code == 2 and said in err and len(err.splitlines()) == 1
    assert (tmp_path / "r" / "results.jsonl").read_bytes() == before
