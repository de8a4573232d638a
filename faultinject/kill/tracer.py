"""A program that follows every process of a server, and strikes one at a system call that matters.

    python -m faultinject.kill.tracer        commands on stdin, answers on stdout: JSON, a line each

    seize {processes: {pid: kind}}                    -> seized {count, refused: [pid]}
    arm {kinds: [...] or null, number, fault, processes: {pid: kind}}      -> armed
                                                      -> hit {...}, when it comes to that
    disarm                                            -> disarmed {calls: [[kind, call, place]]}
    name {process, kind}                              the answer to: who {process}
    go_on {process}                                   SIGCONT

Rules a reader may rely on
- While it is armed, the calls of the processes of these kinds (null: of all) are counted together,
  in the order of their entries; before the `number`-th the fault happens, once (0: never).  Then
  nobody is stopped at calls any more.
- Faults: "kill": SIGKILL to the process, which has not made the call.  "tree": to all at once,
  while the call waits.  "stop": SIGSTOP to it; the call is made, and nothing after it until
  `go_on`.
- A process whose kind isn't known (it was born, or runs another program) waits at its first call
  that matters until its name is told.  So none is counted wrongly, and none is missed.
- Children are followed, whatever they become.  When this program ends, in any way, the kernel kills
  all whom it follows (PTRACE_O_EXITKILL): a harness that is killed leaves no server behind.
- It ends at the end of its stdin.

Nobody's memory or registers are changed, and nobody else is signalled.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from faultinject import ptrace
from faultinject.kill.calls import that_matters
from faultinject.ptrace import Gone, Stop

FAULTS: Final = ("kill", "tree", "stop")
READ_OCTETS: Final = 65536


@dataclass(slots=True)
class Traced:
    """A thread.  process: whose; kind: "" as long as nobody has told it."""

    process: int
    kind: str = ""
    to_call: bool = False  # how it was last resumed
    asked: Stop | None = None  # waits at this call for its name


@dataclass(slots=True)
class Tracer:
    """say: hands an answer over."""

    say: Callable[[Mapping[str, Any]], None]
    threads: dict[int, Traced] = field(default_factory=dict)
    armed: bool = False
    kinds: frozenset[str] | None = None
    number: int = 0
    fault: str = "kill"
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    arming: set[int] = field(default_factory=set)

    # -- commands ---------------------------------------------------------------------------------

    def obey(self, command: Mapping[str, Any]) -> None:
        """One command.  Raises KeyError for an unknown one."""
        {
            "seize": self._seize, "arm": self._arm, "disarm": self._disarm, "name": self._name,
            "go_on": self._go_on,
        }[command["do"]](command)  # fmt: skip

    def _seize(self, command: Mapping[str, Any]) -> None:
        refused = []
        for pid, kind in _numbered(command["processes"]):
            for thread in _threads(pid):
                if thread in self.threads:
                    self.threads[thread].kind = kind
                    continue
                try:
                    ptrace.seize(thread)
                except Gone:
                    continue
                except OSError:  # whoever has just ended can't be followed, and needs not be
                    if ptrace.is_dead(thread):
                        continue
                    if ptrace.tracer_of(thread) != os.getpid():  # else it was born, and is ours
                        refused.append(thread)
                        continue
                traced = self.threads[thread] = Traced(pid, kind)
                if self._counts(traced):  # started anew, and its first calls are to be seen
                    with suppress(Gone):
                        ptrace.interrupt(thread)
        self.say({"said": "seized", "count": len(self.threads), "refused": refused})

    def _arm(self, command: Mapping[str, Any]) -> None:
        """All whose calls count are stopped once, to be resumed to their next call."""
        self._tell_kinds(command["processes"])
        kinds = command["kinds"]
        self.kinds = None if kinds is None else frozenset(kinds)
        self.number, self.fault = command["number"], command["fault"]
        self.calls, self.armed = [], True
        self.arming = set()
        for thread, traced in self.threads.items():
            if self._counts(traced) and not traced.to_call and traced.asked is None:
                with suppress(Gone):
                    ptrace.interrupt(thread)
                    self.arming.add(thread)
        self._say_armed()

    def _say_armed(self) -> None:
        if not self.arming:
            self.say({"said": "armed"})

    def _disarm(self, _: Mapping[str, Any]) -> None:
        self._rest()
        self.say({"said": "disarmed", "calls": self.calls})

    def _rest(self) -> None:
        """Nobody's calls are looked at any more."""
        self.armed = False
        for thread, traced in self.threads.items():
            if traced.asked is not None:
                traced.asked = None
                self._resume(thread)

    def _name(self, command: Mapping[str, Any]) -> None:
        self._tell_kinds({command["process"]: command["kind"]})
        for traced in list(self.threads.values()):
            if traced.process == command["process"] and traced.asked is not None:
                stop, traced.asked = traced.asked, None
                self._entered(stop, traced)

    def _tell_kinds(self, processes: Mapping[Any, str]) -> None:
        kinds = dict(_numbered(processes))
        for traced in self.threads.values():
            traced.kind = kinds.get(traced.process, traced.kind)

    def _go_on(self, command: Mapping[str, Any]) -> None:
        with suppress(ProcessLookupError):
            os.kill(command["process"], signal.SIGCONT)

    # -- stops ------------------------------------------------------------------------------------

    def take(self, stop: Stop) -> None:
        """What a thread has come to; it goes on, unless that is not to be."""
        traced = self.threads.get(stop.thread)
        if stop.kind == "ended":
            self.threads.pop(stop.thread, None)
            self._stopped(stop.thread)
            return
        if traced is None:  # born, and followed by the kernel
            traced = self.threads[stop.thread] = Traced(ptrace.group_of(stop.thread))
            traced.kind = self._kind_of_process(traced.process, stop.thread)
        if stop.kind == "executed":
            traced.kind = ""
        if stop.kind == "grouped":
            with suppress(Gone):
                ptrace.leave_stopped(stop.thread)
        elif stop.kind == "entry" and self.armed:
            self._entered(stop, traced)
        else:
            self._resume(stop.thread, stop.number if stop.kind == "signal" else 0)
        self._stopped(stop.thread)

    def _kind_of_process(self, process: int, thread: int) -> str:
        """Of a new thread of a process that is known; a new process has none yet."""
        if process == thread:
            return ""
        return next((t.kind for t in self.threads.values() if t.process == process), "")

    def _stopped(self, thread: int) -> None:
        if thread in self.arming:
            self.arming.discard(thread)
            self._say_armed()

    def _counts(self, traced: Traced) -> bool:
        """Whether its calls are looked at: of those that have no name yet, too."""
        if not self.armed:
            return False
        return self.kinds is None or not traced.kind or traced.kind in self.kinds

    def _resume(self, thread: int, number: int = 0) -> None:
        traced = self.threads[thread]
        traced.to_call = self._counts(traced)
        with suppress(Gone):
            ptrace.resume(thread, to_call=traced.to_call, number=number)

    def _entered(self, stop: Stop, traced: Traced) -> None:
        """At the entry of a call, in which it waits."""
        name, first = that_matters(stop.number, stop.arguments)
        if not name or not self._counts(traced):
            self._resume(stop.thread)
        elif not traced.kind:
            traced.asked = stop
            self.say({"said": "who", "process": traced.process})
        else:
            place = _place(traced.process, first, stop.arguments)
            self.calls.append((traced.kind, name, place))
            if len(self.calls) == self.number:
                self._strike(stop.thread, traced, name, place)
            else:
                self._resume(stop.thread)

    def _strike(self, thread: int, traced: Traced, name: str, place: str) -> None:
        hit = {
            "said": "hit", "process": traced.process, "kind": traced.kind, "call": name,
            "place": place, "when_s": time.time(),
        }  # fmt: skip
        victims = [traced.process]
        if self.fault == "tree":
            victims += sorted({each.process for each in self.threads.values()} - {*victims})
        number = signal.SIGSTOP if self.fault == "stop" else signal.SIGKILL
        self.say(hit)
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        self._rest()
        if self.fault == "stop":
            self._resume(thread)


