"""Reports that a server makes of mail it has taken, provoked and taken apart.

    report = await of_delivery(talk, mail="ENVID=x")      # NOTIFY=SUCCESS for given.rcpt
    report = await of_failure(talk, rcpt="NOTIFY=FAILURE") # for an address that fails afterwards
    report.message, report.raw                             # parsed by email, and as it lies there
    report.groups                                          # fields of message/delivery-status

Rules a reader may rely on
- Nothing is kept: every case provokes a report of its own.
- A report is what arrives in the mailbox of `given.sender`, has the case's token, and is not the
  message that was sent (that mailbox may be a recipient, too).
- Whether a report that does not come is a fault is the case's question.  Here it raises
  Unavailable, when a case only wants to look at one.

What is tricky
- Many servers refuse unknown users at RCPT.  What may still fail later, in this order: the unknown
  address; one whose name has never been; an address at a domain that cannot exist (RFC 6761 6.4);
  the last also as the user that was given, where relaying is for users only.
- A report need not hold anything of the message, so that it may lack the token (RFC 6522 3).  An
  ENVID brings the token into it; the cases that must do without ENVID cannot find such reports.
- What lies in a Maildir may have lost its CRs.  So ends of lines are not judged.
- `email` mends what is wrong, so that fields are also cut out by hand.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Final

import trio

from specs.conformance.given import Given
from specs.conformance.headers import Fields, by_name, first, lf
from specs.conformance.maildir import LOOK_S
from specs.conformance.model import Door
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable

LATER: Final = "an address that fails after it was accepted"
#: Where a user may be let in, tried in this order.
DOORS: Final[tuple[Door, ...]] = (
    "submission-starttls", "submission", "tls", "starttls", "smtp",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of a multipart/report.  kind: "message/delivery-status", in small letters.  encoding: of
    its transfer, likewise.  raw: its body as it is there; body: with that encoding undone.
    """

    kind: str
    encoding: str
    raw: bytes
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """raw: with LF.  message: as `email` understands it.  header: cut out by hand.  kind: its media
    type, in small letters; report_type: that parameter.  parts: of a multipart, else none.
    """

    raw: bytes
    message: EmailMessage
    header: Fields
    kind: str
    report_type: str
    parts: tuple[Part, ...]

    @property
    def status(self) -> Part | None:
        """The second part, if it is a delivery status."""
        if len(self.parts) > 1 and self.parts[1].kind == "message/delivery-status":
            return self.parts[1]
        return None

    @property
    def blocks(self) -> tuple[bytes, ...]:
        """Of the delivery status: what stands between empty lines."""
        text = self.status.body.strip(b"\n") if self.status else b""
        return tuple(each for each in re.split(rb"\n(?:[ \t]*\n)+", text) if each)

    @property
    def groups(self) -> tuple[Fields, ...]:
        """The fields of each block: the message's first, then each recipient's."""
        return tuple(by_name(each) for each in self.blocks)

    @property
    def recipients(self) -> tuple[Fields, ...]:
        return self.groups[1:]

    @property
    def about(self) -> Fields:
        """The fields of the message."""
        return self.groups[0] if self.groups else {}

    @property
    def actions(self) -> tuple[str, ...]:
        """Of all recipients, in small letters."""
        found = (first(each, "action").lower() for each in self.recipients)
        return tuple(re.sub(r"\s*\(.*\)\s*\Z", "", each) for each in found)

    def of(self, address: str) -> Fields | None:
        """The block of that final recipient, whatever the case of its letters."""
        for each in self.recipients:
            if value(first(each, "final-recipient"))[1].lower() == address.lower():
                return each
        return None

    def says(self, word: str) -> bool:
        """Whether this is in what it says of the message, whatever the encoding."""
        wanted = word.encode()
        return wanted in self.raw or any(wanted in each.body for each in self.parts)

    @property
    def addressees(self) -> tuple[str, ...]:
        """Of To."""
        return tuple(address for _, address in getaddresses(self.header.get("to", ())))


def value(text: str) -> tuple[str, str]:
    """("rfc822", "ada@x.example") of "rfc822; ada@x.example": the type in small letters."""
    kind, semicolon, rest = text.partition(";")
    return (kind.strip().lower(), rest.strip()) if semicolon else ("", text.strip())


