"""Import this before trio: no compartment may start a process of its own, not even on import.

trio asks `ctypes.util.find_library` where pthread_setname_np lives, pyprctl and pyseccomp where
their C libraries are, and that runs `ldconfig -p`: a child of every compartment at every start.
The C library has had that function since glibc 2.34, and trio does without it elsewhere; the
others have one name for ever, their soname, and the dynamic linker finds it.
"""

from __future__ import annotations

import ctypes.util

_SONAMES = {"c": "libc.so.6", "pthread": "libc.so.6", "seccomp": "libseccomp.so.2"}


def find_library(name: str) -> str | None:
    """Where a C library is."""
    return _SONAMES.get(name)


ctypes.util.find_library = find_library
