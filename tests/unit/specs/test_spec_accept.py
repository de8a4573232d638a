"""Traces: what the spec does is accepted, whatever the order in the file; mutants are refused."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from specs.kernel.accept import TraceError, accept, read_events
from specs.kernel.explore import name_of
from specs.kernel.lives import Event
from specs.queue.spec import next_states, start
from specs.queue.states import Bounds, Copy, State
from specs.queue.trace import QueueTrace


def numbered(lines: Mapping[int, Sequence[tuple[str, dict[str, str]]]]) -> list[Event]:
    """Events of each process, numbered, one process after the other."""
    return [
        Event(pid=pid, sequence=number, action=action, fields=fields)
        for pid, events in lines.items()
        for number, (action, fields) in enumerate(events, 1)
    ]


def a(recipient: str = "", queue_id: str = "A", **more: str) -> dict[str, str]:
    return {"queue_id": queue_id} | ({"recipient": recipient} if recipient else {}) | more


def two_recipients(queue_id: str = "A") -> dict[int, Sequence[tuple[str, dict[str, str]]]]:
    """One message, five processes: smtpd, enqueue, qmgr, two agents."""
    q = queue_id
    return {
        1: [("smtpd.replied", a("", q))],
        2: [("enqueue.committed", a("", q, recipients="2"))],
        3: [
            ("qmgr.dispatched", a("r1", q)),
            ("qmgr.dispatched", a("r2", q)),
            ("qmgr.marked", a("r2", q)),
            ("qmgr.marked", a("r1", q)),
            ("qmgr.freed", a("", q)),
        ],
        4: [("local.delivered", a("r1", q))],
        5: [("local.delivered", a("r2", q))],
    }


GOOD = numbered(two_recipients())


def refused(events: Sequence[Event], *, running: bool = False) -> list[str]:
    return [str(refusal) for refusal in accept(QueueTrace(running=running), events).refusals]


def test_a_good_trace_is_accepted_in_any_order_of_the_file() -> None:
    generator = random.Random(1)
    for _ in range(50):
        shuffled = generator.sample(GOOD, len(GOOD))
        assert refused(shuffled) == []


def test_an_event_removed_is_a_gap_in_the_numbers() -> None:
    gap = [event for event in GOOD if (event.pid, event.sequence) != (3, 3)]
    assert any("the event before it is lost" in reason for reason in refused(gap))


@pytest.mark.parametrize("gone", range(len(GOOD)))
def test_an_event_removed_without_a_gap_is_refused_too(gone: int) -> None:
    lines = two_recipients()
    pid, number = GOOD[gone].pid, GOOD[gone].sequence
    lines[pid] = [event for place, event in enumerate(lines[pid], 1) if place != number]
    assert refused(numbered(lines)) != []


@pytest.mark.parametrize("again", range(len(GOOD)))
@pytest.mark.parametrize("where", ["beside", "last", "elsewhere"])
def test_an_event_doubled_is_refused(again: int, where: str) -> None:
    lines = {pid: list(line) for pid, line in two_recipients().items()}
    pid, number = GOOD[again].pid, GOOD[again].sequence
    event = lines[pid][number - 1]
    if where == "elsewhere":
        lines[9] = [event]
    else:
        lines[pid].insert(number if where == "beside" else len(lines[pid]), event)
    assert refused(numbered(lines)) != []


def test_a_number_used_twice_is_refused() -> None:
    assert any("used before" in reason for reason in refused([*GOOD, GOOD[0]]))


@pytest.mark.parametrize(("source", "target"), [(s, t) for s in range(5) for t in range(5)])
def test_an_event_moved_within_its_process_is_refused_unless_it_may_be(
    source: int, target: int
) -> None:
    lines = {pid: list(line) for pid, line in two_recipients().items()}
    lines[3].insert(target, lines[3].pop(source))
    order = [(action, fields.get("recipient")) for action, fields in lines[3]]
    allowed = order[-1][0] == "qmgr.freed" and all(
        order.index(("qmgr.dispatched", r)) < order.index(("qmgr.marked", r)) for r in ("r1", "r2")
    )
    assert (refused(numbered(lines)) == []) is allowed


def test_the_first_event_at_which_nothing_survives_is_named() -> None:
    lines = two_recipients()
    lines[4] = []
    reasons = refused(numbered(lines))
    assert reasons == [
        "A: qmgr.marked(queue_id=A, recipient=r1) by process 3, its event 4: "
        "no interleaving allows it"
    ]


def test_messages_are_judged_apart_and_stay_linear() -> None:
    events: list[Event] = []
    for number in range(300):
        one = numbered(two_recipients(f"Q{number}"))
        events += [
            replace(event, sequence=number * (5 if event.pid == 3 else 1) + event.sequence)
            for event in one
        ]
    random.Random(2).shuffle(events)
    found = accept(QueueTrace(), events)
    assert found.accepted
    assert found.keys == 300
    assert found.steps < 300 * 2 * len(GOOD)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({4: [("local.delivered", a("r3"))]}, "no interleaving"),
        ({1: [("smtpd.replied", a("", "B"))]}, "no reply was sent"),
        ({2: [("enqueue.committed", a("", recipients="3"))]}, "no interleaving"),
        ({2: [("enqueue.committed", a("", recipients="1"))]}, "no interleaving"),
    ],
)
def test_wrong_traces(change: dict[int, list[tuple[str, dict[str, str]]]], reason: str) -> None:
    assert any(reason in found for found in refused(numbered(two_recipients() | change)))


AGENT_DIED: dict[int, Sequence[tuple[str, dict[str, str]]]] = {
    1: [("smtpd.replied", a())],
    2: [("enqueue.committed", a(recipients="1"))],
    3: [
        ("qmgr.dispatched", a("r")),
        ("qmgr.returned", a("r")),
        ("qmgr.dispatched", a("r")),
        ("qmgr.marked", a("r")),
        ("qmgr.freed", a()),
    ],
    4: [("local.delivered", a("r")), ("local.ended", {})],
    5: [("local.delivered", a("r"))],
}


def test_a_duplicate_needs_a_death() -> None:
    assert refused(numbered(AGENT_DIED)) == []
    lost_frame = AGENT_DIED | {4: AGENT_DIED[4][:1]}
    assert refused(numbered(lost_frame)) != []
    somebody_else = AGENT_DIED | {4: AGENT_DIED[4][:1], 6: [("qmgr.ended", {})]}
    assert refused(numbered(somebody_else)) != []


def test_a_trace_that_was_cut_off_need_not_be_finished() -> None:
    early = [event for event in GOOD if event.sequence < 4]
    assert refused(early) != []
    assert refused(early, running=True) == []


def test_a_search_without_end_is_a_refusal() -> None:
    lines = {
        2: [("enqueue.committed", a(recipients="30"))],
        3: [("qmgr.dispatched", a(f"r{number}")) for number in range(30)]
        + [("qmgr.marked", a("r99"))],
        **{10 + number: [("local.delivered", a(f"r{number}"))] for number in range(30)},
    }
    found = accept(QueueTrace(), numbered(lines), cap=2000)
    assert not found.accepted
    assert "undecided" in str(found.refusals[0])


def test_reading_a_file() -> None:
    lines = ['{"pid": 3, "sequence": 1, "action": "qmgr.freed", "queue_id": "A"}', "", "{}"]
    assert read_events(lines[:2]) == [
        Event(pid=3, sequence=1, action="qmgr.freed", fields={"queue_id": "A"})
    ]
    with pytest.raises(TraceError, match="line 3"):
        read_events(lines)


# ---- the trace spec allows what the queue spec does -----------------------------------------

SUPERVISOR = 50


class Recorder:
    """Turns the queue spec's actions into the events that processes would write."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.pids = {"enqueue": 100, "qmgr": 200, "bounce": 300}
        self.agents: dict[str, tuple[str, int]] = {}
        self.next_pid = 1000

    def fresh(self) -> int:
        self.next_pid += 1
        return self.next_pid

    def write(self, pid: int, action: str, **fields: str) -> None:
        sequence = 1 + sum(event.pid == pid for event in self.events)
        self.events.append(Event(pid=pid, sequence=sequence, action=action, fields=fields))

    def ended(self, role: str, pid: int) -> None:
        self.write(SUPERVISOR, f"{role}.ended", process=str(pid), status="-9")

    def killed(self, role: str) -> None:
        self.ended(role, self.pids[role])
        self.pids[role] = self.fresh()

    def step(self, action: str, before: State, after: State) -> None:
        name, _, rest = action.partition("(")
        where = rest.rstrip(")").split(",")
        match name:
            case "enqueue.killed" | "qmgr.killed" | "bounce.killed":
                self.killed(name.partition(".")[0])
            case "smtpd.killed" | "connection.lost":
                self.ended("smtpd", self.fresh())
            case "qmgr.restarted":
                for role, pid in self.agents.values():
                    self.ended(role, pid)
                self.agents.clear()
                self.killed("bounce")
            case "enqueue.committed":
                for queue_id, copy, null in newly(after, before, "listed"):
                    count, sender = str(len(copy.recipients)), "" if null else "sender"
                    self.write(
                        self.pids["enqueue"],
                        name,
                        queue_id=queue_id,
                        recipients=count,
                        sender=sender,
                    )
            case "enqueue.restarted":
                for queue_id, _, _ in newly(after, before, "listed"):
                    self.write(self.pids["enqueue"], "enqueue.recovered", queue_id=queue_id)
            case "smtpd.replied":
                self.write(self.fresh(), name, queue_id=changed(before, after))
            case "qmgr.freed":
                self.write(self.pids["qmgr"], name, queue_id=changed(before, after))
            case "bounce.reported":
                self.reported(before, after)
            case _ if len(where) > 1:
                self.recipient(name, changed(before, after), where[1], alive=after.qmgr)

    def reported(self, before: State, after: State) -> None:
        ((report, copy, _),) = newly(after, before, "acknowledged")
        (mail,) = [mail for mail in after.mails if copy in mail.copies]
        failed = mail.copies[copy.about]
        self.write(
            self.pids["bounce"],
            "bounce.reported",
            queue_id=str(failed.queue_id),
            report=report,
            recipients=str(sum(each.phase == "told" for each in failed.recipients)),
            kind="failed",
            to="sender",
        )

    def recipient(self, name: str, queue_id: str, index: str, *, alive: bool) -> None:
        key, qmgr = f"{queue_id}/{index}", self.pids["qmgr"]
        fields = {"queue_id": queue_id, "index": index, "recipient": f"r{index}"}
        outcomes = {
            "qmgr.marked": "delivered",
            "qmgr.failed": "failed",
            "qmgr.expired": "failed",
            "qmgr.reported": "reported",
            "qmgr.discarded": "discarded",
        }
        role = name.partition(".")[0]
        if name == "qmgr.dispatched":
            self.agents[key] = ("agent", self.fresh())
            self.write(qmgr, name, **fields)
        elif name == "qmgr.deferred":
            self.write(qmgr, name, **fields)
        elif name in outcomes:
            self.write(qmgr, "qmgr.marked", **fields, outcome=outcomes[name])
        elif name in {"local.delivered", "remote.sent"}:
            self.agents[key] = (role, self.agents[key][1])
            self.write(self.agents[key][1], name, **fields)
        elif name in {"local.killed", "remote.killed"}:
            self.ended(role, self.agents.pop(key)[1])
            if alive:
                self.write(qmgr, "qmgr.returned", **fields)


