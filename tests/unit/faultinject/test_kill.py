"""Kills at system calls, against a mail server of sixty lines: what is found, by name, and what
not; the record that a run goes on from; the command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import msgspec
import pytest
import trio
from click.testing import CliRunner
from unit.faultinject.toy_target import Toy

from faultinject import cases, networks, target
from faultinject.cases import Case
from faultinject.kill import calls, command, harness
from faultinject.kill.command import kill
from faultinject.kill.grip import GripError, Seen, gripping
from faultinject.kill.plan import Plan, Turns, lanes
from faultinject.kill.points import FAULTS, Other, Point, Record, ResumeError, Trial
from faultinject.kill.quiet import rests, until_quiet
from faultinject.kill.siege import Result, Siege
from faultinject.ledger import Finding
from faultinject.processes import Process, look

ONE = Plan(scripts=("one",), jobs=1)
#: Until all has been tried; some tests have two sieges.
SIEGE_S = 280
pytestmark = pytest.mark.timeout(3 * SIEGE_S)
as_root = pytest.mark.needs("root", "strace")  # who has strace may trace


def besiege(how, place, plan=ONE, record=None):
    """Letters wait until the toy is followed, also one that was just started anew."""

    def make():
        return Toy(how, followed=True)

    with_time = Siege(make, plan, place, record or Record(None), lambda _: None)

    async def run():
        with trio.fail_after(SIEGE_S):
            return await with_time.run()

    return trio.run(run)


# -- what is found --------------------------------------------------------------------------------


@as_root
def test_a_sound_server_survives_at_every_call(tmp_path):
    result = besiege("sound", tmp_path)
    assert result.all_findings() == [] and result.missed == []
    hit = {(trial.struck, trial.call) for trial in result.trials.values()}
    assert {("toy", "openat"), ("toy", "write"), ("toy", "rename"), ("toy", "sendto")} <= hit
    assert result.hit == len(result.trials) == result.restarts
    assert result.hit >= len(result.calls["one"])


@as_root
@pytest.mark.parametrize(
    ("how", "script", "names"),
    [("forgetful", "one", "lost"), ("garbling", "one", "altered"),
     ("doubling", "one", "duplicate"), ("sound", "three", "half_lost duplicate")],
)  # fmt: skip
def test_each_way_to_be_wrong_is_found_by_its_name(how, script, names, tmp_path):
    """It delivers to one recipient after the other, and twice to one that is named twice."""
    result = besiege(how, tmp_path, Plan(scripts=(script,), jobs=1))
    assert {finding.name for finding in result.all_findings()} == set(names.split())


@as_root
def test_a_finding_tells_before_which_call(tmp_path):
    result = besiege("sound", tmp_path, Plan(scripts=("three",), jobs=1))
    torn = [f.text for f in result.all_findings() if f.name == "half_lost"]
    assert torn and all("before toy's" in text and "kill toy at call" in text for text in torn)


@as_root
def test_the_whole_tree_and_a_stop(tmp_path):
    plan = Plan(scripts=("one",), faults=("tree", "stop"), jobs=1, numbers=(2, 7))
    result = besiege("sound", tmp_path, plan)
    assert result.all_findings() == [] and result.missed == []
    faults = [point.fault for point in result.trials]
    assert faults.count("tree") == faults.count("stop") == result.restarts == 6


@as_root
def test_who_starts_anew_is_killed_again(tmp_path):
    result = besiege("sound", tmp_path, Plan(scripts=("one",), faults=("twice",), jobs=1))
    assert result.all_findings() == [] and result.missed == []
    assert result.hit > 5 and result.restarts > result.hit


@as_root
def test_a_script_beyond_the_server_is_left_out_and_said(tmp_path):
    result = besiege("sound", tmp_path, Plan(scripts=("one", "bounced"), jobs=1, numbers=(1, 1)))
    assert result.left_out == ("bounced",) and {p.script for p in result.trials} == {"one"}


# -- the grip -------------------------------------------------------------------------------------

#: Writes three times, when told to; then waits.
WRITER = "import os, sys\nfor _ in range(3): os.read(0, 1); os.write(1, b'x')\nos.read(0, 1)"
FORKS = "import os\nif os.fork() == 0: os.write(1, b'x'); os._exit(0)\nos.wait(); os.read(0, 1)"


async def gripped(program, kinds, number, fault="kill", feed=b"xxx", hits=True):
    """(hit, calls, what it wrote, exit status).  hits: whether to wait for the fault."""
    running = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    it = Process(running.pid, "it")
    with trio.fail_after(200):
        async with gripping(lambda: [it]) as grip:
            await until_quiet(lambda: [it], 50)
            await grip.seize()
            await grip.arm(kinds, number, fault)
            running.stdin.write(feed)
            running.stdin.flush()
            if hits:
                await grip.struck.wait()
            if fault == "stop":
                await grip.go_on(running.pid)
            await until_quiet(lambda: [it], 50)
            seen = await grip.disarm()
            hit = grip.hit
    wrote = running.stdout.read()
    return hit, [each.call for each in seen], wrote, running.wait()


@as_root
async def test_the_call_before_which_it_dies_is_not_made():
    hit, seen, wrote, status = await gripped(WRITER, ["it"], 2)
    assert (hit.kind, hit.call, wrote, status) == ("it", "write", b"x", -signal.SIGKILL)
    assert seen == ["write", "write"]


@as_root
async def test_counting_strikes_nobody_and_the_end_of_the_grip_kills():
    hit, seen, wrote, status = await gripped(WRITER, None, 0, hits=False)
    assert hit is None and seen == ["write"] * 3 and wrote == b"xxx"
    assert status == -signal.SIGKILL  # it waited when the tracer ended


@as_root
async def test_calls_of_other_kinds_do_not_count():
    hit, seen, wrote, _ = await gripped(WRITER, ["another"], 1, hits=False)
    assert hit is None and seen == [] and wrote == b"xxx"


@as_root
async def test_a_stop_comes_behind_the_call_and_ends():
    hit, _, wrote, _ = await gripped(WRITER, ["it"], 1, "stop")
    assert hit.call == "write" and wrote == b"xxx"


@as_root
async def test_a_child_waits_until_its_name_is_told():
    program = f"import os\nos.read(0, 1)\n{FORKS}"
    hit, _, wrote, _ = await gripped(program, None, 1, feed=b"x")
    assert hit.kind.startswith("other python") and wrote == b""


@as_root
async def test_a_harness_that_is_killed_leaves_no_server_behind():
    program = (
        "import subprocess, sys, trio\n"
        "from faultinject.kill.grip import gripping\n"
        "from faultinject.processes import Process\n"
        "it = subprocess.Popen(['sleep', '100'])\n"
        "async def main():\n"
        "    async with gripping(lambda: [Process(it.pid, 'it')]) as grip:\n"
        "        await grip.seize()\n"
        "        print(it.pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    pid = int(running.stdout.readline())
    assert look(pid) is not None
    running.kill()
    running.wait()
    with trio.fail_after(60):
        while look(pid) is not None:
            await trio.sleep(0.01)


async def test_who_has_gone_is_not_seized():
    async with gripping(lambda: [Process(2**22 - 1, "nobody")]) as grip:
        await grip.seize()


@as_root
async def test_who_is_traced_already_is_refused():
    it = subprocess.Popen(["sleep", "100"])
    process = Process(it.pid, "it")
    async with gripping(lambda: [process]) as first, gripping(lambda: [process]) as second:
        await first.seize()
        with pytest.raises(GripError, match="may not be traced"):
            await second.seize()
    it.wait()


@pytest.mark.needs("root")
def test_calls_are_made_in_the_network_of_the_run_and_not_of_a_kept_thread():
    """trio keeps the threads that it lends, and these keep the network that they were born in."""

    async def seen():
        return await networks.in_thread(lambda: os.readlink(networks.HERE))

    before = os.readlink(networks.HERE)
    with networks.own():
        inside = os.readlink(networks.HERE)
        assert trio.run(seen) == inside != before
    assert trio.run(seen) == before


# -- calls, points and the record -----------------------------------------------------------------


def test_opening_matters_only_where_it_may_change_a_file():
    assert calls.that_matters(257, [0, 0, os.O_CREAT | os.O_WRONLY, 0, 0, 0]) == ("openat", "at")
    assert calls.that_matters(257, [0, 0, os.O_RDONLY, 0, 0, 0]) == ("", "")
    assert calls.that_matters(2, [0, os.O_TRUNC, 0, 0, 0, 0]) == ("open", "path")
    assert calls.that_matters(0, [0] * 6) == ("", "")  # read
    assert calls.that_matters(74, [0] * 6) == ("fsync", "fd")


def test_whoever_was_awake_does_not_rest():
    assert rests(((1, "S", 5),), ((1, "S", 5),))
    assert not rests(((1, "S", 5),), ((1, "S", 6),))
    assert not rests(((1, "R", 5),), ((1, "R", 5),))
    assert not rests(((1, "t", 5),), ((1, "t", 5),))  # held by the tracer
    assert not rests(((1, "S", 5),), ((1, "S", 5), (2, "S", 1)))


def seen(*kinds):
    return tuple(Seen(kind, "write", "") for kind in kinds)


def test_the_work_is_every_call_of_every_kind():
    found = list(lanes(Plan(faults=("kill", "tree")), {"one": seen(*"aab"), "both": seen("c")}))
    points = [(p.fault, p.script, p.kind, p.number) for lane in found for p in lane.points]
    assert points == [
        ("kill", "one", "a", 1), ("kill", "one", "a", 2), ("kill", "one", "b", 1),
        ("kill", "both", "c", 1), ("tree", "one", "", 1), ("tree", "one", "", 2),
        ("tree", "one", "", 3), ("tree", "both", "", 1),
    ]  # fmt: skip
    assert all(lane.on for lane in found)


def test_who_dies_twice_is_anybody_that_runs():
    found = list(lanes(Plan(faults=("twice",)), {"one": seen("a")}, {"a", "spawner"}))
    assert [(lane.kind, len(lane.points), lane.on) for lane in found] == [
        ("a", 1, True), ("spawner", 1, True),
    ]  # fmt: skip


def test_a_lane_goes_on_until_it_exceeds_the_run():
    (lane,) = lanes(Plan(), {"one": seen("a")})
    assert [lane.take() for _ in range(2)] == [
        (Point(script="one", fault="kill", kind="a", number=1), False),
        (Point(script="one", fault="kill", kind="a", number=2), True),
    ]
    lane.over = 2
    assert not lane.open
    (lane,) = lanes(Plan(faults=("twice",), every=3), {"one": seen("a")}, {"a"})
    assert [lane.take()[0].number for _ in range(3)] == [1, 4, 7] and lane.open


def test_a_lane_goes_on_where_an_earlier_run_has_ended():
    def tried(fault, *numbers, kind="a"):
        return [Point(script="one", fault=fault, kind=kind, number=number) for number in numbers]

    (lane,) = lanes(Plan(), {"one": seen(*"aaa")})
    lane.leave_out(tried("kill", 1, 2) + tried("kill", 9, kind="b"))
    assert [point.number for point in lane.points] == [3] and lane.on
    lane.leave_out(tried("kill", 1, 2, 3))
    assert not lane.open
    (lane,) = lanes(Plan(faults=("twice",)), {"one": seen("a")}, {"a"})
    lane.leave_out(tried("twice", 1, 2, 3) + tried("kill", 9))
    assert lane.take()[0].number == 4


def test_some_of_the_work():
    (lane,) = lanes(Plan(kinds=("a",), numbers=(2, 3)), {"one": seen(*"aaaab")})
    assert [point.number for point in lane.points] == [2, 3] and not lane.on
    (lane,) = lanes(Plan(faults=("tree",), every=3), {"one": seen(*"aaaab")})
    assert [point.number for point in lane.points] == [1, 4]


def test_who_took_long_is_left_alone_for_a_while():
    slow, quick = lanes(Plan(), {"one": seen(*"aab")})
    turns = Turns()
    assert turns.choose([slow, quick], "", 0.0) is slow  # it has more to do
    turns.note("a", 3.0, 0.0)
    assert turns.choose([slow, quick], "", 1.0) is quick
    turns.note("b", 0.2, 1.0)
    assert turns.choose([slow, quick], "", 2.0) is quick
    assert turns.choose([slow, quick], "b", 2.0) is quick  # absent, but still cheaper
    assert turns.choose([slow, quick], "", 60.0) is slow
    assert turns.choose([slow, quick], "a", 60.0) is quick
    assert not turns.tired(slow, 1.0)
    turns.note("a", 9.0, 60.0)
    assert turns.tired(slow, 61.0) and not turns.tired(quick, 61.0)
    assert not turns.tired(slow, 99.0)


def a_trial(number, **changes):
    point = Point(script="one", fault="kill", kind="a", number=number)
    return Trial(point=point, hit=True, **changes)


def test_the_record_is_read_again(tmp_path):
    path = tmp_path / "record"
    record = Record(path)
    record.open("toy")
    record.add([a_trial(1), a_trial(2)])
    record.add([a_trial(2, findings=(("lost", "x"),))])
    record.add_others([Other(name="stranger", text="y")])
    record.close()
    path.write_bytes(path.read_bytes() + b'{"point":{"scr')  # killed while it wrote
    again = Record(path)
    again.open("toy")
    assert again.done == record.done and len(again.done) == 2
    assert again.others == record.others and len(again.others) == 1
    assert again.done[a_trial(2).point].findings == (("lost", "x"),)
    again.add([a_trial(3)])
    again.close()
    third = Record(path)
    third.open("toy")
    assert len(third.done) == 3


@pytest.mark.parametrize(
    ("octets", "says"),
    [(b'{"target":"another","version":1}\n', "against another"),
     (b'{"target":"toy","version":9}\n', "of version 9"), (b"hello\n", "record: "),
     (b'{"target":"toy","version":1}\n7\n', "record: "),
     (b'{"target":"toy","version":1}\n{"point":7}\n', "record: ")],
)  # fmt: skip
def test_a_record_of_something_else_is_refused(octets, says, tmp_path):
    (tmp_path / "record").write_bytes(octets)
    with pytest.raises(ResumeError, match=says):
        Record(tmp_path / "record").open("toy")


@as_root
def test_what_was_done_is_not_done_again(tmp_path):
    path = tmp_path / "record"
    record = Record(path)
    record.open("toy")
    (tmp_path / "a").mkdir()
    first = besiege("sound", tmp_path / "a", Plan(scripts=("one",), jobs=1, numbers=(1, 3)), record)
    assert first.tried == 3
    record.close()
    again = Record(path)
    again.open("toy")
    (tmp_path / "b").mkdir()
    again.add_others([Other(name="stranger", text="found by the first")])
    second = besiege("sound", tmp_path / "b", Plan(scripts=("one",), jobs=1, numbers=(1, 4)), again)
    assert second.tried == 1 and len(second.trials) == 4
    assert [each.name for each in second.all_findings()] == ["stranger"]


# -- as a harness ---------------------------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch):
    """How the target "toy" is."""
    chosen = ["sound"]
    monkeypatch.setattr(target, "load", lambda _: Toy(chosen[0], followed=True))
    return chosen


def case(**settings):
    return Case(harness="kill", target="toy", settings=settings)


def test_the_plan_is_what_the_target_can_do(toy):
    found = [each.settings for each in harness.harness().plan("toy", 7)]
    assert found[:2] == [{"script": "one", "fault": "kill"}, {"script": "three", "fault": "kill"}]
    assert len(found) == 2 * len(FAULTS)


@as_root
def test_a_case_that_holds_and_one_that_finds(toy, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    held = harness.harness().run(case(script="one", numbers=[2, 3]), tmp_path / "a")
    assert held.verdict == "held" and held.counts["hit"] == 2, held.reason
    toy[0] = "garbling"
    found = harness.harness().run(case(script="one", numbers=[2, 3]), tmp_path / "b")
    assert found.verdict == "found" and {each.name for each in found.findings} == {"altered"}
    assert "before toy's" in found.evidence["points.txt"]


WRONG = [
    {"colour": "red"}, {"script": "none"}, {"fault": "none"}, {"numbers": [3, 1]},
    {"numbers": "all"}, {"jobs": 0}, {"every": "x"},
]  # fmt: skip


@as_root
@pytest.mark.parametrize("settings", WRONG)
def test_wrong_settings_are_no_verdict(toy, settings, tmp_path):
    outcome = harness.harness().run(case(**settings), tmp_path)
    assert outcome.verdict == "broken" and outcome.reason


def test_a_script_beyond_the_target_is_unavailable(toy, tmp_path):
    outcome = harness.harness().run(case(script="both"), tmp_path)
    assert outcome.verdict == "unavailable"


def test_smaller_cases_lead_to_one_call(toy):
    smaller = harness.harness().smaller
    kinds = [each.settings["kind"] for each in smaller(case(script="one"))]
    assert kinds == ["toy", "toy worker", "toy template"]
    first, second = smaller(case(script="one", kind="toy", numbers=[1, 5]))
    assert [first.settings["numbers"], second.settings["numbers"]] == [[1, 3], [4, 5]]
    assert list(smaller(case(script="one", kind="toy", numbers=[4, 4]))) == []


# -- the command ----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(kill, ["--target", "toy", "--seed", "5", "--jobs", "1", *arguments])


@as_root
def test_the_command_tells_and_ends_with_0(toy, tmp_path):
    done = run("--script", "one", "--number", "3", "--json", str(tmp_path / "report"))
    assert done.exit_code == 0, done.output
    assert "1 points, 1 hit, 0 missed, 0 finding(s), seed 5" in done.stdout
    report = json.loads((tmp_path / "report").read_text())
    assert report["hit"] == 1 and report["trials"][0]["numbers"] == [3, 3]


@as_root
def test_a_finding_ends_with_1_and_its_case_is_run_again(toy, tmp_path):
    toy[0] = "garbling"
    done = run("--script", "one", "--number", "3", "--cases", str(tmp_path / "cases"))
    assert done.exit_code == 1 and "finding: altered" in done.stdout
    (file,) = (tmp_path / "cases").iterdir()
    assert cases.decode(file.read_bytes(), "it").settings["numbers"] == [3, 3]
    again = CliRunner().invoke(kill, ["--replay", str(file)])
    assert again.exit_code == 1 and "finding: altered" in again.stdout
    toy[0] = "sound"
    assert CliRunner().invoke(kill, ["--replay", str(file)]).exit_code == 0


@as_root
def test_a_known_failure_is_told_and_no_finding(toy, monkeypatch):
    toy[0] = "garbling"
    monkeypatch.setattr(Toy, "known_failures", {"kill/altered": "it is only a toy"})
    done = run("--script", "one", "--number", "3")
    assert done.exit_code == 0 and "it is only a toy" in done.stdout


@as_root
def test_a_kind_that_there_is_not(toy):
    done = run("--script", "one", "--kind", "nobody")
    assert done.exit_code == 2 and "no such process" in done.stderr


def test_a_finding_counts_also_where_no_point_was_hit(toy, monkeypatch):
    """Of the server without a fault, or of its end: nothing may hide it."""

    def found(make, plan, place, record, say):
        return Result(target="toy", plan=plan, findings=[Finding(name="stop", text="it hangs")])

    monkeypatch.setattr(command, "besiege", found)
    assert run("--script", "one").exit_code == 1
    monkeypatch.setattr(command, "besiege", lambda *_: Result(target="toy", plan=_[1]))
    done = run("--script", "one")
    assert done.exit_code == 2 and "no point was hit" in done.stderr


@as_root
def test_a_server_that_does_not_start_ends_with_3(toy):
    toy[0] = "no such way"
    assert run("--script", "one").exit_code == 3


def bad(tmp_path, octets):
    (tmp_path / "case").write_bytes(octets)
    return CliRunner().invoke(kill, ["--replay", str(tmp_path / "case")])


def test_bad_input_is_one_line_and_2(tmp_path, toy):
    other = msgspec.structs.replace(case(), harness="storm")
    assert "not of kill" in bad(tmp_path, cases.encode(other)).stderr
    old = msgspec.structs.replace(case(), version=99)
    for done in (
        bad(tmp_path, b"hello"), bad(tmp_path, cases.encode(other)),
        bad(tmp_path, cases.encode(old)), bad(tmp_path, cases.encode(case(colour="red"))),
        CliRunner().invoke(kill, ["--replay", str(tmp_path / "nonesuch")]),
        CliRunner().invoke(kill, []),
    ):  # fmt: skip
        assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output


@as_root
def test_a_record_of_another_target_is_2(toy, tmp_path):
    (tmp_path / "record").write_bytes(b'{"target":"another"}\n')
    done = run("--resume", str(tmp_path / "record"))
    assert done.exit_code == 2 and "another" in done.stderr


@as_root
@pytest.mark.parametrize("option", ["--resume", "--json", "--cases"])
def test_what_can_not_be_written_is_2_before_anything_is_run(option, toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(Toy, "start", None)
    done = run(option, str(tmp_path / "file" / "below"))
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
    assert "file" in done.stderr


def test_who_is_not_root_hears_it(toy, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = run()
    assert done.exit_code == 3 and "root" in done.stderr


@as_root
def test_a_server_that_dies_of_a_kill_is_started_again(tmp_path):
    result = besiege("sound", tmp_path, Plan(scripts=("one",), jobs=1, numbers=(1, 2)))
    assert result.restarts == 2 and result.all_findings() == []


@as_root
def test_a_server_that_dies_by_itself_is_a_finding(tmp_path):
    result = besiege("mortal", tmp_path, Plan(scripts=("one",), jobs=1, numbers=(1, 2)))
    assert "died" in {each.name for each in result.all_findings()}
