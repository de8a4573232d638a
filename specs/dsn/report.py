"""What the octets of a report must be: an oracle over one report and the facts behind it.

It reads the octets with a small strict parser of its own, then asks Python's email package for a
second opinion.  Invariants:

    null_reverse_path       RFC 5321 6.1, 4.5.5: from <>, to the one who is told
    plain_octets            printable ASCII, CRLF only, lines of at most 998 octets
    message_fields          RFC 5322: each of FIELDS once, and no other: nobody has added one
    automatic               RFC 3834 5: Auto-Submitted is not "no"
    multipart_report        RFC 6522 3: report-type, and the three types in order
    boundary_not_inside     RFC 2046 5.1.1: three delimiters and a close delimiter, the last line
    status_fields           RFC 3464 2.1 to 2.3: the grammar; mandatory fields once; no strange ones
    facts                   recipients in order, codes, texts, hosts and times as they are
    status_agrees           RFC 3463 2: delayed is 4; failed is 5, or 4 (given up)
    will_retry_only_delayed RFC 3464 2.3.9
    header_returned         the original header's octets, or whole fields of its beginning
    second_opinion          email finds the same parts without a defect

It does not judge the prose of the first part, only that each recipient is named in it.
"""

from __future__ import annotations

import email
import email.message
import email.utils
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from specs.dsn.truth import Envelope, Row, Truth, original_header, says

FIELDS: Final = (
    "from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-type",
)  # fmt: skip
TYPES: Final = ("text/plain", "message/delivery-status", "text/rfc822-headers")
#: Fields by their group: (mandatory, permitted).
PER_MESSAGE: Final = (("reporting-mta",), ("arrival-date",))
PER_RECIPIENT: Final = (
    ("final-recipient", "action", "status"),
    ("remote-mta", "diagnostic-code", "last-attempt-date", "will-retry-until"),
)
_FIELD = re.compile(r"([!-9;-~]+):[ ]?((?:[\t -~]|\r\n[ \t]+(?=[!-~]))*)\r\n")
_BOUNDARY = re.compile(r'boundary="([0-9A-Za-z\'()+_,./:=?-]{1,70})"')
_STATUS = re.compile(r"([245])\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\Z")


class Malformed(ValueError):
    """(invariant, detail): what the rest can't be judged without."""


@dataclass(frozen=True, slots=True)
class Part:
    """A body part: its fields by lower-cased name, and its octets."""

    fields: dict[str, str]
    octets: bytes


def judge(octets: bytes, truth: Truth, envelope: Envelope) -> dict[str, str]:
    """Each invariant that is violated, with a detail."""
    violated: dict[str, str] = {}
    for invariant, detail in findings(octets, truth, envelope):
        violated.setdefault(invariant, detail)
    return violated


def findings(octets: bytes, truth: Truth, envelope: Envelope) -> Iterator[tuple[str, str]]:
    """All that is wrong."""
    if envelope.reverse_path or envelope.recipients != (truth.to,):
        yield "null_reverse_path", f"from <{envelope.reverse_path}> to {envelope.recipients}"
    if re.search(rb"[^\t\r\n -~]|\r(?!\n)|(?<!\r)\n|[^\r\n]{999}", octets):
        yield "plain_octets", "8-bit, control, bare line end or a long line"
    try:
        fields, parts = parsed(octets)
        yield from _fields(fields, truth)
        yield from _kinds(fields, parts)
        yield from _text(parts[0], truth)
        yield from _status(parts[1], truth)
        yield from _header(parts[2], truth)
        yield from _second_opinion(octets, parts)
    except Malformed as malformed:
        yield malformed.args[0], malformed.args[1]


# -- the parts ------------------------------------------------------------------------------------


def parsed(octets: bytes) -> tuple[dict[str, str], list[Part]]:
    """The message's fields and its three parts.  Raises Malformed."""
    head, _, body = octets.partition(b"\r\n\r\n")
    fields = dict(split_fields(head + b"\r\n", "message_fields"))
    boundary = _BOUNDARY.search(fields.get("content-type", ""))
    if boundary is None:
        raise Malformed("multipart_report", "no boundary")
    delimiter = b"\r\n--" + boundary[1].encode("ascii")
    _preamble, *rest = (b"\r\n" + body).split(delimiter)
    if len(rest) != 4 or rest[3] != b"--\r\n" or not all(part[:2] == b"\r\n" for part in rest[:3]):
        raise Malformed("boundary_not_inside", f"{len(rest)} delimiters")
    return fields, [_part(each[2:]) for each in rest[:3]]


