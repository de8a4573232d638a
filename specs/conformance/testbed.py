"""What a relayed case uses: a domain of its own, hops for it, and a way to send mail there.

    async with bring(talk) as way:
        first = await way.mx(rcpt="451 later")             # mx1.DOMAIN, with an MX record
        second = await way.mx(preference=20)
        await way.send()                                   # through the server under test
        return await way.fate(first, second)               # "delivered", "returned", "put off"

Rules a reader may rely on
- The sender of what is sent is at a domain of the case's own, too (`way.sender`); its mail comes to
  a hop, `way.back`.  So a report is seen as it is sent, envelope and all, and no mailbox is needed.
- `fate` waits no longer than it must.  A server that never comes to a hop raises Refused: then the
  case could not begin.
- When a case is over, its hops end, and all its names lead to a sink, which takes what is left in
  the server's queue.  Names and addresses are never used again, also not by a later run.
- Hops listen at port 25 of addresses out of --hops; "127.77.0.0/16:2525" says another port.
- The name server and the sink are there while a run has relayed cases (`laid_out`).
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import ipaddress
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage, Message
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

import trio

from specs.conformance.given import Given
from specs.conformance.hop import FEATURES, Bell, Hop, Mail, Say, Table, Visit
from specs.conformance.model import Reply
from specs.conformance.names import Names, place, serve
from specs.conformance.session import Refused, Session, Told, Unavailable

TOP: Final = "hop.example"
SINK: Final = f"sink.{TOP}"
SMTP_PORT: Final = 25
#: After a visit that ended without a delivery: how long a report, or another attempt, may take
#: where neither is what the case waits for, in seconds.
SETTLE_S: Final = 3.0
#: How long a second attempt is waited for.  Many servers take minutes: later ones are not seen.
RETRY_S: Final = 12.0
#: Whether a message that was taken comes a second time, or back, is watched for so long.
TWICE_S: Final = 2.5


@dataclass(slots=True, kw_only=True)
class Testbed:
    """What all relayed cases of a run share.  reason: why there is nothing of it."""

    given: Given
    reason: str = ""
    names: Names = field(default_factory=Names)
    mark: str = field(default_factory=lambda: os.urandom(3).hex())
    directory: Path | None = None
    _addresses: Iterator[str] | None = None
    _addresses6: Iterator[str] | None = None
    _certificate: ssl.SSLContext | None = None
    _making: trio.Lock = field(default_factory=trio.Lock)

    def address(self) -> str:
        """Another one.  Raises Unavailable."""
        if self._addresses is None:
            self._addresses = _addresses(self.given.hops, 4)
        return _next(self._addresses, "an IPv4 network in --hops")

    @property
    def port(self) -> int:
        """Of all hops: 25, unless the server under test was told of another."""
        return networks(self.given.hops)[0][1]

    def address6(self) -> str:
        """An IPv6 one.  Raises Unavailable."""
        if self._addresses6 is None:
            self._addresses6 = _addresses(self.given.hops, 6)
        return _next(self._addresses6, "an IPv6 network in --hops")

    async def certificate(self) -> ssl.SSLContext:
        """A server's, made for this run; nobody vouches for it.  Raises Unavailable."""
        async with self._making:
            if self._certificate is None:
                self._certificate = await trio.to_thread.run_sync(self._make_certificate)
            return self._certificate

    async def digest(self) -> str:
        """SHA-256 of that certificate, in hexadecimal digits.  Raises Unavailable."""
        await self.certificate()
        if self.directory is None:
            raise Unavailable("openssl, for a certificate")
        text = (self.directory / "certificate.pem").read_text(encoding="ascii")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()

    def _make_certificate(self) -> ssl.SSLContext:
        openssl = shutil.which("openssl")
        if openssl is None or self.directory is None:
            raise Unavailable("openssl, for a certificate")
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        command = [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", f"/CN=mx.{TOP}", "-keyout", str(key),
            "-out", str(certificate),
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            raise Unavailable("openssl, for a certificate") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


_NETWORK: Final = re.compile(r"([^/]+/[0-9]+)(?::([0-9]+))?\Z")


def networks(text: str) -> list[tuple[IPv4Network | IPv6Network, int]]:
    """Of "127.77.0.0/16,fd77::/64" or "127.77.0.0/16:2525".  Raises ValueError."""
    found = []
    for each in filter(None, text.split(",")):
        match = _NETWORK.match(each.strip())
        if match is None:
            raise ValueError(f"{each}: no network")
        found.append((ipaddress.ip_network(match[1], strict=False), int(match[2] or SMTP_PORT)))
    return found


def _addresses(text: str, version: int) -> Iterator[str]:
    """All of those networks, from a place that differs from run to run."""
    for network, _ in networks(text):
        if network.version != version:
            continue
        count = min(network.num_addresses, 1 << 24)
        begin = int.from_bytes(os.urandom(3), "big")
        for number in range(count):
            at = (begin + number) % count
            if at & 0xFF not in (0, 0xFF):
                yield str(network[at])


def _next(addresses: Iterator[str], what: str) -> str:
    try:
        return next(addresses)
    except (StopIteration, ValueError):
        raise Unavailable(what) from None


@asynccontextmanager
async def laid_out(given: Given) -> AsyncIterator[Testbed | None]:
    """The name server and the sink of a run; None if it was given no place for them.  They are
    there whatever the cases are: a server that asks, and hears nothing, does not deliver.
    """
    if not given.names:
        yield None
        return
    testbed = Testbed(given=given)
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        testbed.directory = Path(directory)
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(serve, testbed.names, place(given.names))
                await _sink(testbed, nursery)
            except (OSError, ValueError) as error:
                testbed.reason = f"--names {given.names} or --hops {given.hops}: {error}"
            except Unavailable as need:
                testbed.reason = str(need)
            testbed.names.add(given.hostname, "A", "127.0.0.1")
            yield testbed
            nursery.cancel_scope.cancel()


async def _sink(testbed: Testbed, nursery: trio.Nursery) -> None:
    host = testbed.address()
    sink = Hop(name=SINK, host=host, port=testbed.port, told=Told(0.0, _left=0), bell=Bell())
    await sink.listen(nursery)
    testbed.names.add(SINK, "A", host)


@asynccontextmanager
async def bring(talk: Session) -> AsyncIterator[Way]:
    """For one case.  Raises Unavailable, Refused."""
    testbed = talk.testbed
    if not isinstance(testbed, Testbed):
        raise Unavailable("--names")
    if testbed.reason:
        raise Unavailable(testbed.reason)
    domain = f"{talk.token[:10]}-{testbed.mark}.{TOP}"
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                way = Way(talk=talk, testbed=testbed, domain=domain, nursery=nursery)
                way.back = await way.mx(
                    domain=f"back.{domain}", name=f"backmx.{domain}",
                    features=(*FEATURES, "SMTPUTF8"),
                )  # fmt: skip
                yield way
            except Exception as error:  # as it is, not in a group of the nursery's
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        testbed.names.retire(domain, SINK)
    if failure is not None:
        raise failure


@dataclass(slots=True, kw_only=True)
class Way:
    """domain: of this case.  back: the hop of its sender's domain.  hops: all but that."""

    talk: Session
    testbed: Testbed
    domain: str
    nursery: trio.Nursery
    bell: Bell = field(default_factory=Bell)
    hops: list[Hop] = field(default_factory=list)
    _back: Hop | None = None

    @property
    def back(self) -> Hop:
        if self._back is None:
            raise Unavailable("a hop for reports")
        return self._back

    @back.setter
    def back(self, hop: Hop) -> None:
        self._back = hop
        self.hops.remove(hop)

    @property
    def names(self) -> Names:
        return self.testbed.names

    @property
    def rcpt(self) -> str:
        return f"rcpt@{self.domain}"

    @property
    def sender(self) -> str:
        return f"sender@back.{self.domain}"

    # -- hops -------------------------------------------------------------------------------------

    async def hop(
        self, table: Table | None = None, *, name: str = "", features: Sequence[str] = FEATURES,
        tls_features: Sequence[str] | None = None, stall_s: float = 0.0, room: int = 0,
        address: str = "", **more: Say,
    ) -> Hop:  # fmt: skip
        """One that listens, and whose name has its address; nothing leads to it yet.  table, more:
        its answers (`hop`).  With STARTTLS among the features it has a certificate.

        Raises Unavailable.
        """
        name = name or f"mx{len(self.hops) + 1}.{self.domain}"
        host = address or self.testbed.address()
        certificate = await self.testbed.certificate() if "STARTTLS" in features else None
        made = Hop(
            name=name, host=host, port=self.testbed.port, told=self.talk.told, bell=self.bell,
            table={**(table or {}), **more}, features=tuple(features), certificate=certificate,
            stall_s=stall_s, room=room,
            tls_features=None if tls_features is None else tuple(tls_features),
        )  # fmt: skip
        try:
            await made.listen(self.nursery)
        except OSError as error:
            raise Unavailable(f"--hops: {host} port {made.port}: {error}") from None
        self.names.add(name, "AAAA" if ":" in host else "A", host)
        self.hops.append(made)
        return made

    async def mx(
        self, table: Table | None = None, *, preference: int = 10, domain: str = "",
        name: str = "", features: Sequence[str] = FEATURES,
        tls_features: Sequence[str] | None = None, stall_s: float = 0.0, room: int = 0,
        address: str = "", **more: Say,
    ) -> Hop:  # fmt: skip
        """The same, with an MX record of the case's domain, or of another."""
        made = await self.hop(
            table, name=name, features=features, tls_features=tls_features, stall_s=stall_s,
            room=room, address=address, **more,
        )  # fmt: skip
        self.names.add(domain or self.domain, "MX", f"{preference} {made.name}.")
        return made

    def nobody(self, name: str = "") -> str:
        """A name with an address where nobody listens: connections are refused."""
        name = name or f"nobody.{self.domain}"
        self.names.add(name, "A", self.testbed.address())
        return name

    # -- mail -------------------------------------------------------------------------------------

    def message(
        self, body: str | bytes = "A message of the conformance suite.\r\n", *, headers: str = "",
        to: str = "",
    ) -> bytes:  # fmt: skip
        """A whole one, with this case's token, in lines that end in CRLF."""
        head = (
            f"From: <{self.sender}>\r\nTo: <{to or self.rcpt}>\r\n"
            f"Subject: conformance {self.talk.token}\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n"
            f"Message-ID: <{self.talk.token}@{self.domain}>\r\n{headers}\r\n"
        )
        return head.encode() + (body.encode() if isinstance(body, str) else body)

    async def offer(
        self, octets: bytes | None = None, *, sender: str | None = None,
        rcpts: Sequence[str] | None = None, mail: str = "", rcpt: str = "",
    ) -> Reply:  # fmt: skip
        """Send a message through the server: the reply to its end, or what refused it before (then
        RSET).  Raises Refused only if there is no session.
        """
        talk = self.talk
        await talk.upto("ehlo")
        path = self.sender if sender is None else sender
        lines = [f"MAIL FROM:<{path}> {mail}".rstrip()]
        lines += [f"RCPT TO:<{each}> {rcpt}".rstrip() for each in rcpts or (self.rcpt,)]
        for line in [*lines, "DATA"]:
            reply = await talk.say(line)
            if not reply.positive:
                await talk.say("RSET")
                return reply
        return await talk.content(self.message() if octets is None else octets)

    async def send(
        self, octets: bytes | None = None, *, sender: str | None = None,
        rcpts: Sequence[str] | None = None, mail: str = "", rcpt: str = "",
    ) -> None:  # fmt: skip
        """The same.  Raises Refused unless it was accepted."""
        reply = await self.offer(octets, sender=sender, rcpts=rcpts, mail=mail, rcpt=rcpt)
        if reply.code[:1] != "2":
            raise Refused("mail to be relayed", reply)

    # -- what becomes of it -----------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], limit_s: float | None = None) -> bool:
        """Whether it holds, by now or within patience."""
        limit = self.talk.given.patience_s if limit_s is None else limit_s
        return await self.bell.until(condition, limit)

    @property
    def reports(self) -> list[Report]:
        """Of failures, as far as they say what they are."""
        found = [Report(mail) for mail in self.back.mails]
        return [each for each in found if each.of_failure]

    def taken(self, *hops: Hop) -> list[Mail]:
        """What these hops (or all of the case) have accepted."""
        return [mail for hop in hops or self.hops for mail in hop.taken]

    async def fate(
        self, *hops: Hop, count: int = 1, limit_s: float | None = None,
        settle_s: float = SETTLE_S,
    ) -> str:  # fmt: skip
        """What becomes of a message: "delivered" (so many), "returned" (a report of its failure),
        "put off" (the server came, left, and was not seen again for `settle_s`), or "kept waiting"
        (it came, and is still there).  Raises Refused if it never came.
        """
        watched = hops or (*self.hops,)
        patience_s = self.talk.given.patience_s if limit_s is None else limit_s
        ends_s = trio.current_time() + patience_s
        state = self._state(watched)
        while not self._decided(watched, count):
            state = self._state(watched)
            left_s = ends_s - trio.current_time()
            gone = state[0] > 0 and state[1] == 0
            if not await self._changes(watched, count, min(settle_s, left_s) if gone else left_s):
                break
        if len(self.taken(*watched)) >= count:
            return "delivered"
        if self.reports:
            return "returned"
        if not state[0]:
            raise Refused("the server came to no hop", Reply(kind="silent"))
        return "kept waiting" if state[1] else "put off"

    def _decided(self, hops: Sequence[Hop], count: int) -> bool:
        return len(self.taken(*hops)) >= count or bool(self.reports)

    async def _changes(self, hops: Sequence[Hop], count: int, limit_s: float) -> bool:
        before = self._state(hops)
        return await self.bell.until(
            lambda: self._decided(hops, count) or self._state(hops) != before, limit_s
        )

    @staticmethod
    def _state(hops: Sequence[Hop]) -> tuple[int, int]:
        """(visits, those of them that last)"""
        return sum(len(each.visits) for each in hops), sum(len(each.open) for each in hops)

    async def believed(self, *hops: Hop) -> str:
        """Of a message that a hop has taken, whether the server knows that: "delivered", or else
        "sent again", or "returned".
        """
        taken = len(self.taken(*hops))
        await self.until(lambda: len(self.taken(*hops)) > taken or bool(self.reports), TWICE_S)
        if self.reports:
            return "returned"
        return "sent again" if len(self.taken(*hops)) > taken else "delivered"

    async def visited(self, *hops: Hop) -> Visit:
        """The first visit of these, or of all.  Raises Refused if there is none within patience."""
        watched = hops or (*self.hops,)
        await self.until(lambda: any(each.visits for each in watched))
        for each in watched:
            if each.visits:
                return each.visits[0]
        raise Refused("the server came to no hop", Reply(kind="silent"))

    async def one(self, *hops: Hop) -> Mail:
        """The message, as a hop has accepted it.  Raises Refused if none has."""
        label = await self.fate(*hops)
        if label != "delivered":
            raise Refused(f"the message was {label}", Reply(kind="silent"))
        return self.taken(*hops)[0]

    async def returned(self, count: int = 1) -> bool:
        """Whether so many reports of failures have come, by now or within patience."""
        return await self.until(lambda: len(self.reports) >= count)

    async def farewell(self, hop: Hop, limit_s: float = 5.0) -> bool:
        """Whether all visits of a hop have ended."""
        return await self.until(lambda: bool(hop.visits) and not hop.open, limit_s)


STATUS: Final = ("message/delivery-status", "message/global-delivery-status")
_ACTION: Final = re.compile(rb"^action:[ \t]*([a-z]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Report:
    """What came to the sender."""

    mail: Mail

    @property
    def of_failure(self) -> bool:
        """What does not say what it is, is one: nothing else should come."""
        actions = {each.lower() for each in _ACTION.findall(self.mail.content)}
        return not actions or b"failed" in actions

    @property
    def actions(self) -> set[str]:
        return {each.decode().lower() for each in _ACTION.findall(self.mail.content)}

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.mail.content, policy=email.policy.default)

    @property
    def blocks(self) -> list[Message]:
        """Of its delivery-status part (RFC 3464): of the message, then of each recipient."""
        for part in self.message.walk():
            found = part.get_payload()
            if part.get_content_type() in STATUS and isinstance(found, list):
                return [each for each in found if isinstance(each, Message)]
        return []

    def field(self, name: str) -> list[str]:
        """Values of a field, of all blocks."""
        return [str(value) for each in self.blocks for value in each.get_all(name, [])]

    def failed(self) -> set[str]:
        """Local parts of the recipients that it calls failed, in lower case."""
        found = set()
        for each in self.blocks:
            who = str(each.get("Final-Recipient", "")).rpartition(";")[2].strip(" <>")
            if str(each.get("Action", "")).strip().lower() == "failed" and who:
                found.add(who.rpartition("@")[0].lower())
        return found


# -- content, before and after --------------------------------------------------------------------

#: Fields that a relay may put on top: of its own trace (RFC 5321 4.4), and of what others say of
#: the message on its way (RFC 6376, 7208, 8601, 8617).
TRACE: Final = frozenset({
    "received", "return-path", "dkim-signature", "authentication-results", "received-spf",
    "arc-seal", "arc-message-signature", "arc-authentication-results", "x-received",
})  # fmt: skip
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:(?:.*\r\n)(?:[ \t].*\r\n)*")


def fields_of(content: bytes) -> list[bytes]:
    """Header fields as they stand there, folded lines with them."""
    found, at = [], 0
    while match := _FIELD.match(content, at):
        found.append(match[0])
        at = match.end()
    return found


def name_of(field_octets: bytes) -> str:
    return field_octets.partition(b":")[0].strip().decode("latin-1").lower()


def on_top(sent: bytes, came: bytes) -> list[bytes] | None:
    """The fields that were put on top of what was sent; None if anything else was done to it."""
    if not came.endswith(sent):
        return None
    added = came[: len(came) - len(sent)]
    found = fields_of(added)
    return found if b"".join(found) == added else None


def said_by(mail: Mail) -> Iterator[str]:
    """Each parameter of its MAIL and RCPTs, in capitals, without its value."""
    for path in (mail.sender, *mail.rcpts):
        yield from path.keywords
