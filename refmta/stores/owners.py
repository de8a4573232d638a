"""A disk that does each operation as the user whose mail it is: for one process that serves all.

Postfix's local and sendmail's mailers write mailboxes as their owners without a process for each:
a process that is root takes on the recipient's effective ids, opens or writes, and takes them off
again (Postfix: set_eugid.c, `set_eugid(uid, gid)` around each delivery).  `Owned` does so around
each operation whose outcome depends on who asks:

    by name         create, open, rename, link, unlink, mkdir, listdir, sync_dir: permissions
    what takes room write, overwrite, truncate: quotas, and the blocks kept for root
    chmod           the owner's right
    all others      an open file is open: no ids are changed

Rules a reader may rely on
- Groups, then group, then user; back in the opposite order.  Supplementary groups are none: a
  recipient writes his own mail with no more rights than a process of his would have that the
  spawner starts (`spawner.become`).
- Whoever can't come back must not go on as somebody else: `Stuck` is no error of a disk, nobody
  here handles it, and the process ends.
- Without root nobody changes (`Identity.uid` None), and everything is done as who we are.  So it is
  if we are that user already.  Whoever has given root up (sendmail's RunAsUser) and would have to
  become somebody gets the system's refusal: an OSError, with nothing changed.
- Who changes ids loses the signal that ends it with its parent, so it is asked for again each time:
  a stopped or slow process would outlive its system, with a mailbox's lock in its hand.
- What may be done by a thread beside is `sync`, which changes no ids.  All threads of a process
  change together, so a change waits for a thread's sync: one more price of one process for all.

What this does not give: the real and saved ids stay root's, by design.  Whoever seizes such a
process has root (paper, section 3: qmail's answer is a process per recipient).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from refmta.patterns import least_privilege
from refmta.stores.disk import PosixDisk
from refmta.stores.recipients import Identity

__all__ = ["Owned", "Stuck", "acting_as"]


class Stuck(RuntimeError):
    """The process could not become itself again."""


@contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """The effective ids of that user, for a moment.  Raises OSError if we may not, Stuck."""
    if identity.uid is None or identity.gid is None:
        yield
        return
    if (os.geteuid(), os.getegid()) == (identity.uid, identity.gid):
        yield
        return
    groups, parent, death = os.getgroups(), os.getppid(), least_privilege.death_signal()
    os.setgroups([])  # refused to whoever is not root, before anything has changed
    try:
        os.setegid(identity.gid)
        os.seteuid(identity.uid)
        least_privilege.die_with(parent, death)
        yield
    finally:
        _return(groups)
        least_privilege.die_with(parent, death)


def _return(groups: list[int]) -> None:
    """To the real ids.  The saved user id is the real one, which is why this is possible."""
    user, group = os.getuid(), os.getgid()
    try:
        os.seteuid(user)
        os.setegid(group)
        os.setgroups(groups)
    except OSError as error:
        raise Stuck("a user's ids could not be taken off") from error
    if (os.geteuid(), os.getegid()) != (user, group):
        raise Stuck("a user's ids are still on")


class Owned(PosixDisk):
    """The disk of one user: below his home, by his rights, and by no other's.

    Whoever has done with it says `leave`: a home that is held open can't be unmounted.
    """

    def __init__(self, identity: Identity) -> None:
        """Raises OSError: there is no such home, or it is closed to its owner."""
        self._identity = identity
        with acting_as(identity):
            super().__init__(identity.home)

    # -- by name ----------------------------------------------------------------------------------

    def create(self, path: str, mode: int = 0o600) -> int:
        with acting_as(self._identity):
            return super().create(path, mode)

    def open_read(self, path: str) -> int:
        with acting_as(self._identity):
            return super().open_read(path)

    def open_append(self, path: str) -> int:
        with acting_as(self._identity):
            return super().open_append(path)

    def open_change(self, path: str) -> int:
        with acting_as(self._identity):
            return super().open_change(path)

    def sync_dir(self, path: str) -> None:
        with acting_as(self._identity):
            super().sync_dir(path)

    def rename(self, path: str, target: str) -> None:
        with acting_as(self._identity):
            super().rename(path, target)

    def link(self, path: str, target: str) -> None:
        with acting_as(self._identity):
            super().link(path, target)

    def unlink(self, path: str) -> None:
        with acting_as(self._identity):
            super().unlink(path)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        with acting_as(self._identity):
            super().mkdir(path, mode)

    def listdir(self, path: str) -> list[str]:
        with acting_as(self._identity):
            return super().listdir(path)

    # -- what takes room, and what is the owner's -------------------------------------------------

    def write(self, handle: int, data: bytes) -> None:
        with acting_as(self._identity):
            super().write(handle, data)

    def overwrite(self, handle: int, data: bytes, offset: int) -> None:
        with acting_as(self._identity):
            super().overwrite(handle, data, offset)

    def truncate(self, handle: int, size: int) -> None:
        with acting_as(self._identity):
            super().truncate(handle, size)

    def chmod(self, handle: int, mode: int) -> None:
        with acting_as(self._identity):
            super().chmod(handle, mode)
