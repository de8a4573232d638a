r"""Delivery status notifications: who is told of a failure or a delay, and the report's octets.

Who is told (`decide`), as a table.  "nobody" is the null reverse-path, and the names that only this
system writes from; "himself" says that the message was addressed to the postmaster:

    event    | from      | himself | told
    failed   | somebody  |         | the sender; the postmaster gets a copy if copies has "failed"
    failed   | nobody    | no      | the postmaster, if copies has "double"
    failed   | nobody    | yes     | nobody
    delayed  | somebody  |         | the sender
    delayed  | nobody    |         | nobody

Why it ends: every report has the null reverse-path (RFC 5321 4.5.5), so that a report which fails
leads at most to one notice to the postmaster, and that one, if it fails, to none.  For this the
*envelope's* recipients count: an alias of the postmaster may fail under any other name.

The report (`compose`) is multipart/report (RFC 6522) with three parts: a text for people, the
message/delivery-status of RFC 3464, and the header of the message as text/rfc822-headers.  Rules a
reader may rely on:

1. Printable ASCII and CRLF only, no line over 998 octets (RFC 5321 4.5.3.1.6), most within 78.
2. What comes from outside (addresses, replies, host names) is escaped, bounded, and never begins a
   line; runs of white space become one space.  The returned header is sent as it is where it is
   7bit, else in quoted-printable, which gives back its octets.
3. The boundary is "=_" and the caller's token.  "=_" cannot occur in quoted-printable
   (RFC 2045 6.7), and a header that holds the delimiter is sent in that form, so that nobody can
   end a part, even if he knows the token.
4. The class of Status agrees with Action: delayed is 4, failed is 5 or 4.  RFC 3463 2 has 4 in a
   failure report, too: given up, though another attempt might succeed.

What is tricky: a delivery status ends where an empty line is, so that a folded line must never be
empty but for its white space.

What it does not do: return the body (the sender may be forged), honour RFC 3461 (not offered: no
NOTIFY, RET or ENVID), or judge the message: whether a list sent it does not matter here.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from refmta.wire.header import UNIX_TIME_MAX_S, rfc5322_date, split_message
from refmta.wire.messages import ReportRow
from refmta.wire.reply import escaped

Event: TypeAlias = Literal["failed", "delayed"]
Copy: TypeAlias = Literal["failed", "double"]
Told: TypeAlias = Literal["sender", "postmaster"]

#: All copies that the postmaster may be sent.
COPIES: Final[frozenset[Copy]] = frozenset(("failed", "double"))
#: Nobody writes from these at our own name; a report to them would be one to ourselves.
OWN_LOCAL_PARTS: Final = ("mailer-daemon", "double-bounce")
#: Most of a header that is returned, in octets (Postfix: header_size_limit 102400; a report's
#: reader wants the fields that say which message it was, and those come early).
HEADER_OCTETS: Final = 64 * 1024
#: Most of a text from outside, in octets once escaped: one word of it still fits a line.
TEXT_OCTETS: Final = 900
LINE_OCTETS: Final = 998  # RFC 5321 4.5.3.1.6, without CRLF
FOLD_AT: Final = 78  # RFC 5322 2.1.1

_is_token = re.compile(r"[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*\Z").match
_match_mta_name = re.compile(r"[A-Za-z0-9_.-]+|\[[A-Za-z0-9:.]+\]").match
_is_smtp_reply = re.compile(r"[2-5][0-9][0-9](?![0-9])").match
_is_seven_bit = re.compile(rb"(?:[\t -~]{0,998}\r\n)*\Z").match
_sub_unsafe = re.compile(rb"[^\t -<>-~]|[\t ](?=\r\n)|[\t ]\Z").sub
_sub_end = re.compile(rb"(?:\A|(?<=\n))\r?\n\Z").sub
_whole_fields = re.compile(rb"(?s:.*)\n(?=[^ \t])").match


# -- who is told ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """What is configured.  postmaster: an address, or "" if `copies` is empty.

    Raises ValueError for copies to nobody.
    """

    hostname: str
    postmaster: str
    copies: frozenset[Copy] = frozenset()

    def __post_init__(self) -> None:
        if self.copies - COPIES:
            raise ValueError("no such copy for the postmaster")
        if self.copies and not self.postmaster:
            raise ValueError("copies for a postmaster who has no address")


@dataclass(frozen=True, slots=True)
class Tell:
    """One report to be made."""

    kind: Event
    to: str
    who: Told


#: (event, from somebody, addressed to the postmaster himself) -> whom, and the copy it takes.
_TABLE: Final[dict[tuple[Event, bool, bool], tuple[tuple[Told, Copy | None], ...]]] = {
    ("failed", True, False): (("sender", None), ("postmaster", "failed")),
    ("failed", True, True): (("sender", None), ("postmaster", "failed")),
    ("failed", False, False): (("postmaster", "double"),),
    ("failed", False, True): (),
    ("delayed", True, False): (("sender", None),),
    ("delayed", True, True): (("sender", None),),
    ("delayed", False, False): (),
    ("delayed", False, True): (),
}


def decide(
    event: Event, reverse_path: str, notify: Notify, recipients: Collection[str]
) -> tuple[Tell, ...]:
    """Who is told that a message failed, or is late.

    reverse_path: of the message, "" for the null one.  recipients: those of its envelope as it
    came, not those that aliases led to.  Nobody is told twice.
    """
    key = notify.postmaster.lower()
    himself = bool(key) and any(each.lower() == key for each in recipients)
    tells: dict[str, Tell] = {}
    for who, copy in _TABLE[event, _somebody(reverse_path, notify.hostname), himself]:
        if copy is None or copy in notify.copies:
            to = reverse_path if who == "sender" else notify.postmaster
            tells.setdefault(to.lower(), Tell(event, to, who))
    return tuple(tells.values())


def _somebody(reverse_path: str, hostname: str) -> bool:
    local, _, domain = reverse_path.lower().rpartition("@")
    ours = domain == hostname.lower() and local in OWN_LOCAL_PARTS
    return bool(reverse_path) and not ours


# -- the report -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a report says.  Times in seconds since 1970.

    hostname: the reporting MTA, a domain.  to: who is told; the sender if it is `reverse_path`,
    else the postmaster.  queue_id, arrival_s, reverse_path: of the message.  rows: at least one;
    `host` of a row is empty where the text is ours.  until_s: when a delayed one is given up, or 0.
    """

    hostname: str
    kind: Event
    to: str
    queue_id: str
    arrival_s: int
    reverse_path: str
    rows: tuple[ReportRow, ...]
    until_s: int = 0


