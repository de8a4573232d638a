"""accounts over both carriers: yes, no, or nobody knows; and what it hears it checks."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import accounts
from refmta.roles.accounts import Accounts, Slice, uid_of
from refmta.wire.messages import Account, Lookup

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]

CONFIG = Slice(reserved=((0, 1000), (60_000, 65_536), (1_900_000_000, 1_900_001_000)))
DATABASE = {
    "grace": 5000, "virtual": 5001, "daemon": 1, "nobody": 65534, "mole": 1_900_000_003,
    "first": 1000, "last": 59_999,
}  # fmt: skip


class Notes:
    """A journal that keeps its events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append(event)

    warning = error = critical = info


@asynccontextmanager
async def peer(pair: Pair) -> AsyncIterator[Channel]:
    """accounts at work, and a channel to it."""
    context = Context(slices={"accounts": msgspec.msgpack.encode(CONFIG)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accounts.run, context, Notes())
        near, far = pair(border("resolve", "accounts"))
        context.port("resolve").put(Linked(far))
        yield near
        near.close()
        context.draining.set()


async def ask(channel: Channel, *names: str) -> list[Account]:
    for reference, name in enumerate(names):
        channel.post(Lookup(reference=reference, name=name))
    await channel.flush()
    answers: list[Account] = []
    while len(answers) < len(names):
        answers += [each.message for each in await channel.receive()]
    return answers


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("grace", "yes"), ("first", "yes"), ("last", "yes"), ("stranger", "no"), ("virtual", "no"),
        ("daemon", "no"), ("nobody", "no"), ("mole", "no"),
    ],
)  # fmt: skip
def test_a_user_who_may_receive_mail(name: str, answer: str):
    assert Accounts(CONFIG, Notes(), DATABASE.get).exists(name) == answer


@both
async def test_questions_are_answered_in_their_order(pair: Pair):
    async with peer(pair) as channel:
        answers = await ask(channel, *["root", "no-such-user-here"] * 50)
        assert [each.reference for each in answers] == list(range(100))
        assert {each.exists for each in answers} == {"no"}


def test_a_database_that_fails_is_no_no_and_is_logged_once_per_change():
    state = [errno.EIO]

    def uid(name: str) -> int | None:
        if state[0]:
            raise OSError(state[0], os.strerror(state[0]))
        return DATABASE.get(name)

    notes = Notes()
    role = Accounts(CONFIG, notes, uid)
    assert [role.exists("grace") for _ in range(3)] == ["unknown"] * 3
    state[0] = 0
    assert [role.exists("grace"), role.exists("stranger")] == ["yes", "no"]
    assert notes.events == ["user database away", "user database back"]


@pytest.mark.parametrize("status", [errno.EIO, errno.ENOENT, errno.EMFILE, errno.EPERM])
def test_every_status_of_the_c_library_but_0_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, status: int
):
    """Control: Python's pwd would make a KeyError of it, the same as of a user who isn't there."""
    monkeypatch.setattr(accounts, "_getpwnam_r", lambda *_arguments: status)
    with pytest.raises(OSError, match=os.strerror(status)):
        uid_of("root")


def test_an_interrupted_look_up_goes_on(monkeypatch: pytest.MonkeyPatch):
    statuses = [errno.EINTR, errno.EINTR, 0]
    monkeypatch.setattr(accounts, "_getpwnam_r", lambda *_arguments: statuses.pop(0))
    assert uid_of("root") is None and not statuses


def test_the_machines_own_database_says_the_same_as_pwd():
    for entry in pwd.getpwall():
        assert uid_of(entry.pw_name) == pwd.getpwnam(entry.pw_name).pw_uid
    assert uid_of("no-such-user-here") is None


def test_the_entrys_form_is_that_of_the_c_library():
    entry, found = accounts._Entry(), ctypes.c_void_p()
    texts = ctypes.create_string_buffer(accounts.ENTRY_OCTETS)
    accounts._getpwnam_r(b"root", ctypes.byref(entry), texts, len(texts), ctypes.byref(found))
    root = pwd.getpwnam("root")
    assert (entry.name.decode(), entry.home.decode()) == (root.pw_name, root.pw_dir)
    assert (entry.uid, entry.gid) == (root.pw_uid, root.pw_gid)


@pytest.mark.parametrize(
    "name", ["", "a" * 33, "Ada", "../x", "a b", "a\0", "a\n", "-a", ".a", "a:b", "ä", "*"]
)
async def test_a_name_that_is_none_ends_the_channel_and_others_are_served(name: str):
    async with peer(socket_channels) as channel, peer(socket_channels) as other:
        channel.post(Lookup(reference=1, name=name))
        await channel.flush()
        with pytest.raises(ChannelBroken):
            await channel.receive()
        assert (await ask(other, "root"))[0].exists == "no"
