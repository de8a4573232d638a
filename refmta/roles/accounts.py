"""accounts: the one role that reads the user database of the machine, and nothing else.

The C library answers by whatever nsswitch.conf names: a file, a daemon's socket, a directory
service, with libraries that it loads when it is first asked.  No empty jail can hold all that, so
it has a compartment of its own, which sees the machine's files and holds no mail, no secret and no
other channel: `resolve` asks about a checked name, and hears yes, no, or that nobody knows now.

Rules
- "Yes" is a user who may receive mail: one whose id is outside of the reserved ranges (system
  users, `nobody` and its kin, compartments).  The spawner looks again, by itself, before it starts
  a delivery agent: a lie told here makes nobody a recipient.
- A database that does not answer is no "no": that would be a 550 for a user who is there.  Python's
  `pwd` turns every failure into KeyError, so getpwnam_r(3) is called here: no entry and status 0 is
  "no", any other status is "unknown", and the asker says 451.
- A look-up may block for as long as the service does.  Nothing else waits for it in this process,
  and whoever asks has a deadline (`roles.users.ANSWER_S`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable
from typing import Final, Literal

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol.routing import VIRTUAL_OWNER
from refmta.wire.messages import Account, Lookup

#: An entry's texts; a longer one is an error of the database.  glibc starts with 1 KiB.
ENTRY_OCTETS: Final = 64 * 1024

Uid = Callable[[str], int | None]


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """accounts' configuration: ranges of user ids that receive no mail, each without its end."""

    reserved: tuple[tuple[int, int], ...] = ()


# -- the user database ----------------------------------------------------------------------------


class _Entry(ctypes.Structure):
    """struct passwd of Linux (pwd.h); only the id is ever read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("password", ctypes.c_char_p),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("gecos", ctypes.c_char_p),
        ("home", ctypes.c_char_p),
        ("shell", ctypes.c_char_p),
    )


_getpwnam_r = ctypes.CDLL(None).getpwnam_r
_getpwnam_r.argtypes = (
    ctypes.c_char_p,
    ctypes.POINTER(_Entry),
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_void_p),
)


def uid_of(name: str) -> int | None:
    """That user's id; None if there is no such user.  Raises OSError: nobody knows now."""
    entry, found = _Entry(), ctypes.c_void_p()
    texts = ctypes.create_string_buffer(ENTRY_OCTETS)
    status = errno.EINTR
    while status == errno.EINTR:
        status = _getpwnam_r(
            name.encode(), ctypes.byref(entry), texts, ENTRY_OCTETS, ctypes.byref(found)
        )
    if status != 0:
        raise OSError(status, os.strerror(status))
    return int(entry.uid) if found.value else None


def preload() -> None:
    """Have the C library load what it asks users by, before this process is confined."""
    with contextlib.suppress(OSError):  # it may come up later
        uid_of("root")


# -- answering ------------------------------------------------------------------------------------


class Accounts:
    """Answers; keeps nothing between questions but whether the database answered the last one."""

    def __init__(self, config: Slice, journal: Journal, uid: Uid = uid_of) -> None:
        self._reserved = config.reserved
        self._journal = journal
        self._uid = uid
        self._answering = True

    def exists(self, name: str) -> Literal["yes", "no", "unknown"]:
        """Whether that user of the machine may receive mail."""
        if name == VIRTUAL_OWNER:  # an account of that name is not he
            return "no"
        try:
            uid = self._uid(name)
        except OSError as error:
            self._note(error)
            return "unknown"
        self._note(None)
        if uid is None or any(low <= uid < high for low, high in self._reserved):
            return "no"
        return "yes"

    def _note(self, error: OSError | None) -> None:
        """Each change is a line, each question is none."""
        if error is not None and self._answering:
            self._journal.error("user database away", reason=error.strerror)
        elif error is None and not self._answering:
            self._journal.info("user database back")
        self._answering = error is None

    async def serve(self, channel: Channel) -> None:
        """Answer one peer, in the order of its questions, until it goes away."""
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, Lookup):
                        channel.post(self._answer(item.message))
                await channel.flush()
        except ChannelBroken:
            channel.close()

    def _answer(self, question: Lookup) -> Account:
        return Account(reference=question.reference, exists=self.exists(question.name))


async def run(context: Context, journal: Journal) -> None:
    """The role: answer until drained."""
    role = Accounts(context.slice("accounts", Slice), journal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, context, role, nursery)
        context.ready()
        await context.draining.wait()
        nursery.cancel_scope.cancel()


async def _accept(context: Context, role: Accounts, nursery: trio.Nursery) -> None:
    while True:
        linked = await context.port("resolve").get()
        nursery.start_soon(role.serve, linked.channel)
