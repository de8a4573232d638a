"""States as trees, which states are tried, the comparison of plans, and what a command refuses."""

import contextlib
import itertools
import json
import os
import stat

import msgspec
import pytest
from click.testing import CliRunner

from faultinject import cases
from faultinject.books import Answer, Books, Sending
from faultinject.cases import Case
from faultinject.crash import command, crashes, harness, stores, trees, worker
from faultinject.crash import confirm as confirm_module
from faultinject.crash.command import crash
from faultinject.crash.confirm import confirm
from faultinject.crash.live import Shown
from faultinject.crash.recorder import Scene
from faultinject.crash.recording import Recording
from faultinject.crash.states import chosen, cuts, minimal, sampled
from faultinject.ledger import Finding
from faultinject.letters import Copy
from faultinject.tracing import Call
from specs.persistence import references
from specs.persistence import table as protocol_table
from specs.persistence.crash import crash_states
from specs.persistence.expected import read_expected
from specs.persistence.model_disk import ModelDisk, Snapshot
from specs.persistence.models import MODELS, P1_ATOMIC, P3_SPLIT
from specs.persistence.protocols import Op

# -- trees ----------------------------------------------------------------------------------------


def test_a_state_is_written_and_read_back(tmp_path):
    base = tmp_path / "base"
    (base / "q/sub").mkdir(parents=True)
    (base / "q/old").write_bytes(b"old")
    os.mkfifo(base / "q/fifo")
    (base / "log").write_bytes(b"kept")
    state = Snapshot(
        ("q/a", "q/b", "q/new/c"), (1, 1, 2), (b"x", b"x", b"yy"),
        frozenset({"", "q", "q/new", "q/sub"}), (0o700, 0o700, 0o600),
    )  # fmt: skip
    target = tmp_path / "state"
    trees.write(state, base, target, {"q/new/c": (os.getuid(), os.getgid())}, ("q",))
    assert trees.snapshot(target, ("q",)) == state
    assert (target / "log").read_bytes() == b"kept"
    assert stat.S_ISFIFO((target / "q/fifo").stat().st_mode)
    assert (base / "q/old").read_bytes() == b"old"


def test_a_directory_gives_its_group(tmp_path):
    (tmp_path / "q").mkdir()
    (tmp_path / "q").chmod(0o2770)
    (tmp_path / "r").mkdir()
    assert trees.groups(tmp_path) == {"q": os.getgid()}


# -- which states ---------------------------------------------------------------------------------


def recording(*operations):
    disk = ModelDisk.from_tree({}, ["q", "new"])
    initial = disk.snapshot()
    disk.execute([Op(kind=k, path=p, data=d, target=t) for k, p, d, t in operations])
    calls = [
        Call(pid=7, name=f"call{n}", arguments=(), result=0, begin=n, end=n)
        for n in range(len(disk.record))
    ]
    return Recording(initial=initial, operations=list(disk.record), calls=calls)


SAFE = (
    ("create", "q/a", b"", ""), ("write", "q/a", b"abcd", ""), ("sync", "q/a", b"", ""),
    ("sync_dir", "q", b"", ""), ("reply", "t/1", b"", ""), ("rename", "q/a", b"", "new/a"),
)  # fmt: skip
#: The directory is not synced before the reply.
UNSYNCED = SAFE[:3] + SAFE[4:]


def lost(made):
    """Promised states without the message."""
    return [
        each for each in minimal(made)
        if each.state.acknowledged and b"abcd" not in each.state.tree.values()
    ]  # fmt: skip


def test_the_instants_are_replies_and_the_end():
    assert cuts(recording(*SAFE)) == [5, 6]


def test_minimal_states_are_states_of_their_models():
    made = recording(*SAFE)
    allowed = {
        model: {s.snapshot for s in crash_states(made.initial, made.operations, model)}
        for model in MODELS if model.octets_lost
    }  # fmt: skip
    found = minimal(made)
    assert found
    assert all(each.state.snapshot in allowed[each.model] for each in found)
    assert found[0].state.acknowledged


def test_control_a_missing_sync_is_among_the_minimal_states():
    """Told with the operation that was lost, its system call and the line that made it."""
    parted = lost(recording(*SAFE))  # the rename
    assert {str(each.model) for each in parted} == {"P3 split"}
    assert not lost(recording(*SAFE[:5]))
    found = lost(recording(*UNSYNCED[:4]))
    assert {str(each.model) for each in found} == {"P3 atomic"}
    story = found[0].story(recording(*UNSYNCED), {0: "store.py:7"})
    assert story == [
        "crash after: reply t/1 [call3, pid 7] (P3 atomic)",
        "create q/a [call0, pid 7] by store.py:7: lost",
    ]
    unwritten = lost(recording(*SAFE[:2], *SAFE[3:5]))
    assert unwritten[0].model == P1_ATOMIC


def test_a_seed_makes_the_same_sample_again():
    made = recording(*UNSYNCED)
    first, again = (
        [each.state.snapshot for each in itertools.islice(sampled(made, 7), 30)] for _ in range(2)
    )
    assert first == again
    allowed = {
        s.snapshot for model in MODELS for s in crash_states(made.initial, made.operations, model)
    }
    whole = {each for each in first if set(each.contents) <= {b"", b"abcd", bytes(4)}}
    assert whole <= allowed


