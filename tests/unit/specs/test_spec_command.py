"""refmta-spec: what it runs, how it says it, and its exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

import specs.evolution.controls
import specs.persistence.controls
import specs.queue.controls
import specs.schedule.controls
from specs import sections
from specs.command import main
from specs.kernel.control import Control, Verdict
from specs.kernel.explore import explore
from specs.kernel.proofs import parse, prove
from specs.persistence import CommitStore, Op
from specs.persistence.models import P3_ATOMIC
from specs.persistence.references import CERTIFIED
from specs.persistence.workloads import ONE
from specs.queue.spec import queue_spec
from specs.queue.states import Bounds
from specs.show import show

PROVED = '''
def swapped(left: bool, right: bool) -> bool:
    """post: _ == (right and left)"""
    return left and right

def wrong(number: int) -> int:
    """post: _ != 7"""
    return number + 1

def empty(number: int) -> int:
    """
    pre: number != number
    post: _ == 1
    """
    return 1
'''


def safe_store() -> CommitStore:
    return CERTIFIED


def careless_store() -> CommitStore:
    def plan(message: Any) -> list[Op]:
        return [op for op in CERTIFIED.plan([message]) if op.kind != "sync_dir"]

    return replace(CERTIFIED, name="careless", one=plan)  # type: ignore[arg-type]


def broken_store() -> CommitStore:
    raise RuntimeError("no such table")


def one_control() -> list[Control]:
    caught = Verdict(violated=frozenset({"sound"}), mutated_line_ran=True)
    fine = Verdict(violated=frozenset())
    return [
        Control(
            name="c", spec="smtp/x", invariant="sound", twin=lambda: fine, mutant=lambda: caught
        )
    ]


def missed_control() -> list[Control]:
    return [replace(control, mutant=control.twin) for control in one_control()]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Entry points: group, name, value; and bounds small enough for a test."""
    found = [(sections.STORES, "safe", f"{__name__}:safe_store")]
    monkeypatch.setattr(
        sections,
        "entry_points",
        lambda group: [EntryPoint(name, value, g) for g, name, value in found if g == group],
    )
    monkeypatch.setattr(sections, "QUEUE_BOUNDS", (Bounds(recipients=("l",), resends=1, faults=1),))
    monkeypatch.setattr(sections, "EXPLORED", sections.EXPLORED[1:2])  # the smallest
    monkeypatch.setattr(sections, "MODELS", (P3_ATOMIC,))
    monkeypatch.setattr(sections, "WORKLOADS", (ONE,))
    for own in (
        specs.queue.controls, specs.schedule.controls, specs.persistence.controls,
        specs.evolution.controls,
    ):  # fmt: skip
        few = own.controls()[:2]  # all of them have tests of their own
        monkeypatch.setattr(own, "controls", lambda few=few: few)
    return found


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_all_that_holds_is_exit_0(registered: list[tuple[str, str, str]]) -> None:
    code, out, _ = run()
    assert code == 0
    assert "queue: holds" in out
    assert "no_early_reply | holds" in out
    assert "machine.crashed | " in out
    assert "certified | one message in three writes | P3 atomic" in out
    assert "mark before delivery | refused by marks_after_delivery | counts" in out
    assert "4 spec(s), 0 finding(s)" in out


def test_no_such_spec_is_exit_2(registered: list[tuple[str, str, str]]) -> None:
    code, out, err = run("queues")
    assert code == 2
    assert out == ""
    assert "no such spec: queues (there are: queue, schedule, persistence, evolution)" in err


def test_only_what_is_named_runs(registered: list[tuple[str, str, str]]) -> None:
    code, out, _ = run("persistence")
    assert code == 0
    assert "queue: holds" not in out


def test_a_finding_is_exit_1_and_tells_its_story(registered: list[tuple[str, str, str]]) -> None:
    registered.append((sections.STORES, "careless", f"{__name__}:careless_store"))
    code, out, _ = run("persistence")
    assert code == 1
    assert "VIOLATED: acknowledged_present" in out
    assert "create chunks/m1: lost" in out
    assert "finding: careless, P3 atomic" in out