def taken_apart(octets: bytes) -> Report:
    """Whatever it is."""
    raw = lf(octets)
    old = message_from_bytes(raw, policy=policy.compat32)  # which stands more than the default does
    boundary = old.get_boundary() if old.get_content_maintype() == "multipart" else None
    report_type = old.get_param("report-type", "")
    return Report(
        raw=raw, message=message_from_bytes(raw, policy=policy.default),
        header=by_name(raw.partition(b"\n\n")[0]), kind=old.get_content_type(),
        report_type=report_type.lower() if isinstance(report_type, str) else "",
        parts=_parts(raw, boundary) if boundary else (),
    )  # fmt: skip


def _parts(raw: bytes, boundary: str) -> tuple[Part, ...]:
    delimiter = rb"(?:\A|\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\n|\Z)"
    body = b"\n" + raw.partition(b"\n\n")[2]
    pieces = re.split(delimiter, body)
    found = []
    for number in range(1, len(pieces) - 1, 2):
        if pieces[number]:  # "--": the rest is an epilogue
            break
        found.append(_part(pieces[number + 1].removeprefix(b"\n")))
    return tuple(found)


def _part(text: bytes) -> Part:
    head, _, body = (b"\n" + text).partition(b"\n\n")
    header = by_name(head.strip(b"\n"))
    kind = re.split(r"[;\s(]", first(header, "content-type").strip(), maxsplit=1)[0]
    encoding = re.split(r"[\s(]", first(header, "content-transfer-encoding"), maxsplit=1)[0]
    carrier = b"Content-Transfer-Encoding: " + (encoding.encode() or b"7bit") + b"\n\n" + body
    plain = message_from_bytes(carrier).get_payload(decode=True)
    return Part(
        kind=kind.lower() or "text/plain", encoding=encoding.lower(), raw=body,
        body=plain if isinstance(plain, bytes) else body,
    )  # fmt: skip


# -- waiting for them -----------------------------------------------------------------------------


def here_now(talk: Session) -> list[Report]:
    """What lies in the sender's mailbox with this session's token.  Raises Unavailable."""
    place = talk.given.sender_maildir
    if place is None:
        raise Unavailable("--sender and --sender-maildir")
    found = [taken_apart(each) for each in talk.here_now(place, talk.token.encode())]
    return [each for each in found if not _sent_by(talk, each)]


def _sent_by(talk: Session, each: Report) -> bool:
    return f"{talk.token}@{talk.given.hostname}" in first(each.header, "message-id")


async def wait(talk: Session, enough: Callable[[list[Report]], bool] = bool) -> list[Report]:
    """Until there are enough, or patience ends; what is there then."""
    found: list[Report] = []
    with trio.move_on_after(talk.given.patience_s):
        while True:
            found = here_now(talk)
            if enough(found):
                break
            await trio.sleep(LOOK_S)
    talk.note(f"{len(found)} reports with the token {talk.token}")
    return found


# -- provoking them -------------------------------------------------------------------------------


async def of_delivery(
    talk: Session, *, mail: str = "", rcpt: str = "", to: str = "", octets: bytes | None = None,
    sender: str | None = None,
) -> Report:  # fmt: skip
    """On mail for a mailbox of the server, by NOTIFY=SUCCESS.  mail, rcpt: more parameters.
    Raises Refused, NotApplicable, Unavailable.
    """
    found = await deliveries(
        talk, mail=mail, rcpts=[(to or talk.given.rcpt, f"NOTIFY=SUCCESS {rcpt}".strip())],
        octets=octets, sender=sender,
    )  # fmt: skip
    if not found:
        raise Unavailable("a report on a delivery, asked for by NOTIFY=SUCCESS")
    return best(found)


async def deliveries(
    talk: Session, *, mail: str = "", rcpts: Sequence[tuple[str, str]], octets: bytes | None = None,
    sender: str | None = None, enough: Callable[[list[Report]], bool] = bool,
) -> list[Report]:  # fmt: skip
    """Reports on one message for several recipients, each with its parameters."""
    await hand_in(talk, mail=mail, rcpts=rcpts, octets=octets, sender=sender)
    return await wait(talk, enough)


