"""A server is watched while it takes and delivers a few letters: what it does to the disk.

    start -> one letter to warm up -> for each scene: copy the disk, watch, send, wait, let go

Everything that the server's spool and its mailboxes are made of is recorded, from the first octet
of a letter until the queue is empty again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faultinject.books import Books
from faultinject.client import Letter
from faultinject.crash import trees
from faultinject.crash.contexts import Contexts, context_of
from faultinject.crash.recording import TRACED, Reading, Recording
from faultinject.crash.senders import Senders
from faultinject.target import Site, Target, TargetError
from faultinject.tracing import Call, Tracer

DOMAIN: Final = "storm.example"
USERS: Final = ("ada", "bob")
#: Octets of a write that strace shows; no letter here comes near.
STRINGS: Final = 1 << 20
#: Patience for an empty queue; how often it is looked at; quiet after that; when it is flushed.
DRAIN_S, LOOK_S, QUIET_S, FLUSH_S = 60.0, 0.02, 0.3, 1.5
#: What is sent: name -> how many letters at once.
SCENES: Final = {"one": 1, "two": 2}


@dataclass(slots=True, kw_only=True)
class Scene:
    """What was recorded of it. base: a copy of the disk before; books: of all letters so far."""

    name: str
    base: Path
    recording: Recording
    tops: tuple[str, ...]
    owners: dict[str, tuple[int, int]]
    books: Books
    spool: str
    seconds: float = 0.0


def site(directory: Path) -> Site:
    """Local mail only: what is relayed is out of the server's hands, and of this disk."""
    return Site(
        directory=directory, hostname=f"mx.{DOMAIN}", domain=DOMAIN, users=USERS, next_hops={}
    )


def drain(target: Target, patience_s: float = DRAIN_S, unchanged_s: float = math.inf) -> bool:
    """Wait for an empty queue; whether it became so.  unchanged_s: one that has not changed for so
    long, and was tried twice meanwhile, will not change now.  Raises TargetError.
    """
    now_s = changed_s = time.monotonic()
    deadline_s, flush_s = now_s + patience_s, now_s + FLUSH_S
    before, tries = 0, 0
    while left := target.waiting():
        now_s = time.monotonic()
        if left != before:
            before, changed_s, tries = left, now_s, 0
        if now_s > deadline_s or (now_s - changed_s > unchanged_s and tries > 1):
            return False
        if now_s > flush_s:
            flush_s, tries = now_s + FLUSH_S, tries + 1
            with suppress(TargetError):
                target.flush()
        time.sleep(LOOK_S)
    time.sleep(QUIET_S)
    return True


@dataclass(slots=True, kw_only=True)
class Recorder:
    """target: as yet not configured.  place: empty; gets the server, copies and what strace says.

    `record` raises TargetError, TracingError, Unavailable, RefusedError, OSError.
    """

    target: Target
    place: Path
    seed: int
    say: Callable[[str], None]
    _books: Books = field(default_factory=Books)
    _number: int = 0

    def record(self, scenes: Sequence[str]) -> Iterator[Scene]:
        """Each in turn; the server is gone at the end, whatever happens."""
        directory = self.place / "server"
        directory.mkdir(mode=0o711)
        directory.chmod(0o711)
        try:
            self.target.install()
            self.target.configure(site(directory))
            self.target.start()
            for _ in range(2):
                self._send(len(USERS))  # what is made only once is made now
                self._drain()
            for name in scenes:
                self.say(f"{self.target.name}: recording the scene {name!r}")
                yield self._scene(name, directory)
            with suppress(TargetError):
                self.target.stop()
        finally:
            self.target.dispose()

    def _drain(self) -> None:
        """What is recorded ends with an empty queue."""
        if not drain(self.target):
            log = self.target.log_end()
            raise TargetError(f"its queue is not empty after {DRAIN_S:.0f} s:\n{log}")

    def _send(self, count: int) -> Senders:
        senders = Senders(run=f"c{self.seed}", address=self.target.address, books=self._books)
        together = []
        for user in (USERS * count)[:count]:
            self._number += 1
            together.append(
                Letter(
                    number=self._number, sender=f"{USERS[-1]}@{DOMAIN}",
                    recipients=(f"{user}@{DOMAIN}",),
                )
            )  # fmt: skip
        senders.send(together)
        return senders

    def _scene(self, name: str, directory: Path) -> Scene:
        began_s = time.monotonic()
        tops = self._tops(directory)
        base = self.place / f"base-{name}"
        trees.copy(directory, base)
        initial = trees.snapshot(base, tops)
        traced = self.place / f"strace-{name}"
        traced.mkdir()
        processes = self.target.processes()
        known = {each.pid: context_of(each.pid, each.role) for each in processes}
        with Tracer(processes, traced, calls=TRACED, strings=STRINGS) as tracer:
            senders = self._send(SCENES[name])
            self._drain()
        records = list(tracer.records())
        calls = [each for each in records if isinstance(each, Call)]
        contexts = Contexts.of(known, calls, {each.pid for each in records})
        reading = Reading(
            initial, contexts, list(senders.replies), self._place(directory, tops),
            trees.groups(base),
        )  # fmt: skip
        recording = reading.read(calls)
        missing = [each.token for each in reading.replies]
        if missing:
            raise TargetError(f"the replies to {', '.join(missing)} were not seen by strace")
        return Scene(
            name=name, base=base, recording=recording, tops=tops,
            owners=recording.owners | trees.owners(base) | trees.owners(directory),
            books=Books(sendings=dict(self._books.sendings)),
            spool=self._below(self.target.spool, directory),
            seconds=time.monotonic() - began_s,
        )  # fmt: skip

    def _tops(self, directory: Path) -> tuple[str, ...]:
        """Where its queue and its mailboxes lie."""
        found = [self._below(self.target.spool, directory)]
        found += [self._below(each, directory) for each in self.target.mailboxes().values()]
        return tuple(sorted({each.partition("/")[0] for each in found}))

    @staticmethod
    def _below(path: Path, directory: Path) -> str:
        return path.relative_to(directory).as_posix()

    def _place(self, directory: Path, tops: tuple[str, ...]) -> Callable[[str], str | None]:
        names = {inside: str(outside) for inside, outside in self.target.places.items()}
        longest = sorted(names, key=len, reverse=True)

        def place(absolute: str) -> str | None:
            for inside in longest:
                if absolute == inside or absolute.startswith(f"{inside}/"):
                    absolute = names[inside] + absolute[len(inside) :]
                    break
            if not absolute.startswith(f"{directory}/"):
                return None
            relative = absolute[len(str(directory)) + 1 :]
            return relative if trees.is_within(relative, tops) else None

        return place
