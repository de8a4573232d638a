"""Whether a process has finished what it does when it begins.

Theory.  A process that has just been started is not yet what it will be: it loads its program, and
confines itself only then.  Nobody may judge it, or seize it, before.  From outside no event says
that it is ready; but a server's process that is ready waits.  So it is at rest if it sleeps, and
has used no processor and given none away between two looks: one that loads its program does both
all the time, and one that is kept from the processor is shown as runnable.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: Between two looks; and how long to wait for one that never rests (it is busy: then it is ready).
PAUSE_S: Final = 0.03
PATIENCE_S: Final = 5.0
_SLEEPS: Final = "S"


def await_rest(pids: Iterable[int], patience_s: float = PATIENCE_S) -> None:
    """Return when each of them was at rest once, or is gone, or patience is over."""
    deadline = time.monotonic() + patience_s
    before = {pid: _signs(pid) for pid in pids}
    while before and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        now = {pid: _signs(pid) for pid in before}
        before = {
            pid: signs
            for pid, signs in now.items()
            if signs and not (signs == before[pid] and signs[0] == _SLEEPS)
        }


def _signs(pid: int) -> tuple[str, ...]:
    """State, processor time, switches; () if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ()
    if fields[0] in "ZX":
        return ()
    switches = [line for line in status.splitlines() if "ctxt_switches" in line]
    return (fields[0], fields[11], fields[12], *switches)