async def hand_in(
    talk: Session, *, mail: str = "", rcpts: Sequence[tuple[str, str]], octets: bytes | None = None,
    sender: str | None = None,
) -> None:  # fmt: skip
    """A whole transaction.  Raises Refused unless the message is taken."""
    await talk.upto("ehlo")
    path = talk.given.sender if sender is None else sender
    await talk.must(f"MAIL FROM:<{path}> {mail}".rstrip())
    for address, parameters in rcpts:
        await talk.must(f"RCPT TO:<{address}> {parameters}".rstrip())
    await talk.must("DATA")
    reply = await talk.content(talk.message() if octets is None else octets)
    if reply.code[:1] != "2":
        raise Refused("the message", reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """Where and to whom mail is accepted that cannot be delivered.  sure: that must fail at once,
    whatever the name servers say.
    """

    talk: Session
    address: str
    sure: bool


async def failing(talk: Session) -> Failing:
    """In a session at "ehlo"; or on a connection beside it, with the same token.  Raises
    Unavailable, Refused.
    """
    await talk.upto("ehlo")
    for address, sure in addresses(talk.given, talk.token):
        if await _takes(talk, address):
            return Failing(talk=talk, address=address, sure=sure)
    if talk.given.user:
        for door in DOORS:
            found = await _as_user(talk, door)
            if found is not None:
                return found
    raise Unavailable(LATER)


def addresses(given: Given, token: str) -> list[tuple[str, bool]]:
    """What may fail later, and whether it must."""
    found = [(given.unknown, True)] if given.unknown else []
    if given.domain and not given.unknown:
        found.append((f"no-such-user-{token}@{given.domain}", False))  # there may be a catch-all
    return [*found, ("x@no-such-domain.invalid", False)]


async def _takes(talk: Session, address: str) -> bool:
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    reply = await talk.say(f"RCPT TO:<{address}>")
    await talk.must("RSET")
    return reply.code[:1] == "2"


async def _as_user(talk: Session, door: Door) -> Failing | None:
    if talk.given.address(door) is None:
        return None
    other = talk.another(door)
    with suppress(Refused, NotApplicable, Unavailable, OSError):
        await other.upto("ehlo")
        await other.auth()
        address, sure = addresses(talk.given, talk.token)[-1]
        if await _takes(other, address):
            return Failing(talk=other, address=address, sure=sure)
    return None


async def of_failure(
    talk: Session, *, mail: str = "", rcpt: str = "", octets: bytes | None = None
) -> Report:
    """On mail that cannot be delivered.  Parameters of RFC 3461 may only be given where DSN is
    offered.  Raises Refused, NotApplicable, Unavailable.
    """
    found = await of_failures(talk, mail=mail, rcpt=rcpt, octets=octets)
    if not found:
        raise Unavailable(f"{LATER}, and is reported in {talk.given.patience_s:.0f} s")
    return best(found)


async def of_failures(
    talk: Session, *, mail: str = "", rcpt: str = "", octets: bytes | None = None
) -> list[Report]:
    """The same; none if none came."""
    where = await failing(talk)
    if (mail or rcpt) and "DSN" not in where.talk.features:
        raise NotApplicable("DSN")
    await hand_in(where.talk, mail=mail, rcpts=[(where.address, rcpt)], octets=octets)
    return await wait(talk)


def best(found: list[Report]) -> Report:
    """Somebody's automatic answer may be among them."""
    return next((each for each in found if each.kind == "multipart/report"), found[0])


def in_form(report: Report) -> Report:
    """Raises NotApplicable for a notice that is no multipart/report: a server that does not offer
    DSN may write to people alone (RFC 3464 3).
    """
    if report.kind != "multipart/report":
        raise NotApplicable("reports in the form of RFC 3464")
    return report


async def unwanted(talk: Session, later: Callable[[], Awaitable[None]]) -> list[Report]:
    """Reports on what this session has handed in, once the report on a later message is there:
    `later` hands it in, over this session, while its token is another.  Raises Unavailable if that
    one is not reported either, so that silence proves nothing.
    """
    token, talk.token = talk.token, "u" + talk.token[1:]
    try:
        await later()
        if not await wait(talk):
            raise Unavailable("a report on a later message, to compare with")
    finally:
        talk.token = token
    await trio.sleep(talk.given.quiet_s)  # the first one's report may be behind the later one's
    return here_now(talk)
