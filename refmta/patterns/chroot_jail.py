"""chroot Jail: a process sees one directory as the whole file system.

Context (paper, section 4): processes share one file system, and most of them need none of it.
Problem: whoever seizes one reads configuration, keys and mail, and finds programs to run.
Forces: chroot needs a privilege; a process that keeps that privilege, or a directory from outside,
gets out again; and what a library loads lazily is no longer there once the process is in.
Solution: a user namespace of its own gives the process that privilege over itself, for a moment,
without any on the machine.  It enters an empty directory, or the one that it works in, and then
gives all capabilities up (`least_privilege`); everything it needs was loaded before.
Observable claim: `/proc/PID/root` is the jail; no open directory lies outside of it; an empty jail
is empty, and nobody but root may change it; no attempt to get out succeeds.

A user namespace made inside of a jail is refused by the kernel (user_namespaces(7), EPERM), so the
privilege does not come back that way.
"""

from __future__ import annotations

import ctypes
import os
import socket

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
#: The empty jail, below the spool.
EMPTY = "empty"

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Enter new namespaces (Python 3.12 has os.unshare).  Raises OSError."""
    if _libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


def own_user_namespace(*, network: bool) -> None:
    """Enter a user namespace in which only our own ids exist, and an empty network unless
    `network`.  Until its capabilities are dropped the process may jail itself.  Raises OSError.
    """
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER)
    if not network:
        unshare(CLONE_NEWNET)
    _write("/proc/self/setgroups", "deny")  # else the group could not be mapped
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def enter(directory: str) -> None:
    """See only this directory from now on.  Raises OSError."""
    os.chroot(directory)
    os.chdir("/")


# -- attempts to get out; each returns if it succeeded, and raises OSError if not -----------------


def see_the_machine() -> None:
    """There is no /proc in a jail."""
    os.stat("/proc/self")


def climb() -> None:
    """From a directory that is open: one from outside leads there."""
    root = os.stat("/")
    for descriptor in range(1024):
        try:
            above = os.stat("..", dir_fd=descriptor)
        except OSError:
            continue  # not open, or no directory
        if not os.path.samestat(above, root):
            return
    raise PermissionError("no open directory lies outside")


def jail_again() -> None:
    """The classic: a second chroot leaves the working directory outside of it."""
    os.chroot("/")


def use_the_network() -> None:
    """A way to the loopback address; in an empty network not even that is up.  Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attempt:
        attempt.connect(("127.0.0.1", 9))


def be_privileged_again() -> None:
    """A new user namespace gives every capability over what is made in it."""
    unshare(CLONE_NEWUSER)
