"""What the trace spec says of aliases, twins, reports, retries and the operator, in small traces.

Each row: the events of one message after its commit and its reply, by a qmgr that lives unless the
row says so, and whether they are a behaviour.
"""

from __future__ import annotations

import pytest

from specs.kernel.accept import accept
from specs.kernel.lives import Event
from specs.queue.trace import QueueTrace

ENQUEUE, SMTPD, QMGR, LOCAL, REMOTE, BOUNCE, SECOND = 10, 20, 30, 40, 50, 60, 31
WRITERS = {"qmgr": QMGR, "local": LOCAL, "remote": REMOTE, "bounce": BOUNCE, "enqueue": ENQUEUE}

Row = tuple[str, dict[str, str]]
#: The sender.
S = "s@example.org"


def events(rows: list[Row], recipients: int, sender: str) -> list[Event]:
    head = {"queue_id": "M", "recipients": str(recipients), "sender": sender}
    said = [(ENQUEUE, "enqueue.committed", head), (SMTPD, "smtpd.replied", {"queue_id": "M"})]
    qmgr = QMGR
    for action, fields in rows:
        role = action.partition(".")[0]
        if action == "qmgr.ended":
            said.append((1, action, {"process": str(qmgr), "status": "-9"}))
            qmgr = SECOND
        elif action.endswith(".ended"):
            said.append((1, action, fields))
        else:
            said.append((qmgr if role == "qmgr" else WRITERS[role], action, fields))
    counts: dict[int, int] = {}
    found = []
    for pid, action, fields in said:
        counts[pid] = counts.get(pid, 0) + 1
        found.append(Event(pid=pid, sequence=counts[pid], action=action, fields=fields))
    return found


def one(action: str, index: int = 0, **more: str) -> Row:
    return action, {"queue_id": "M", "index": str(index), "recipient": f"r{index}", **more}


def marked(outcome: str, index: int = 0, **more: str) -> Row:
    return one("qmgr.marked", index, outcome=outcome, **more)


def whole(action: str) -> Row:
    return action, {"queue_id": "M"}


def told(to: str = S, number: int = 1, kind: str = "failed") -> list[Row]:
    report = f"R{number}"
    return [
        ("enqueue.committed", {"queue_id": report, "recipients": "1", "sender": ""}),
        ("bounce.reported", {
            "queue_id": "M", "report": report, "recipients": "1", "kind": kind, "to": to,
        }),
    ]  # fmt: skip


def delivered(index: int = 0, by: str = "local.delivered") -> list[Row]:
    return [one("qmgr.dispatched", index), one(by, index)]


BOUNCE_DIED: Row = ("bounce.ended", {"process": str(BOUNCE), "status": "-9"})
FREED, QMGR_DIED = whole("qmgr.freed"), ("qmgr.ended", {})
DONE = [*delivered(), marked("delivered")]
FAILED = [one("qmgr.dispatched"), marked("failed")]

