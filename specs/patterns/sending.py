"""A seized process writes octets of ours into a channel that it has, under its own limits.

Descriptors that go along are its own standard error, several times: everybody has that one, and
may hand it on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import termios
from typing import Final

from specs.observe.seize import Gone, Seized
from specs.patterns.lines import Line

#: The descriptor that is handed on.
HANDED_ON: Final = 2
#: System calls by number (asm/unistd_64.h).
_SHUTDOWN, _PIDFD_GETFD = 48, 438
_libc: Final = ctypes.CDLL(None, use_errno=True)


def write(line: Line, octets: bytes, descriptors: int, *, end: bool) -> int:
    """What the kernel said to the seized process: octets, or minus an errno.  end: it then says
    that nothing more will come.
    """
    try:
        with Seized(line.sender.pid) as victim:
            result = _send(victim, line.end.number, octets, descriptors)
            if end:
                victim.call(_SHUTDOWN, line.end.number, socket.SHUT_WR)
            return result
    except (Gone, TimeoutError):
        return -errno.ESRCH


def _send(victim: Seized, number: int, octets: bytes, descriptors: int) -> int:
    if not descriptors:
        address = victim.write(octets)
        result = victim.call("sendto", number, address, len(octets), 0, 0, 0)
        return result if result >= 0 else victim.call("write", number, address, len(octets))
    return victim.call("sendmsg", number, _message(victim, octets, descriptors), 0)


def _message(victim: Seized, octets: bytes, descriptors: int) -> int:
    """Address of a struct msghdr with these octets, and its log that often as ancillary data."""
    vector = struct.pack("=QQ", victim.write(octets), len(octets))
    rights = struct.pack(f"={descriptors}i", *[HANDED_ON] * descriptors)
    control = struct.pack("=Qii", 16 + len(rights), socket.SOL_SOCKET, socket.SCM_RIGHTS) + rights
    control += bytes(-len(control) % 8)
    header = struct.pack(
        "=QIxxxxQQQQixxxx",
        0, 0, victim.write(vector), 1, victim.write(control), len(control), 0,
    )  # fmt: skip
    return victim.write(header)


def unread(line: Line) -> bool:
    """Whether octets wait in the channel, as the kernel tells whoever has the sender's end
    (unix(7), SIOCOUTQ).  We have it for a moment, by pidfd_getfd(2).
    """
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(line.sender.pid)
        try:
            ours = _libc.syscall(_PIDFD_GETFD, pidfd, line.end.number, 0)
        finally:
            os.close(pidfd)
        if ours >= 0:
            try:
                waiting = fcntl.ioctl(ours, termios.TIOCOUTQ, bytes(4))
                same = os.fstat(ours).st_ino == line.end.inode
                return same and waiting != bytes(4)
            finally:
                os.close(ours)
    return False
