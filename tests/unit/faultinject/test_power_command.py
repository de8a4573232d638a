"""Loss of power: the harness and the command, and how long a recovered server is waited for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from unit.faultinject.power_rows import WORDS, Silent, row

from faultinject import cases, target
from faultinject.cases import Case
from faultinject.power import check, command, images, show
from faultinject.power.injector import PowerHarness, case, outcome, settings_of
from faultinject.power.records import Failed, Settings
from faultinject.power.results import Results

# -- the harness and the command ------------------------------------------------------------------


def test_smaller_cases_are_smaller_and_end():
    harness, now = PowerHarness(), case("toy", 1, Settings())
    steps = 0
    while smaller := next(iter(harness.smaller(now)), None):
        assert settings_of(smaller).wrong() is None and smaller != now
        now, steps = smaller, steps + 1
    assert steps < 10 and settings_of(now) == Settings(
        cuts=1, clients=1, recipients=1, most_octets=1_000, again_one_in=0
    )


def test_the_plan_visits_each_file_system_first():
    plan = [each for each, _ in zip(PowerHarness().plan("toy", 7), range(6), strict=False)]
    assert [each.settings["fs"] for each in plan[:3]] == ["ext4", "xfs", "btrfs"]
    assert len({each.key for each in plan}) == 6 and plan[0].seed == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"fs": "fat"}}, "no such file system"),
        ({"settings": {"cuts": "many"}}, "Expected `int`"),
        ({"settings": {"nonsense": 1}}, "unknown field"),
        ({"target": "nonesuch"}, "no such target"),
    ],
)
def test_a_case_that_makes_no_sense_is_broken_in_words(changes, said, tmp_path):
    wrong = Case(**{"harness": "power", "target": "refmta", **changes})
    got = PowerHarness().run(wrong, tmp_path)
    assert got.verdict == "broken" and said in got.reason


def run(*arguments: str):
    return CliRunner().invoke(command.power, arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "one of --target and --replay"),
        (("--target", "nonesuch"), 2, "no such target: nonesuch"),
        (("--target", "refmta", "--fs", "ext4,fat"), 2, "no such file system: fat"),
        (("--target", "refmta", "--cuts", "0"), 2, "0 is not in the range"),
        (("--replay", "/nonexistent"), 2, "/nonexistent"),
    ],
)
def test_wrong_usage(arguments, code, said):
    done = run(*arguments)
    assert done.exit_code == code and said in done.stderr and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (cases.encode(Case(harness="kill", target="refmta")), "a case of kill, not of power"),
        (cases.encode(Case(harness="power", target="refmta", version=99)), "of version 99"),
        (cases.encode(case("refmta", 1, Settings(fs="fat"))), "no such file system: fat"),
        (b"nonsense", "case.json: "),
    ],
)
def test_a_case_file_that_is_none(content, said, tmp_path):
    (tmp_path / "case.json").write_bytes(content)
    done = run("--replay", str(tmp_path / "case.json"))
    assert done.exit_code == 2 and said in done.stderr


def test_results_of_another_target_or_seed_are_refused(tmp_path):
    path = tmp_path / "results"
    results = Results.open(path)
    results.add(row("ext4", 1))
    results.close()
    done = run("--target", "refmta", "--resume", str(path))
    assert done.exit_code == 2 and "results of toy, not of refmta" in done.stderr


class Toy(Silent):
    """A target that only has a name."""

    def unavailable(self) -> str | None:
        return None


@pytest.fixture
def toy(monkeypatch):
    """Rounds that say what they are told to."""
    chosen = Toy()
    monkeypatch.setattr(target, "load", lambda _: chosen)
    monkeypatch.setattr(command, "unavailable", lambda _: None)
    words: list = []
    monkeypatch.setattr(
        PowerHarness, "run", lambda _, each, place: outcome(each, chosen, list(words), "")
    )
    return chosen, words


def test_the_command_counts_and_says_what_it_can_not_show(toy, tmp_path):
    toy[1][:] = [WORDS[0], *([WORDS[1]] * 10)]
    done = run(
        "--target", "toy", "--fs", "xfs,ext4", "--cuts", "10", "--seed", "3",
        "--json", str(tmp_path / "report"), "--resume", str(tmp_path / "results"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "0 kind(s) of findings, seed 3" in done.stdout
    assert "not shown by such cuts: a missing or disregarded flush" in done.stdout
    report = json.loads((tmp_path / "report").read_text())
    assert report["file_systems"]["xfs"]["cuts"] == report["file_systems"]["ext4"]["cuts"] == 10
    toy[1].clear()  # nothing is run again
    assert run(
        "--target", "toy", "--fs", "xfs,ext4", "--cuts", "10", "--resume", str(tmp_path / "results")
    ).exit_code == 0  # fmt: skip


def test_a_finding_ends_with_1_and_leaves_a_case(toy, tmp_path):
    toy[1][:] = WORDS
    arguments = ("--target", "toy", "--fs", "xfs", "--cuts", "2", "--seed", "3")
    done = run(*arguments, "--cases", str(tmp_path))
    assert done.exit_code == 1 and "finding: lost" in done.stdout
    kept = cases.decode((tmp_path / "xfs-3" / "case.json").read_bytes(), "kept")
    assert kept.target == "toy" and settings_of(kept).fs == "xfs"
    assert (tmp_path / "xfs-3" / "log").read_text().endswith("the end")
    toy[0].known_failures = {"lost": "it is only a toy"}
    done = run(*arguments)
    assert done.exit_code == 0 and "known: it is only a toy" in done.stdout


def test_what_is_broken_or_missing_ends_with_3(toy, monkeypatch):
    toy[1][:] = [Failed(reason="no loop device")]
    done = run("--target", "toy", "--fs", "xfs", "--cuts", "2")
    assert done.exit_code == 3 and "no loop device" in done.stderr
    monkeypatch.setattr(command, "unavailable", lambda _: "no mkfs.xfs")
    done = run("--target", "toy", "--fs", "xfs", "--cuts", "2")
    assert done.exit_code == 3 and "xfs is unavailable: no mkfs.xfs" in done.stderr


def test_without_root_or_loop_devices_it_is_unavailable(monkeypatch):
    kind = images.KINDS["xfs"]
    monkeypatch.setattr(images, "_tool", lambda name: None if name == "mkfs.xfs" else name)
    monkeypatch.setattr(images, "kernel", lambda: (6, 1))
    assert images.unavailable(kind) == "no mkfs.xfs"
    monkeypatch.setattr(images, "_tool", lambda name: name)
    monkeypatch.setattr(images.os, "geteuid", lambda: 1000)
    assert images.unavailable(kind) == "not root: file systems can't be mounted"
    monkeypatch.setattr(images.os, "geteuid", lambda: 0)
    monkeypatch.setattr(images, "LOOPS", Path("/nonexistent"))
    assert images.unavailable(kind) == "no /nonexistent: there are no loop devices"
    monkeypatch.setattr(images, "LOOPS", Path("/"))
    assert images.unavailable(kind) is None
    assert "needs Linux 6.7" in (images.unavailable(images.KINDS["btrfs"]) or "")


def test_names_of_own_findings_are_no_names_of_the_ledger():
    from faultinject.ledger import FINDINGS

    assert not set(show.OWN) & set(FINDINGS)


# -- how long a recovered server is waited for ----------------------------------------------------


class Recovering(Silent):
    """Its queue shrinks to a rest; `lives`: so many looks until it dies."""

    def __init__(self, queue: int, rest: int = 0, lives: int = 1 << 30) -> None:
        self.queue, self.rest, self.lives, self.flushes = queue, rest, lives, 0

    def waiting(self) -> int:
        self.queue = max(self.rest, self.queue - 1)
        return self.queue

    def alive(self) -> bool:
        self.lives -= 1
        return self.lives > 0

    def flush(self) -> None:
        self.flushes += 1
        raise target.TargetError("not ready")

    def log_end(self) -> str:
        return "panic"


@pytest.fixture
def hurry(monkeypatch):
    for name, seconds in {"LOOK_S": 0.001, "FLUSH_S": 0.02, "QUIET_S": 0.1}.items():
        monkeypatch.setattr(check, name, seconds)


def test_a_queue_is_drained(hurry):
    recovering = Recovering(queue=50)
    check._drain(recovering, 30)
    assert recovering.queue == 0


def test_a_queue_that_does_not_change_is_left_after_it_was_tried(hurry):
    recovering = Recovering(queue=20, rest=3)
    check._drain(recovering, 30)
    assert recovering.queue == 3 and recovering.flushes >= 2


def test_a_server_that_dies_in_recovery_is_told(hurry):
    with pytest.raises(target.TargetError, match="panic"):
        check._drain(Recovering(queue=20, lives=5), 30)
