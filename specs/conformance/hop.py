"""A scripted next hop: it listens, records every octet of the server under test, and answers by
a table.

    hop = await way.mx(rcpt="550 no such user")                  # one answer, whenever asked
    hop = await way.mx(mail=("451 later", "250 ok"))             # the first time, then ever after
    hop = await way.mx(end=say("250 ok", after_s=2.0))           # late
    hop = await way.mx(rcpt=lambda visit, line: "550 no" if "bob" in line else "250 ok")

| key               | is answered             | unless the table says otherwise               |
|-------------------|-------------------------|-----------------------------------------------|
| connect           | before anything is said | nothing; `then` may end the visit             |
| greeting          | first                   | 220                                           |
| ehlo, helo        |                         | 250, with `features` (in TLS: `tls_features`) |
| mail              | MAIL                    | 250                                           |
| rcpt              | RCPT                    | 250, or 503 without MAIL                      |
| data              | DATA                    | 354, or 503 if no recipient was taken         |
| end               | the end of the content  | 250                                           |
| bdat              | each chunk, once whole  | 250                                           |
| rset, noop, quit, vrfy |                    | 250, 250, 221, 252                            |
| starttls          | STARTTLS                | 220 if it is offered, else 502                |
| other             | everything else         | 500                                           |

Rules a reader may rely on
- Reading goes on beside answering: `Heard.early` says that a command's first octet was there before
  the last answer was sent.  It is never true of a client that waited.
- After 3yz to DATA what comes is content, until CRLF.CRLF and nothing else.
- 421 ends the connection, unless the answer says otherwise.  It ends as a polite server's does:
  what was said can be read.
- A hop judges nothing.  It belongs to one case, and ends with it.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

import trio

from specs.conformance.session import Told

#: How long a client that we have done with may take to close, in seconds.
LINGER_S: Final = 2.0
#: How long a group of commands may take to arrive, for an answer that is held back for it.
GROUP_S: Final = 0.3
IPV6_FREEBIND: Final = 78  # linux/in6.h
VERBS: Final = {
    "EHLO": "ehlo", "HELO": "helo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "RSET": "rset",
    "NOOP": "noop", "QUIT": "quit", "VRFY": "vrfy", "STARTTLS": "starttls", "BDAT": "bdat",
}  # fmt: skip
KEYS: Final = frozenset({*VERBS.values(), "connect", "greeting", "end", "other"})
FEATURES: Final = ("PIPELINING", "8BITMIME", "SIZE 52428800")
Then = Literal["", "close", "reset", "hang"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """octets: as they are sent.  after_s: how long it takes.  then: what becomes of the connection.
    drip: octet by octet.  held: sent together with the next answer, if a next command is there.
    counts: the code that it stands for, if that is not the one of its first line.
    """

    octets: bytes = b""
    after_s: float = 0.0
    then: Then = ""
    drip: bool = False
    held: bool = False
    counts: str = ""

    @property
    def code(self) -> str:
        """What a client goes by."""
        return self.counts or self.octets[:3].decode("ascii", "replace")


Say: TypeAlias = "str | bytes | Answer | tuple[Say, ...] | Callable[[Visit, str], Say]"
Table: TypeAlias = "Mapping[str, Say]"


def say(
    what: str | bytes, *, after_s: float = 0.0, then: Then = "", drip: bool = False,
    held: bool = False, counts: str = "",
) -> Answer:  # fmt: skip
    """Text gets its CRLF; octets are as they are."""
    octets = what if isinstance(what, bytes) else what.encode("utf-8", "surrogateescape") + b"\r\n"
    return Answer(
        octets=octets, after_s=after_s, then=then, drip=drip, held=held, counts=counts
    )  # fmt: skip


CLOSE: Final = Answer(then="close")
RESET: Final = Answer(then="reset")
HANG: Final = Answer(then="hang")


class Bell:
    """Rung whenever anything was recorded."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Whether it holds within that time."""
        with trio.move_on_after(max(0.0, limit_s)):
            while not condition():
                await self._event.wait()
        return condition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A command.  line: without its end; octets: with it.  at_s: when its first octet came."""

    line: str
    octets: bytes
    at_s: float
    early: bool
    tls: bool

    @property
    def verb(self) -> str:
        return self.line.split(" ", 1)[0].split(":", 1)[0].upper()

    @property
    def key(self) -> str:
        """Of the table of answers."""
        return VERBS.get(self.verb, "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Of MAIL or RCPT.  path: between the brackets, or "" (also if there are none)."""

    path: str
    parameters: tuple[str, ...]
    code: str

    @property
    def keywords(self) -> dict[str, str]:
        """Keyword in capitals to its value."""
        pairs = (each.partition("=") for each in self.parameters)
        return {name.upper(): value for name, _, value in pairs}


