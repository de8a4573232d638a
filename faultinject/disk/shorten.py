"""A program that makes writes shorter: the kernel really writes fewer octets, and says so.

    python -m faultinject.disk.shorten FIRST LAST DIRECTORY... < PIDS

strace can't do this: with a return value of its own it skips the call.  So the processes are
followed by ptrace(2), and at the entry of a write to a file below one of the directories the length
in the register is halved (of a writev the number of parts); at its end the register is what it was.
Such writes are counted over all processes and threads together, in the order of their entries;
those from the FIRST to the LAST (0: to the end) are shortened.  Writes of one octet don't count.

It reads process numbers from stdin, a line of them, says "ready" when it has them all, then a line
for each write that it shortened; at the end of stdin it lets go of everybody and ends.  The
kernel does the same if it is killed: nobody dies with it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from faultinject import ptrace
from faultinject.disk.calls import is_below
from faultinject.ptrace import Gone, Stop

#: x86_64: number of the call -> name.
WRITES: Final = {1: "write", 18: "pwrite64", 20: "writev"}


@dataclass(slots=True)
class Shortener:
    """changed: thread -> what its register held, while it is in a shortened call."""

    first: int
    last: int
    directories: tuple[str, ...]
    count: int = 0
    followed: set[int] = field(default_factory=set)
    changed: dict[int, int] = field(default_factory=dict)

    def seize(self, process: int) -> None:
        """All of its threads; nobody, if it has ended."""
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208
                with suppress(Gone, PermissionError):  # it has ended, or is just being reaped
                    ptrace.seize(int(thread), to_the_death=False)
                    self.followed.add(int(thread))
                    ptrace.interrupt(int(thread))

    def take(self, stop: Stop) -> None:
        """One stop; the thread goes on to its next call."""
        if stop.kind == "ended":
            self.followed.discard(stop.thread)
            self.changed.pop(stop.thread, None)
            return
        self.followed.add(stop.thread)
        with suppress(Gone):
            if stop.kind == "grouped":
                ptrace.leave_stopped(stop.thread)
                return
            self._restore(stop.thread)
            if stop.kind == "entry" and stop.number in WRITES:
                self._shorten(stop)
            number = stop.number if stop.kind == "signal" else 0
            ptrace.resume(stop.thread, to_call=True, number=number)

    def _shorten(self, stop: Stop) -> None:
        descriptor, length = stop.arguments[0], stop.arguments[2]
        place = ptrace.open_on(ptrace.group_of(stop.thread), descriptor)
        if length < 2 or not is_below(place, self.directories):
            return
        self.count += 1
        if self.count < self.first or (self.last and self.count > self.last):
            return
        self.changed[stop.thread] = length
        ptrace.change_third(stop.thread, length // 2)
        say(f"{WRITES[stop.number]} {length} {length // 2} {place}")

    def _restore(self, thread: int) -> None:
        """The caller may count on the register: it is no result."""
        if thread in self.changed:
            ptrace.change_third(thread, self.changed.pop(thread))

    def release(self) -> None:
        """Everybody; each has to stop for it."""
        for thread in tuple(self.followed):
            with suppress(Gone):
                ptrace.interrupt(thread)
        while self.followed:
            select.select([], [], [], 0.001)
            while stop := ptrace.next_stop():
                if stop.kind != "ended":
                    with suppress(Gone):
                        self._restore(stop.thread)
                        number = stop.number if stop.kind == "signal" else 0
                        ptrace.release(stop.thread, number)
                self.followed.discard(stop.thread)


def say(line: str) -> None:
    """At once."""
    os.write(1, line.encode("utf-8", "surrogateescape") + b"\n")


def main(first: int, last: int, directories: tuple[str, ...]) -> None:
    """Until the end of stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the harness ends it
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    shortener = Shortener(first, last, directories)
    for process in sys.stdin.buffer.readline().split():
        shortener.seize(int(process))
    say("ready")
    while True:
        while stop := ptrace.next_stop():
            shortener.take(stop)
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 65536)
        if 0 in ready and not os.read(0, 65536):
            break
    shortener.release()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3:]))
