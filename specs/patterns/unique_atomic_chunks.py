"""Unique Atomic Chunks: one uniquely named unit per message, published by one atomic step.

Judged on what the kernel was asked while some messages went all the way (`calls`), and on what is
left when everything is killed in the middle (`cut`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from specs.patterns.calls import Call, watched
from specs.patterns.claims import Bench, Claim, Experiment
from specs.patterns.cut import Cut, cut
from specs.patterns.observation import Observation
from specs.patterns.world import letter, session

PATTERN: Final = "unique_atomic_chunks"
WAY, CUT = "unique_atomic_chunks.way", "unique_atomic_chunks.cut"
#: Messages whose way is watched.
MESSAGES: Final = 4
WATCHED: Final = (
    "openat,open,creat,write,pwrite64,writev,sendto,sendmsg,fsync,fdatasync,rename,renameat,"
    "renameat2,link,linkat,unlink,unlinkat,flock,fcntl,truncate,ftruncate"
)
_SYNCS, _SAYS = ("fsync", "fdatasync"), ("write", "writev", "sendto", "sendmsg")
_LOCKS: Final = ("F_SETLK", "F_SETLKW", "F_OFD_SETLK", "F_OFD_SETLKW", "F_SETLEASE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """tokens: of the messages that were sent.  queue, mailboxes: the directories of the units, as
    seen from outside.  calls: all of them, by their beginnings.
    """

    tokens: tuple[str, ...]
    queue: str
    mailboxes: tuple[str, ...]
    calls: tuple[Call, ...]


def way(bench: Bench) -> Way:
    """Send messages while every process is watched, until each is delivered and gone."""
    processes = {each.pid: each.name for each in bench.target.processes()}
    address = next(iter(bench.target.mailboxes()))
    tokens = tuple(f"way{number}{os.getpid()}x" for number in range(MESSAGES))
    with watched(processes, WATCHED, bench.directory) as calls:
        for token in tokens:
            _send(bench.target.address, address, token)
        bench.settle()
        bench.settle()  # when this one is delivered, those before it are freed
    return Way(
        tokens=tokens,
        queue=str(bench.target.spool),
        mailboxes=tuple(str(each.parent) for each in bench.target.mailboxes().values()),
        calls=tuple(calls),
    )


def _send(address: tuple[str, int], recipient: str, token: str) -> None:
    with session(address) as client:
        for line in ("EHLO client.test", "MAIL FROM:<>", f"RCPT TO:<{recipient}>", "DATA"):
            client.say(line)
        client.connection.sendall(letter(token) + b".\r\n")
        client.reply()


# -- the way of one message -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unit:
    """A file that got a message: its path while it was written, and every name that it had."""

    path: str
    names: tuple[str, ...]
    created: Call | None
    written: float


def units(way: Way, token: str, below: tuple[str, ...]) -> list[Unit]:
    """The files below some directories into which this message was written."""
    paths = {
        call.place: call.until
        for call in way.calls
        if call.name in ("write", "writev", "pwrite64")
        and token in call.arguments
        and call.place.startswith(tuple(f"{each}/" for each in below))
    }
    return [
        Unit(path, tuple(_names(way, path)), _creation(way, path), written)
        for path, written in paths.items()
    ]


def _names(way: Way, path: str, before: float = math.inf) -> Iterator[str]:
    """One after the other, as far as they were given before a moment."""
    yield path
    for call in way.calls:
        gives = call.name.startswith(("rename", "link")) and call.result == 0
        if gives and call.until <= before and path in call.paths[:1]:
            yield call.paths[1]
            path = call.paths[1]


def _creation(way: Way, path: str) -> Call | None:
    created = (c for c in way.calls if "O_CREAT" in c.arguments and c.opened == path)
    return next(created, None)


def _synced(way: Way, paths: tuple[str, ...], after: float, before: float) -> bool:
    """Whether a sync of one of these paths began after one moment and ended before another."""
    return any(
        call.name in _SYNCS and call.result == 0 and call.place in paths
        and call.at >= after and call.until <= before
        for call in way.calls
    )  # fmt: skip


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def answered(way: Way) -> Iterator[Call]:
    """The replies to the ends of data, in their order: on a socket, the first 2xx after a 354."""
    waiting: set[tuple[int, str]] = set()
    for call in way.calls:
        if call.name not in _SAYS or not call.place.startswith(("socket:", "TCP")):
            continue
        line = call.pid, call.place
        if '"354' in call.arguments:
            waiting.add(line)
        elif line in waiting and '"250' in call.arguments:
            waiting.remove(line)
            yield call


# -- the claims -----------------------------------------------------------------------------------


def _seen(observation: Observation) -> Way:
    return observation.result(WAY, Way)


def _reply_after_syncs(observation: Observation) -> tuple[str, ...]:
    way, wrong = _seen(observation), []
    replies = list(answered(way))
    for token in way.tokens:
        held = units(way, token, (way.queue,))
        if not held:
            wrong.append(f"{token}: no file of the queue got it")
        for unit in held:
            reply = next((each for each in replies if each.at >= unit.written), None)
            wrong += [f"{token}: {each}" for each in _promise(way, unit, reply)]
    return tuple(wrong)


def _promise(way: Way, unit: Unit, reply: Call | None) -> Iterator[str]:
    if reply is None:
        yield "no 250 after it was written"
        return
    if not _synced(way, unit.names, unit.written, reply.at):
        yield f"{unit.path} was not synced between its last write and the 250"
    created = unit.created.until if unit.created else 0.0
    place = _directory([*_names(way, unit.path, reply.at)][-1])
    if not _synced(way, (place,), created, reply.at):
        yield f"{place} was not synced between its creation and the 250"


def _freed_after_delivery(observation: Observation) -> tuple[str, ...]:
    way, wrong = _seen(observation), []
    for token in way.tokens:
        queued = units(way, token, (way.queue,))
        kept = units(way, token, way.mailboxes)
        removals = [
            call
            for call in way.calls
            for unit in queued
            if call.name.startswith("unlink") and call.result == 0 and unit.names[-1] in call.paths
        ]
        if not kept or not removals:
            wrong.append(f"{token}: {len(kept)} files in mailboxes, {len(removals)} removals")
        for unit in kept:
            wrong += [
                f"{token}: {removal.paths[-1]} was unlinked before {unit.names[-1]} was durable"
                for removal in removals
                if not _is_durable(way, unit, removal.at)
            ]
    return tuple(wrong)


def _is_durable(way: Way, unit: Unit, at: float) -> bool:
    """What was written was synced then, and so was its name, unless it is older than all this."""
    named = [
        call.until
        for call in way.calls
        if call.name.startswith(("rename", "link")) and call.paths[1:2] == unit.names[-1:]
    ]
    since = named or ([unit.created.until] if unit.created else [])
    place = (_directory(unit.names[-1]),)
    return _synced(way, unit.names, unit.written, at) and (
        not since or _synced(way, place, max(since), at)
    )


def _unique(observation: Observation) -> tuple[str, ...]:
    """Every file is made under a name that was free, and none twice."""
    way, wrong = _seen(observation), []
    places = tuple(f"{each}/" for each in (way.queue, *way.mailboxes))
    made: set[str] = set()
    for call in way.calls:
        if "O_CREAT" not in call.arguments or not call.opened.startswith(places):
            continue
        if "O_EXCL" not in call.arguments:
            wrong.append(f"{call.process} made {call.opened}, or took what was there")
        if call.opened in made:
            wrong.append(f"{call.process} made {call.opened} a second time")
        made.add(call.opened)
    return tuple(wrong) if made else ("no file was made",)


def _no_locks(observation: Observation) -> tuple[str, ...]:
    way = _seen(observation)
    held = [f"process {each.pid} holds a {each.kind} on {each.path}" for each in observation.locks]
    asked = [
        f"{call.process} asked for a lock: {call.name}({call.arguments})"
        for call in way.calls
        if call.name == "flock" or (call.name == "fcntl" and _is_lock(call.arguments))
    ]
    return (*held, *asked)


def _is_lock(arguments: str) -> bool:
    return any(f", {each}" in arguments for each in _LOCKS)


def _absent_or_whole(observation: Observation) -> tuple[str, ...]:
    found = observation.result(CUT, Cut)
    nothing = () if found.killed and found.answered else ("nothing was cut",)
    return (*nothing, *found.torn)


def _nothing_lost(observation: Observation) -> tuple[str, ...]:
    found = observation.result(CUT, Cut)
    nothing = () if found.killed and found.answered else ("nothing was cut",)
    lost = (f"{token} was answered with 250 and never arrived" for token in found.lost)
    return (*nothing, *lost)


EXPERIMENTS: Final = (Experiment(WAY, way), Experiment(CUT, cut, destructive=True))
CLAIMS: Final = (
    Claim(
        PATTERN, "no_reply_before_syncs",
        "No 250 is sent before the message's file and its name are synced.", _reply_after_syncs,
    ),
    Claim(
        PATTERN, "freed_after_delivery",
        "A message leaves the queue after its delivery is synced, file and name.",
        _freed_after_delivery,
    ),
    Claim(PATTERN, "names_are_unique", "Each file is made under a name nobody used.", _unique),
    Claim(PATTERN, "no_locks", "No file of queue and mailboxes is ever locked.", _no_locks),
    Claim(
        PATTERN, "absent_or_whole",
        "When all processes are killed at once, each message is absent or whole.",
        _absent_or_whole,
    ),
    Claim(
        PATTERN, "nothing_answered_is_lost",
        "When all processes are killed at once, each message that was answered arrives.",
        _nothing_lost,
    ),
)  # fmt: skip
