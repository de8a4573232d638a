"""What lies in a mailbox, of either form: a Maildir's directory of files, or an mbox file.

Rules: every message once, in the order in which it came (a directory: of names); in an mbox it goes
from its From_ line to the next one, without the empty line that ends it, and one ">" is taken from
each line that begins with any number of them and then "From " (the form called mboxrd). A mailbox
that was never made is empty.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FROM_LINE = re.compile(rb"^From \S+ +(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\n", re.MULTILINE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


#: A From_ line has whole seconds.
_SECOND_S = 1.0


class Stored(NamedTuple):
    """A message as it is stored. name: of its file, or its place in the mailbox. when_s, until_s:
    between these times it was put there (seconds since 1970).
    """

    name: str
    octets: bytes
    when_s: float
    until_s: float


def stored(mailbox: Path) -> Iterator[Stored]:
    """Everything in a mailbox now. Raises OSError."""
    if mailbox.is_dir():
        for file in sorted(mailbox.iterdir()):
            when_s = file.stat().st_mtime
            yield Stored(file.name, file.read_bytes(), when_s, when_s)
    elif mailbox.is_file():
        yield from split(mailbox.read_bytes())


def split(octets: bytes) -> Iterator[Stored]:
    """The messages of an mbox file. Times are those of the From_ lines, taken as UTC."""
    lines = list(_FROM_LINE.finditer(octets))
    ends = [*(each.start() for each in lines[1:]), len(octets)] if lines else []
    if octets and (not lines or lines[0].start()):
        before = octets[: lines[0].start() if lines else None]
        yield Stored("before the first From_ line", before, 0, 0)
    for number, (line, end) in enumerate(zip(lines, ends, strict=True), 1):
        text = octets[line.end() : end].removesuffix(b"\n")
        when = time.strptime(line[1].decode("ascii"), "%a %b %d %H:%M:%S %Y")
        when_s = float(calendar.timegm(when))
        yield Stored(str(number), _QUOTED.sub(rb"\1", text), when_s, when_s + _SECOND_S)
