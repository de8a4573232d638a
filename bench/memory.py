"""Memory of a server: its proportional share when idle, and what one large message adds.

Growth is the peak of a process's resident memory while the message passes through, above what it
had when idle; the kernel's peak is reset before, so that nothing between two looks is missed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from bench.target import Target

RESET_PEAK = "5"  # proc(5), clear_refs: VmHWM becomes the present resident size
KIB = 1024


def pss_octets(process: int) -> int:
    """Proportional set size; 0 when the process is gone."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)
    return int(found[1]) * KIB if found else 0


def pss_by_role(target: Target) -> dict[str, int]:
    """Proportional set size of all processes of a role together, in octets."""
    shares: dict[str, int] = {}
    for process, role in target.roles().items():
        shares[role] = shares.get(role, 0) + pss_octets(process)
    return shares


def status_octets(process: int, field: str) -> int:
    """A size of /proc/PID/status; 0 when the process is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * KIB if found else 0


class Growth:
    """Watches the resident memory of every process of a target, also of those that come later."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.idle: dict[int, int] = {}
        self.peak: dict[int, int] = {}
        self.roles = target.roles()
        self.look()

    def look(self) -> None:
        """Take note of new processes and of peaks; call it now and then."""
        for process in self.target.processes():
            if process not in self.idle:
                self.begin(process)
            self.peak[process] = max(self.peak[process], status_octets(process, "VmHWM"))

    def begin(self, process: int) -> None:
        """A process seen for the first time: its present size is where it starts from."""
        with suppress(OSError):  # gone already
            Path(f"/proc/{process}/clear_refs").write_text(RESET_PEAK, encoding="ascii")
        self.idle[process] = self.peak[process] = status_octets(process, "VmRSS")

    def by_role(self) -> dict[str, int]:
        """The largest growth of a process in each role, in octets."""
        self.look()
        self.roles |= self.target.roles()
        grown: dict[str, int] = {}
        for process, peak in self.peak.items():
            role = self.roles.get(process, "?")
            grown[role] = max(grown.get(role, 0), peak - self.idle[process])
        return grown
