"""The enumeration can tell protocols apart, and each of its invariants catches what it names."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from specs.kernel.control import Control, run_control
from specs.persistence import Disk, Message, Op, Recovered
from specs.persistence.controls import controls, loses
from specs.persistence.enumerate import INVARIANTS, examine
from specs.persistence.models import MODELS, P0, P1_ATOMIC, P3_ATOMIC, P3_SPLIT, Model
from specs.persistence.references import (
    CERTIFIED,
    EXIM,
    MAILDIR,
    OPENSMTPD,
    REFERENCES,
    Reference,
)
from specs.persistence.workloads import (
    CONCURRENT,
    FINELY,
    GROUP,
    LARGE,
    ONE,
    REMAINS,
    message,
    remains,
    schedules,
)

LOST = {"acknowledged_present", "visible_is_complete"}


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("store", REFERENCES, ids=lambda store: store.name)
def test_who_loses_acknowledged_mail_under_which_model(store: Reference, model: Model) -> None:
    report = examine(store, model, ONE)
    assert report.exhaustive
    assert bool(LOST & report.violated.keys()) is (model in loses(store.name))
    assert model is not P0 or not report.violated


@pytest.mark.parametrize("store", [CERTIFIED, EXIM, MAILDIR], ids=lambda store: store.name)
@pytest.mark.parametrize(
    "workload", [ONE, REMAINS, CONCURRENT, GROUP, FINELY, LARGE], ids=lambda w: w.name
)
def test_safe_protocols_are_safe_under_the_weakest_model(
    store: Reference, workload: object
) -> None:
    report = examine(store, P3_SPLIT, workload)  # type: ignore[arg-type]
    assert report.violated == {}
    assert report.exhaustive
    assert report.distinct > 10


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.name)
def test_control(control: Control) -> None:
    result = run_control(control)
    assert result.counts, result.reason


def test_every_invariant_has_a_control() -> None:
    assert {control.invariant for control in controls()} == set(INVARIANTS)


def test_the_counterexample_is_the_shortest_story() -> None:
    report = examine(OPENSMTPD, P1_ATOMIC, ONE)
    lost = report.violated["acknowledged_present"]
    assert lost.detail == "m1 was acknowledged and is not there"
    assert lost.story[0] == "crash after: reply m1"
    assert lost.story[1:] == ("rename incoming/m1.message -> queue/m1.message: lost",)


def test_a_crash_inside_recovery_is_told_as_such() -> None:
    def forgets_to_link(disk: Disk) -> Recovered:
        """Copies what is whole to a new name, and removes the old one before it is durable."""
        found = CERTIFIED.recover(disk)
        for token in found.visible:
            handle = disk.open_read(f"chunks/{token}")
            octets = disk.read(handle, disk.size(handle), 0)
            disk.close(handle)
            disk.unlink(f"chunks/{token}")
            handle = disk.create(f"chunks/{token}")
            disk.write(handle, octets)
            disk.close(handle)
        return found

    report = examine(replace(CERTIFIED, recover=forgets_to_link), P3_ATOMIC, ONE)
    found = report.violated["crash_in_recovery"]
    assert "acknowledged_present" in found.detail
    assert any(line.startswith("in recovery, ") for line in found.story)
    assert "recovery_idempotent" in report.violated


def test_a_handle_left_open_is_left_over() -> None:
    def leaks(disk: Disk) -> Recovered:
        for name in disk.listdir("chunks"):
            disk.open_read(f"chunks/{name}")
        return CERTIFIED.recover(disk)

    report = examine(replace(CERTIFIED, recover=leaks), P0, ONE)
    assert "handles left open" in report.violated["nothing_left_over"].detail


def test_what_is_said_to_be_aside_must_be_there() -> None:
    def boasts(disk: Disk) -> Recovered:
        found = CERTIFIED.recover(disk)
        return Recovered(visible=found.visible, aside=found.aside | {"damaged/none"})

    report = examine(replace(CERTIFIED, recover=boasts), P0, ONE)
    assert "damaged/none" in report.violated["nothing_left_over"].detail


def test_a_released_message_may_go() -> None:
    def delivered(message_: Message) -> list[Op]:
        path = f"chunks/{message_.token}"
        done = [Op(kind="release", path=message_.token), Op(kind="unlink", path=path)]
        return [*CERTIFIED.plan([message_]), *done]

    def dropped(message_: Message) -> list[Op]:
        return delivered(message_)[:-2] + delivered(message_)[-1:]

    for model in MODELS:
        assert not examine(replace(CERTIFIED, one=delivered), model, ONE).violated  # type: ignore[arg-type]
        report = examine(replace(CERTIFIED, one=dropped), model, ONE)  # type: ignore[arg-type]
        assert "acknowledged_present" in report.violated


def test_schedules_keep_each_plan_in_order() -> None:
    first = [Op(kind="create", path=f"a{number}") for number in range(4)]
    second = [Op(kind="create", path=f"b{number}") for number in range(3)]
    found = list(schedules(first, second))
    assert len(found) == 8
    for merged in found:
        assert [each for each in merged if each.path[0] == "a"] == first
        assert [each for each in merged if each.path[0] == "b"] == second
    assert len({tuple(each.path for each in merged) for merged in found}) == 8


def test_remains_are_as_long_as_the_message_they_lie_under() -> None:
    stale = remains(CERTIFIED).stale
    assert stale.startswith(b"m0 block 0")
    assert len(message("m0", 3).content) < len(stale)


def test_the_speed_of_the_inner_loop() -> None:
    """A floor far below what it does; the figure itself is printed by refmta-spec."""
    started = time.thread_time()
    report = examine(MAILDIR, P3_SPLIT, FINELY)
    elapsed = time.thread_time() - started
    assert report.recovered > 1000
    assert report.recovered / elapsed > 1000