def _part(octets: bytes) -> Part:
    head, _, content = octets.partition(b"\r\n\r\n")
    return Part(dict(split_fields(head + b"\r\n", "multipart_report")), content)


def split_fields(octets: bytes, invariant: str) -> list[tuple[str, str]]:
    """Names, lower-cased, and unfolded values.  Raises Malformed, also where a name repeats."""
    text, at, found = octets.decode("latin-1"), 0, []
    while at < len(text):
        match = _FIELD.match(text, at)
        if match is None:
            raise Malformed(invariant, f"not a field: {text[at : at + 60]!r}")
        found.append((match[1].lower(), match[2].replace("\r\n", "")))
        at = match.end()
    if len({name for name, _ in found}) != len(found):
        raise Malformed(invariant, "a field occurs twice")
    return found


def _fields(fields: dict[str, str], truth: Truth) -> Iterator[tuple[str, str]]:
    if set(fields) != set(FIELDS):
        yield "message_fields", f"{sorted(set(fields) ^ set(FIELDS))}"
        return
    if fields["to"] != f"<{truth.to}>":
        yield "message_fields", f"to {fields['to']}"
    if not re.fullmatch(r"<[!-~]+@[!-~]+>", fields["message-id"]):
        yield "message_fields", fields["message-id"]
    if email.utils.parsedate_to_datetime(fields["date"]).tzinfo is None:
        yield "message_fields", fields["date"]
    if fields["auto-submitted"] not in ("auto-replied", "auto-generated"):
        yield "automatic", fields["auto-submitted"]


def _kinds(fields: dict[str, str], parts: list[Part]) -> Iterator[tuple[str, str]]:
    if not re.match(r"multipart/report;.*report-type=delivery-status\b", fields["content-type"]):
        yield "multipart_report", fields["content-type"]
    kinds = tuple(part.fields.get("content-type", "").split(";")[0] for part in parts)
    if kinds != TYPES:
        yield "multipart_report", str(kinds)


def _text(part: Part, truth: Truth) -> Iterator[tuple[str, str]]:
    text = part.octets.decode("latin-1")
    for row in truth.rows:
        if f"<{row.address}>\r\n" not in text:
            yield "facts", f"the text does not name {row.address}"


# -- the delivery status --------------------------------------------------------------------------


def _status(part: Part, truth: Truth) -> Iterator[tuple[str, str]]:
    if part.fields.get("content-transfer-encoding", "7bit") != "7bit":
        yield "status_fields", "RFC 3464 2.1: 7bit"
    octets = part.octets.removesuffix(b"\r\n")
    groups = [dict(split_fields(each, "status_fields")) for each in _groups(octets)]
    for group, known in zip(groups, (PER_MESSAGE, *[PER_RECIPIENT] * len(groups)), strict=False):
        yield from _known(group, *known)
    about, *recipients = groups
    yield from _about(about, truth)
    if len(recipients) != len(truth.rows):
        yield "facts", f"{len(recipients)} recipients, not {len(truth.rows)}"
        return
    for group, row in zip(recipients, truth.rows, strict=True):
        yield from _recipient(group, row, truth)


def _groups(octets: bytes) -> list[bytes]:
    """Split at empty lines; each group keeps its last line's end."""
    return [
        each if each.endswith(b"\r\n") else each + b"\r\n" for each in octets.split(b"\r\n\r\n")
    ]


