"""What resolve knows of the users: cached, bounded, and never "no" for "nobody knows"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from refmta.patterns.compartmentalization import Linked, Mailslot
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import socket_channels
from refmta.protocol import routing
from refmta.protocol.routing import Domain, Table, _user_name
from refmta.roles import users as module
from refmta.roles.users import ANSWER_S, NO_S, YES_S, AccountsAway, Unasked, Users
from refmta.wire.address import parse_mailbox
from refmta.wire.frame import FrameError
from refmta.wire.messages import Account, Lookup, Vocabulary, encode_message

THERE = {"ada", "bob"}


@dataclass
class World:
    """Users at a clock of ours, and the other end of their channel."""

    users: Users
    slot: Mailslot
    seconds: list[float]
    accounts: Channel | None = None
    heard: list[str] = field(default_factory=list)

    def link(self) -> Channel:
        near, far = socket_channels(border("resolve", "accounts"))
        self.slot.put(Linked(near))
        self.accounts = far
        return far

    async def serve(self) -> None:
        """An accounts that answers at once."""
        channel = self.accounts
        try:
            while channel is not None:
                for item in await channel.receive():
                    lookup = item.message
                    self.heard.append(lookup.name)
                    says = "yes" if lookup.name in THERE else "no"
                    says = "unknown" if lookup.name.startswith("odd") else says
                    channel.post(Account(reference=lookup.reference, exists=says))
                await channel.flush()
        except ChannelBroken:
            channel.close()


@asynccontextmanager
async def world(*, serving: bool = True) -> AsyncIterator[World]:
    seconds = [0.0]
    here = World(Users(["listed"], lambda: seconds[0]), Mailslot(), seconds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.users.listen, here.slot)
        if serving:
            here.link()
            nursery.start_soon(here.serve)
        yield here
        if here.accounts is not None:
            here.accounts.close()
        nursery.cancel_scope.cancel()


def unknown(users: Users, name: str) -> bool:
    try:
        users(name)
    except Unasked as miss:
        assert miss.name == name
        return True
    return False


async def test_what_the_configuration_names_needs_no_question():
    async with world(serving=False) as here:
        assert here.users("listed") and not here.users(routing.VIRTUAL_OWNER)


async def test_an_answer_holds_for_its_time_and_no_longer():
    async with world() as here:
        for name, there, lasts_s in (("ada", True, YES_S), ("eve", False, NO_S)):
            start_s = here.seconds[0]
            assert unknown(here.users, name)
            await here.users.ask(name)
            here.seconds[0] = start_s + lasts_s - 0.001
            assert here.users(name) is there
            here.seconds[0] = start_s + lasts_s
            assert unknown(here.users, name)
        assert here.heard == ["ada", "eve"]


async def test_a_user_who_comes_or_goes_is_seen(monkeypatch: pytest.MonkeyPatch):
    async with world() as here:
        await here.users.ask("eve")
        monkeypatch.setitem(globals(), "THERE", {"eve"})
        await here.users.ask("eve")
        assert here.users("eve")
        monkeypatch.setitem(globals(), "THERE", set())
        await here.users.ask("eve")
        assert not here.users("eve")


async def test_guessers_push_out_no_user_and_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "NAMES", 10)
    async with world() as here:
        await here.users.ask("ada")
        for number in range(50):
            await here.users.ask(f"guess{number}")
        assert here.users("ada")
        assert len(here.users._no) == 10
        assert unknown(here.users, "guess39") and not here.users("guess40")


async def test_many_tasks_share_the_channel_and_a_name_is_asked_once():
    async with world(serving=False) as here, trio.open_nursery() as nursery:
        for name in ["ada", "eve", "ada", "bob", "eve"] * 20:
            nursery.start_soon(here.users.ask, name)
        await trio.testing.wait_all_tasks_blocked()
        here.link()
        nursery.start_soon(here.serve)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(here.heard) == ["ada", "bob", "eve"]
        assert (here.users("ada"), here.users("eve")) == (True, False)
        here.accounts.close()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_nobody_knows_is_no_answer():
    async with world() as here:
        with pytest.raises(AccountsAway):
            await here.users.ask("oddity")
        assert unknown(here.users, "oddity")
        await here.users.ask("ada")  # and others are answered


async def away(users: Users, name: str, found: list[str]) -> None:
    try:
        await users.ask(name)
    except AccountsAway:
        found.append(name)


async def test_its_death_answers_all_who_wait_and_the_next_one_is_asked():
    async with world(serving=False) as here, trio.open_nursery() as nursery:
        first = here.link()
        found: list[str] = []
        for name in ("ada", "bob", "eve"):
            nursery.start_soon(away, here.users, name, found)
        await first.receive()
        first.close()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(found) == ["ada", "bob", "eve"]
        here.link()
        nursery.start_soon(here.serve)
        await here.users.ask("ada")
        assert here.users("ada")
        here.accounts.close()


async def test_a_new_link_replaces_the_old_one_and_its_late_answers_are_dropped():
    async with world(serving=False) as here, trio.open_nursery() as nursery:
        first = here.link()
        found: list[str] = []
        nursery.start_soon(away, here.users, "ada", found)
        (asked,) = await first.receive()
        second = here.link()
        await trio.testing.wait_all_tasks_blocked()
        assert found == ["ada"]
        with pytest.raises(ChannelBroken):
            await first.receive()
        assert isinstance(asked.message, Lookup)
        second.post(Account(reference=asked.message.reference, exists="yes"))
        await second.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert unknown(here.users, "ada")


@pytest.mark.parametrize("linked", [True, False])
async def test_a_question_has_a_deadline(autojump_clock: trio.testing.MockClock, linked: bool):
    """Hung, or not there at all."""
    async with world(serving=False) as here:
        if linked:
            here.link()
        before_s = trio.current_time()
        with pytest.raises(AccountsAway):
            await here.users.ask("ada")
        assert trio.current_time() - before_s == ANSWER_S


async def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "WAITING", 3)
    async with world(serving=False) as here, trio.open_nursery() as nursery:
        here.link()
        found: list[str] = []
        for number in range(5):
            nursery.start_soon(away, here.users, f"user{number}", found)
        await trio.testing.wait_all_tasks_blocked()
        assert len(found) == 2
        nursery.cancel_scope.cancel()


async def test_routing_asks_until_it_knows():
    names = ["ada", "bob", "eve"]
    table = Table(
        hostname="mx.example.org",
        postmaster=parse_mailbox("ada@example.org"),
        domains={
            "example.org": Domain(
                system_users=True,
                aliases={"all": tuple(parse_mailbox(f"{name}@example.org") for name in names[:2])},
            )
        },
    )
    async with world() as here:
        answer = None
        while answer is None:
            try:
                answer = routing.route(table, parse_mailbox("all@example.org"), here.users)
            except Unasked as miss:
                await here.users.ask(miss.name)
        assert isinstance(answer, routing.Routed)
        assert [each.user for each in answer.targets] == ["ada", "bob"] == here.heard


@given(st.text(alphabet=st.sampled_from("abzAZ09_.-/:\0\n é"), max_size=40))
def test_what_routing_asks_for_may_be_said_and_nothing_else(name: str):
    words = Vocabulary(Lookup)
    payload = encode_message(Lookup(reference=1, name=name))
    if _user_name.match(name):
        assert words.decode(payload) == Lookup(reference=1, name=name)
    else:
        with pytest.raises(FrameError):
            words.decode(payload)
