"""A resident service over both carriers: in order where it must be, never behind another's wait.

Negative controls: what a client floods with waits for itself, and a bound that is not kept shows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from refmta.patterns import resident_service
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.resident_service import WAITING, Books, Later, Service
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.wire.messages import Message, Route, Routed, Verified, Verify

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]


@dataclass
class Sage:
    """Knows at once who is fast; asks about all others, who are known when `known` is set."""

    known: trio.Event = field(default_factory=trio.Event)
    asking: int = 0
    most: int = 0
    books: Books = field(default_factory=Books)

    def at_once(self, question: Message) -> Message | None:
        if not isinstance(question, Route | Verify):
            return None
        if question.recipient.startswith("slow"):
            raise Later
        return self._answer(question)

    async def in_time(self, question: Message) -> Message | None:
        self.asking += 1
        self.most = max(self.most, self.asking)
        await self.known.wait()
        self.asking -= 1
        return self._answer(question)

    def _answer(self, question: Message) -> Message:
        if isinstance(question, Route):
            return Routed(reference=question.reference, code=550, enhanced="", text="")
        assert isinstance(question, Verify)
        return Verified(code=250, enhanced="", text=question.recipient)


@asynccontextmanager
async def served(pair: Pair, sage: Sage, **ports: int) -> AsyncIterator[dict[str, list[Channel]]]:
    """So many clients by port; the service's books are the sage's at the end."""
    service = Service(sage.at_once, sage.in_time, overtakes=(Route,))
    context = Context(slices={})
    clients: dict[str, list[Channel]] = {port: [] for port in ports}
    async with trio.open_nursery() as nursery:
        for port, number in ports.items():
            nursery.start_soon(service.accept, context, port, nursery)
            for _ in range(number):
                near, far = pair(border(port, "resolve"))
                context.port(port).put(Linked(far))
                clients[port].append(near)
        yield clients
        for each in (each for some in clients.values() for each in some):
            each.close()
        await trio.testing.wait_all_tasks_blocked()
        sage.books = service.books
        nursery.cancel_scope.cancel()


async def hear(channel: Channel, number: int) -> list[Message]:
    answers: list[Message] = []
    with trio.fail_after(30):
        while len(answers) < number:
            answers += [each.message for each in await channel.receive() if each.message]
    return answers


async def say(channel: Channel, *questions: Message) -> None:
    for each in questions:
        channel.post(each)
    await channel.flush()


@both
async def test_answers_without_a_name_keep_their_order(pair: Pair):
    sage = Sage()
    async with served(pair, sage, smtpd=2) as clients:
        one, other = clients["smtpd"]
        await say(one, *(Verify(recipient=who) for who in ("a", "slow", "b")))
        await say(other, Verify(recipient="c"))
        (answer,) = await hear(other, 1)  # whoever waits delays nobody else
        assert answer.text == "c"
        sage.known.set()
        assert [each.text for each in await hear(one, 3)] == ["a", "slow", "b"]


@both
async def test_answers_with_a_name_may_overtake_one_that_waits(pair: Pair):
    sage = Sage()
    async with served(pair, sage, qmgr=1) as clients:
        (channel,) = clients["qmgr"]
        who = ["slow1", "a", "slow2", "b"]
        await say(channel, *(Route(reference=n, recipient=each) for n, each in enumerate(who)))
        assert [each.reference for each in await hear(channel, 2)] == [1, 3]
        sage.known.set()
        assert sorted(each.reference for each in await hear(channel, 2)) == [0, 2]


@both
async def test_what_waits_is_bounded_and_then_its_client_waits(pair: Pair):
    sage = Sage()
    async with served(pair, sage, qmgr=1, smtpd=1) as clients:
        (channel,), (other,) = clients["qmgr"], clients["smtpd"]
        many = 3 * WAITING
        await say(channel, *(Route(reference=n, recipient="slow") for n in range(many)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sage.asking == WAITING
        await say(other, Verify(recipient="a"))
        await hear(other, 1)
        sage.known.set()
        answers = await hear(channel, many)
        assert sorted(each.reference for each in answers) == list(range(many))
    assert sage.most == WAITING
    assert sage.books.answered == many + 1 and sage.books.waited == many


async def test_without_its_bound_a_flood_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    """Control of the test before: a bound ten times as wide is noticed by what waits at once."""
    monkeypatch.setattr(resident_service, "WAITING", 10 * WAITING)
    sage = Sage()
    async with served(local_channels, sage, qmgr=1) as clients:
        (channel,) = clients["qmgr"]
        await say(channel, *(Route(reference=n, recipient="slow") for n in range(3 * WAITING)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sage.asking == 3 * WAITING


@both
async def test_the_same_question_twice_is_no_mistake(pair: Pair):
    """References are the client's business; a seized one may repeat them."""
    sage = Sage()
    async with served(pair, sage, qmgr=1) as clients:
        (channel,) = clients["qmgr"]
        await say(channel, *(Route(reference=7, recipient="slow") for _ in range(3)))
        sage.known.set()
        assert [each.reference for each in await hear(channel, 3)] == [7, 7, 7]


@both
async def test_a_client_that_goes_takes_its_questions_along(pair: Pair):
    sage = Sage()
    async with served(pair, sage, qmgr=2) as clients:
        one, other = clients["qmgr"]
        await say(one, *(Route(reference=n, recipient="slow") for n in range(5)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        one.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        sage.known.set()
        await say(other, Route(reference=1, recipient="a"))
        await hear(other, 1)
    assert sage.books.answered == 1


async def test_who_breaks_the_rules_is_cut_off_and_others_are_served():
    sage = Sage()
    async with served(socket_channels, sage, smtpd=2) as clients:
        one, other = clients["smtpd"]
        await say(one, Route(reference=1, recipient="a"))  # not what a smtpd may say
        with pytest.raises(ChannelBroken):
            await one.receive()
        await say(other, Verify(recipient="a"))
        assert len(await hear(other, 1)) == 1


def test_books_tell_microseconds_of_what_did_not_wait():
    assert Books().per_answer_us() == 0.0
    assert Books(answered=5, waited=5).per_answer_us() == 0.0
    assert Books(answered=6, waited=2, busy_s=0.001).per_answer_us() == 250.0
