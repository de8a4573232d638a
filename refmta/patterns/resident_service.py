"""Resident Service: one process stays, and answers; a question costs a message, never a process.

Context (paper, section 4): parts of the job, such as rewriting an address, are small, frequent, and
needed by several compartments.  sendmail did them inside of its one program; a program that is
started for each of them keeps compartments apart, and costs a process per address.
Problem: rewriting an address must cost neither isolation nor a process.
Forces: isolation against speed; a service that all ask must not let one of them delay the others;
and one that is asked by seized processes must have nothing to give away but answers.
Solution: a process that is started once (here on its first use), holds its data in memory, keeps
nothing between questions, and asks none of those who ask it.  Each client has a channel of its own.
Observable claim: the process that answers is the same one, by pid and start time, before and after
any number of addresses; no process is created for them; and answers come in microseconds.

`resolve` is the one: routing, verification, and the rewriting of envelope addresses
(`protocol.rewriting`).  Precedent: Postfix's trivial-rewrite, which every daemon asks.

How it answers
- In order, per channel: questions of one client are answered as they came, unless an answer names
  its question (`overtakes`) and has to wait for somebody else (`Later`); that one may come later.
- What waits is bounded (`WAITING` per channel).  Beyond it the client's channel waits, and nobody
  else: back-pressure instead of memory.
- `Books` count what was answered; the role writes them to its journal when it ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.wire.messages import Message

#: Questions of one channel that wait for somebody else, before the channel itself waits.
WAITING: Final = 100


class Later(Exception):
    """The answer depends on what has to be asked first."""


@dataclass(slots=True)
class Books:
    """What a service has done.  busy_s: spent on answers that waited for nobody."""

    answered: int = 0
    waited: int = 0
    busy_s: float = 0.0

    def per_answer_us(self) -> float:
        """Microseconds per answer that waited for nobody; 0 without one."""
        prompt = self.answered - self.waited
        return round(self.busy_s / prompt * 1e6, 1) if prompt > 0 else 0.0


@dataclass(slots=True)
class Service:
    """Questions in, answers out, for any number of clients.

    at_once: the answer from what is known, None for what is no question; raises Later.
    in_time: the same, when it has to be asked for; it must end.
    overtakes: questions whose answers name them.
    """

    at_once: Callable[[Message], Message | None]
    in_time: Callable[[Message], Awaitable[Message | None]]
    overtakes: tuple[type[Message], ...] = ()
    books: Books = field(default_factory=Books)

    async def accept(self, context: Context, port: str, nursery: trio.Nursery) -> None:
        """For ever: serve whoever is linked to this port."""
        while True:
            linked = await context.port(port).get()
            nursery.start_soon(self.serve, linked.channel)

    async def serve(self, channel: Channel) -> None:
        """Answer one client until it goes away."""
        async with trio.open_nursery() as late:
            room = trio.Semaphore(WAITING)
            with contextlib.suppress(ChannelBroken):
                while True:
                    for item in await channel.receive():
                        if item.message is not None:
                            await self._answer(channel, item.message, late, room)
                    await channel.flush()
            channel.close()
            late.cancel_scope.cancel()

    async def _answer(
        self, channel: Channel, question: Message, late: trio.Nursery, room: trio.Semaphore
    ) -> None:
        begun_s = time.perf_counter()
        try:
            self._say(channel, self.at_once(question))
        except Later:
            if isinstance(question, self.overtakes):
                await channel.flush()  # what is known must not wait for what is not
                await room.acquire()
                late.start_soon(self._answer_late, channel, question, room)
            else:
                self._say(channel, await self.in_time(question))
            self.books.waited += 1
            return
        self.books.busy_s += time.perf_counter() - begun_s

    async def _answer_late(self, channel: Channel, question: Message, room: trio.Semaphore) -> None:
        try:
            self._say(channel, await self.in_time(question))
            with contextlib.suppress(ChannelBroken):  # `serve` hears of it, too
                await channel.flush()
        finally:
            room.release()

    def _say(self, channel: Channel, answer: Message | None) -> None:
        if answer is not None:
            self.books.answered += 1
            channel.post(answer)