def compose(facts: Facts, header: bytes, *, now_s: int, token: str) -> bytes:
    """The report as a message.

    header: the octets of the message up to its empty line, or more: the body is left out, and of a
    header over HEADER_OCTETS the fields at its end.  token: a word that was never used before, of
    at most 60 letters, digits and dots between them; Message-ID and boundary are made of it.
    Raises ValueError for another token or no rows: our mistake.
    """
    if len(token) > 60 or not _is_token(token):
        raise ValueError("not a token")
    if not facts.rows:
        raise ValueError("a report about nobody")
    returned, whole = _returned(header)
    boundary = f"=_{token}"
    text = "\r\n".join(_for_people(facts, whole=whole)) + "\r\n"
    parts = (
        _part("text/plain; charset=us-ascii", "Notification", text.encode("ascii")),
        _part("message/delivery-status", "Delivery report", _delivery_status(facts)),
        _returned_part(returned, boundary.encode("ascii")),
    )
    delimiter = f"\r\n--{boundary}".encode("ascii")
    body = b"".join(delimiter + b"\r\n" + part for part in parts)
    return _heading(facts, now_s, token) + body + delimiter + b"--\r\n"


def _heading(facts: Facts, now_s: int, token: str) -> bytes:
    """From: postmaster at our own name, which is always accepted (RFC 5321 4.5.1): a human, so that
    replies reach one (RFC 3464 2).
    """
    subject = _SUBJECTS[facts.kind, _told(facts)]
    lines = (
        f'From: "MAILER-DAEMON" <postmaster@{facts.hostname}>',
        f"To: <{_address(facts.to)}>",
        f"Subject: {subject}",
        f"Date: {_date(now_s)}",
        f"Message-ID: <{token}@{facts.hostname}>",
        "Auto-Submitted: auto-replied",  # RFC 3834 5: nothing that answers by itself answers this
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="=_{token}"',
        "",
        "This is a report in the format of RFC 3464, in several parts.",
    )
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def _part(kind: str, description: str, content: bytes, encoding: str = "7bit") -> bytes:
    lines = (
        f"Content-Type: {kind}",
        f"Content-Description: {description}",
        f"Content-Transfer-Encoding: {encoding}",
    )
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + content