def _numbered(processes: Mapping[Any, str]) -> list[tuple[int, str]]:
    """JSON has texts for keys."""
    return [(int(pid), kind) for pid, kind in processes.items()]


def _threads(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(each) for each in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    return []


def _place(process: int, first: str, arguments: tuple[int, ...]) -> str:
    """What the call is about, for people."""
    if first == "fd":
        return ptrace.open_on(process, arguments[0])
    if first in {"path", "at"}:
        return ptrace.text_at(process, arguments[first == "at"])
    return ""


# -- the program ----------------------------------------------------------------------------------


def main() -> None:
    """Until the end of stdin."""

    def say(answer: Mapping[str, Any]) -> None:
        os.write(1, json.dumps(answer).encode("ascii") + b"\n")

    tracer, rest = Tracer(say), b""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the harness ends it
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while True:
        while stop := ptrace.next_stop():
            tracer.take(stop)
        ready = select.select([0, woken], [], [])[0]
        if woken in ready:
            os.read(woken, READ_OCTETS)
        if 0 in ready:
            octets = os.read(0, READ_OCTETS)
            if not octets:
                sys.exit()
            *lines, rest = (rest + octets).split(b"\n")
            for line in lines:
                tracer.obey(json.loads(line))


if __name__ == "__main__":
    main()
