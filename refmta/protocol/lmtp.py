"""LMTP (RFC 2033): what differs from SMTP, for both of its sides.

    SMTP                                    LMTP                                RFC 2033
    EHLO, HELO                              LHLO; the others are refused        4.1
    one reply to the end of the content     one for each accepted recipient     4.2
    DATA without recipients: 554            503                                 4.2
    PIPELINING, ENHANCEDSTATUSCODES: may    must be offered                     5
    the server keeps a queue                it has none: 2yz means "delivered"  3

Commands, replies, parameters and the end of data are SMTP's (`wire`).  The two machines are
`lmtp_server` and `lmtp_client`.

XDELIVERY, an extension between our own two ends (RFC 5321 section 2.2.2: a keyword with X): the
client has been told which mailbox the mail is for, and a message that is delivered once more has to
come under the same name, so that it replaces the first.  It adds to

    MAIL    XID=queue-id  XARRIVAL=seconds
    RCPT    XMAILBOX=path  XINDEX=number

Where the server does not offer it, nothing of it is said; where the client does not use it, the
server decides both by itself.  Another precedent: XFORWARD's IDENT (Postfix).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from refmta.wire.command import Command, CommandError, Ehlo, Parameters, parse_command
from refmta.wire.envelope import is_queue_id
from refmta.wire.reply import reply

#: The keyword of our extension, in the reply to LHLO.
XDELIVERY: Final = "XDELIVERY"
#: Parameters by the command that takes them.
OF_MAIL: Final = ("XID", "XARRIVAL")
OF_RCPT: Final = ("XMAILBOX", "XINDEX")

#: Longest mailbox path that is said, in octets: with an address of 256 it fits a command line.
MAILBOX_OCTETS: Final = 640

LHLO_SYNTAX: Final = reply(501, "5.5.4", "Syntax: LHLO domain-or-[literal]")

_is_number = re.compile(r"[0-9]{1,12}\Z").match
_is_mailbox = re.compile(rf"[!-<>-~]{{1,{MAILBOX_OCTETS}}}\Z").match  # esmtp-value, RFC 5321 4.1.2

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lhlo:
    """RFC 2033 section 4.1; `domain` as sent: Domain or address literal."""

    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which message this is to our queue.  Raises ValueError for what can't be said."""

    queue_id: str
    arrival_s: int

    def __post_init__(self) -> None:
        if not is_queue_id(self.queue_id):
            raise ValueError("not a queue id")
        if not 0 <= self.arrival_s < 10**12:
            raise ValueError("not a time of arrival")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """For which mailbox, and which of the message's recipients.  Raises ValueError for what can't
    be said.  Whether such a mailbox may exist is for its server to say.
    """

    mailbox: str
    index: int

    def __post_init__(self) -> None:
        if not _is_mailbox(self.mailbox):
            raise ValueError("not a mailbox that can be named in a command")
        if not 0 <= self.index < 100_000:
            raise ValueError("not an index")


def parse_lmtp_command(line: bytes) -> Command | Lhlo:
    """One command line without its CRLF.  LHLO "has identical semantics to the EHLO command"
    (RFC 2033 section 4.1), so it is read as one.  Raises CommandError.
    """
    if line[:4].upper() != b"LHLO":
        return parse_command(line)
    try:
        command = parse_command(b"EHLO" + line[4:])
    except CommandError as error:
        raise CommandError(LHLO_SYNTAX if error.reply.code == 501 else error.reply) from None
    return Lhlo(domain=command.domain) if isinstance(command, Ehlo) else command


# -- XDELIVERY ------------------------------------------------------------------------------------


def origin_parameters(origin: Origin) -> tuple[str, ...]:
    """What MAIL says of the message."""
    return f"XID={origin.queue_id}", f"XARRIVAL={origin.arrival_s}"


def place_parameters(place: Place) -> tuple[str, ...]:
    """What RCPT says of the recipient."""
    return f"XMAILBOX={place.mailbox}", f"XINDEX={place.index}"


def read_origin(parameters: Parameters) -> Origin | None:
    """Of MAIL's parameters; None if there is none.  Raises ValueError for half a one, or a bad one.

    Other keywords are not looked at.
    """
    return _read(
        dict(parameters),
        OF_MAIL,
        lambda queue_id, arrival: Origin(queue_id=queue_id, arrival_s=_number(arrival)),
    )


def read_place(parameters: Parameters) -> Place | None:
    """Of RCPT's parameters; as `read_origin`."""
    return _read(
        dict(parameters),
        OF_RCPT,
        lambda mailbox, index: Place(mailbox=mailbox, index=_number(index)),
    )


def _read(
    parameters: Mapping[str, str | None], keywords: tuple[str, str], make: Callable[[str, str], _T]
) -> _T | None:
    """Both keywords, or neither."""
    present = [keyword for keyword in keywords if keyword in parameters]
    if not present:
        return None
    first, second = (parameters.get(keyword) for keyword in keywords)
    if first is None or second is None:
        raise ValueError(f"{keywords[0]} and {keywords[1]} go together, each with a value")
    return make(first, second)


def _number(text: str) -> int:
    if not _is_number(text):
        raise ValueError("not a number")
    return int(text)
