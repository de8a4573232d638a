"""The queue spec within small bounds; refmta-spec explores the larger ones."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from specs.kernel.control import Control, run_control
from specs.kernel.explore import explore, name_of
from specs.queue.actions import actions
from specs.queue.controls import controls
from specs.queue.disk import (
    DELIVERED_NOT_MARKED,
    QMGR_DEAD_IN_FLIGHT,
    REMOTE_REPLY_LOST,
    REPORT_NOT_MARKED,
    REPORT_REFUSED,
)
from specs.queue.invariants import invariants
from specs.queue.spec import next_states, queue_spec, start
from specs.queue.states import Bounds, Mail, State, canonical

SMALL = [
    Bounds(recipients=("ll",), resends=1, faults=1),
    Bounds(recipients=("l",), resends=1, faults=2),
    Bounds(recipients=("l",), resends=1, faults=1, patient=False),
    Bounds(recipients=("l", "l"), resends=1, faults=1),
    Bounds(recipients=("r",), resends=1, faults=1),
    Bounds(recipients=("r",), resends=1, faults=1, followed=False),
    Bounds(recipients=("l",), resends=0, faults=0, setbacks=2),
    Bounds(recipients=("l",), resends=0, faults=1, setbacks=1),
    Bounds(recipients=("lr",), resends=0, faults=0, setbacks=1),
    Bounds(recipients=("r",), resends=1, faults=1, setbacks=2, followed=False),
    Bounds(recipients=("r",), resends=1, faults=1, setbacks=1, null=True),
    Bounds(recipients=("r", "l"), resends=0, faults=0, setbacks=1),
]


@pytest.mark.parametrize("bounds", SMALL, ids=str)
def test_it_holds_and_does_all_that_it_says(bounds: Bounds) -> None:
    found = explore(queue_spec(bounds))
    assert found.findings() == []
    assert set(found.fired) == actions(bounds)


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.name)
def test_control(control: Control) -> None:
    result = run_control(control)
    assert result.counts, result.reason


def test_every_invariant_has_a_control() -> None:
    assert {control.invariant for control in controls()} == invariants(SMALL[0]).keys()


def mailbox_copies(mail: Mail) -> int:
    return sum(copy.recipients[0].deliveries for copy in mail.copies)


@pytest.mark.parametrize(
    ("kind", "window"),
    [
        ("l", DELIVERED_NOT_MARKED),
        ("l", QMGR_DEAD_IN_FLIGHT),
        ("r", DELIVERED_NOT_MARKED),
        ("r", QMGR_DEAD_IN_FLIGHT),
        ("r", REMOTE_REPLY_LOST),
    ],
)
def test_each_window_of_one_copy_is_open(kind: str, window: str) -> None:
    """A duplicate by this window, and by nothing else, can happen: the licence is not idle."""

    def no_such_duplicate(state: State) -> bool:
        return not any(
            recipient.deliveries == 2 and recipient.windows == (window,)
            for mail in state.mails
            for copy in mail.copies
            for recipient in copy.recipients
        )

    spec = queue_spec(Bounds(recipients=(kind,), resends=0, faults=1))
    found = explore(replace(spec, invariants={"none": no_such_duplicate}), stop_at=["none"])
    assert "none" in found.violated


@pytest.mark.parametrize("window", [REPORT_NOT_MARKED, REPORT_REFUSED])
def test_each_window_of_a_report_is_open(window: str) -> None:
    """Two reports about one recipient lie in the queue, or were there."""

    def no_such_duplicate(state: State) -> bool:
        return not any(
            recipient.reports == 2
            and recipient.windows == (window,)
            and all(report.in_queue for report in mail.reports)
            for mail in state.mails
            for copy in mail.sent
            for recipient in copy.recipients
        )

    spec = queue_spec(Bounds(recipients=("l",), resends=0, faults=1, setbacks=1))
    found = explore(replace(spec, invariants={"none": no_such_duplicate}), stop_at=["none"])
    assert "none" in found.violated


@pytest.mark.parametrize("heard", ["lost", "refused"])
def test_each_window_of_a_second_copy_is_open(heard: str) -> None:
    """reply_lost and refused_but_survived."""

    def no_such_duplicate(state: State) -> bool:
        return not any(
            mailbox_copies(mail) == 2
            and mail.copies[0].client == heard
            and not any(copy.recipients[0].windows for copy in mail.copies)
            for mail in state.mails
        )

    spec = queue_spec(Bounds(recipients=("l",), resends=1, faults=1))
    found = explore(replace(spec, invariants={"none": no_such_duplicate}), stop_at=["none"])
    assert "none" in found.violated


def test_without_faults_everything_is_delivered_once() -> None:
    def once(state: State) -> bool:
        return all(
            recipient.deliveries <= 1
            for mail in state.mails
            for copy in mail.copies
            for recipient in copy.recipients
        )

    spec = replace(
        queue_spec(Bounds(recipients=("ll",), resends=1, faults=0)), invariants={"once": once}
    )
    found = explore(spec)
    assert not found.violated
    assert found.dead_end is None


def test_merging_by_names_loses_nothing() -> None:
    """With and without it: the same invariants, and each representative stands for real states."""
    bounds = Bounds(recipients=("ll",), resends=0, faults=1)
    merged = explore(queue_spec(bounds))
    apart = explore(replace(queue_spec(bounds), canonical=None))
    assert merged.states < apart.states
    assert not merged.violated
    assert not apart.violated
    assert set(merged.fired) == {name for name, times in apart.fired.items() if times} | set(
        merged.never_fired
    )


def test_canonical_is_the_same_for_renamed_states() -> None:
    generator = random.Random(3)
    bounds = Bounds(recipients=("l", "r"), resends=1, faults=2)
    for _ in range(40):
        state = next(iter(start(bounds)))
        for _ in range(generator.randrange(30)):
            steps = list(next_states(state, bounds))
            if not steps:
                break
            state = generator.choice(steps)[1]
        swapped = state._replace(mails=tuple(reversed(state.mails)))
        assert canonical(swapped) == canonical(state)
        assert canonical(canonical(state)) == canonical(state)


def test_the_counterexample_reads_like_a_story() -> None:
    spec = queue_spec(Bounds(recipients=("l",), resends=0, faults=0))
    goal = {"never": lambda state: mailbox_copies(state.mails[0]) == 0}
    path = explore(replace(spec, invariants=goal), stop_at=["never"]).violated["never"]
    assert [name_of(action) for action in path.actions] == [
        "client.sent",
        "enqueue.created",
        "enqueue.written",
        "enqueue.synced",
        "enqueue.committed",
        "qmgr.dispatched",
        "local.written",
        "local.delivered",
    ]
    assert "delivered 1x" in str(path)
