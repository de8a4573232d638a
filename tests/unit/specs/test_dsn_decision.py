"""Who is told: the oracle over every case, and that it refuses wrong tables."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest

from refmta.protocol import dsn
from specs.dsn.decision import CHAIN, POSTMASTER, STRANGER, Case, Told, cases, chain, judge
from subjects.dsn import decide_of

OURS = decide_of(dsn)


def test_ours_is_accepted() -> None:
    assert judge(OURS) == {}


def test_the_cases_are_all_different() -> None:
    found = list(cases())
    assert len(set(found)) == len(found) == 2 * 8 * 4 * 3


def test_the_longest_chain_is_reached() -> None:
    case = Case("failed", STRANGER, dsn.COPIES, ("bob@example.org",))
    assert max(chain(OURS, each) for each in cases()) == chain(OURS, case) == CHAIN


Change = Callable[[list[Told], str, str], Collection[Told]]


def changed(change: Change) -> Any:
    def decide(event: str, reverse_path: str, **configured: Any) -> Collection[Told]:
        return change(list(OURS(event, reverse_path, **configured)), event, reverse_path)

    return decide


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        (lambda told, event, path: [*told, Told(path, event)], "no_report_about_report"),
        (lambda told, event, path: [*told, Told(path, event)], "told_once"),
        (lambda told, event, path: [], "sender_is_told"),
        (lambda told, event, path: [Told(to, "failed") for to, _ in told], "told_what_happened"),
        (lambda told, event, path: [*told, Told("x@x.example", event)], "no_stranger_is_told"),
        (lambda told, event, path: told or [Told(POSTMASTER, event)], "postmaster_as_configured"),
        (lambda told, event, path: told or [Told(POSTMASTER, event)], "reports_end"),
    ],
)  # fmt: skip
def test_another_table_is_refused(change: Change, invariant: str) -> None:
    assert invariant in judge(changed(change))
