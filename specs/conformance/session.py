"""One case's talk with a server: raw octets both ways, every one of them in the transcript.

    await talk.upto("rcpt")                   # connect, greeting, EHLO, MAIL, RCPT: or `Refused`
    reply = await talk.say("DATA")            # a line, and its reply
    await talk.send(b"...")                   # octets as they are
    reply = await talk.reply()                # the next one; "closed" or "silent" are replies, too
    reply = await talk.unasked()              # "silent" if nothing comes by itself for a while

Rules a reader may rely on
- A server's behaviour never raises, but in `must`, `upto` and what is built on them (`Refused`):
  there the case could not be carried out, and nothing is said about the server.
- A connection that cannot be had raises OSError.
- What the server was told in TLS stands in the transcript as it was said, not as it was sent.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import trio

from specs.conformance.given import Address, Given
from specs.conformance.model import Door, Line, Reply
from specs.conformance.replies import MOST_OCTETS, cut, features

Stage = Literal["connect", "greeting", "ehlo", "mail", "rcpt", "data"]
STAGES: Final[tuple[Stage, ...]] = ("connect", "greeting", "ehlo", "mail", "rcpt", "data")
#: How often a Maildir is looked at, in seconds.
LOOK_S: Final = 0.05
#: How much a file system's clock may be behind, in seconds.
SLACK_S: Final = 2.0
#: Most of a connection that the transcript keeps, in octets; cases may send megabytes.
TOLD: Final = 1 << 16


class Refused(Exception):
    """What a case needs before it can ask its question was refused."""

    def __init__(self, what: str, reply: Reply) -> None:
        self.what, self.reply = what, reply
        super().__init__(f"{what}: {reply}")


class NotApplicable(Exception):
    """Found out on the way: the text is the keyword that is not offered."""


class Unavailable(Exception):
    """Found out on the way: this run was not given, or this machine has not, what the text says."""


@dataclass(slots=True)
class Told:
    """A transcript while it is written, of all connections of a case."""

    began_s: float
    #: The time of day before which no mail is this case's.
    since_s: float = field(default_factory=lambda: time.time() - SLACK_S)
    lines: list[Line] = field(default_factory=list)
    connections: int = 0
    _left: int = 4 * TOLD

    def add(self, who: Literal["C", "S", "-"], octets: bytes, connection: int) -> None:
        """Nothing once it is too long, but a remark that says so."""
        if self._left <= 0:
            return
        self._left -= len(octets)
        shown = octets if len(octets) <= TOLD else octets[:TOLD]
        at_s = trio.current_time() - self.began_s
        self.lines.append(Line(at_s=at_s, who=who, octets=shown, connection=connection))
        if len(shown) < len(octets) or self._left <= 0:
            more = f"{len(octets)} octets, of which {len(shown)} are shown".encode()
            self.lines.append(Line(at_s=at_s, who="-", octets=more, connection=connection))


@dataclass(slots=True, kw_only=True)
class Session:
    """Use as an asynchronous context: it closes what is open.  token: a word of this case's own,
    which every message of `message` has.  features: of the last EHLO.
    """

    given: Given
    door: Door
    token: str
    told: Told
    features: dict[str, str] = field(default_factory=dict)
    stage: Stage | Literal[""] = ""
    number: int = 0
    #: What relayed cases share (`testbed`).
    testbed: object | None = None
    _stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] | None = None
    _input: bytes = b""
    _ended: bool = False
    _others: list[Session] = field(default_factory=list)
    _seen: dict[tuple[Path, bytes], dict[str, bytes | None]] = field(default_factory=dict)

    # -- octets -----------------------------------------------------------------------------------

    async def connect(self, address: Address | None = None) -> None:
        """Without reading the greeting.  Raises OSError."""
        where = address or self.given.address(self.door)
        if where is None:
            raise Unavailable(f"the door of {self.door}")
        self.told.connections += 1
        self.number = self.told.connections
        with trio.move_on_after(self.given.timeout_s) as scope:
            self._stream = await trio.open_tcp_stream(*where)
        if scope.cancelled_caught:
            raise TimeoutError(f"no connection in {self.given.timeout_s:.0f} s")
        self.note(f"connected to {where[0]} port {where[1]}")
        self.stage = "connect"
        if self.door == "tls":
            await self.handshake()

    async def send(self, octets: bytes) -> bool:
        """As they are; whether the connection took them in time."""
        self.told.add("C", octets, self.number)
        if self._stream is None:
            return False
        with trio.move_on_after(self.given.timeout_s) as scope:
            try:
                await self._stream.send_all(octets)
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                self.note("could not be sent: the connection is gone")
                return False
        if scope.cancelled_caught:
            self.note("could not be sent: the server does not read")
        return not scope.cancelled_caught

    async def reply(self, timeout_s: float | None = None) -> Reply:
        """The next one, or what came instead."""
        limit_s = self.given.timeout_s if timeout_s is None else timeout_s
        with trio.move_on_after(limit_s):
            while True:
                found = cut(self._input)
                if found is not None:
                    reply, self._input = found
                    return reply
                more = await self._receive()
                if not more:
                    left, self._input = self._input, b""
                    return Reply(kind="closed", octets=left)
                self._input += more
                if len(self._input) > 2 * MOST_OCTETS:
                    self._input, flood = b"", self._input
                    return Reply(kind="flood", octets=flood)
        return Reply(kind="silent", octets=self._input)

    async def _receive(self) -> bytes:
        if self._stream is None or self._ended:
            return b""
        try:
            octets = bytes(await self._stream.receive_some(1 << 16))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            octets = b""
        if octets:
            self.told.add("S", octets, self.number)
        else:
            self._ended = True
            self.note("the server has closed the connection")
        return octets

    async def rest(self, timeout_s: float | None = None) -> bytes:
        """Everything until the end of the connection, or until this time is over."""
        with trio.move_on_after(self.given.timeout_s if timeout_s is None else timeout_s):
            while len(self._input) < MOST_OCTETS:
                more = await self._receive()
                if not more:
                    break
                self._input += more
        octets, self._input = self._input, b""
        return octets

    async def unasked(self, seconds: float | None = None) -> Reply:
        """What comes by itself within `quiet_s`: "silent" if nothing does."""
        return await self.reply(self.given.quiet_s if seconds is None else seconds)

    @property
    def unread(self) -> bytes:
        """Received, and not part of a reply that was read."""
        return self._input

    def forget(self) -> None:
        """Drop what was received and not read."""
        self._input = b""

    async def half_close(self) -> None:
        """No more from us; the server may still speak."""
        self.note("the client sends no more (half-close)")
        if isinstance(self._stream, trio.SocketStream):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await self._stream.send_eof()

    async def close(self) -> None:
        """Without QUIT."""
        if self._stream is not None:
            self.note("the client closes the connection")
            await trio.aclose_forcefully(self._stream)
            self._stream = None

    def note(self, text: str) -> None:
        """A remark in the transcript."""
        self.told.add("-", text.encode("utf-8", "backslashreplace"), self.number)

    # -- lines and replies ------------------------------------------------------------------------

    async def say(self, line: str | bytes, timeout_s: float | None = None) -> Reply:
        """A line (CRLF is added), and its reply."""
        await self.send(_octets(line) + b"\r\n")
        return await self.reply(timeout_s)

    async def must(self, line: str | bytes) -> Reply:
        """The same.  Raises Refused unless it is answered 2yz or 3yz."""
        reply = await self.say(line)
        if not reply.positive:
            raise Refused(_octets(line).decode("utf-8", "backslashreplace")[:80], reply)
        return reply

    async def replies(self, count: int) -> list[Reply]:
        """So many, or fewer when the connection ended or fell silent: that is the last one then."""
        found: list[Reply] = []
        while len(found) < count:
            found.append(await self.reply())
            if found[-1].kind in ("closed", "silent", "flood"):
                break
        return found

    async def hello(self, verb: str = "") -> Reply:
        """EHLO, or LHLO at LMTP's door; its features are kept.  Raises Refused."""
        word = verb or ("LHLO" if self.door == "lmtp" else "EHLO")
        reply = await self.must(f"{word} {self.given.hostname}")
        self.features = features(reply)
        self.stage = "ehlo"
        return reply

    async def upto(self, stage: Stage) -> Reply:
        """As far as that, in good order, from where the session is; the last reply.  "ehlo": at a
        door in TLS, with the EHLO inside it.  Raises Refused, NotApplicable, OSError.
        """
        reply = Reply(kind="silent")
        done = STAGES.index(self.stage) if self.stage else -1
        for each in STAGES[done + 1 : STAGES.index(stage) + 1]:
            reply = await self._go_on(each)
            self.stage = each
        return reply

    async def _go_on(self, stage: Stage) -> Reply:
        match stage:
            case "connect":
                await self.connect()
                return Reply(kind="silent")
            case "greeting":
                reply = await self.reply()
                if reply.code != "220":
                    raise Refused("the greeting", reply)
                return reply
            case "ehlo":
                reply = await self.hello()
                if self.door in ("starttls", "submission-starttls"):
                    reply = await self.starttls()
                return reply
            case "mail":
                return await self.must(f"MAIL FROM:<{self.given.sender}>")
            case "rcpt":
                return await self.must(f"RCPT TO:<{self.given.rcpt}>")
            case "data":
                reply = await self.must("DATA")
                if reply.code != "354":
                    raise Refused("DATA", reply)
                return reply

    def fill(self, line: str) -> str:
        """{rcpt}, {rcpt2}, {sender}, {unknown}, {relay}, {domain}, {hostname} and {token}."""
        given = self.given
        known = {
            "rcpt": given.rcpt, "rcpt2": given.rcpt2, "sender": given.sender,
            "domain": given.domain, "unknown": given.unknown, "relay": given.relay,
            "hostname": given.hostname, "token": self.token,
        }  # fmt: skip
        for name, value in known.items():
            line = line.replace(f"{{{name}}}", value)
        return line

    # -- TLS and AUTH -----------------------------------------------------------------------------

    async def starttls(self) -> Reply:
        """STARTTLS, the handshake, and EHLO inside.  Raises Refused, NotApplicable."""
        if "STARTTLS" not in self.features:
            raise NotApplicable("STARTTLS")
        reply = await self.must("STARTTLS")
        if reply.code != "220":
            raise Refused("STARTTLS", reply)
        await self.handshake()
        return await self.hello()

    async def handshake(self, context: ssl.SSLContext | None = None) -> None:
        """TLS on what is open; certificates are not checked unless the context does.  What was read
        before it is dropped (RFC 3207 4.2).  Raises Refused.
        """
        if not isinstance(self._stream, trio.SocketStream):
            raise Refused("TLS", Reply(kind="closed"))
        self._input = b""
        context = context or trusting()
        stream = trio.SSLStream(
            self._stream, context, server_hostname=self.given.smtp[0], https_compatible=True
        )
        with trio.move_on_after(self.given.timeout_s) as scope:
            try:
                await stream.do_handshake()
            except (trio.BrokenResourceError, ssl.SSLError) as error:
                self.note(f"TLS: {error}")
                self._ended = True
                raise Refused("the handshake of TLS", Reply(kind="closed")) from None
        if scope.cancelled_caught:
            raise Refused("the handshake of TLS", Reply(kind="silent"))
        self.note("from here on inside TLS")
        self._stream = stream

    async def auth(self) -> Reply:
        """AUTH PLAIN as the user that was given.  Raises Refused, NotApplicable, Unavailable."""
        if not self.given.user:
            raise Unavailable("--user")
        if "PLAIN" not in self.features.get("AUTH", "").upper().split():
            raise NotApplicable("AUTH PLAIN")
        return await self.must(f"AUTH PLAIN {self.plain()}")

    def plain(self, user: str | None = None, password: str | None = None) -> str:
        """The initial response of PLAIN (RFC 4616), in base64."""
        name = self.given.user if user is None else user
        word = self.given.password if password is None else password
        return base64.b64encode(f"\0{name}\0{word}".encode()).decode()

    # -- mail -------------------------------------------------------------------------------------

    def message(
        self, body: str | bytes = "A message of the conformance suite.\r\n", *, headers: str = ""
    ) -> bytes:
        """A whole message with this case's token, in lines that end in CRLF, not dot-stuffed."""
        head = (
            f"From: <{self.given.sender}>\r\nTo: <{self.given.rcpt}>\r\n"
            f"Subject: conformance {self.token}\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n"
            f"Message-ID: <{self.token}@{self.given.hostname}>\r\n{headers}\r\n"
        )
        return head.encode() + _octets(body)

    async def content(self, octets: bytes) -> Reply:
        """After a 354: dot-stuffed, ended; the last reply."""
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        end = b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
        await self.send(stuffed + end)
        self.stage = "ehlo"
        return await self.reply()

    async def transact(
        self, octets: bytes | None = None, *, sender: str | None = None,
        rcpts: Sequence[str] | None = None, mail: str = "", rcpt: str = "",
    ) -> Reply:  # fmt: skip
        """A whole transaction, from "ehlo" on; the reply to its end.  mail, rcpt: parameters behind
        the addresses.  Raises Refused if it does not come to the end.
        """
        await self.upto("ehlo")
        path = self.given.sender if sender is None else sender
        await self.must(f"MAIL FROM:<{path}> {mail}".rstrip())
        for each in (self.given.rcpt,) if rcpts is None else rcpts:
            await self.must(f"RCPT TO:<{each}> {rcpt}".rstrip())
        await self.must("DATA")
        return await self.content(self.message() if octets is None else octets)

    async def arrived(self, *, box: int = 0, count: int = 1, token: str = "") -> list[bytes]:
        """What lies in the Maildir of that `rcpt` with this token: as soon as there are so many, or
        when patience ends, however many there are.  Raises Unavailable.
        """
        if len(self.given.maildirs) <= box:
            raise Unavailable("--maildir")
        return await self.look(self.given.maildirs[box], count=count, token=token)

    async def reports(self, *, count: int = 1, token: str = "") -> list[bytes]:
        """The same in the mailbox of the sender.  Raises Unavailable."""
        if self.given.sender_maildir is None:
            raise Unavailable("--sender-maildir")
        return await self.look(self.given.sender_maildir, count=count, token=token)

    async def look(
        self, maildir: Path, *, count: int = 1, token: str = "", patience_s: float | None = None
    ) -> list[bytes]:
        """Messages with a token (this case's, if none is given) in a Maildir."""
        wanted = (token or self.token).encode()
        found: list[bytes] = []
        limit_s = self.given.patience_s if patience_s is None else patience_s
        with trio.move_on_after(limit_s):
            while True:
                found = self.here_now(maildir, wanted)
                if len(found) >= count:
                    break
                await trio.sleep(LOOK_S)
        self.note(f"{len(found)} messages with the token {wanted.decode()} in {maildir}")
        return found

    def here_now(self, maildir: Path, token: bytes) -> list[bytes]:
        """What has come there with a token since the case began."""
        seen = self._seen.setdefault((maildir, token), {})
        return messages(maildir, token, self.told.since_s, seen)

    # -- beside it --------------------------------------------------------------------------------

    def another(self, door: Door | None = None) -> Session:
        """A second connection of this case, not yet connected; it is closed with this one."""
        beside = Session(
            given=self.given, door=door or self.door, token=self.token, told=self.told,
            testbed=self.testbed,
        )  # fmt: skip
        self._others.append(beside)
        return beside

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            for each in (*self._others, self):
                if each._stream is not None:
                    await trio.aclose_forcefully(each._stream)
                    each._stream = None


def _octets(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def messages(
    maildir: Path, token: bytes, since_s: float, seen: dict[str, bytes | None]
) -> list[bytes]:
    """What lies in new/ and cur/ with this token, and has come since then.  seen: what was looked
    at before, by name; a file of a Maildir never changes.
    """
    for part in ("new", "cur"):
        with suppress(OSError), os.scandir(maildir / part) as entries:
            for entry in entries:
                name = entry.name.partition(":")[0]  # flags come behind it
                if name in seen:
                    continue
                with suppress(OSError):  # moved meanwhile
                    octets = b""
                    if entry.stat().st_mtime >= since_s:
                        octets = Path(entry.path).read_bytes()
                    seen[name] = octets if token in octets else None
    return [octets for _, octets in sorted(seen.items()) if octets is not None]


def trusting() -> ssl.SSLContext:
    """Any certificate is taken: it is not what most cases ask for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def token_of(case: str, seed: int) -> str:
    """A word that no other case, and no other seed, has."""
    return "t" + hashlib.sha256(f"{seed} {case}".encode()).hexdigest()[:15]
