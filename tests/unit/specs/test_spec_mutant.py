"""Mutants are made beside the original, and it can be shown that they ran."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from specs.kernel.control import Control, Verdict, run_control
from specs.kernel.mutant import MutationError, hits, mutate

SOURCE = '''
"""A subject."""
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True, slots=True)
class Box:
    size: int = 3

def double(number: int) -> int:
    return number * 2

TABLE = {"a": 1, "b": 2}
'''
USER = """
from mutant_subject import double
import mutant_subject
def four() -> int:
    return double(2)
"""


@pytest.fixture(autouse=True)
def _subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mutant_subject.py").write_text(SOURCE)
    (tmp_path / "mutant_user.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mutant_subject", "mutant_user"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_original_is_untouched_and_the_mutant_counts() -> None:
    mutant = mutate(
        "mutant_subject", [("return number * 2", "return number * 3 * __mutant_ran__()")]
    )
    assert hits(mutant) == 0
    assert mutant.double(2) == 6
    assert hits(mutant) == 1
    assert __import__("mutant_subject").double(2) == 4


def test_dataclasses_work_in_a_mutant() -> None:
    mutant = mutate("mutant_subject", [("size: int = 3", "size: int = 4")])
    assert mutant.Box() == mutant.Box(4)
    assert mutant.__name__ != "mutant_subject"
    assert mutant.Box is not __import__("mutant_subject").Box


def test_a_mutated_table_counts_when_it_is_made() -> None:
    mutant = mutate("mutant_subject", [('"b": 2}', '"b": 3 * __mutant_ran__()}')])
    assert mutant.TABLE["b"] == 3
    assert hits(mutant) == 1


@pytest.mark.parametrize("old", ["no such text", "number"])
def test_a_passage_must_occur_exactly_once(old: str) -> None:
    with pytest.raises(MutationError, match="not once"):
        mutate("mutant_subject", [(old, "x")])


def test_a_mutant_that_does_not_compile_leaves_nothing_behind() -> None:
    before = set(sys.modules)
    with pytest.raises(SyntaxError):
        mutate("mutant_subject", [("return number * 2", "return (")])
    assert {name for name in set(sys.modules) - before if "__mutant_" in name} == set()


def test_a_user_of_the_mutant_is_made_again() -> None:
    mutant = mutate("mutant_subject", [("number * 2", "number * 5 * __mutant_ran__()")])
    user = mutate("mutant_user", [], replacing={"mutant_subject": mutant})
    assert user.four() == 10
    assert hits(mutant) == 1
    assert sys.modules["mutant_subject"] is not mutant
    assert mutate("mutant_user", []).four() == 4


@dataclass(frozen=True)
class Case:
    twin: Verdict
    mutant: Verdict
    counts: bool
    reason: str


FINE = Verdict(violated=frozenset())
CAUGHT = Verdict(violated=frozenset({"safe"}), mutated_line_ran=True)


@pytest.mark.parametrize(
    "case",
    [
        Case(FINE, CAUGHT, True, "refused by safe"),
        Case(CAUGHT, CAUGHT, False, "twin is refused"),
        Case(FINE, Verdict(violated=frozenset({"safe"})), False, "never ran"),
        Case(FINE, Verdict(violated=frozenset(), mutated_line_ran=True), False, "by nothing"),
        Case(
            FINE,
            Verdict(violated=frozenset({"other"}), mutated_line_ran=True),
            False,
            "refused by other, not by safe",
        ),
    ],
)
def test_when_a_control_counts(case: Case) -> None:
    control = Control(
        name="c", spec="s", invariant="safe", twin=lambda: case.twin, mutant=lambda: case.mutant
    )
    result = run_control(control)
    assert result.counts is case.counts
    assert case.reason in result.reason


def test_a_check_that_crashes_refuses_nothing() -> None:
    def broken() -> Verdict:
        raise RuntimeError("no")

    result = run_control(
        Control(name="c", spec="s", invariant="safe", twin=lambda: FINE, mutant=broken)
    )
    assert not result.counts
    assert "RuntimeError: no" in result.reason