def newly(after: State, before: State, what: str) -> list[tuple[str, Copy, bool]]:
    """Copies of which this has become true: queue id, copy, whether the sender is null."""
    known = {copy.queue_id for mail in before.mails for copy in mail.copies if getattr(copy, what)}
    return [
        (str(copy.queue_id), copy, not mail.has_sender(copy))
        for mail in after.mails
        for copy in mail.copies
        if getattr(copy, what) and copy.queue_id not in known
    ]


def changed(before: State, after: State) -> str:
    """The queue id of the only copy that differs."""
    pairs = [
        (old, new)
        for mail_before, mail_after in zip(before.mails, after.mails, strict=True)
        for old, new in zip(mail_before.copies, mail_after.copies, strict=True)
        if old != new
    ]
    assert len(pairs) == 1
    return str(pairs[0][1].queue_id)


BOUNDS = [
    Bounds(recipients=("ll", "l"), resends=1, faults=2),
    Bounds(recipients=("lr", "r"), resends=1, faults=2, setbacks=2),
    Bounds(recipients=("rr",), resends=1, faults=1, setbacks=3),
    Bounds(recipients=("lr",), resends=1, faults=2, setbacks=1, null=True),
]


def walk(seed: int, bounds: Bounds) -> Iterator[tuple[str, State, State]]:
    """A random behaviour of the queue spec, to its end; the machine itself does not crash."""
    generator = random.Random(seed)
    state = next(iter(start(bounds)))
    while True:
        steps = [
            (action, after)
            for action, after in next_states(state, bounds)
            if not action.startswith("machine")
        ]
        if not steps:
            return
        faulty = [step for step in steps if step[1].faults < state.faults]
        calm = [step for step in steps if step not in faulty]
        action, after = generator.choice(
            faulty if faulty and (not calm or generator.random() < 0.1) else calm
        )
        yield action, state, after
        state = after


def recorded(seed: int, bounds: Bounds) -> tuple[list[Event], list[str]]:
    """The events of a random behaviour, and its actions."""
    recorder, actions = Recorder(), []
    for action, before, after in walk(seed, bounds):
        recorder.step(action, before, after)
        actions.append(name_of(action))
    return recorder.events, actions


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_every_behaviour_of_the_queue_spec_is_accepted_in_any_order(bounds: Bounds) -> None:
    duplicates = 0
    for seed in range(150):
        events, _ = recorded(seed, bounds)
        random.Random(seed).shuffle(events)
        assert refused(events) == [], f"seed {seed}"
        done = [e for e in events if e.action in {"local.delivered", "remote.sent"}]
        duplicates += len(done) - len({tuple(event.fields.values()) for event in done})
    assert duplicates > 5 or bounds.faults < 2
