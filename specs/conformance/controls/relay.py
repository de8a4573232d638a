"""A faultless relay that no relayed case may fail: it takes mail, and passes it on by MX records.

    async with relaying(Relay, Witness()) as given: ...   # a Given for a run against it

It is as small as that allows, in memory, and impatient: what was put off is tried again within half
a second.  Its faults (`faults.relay_*`) each replace a few of the attributes and methods here.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

import trio

from specs.conformance.controls.routes import HOSTNAME, Later, Never, Routes
from specs.conformance.controls.witness import Witness
from specs.conformance.given import Given

BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError)
_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """mail, rcpt: parameters as they came."""

    sender: str
    rcpts: tuple[str, ...]
    content: bytes
    mail: Mapping[str, str] = field(default_factory=dict)
    rcpt: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HopReply:
    """What a next hop says."""

    code: str
    lines: tuple[str, ...]


class Wire:
    """To one next hop."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        self.input = b""
        self.keywords: dict[str, str] = {}
        self.tls = False
        self.records: list[str] = []

    async def send(self, octets: bytes) -> None:
        await self.stream.send_all(octets)

    async def line(self) -> bytes:
        while b"\n" not in self.input:
            more = bytes(await self.stream.receive_some(65536))
            if not more:
                raise Later("the connection was lost")
            self.input += more
        line, _, self.input = self.input.partition(b"\n")
        return line.rstrip(b"\r")


