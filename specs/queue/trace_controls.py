"""Mutated traces, and mutated system calls, that each rule of acceptance must refuse.

The twin is the sample, accepted; the mutant is the sample with one change, which must be refused by
the rule that is named beforehand. A change that changes nothing does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from specs.kernel.accept import accept
from specs.kernel.control import Control, Verdict
from specs.kernel.lives import Event
from specs.queue.durable import match_syncs
from specs.queue.sample import (
    ADA,
    ADA_0,
    BOB_1,
    BOUNCE,
    CALLS,
    ENQUEUE,
    EVE_0,
    QMGR,
    REMOTE,
    REPORTED,
    SAID,
    SUPERVISOR,
    Said,
    numbered,
)
from specs.queue.trace import QueueTrace

T = TypeVar("T")
Calls = Mapping[int, Sequence[str]]
DELIVERED_TWICE: tuple[Said, ...] = (
    (QMGR, "qmgr.dispatched", ADA_0),
    (ADA, "local.delivered", ADA_0 | {"path": "Maildir/new/m0"}),
)
SENT_TWICE: tuple[Said, ...] = (
    (QMGR, "qmgr.dispatched", EVE_0),
    (REMOTE, "remote.sent", EVE_0),
)


def _find(action: str, queue_id: str = "M", **fields: str) -> int:
    """The place of the last such event."""
    wanted = {"queue_id": queue_id} | fields
    return max(
        place
        for place, (_, name, said) in enumerate(SAID)
        if name == action and wanted.items() <= said.items()
    )


def without(place: int) -> Sequence[Said]:
    return [*SAID[:place], *SAID[place + 1 :]]


def after(place: int, *more: Said) -> Sequence[Said]:
    return [*SAID[: place + 1], *more, *SAID[place + 1 :]]


def changed(place: int, **fields: str) -> Sequence[Said]:
    pid, action, said = SAID[place]
    return [*SAID[:place], (pid, action, {**said, **fields}), *SAID[place + 1 :]]


def gap(place: int) -> list[Event]:
    """An event removed from the file: the others keep their numbers."""
    events = numbered(SAID)
    return [*events[:place], *events[place + 1 :]]


def twice(place: int) -> list[Event]:
    events = numbered(SAID)
    return [*events, events[place]]


#: Name, the rule that must refuse it, the mutated trace.
TRACES: tuple[tuple[str, str, Callable[[], list[Event]]], ...] = (
    ("an event removed", "numbers", lambda: gap(_find("qmgr.deferred"))),
    ("an event doubled", "numbers", lambda: twice(_find("qmgr.freed"))),
    (
        "a process that outlives its generation",
        "lives",
        lambda: numbered(after(_find("qmgr.deferred"), (SUPERVISOR, "supervisor.started", {}))),
    ),
    (
        "a delivery removed, the rest numbered anew",
        "interleaving",
        lambda: numbered(without(_find("local.delivered"))),
    ),
    (
        "a reply removed, the rest numbered anew",
        "ending",
        lambda: numbered(without(_find("smtpd.replied"))),
    ),
    (
        "a lost outcome frame",
        "interleaving",
        lambda: numbered(after(_find("local.delivered"), *DELIVERED_TWICE)),
    ),
    (
        "sent to a next hop twice outside the windows",
        "interleaving",
        lambda: numbered(after(_find("remote.sent", "R"), *SENT_TWICE)),
    ),
    (
        "a mark moved before its delivery",
        "interleaving",
        lambda: numbered(
            [
                *without(_find("qmgr.marked", outcome="delivered"))[:3],
                SAID[_find("qmgr.marked", outcome="delivered")],
                *without(_find("qmgr.marked", outcome="delivered"))[3:],
            ]
        ),
    ),
    (
        "freed before the last outcome",
        "interleaving",
        lambda: numbered(without(_find("qmgr.marked", outcome="reported"))),
    ),
    (
        "a report dropped",
        "interleaving",
        lambda: numbered(
            [
                (pid, action, fields)
                for pid, action, fields in SAID
                if action != "bounce.reported" and fields.get("queue_id") == "M"
            ]
        ),
    ),
    (
        "a failure discarded although there is a sender",
        "interleaving",
        lambda: numbered(changed(_find("qmgr.marked", outcome="reported"), outcome="discarded")),
    ),
    (
        "a second report about one failure",
        "interleaving",
        lambda: numbered(
            after(
                _find("bounce.reported"),
                (ENQUEUE, "enqueue.committed", {"queue_id": "S", "recipients": "1", "sender": ""}),
                (BOUNCE, "bounce.reported", REPORTED | {"report": "S"}),
            )
        ),
    ),
    (
        "a report with a sender",
        "interleaving",
        lambda: numbered(changed(_find("enqueue.committed", "R"), sender="root@example.org")),
    ),
    ("a report about a report", "interleaving", lambda: numbered(_about_a_report())),
    (
        "a report that was not kept",
        "interleaving",
        lambda: numbered(without(_find("enqueue.committed", "R"))),
    ),
    (
        "a recipient that the message does not have",
        "interleaving",
        lambda: numbered(
            after(_find("qmgr.deferred"), (QMGR, "qmgr.deferred", BOB_1 | {"index": "2"}))
        ),
    ),
)


def _about_a_report() -> Sequence[Said]:
    """The report itself fails, and its recipient is told of that."""
    failed = (QMGR, "qmgr.marked", EVE_0 | {"outcome": "failed"})
    told = REPORTED | {"queue_id": "R", "report": "S"}
    return [
        *SAID[: _find("remote.sent", "R")],
        failed,
        (ENQUEUE, "enqueue.committed", {"queue_id": "S", "recipients": "1", "sender": ""}),
        (BOUNCE, "bounce.reported", told),
        (QMGR, "qmgr.marked", EVE_0 | {"outcome": "reported"}),
        (QMGR, "qmgr.freed", {"queue_id": "R"}),
    ]


# ---- system calls -----------------------------------------------------------------------------


def _dropped(pid: int, *, part: str) -> Calls:
    """Without the first such call."""
    return {**CALLS, pid: _without_first(CALLS[pid], part)}


def _without_first(lines: Sequence[str], part: str) -> list[str]:
    place = next(number for number, each in enumerate(lines) if part in each)
    return [*lines[:place], *lines[place + 1 :]]


def _moved(pid: int, *, part: str, before: str) -> Calls:
    """The first call with `part` put before the first with `before`."""
    taken = next(each for each in CALLS[pid] if part in each)
    rest = _without_first(CALLS[pid], part)
    place = next(number for number, each in enumerate(rest) if before in each)
    return {**CALLS, pid: [*rest[:place], taken, *rest[place:]]}


def _failed(pid: int, *, part: str) -> Calls:
    """The first such call fails, and is made again, with success."""
    place = next(number for number, each in enumerate(CALLS[pid]) if part in each)
    error = CALLS[pid][place].replace("= 0", "= -1 EIO (Input/output error)")
    return {**CALLS, pid: [*CALLS[pid][:place], error, *CALLS[pid][place:]]}


FILE, DIRECTORY = "fsync(7", "fsync(8"
SYNCS: tuple[tuple[str, str, Callable[[], Calls]], ...] = (
    ("a chunk's sync dropped", "file_synced", lambda: _dropped(ENQUEUE, part=FILE)),
    ("the queue's sync dropped", "directory_synced", lambda: _dropped(ENQUEUE, part=DIRECTORY)),
    (
        "a commit said before its sync",
        "file_synced",
        lambda: _moved(ENQUEUE, part="enqueue.committed", before=FILE),
    ),
    (
        "a commit said before the queue's sync",
        "directory_synced",
        lambda: _moved(ENQUEUE, part="enqueue.committed", before=DIRECTORY),
    ),
    (
        "a chunk written after its sync",
        "file_synced",
        lambda: _moved(ENQUEUE, part=FILE, before="write(7"),
    ),
    ("a failed sync tried again", "file_synced", lambda: _failed(ENQUEUE, part=FILE)),
    (
        "a failed sync of the queue tried again",
        "directory_synced",
        lambda: _failed(ENQUEUE, part=DIRECTORY),
    ),
    (
        "a delivery said before its sync",
        "directory_synced",
        lambda: _moved(ADA, part="local.delivered", before=DIRECTORY),
    ),
    ("a delivery's sync dropped", "file_synced", lambda: _dropped(ADA, part=FILE)),
    (
        "a delivery into a mailbox that a crash may take",
        "directory_synced",
        lambda: _dropped(ADA, part="fsync(5</home/ada/Maildir>)"),
    ),
    (
        "renamed after the directory's sync",
        "directory_synced",
        lambda: _moved(ADA, part=DIRECTORY, before="renameat"),
    ),
    ("a process that was not traced", "traced", lambda: {ENQUEUE: CALLS[ENQUEUE]}),
)


def controls() -> list[Control]:
    """One per mutated trace, and one per mutated list of system calls."""
    return [
        *(
            _control(name, rule, _trace_verdict, numbered(SAID), make)
            for name, rule, make in TRACES
        ),
        *(_control(name, rule, _syncs_verdict, CALLS, make) for name, rule, make in SYNCS),
    ]


def _trace_verdict(events: list[Event]) -> Verdict:
    found = accept(QueueTrace(), events).refusals
    return Verdict(
        violated=frozenset(each.rule for each in found), detail="; ".join(map(str, found))
    )


def _syncs_verdict(calls: Calls) -> Verdict:
    found = match_syncs(numbered(SAID), calls.get).unproved
    return Verdict(
        violated=frozenset(each.rule for each in found), detail="; ".join(map(str, found))
    )


def _control(
    name: str, rule: str, judge: Callable[[T], Verdict], good: T, make: Callable[[], T]
) -> Control:
    def mutant() -> Verdict:
        mutated = make()
        return replace(judge(mutated), mutated_line_ran=mutated != good)

    return Control(
        name=name, spec="queue/trace", invariant=rule, twin=lambda: judge(good), mutant=mutant
    )