def test_what_is_tried():
    made = recording(*UNSYNCED)
    every = minimal(made)
    found, count = chosen(made, 1, 2, 3)
    assert count == len(every) > 2
    assert [each.minimal for each in found] == [True, True, False, False, False]
    keys = [(each.state.snapshot, each.state.acknowledged) for each in found]
    assert len(set(keys)) == len(keys)


# -- the plan -------------------------------------------------------------------------------------


class Planner:
    """A store that says that it does these steps."""

    def __init__(self, *steps):
        self.steps = steps

    def stores(self, architecture):
        return ()

    def planned(self, architecture, before, after):
        return [stores.Step(kind=k, path=p, data=d, target=t) for k, p, d, t in self.steps]


def scene(tmp_path, *operations):
    within = [(k, p if k == "reply" else f"spool/{p}", d, t) for k, p, d, t in operations]
    disk = ModelDisk.from_tree({}, ["spool/q", "spool/new"])
    initial = disk.snapshot()
    disk.execute([Op(kind=k, path=p, data=d, target=t) for k, p, d, t in within])
    calls = [Call(pid=7, name="c", arguments=(), result=0, begin=n, end=n) for n in range(99)]
    made = Recording(initial=initial, operations=list(disk.record), calls=calls[: len(disk.record)])
    copy = Copy("t", 1)
    sending = Sending(sender="a@b", recipients=("c@d",), digest=b"", answer=Answer.ACKNOWLEDGED)
    return Scene(name="one", base=tmp_path, recording=made, tops=("spool",), owners={},
                 books=Books(sendings={copy: sending}), spool="spool")  # fmt: skip


PLANNED = [("create", "q/a", b"", "600"), *SAFE[1:4], ("reply", "Q1", b"", "")]


def test_the_recording_is_the_plan(tmp_path):
    assert confirm(scene(tmp_path, *SAFE[:5]), Planner(*PLANNED), "").difference == ""


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([*PLANNED[:2], *PLANNED[3:]], "step 3 is planned as sync_dir q, and was sync q/a"),
        ([*PLANNED[:1], ("write", "q/a", b"abcX", ""), *PLANNED[2:]], "step 2 is planned"),
        ([*PLANNED[:-1], ("unlink", "q/a", b"", ""), PLANNED[-1]], "and was reply t/1"),
    ],
)
def test_control_another_plan_is_told_by_its_step(tmp_path, steps, says):
    found = confirm(scene(tmp_path, *SAFE[:5]), Planner(*steps), "").difference
    assert says in found


def test_how_octets_are_cut_into_writes_is_no_difference(tmp_path):
    apart = [SAFE[0], ("write", "q/a", b"ab", ""), ("write", "q/a", b"cd", ""), *SAFE[2:5]]
    assert confirm(scene(tmp_path, *apart), Planner(*PLANNED), "").difference == ""


# -- the harness, the command ---------------------------------------------------------------------


def test_the_cases_of_a_target(monkeypatch):
    monkeypatch.setattr(stores, "of", lambda _: None)
    assert [case.settings for case in harness().plan("x", 3)] == [
        {"part": "live", "scene": "one"}, {"part": "live", "scene": "two"},
    ]  # fmt: skip


def test_smaller_cases_are_of_the_same_target():
    case = Case(harness="crash", target="x", seed=4, settings={"part": "live", "scene": "two"})
    found = list(harness().smaller(case))
    assert found and all((each.target, each.seed) == ("x", 4) for each in found)
    assert all(each.settings["samples"] == 0 for each in found)


@pytest.mark.parametrize(
    "settings", [{"part": "none"}, {"scene": "three"}, {"most": -1}, {"state": "1"}, {"x": 1}]
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(crashes.SettingsError):
        crashes.planned(settings, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "one of --target and --replay"),
        (("--target", "none"), "no such target"),
        (("--target", "refmta:none"), "no such target"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(arguments, says):
    done = CliRunner().invoke(crash, arguments)
    assert done.exit_code == 2
    assert says in done.output and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 99}, "version 99"), ({"harness": "kill"}, "a case of kill"),
        ({"settings": {"x": 1}}, "no such setting"), ({"no": 1}, "no"),
    ],
)  # fmt: skip
def test_a_case_file_that_can_not_be_replayed(tmp_path, change, says):
    row = {"harness": "crash", "target": "x", "seed": 1, "settings": {}, "version": cases.VERSION}
    file = tmp_path / "case.json"
    file.write_text(json.dumps(row | change))
    done = CliRunner().invoke(crash, ["--replay", str(file)])
    assert done.exit_code == 2
    assert says in done.output


def test_p3_split_is_among_the_models_that_are_tried():
    assert P3_SPLIT in stores.WEAK and len(stores.WEAK) == 6


# -- what is missing ------------------------------------------------------------------------------


class Someone:
    """A server that is there."""

    name = "toy"
    known_failures: dict[str, str] = {}  # noqa: RUF012

    def unavailable(self):
        return None


