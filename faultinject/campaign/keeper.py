"""The parent of the process that runs a case; process 1, where it has a pid namespace of its own.

    python -m faultinject.campaign.keeper GRACE_S DIRECTORY

It reaps whom nobody else does, and ends when that process has ended, with its exit code.  At the
end of file on stdin (whoever wanted the case is dead, or wants it no longer) it sends SIGINT, waits
for GRACE_S at most, and ends: as process 1 it takes everything along.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from typing import Final

#: How often it looks for children of the dead, in seconds.
REAP_S: Final = 0.5


def main(grace_s: float, directory: str) -> int:
    """Run and reap; returns the exit code, 128 + N for signal N."""
    command = [sys.executable, "-P", "-m", "faultinject.campaign.one", directory]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
    running = os.pidfd_open(child.pid)
    watched, deadline_s = [running, sys.stdin.fileno()], float("inf")
    while time.monotonic() < deadline_s:
        ready, _, _ = select.select(watched, [], [], REAP_S)
        if sys.stdin.fileno() in ready:
            watched.remove(sys.stdin.fileno())
            child.send_signal(signal.SIGINT)
            deadline_s = time.monotonic() + grace_s
        status = _reap(child.pid)
        if status is not None:
            return status
    child.kill()
    return 128 + signal.SIGKILL


def _reap(child: int) -> int | None:
    """All that have ended; the exit code of that child if it is among them."""
    ended = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            ended = code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2]))
