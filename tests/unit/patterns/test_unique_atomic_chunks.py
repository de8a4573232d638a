"""Carrying out a group's plan: a unit fails alone, a directory fails the group, and nothing is
tried again.
"""

from __future__ import annotations

import pytest

from refmta.patterns.unique_atomic_chunks import Failures, Op, carry_out

HANDLES = {"q/a": 3, "q/b": 4}
PLAN = [
    *(Op("writeback", path) for path in HANDLES),
    *(Op("sync", path) for path in HANDLES),
    Op("rename", "q/a", target="q/A"),
    Op("sync_dir", "q"),
    *(Op("reply", path) for path in HANDLES),
]


class Notes:
    """A disk that notes what it is asked, and fails where it is told to."""

    def __init__(self, *failing: tuple[str, object]) -> None:
        self.asked: list[tuple[str, object]] = []
        self.failing = failing

    def __getattr__(self, name: str):
        def ask(what: object, *_: object) -> None:
            self.asked.append((name, what))
            if (name, what) in self.failing:
                raise OSError(28, "No space left on device")

        return ask


def carried(*failing: tuple[str, object]) -> tuple[Failures, list[tuple[str, object]]]:
    disk = Notes(*failing)
    return carry_out(disk, PLAN, HANDLES), disk.asked


def test_a_plan_is_carried_out_in_its_order_and_replies_are_not_made():
    failures, asked = carried()
    assert failures == ({}, None)
    assert asked == [
        ("writeback", 3), ("writeback", 4), ("sync", 3), ("sync", 4), ("rename", "q/a"),
        ("sync_dir", "q"),
    ]  # fmt: skip


def test_a_unit_fails_alone_and_nothing_more_is_done_with_it():
    failures, asked = carried(("writeback", 3))
    assert list(failures.units) == ["q/a"] and failures.directory is None
    assert asked == [("writeback", 3), ("writeback", 4), ("sync", 4), ("sync_dir", "q")]


def test_a_failed_sync_is_never_tried_again():
    failures, asked = carried(("sync", 4))
    assert list(failures.units) == ["q/b"]
    assert asked.count(("sync", 4)) == 1


def test_a_directory_fails_the_group_and_units_keep_their_own_reasons():
    failures, _ = carried(("sync", 3), ("sync_dir", "q"))
    assert failures.directory is not None and failures.directory.errno == 28
    assert list(failures.units) == ["q/a"]


@pytest.mark.parametrize("kind", ["create", "write", "unlink", "link", "what"])
def test_what_is_no_business_of_a_group_is_refused_loudly(kind):
    with pytest.raises(ValueError, match=kind):
        carry_out(Notes(), [Op(kind, "q/a")], HANDLES)
