"""The trace: what the processes have done, event by event, for a spec to accept or refuse.

`serve --trace FILE` opens the file once, to append; every compartment gets the descriptor.  An
event is one line of JSON and one write, so that lines of many processes never mix:

    {"pid": 17, "sequence": 4, "action": "qmgr.freed", "queue_id": "06H072KR0HTJXZ44"}

- `sequence` counts a process's events from 1, without gaps: a line that is missing is noticed.  An
  event with sequence 1 begins another life of a pid that the kernel has given out again.
- All other fields are texts.  Events of a pool's worker also carry `pool`, the pid of its parent:
  when that ends, its workers end with it.
- An end is said by the parent, when the dead one is reaped: NAME.ended, with `process` (its pid)
  and `status` (the exit code, or minus the signal).  Whoever has ended with 0 had finished.
- `supervisor.started` is the first event of a generation: every process of an earlier one is dead.

An event says that something has happened; only strace proves it (`specs.queue.trace`).  Whoever
may write here can lie here: it is for tests, and for finding faults.  Without a file nothing is
written, and an event costs a call of a function that does nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

#: How roles say an event: `trace("qmgr.freed", queue_id=...)`.
Emit = Callable[..., None]


def silent(_action: str, **_fields: object) -> None:
    """No trace."""


class Trace:
    """This process's events; `always` are fields that each of them carries."""

    __slots__ = ("_always", "_descriptor", "_pid", "_sequence")

    def __init__(self, descriptor: int, **always: str) -> None:
        """Takes over a descriptor that is open to append."""
        self._descriptor = descriptor
        self._always = always
        self._pid = os.getpid()
        self._sequence = 0

    def __call__(self, action: str, **fields: object) -> None:
        """Write one event.  A write that fails shows as a gap; it must not stop the mail."""
        self._sequence += 1
        head = {"pid": self._pid, "sequence": self._sequence, "action": action}
        texts = {name: str(value) for name, value in fields.items()}
        line = json.dumps({**head, **self._always, **texts})  # ASCII: all else is escaped
        try:
            os.write(self._descriptor, line.replace("\x7f", "\\u007f").encode("ascii") + b"\n")
        except OSError:
            return
