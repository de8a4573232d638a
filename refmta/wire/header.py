"""Message headers: reading what came, and writing the trace fields that we add.

Rules a reader may rely on:

1. Reading is tolerant and total: any octets give a result, nothing is repaired, nothing is lost:
   `header + body == octets`, and a line that is no field comes out under the name "".
2. Line ends may be CRLF or LF (mailboxes on disk); what is written ends in CRLF.
3. Writing is strict: what goes into a trace field is printable ASCII, so that nobody outside can
   add a line to the header.  The client's HELO argument is escaped; the rest is ours or has passed
   `wire.address`, and anything else is a ValueError: our mistake.

What it does not do: decode field bodies, unfold, or understand addresses and dates that it reads.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from refmta.wire.address import DOMAIN_OCTETS, is_address_literal, is_domain

UNIX_TIME_MAX_S: Final = 253_402_300_799  # the end of the year 9999

_find_empty_line = re.compile(rb"(?:\A|\n)\r?\n").search
_split_fields = re.compile(rb"\r?\n(?![ \t])").split
_match_field = re.compile(rb"([!-9;-~]+)[ \t]*:").match
_find_received = re.compile(rb"\nreceived[ \t]*:").findall
_is_token = re.compile(r"[!-~]{1,255}\Z").match
_sub_unsafe = re.compile(r"[^A-Za-z0-9.:_\[\]-]").sub

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def split_message(octets: bytes) -> tuple[bytes, bytes]:
    """The header, with the empty line that ends it, and the body (RFC 5322 2.1).

    Without an empty line all of it is header.  header + body == octets.
    """
    match = _find_empty_line(octets)
    end = match.end() if match else len(octets)
    return octets[:end], octets[end:]


def fields(octets: bytes) -> Iterator[tuple[str, bytes]]:
    """Name as written and raw value of each field, up to the empty line or the end.

    The value begins after the colon, keeps its folding and lacks the line's end.  What is no field
    (no colon, no name, a continuation of nothing) is given whole, with the name "".
    """
    for line in _split_fields(split_message(octets)[0]):
        if not line:
            return
        match = _match_field(line)
        yield (match[1].decode("ascii"), line[match.end() :]) if match else ("", line)


def count_received(header: bytes) -> int:
    """How many Received fields there are: loop detection (RFC 5321 6.3).  Give it no body."""
    return len(_find_received(b"\n" + header.lower()))  # a literal prefix is searched for fast


def received(
    *,
    helo: str,
    client: str,
    hostname: str,
    protocol: str,
    queue_id: str,
    recipient: str | None,
    unix_time_s: int,
) -> bytes:
    """The Received field (RFC 5321 4.4: Time-stamp-line), folded, with CRLF.

    helo: as the client said it, escaped where it is no domain.  client: IP address of the peer.
    recipient: a Mailbox as text; only where the message has one recipient (7.2: with more it would
    tell blind recipients).  Raises ValueError when anything but helo is unprintable or empty.
    """
    for_clause = f"\r\n\tfor <{_printable(recipient)}>" if recipient is not None else ""
    return (
        f"Received: from {_host(helo)} ({_literal(client)})\r\n"
        f"\tby {_token(hostname)} with {_token(protocol)} id {_token(queue_id)}"
        f"{for_clause};\r\n\t{rfc5322_date(unix_time_s)}\r\n"
    ).encode("ascii")


def received_here(*, hostname: str, queue_id: str, unix_time_s: int) -> bytes:
    """The Received field of a message that was made here: without `from`, since nobody sent it.

    RFC 5322 3.6.7 has that; the Time-stamp-line of RFC 5321 4.4 is for what came by SMTP.  Raises
    ValueError as `received`.
    """
    return (
        f"Received: by {_token(hostname)} id {_token(queue_id)};\r\n"
        f"\t{rfc5322_date(unix_time_s)}\r\n"
    ).encode("ascii")


def return_path(reverse_path: str) -> bytes:
    """The Return-Path field (RFC 5321 4.4) of a Mailbox as text; "" is the null reverse-path."""
    return f"Return-Path: <{_printable(reverse_path)}>\r\n".encode("ascii")


def delivered_to(mailbox: str) -> bytes:
    """The Delivered-To field (RFC 9228) of a Mailbox as text."""
    return f"Delivered-To: {_printable(mailbox)}\r\n".encode("ascii")


def rfc5322_date(unix_time_s: int) -> str:
    """RFC 5322 3.3 date-time in UTC, from 0 to UNIX_TIME_MAX_S; ValueError beyond."""
    if not 0 <= unix_time_s <= UNIX_TIME_MAX_S:
        raise ValueError("time is before 1970 or after 9999")
    time = datetime.fromtimestamp(unix_time_s, UTC)
    day, month = _DAYS[time.weekday()], _MONTHS[time.month - 1]
    return f"{day}, {time.day:02} {month} {time.year} {time:%H:%M:%S} +0000"


def _host(helo: str) -> str:
    """`helo` where it is what From-domain may hold, else with %XX for what could break out."""
    if is_domain(helo) or is_address_literal(helo):
        return helo
    return _sub_unsafe(_percent, helo[:DOMAIN_OCTETS])[:DOMAIN_OCTETS] or "unknown"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{octet:02X}" for octet in match[0].encode("utf-8", "surrogatepass"))


def _literal(client: str) -> str:
    address = client.partition("%")[0]  # a scope ("fe80::1%eth0") means nothing elsewhere
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    if not is_address_literal(literal):
        raise ValueError("client is no IP address")
    return literal


def _token(text: str) -> str:
    if not _is_token(text):
        raise ValueError("not a printable word")
    return text


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("not printable ASCII")
    return text
