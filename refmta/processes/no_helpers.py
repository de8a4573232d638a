"""Import this before trio: no compartment may start a process of its own, not even on import.

trio asks `ctypes.util.find_library` where pthread_setname_np lives, and that runs `ldconfig -p`:
a child of every compartment at every start.  The C library has had that function since glibc
2.34, and trio does without it elsewhere.
"""

from __future__ import annotations

import ctypes.util


def find_library(name: str) -> str | None:
    """Where a C library is: the one that we ask for is the C library itself."""
    return "libc.so.6" if name in ("c", "pthread") else None


ctypes.util.find_library = find_library
