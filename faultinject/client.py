"""The storm's client: sends letters, writes down each 250, and sends again whatever lost its reply.

Rules a reader may rely on
- **Written down first**: before the last octets of a letter go out, the books say that it may have
  arrived; the 250 is noted when its last octet was read. A client that is killed, or that misreads,
  can therefore err in one direction only.
- **As a mail server sends** (RFC 5321 4.5.4.1): it tries again after 4yz and after a lost
  connection, until a 250 comes; a letter counts once, its attempts have numbers.
- Some connections carry one letter, others many; some wait for each reply, others pipeline where
  that is offered (RFC 2920); some drop the connection behind the last dot, since networks do so.
- A recipient that is refused for good is a finding: all are valid.

What it doesn't do: judge. It shares no code with a server under test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trio

from faultinject import letters
from faultinject.books import Answer, Books, Sending
from faultinject.ledger import Finding
from faultinject.letters import Copy

#: How long a reply may take; servers may take minutes (RFC 5321 4.5.3.2), ours are on this machine.
REPLY_S: Final = 30.0
#: A client's pause before it tries again: the first, and the longest.
PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.3
MOST_PER_CONNECTION: Final = 20
#: One letter in so many is not waited for.
CARELESS_ONE_IN: Final = 100
REPLY_OCTETS: Final = 65536


class LostError(Exception):
    """The connection is of no more use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is to be sent.  octets: of its body, at least; 0: as chance will have it."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    octets: int = 0


@dataclass(slots=True, kw_only=True)
class Clients:
    """All clients of one storm.  outbox: the letters, in order; may be shared by many tasks."""

    run: str
    address: tuple[str, int]
    outbox: Iterator[Letter]
    books: Books
    random: Random
    #: When a letter may be sent, in seconds after the start; for an even load.
    due_s: Callable[[Letter], float] = lambda _: 0.0
    findings: list[Finding] = field(default_factory=list)
    #: Whether one letter in so many is not waited for, and then sent again.
    careless: bool = True
    acknowledged: int = 0
    connections: int = 0

    async def send_all(self, count: int) -> None:
        """With `count` clients at once, until the outbox is empty and everything answered."""
        self._began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(self._client)

    _began_s: float = 0.0

    async def _client(self) -> None:
        line: Line | None = None
        for letter in self.outbox:
            await trio.sleep_until(self._began_s + self.due_s(letter))
            attempt, pause_s = 0, PAUSE_S
            while True:
                attempt += 1
                try:
                    if line is None or line.left <= 0:
                        if line is not None:
                            await line.quit()
                        line = await self._connect()
                    done = await self._attempt(line, letter, attempt)
                except (LostError, OSError, trio.BrokenResourceError, trio.TooSlowError):
                    done = False
                if done:
                    break
                if line is not None:
                    await trio.aclose_forcefully(line.stream)
                    line = None
                await trio.sleep(pause_s * (0.5 + self.random.random()))
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        if line is not None:
            await line.quit()

    async def _connect(self) -> Line:
        self.connections += 1
        with trio.fail_after(REPLY_S):
            stream = await trio.open_tcp_stream(*self.address)
        often = self.random.random() < 0.5
        line = Line(stream, left=self.random.randint(2, MOST_PER_CONNECTION) if often else 1)
        try:
            await line.expect("220")
            await line.say("EHLO client.storm.invalid")
            features = await line.expect("250")
            line.pipelining = "PIPELINING" in features.upper() and self.random.random() < 0.5
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return line

    async def _attempt(self, line: Line, letter: Letter, attempt: int) -> bool:
        """One transaction; whether the letter needs no other.  Raises LostError."""
        line.left -= 1
        if not await self._envelope(line, letter):
            return False
        octets = letters.compose(
            self.run, letter.number, attempt, letter.sender, letter.recipients, letter.octets
        )
        copy = Copy(letters.token_of(self.run, letter.number), attempt)
        sending = Sending(
            sender=letter.sender, recipients=letter.recipients, digest=letters.digest(octets)
        )
        self.books.sendings[copy] = sending
        stuffed = octets.replace(b"\r\n.", b"\r\n..")
        await line.send(stuffed)
        sending.answer = Answer.UNANSWERED  # before the end goes out
        await line.send(b".\r\n")
        if self.careless and self.random.randrange(CARELESS_ONE_IN) == 0:
            raise LostError
        code, text = await line.reply()
        return self._note(sending, copy, code, text)

    def _note(self, sending: Sending, copy: Copy, code: str, text: str) -> bool:
        if code[:1] == "2":
            sending.answer, sending.answered_s = Answer.ACKNOWLEDGED, time.time()
            self.acknowledged += 1
            return True
        sending.answer = Answer.REFUSED if code[:1] == "5" else Answer.DEFERRED
        if code[:1] == "5":
            self._complain(f"{copy}: {code} {text}")
            return True
        return False

    async def _envelope(self, line: Line, letter: Letter) -> bool:
        """MAIL, RCPT, DATA; whether the content may follow."""
        commands = [f"MAIL FROM:<{letter.sender}>"]
        commands += [f"RCPT TO:<{each}>" for each in letter.recipients]
        batches = (
            [[*commands, "DATA"]] if line.pipelining else [[each] for each in [*commands, "DATA"]]
        )
        for batch in batches:
            await line.say("\r\n".join(batch))
            for command in batch:
                code, text = await line.reply()
                if code[:1] == ("3" if command == "DATA" else "2"):
                    continue
                if code[:1] == "5":
                    self._complain(f"letter {letter.number}: {command}: {code} {text}")
                return False  # whatever else was said: no content is sent on this connection
        return True

    def _complain(self, text: str) -> None:
        self.findings.append(Finding(name="refused", text=text))


@dataclass(slots=True)
class Line:
    """A connection.  left: letters that it may still carry."""

    stream: trio.SocketStream
    left: int
    pipelining: bool = False
    _input: bytearray = field(default_factory=bytearray)

    async def say(self, text: str) -> None:
        await self.send(text.encode("ascii") + b"\r\n")

    async def send(self, octets: bytes) -> None:
        with trio.fail_after(REPLY_S):
            await self.stream.send_all(octets)

    async def expect(self, code: str) -> str:
        """The text of a reply with this code.  Raises LostError for another."""
        found, text = await self.reply()
        if found != code:
            raise LostError(f"{found} {text}")
        return text

    async def reply(self) -> tuple[str, str]:
        """(code, text) of a whole reply.  Raises LostError, trio.TooSlowError."""
        texts = []
        with trio.fail_after(REPLY_S):
            while True:
                line = await self._line()
                if len(line) < 3 or not line[:3].isdigit():
                    raise LostError(f"no reply: {line!r}")
                texts.append(line[4:])
                if line[3:4] != "-":
                    return line[:3], "\n".join(texts)

    async def _line(self) -> str:
        while (end := self._input.find(b"\r\n")) < 0:
            if len(self._input) > REPLY_OCTETS:
                raise LostError("an endless line")
            octets = await self.stream.receive_some(REPLY_OCTETS)
            if not octets:
                raise LostError("closed")
            self._input += octets
        line = self._input[:end].decode("latin-1")
        del self._input[: end + 2]
        return line

    async def quit(self) -> None:
        """Politely, if the server lets us."""
        async with self.stream:
            with suppress(LostError, OSError, trio.BrokenResourceError, trio.TooSlowError):
                await self.say("QUIT")
                await self.reply()