def test_json(registered: list[tuple[str, str, str]]) -> None:
    registered.append((sections.STORES, "careless", f"{__name__}:careless_store"))
    registered.append((sections.CONTROLS, "own", f"{__name__}:one_control"))
    code, out, _ = run("--json")
    assert code == 1
    report = json.loads(out)
    by_name = {section["name"]: section for section in report["specs"]}
    assert list(by_name) == ["queue", "schedule", "persistence", "evolution", "smtp"]
    assert report["findings"] == len(by_name["persistence"]["findings"]) > 0
    assert all(by_name["queue"]["explorations"][0]["invariants"].values())
    assert by_name["smtp"]["controls"][0]["counts"] is True


@pytest.mark.parametrize(
    ("group", "value", "finding"),
    [
        (sections.STORES, "broken_store", "RuntimeError: no such table"),
        (sections.STORES, "not_there", "AttributeError"),
        (sections.CONTROLS, "missed_control", "the mutated line never ran"),
    ],
)
def test_a_subject_that_cannot_be_judged_is_a_finding(
    registered: list[tuple[str, str, str]], group: str, value: str, finding: str
) -> None:
    registered.append((group, "smtp", f"{__name__}:{value}"))
    code, out, _ = run("persistence" if group == sections.STORES else "smtp")
    assert code == 1
    assert finding in out


def test_no_store_at_all_is_a_finding(registered: list[tuple[str, str, str]]) -> None:
    registered.clear()
    code, out, _ = run("persistence")
    assert code == 1
    assert "no store registered" in out


def test_controls_that_cannot_be_loaded_are_heard_of(
    registered: list[tuple[str, str, str]],
) -> None:
    registered.append((sections.CONTROLS, "own", f"{__name__}:not_there"))
    code, out, _ = run()
    assert code == 1
    assert "own" in out


def test_a_spec_that_is_violated_prints_its_counterexample() -> None:
    spec = queue_spec(Bounds(recipients=("l",), resends=0, faults=0))
    never = {"never": lambda state: not state.mails[0].copies}
    section = sections.Section("queue", explorations=[explore(replace(spec, invariants=never))])
    console = Console(record=True, width=100, force_terminal=True, file=None, quiet=False)
    with console.capture() as captured:
        show(section, console)
    text = captured.get()
    assert "VIOLATED" in text
    assert "1. client.sent(0)" in text


def test_list_names_the_specs(registered: list[tuple[str, str, str]]) -> None:
    registered.append((sections.PROOFS, "wire", "somewhere.proofs"))
    code, out, _ = run("--list")
    assert (code, out.split()) == (0, ["queue", "schedule", "persistence", "wire", "evolution"])


# ---- proofs ---------------------------------------------------------------------------------


def test_crosshair_proves_refutes_and_finds_nothing_to_prove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spec_proofs_subject.py").write_text(PROVED)
    monkeypatch.syspath_prepend(tmp_path)
    found = prove("sample", "spec_proofs_subject", seconds=5)
    assert {proof.function: proof.verdict for proof in found.proofs} == {
        "swapped": "proved",
        "wrong": "refuted",
        "empty": "vacuous",
    }
    assert [proof.is_finding for proof in found.proofs] == [False, True, True]


def test_what_was_not_confirmed_was_only_searched(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(PROVED)
    output = f"{path}:3: info: Not confirmed.\nnoise\n{path}:7: info: Confirmed over all paths."
    found = list(parse("m", path, output, 9))
    assert [(proof.function, proof.verdict, proof.detail) for proof in found] == [
        ("swapped", "searched", "searched 9 s"),
        ("wrong", "proved", "Confirmed over all paths."),
    ]


def test_a_module_without_conditions_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text("")
    assert [proof.verdict for proof in parse("m", path, "", 9)] == ["failed"]


def test_a_module_that_is_not_there_is_a_finding() -> None:
    found = prove("x", "no_such_module_anywhere")
    assert [proof.verdict for proof in found.proofs] == ["failed"]


def test_the_specs_bring_their_own_controls(registered: list[tuple[str, str, str]]) -> None:
    found = sections.subjects()
    assert {sections.section_of(control) for control in found.controls} == {
        "queue", "schedule", "persistence", "evolution",
    }  # fmt: skip
