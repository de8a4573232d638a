"""The tracer (`tracer`), for the harness: a program of its own, driven by lines of JSON.

Why a program of its own: ptrace(2) knows a thread, and wants its waitpid(2); and whoever is traced
by a program that ends is killed by the kernel, so that nothing stays of a harness that is killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from faultinject.processes import Process

#: How long the tracer may take for an answer, in seconds.
ANSWER_S: Final = 30.0
READ_OCTETS: Final = 65536


class GripError(Exception):
    """The tracer died, does not answer, or may not trace; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Where a fault happened.  call: before which one.  when_s: seconds since 1970."""

    process: int
    kind: str
    call: str
    place: str
    when_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A call that matters.  place: the file or socket that it is about, for people."""

    kind: str
    call: str
    place: str


@dataclass(slots=True)
class Grip:
    """processes: the server's, as they are now; called often, from a thread."""

    processes: Callable[[], Iterable[Process]]
    running: trio.Process
    hit: Hit | None = None
    struck: trio.Event = field(default_factory=trio.Event)
    _turn: trio.Lock = field(default_factory=trio.Lock)
    _waits: dict[str, trio.Event] = field(default_factory=dict)
    _answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _over: bool = False

    async def seize(self) -> None:
        """Follow all processes of the server.  Raises GripError."""
        count = -1
        while True:  # some are born while others are seized, and these are followed by then
            answer = await self._ask({"do": "seize", "processes": await self._kinds()}, "seized")
            if answer["refused"]:
                raise GripError(f"processes may not be traced: {answer['refused']}")
            if answer["count"] == count:
                return
            count = answer["count"]

    async def arm(self, kinds: Iterable[str] | None, number: int, fault: str = "kill") -> None:
        """From now on count the calls of these kinds of processes (None: all); strike before the
        `number`-th, once (0: never).  Raises GripError.
        """
        self.hit, self.struck = None, trio.Event()
        command = {
            "do": "arm", "kinds": None if kinds is None else sorted(kinds), "number": number,
            "fault": fault, "processes": await self._kinds(),
        }  # fmt: skip
        await self._ask(command, "armed")

    async def disarm(self) -> tuple[Seen, ...]:
        """Count no more; the calls that were counted.  Raises GripError."""
        answer = await self._ask({"do": "disarm"}, "disarmed")
        return tuple(Seen(*each) for each in answer["calls"])

    async def go_on(self, process: int) -> None:
        """SIGCONT to who was stopped."""
        await self._send({"do": "go_on", "process": process})

    async def _kinds(self) -> dict[int, str]:
        found = await trio.to_thread.run_sync(lambda: list(self.processes()))
        return {each.pid: each.kind for each in found}

    # -- the program ------------------------------------------------------------------------------

    async def _send(self, command: Mapping[str, Any]) -> None:
        if self.running.stdin is None or self._over:
            raise GripError("the tracer has ended")
        try:
            await self.running.stdin.send_all(json.dumps(command).encode("ascii") + b"\n")
        except trio.BrokenResourceError:
            raise GripError("the tracer has ended") from None

    async def _ask(self, command: Mapping[str, Any], answer: str) -> Mapping[str, Any]:
        async with self._turn:
            self._waits[answer] = trio.Event()
            await self._send(command)
            with trio.move_on_after(ANSWER_S):
                await self._waits[answer].wait()
                if not self._over:
                    return self._answers.pop(answer)
            raise GripError("the tracer has ended" if self._over else "the tracer is silent")

    async def listen(self) -> None:
        """Take what it says, until it ends."""
        rest = b""
        while self.running.stdout is not None:
            octets = await self.running.stdout.receive_some(READ_OCTETS)
            if not octets:
                break
            *lines, rest = (rest + octets).split(b"\n")
            for line in lines:
                await self._take(json.loads(line))
        self._over = True
        for event in self._waits.values():
            event.set()

    async def _take(self, said: dict[str, Any]) -> None:
        what = said.pop("said")
        if what == "who":
            kind = await self._kind_of(said["process"])
            await self._send({"do": "name", "process": said["process"], "kind": kind})
        elif what == "hit":
            self.hit = Hit(**said)
            self.struck.set()
        else:
            self._answers[what] = said
            self._waits[what].set()

    async def _kind_of(self, process: int) -> str:
        """As the target calls it, else by the name of its program."""
        kind = (await self._kinds()).get(process)
        return kind if kind is not None else f"other {_program(process)}"


def _program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return "ended"


@asynccontextmanager
async def gripping(processes: Callable[[], Iterable[Process]]) -> AsyncIterator[Grip]:
    """A tracer that follows nobody yet; whom it follows at the end is killed.  Raises GripError."""
    running = await trio.lowlevel.open_process(
        [sys.executable, "-m", "faultinject.kill.tracer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    grip = Grip(processes, running)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grip.listen)
            yield grip
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            running.terminate()
            await running.wait()
            for stream in (running.stdin, running.stdout):
                if stream is not None:
                    await stream.aclose()
