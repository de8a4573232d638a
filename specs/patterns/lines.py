"""The channels of a running system, and in which order a siege attacks them.

Theory.  A channel is a socket of one process whose other end another process holds; the kernel
tells which.  Each direction of each channel is attacked once, with one kind of bad frame in turn;
who faces the network attacks with every kind.  Senders take turns, since who dies often in a short
time is started anew only after a pause; who is above all others costs a whole new start, and comes
last, a few times only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from specs.observe.process import Descriptor, Process
from specs.patterns.manifest import Manifest

KINDS: Final = ("garbage", "oversized", "forbidden", "truncated", "descriptors", "unknown message")
#: Receivers that one sender above all others is made to attack.
_FEW: Final = 3


@dataclass(frozen=True, slots=True)
class Line:
    """A channel from its sender's side: both processes, and the descriptor at each end."""

    sender: Process
    end: Descriptor
    receiver: Process
    far: Descriptor

    @property
    def direction(self) -> tuple[str, str]:
        return self.sender.name, self.receiver.name


def lines(processes: Iterable[Process]) -> Iterator[Line]:
    """Every channel between two of these processes, from both sides."""
    by_pid = {each.pid: each for each in processes}
    for sender in by_pid.values():
        for end in sender.descriptors:
            if end.kind != "socket" or end.family != "unix" or end.listening:
                continue
            for pid, number in end.peer:
                receiver = by_pid.get(pid)
                far = numbered(receiver, number) if receiver is not None else None
                if receiver is not None and far is not None and pid != sender.pid:
                    yield Line(sender, end, receiver, far)


def numbered(process: Process, number: int) -> Descriptor | None:
    """A process's descriptor of that number."""
    return next((each for each in process.descriptors if each.number == number), None)


# -- the order ------------------------------------------------------------------------------------

Row = tuple[tuple[str, str], str]
"""A direction and a kind."""


def plan(manifest: Manifest, processes: Iterable[Process]) -> list[Row]:
    """Which direction gets which kinds; those above all others, who cost most, come last.

    Senders take turns: who dies often in a short time is started anew only after a pause.
    """
    turns = cycle(KINDS)
    rows = [(direction, next(turns)) for direction in sorted(directions(manifest, processes))]
    for name in sorted({sender for (sender, _), _ in rows}):
        if _is_exposed(manifest, name):
            rows += _all_kinds([row for row in rows if row[0][0] == name])
    above = {sender for (sender, receiver), _ in rows if receiver == manifest.starter}
    return _in_turn([row for row in rows if row[0][0] not in above]) + _few(
        [row for row in rows if row[0][0] in above], manifest.starter
    )


def _in_turn(rows: list[Row]) -> list[Row]:
    """The first row of each sender, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    numbered = []
    for row in rows:
        seen[row[0][0]] += 1
        numbered.append((seen[row[0][0]], row))
    return [row for _, row in sorted(numbered, key=lambda each: each[0])]


def _few(rows: list[Row], starter: str) -> list[Row]:
    return sorted(rows, key=lambda row: row[0][1] != starter)[:_FEW]


def directions(manifest: Manifest, processes: Iterable[Process]) -> set[tuple[str, str]]:
    """(sender, receiver) of all channels that there are, but from who starts the others."""
    found = {line.direction for line in lines(processes)}
    return {(s, r) for s, r in found if s != manifest.starter}


def _is_exposed(manifest: Manifest, name: str) -> bool:
    """Whether it is the part of a compartment that hears the network."""
    compartment = manifest.of(name)
    return name == compartment.parts[-1] and compartment.hears


def _all_kinds(rows: list[Row]) -> list[Row]:
    """The kinds that one sender's rows lack, to its receivers in turn."""
    receivers = cycle(direction for direction, _ in rows)
    lacking = [kind for kind in KINDS if kind not in {kind for _, kind in rows}]
    return [(next(receivers), kind) for kind in lacking]
