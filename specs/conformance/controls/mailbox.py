"""Who lives here, what is put into their Maildirs, and which reports are made.

Every message is stored before its sender is told 250: a file in tmp/, synced by nothing (this is
no reliable server), and renamed into new/.  Content is kept octet by octet, with CRLF.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path as File
from typing import Final, Literal

from specs.conformance.controls.syntax import Path

_count: Final = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One RCPT.  notify: empty if it was not said (RFC 3461 4.1).  orcpt: (type, decoded)."""

    path: Path
    notify: frozenset[str] = frozenset()
    orcpt: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A transaction.  protocol: for WITH (RFC 3848, RFC 6531 3.7.3).  ret, envid: of RFC 3461."""

    sender: Path
    recipients: tuple[Recipient, ...]
    helo: str
    peer: str
    protocol: str
    submitted: bool = False
    international: bool = False
    requiretls: bool = False
    ret: str = ""
    envid: str | None = None
    hold_s: float = 0.0
    id: str = ""


#: (recipient, action, status, why): of a report.
Outcome = tuple[Recipient, Literal["delivered", "failed"], str, str]


def date_now() -> str:
    """RFC 5322 3.3, with a numeric zone."""
    return format_datetime(datetime.now(UTC))


def new_id() -> str:
    return f"c{next(_count):06d}"


@dataclass(slots=True, kw_only=True)
class House:
    """mailboxes: address in lower case to Maildir.  late: unknown users are found out only after
    the message was accepted.  later: does something after so many seconds.
    """

    hostname: str
    domains: frozenset[str]
    mailboxes: Mapping[str, File]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    late: bool = False
    later: Callable[[float, Callable[[], None]], None] = lambda _, then: then()

    # -- addresses --------------------------------------------------------------------------------

    def knows(self, path: Path) -> Literal["here", "unknown", "elsewhere"]:
        """postmaster exists in every domain (RFC 5321 4.5.1)."""
        if path.domain.lower() not in self.domains and path.domain:
            return "elsewhere"
        return "here" if self.maildir(path) else "unknown"

    def maildir(self, path: Path) -> File | None:
        """A local part is compared without case: this server's own choice (2.4)."""
        domain = path.domain.lower()
        if domain in self.domains or not domain:
            if path.local.lower() == "postmaster":
                return self.mailboxes["postmaster"]
            if path.literal:
                domain = self.hostname.partition(".")[2]
        return self.mailboxes.get(f"{path.local.lower()}@{domain}")

    # -- mail -------------------------------------------------------------------------------------

    def accept(self, envelope: Envelope, content: bytes) -> None:
        """Store it, or hold it (RFC 4865); and report what the sender asked for."""
        if envelope.hold_s > 0:
            self.later(envelope.hold_s, lambda: self.deliver(envelope, content))
        else:
            self.deliver(envelope, content)

    def deliver(self, envelope: Envelope, content: bytes) -> None:
        """One copy a mailbox, however often it was named."""
        outcomes: list[Outcome] = []
        done: set[File] = set()
        content = self.prepared(envelope, content)
        for each in self.recipients(envelope):
            where = self.maildir(each.path)
            if where is None:
                foreign = self.knows(each.path) == "elsewhere"
                why = ("5.4.4", "no route to that host") if foreign else ("5.1.1", "no such user")
                outcomes.append((each, "failed", *why))
                continue
            if where not in done:
                done.add(where)
                put(where, self.stored(envelope, each, content))
            outcomes.append((each, "delivered", "2.0.0", ""))
        self.report(envelope, content, outcomes)

    def recipients(self, envelope: Envelope) -> tuple[Recipient, ...]:
        return envelope.recipients

    def prepared(self, envelope: Envelope, content: bytes) -> bytes:
        """Submission alone may complete a header, and takes Bcc away (RFC 6409 8)."""
        if not envelope.submitted:
            return content
        head, blank, body = split(content)
        fields = [each for each in fields_of(head) if name_of(each) != b"bcc"]
        names = {name_of(each) for each in fields}
        if b"date" not in names:
            fields.append(f"Date: {date_now()}\r\n".encode())
        if b"message-id" not in names:
            fields.append(f"Message-ID: <{envelope.id}@{self.hostname}>\r\n".encode())
        return b"".join(fields) + (blank or b"\r\n") + body

    def stored(self, envelope: Envelope, recipient: Recipient, content: bytes) -> bytes:
        """As it is put into a mailbox: Return-Path, Received, what came (RFC 5321 4.4)."""
        head, blank, body = split(content)
        return b"".join(
            [
                self.return_path(envelope),
                self.results(envelope),
                self.received(envelope, recipient),
                *(each for each in fields_of(head) if not self.is_old(each)),
                blank,
                body,
            ]
        )

    def is_old(self, field_: bytes) -> bool:
        """A field that only final delivery may write."""
        return name_of(field_) == b"return-path" or self.is_forged(field_)

    def is_forged(self, field_: bytes) -> bool:
        """Results of this server that it has not written (RFC 8601 5), however they are spelt."""
        name, _, value = field_.partition(b":")
        value = re.sub(rb"\r\n(?=[ \t])|\\(?=.)", b"", value)
        while b"(" in value and (plain := re.sub(rb"\([^()]*\)", b" ", value)) != value:
            value = plain
        own = value.partition(b";")[0].replace(b'"', b" ").split()
        known = bool(own) and own[0].lower() == self.hostname.encode()
        return name.rstrip(b" \t").lower() == b"authentication-results" and known

    def results(self, envelope: Envelope) -> bytes:
        """RFC 8601 2.2, RFC 7208 9.1: this server looks nothing up."""
        return (
            f"Authentication-Results: {self.hostname};\r\n\tspf=none smtp.helo={envelope.helo}\r\n"
            f"Received-SPF: none\r\n"
        ).encode()

    def return_path(self, envelope: Envelope) -> bytes:
        return f"Return-Path: <{envelope.sender.text}>\r\n".encode()

    def received(self, envelope: Envelope, recipient: Recipient) -> bytes:
        """FOR has one path, and is left out where it would tell of others (RFC 5321 7.2)."""
        only = len(envelope.recipients) == 1 and bool(recipient.path.domain)
        named = f"\r\n\tfor <{recipient.path.text}>" if only else ""
        return (
            f"Received: from {self.from_clause(envelope)}\r\n"
            f"\tby {self.hostname} with {envelope.protocol} id {envelope.id}{named};\r\n"
            f"\t{date_now()}\r\n"
        ).encode()

    def from_clause(self, envelope: Envelope) -> str:
        peer = f"IPv6:{envelope.peer}" if ":" in envelope.peer else envelope.peer
        return f"{envelope.helo} ([{peer}])"

    # -- reports ----------------------------------------------------------------------------------

    def report(self, envelope: Envelope, content: bytes, outcomes: list[Outcome]) -> None:
        """RFC 3461 5.2: of failures unless NOTIFY says otherwise, of success where it asks."""
        for action in ("failed", "delivered"):
            told = [each for each in outcomes if each[1] == action and self.wanted(each)]
            if told and self.may_report(envelope):
                self.send_report(envelope, content, told)

    def may_report(self, envelope: Envelope) -> bool:
        """Never of a report (RFC 3461 5.2, RFC 5321 4.5.5)."""
        return not envelope.sender.null

    def wanted(self, outcome: Outcome) -> bool:
        asked = outcome[0].notify or {"FAILURE"}
        return {"failed": "FAILURE", "delivered": "SUCCESS"}[outcome[1]] in asked

    def send_report(self, envelope: Envelope, content: bytes, told: list[Outcome]) -> None:
        """To the sender, with a null sender (RFC 3461 6.1)."""
        where = self.maildir(envelope.sender)
        if where is not None:
            put(where, self.written(envelope, content, told))

    def written(self, envelope: Envelope, content: bytes, told: list[Outcome]) -> bytes:
        """The whole report, as it is put into the mailbox (RFC 6522, RFC 3464, RFC 6533)."""
        wide = not self.status(envelope, told).isascii() or envelope.sender.international
        mark, own = f"={new_id()}=", new_id()
        head = content if self.whole(envelope, told) else split(content)[0]
        parts = [
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            + self.words(told).encode(),
            self.status_type(wide) + b"\r\n\r\n" + self.status(envelope, told),
            self.returned_type(self.whole(envelope, told), wide) + b"\r\n\r\n" + head,
        ]
        body = b"".join(f"--{mark}\r\n".encode() + each + b"\r\n" for each in parts)
        return self.report_head(envelope, told, mark, own) + body + f"--{mark}--\r\n".encode()

    def report_head(self, envelope: Envelope, told: list[Outcome], mark: str, own: str) -> bytes:
        what = "Delivered" if told[0][1] == "delivered" else "Not delivered"
        return (
            "Return-Path: <>\r\n"
            f"Received: by {self.hostname} id {own}; {date_now()}\r\n"
            f"From: Mail Delivery System <postmaster@{self.hostname}>\r\n"
            f"To: <{envelope.sender.text}>\r\n"
            f"Subject: {what}\r\n"
            f"Date: {date_now()}\r\n"
            f"Message-ID: <{own}@{self.hostname}>\r\n"
            "Auto-Submitted: auto-replied\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; report-type=delivery-status;\r\n"
            f'\tboundary="{mark}"\r\n\r\n'
        ).encode()

    def words(self, told: list[Outcome]) -> str:
        lines = [f"<{who.path.text}>\r\n  {action} {why}".rstrip() for who, action, _, why in told]
        return "This is a report about your message.\r\n\r\n" + "\r\n".join(lines) + "\r\n"

    def whole(self, envelope: Envelope, told: list[Outcome]) -> bool:
        """RET counts for failures alone (RFC 3461 4.3), and not under REQUIRETLS (RFC 8689 5)."""
        return envelope.ret == "FULL" and told[0][1] == "failed" and not envelope.requiretls

    def status_type(self, wide: bool) -> bytes:
        return b"Content-Type: message/" + (
            b"global-delivery-status" if wide else b"delivery-status"
        )

    def returned_type(self, whole: bool, wide: bool) -> bytes:
        kind = {
            (True, True): "message/global", (True, False): "message/rfc822",
            (False, True): "message/global-headers", (False, False): "text/rfc822-headers",
        }[whole, wide]  # fmt: skip
        return f"Content-Type: {kind}".encode()

    def status(self, envelope: Envelope, told: list[Outcome]) -> bytes:
        """The block of the message, and one of each recipient, with a blank line between."""
        first = [f"Reporting-MTA: dns; {self.hostname}", f"Arrival-Date: {date_now()}"]
        if envelope.envid is not None:
            first.insert(0, f"Original-Envelope-Id: {envelope.envid}")
        blocks = [first, *(self.block(each) for each in told)]
        return "\r\n".join("".join(f"{line}\r\n" for line in block) for block in blocks).encode()

    def block(self, outcome: Outcome) -> list[str]:
        who, action, status, _ = outcome
        kind = "utf-8" if who.path.international else "rfc822"
        lines = [
            f"Final-Recipient: {kind}; {who.path.text}",
            f"Action: {action}",
            f"Status: {status}",
        ]
        if who.orcpt is not None:
            lines.insert(0, f"Original-Recipient: {who.orcpt[0]}; {who.orcpt[1]}")
        return lines


# -- octets of messages ---------------------------------------------------------------------------


def split(content: bytes) -> tuple[bytes, bytes, bytes]:
    """(header, the blank line, body)."""
    if content.startswith(b"\r\n"):
        return b"", b"\r\n", content[2:]
    head, blank, body = content.partition(b"\r\n\r\n")
    return (head + b"\r\n", b"\r\n", body) if blank else (content, b"", b"")


def fields_of(head: bytes) -> list[bytes]:
    """Each with its folded lines and line ends; together they are the header again."""
    return re.split(rb"(?<=\r\n)(?![ \t])", head) if head else []


def name_of(field_: bytes) -> bytes:
    return field_.partition(b":")[0].rstrip(b" \t").lower()


def make(maildir: File) -> None:
    """An empty one."""
    for part in ("tmp", "new", "cur"):
        (maildir / part).mkdir(parents=True, exist_ok=True)


def put(maildir: File, octets: bytes) -> None:
    """Whole, or not at all."""
    name = f"{next(_count):08d}.control"
    (maildir / "tmp" / name).write_bytes(octets)
    (maildir / "tmp" / name).rename(maildir / "new" / name)