# -- the text for people --------------------------------------------------------------------------

_SUBJECTS: Final[dict[tuple[Event, Told], str]] = {
    ("failed", "sender"): "Undelivered mail: your message could not be delivered",
    ("failed", "postmaster"): "Undelivered mail: notice for the postmaster",
    ("delayed", "sender"): "Delayed mail: your message has not been delivered yet",
    ("delayed", "postmaster"): "Delayed mail: notice for the postmaster",
}


def _told(facts: Facts) -> Told:
    is_sender = facts.reverse_path.lower() == facts.to.lower()
    return "sender" if is_sender else "postmaster"


def _for_people(facts: Facts, *, whole: bool) -> Iterator[str]:
    yield f"This is the mail system at {facts.hostname}."
    yield ""
    yield from _wrapped(_what_happened(facts))
    for row in facts.rows:
        yield ""
        yield f"  <{_address(row.address)}>"
        said = f"{_shown(row.host)} said: " if row.host else ""
        yield from _wrapped(said + (_shown(row.text) or "no reason was given"), "    ")
    yield ""
    yield from _wrapped(_what_next(facts))
    yield ""
    cut = "" if whole else "  It was too long: its end is missing."
    about = f"It arrived here on {_date(facts.arrival_s)}, under the queue id {facts.queue_id}."
    yield from _wrapped(f"{about}  The header of the message is attached.{cut}")


def _what_happened(facts: Facts) -> str:
    if _told(facts) == "sender":
        what = {
            "failed": "Your message could not be delivered to the recipients below, for the reasons"
            " given there.  It will not be tried again for them.",
            "delayed": "Your message has not been delivered to the recipients below yet, for the"
            " reasons given there.  You need not send it again.",
        }
        return what[facts.kind]
    whose = f"from <{_address(facts.reverse_path)}>" if facts.reverse_path else "without a sender"
    return f"A message {whose} could not be delivered to the recipients below."


def _what_next(facts: Facts) -> str:
    if facts.kind == "delayed":
        until = f" until {_date(facts.until_s)}" if facts.until_s else ""
        return f"This system goes on trying{until}, and tells you if it gives up."
    if _told(facts) == "sender":
        return (
            "Please look at the addresses and the reasons.  If a reason says that another attempt"
            f" may help, send the message again; else ask postmaster@{facts.hostname} for help."
        )
    if facts.reverse_path:
        return "You get this copy as the postmaster.  The sender has been told, too."
    return "You get this notice as the postmaster.  Nobody else has been told."


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        FOLD_AT - 2,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


# -- the status for programs ----------------------------------------------------------------------


def _delivery_status(facts: Facts) -> bytes:
    """RFC 3464 2.1: fields of the message, then those of each recipient behind an empty line."""
    about_message = [
        f"Reporting-MTA: dns; {facts.hostname}",
        f"X-Refmta-Queue-ID: {facts.queue_id}",
        f"Arrival-Date: {_date(facts.arrival_s)}",
    ]
    groups = [about_message, *([*_recipient_fields(facts, row)] for row in facts.rows)]
    return "\r\n".join(f"{line}\r\n" for line in map("\r\n".join, groups)).encode("ascii")


