"""Whether a server rests: nobody runs, and nobody was awake since the last look.

A process that was awake between two looks has been switched to and from: the kernel counts that
(voluntary_ctxt_switches in proc_pid_status(5)).  So no server needs to say when it has finished.
What waits for a time to come (a retry) rests, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import trio

from faultinject.processes import Process

#: Nobody may have been awake for so long, in looks, one after the other.
LOOK_S: Final = 0.008
LOOKS: Final = 3

Pulse = tuple[tuple[int, str, int], ...]


def pulse(processes: Iterable[Process]) -> Pulse:
    """(process, state, switches) of each that there is."""
    return tuple(each for process in processes if (each := _look(process.pid)) is not None)


def _look(pid: int) -> tuple[int, str, int] | None:
    with suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            text = status.read()
        state = text.partition("\nState:\t")[2][0]
        switches = text.partition("\nvoluntary_ctxt_switches:\t")[2].split(maxsplit=1)[0]
        return pid, state, int(switches)
    return None


def rests(before: Pulse, now: Pulse) -> bool:
    """Whether all slept, and nobody woke."""
    return before == now and all(state in "SI" for _, state, _ in now)


async def until_quiet(processes: Callable[[], Iterable[Process]], patience_s: float) -> bool:
    """Whether it came to rest within so many seconds."""
    before: Pulse = ()
    calm = 0
    with trio.move_on_after(patience_s):
        while calm < LOOKS:
            now = pulse(await trio.to_thread.run_sync(lambda: list(processes())))
            calm = calm + 1 if rests(before, now) else 0
            before = now
            await trio.sleep(LOOK_S)
        return True
    return False
