"""What a report is about, and what the oracle expects to read in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: A text of this length or more may have been cut.
CUT: Final = 880


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One recipient: its last outcome.  host: the server that said `text`, or "" if it is ours."""

    address: str
    enhanced: str = ""
    text: str = ""
    when_s: int = 0
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The facts behind a report.  header: the original message, its body included or not.

    header_limit: what the subject returns of a header at most, in octets.
    """

    hostname: str
    kind: str
    to: str
    queue_id: str
    arrival_s: int
    rows: tuple[Row, ...]
    header: bytes
    reverse_path: str = ""
    until_s: int = 0
    header_limit: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a report was submitted."""

    reverse_path: str
    recipients: tuple[str, ...]


def original_header(octets: bytes) -> bytes:
    """The fields before the first empty line, without it."""
    fields = bytearray()
    for line in re.findall(rb"[^\n]*\n|[^\n]+\Z", octets):  # a CR alone ends no line
        if line in (b"\r\n", b"\n"):
            break
        fields += line
    return bytes(fields)


def says(shown: str, text: str) -> bool:
    """Whether a text shown in a report is this one: escaped as Python writes it, white space
    collapsed, and perhaps cut.
    """
    printable = "".join(each if " " <= each <= "~" else _escape(ord(each)) for each in text)
    wanted = " ".join(word for word in printable.split(" ") if word)
    cut = len(shown) >= CUT or len(text) >= CUT
    return shown == wanted or (cut and bool(shown) and wanted.startswith(shown))


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