#: Recipients, sender, events, and whether they are allowed.
ROWS: list[tuple[str, int, str, list[Row], bool]] = [
    ("a plain delivery", 1, S, [*DONE, FREED], True),
    ("by remote", 1, S, [*delivered(by="remote.sent"), marked("delivered"), FREED], True),
    ("put off, then delivered", 1, S, [one("qmgr.dispatched"), one("qmgr.deferred"), *DONE, FREED],
     True),
    ("put off by resolve", 1, S, [one("qmgr.deferred"), *DONE, FREED], True),
    ("handed back, then delivered", 1, S, [one("qmgr.dispatched"), one("qmgr.returned"), *DONE,
     FREED], True),
    ("dispatched again for no reason", 1, S, [one("qmgr.dispatched"), *DONE, FREED], False),
    ("the agent is lost, but lives", 1, S, [*delivered(), one("qmgr.returned"), *DONE, FREED],
     False),
    ("still in the queue", 1, S, [one("qmgr.dispatched"), one("qmgr.deferred")], True),
    # aliases
    ("expanded to two", 1, S, [marked("expanded", targets="2"), *delivered(1),
     marked("delivered", 1), *delivered(2), marked("delivered", 2), FREED], True),
    ("freed before the second target", 1, S, [marked("expanded", targets="2"), *delivered(1),
     marked("delivered", 1), FREED], False),
    ("more targets than were said", 1, S, [marked("expanded", targets="1"), *delivered(2)], False),
    ("a twin", 2, S, [*DONE, marked("delivered", 1, same_as="0"), FREED], True),
    ("a twin of one who got nothing", 2, S, [marked("delivered", 1, same_as="0"), *DONE, FREED],
     False),
    ("a twin that names nobody", 2, S, [*DONE, marked("delivered", 1), FREED], False),
    # reports
    ("failed and reported", 1, S, [*FAILED, *told(), marked("reported"), FREED], True),
    ("failed by resolve", 1, S, [marked("failed"), *told(), marked("reported"), FREED],
     True),
    ("failed and forgotten", 1, S, [*FAILED, FREED], False),
    ("marked as reported, to nobody", 1, S, [*FAILED, marked("reported"), FREED],
     False),
    ("discarded, with a sender", 1, S, [*FAILED, marked("discarded"), FREED], False),
    ("discarded, without", 1, "", [*FAILED, marked("discarded"), FREED], True),
    ("the sender and the postmaster", 1, S, [*FAILED, *told(), *told("pm", 2),
     marked("reported"), FREED], True),
    ("the sender twice", 1, S, [*FAILED, *told(), *told(number=2), marked("reported"),
     FREED], False),
    ("twice, since bounce died", 1, S, [*FAILED, *told(), BOUNCE_DIED, *told(number=2),
     marked("reported"), FREED], True),
    ("twice, since qmgr died", 1, S, [*FAILED, *told(), QMGR_DIED, *told(number=2),
     marked("reported"), FREED], True),
    ("told of a success", 1, S, [*DONE, *told(), FREED], False),
    ("a report that fails goes to the postmaster", 1, "", [*FAILED, *told("pm"), marked("reported"),
     FREED], True),
    ("a report that fails goes to its own recipient", 1, "", [*FAILED, *told("r0"),
     marked("reported"), FREED], False),
    ("a warning", 1, S, [one("qmgr.deferred"), *told(kind="delayed"), *DONE, FREED],
     True),
    ("two warnings", 1, S, [one("qmgr.deferred"), *told(kind="delayed"),
     *told(number=2, kind="delayed"), *DONE, FREED], False),
    ("a warning about a report", 1, "", [one("qmgr.deferred"), *told("pm", kind="delayed"), *DONE,
     FREED], False),
    ("a warning is no report", 1, S, [*told(kind="delayed"), *FAILED,
     marked("reported"), FREED], False),
    # the operator
    ("retried by the operator", 1, S, [*FAILED, one("qmgr.retried"), *DONE, FREED], True),
    ("retried, although it had not failed", 1, S, [one("qmgr.retried"), *DONE, FREED], False),
    ("retried, and marked as reported", 1, S, [*FAILED, *told(), one("qmgr.retried"),
     marked("reported"), FREED], False),
    ("another one is retried meanwhile", 2, S, [*FAILED, one("qmgr.dispatched", 1),
     marked("failed", 1), *told(), one("qmgr.retried", 1), marked("reported"), *delivered(1),
     marked("delivered", 1), FREED], True),
    ("tried again after its failure", 1, S, [*FAILED, *DONE, FREED], False),
    ("removed in the middle", 1, S, [one("qmgr.dispatched"), whole("qmgr.removed")], True),
    ("set aside", 1, S, [one("qmgr.dispatched"), whole("qmgr.set_aside")], True),
    ("worked on after it was removed", 1, S, [whole("qmgr.removed"), one("qmgr.dispatched")],
     False),
    # a dead qmgr
    ("the mark was not said", 1, S, [*delivered(), QMGR_DIED, FREED], True),
    ("delivered, and again by the next", 1, S, [*delivered(), QMGR_DIED, *DONE, FREED], True),
    ("delivered, marked, and again by the next", 1, S, [*DONE, QMGR_DIED, *DONE, FREED], False),
    ("its dispatches mean nothing", 1, S, [one("qmgr.dispatched"), QMGR_DIED, *DONE, FREED], True),
    ("a twin whom the dead one had sent out", 2, S, [one("qmgr.dispatched", 1), QMGR_DIED, *DONE,
     marked("delivered", 1, same_as="0"), FREED], True),
    ("a twin whom the dead one never spoke of", 2, S, [*DONE, QMGR_DIED, FREED], True),
    ("a twin whom a living one never spoke of", 2, S, [*DONE, FREED], False),
    ("never spoken of, and nobody got anything", 2, S, [QMGR_DIED, FREED], False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recipients", "sender", "rows", "allowed"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_small_traces(recipients: int, sender: str, rows: list[Row], allowed: bool) -> None:
    found = accept(QueueTrace(), events(rows, recipients, sender))
    assert found.accepted is allowed, list(map(str, found.refusals))


# -- where qmgr keeps the envelopes, or the queue -------------------------------------------------

HEAD = {"queue_id": "M", "recipients": "1", "sender": S}
LOGGED: list[Row] = [("qmgr.logged", HEAD), *DONE, FREED]
COMMITTED: Row = ("enqueue.committed", HEAD)
OTHER: Row = ("enqueue.committed", {**HEAD, "queue_id": "N"})
REPLIED: Row = ("smtpd.replied", {"queue_id": "M"})
FOUND = whole("qmgr.recovered")
SMTPS_DIED: Row = ("smtps.ended", {"process": str(ENQUEUE), "status": "-9"})

#: In this order by their writers; whether they are allowed.
KEPT_BY_QMGR: list[tuple[str, list[Row], bool]] = [
    ("logged, said, promised", [*LOGGED, COMMITTED, REPLIED], True),
    ("logged, and nobody lived to say so", [OTHER, *LOGGED, SMTPS_DIED], True),
    ("logged, and nobody said so", [*LOGGED], False),
    ("logged twice", [LOGGED[0], *LOGGED, COMMITTED, REPLIED], False),
    ("found", [FOUND, *DONE, FREED], True),
    ("found after it was freed by the same", [COMMITTED, REPLIED, *DONE, FREED, FOUND], False),
    ("found while its writer still commits it", [FOUND, COMMITTED, REPLIED, *DONE, FREED], True),
]


@pytest.mark.parametrize(
    ("rows", "allowed"), [row[1:] for row in KEPT_BY_QMGR], ids=[row[0] for row in KEPT_BY_QMGR]
)
def test_what_qmgr_keeps(rows: list[Row], allowed: bool) -> None:
    writers = WRITERS | {"smtpd": SMTPD, "smtps": 1}
    counts: dict[int, int] = {}
    said = []
    for action, fields in rows:
        pid = writers[action.partition(".")[0]]
        counts[pid] = counts.get(pid, 0) + 1
        said.append(Event(pid=pid, sequence=counts[pid], action=action, fields=fields))
    found = accept(QueueTrace(), said)
    assert found.accepted is allowed, list(map(str, found.refusals))


@pytest.mark.parametrize("status", ["-9", "0"])
@pytest.mark.parametrize("when", ["before its worker spoke", "after its worker spoke"])
def test_the_last_words_of_a_worker_whose_pool_is_dead(status: str, when: str) -> None:
    """A monolith's worker promises and begins to deliver; a runner finds the message and does it.
    That the pool was killed excuses it, also if its end is said before the worker's last words.
    """
    worker = [
        Event(pid=SMTPD, sequence=number, action=action, fields={**fields, "pool": "5"})
        for number, (action, fields) in enumerate(
            [("enqueue.committed", HEAD), REPLIED, one("qmgr.dispatched")], 1
        )
    ]
    end = Event(pid=1, sequence=1, action="daemon.ended", fields={"process": "5", "status": status})
    runner = [
        Event(pid=QMGR, sequence=number, action=action, fields=fields)
        for number, (action, fields) in enumerate([FOUND, *DONE, FREED], 1)
    ]
    first = [end, *worker] if when.startswith("before") else [*worker, end]
    found = accept(QueueTrace(), [*first, *runner])
    assert found.accepted is (status != "0"), list(map(str, found.refusals))
