"""Whose mailboxes an agent writes: one user's, or, as that user, any user's.

An agent of one user has one desk, its process's own working directory, for as long as it lives.
An agent of all users has one for each who has mail: it is opened as that user (`stores.recipients`:
who may have mail at all; `stores.owners`: by his rights), kept for `DESK_S`, and closed when
nothing is under way on it any more.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from refmta.stores.disk import Disk
from refmta.stores.mailboxes import FormName, Mailboxes, open_mailboxes
from refmta.stores.owners import Owned
from refmta.stores.recipients import NoRecipient, Recipients

#: Users whose homes are held open at once, and for how long: a user who is removed, or moves, gets
#: mail in the former way no longer than this (as `qmgr.state.ROUTE_S`).
DESKS: Final = 64
DESK_S: Final = 30.0
#: Where others may deliver to the same user, remains in tmp/ are left alone for so long after the
#: mail arrived: longer than a queue keeps it.
SWEPT_AFTER_S: Final = 14 * 86_400


@dataclass(slots=True, eq=False)
class Desk:
    """One user's mailboxes.  busy: deliveries to them that are under way.  owned: his disk, to be
    closed; None if it is the process's own.
    """

    mailboxes: Mailboxes
    owned: Owned | None = None
    until_s: float = math.inf
    busy: int = 0


@dataclass(slots=True)
class Desks:
    """disk: of the one user.  recipients: the table, where there are many.  sole: whether no other
    process delivers to the one user.
    """

    disk: Disk
    form: FormName
    host: str
    recipients: Recipients | None = None
    sole: bool = True
    now: Callable[[], float] = time.time
    open: dict[str, Desk] = field(default_factory=dict)

    def of(self, user: str) -> Desk:
        """The desk for a delivery to this user; say `busy` on it, and `leave` at the end.

        Raises NoRecipient, ValueError.
        """
        if self.recipients is None:
            user = ""
        elif not user:
            raise ValueError("no user is named whose mailbox it is")
        now_s = self.now()
        desk = self.open.get(user)
        if desk is None or now_s >= desk.until_s:
            self._clear(now_s)
            desk = self.open[user] = self._opened(user, now_s)
        return desk

    def _opened(self, user: str, now_s: float) -> Desk:
        others_remains_s = now_s - SWEPT_AFTER_S
        if self.recipients is None:
            return Desk(self._mailboxes(self.disk, math.inf if self.sole else others_remains_s))
        identity = self.recipients.identity(user)
        try:
            owned = Owned(identity)
        except OSError as error:  # also when it is closed to its owner, or no directory
            raise NoRecipient(f"home: {os.strerror(error.errno or 0)}") from None
        return Desk(self._mailboxes(owned, others_remains_s), owned, now_s + DESK_S)

    def _mailboxes(self, disk: Disk, swept_before_s: float) -> Mailboxes:
        return open_mailboxes(self.form, disk, self.host, swept_before_s=swept_before_s)

    def leave(self, desk: Desk, deliveries: int = 1) -> None:
        """So many are over; a desk that was cleared is closed after the last of them."""
        desk.busy -= deliveries
        if not desk.busy and not desk.until_s and desk.owned is not None:
            desk.owned.leave()
            desk.owned = None

    def _clear(self, now_s: float) -> None:
        """Make room for one: those whose time is over go, and the oldest beyond that."""
        for user, desk in list(self.open.items()):
            if now_s >= desk.until_s or len(self.open) >= DESKS:
                del self.open[user]
                desk.until_s = 0.0
                self.leave(desk, 0)

    def close(self) -> None:
        """The agent ends: nothing is held open."""
        self._clear(math.inf)
