"""The system calls before which a process may be killed: those that change a file, and those that
tell somebody something (the client, a next hop, another process of the server).

A death before any other call can't be told from a death before the next of these: what it does
in between nobody sees.  Numbers are those of x86_64 (asm/unistd_64.h).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Final

MACHINE: Final = "x86_64"
#: Number -> (name, what its first argument is: "fd", "path", "at" (a directory, then a path), "").
CALLS: Final[dict[int, tuple[str, str]]] = {
    1: ("write", "fd"), 18: ("pwrite64", "fd"), 20: ("writev", "fd"), 296: ("pwritev", "fd"),
    328: ("pwritev2", "fd"),
    26: ("msync", ""), 74: ("fsync", "fd"), 75: ("fdatasync", "fd"), 162: ("sync", ""),
    277: ("sync_file_range", "fd"), 306: ("syncfs", "fd"),
    76: ("truncate", "path"), 77: ("ftruncate", "fd"), 285: ("fallocate", "fd"),
    2: ("open", "path"), 85: ("creat", "path"), 257: ("openat", "at"),
    82: ("rename", "path"), 264: ("renameat", "at"), 316: ("renameat2", "at"),
    86: ("link", "path"), 265: ("linkat", "at"), 87: ("unlink", "path"), 263: ("unlinkat", "at"),
    88: ("symlink", "path"), 266: ("symlinkat", "path"), 83: ("mkdir", "path"),
    258: ("mkdirat", "at"), 84: ("rmdir", "path"), 133: ("mknod", "path"), 259: ("mknodat", "at"),
    90: ("chmod", "path"), 91: ("fchmod", "fd"), 268: ("fchmodat", "at"), 92: ("chown", "path"),
    93: ("fchown", "fd"), 94: ("lchown", "path"), 260: ("fchownat", "at"),
    132: ("utime", "path"), 235: ("utimes", "path"), 280: ("utimensat", "at"),
    40: ("sendfile", "fd"), 275: ("splice", "fd"), 326: ("copy_file_range", "fd"),
    44: ("sendto", "fd"), 46: ("sendmsg", "fd"), 307: ("sendmmsg", "fd"), 42: ("connect", "fd"),
    48: ("shutdown", "fd"), 62: ("kill", ""), 424: ("pidfd_send_signal", "fd"),
}  # fmt: skip
#: Calls that open a file matter if they may make or empty one; where their flags stand.
_FLAGS: Final = {"open": 1, "openat": 2}
_CHANGES: Final = os.O_CREAT | os.O_TRUNC


def unavailable() -> str | None:
    """Why no calls can be told here; None if they can."""
    if platform.machine() == MACHINE:
        return None
    return f"system calls are known by number on {MACHINE} only, not on {platform.machine()}"


def that_matters(number: int, arguments: Sequence[int]) -> tuple[str, str]:
    """(name, what its first argument is); ("", "") if it does not matter."""
    name, first = CALLS.get(number, ("", ""))
    if name in _FLAGS and not arguments[_FLAGS[name]] & _CHANGES:
        return "", ""
    return name, first