@dataclass(slots=True, kw_only=True)
class Mail:
    """A message whose content came.  wire: as it came, with dots doubled; content: without that.
    code: what its end was answered, "" as long as it was not.
    """

    hop: str
    visit: int
    sender: Path
    rcpts: tuple[Path, ...]
    wire: bytes
    content: bytes
    at_s: float
    tls: bool
    by: Literal["DATA", "BDAT"] = "DATA"
    code: str = ""

    @property
    def taken(self) -> bool:
        return self.code[:1] == "2"

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the recipients that were not refused."""
        return tuple(each.path for each in self.rcpts if each.code[:1] == "2")


@dataclass(slots=True, kw_only=True)
class Visit:
    """One connection.  ended: "" while it lasts; "quit", "closed" without QUIT, "reset", "by us".
    hasty: it did not wait for a late 221.  handshake: "" if there was none, "done", or why there
    is no TLS.  early_octets: what came before the 220 to STARTTLS.
    """

    hop: str
    number: int
    began_s: float
    commands: list[Heard] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    octets: bytearray = field(default_factory=bytearray)
    ended: str = ""
    ended_s: float = 0.0
    said_bye: bool = False
    hasty: bool = False
    handshake: str = ""
    early_octets: bytes = b""
    mail: Path | None = None
    rcpts: list[Path] = field(default_factory=list)
    chunks: bytearray = field(default_factory=bytearray)

    @property
    def tls(self) -> bool:
        return self.handshake == "done"

    @property
    def verbs(self) -> list[str]:
        return [each.verb for each in self.commands]

    def lines(self, verb: str) -> list[Heard]:
        """The commands of that verb."""
        return [each for each in self.commands if each.verb == verb]

    def forget(self) -> None:
        """The transaction is over."""
        self.mail, self.rcpts, self.chunks = None, [], bytearray()


@dataclass(slots=True, kw_only=True)
class Hop:
    """name: what it calls itself.  table: what it answers.  stall_s: how long it reads nothing once
    content has begun.  room: of its receive buffer, in octets; 0 for the kernel's choice.
    """

    name: str
    host: str
    port: int
    told: Told
    bell: Bell
    table: Table = field(default_factory=dict)
    features: tuple[str, ...] = FEATURES
    tls_features: tuple[str, ...] | None = None
    certificate: ssl.SSLContext | None = None
    stall_s: float = 0.0
    room: int = 0
    visits: list[Visit] = field(default_factory=list)
    _times: dict[str, int] = field(default_factory=dict)

    @property
    def mails(self) -> list[Mail]:
        """Of all visits, in the order in which they came."""
        return sorted((m for each in self.visits for m in each.mails), key=lambda m: m.at_s)

    @property
    def taken(self) -> list[Mail]:
        return [each for each in self.mails if each.taken]

    @property
    def commands(self) -> list[Heard]:
        return [heard for each in self.visits for heard in each.commands]

    @property
    def open(self) -> list[Visit]:
        return [each for each in self.visits if not each.ended]

    async def listen(self, nursery: trio.Nursery) -> None:
        """From now on, until the nursery ends.  Raises OSError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        door = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # of a network that is routed here, and not configured
                door.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            if self.room:
                door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.room)
            await door.bind((self.host, self.port))
            door.listen(100)
        except OSError:
            door.close()
            raise
        nursery.start_soon(trio.serve_listeners, self._receive, [trio.SocketListener(door)])

    async def _receive(self, stream: trio.SocketStream) -> None:
        self.told.connections += 1
        number = self.told.connections
        visit = Visit(hop=self.name, number=len(self.visits) + 1, began_s=trio.current_time())
        self.visits.append(visit)
        talk = _Talk(hop=self, visit=visit, number=number)
        talk.note(f"the server connects to {self.name} ({self.host})")
        self.bell.ring()
        try:
            await talk.hold(stream)
        finally:
            if not visit.ended:
                talk.end("by us")
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    def answer_to(self, key: str, visit: Visit, line: str) -> Answer:
        """By the table, or what is usual."""
        times = self._times[key] = self._times.get(key, 0) + 1
        chosen: Say = self.table[key] if key in self.table else self._usual(key, visit)
        while not isinstance(chosen, Answer):
            if isinstance(chosen, tuple):
                chosen = chosen[min(times, len(chosen)) - 1]
            elif callable(chosen):
                chosen = chosen(visit, line)
            else:
                chosen = say(chosen)
        if chosen.code == "421" and not chosen.then:
            return replace(chosen, then="close")
        return chosen

    def _usual(self, key: str, visit: Visit) -> Say:
        taken = any(each.code[:1] == "2" for each in visit.rcpts)
        match key:
            case "greeting":
                return f"220 {self.name} ESMTP"
            case "ehlo":
                inside = self.tls_features if visit.tls else None
                features = self.features if inside is None else inside
                lines = [self.name, *features]
                return "\r\n".join([*(f"250-{each}" for each in lines[:-1]), f"250 {lines[-1]}"])
            case "helo":
                return f"250 {self.name}"
            case "rcpt" if visit.mail is None:
                return "503 MAIL first"
            case "data" if not taken:
                return "503 no recipients"
            case "data":
                return "354 go on"
            case "starttls":
                return "220 go on" if "STARTTLS" in self.features else "502 not here"
            case "connect":
                return Answer()
            case _:
                return {"quit": "221 bye", "vrfy": "252 perhaps", "other": "500 what?"}.get(
                    key, "250 ok"
                )


