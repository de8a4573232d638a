"""Reports about mail that failed, read as the recipient of one would (RFC 3464, RFC 6522).

Rules a reader may rely on: a message is a report if it is a multipart with a part of delivery
statuses: a multipart/report, or, as OpenSMTPD has it against RFC 6522, a multipart/mixed;
whose it is follows from the letter's name in the returned header (or message), never from what a
subject says. Only "failed" settles a recipient; "delayed" does not, and the other actions say
nothing about a loss.

Python's email package does the parsing: no line of it is shared with any server under test. What
it doesn't do: judge whether a report is well-formed beyond what is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Final

from faultinject.letters import Copy, named

CONTAINERS: Final = ("multipart/report", "multipart/mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a report says of one recipient. copy: None if it does not say about which letter;
    made_s: its Date, in seconds since 1970, 0 if it has none.
    """

    copy: Copy | None
    recipient: str
    action: str
    status: str
    message_id: str
    made_s: float


def read_report(octets: bytes) -> tuple[Told, ...]:
    """What a delivered message reports; () if it is no report."""
    top = octets[:8192].lower()
    if not any(each.encode() in top for each in CONTAINERS):
        return ()  # cheap: most messages are none
    message = message_from_bytes(octets, policy=policy.compat32)
    if message.get_content_type() not in CONTAINERS:
        return ()
    copy = named(octets)
    message_id = str(message.get("Message-ID", "")).strip()
    return tuple(
        Told(
            copy=copy,
            recipient=_address(fields),
            action=str(fields.get("Action", "")).strip().lower(),
            status=str(fields.get("Status", "")).strip(),
            message_id=message_id,
            made_s=_date_s(message),
        )
        for fields in _recipients(message)
    )


def _date_s(message: Message) -> float:
    try:
        return parsedate_to_datetime(str(message.get("Date"))).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _recipients(message: Message) -> Iterator[Message]:
    """The blocks of fields, one per recipient (RFC 3464 2.3)."""
    for part in message.walk():
        if part.get_content_type() == "message/delivery-status":
            blocks = part.get_payload()
            for block in blocks if isinstance(blocks, list) else []:
                if isinstance(block, Message) and block.get("Final-Recipient"):
                    yield block


def _address(fields: Message) -> str:
    """The original recipient if it is said (an alias was expanded), else the final one."""
    field = fields.get("Original-Recipient") or fields.get("Final-Recipient") or ""
    return str(field).partition(";")[2].strip().strip("<>").lower()