def _known(
    group: dict[str, str], mandatory: tuple[str, ...], permitted: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    missing = set(mandatory) - set(group)
    strange = {name for name in group if not name.startswith("x-")} - {*mandatory, *permitted}
    if missing or strange:
        yield "status_fields", f"missing {sorted(missing)}, strange {sorted(strange)}"


def _about(group: dict[str, str], truth: Truth) -> Iterator[tuple[str, str]]:
    if group.get("reporting-mta") != f"dns; {truth.hostname}":
        yield "facts", f"reported by {group.get('reporting-mta')}"
    if truth.queue_id not in group.values():
        yield "facts", "no queue id"
    yield from _time(group, "arrival-date", truth.arrival_s)


def _time(group: dict[str, str], name: str, seconds: int) -> Iterator[tuple[str, str]]:
    """The field holds this time; with none (0) the field must be missing."""
    value = group.get(name)
    said = None if value is None else email.utils.parsedate_to_datetime(value).timestamp()
    if said != (seconds or None):
        yield "facts", f"{name}: {value}, not {seconds}"


def _recipient(group: dict[str, str], row: Row, truth: Truth) -> Iterator[tuple[str, str]]:
    if group.get("final-recipient") != f"rfc822; {row.address}":
        yield "facts", f"{group.get('final-recipient')}, not {row.address}"
    if group.get("action") != truth.kind:
        yield "facts", f"action {group.get('action')}"
    yield from _code(group.get("status", ""), row, truth)
    yield from _said(group, row)
    yield from _time(group, "last-attempt-date", row.when_s)
    if truth.kind == "delayed":
        yield from _time(group, "will-retry-until", truth.until_s)
    elif "will-retry-until" in group:
        yield "will_retry_only_delayed", group["will-retry-until"]


def _code(status: str, row: Row, truth: Truth) -> Iterator[tuple[str, str]]:
    allowed = {"failed": "45", "delayed": "4"}[truth.kind]
    match = _STATUS.match(status)
    if match is None:
        yield "status_fields", f"status {status!r}"
    elif match[1] not in allowed:
        yield "status_agrees", f"{truth.kind} {status}"
    elif row.enhanced[:1] in allowed and row.enhanced and _number(row.enhanced) != _number(status):
        yield "facts", f"{status}, not {row.enhanced}"


def _number(code: str) -> list[int]:
    return [int(each) for each in code.split(".")]


def _said(group: dict[str, str], row: Row) -> Iterator[tuple[str, str]]:
    kind, _, text = group.get("diagnostic-code", "").partition("; ")
    if not says(text, row.text):
        yield "facts", f"said {text!r}, not {row.text!r}"
    if kind == "smtp" and not (row.host and re.match("[2-5][0-9][0-9]", text)):
        yield "facts", "a diagnosis of SMTP that no server gave"
    remote = group.get("remote-mta", "")
    if remote and not (remote.startswith("dns; ") and row.host.startswith(remote[5:])):
        yield "facts", f"{remote}, not {row.host}"
    if bool(remote) != bool(re.match(r"[A-Za-z0-9_.-]|\[[A-Za-z0-9:.]+\]", row.host)):
        yield "facts", f"remote {remote!r} of {row.host!r}"


# -- the header, and a second opinion -------------------------------------------------------------


def decoded(part: Part) -> bytes:
    """A part's octets, its encoding undone."""
    if part.fields.get("content-transfer-encoding") == "quoted-printable":
        return quopri.decodestring(part.octets)
    return part.octets


def _header(part: Part, truth: Truth) -> Iterator[tuple[str, str]]:
    returned, original = decoded(part), original_header(truth.header)
    if returned == original:
        return
    if len(original) <= truth.header_limit or len(returned) > truth.header_limit:
        yield "header_returned", f"{len(returned)} octets, not {len(original)}"
    elif not original.startswith(returned):
        yield "header_returned", "other octets than the header's"
    elif re.search(rb"\n[^ \t]", returned) and not _between_fields(original, len(returned)):
        yield "header_returned", "cut within a field that is not the first"


def _between_fields(header: bytes, at: int) -> bool:
    return header[at - 1 : at] == b"\n" and header[at : at + 1] not in (b" ", b"\t")


def _second_opinion(octets: bytes, parts: list[Part]) -> Iterator[tuple[str, str]]:
    message = email.message_from_bytes(octets)
    payload = message.get_payload()
    found = [each for each in payload if isinstance(each, email.message.Message)]
    if any(part.defects for part in message.walk()):
        yield "second_opinion", "defects"
    elif tuple(part.get_content_type() for part in found) != TYPES:
        yield "second_opinion", str([part.get_content_type() for part in found])
    elif found[2].get_payload(decode=True) != decoded(parts[2]):
        yield "second_opinion", "another header"
    elif message.get_param("report-type") != "delivery-status":
        yield "second_opinion", "no report of delivery status"