class _Ended(Exception):
    """The visit is over."""


@dataclass(slots=True)
class _Talk:
    """The machinery of one visit."""

    hop: Hop
    visit: Visit
    number: int
    _stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    #: (how many octets had come by then, when)
    _arrivals: list[tuple[int, float]] = field(default_factory=list)
    _cut: int = 0  # octets of the buffer's predecessors
    _answered_s: float = -1.0
    _over: str = ""
    _reader: trio.CancelScope = field(default_factory=trio.CancelScope)
    _still: trio.Event = field(default_factory=trio.Event)
    _more: Bell = field(default_factory=Bell)
    _stalled_until_s: float = 0.0
    _held: bytes = b""

    def note(self, text: str) -> None:
        self.hop.told.add("-", text.encode("utf-8", "backslashreplace"), self.number)

    def end(self, how: str) -> None:
        if not self.visit.ended:
            self.visit.ended, self.visit.ended_s = how, trio.current_time()
            self.note(f"{self.hop.name}: the connection has ended ({how})")
            self.hop.bell.ring()

    def _gone(self) -> None:
        """The client has ended it."""
        self.end("quit" if self.visit.said_bye else self._over or "reset")

    # -- octets -----------------------------------------------------------------------------------

    async def hold(self, stream: trio.SocketStream) -> None:
        """All of it."""
        self._stream = stream
        async with trio.open_nursery() as nursery:
            self._start_reading(nursery)
            try:
                await self._speak(nursery)
            except _Ended:
                pass
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError):
                self._gone()
            nursery.cancel_scope.cancel()

    def _start_reading(self, nursery: trio.Nursery) -> None:
        self._reader, self._still = trio.CancelScope(), trio.Event()
        nursery.start_soon(self._read, self._reader, self._still)

    async def _stop_reading(self) -> None:
        self._reader.cancel()
        await self._still.wait()

    async def _read(self, scope: trio.CancelScope, still: trio.Event) -> None:
        try:
            with scope:
                while not self._over:
                    await trio.sleep_until(self._stalled_until_s)
                    await self._read_some()
        finally:
            still.set()
            self._more.ring()

    async def _read_some(self) -> None:
        if self._stream is None:
            return
        try:
            octets = bytes(await self._stream.receive_some(1 << 16))
            if not octets:
                self._over = "closed"
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            octets, self._over = b"", "reset"
        if octets:
            self._buffer += octets
            self.visit.octets += octets
            total = self._cut + len(self._buffer)
            self._arrivals.append((total, trio.current_time()))
            self.hop.told.add("S", octets, self.number)
        self._more.ring()
        self.hop.bell.ring()

    async def _until(self, mark: bytes) -> bytes:
        """Octets up to that, and with it.  Raises _Ended."""
        seen = 0
        while True:
            at = self._buffer.find(mark, max(0, seen - len(mark)))
            if at >= 0:
                return self._take(at + len(mark))
            seen = len(self._buffer)
            await self._wait_for_more()

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._wait_for_more()
        return self._take(count)

    async def _wait_for_more(self) -> None:
        if self._over:
            self._gone()
            raise _Ended
        before = len(self._buffer)
        await self._more.until(lambda: len(self._buffer) > before or bool(self._over), 1e9)

    def _take(self, count: int) -> bytes:
        octets = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._cut += count
        return octets

    def _came_s(self, offset: int) -> float:
        """When the octet at that place (of all that came) came."""
        for total, at_s in self._arrivals:
            if total > offset:
                return at_s
        return trio.current_time()

    async def _send(self, answer: Answer) -> None:
        """And do what it says then.  Raises _Ended."""
        if answer.after_s:
            await trio.sleep(answer.after_s)
            self.visit.hasty |= self.visit.said_bye and bool(self._over)
        if answer.held and not answer.then and await self._another_is_there():
            self._held += answer.octets
            return
        octets, self._held = self._held + answer.octets, b""
        if octets and self._stream is not None:
            self.hop.told.add("C", octets, self.number)
            parts = [octets[at : at + 1] for at in range(len(octets))] if answer.drip else [octets]
            for each in parts:
                # Before it is sent: who answers it can't have been earlier.
                self._answered_s = trio.current_time()
                await self._stream.send_all(each)
                if answer.drip:
                    await trio.sleep(0.01)
        match answer.then:
            case "close":
                await self._close()
            case "reset":
                self._reset()
            case "hang":
                self.note(f"{self.hop.name}: says nothing more")
                await self._stay_silent()
            case "":
                return
        raise _Ended

    async def _another_is_there(self) -> bool:
        await self._more.until(lambda: b"\n" in self._buffer or bool(self._over), GROUP_S)
        return b"\n" in self._buffer

    async def _close(self) -> None:
        """So that what was said can be read: no more from us, then wait for the other end."""
        self.end("by us")
        stream = self._stream
        if isinstance(stream, trio.SocketStream):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await stream.send_eof()
            await self._more.until(lambda: bool(self._over), LINGER_S)
        elif stream is not None:
            with trio.move_on_after(LINGER_S), suppress(trio.BrokenResourceError, ssl.SSLError):
                await stream.aclose()

    def _reset(self) -> None:
        self.end("by us")
        stream = self._stream
        under = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if under is not None:
            linger = struct.pack("ii", 1, 0)
            under.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            under.socket.close()

    async def _stay_silent(self) -> None:
        await self._more.until(lambda: bool(self._over), 1e9)
        self.end(self._over)

    # -- SMTP -------------------------------------------------------------------------------------

    async def _speak(self, nursery: trio.Nursery) -> None:
        for key in ("connect", "greeting"):
            await self._send(self.hop.answer_to(key, self.visit, ""))
        while True:
            heard = await self._command()
            answer = self.hop.answer_to(heard.key, self.visit, heard.line)
            if heard.key == "bdat":
                await self._chunk(heard, answer)
                continue
            self._note_transaction(heard, answer)
            if heard.key == "starttls" and answer.code == "220" and not self.visit.tls:
                await self._start_tls(answer, nursery)
                continue
            await self._send(answer)
            if heard.key == "data" and answer.code[:1] == "3":
                await self._content()
            elif heard.key == "quit":
                await self._close_after_quit()

    async def _command(self) -> Heard:
        begins = self._cut
        octets = await self._until(b"\n")
        at_s = self._came_s(begins)
        heard = Heard(
            line=octets.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape"),
            octets=octets, at_s=at_s, early=at_s < self._answered_s or self._answered_s < 0,
            tls=self.visit.tls,
        )  # fmt: skip
        self.visit.commands.append(heard)
        self.visit.said_bye = heard.key == "quit"
        self.hop.bell.ring()
        return heard

    def _note_transaction(self, heard: Heard, answer: Answer) -> None:
        visit = self.visit
        good = answer.code[:1] == "2"
        match heard.key:
            case "ehlo" | "helo" | "rset" if good:
                visit.forget()
            case "mail" if good:
                visit.forget()
                visit.mail = path_of(heard.line, answer.code)
            case "rcpt":
                visit.rcpts.append(path_of(heard.line, answer.code))

    async def _content(self) -> None:
        """After 354."""
        self._stalled_until_s = trio.current_time() + self.hop.stall_s
        if self._buffer[:3] != b".\r\n" and len(self._buffer) < 3:
            while len(self._buffer) < 3:
                await self._wait_for_more()
        wire = await self._exactly(3) if self._buffer[:3] == b".\r\n" else b""
        wire = wire or await self._until(b"\r\n.\r\n")
        raw = wire[: -len(b".\r\n")]
        content = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n")[2:]
        await self._received(raw, content, "DATA", self.hop.answer_to("end", self.visit, ""))

    async def _chunk(self, heard: Heard, answer: Answer) -> None:
        words = heard.line.upper().split()
        if len(words) < 2 or not words[1].isdigit():
            await self._send(say("501 how many?"))
            return
        self.visit.chunks += await self._exactly(int(words[1]))
        if answer.code[:1] != "2":
            self.visit.forget()
        if words[-1] != "LAST" or answer.code[:1] != "2":
            await self._send(answer)
            return
        raw = bytes(self.visit.chunks)
        await self._received(raw, raw, "BDAT", answer)

    async def _received(
        self, wire: bytes, content: bytes, by: Literal["DATA", "BDAT"], answer: Answer
    ) -> None:
        visit = self.visit
        mail = Mail(
            hop=self.hop.name, visit=visit.number, rcpts=tuple(visit.rcpts), wire=wire,
            sender=visit.mail or Path(path="", parameters=(), code=""), content=content,
            at_s=trio.current_time(), tls=visit.tls, by=by,
        )  # fmt: skip
        visit.mails.append(mail)
        visit.forget()
        try:
            await self._send(answer)
        finally:
            mail.code = answer.code
            self.hop.bell.ring()

    async def _start_tls(self, answer: Answer, nursery: trio.Nursery) -> None:
        """What comes before our 220 was sent is kept apart: it is no part of a handshake."""
        if self.hop.certificate is None:
            await self._send(answer)
            return
        await trio.sleep(answer.after_s)
        await self._stop_reading()
        self.visit.early_octets = self._take(len(self._buffer))
        await self._send(replace(answer, after_s=0.0))
        if not isinstance(self._stream, trio.SocketStream):
            raise _Ended
        inside = trio.SSLStream(
            self._stream, self.hop.certificate, server_side=True, https_compatible=True
        )
        try:
            await inside.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError, OSError) as error:
            self.visit.handshake = f"{error.__cause__ or error}" or "failed"
            self.note(f"TLS: {self.visit.handshake}")
            self.end("closed")
            raise _Ended from None
        self.visit.handshake = "done"
        self.visit.forget()
        self.note("from here on inside TLS")
        self._stream = inside
        self._start_reading(nursery)

    async def _close_after_quit(self) -> None:
        """RFC 5321 4.1.1.10: we close once 221 was sent; who closes first is not judged."""
        if self._over == "":
            await self._more.until(lambda: bool(self._over), LINGER_S)
        self.end("quit")
        raise _Ended


def path_of(line: str, code: str = "") -> Path:
    """Of a MAIL or RCPT: what stands in the brackets, and what behind them."""
    begins = line.find("<")
    end, quoted, at = -1, False, begins
    while 0 <= at < len(line):
        if quoted and line[at] == "\\":
            at += 1
        elif line[at] == '"':
            quoted = not quoted
        elif line[at] == ">" and not quoted:
            end = at
            break
        at += 1
    if end < 0:
        return Path(path="", parameters=(), code=code)
    return Path(path=line[begins + 1 : end], parameters=tuple(line[end + 1 :].split()), code=code)
