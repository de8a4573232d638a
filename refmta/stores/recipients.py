"""Whose mailboxes may be written, and as whom: the table of recipient users and its rules.

Whoever gives a process, or one step of it, to a recipient asks here, and nowhere else: the spawner
(a process per user), a pool whose workers become users, and an agent that serves all users
(`stores.owners`).  They have one table, made by the launcher; users of the machine
are looked up in its user database by the process that has the privilege, and not by the one that
asks.

Rules, in this order; a user who is not in the table of names must be one of the machine:
- a system user (`reserved`) receives no mail;
- without root there is one user, so only the mailboxes that are the process's own can be written;
- nobody receives mail as user or group 0, nor as the user or group of a compartment: the group,
  too, for that of qmgr opens the queue.

Standard library only: this is part of what runs as root.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any, NamedTuple


class NoRecipient(Exception):
    """Nobody gets mail by that name; the text says why, and goes to whoever asked."""


class Identity(NamedTuple):
    """Whom a process becomes, and where it starts.  uid None: stay who we are (rootless)."""

    uid: int | None
    gid: int | None
    home: str


class Known(NamedTuple):
    """A user that the configuration names.  None: without root nobody has an id of his own.
    compartments: whether he may be a compartment's user, too (sendmail's RunAsUser).
    """

    uid: int | None
    gid: int | None
    home: str
    compartments: bool = False


class Recipients(NamedTuple):
    """The table.  users: those of the configuration, by name.  reserved: ids of system users, as
    (first, behind the last).  owners: ids of compartments.  rootless: whether nobody can change.
    """

    users: dict[str, Known] = {}  # noqa: RUF012  never changed
    reserved: tuple[tuple[int, int], ...] = ()
    owners: frozenset[int] = frozenset()
    rootless: bool = False

    def identity(self, user: str) -> Identity:
        """As whom this user's mail is written.  Raises NoRecipient."""
        known = self.users.get(user)
        uid, gid, home, anyone = known if known is not None else self._of_the_machine(user)
        if self.rootless:
            if known is None and uid != os.getuid():
                raise NoRecipient("without root, only its own user's mailboxes can be written")
            return Identity(None, None, home)
        for number in (uid, gid):
            if not number or (number in self.owners and not anyone):
                raise NoRecipient("that user may not receive mail")
        return Identity(uid, gid, home)

    def _of_the_machine(self, user: str) -> Known:
        try:
            entry = pwd.getpwnam(user)
        except (KeyError, ValueError):
            raise NoRecipient("no such user") from None
        if any(low <= entry.pw_uid < high for low, high in self.reserved):
            raise NoRecipient("a system user receives no mail")
        return Known(entry.pw_uid, entry.pw_gid, entry.pw_dir)


def recipients(manifest: Mapping[str, Any]) -> Recipients:
    """The table as the manifest has it.  Raises KeyError, TypeError: it is no manifest."""
    rows = manifest["compartments"]
    return Recipients(
        users={
            name: Known(row["uid"], row["gid"], row["home"], row.get("compartments", False))
            for name, row in manifest["users"].items()
        },
        reserved=tuple((low, high) for low, high in manifest["reserved"]),
        owners=frozenset(row[kind] for row in rows for kind in ("uid", "gid") if row[kind]),
        rootless=manifest["rootless"],
    )
