"""What the kernel says of a process of ours, not what it says of itself: /proc/PID.

A process that may not be looked into (not dumpable) shows root, namespaces and memory to root only;
what can't be seen is None, and never taken for absent.  Landlock is nowhere in /proc: whether a
process has it is known from its architecture's name, with which it was started, and from its
being there at all, since it refuses to start if its proof fails.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

#: linux/capability.h, in the order of their bits.
CAPABILITIES: Final = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
NAMESPACES: Final = ("user", "net", "mnt")


def observed(pid: int) -> dict[str, Any]:
    """uid, root, capabilities (names), no_new_privs, seccomp (whether there is a filter),
    namespaces (name -> whether it is another than ours), pss_kib; each None if unknown.
    """
    status = _status(pid)
    return {
        "uid": _number(status.get("Uid", "").split()[1:2]),
        "root": _link(f"/proc/{pid}/root"),
        "capabilities": capabilities(status.get("CapEff")),
        "no_new_privs": _flag(status.get("NoNewPrivs"), "1"),
        "seccomp": _flag(status.get("Seccomp"), "2"),
        "namespaces": {each: _own(pid, each) for each in NAMESPACES},
        "pss_kib": _pss(pid),
    }


def capabilities(mask: str | None) -> list[str] | None:
    """The names of the bits of a hexadecimal mask; a bit without a name gets its number."""
    if mask is None:
        return None
    bits = int(mask, 16)
    held = [bit for bit in range(bits.bit_length()) if bits >> bit & 1]
    return [CAPABILITIES[bit] if bit < len(CAPABILITIES) else str(bit) for bit in held]


def _status(pid: int) -> dict[str, str]:
    """Empty if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    rows = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in rows}


def _number(words: list[str]) -> int | None:
    return int(words[0]) if words else None


def _flag(value: str | None, wanted: str) -> bool | None:
    return None if value is None else value == wanted


def _link(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return str(Path(path).readlink())
    return None


def _own(pid: int, namespace: str) -> bool | None:
    theirs = _link(f"/proc/{pid}/ns/{namespace}")
    return None if theirs is None else theirs != _link(f"/proc/self/ns/{namespace}")


def _pss(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return None