class Relay(Routes):
    """What it does, in the order in which it does it; a fault overrides."""

    keywords: ClassVar[tuple[str, ...]] = ("8BITMIME", "SIZE 50000000", "DSN", "SMTPUTF8")
    retry_s: ClassVar[float] = 0.5
    reply_s: ClassVar[float] = 8.0
    lifetime_s: ClassVar[float] = 60.0
    connections: ClassVar[int] = 10
    verb: ClassVar[str] = "EHLO"
    starttls: ClassVar[bool] = True
    pipelining: ClassVar[bool] = True

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self.witness = witness
        self.dead: dict[str, float] = {}
        self.nursery: trio.Nursery | None = None
        self._limits: dict[str, trio.CapacityLimiter] = {}

    # -- mail comes in ----------------------------------------------------------------------------

    async def serve(self, stream: trio.SocketStream) -> None:
        """One client's session."""
        wire = Wire(stream)
        with suppress(*BROKEN, Later), self.noting():
            async with stream:
                await wire.send(f"220 {self.hostname} ESMTP\r\n".encode())
                await self._converse(wire)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """A fault's own mistake ends nothing else, and is noted."""
        try:
            yield
        except (*BROKEN, Later):
            raise
        except Exception as error:
            self.witness.note(error)

    async def _converse(self, wire: Wire) -> None:
        sender: str | None = None
        rcpts: list[str] = []
        mail: dict[str, str] = {}
        rcpt: dict[str, str] = {}
        while True:
            line = (await wire.line()).decode("utf-8", "surrogateescape")
            verb = line.split(" ", 1)[0].upper()
            said = "250 ok"
            if verb == "EHLO":
                shown = [self.hostname, *self.keywords]
                said = "\r\n".join([*(f"250-{each}" for each in shown[:-1]), f"250 {shown[-1]}"])
            elif verb == "MAIL":
                sender, mail, rcpts = self.unrouted(_path(line)), _parameters(line), []
            elif verb == "RCPT":
                rcpts.append(self.unrouted(_path(line)))
                rcpt = _parameters(line)
            elif verb == "DATA" and sender is not None and rcpts:
                await wire.send(b"354 go on\r\n")
                content = await self._content(wire)
                said = self.take(Letter(sender=sender, rcpts=tuple(rcpts), content=content,
                                        mail=mail, rcpt=rcpt))  # fmt: skip
                sender, rcpts = None, []
            elif verb == "RSET":
                sender, rcpts = None, []
            elif verb == "QUIT":
                await wire.send(b"221 bye\r\n")
                return
            elif verb not in ("HELO", "NOOP"):
                said = "503 what?"
            await wire.send(f"{said}\r\n".encode())

    async def _content(self, wire: Wire) -> bytes:
        while b"\r\n.\r\n" not in b"\r\n" + wire.input:
            more = bytes(await wire.stream.receive_some(65536))
            if not more:
                raise Later("the connection was lost")
            wire.input += more
        raw, _, wire.input = (b"\r\n" + wire.input).partition(b"\r\n.\r\n")
        return (raw.replace(b"\r\n.", b"\r\n") + b"\r\n")[2:]

    def take(self, letter: Letter) -> str:
        """What is answered to the end of a message."""
        if self.bare(letter.content):
            return "554 5.6.0 CR or LF by itself"
        self.send(replace(letter, content=self.traced(letter)))
        return "250 taken"

    def bare(self, content: bytes) -> bool:
        return re.search(rb"(?<!\r)\n|\r(?!\n)", content) is not None

    def unrouted(self, path: str) -> str:
        """Without a source route (RFC 5321 appendix C)."""
        return path.rpartition(":")[2] if path.startswith("@") else path

    def traced(self, letter: Letter) -> bytes:
        line = f"Received: from client by {self.hostname}; Mon, 02 Nov 2026 10:00:00 +0000\r\n"
        return line.encode() + letter.content

    def send(self, letter: Letter) -> None:
        """Each domain's recipients by themselves."""
        domains = {each.rpartition("@")[2].lower() for each in letter.rcpts}
        for domain in sorted(domains):
            those = tuple(r for r in letter.rcpts if r.rpartition("@")[2].lower() == domain)
            if self.nursery is not None:
                self.nursery.start_soon(self._deliver, replace(letter, rcpts=those), domain)

    # -- mail goes out ----------------------------------------------------------------------------

    async def _deliver(self, letter: Letter, domain: str) -> None:
        with self.noting():
            await self.deliver(letter, domain)

    async def deliver(self, letter: Letter, domain: str) -> None:
        """Until nobody is left, or its time is over."""
        ends_s = trio.current_time() + self.lifetime_s
        limit = self._limits.setdefault(domain, trio.CapacityLimiter(self.connections))
        while letter.rcpts:
            failed: dict[str, Never] = {}
            waiting = set(letter.rcpts)
            async with limit:
                with suppress(Later):
                    await self.attempt(letter, domain, waiting, failed)
            if failed:
                self.report(letter, failed)
            letter = replace(letter, rcpts=tuple(
                each for each in letter.rcpts if each in waiting and each not in failed
            ))  # fmt: skip
            if letter.rcpts and trio.current_time() > ends_s:
                self.report(letter, dict.fromkeys(letter.rcpts, Never("too late", "4.4.7")))
                return
            if letter.rcpts:
                await trio.sleep(self.retry_s)

    async def attempt(
        self, letter: Letter, domain: str, waiting: set[str], failed: dict[str, Never]
    ) -> None:
        """Who is done is taken out of `waiting`; who fails is put into `failed`.  Raises Later."""
        refused: Never | None = None
        try:
            addresses = await self.hosts(domain)
        except Never as never:
            failed.update(dict.fromkeys(waiting, never))
            return
        for address in addresses:
            if self.dead.get(address, 0.0) > trio.current_time():
                continue
            try:
                await self.visit(address, letter, waiting, failed)
            except Later:
                continue
            except Never as never:  # this host takes no mail: another may
                refused = never
                continue
            except BROKEN:
                self.dead[address] = trio.current_time() + self.retry_s
                continue
            return
        if refused is not None:
            failed.update(dict.fromkeys(waiting, refused))

    async def visit(
        self, address: str, letter: Letter, waiting: set[str], failed: dict[str, Never]
    ) -> None:
        """One connection.  Raises Later, Never, OSError and others of `BROKEN`."""
        with trio.move_on_after(self.reply_s) as scope:
            stream = await trio.open_tcp_stream(address, self.port)
        if scope.cancelled_caught:
            raise Later("no connection")
        wire = Wire(stream)
        wire.records = await self.dane(self.named.get(address, ""))
        try:
            await self.greet(wire)
            try:
                await self.transact(wire, letter, waiting, failed)
            finally:
                with trio.CancelScope(shield=True), suppress(Later, *BROKEN):
                    await self.leave(wire)
        finally:
            await trio.aclose_forcefully(wire.stream)

    async def greet(self, wire: Wire) -> None:
        first = await self.reply(wire)
        if first.code[0] != "2":
            with suppress(Later):
                await self.leave(wire)
            raise Never(first.code) if first.code == "521" else Later(first.code)
        await self.hello(wire)
        if wire.records and "STARTTLS" not in wire.keywords:
            self.unprotected()
        if self.starttls and "STARTTLS" in wire.keywords and not wire.tls:
            if (await self.say(wire, "STARTTLS")).code[0] != "2":
                return
            await self.secure(wire)
            await self.hello(wire)

    async def secure(self, wire: Wire) -> None:
        """What came before is dropped (RFC 3207 6)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if not isinstance(wire.stream, trio.SocketStream):
            return
        wire.stream = trio.SSLStream(wire.stream, context, https_compatible=True)
        await wire.stream.do_handshake()
        self.compare(wire.stream.getpeercert(binary_form=True) or b"", wire.records)
        wire.input, wire.keywords, wire.tls = b"", {}, True

    def unprotected(self) -> None:
        """A host with TLSA records does not offer TLS (RFC 7672 2.2).  Raises Later."""
        raise Later("no TLS")

    def compare(self, certificate: bytes, records: Sequence[str]) -> None:
        """With records of usage 3, of whole certificates and by SHA-256.  Raises Later."""
        usable = self.usable(records)
        digest = hashlib.sha256(certificate).hexdigest()
        if usable and not any(each.split()[3].lower() == digest for each in usable):
            raise Later("another certificate")

    def usable(self, records: Sequence[str]) -> list[str]:
        return [each for each in records if each.split()[:3] == ["3", "0", "1"]]

    async def hello(self, wire: Wire) -> None:
        said = await self.say(wire, f"{self.verb} {self.hostname}")
        if said.code[0] == "5":
            said = await self.say(wire, f"HELO {self.hostname}")
        elif said.code[0] == "2":
            rows = (each.upper().partition(" ") for each in said.lines[1:])
            wire.keywords = {name: rest for name, _, rest in rows}
        if said.code[0] != "2":
            raise Later(said.code)

    async def transact(
        self, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
    ) -> None:
        """MAIL to the end.  Raises Later."""
        self.check(wire, letter, waiting, failed)
        rcpts = [each for each in letter.rcpts if each in waiting and each not in failed]
        if not rcpts:
            return
        first = self.mail_line(wire, letter)
        lines = [first, *(self.rcpt_line(wire, each, letter) for each in rcpts)]
        chunked = self.chunked(wire)
        lines += [] if chunked else ["DATA"]
        together = self.pipelining and "PIPELINING" in wire.keywords
        if together:
            await wire.send("".join(f"{each}\r\n" for each in lines).encode())
        mail = await self.next(wire, lines[0], together)
        if not together and mail.code[0] != "2":
            self.judge(mail, rcpts, failed)
            return
        answers = [await self.next(wire, each, together) for each in lines[1 : len(rcpts) + 1]]
        taken = [who for who, each in zip(rcpts, answers, strict=True) if self.success(each)]
        if not together and not taken:
            self.refuse(rcpts, answers, failed)
            return
        data = HopReply("354", ()) if chunked else await self.next(wire, "DATA", together)
        if not self.success(mail):
            self.judge(mail, rcpts, failed)
        else:
            self.refuse(rcpts, answers, failed)
        if data.code[0] != "3":
            self.judge(data, [each for each in taken if each not in failed], failed)
            return
        if not chunked:
            last = await self.content(wire, self.stuffed(letter.content) if taken else b"")
        elif not taken or not self.success(mail):
            return
        else:
            last = await self.chunk(wire, letter.content)
        if self.success(last) and taken and self.success(mail):
            waiting -= {*taken}
            self.relayed(wire, letter, taken)
        else:
            self.judge(last, taken, failed)

    async def content(self, wire: Wire, octets: bytes) -> HopReply:
        await wire.send(octets + b".\r\n")
        return await self.reply(wire)

    def chunked(self, wire: Wire) -> bool:
        return "CHUNKING" in wire.keywords

    async def chunk(self, wire: Wire, octets: bytes) -> HopReply:
        """The whole message in one (RFC 3030 2)."""
        await wire.send(f"BDAT {len(octets)} LAST\r\n".encode() + octets)
        return await self.reply(wire)

    def wide(self, letter: Letter) -> bool:
        """Whether it needs SMTPUTF8 (RFC 6531 3.4)."""
        head = letter.content.partition(b"\r\n\r\n")[0]
        plain = head.isascii() and "".join((letter.sender, *letter.rcpts)).isascii()
        return "SMTPUTF8" in letter.mail and not plain

    def check(
        self, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
    ) -> None:
        """Whether this host can take it at all."""
        most = wire.keywords.get("SIZE", "")
        if most.isdigit() and 0 < int(most) < len(letter.content):
            failed.update(dict.fromkeys(waiting, Never("too large", "5.3.4")))
        if not letter.content.isascii() and "8BITMIME" not in wire.keywords:
            failed.update(dict.fromkeys(waiting, Never("eight bits", "5.6.3")))
        if self.wide(letter) and "SMTPUTF8" not in wire.keywords:
            failed.update(dict.fromkeys(waiting, Never("an address in UTF-8", "5.6.7")))

    def refuse(
        self, rcpts: Sequence[str], answers: Sequence[HopReply], failed: dict[str, Never]
    ) -> None:
        """552 behind a recipient that was taken means that there are too many (4.5.3.1.10)."""
        some = any(each.code[0] == "2" for each in answers)
        for who, each in zip(rcpts, answers, strict=True):
            if not (some and each.code == "552"):
                self.judge(each, [who], failed)

    def judge(self, answer: HopReply, rcpts: Sequence[str], failed: dict[str, Never]) -> None:
        """5yz is for ever; all else may pass."""
        if answer.code[0] == "5":
            failed.update(dict.fromkeys(rcpts, Never(f"{answer.code} {answer.lines[0]}")))

    def success(self, answer: HopReply) -> bool:
        return answer.code[0] == "2"

    def mail_line(self, wire: Wire, letter: Letter) -> str:
        words = [f"MAIL FROM:<{letter.sender}>"]
        if "SIZE" in wire.keywords:
            words.append(f"SIZE={len(letter.content)}")
        if "8BITMIME" in wire.keywords and not letter.content.isascii():
            words.append("BODY=8BITMIME")
        if self.wide(letter):
            words.append("SMTPUTF8")
        if "DSN" in wire.keywords:
            words += [f"{n}={v}" for n, v in letter.mail.items() if n in ("ENVID", "RET")]
        return " ".join(words)

    def rcpt_line(self, wire: Wire, rcpt: str, letter: Letter) -> str:
        words = [f"RCPT TO:<{self.shortest(rcpt)}>"]
        if "DSN" in wire.keywords:
            words += [f"{n}={v}" for n, v in letter.rcpt.items() if n in ("NOTIFY", "ORCPT")]
        return " ".join(words)

    def shortest(self, path: str) -> str:
        local, at, domain = path.rpartition("@")
        inner = local[1:-1]
        dots = inner.startswith(".") or inner.endswith(".") or ".." in inner
        bare = local[:1] == '"' and _ATOM.match(inner) and not dots
        return f"{inner}{at}{domain}" if bare else path

    def stuffed(self, content: bytes) -> bytes:
        return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]

    async def leave(self, wire: Wire) -> None:
        await self.say(wire, "QUIT")

    async def say(self, wire: Wire, line: str) -> HopReply:
        await wire.send(f"{line}\r\n".encode("utf-8", "surrogateescape"))
        return await self.reply(wire)

    async def next(self, wire: Wire, line: str, sent: bool) -> HopReply:
        return await self.reply(wire) if sent else await self.say(wire, line)

    async def reply(self, wire: Wire) -> HopReply:
        """A whole one.  Raises Later."""
        lines: list[str] = []
        with trio.move_on_after(self.reply_s):
            while True:
                line = (await wire.line()).decode("utf-8", "replace")
                code = line[:3]
                if not re.match(r"[2-5][0-9][0-9](?:[ -]|\Z)", line):
                    raise Later("that is no reply")
                lines.append(line[4:])
                if line[3:4] != "-":
                    return HopReply(code, tuple(lines))
        raise Later("no reply in time")

    # -- reports ----------------------------------------------------------------------------------

    def report(self, letter: Letter, failed: Mapping[str, Never]) -> None:
        """To the sender, if there is one."""
        notify = letter.rcpt.get("NOTIFY", "FAILURE").upper()
        if letter.sender and notify != "NEVER":
            self.bounce(letter, self.written(letter, failed))

    def relayed(self, wire: Wire, letter: Letter, taken: Sequence[str]) -> None:
        """The next hop reports no success (RFC 3461 5.2.2)."""
        wanted = "SUCCESS" in letter.rcpt.get("NOTIFY", "").upper()
        if letter.sender and wanted and "DSN" not in wire.keywords:
            done = dict.fromkeys(taken, Never("relayed", "2.0.0"))
            self.bounce(letter, self.written(letter, done, "relayed"))

    def bounce(self, letter: Letter, content: bytes) -> None:
        self.send(Letter(sender="", rcpts=(letter.sender,), content=content))

    def written(self, letter: Letter, failed: Mapping[str, Never], action: str = "failed") -> bytes:
        original = letter.rcpt.get("ORCPT")
        first = f"\r\nOriginal-Recipient: {original}" if original else ""
        blocks = "".join(
            f"{first}\r\nFinal-Recipient: rfc822; {who}\r\nAction: {action}\r\n"
            f"Status: {never.status}\r\n"
            f"Diagnostic-Code: smtp; {never.text}\r\n" for who, never in failed.items()
        )  # fmt: skip
        envelope = letter.mail.get("ENVID")
        head = letter.content.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        return (
            f"From: <postmaster@{self.hostname}>\r\nTo: <{letter.sender}>\r\n"
            "Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nSubject: not delivered\r\n"
            "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;"
            ' boundary="b"\r\n\r\n--b\r\n\r\nIt failed.\r\n\r\n--b\r\n'
            f"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {self.hostname}\r\n"
            + (f"Original-Envelope-Id: {envelope}\r\n" if envelope else "") + blocks
            + f"\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{head}\r\n\r\n--b--\r\n"
        ).encode()  # fmt: skip


def _path(line: str) -> str:
    return re.sub(r'^[^<]*<((?:"(?:\\.|[^"\\])*"|[^>"])*)>.*$', r"\1", line, flags=re.DOTALL)


def _parameters(line: str) -> dict[str, str]:
    words = line.rpartition(">")[2].split()
    return {name.upper(): value for name, _, value in (each.partition("=") for each in words)}


#: Where the name server listens; nobody needs to be root.
NAMES_PORT: Final = 5300


@asynccontextmanager
async def relaying(made: type[Relay], witness: Witness) -> AsyncIterator[Given]:
    """It listens; what a run is to be given.  Nobody needs to be root: next hops listen at the port
    where it listens, on other addresses.
    """
    relay = made(witness)
    # An address of its own: at 127.0.0.1 any port may be taken by a client's connection.
    relay.names = (f"127.88.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}", NAMES_PORT)
    async with trio.open_nursery() as nursery:
        relay.nursery = nursery
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        relay.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, relay.serve, listeners)
        yield Given(
            smtp=("127.0.0.1", relay.port), names="{}:{}".format(*relay.names), patience_s=10.0,
            hops=f"127.77.0.0/16:{relay.port}", rcpts=(f"nobody@{HOSTNAME}",),
        )  # fmt: skip
        nursery.cancel_scope.cancel()