@pytest.fixture
def someone(monkeypatch):
    monkeypatch.setattr(crashes.target, "load", lambda _: Someone())
    monkeypatch.setattr(crashes.tracing, "unavailable", lambda: None)
    monkeypatch.setattr(crashes.os, "geteuid", lambda: 0)
    monkeypatch.setattr(stores, "of", lambda _: None)
    return monkeypatch


def test_without_root_the_server_is_unavailable(someone):
    someone.setattr(crashes.os, "geteuid", lambda: 1000)
    done = CliRunner().invoke(crash, ["--target", "toy"])
    assert done.exit_code == 3
    assert "live: unavailable: files of several users are written: that needs root" in done.output


def test_without_strace_the_server_is_unavailable(someone):
    someone.setattr(crashes.tracing, "unavailable", lambda: "no strace")
    done = CliRunner().invoke(crash, ["--target", "toy"])
    assert done.exit_code == 3 and "live: unavailable: no strace" in done.output


def test_stores_that_hold_are_no_success_where_the_server_could_not_be_tried(someone, tmp_path):
    """What was asked for and is missing is told, by the exit code and by the verdict."""
    someone.setattr(crashes.tracing, "unavailable", lambda: "no strace")
    someone.setattr(stores, "of", lambda _: Planner())
    done = CliRunner().invoke(crash, ["--target", "toy"])
    assert done.exit_code == 3 and "live: unavailable: no strace" in done.output
    got = harness().run(Case(harness="crash", target="toy"), tmp_path)
    assert (got.verdict, got.reason) == ("unavailable", "no strace")
    assert CliRunner().invoke(crash, ["--target", "toy", "--part", "stores"]).exit_code == 0


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        (worker.Failed(reason="it did not start"), 3, "toy: it did not start"),
        (worker.Failed(reason="ptrace is forbidden", unavailable=True), 3, "ptrace is forbidden"),
        (None, 3, "the worker ended with code 1 and no result: oh"),
    ],
)
def test_a_worker_that_has_no_result_is_told_in_a_line(someone, word, code, says):
    class Running:
        status = 1

        def words(self):
            yield from [msgspec.json.encode(word)] if word else []

        def complaints(self):
            return "oh"

    someone.setattr(worker, "worker", lambda *_: contextlib.nullcontext(Running()))
    done = CliRunner().invoke(crash, ["--target", "toy"])
    assert done.exit_code == code and says in done.output and "Traceback" not in done.output


def test_what_a_worker_tells_comes_through_its_pipe():
    finding = Finding(name="lost under P3", text="t/1")
    shown = Shown(finding=finding, scene="one", number=3, story=("crash after: nothing",))
    told = worker.Told(
        target="toy", seed=1, shown={"lost under P3": shown}, counts={"operations": 4},
        operations={"one": ["create q/a"]}, passed={"mknod": 1}, log="", seconds=2.5,
        confirmed=confirm_module.Confirmed(
            steps=(stores.Step(kind="write", path="a", data=b"\xff", line="x.py:3"),)
        ),
    )  # fmt: skip
    again = msgspec.json.decode(msgspec.json.encode(told), type=worker.Word)
    assert again == told
    lived = again.lived()
    assert lived.shown["lost under P3"] == shown and lived.passed.total() == 1


def test_no_state_at_all_is_no_success(someone, tmp_path):
    lived = worker.Told(
        target="toy", seed=1, shown={}, counts={}, operations={}, passed={}, log="", seconds=0.0
    )
    someone.setattr(crashes.worker, "run", lambda *_: lived)
    done = CliRunner().invoke(crash, ["--target", "toy", "--state", "99999"])
    assert done.exit_code == 2 and crashes.NOTHING in done.output
    got = harness().run(Case(harness="crash", target="toy", settings={"state": 99999}), tmp_path)
    assert (got.verdict, got.reason) == ("broken", crashes.NOTHING)


# -- the table of protocols -----------------------------------------------------------------------

EXPECTED = """
[[expected]]
store = "postfix-like"
models = ["P3"]
invariants = ["acknowledged_present"]
reason = "no directory is synced"
"""


@pytest.mark.parametrize(("rows", "code"), [(EXPECTED, 0), ("", 1)])
def test_the_table_says_who_loses_what_and_what_was_not_expected(someone, rows, code):
    """A protocol that loses mail as it is known to; and if nobody knew, a finding."""
    protocols = protocol_table.Protocols(stores=(references.CERTIFIED, references.POSTFIX))
    someone.setattr(protocol_table, "protocols", lambda: protocols)
    someone.setattr(command, "expected", lambda: read_expected(rows))
    someone.setattr(stores, "of", lambda _: Planner())
    done = CliRunner().invoke(crash, ["--target", "toy", "--part", "stores", "--table"])
    assert done.exit_code == code, done.output
    table = {
        line.split()[1]: line.split()
        for line in done.stdout.splitlines()
        if "-like" in line or "certified" in line
    }
    assert table["postfix-like"].count("lost") == 1 and "lost" not in table["certified"]
    assert done.stdout.count("FINDING") == (0 if code == 0 else 2)
