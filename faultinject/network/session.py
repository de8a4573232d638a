"""One client's connection to the scripted next hop, under one behaviour.

It takes anything that looks like SMTP, in any pieces, pipelined or not; what it says, and when, is
the behaviour's business, with the honest replies where that says nothing.  A message that was
taken is told to the hop's books when the reply to its end was sent, or is about to be withheld or
cut off.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

import trio

from faultinject.network.behaviours import (
    HONEST,
    Act,
    Behaviour,
    Close,
    Deaf,
    Drip,
    Endless,
    Say,
    Silence,
    Step,
    Vanish,
    ehlo,
)
from faultinject.network.vanishing import vanish

LINE_OCTETS = 4096
CONTENT_OCTETS = 256 << 20
#: How long a connection that has vanished is kept: every client has given it up by then.
VANISHED_S = 120.0
#: An endless reply ends here, if the client reads on: it has failed then, and so says the record.
ENDLESS_OCTETS = 64 << 20
END = b"\r\n.\r\n"
#: What a client sends before an attempt or after it, not in it.
BESIDE = (b"EHLO", b"HELO", b"RSET", b"NOOP", b"QUIT")

_match_path = re.compile(rb"(?i)(?:MAIL FROM|RCPT TO):\s*<([^>]*)>").match
_find_code = re.compile(rb"(?:\A|\n)([2-5])[0-9][0-9](?:[ \r])").findall


class Gone(Exception):
    """The client has closed, or we have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A message that was taken.  `content` is not written to the record file."""

    token: str
    reverse_path: str
    recipients: tuple[str, ...]
    octets: int
    sha256: str
    body_sha256: str
    replied: bool
    behaviour: str
    connection: int
    content: bytes = b""

    def line(self) -> bytes:
        """As a line of the record."""
        fields = asdict(self)
        del fields["content"]
        return json.dumps(fields).encode() + b"\n"


class Books(Protocol):
    """What a session tells its hop."""

    keep_content: bool
    token_header: str
    overfed: int

    def note(self, accepted: Accepted) -> None: ...
    def heard(self, line: bytes) -> None: ...


@dataclass(slots=True, eq=False)
class Conversation:
    """One client's connection, under one behaviour.

    again: called at each MAIL but the first, with the time at which what came before was over.
    over_s: when the last command of an attempt was answered, in seconds since 1970; 0 while it is
    not.
    """

    hop: Books
    stream: trio.SocketStream
    name: str
    behaviour: Behaviour
    number: int
    again: Callable[[float], None] = lambda _: None
    reverse_path: str | None = None
    recipients: list[str] = field(default_factory=list)
    asked: int = 0
    mails: int = 0
    over_s: float = 0.0
    _input: bytearray = field(default_factory=bytearray)

    async def run(self) -> None:
        """Until one side closes.  Raises Gone, or what the stream raises."""
        await self._act("greeting")
        while True:
            line = await self._line()
            self.hop.heard(line)
            verb = line[:4].upper()
            if verb in BESIDE:
                await self._command(line)
                continue
            if verb == b"MAIL":
                if self.mails:
                    self.again(self.over_s)
                self.mails += 1
            self.over_s = 0.0
            await self._command(line)
            self.over_s = time.time()

    async def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        match verb:
            case b"EHLO" | b"HELO" | b"RSET":
                self._forget()
                await self._act(verb.decode().lower())
            case b"MAIL":
                if await self._act("mail") == b"2":
                    self._forget()
                    self.reverse_path = _path(line)
            case b"RCPT":
                await self._recipient(_path(line))
            case b"DATA":
                await self._data()
            case b"QUIT":
                await self._act("quit")
                raise Gone
            case _:
                await self.stream.send_all(b"500 5.5.2 what?\r\n")

    def _forget(self) -> None:
        self.reverse_path = None
        self.recipients.clear()
        self.asked = 0

    async def _recipient(self, address: str) -> None:
        """Accepted unless its name, or the behaviour, says otherwise."""
        self.asked += 1
        if address.startswith("refused"):
            await self.stream.send_all(b"550 5.1.1 no such user\r\n")
        elif address.startswith("busy"):
            await self.stream.send_all(b"450 4.2.1 mailbox is busy\r\n")
        elif self.reverse_path is None:
            await self.stream.send_all(b"503 5.5.1 MAIL first\r\n")
        else:
            acts = self.behaviour.recipients
            act = acts[(self.asked - 1) % len(acts)] if acts else None
            if await self._act("rcpt", act) == b"2":
                self.recipients.append(address)

    async def _data(self) -> None:
        if not self.recipients and "data" not in self.behaviour.acts:
            await self.stream.send_all(b"554 5.5.1 no valid recipients\r\n")
        elif await self._act("data") == b"3":
            content = await self._content()
            self.hop.heard(b".")
            await self._final(content)
            self._forget()

    async def _final(self, content: bytes) -> None:
        """The reply to the end of the content; what was taken is recorded whatever comes."""
        if not self.recipients:  # forced to a 354: an empty message is what the client must send
            await self.stream.send_all(b"554 5.5.1 no valid recipients\r\n")
            return
        if self.behaviour.takes:  # whatever is said now: nobody knows when a client gives up
            self.hop.note(self._accepted(content, replied=False))
        said = Spoken()
        try:
            await self._act("final", spoken=said)
        finally:
            if said.code == b"2" and not self.behaviour.takes:
                self.hop.note(self._accepted(content, replied=True))

    def _accepted(self, content: bytes, *, replied: bool) -> Accepted:
        header, _, body = content.partition(b"\r\n\r\n")
        return Accepted(
            token=_field(header, self.hop.token_header),
            reverse_path=self.reverse_path or "",
            recipients=tuple(self.recipients),
            octets=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            body_sha256=hashlib.sha256(body).hexdigest(),
            replied=replied,
            behaviour=self.name,
            connection=self.number,
            content=content if self.hop.keep_content else b"",
        )

    # -- reading ----------------------------------------------------------------------------------

    async def _fill(self) -> None:
        octets = await self.stream.receive_some(65536)
        if not octets:
            raise Gone
        self._input += octets

    async def _line(self) -> bytes:
        while (end := self._input.find(b"\r\n")) < 0:
            if len(self._input) > LINE_OCTETS:
                raise Gone
            await self._fill()
        line = bytes(self._input[:end])
        del self._input[: end + 2]
        return line

    async def _content(self) -> bytes:
        """Up to CRLF.CRLF, unstuffed."""
        content, start = self._input, 0
        if content[:3] == b".\r\n":
            del content[:3]
            return b""
        while (end := content.find(END, start)) < 0:
            if len(content) > CONTENT_OCTETS:
                raise Gone
            start = max(0, len(content) - len(END))
            await self._fill()
            if start == 0 and content[:3] == b".\r\n":
                del content[:3]
                return b""
        stuffed = bytes(content[: end + 2])
        del content[: end + len(END)]
        return (b"\r\n" + stuffed).replace(b"\r\n.", b"\r\n")[2:]

    # -- saying -----------------------------------------------------------------------------------

    async def _act(self, stage: str, act: Act | None = None, spoken: Spoken | None = None) -> bytes:
        """Do what the behaviour does at this stage; the class of the reply that was said."""
        act = act or self.behaviour.acts.get(stage)
        if act is None:
            octets = ehlo(self.behaviour.features) if stage == "ehlo" else HONEST[stage]
            act = (Say(octets),)
        spoken = spoken or Spoken()
        for step in act:
            await self._step(step, spoken)
        return spoken.code

    async def _step(self, step: Step, spoken: Spoken) -> None:
        match step:
            case Say():
                await self.stream.send_all(step.octets)
                spoken.add(step.octets)
            case Drip():
                for octet in step.octets:
                    await self.stream.send_all(bytes((octet,)))
                    await trio.sleep(step.pause_s)
                spoken.add(step.octets)
            case Endless():
                await self._endless(step, spoken)
            case Deaf():
                await trio.sleep(step.seconds)
            case Silence():
                await self._until_gone()
            case Vanish():
                vanish(self.stream.socket)
                await trio.sleep(VANISHED_S)
                raise Gone
            case Close():
                if step.reset:
                    linger = struct.pack("ii", 1, 0)
                    self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                raise Gone

    async def _endless(self, step: Endless, spoken: Spoken) -> None:
        spoken.add(step.octets)
        sent = 0
        while sent < ENDLESS_OCTETS:
            if step.pause_s:
                await self._step(Drip(step.octets, step.pause_s), Spoken())
                sent += len(step.octets)
            else:
                await self.stream.send_all(step.octets * 16)
                sent += len(step.octets) * 16
        self.hop.overfed += 1
        raise Gone

    async def _until_gone(self) -> None:
        while await self.stream.receive_some(65536):
            pass
        raise Gone


@dataclass(slots=True)
class Spoken:
    """What was said at a stage: the class of its first whole reply, b"" while there is none."""

    code: bytes = b""
    _octets: bytes = b""

    def add(self, octets: bytes) -> None:
        """More of it.  A line that ends without CRLF is no reply."""
        self._octets = (self._octets + octets)[:LINE_OCTETS]
        found = _find_code(self._octets) if self._octets.endswith(b"\r\n") else []
        self.code = self.code or (found[0] if found else b"")


def _path(line: bytes) -> str:
    match = _match_path(line)
    return match[1].decode("latin-1") if match else ""


def _field(header: bytes, name: str) -> str:
    pattern = rb"(?im)^" + re.escape(name.encode()) + rb":[ \t]*([^\r\n]*)"
    match = re.search(pattern, header)
    return match[1].decode("latin-1").strip() if match else ""