def _recipient_fields(facts: Facts, row: ReportRow) -> Iterator[str]:
    yield f"Final-Recipient: rfc822; {_address(row.address)}"
    yield f"Action: {facts.kind}"
    yield f"Status: {status(facts.kind, row.enhanced)}"
    name = _match_mta_name(row.host)
    if name:
        yield f"Remote-MTA: dns; {name[0]}"
    text = _shown(row.text)
    if text:
        said = row.host and _is_smtp_reply(text)  # RFC 3461 9.2: a reply, with its code
        yield _folded(f"Diagnostic-Code: {'smtp' if said else 'X-Refmta'};", text.split(" "))
    if row.when_s:
        yield f"Last-Attempt-Date: {_date(row.when_s)}"
    if facts.kind == "delayed" and facts.until_s:  # RFC 3464 2.3.9: there and nowhere else
        yield f"Will-Retry-Until: {_date(facts.until_s)}"


def status(kind: Event, enhanced: str) -> str:
    """The Status (RFC 3463) of a row: its own code where its class agrees, else X.0.0."""
    allowed = "45" if kind == "failed" else "4"
    if enhanced[:1] in allowed and enhanced.count(".") == 2:
        return ".".join(str(int(number)) for number in enhanced.split("."))  # no leading zeros
    return "5.0.0" if kind == "failed" else "4.0.0"


def _folded(start: str, words: Iterable[str]) -> str:
    """Folded before words, so that no line is white space only, and unfolding gives the text."""
    lines = [start]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > FOLD_AT and lines[-1] != start:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)


# -- what comes from outside ----------------------------------------------------------------------


def _shown(text: str) -> str:
    return " ".join(escaped(text[:TEXT_OCTETS]).split())[:TEXT_OCTETS].rstrip()


def _address(text: str) -> str:
    """Spaces are kept: a quoted local part may hold them."""
    return escaped(text)[:TEXT_OCTETS]


def _date(unix_time_s: int) -> str:
    return rfc5322_date(min(max(unix_time_s, 0), UNIX_TIME_MAX_S))


# -- the header that is returned ------------------------------------------------------------------


def _returned(octets: bytes) -> tuple[bytes, bool]:
    """The header without its empty line, and whether that is all of it."""
    header = _sub_end(b"", split_message(octets)[0])
    if len(header) <= HEADER_OCTETS:
        return header, True
    fields = _whole_fields(header, 0, HEADER_OCTETS + 1)
    return (fields[0] if fields else header[:HEADER_OCTETS]), False


def _returned_part(header: bytes, boundary: bytes) -> bytes:
    """RFC 6522 4: a header that is no legal 7bit content is sent in quoted-printable."""
    description = "Header of the message"
    if _is_seven_bit(header) and boundary not in header:
        return _part("text/rfc822-headers", description, header)
    encoded = _quoted_printable(header)
    return _part("text/rfc822-headers", description, encoded, "quoted-printable")


def _quoted_printable(octets: bytes) -> bytes:
    """RFC 2045 6.7.  CRLF stays a line end; a CR or LF alone, and all else, is encoded."""
    lines = (line for whole in octets.split(b"\r\n") for line in _soft_lines(whole))
    return b"\r\n".join(lines)


def _soft_lines(line: bytes) -> Iterator[bytes]:
    encoded = _sub_unsafe(lambda match: b"=%02X" % match[0][0], line)
    while len(encoded) > 76:
        end = 75
        if b"=" in encoded[end - 2 : end]:  # never within "=XX"
            end = encoded.rindex(b"=", 0, end)
        yield encoded[:end] + b"="
        encoded = encoded[end:]
    yield encoded
