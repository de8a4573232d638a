"""Who wrote which event: ids that come again, ends that parents say, generations."""

from __future__ import annotations

from specs.kernel.lives import LIFE, Event, told_apart


def event(pid: int, sequence: int, action: str, **fields: str) -> Event:
    return Event(pid=pid, sequence=sequence, action=action, fields=fields)


def pids(*events: Event) -> list[int]:
    return [each.pid for each in told_apart(events)[0]]


def known(*events: Event) -> set[tuple[str, int]]:
    return told_apart(events)[1]


def ended(process: int, role: str = "local", status: str = "-9", sequence: int = 1) -> Event:
    return event(1, sequence, f"{role}.ended", process=str(process), status=status)


def test_a_pid_that_comes_again_is_another_process() -> None:
    first, second = event(7, 1, "local.delivered"), event(7, 1, "local.delivered")
    assert pids(first, ended(7), second) == [7, 1, 7 + LIFE]


def test_without_an_end_it_is_one_process() -> None:
    """And then its numbers are refused."""
    assert pids(event(7, 1, "a.b"), event(7, 1, "a.b")) == [7, 7]


def test_an_end_concerns_the_life_that_it_follows() -> None:
    events = [
        event(7, 1, "local.delivered"), ended(7), event(7, 1, "local.delivered"),
    ]  # fmt: skip
    assert ("local.died", 7) in known(*events)
    assert ("local.died", 7 + LIFE) not in known(*events)


def test_who_ended_with_0_had_finished() -> None:
    found = known(event(7, 1, "local.delivered"), ended(7, status="0"))
    assert {("local.ended", 7), ("local.ended", 0)} <= found
    assert not any(what == "local.died" for what, _ in found)


def test_a_pool_and_its_workers_end_together() -> None:
    worker = event(7, 1, "smtpd.replied", pool="5")
    found = known(worker, ended(5, "smtpd"))
    assert {("smtpd.died", 5), ("smtpd.died", 7)} <= found


def test_a_generation_ends_with_the_next() -> None:
    events = [
        event(1, 1, "supervisor.started"),
        event(7, 1, "qmgr.dispatched"),
        event(2, 1, "supervisor.started"),
        event(8, 1, "qmgr.dispatched"),
    ]
    found = known(*events)
    assert ("qmgr.died", 7) in found
    assert ("qmgr.died", 8) not in found


def test_an_end_without_a_process_is_its_writers() -> None:
    assert ("local.died", 7) in known(event(7, 1, "local.ended"))


def test_all_roles_of_a_process_end_together() -> None:
    """A monolith's worker: whatever it did in whose name, and its own name is another."""
    worker = [event(7, 1, "enqueue.committed"), event(7, 2, "qmgr.dispatched")]
    found = known(*worker, ended(7, "daemon"))
    assert {(f"{role}.died", 7) for role in ("daemon", "enqueue", "qmgr")} <= found
    assert ("local.died", 0) not in found


def test_a_pool_takes_all_roles_of_its_workers_along() -> None:
    worker = [event(7, 1, "enqueue.committed", pool="5"), event(7, 2, "qmgr.dispatched", pool="5")]
    assert {("enqueue.died", 7), ("qmgr.died", 7)} <= known(*worker, ended(5, "daemon"))


def test_a_worker_that_is_first_heard_after_its_pool_ended_ends_all_the_same() -> None:
    """The kernel ends it some milliseconds later, and nobody is left to say so."""
    late = [event(7, 1, "enqueue.committed", pool="5"), event(7, 2, "qmgr.dispatched", pool="5")]
    found = known(event(6, 1, "smtpd.replied", pool="5"), ended(5, "daemon"), *late)
    assert {("enqueue.died", 7), ("qmgr.died", 7), ("smtpd.died", 6)} <= found


def test_a_role_that_a_worker_takes_after_its_pool_ended_ends_too() -> None:
    first, late = event(7, 1, "enqueue.committed", pool="5"), event(7, 2, "qmgr.freed", pool="5")
    assert {("enqueue.died", 7), ("qmgr.died", 7)} <= known(first, ended(5, "daemon"), late)


def test_a_worker_that_ended_with_a_finished_pool_is_no_excuse() -> None:
    late = event(7, 1, "qmgr.dispatched", pool="5")
    found = known(event(6, 1, "smtpd.replied", pool="5"), ended(5, "daemon", status="0"), late)
    assert ("qmgr.ended", 7) in found and ("qmgr.died", 7) not in found


def ghosts(*events: Event) -> list[tuple[int, int]]:
    return [(each.pid, each.sequence) for each in told_apart(events).ghosts]


def test_whoever_speaks_in_the_next_generation_is_a_ghost() -> None:
    started = [event(pid, 1, "supervisor.started") for pid in (1, 2)]
    first = event(7, 1, "qmgr.dispatched", pool="5")
    assert ghosts(started[0], first, started[1], event(7, 2, "qmgr.freed")) == [(7, 2)]
    assert ghosts(started[0], first, event(7, 2, "qmgr.freed"), started[1]) == []


def test_a_pid_that_is_given_out_again_is_no_ghost() -> None:
    started = [event(pid, 1, "supervisor.started") for pid in (1, 2)]
    first = event(7, 1, "qmgr.dispatched")
    assert ghosts(started[0], first, started[1], event(7, 1, "qmgr.dispatched")) == []
