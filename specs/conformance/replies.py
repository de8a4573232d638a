"""SMTP replies, cut out of octets (RFC 5321 4.2, 4.2.1): whole ones, and what is none.

A server is judged elsewhere: here a reply may have any code of three digits, any text, and lines
that end in LF alone, so that a case can look at what came.  `octets` keeps it as it was.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.model import Reply

#: More is a flood: RFC 5321 4.5.3.1.5 has 512 octets a line.
MOST_OCTETS: Final = 1 << 16
_LINE: Final = re.compile(rb"([0-9]{3})(?:([ -])(.*))?\Z", re.DOTALL)


def cut(octets: bytes) -> tuple[Reply, bytes] | None:
    """(the first reply in it, what comes behind it), or None if it is not whole yet."""
    lines: list[str] = []
    code, at = "", 0
    while True:
        end = octets.find(b"\n", at)
        if end < 0:
            if len(octets) > MOST_OCTETS:
                return Reply(kind="flood", octets=octets), b""
            return None
        line = octets[at:end].removesuffix(b"\r")
        at = end + 1
        found = _LINE.match(line)
        if found is None or (code and found[1].decode() != code):
            return Reply(kind="garbage", octets=octets[:at]), octets[at:]
        code = found[1].decode()
        lines.append((found[3] or b"").decode("utf-8", "surrogateescape"))
        if found[2] != b"-":
            return Reply(code=code, lines=tuple(lines), octets=octets[:at]), octets[at:]
        if at > MOST_OCTETS:
            return Reply(kind="flood", octets=octets[:at]), b""


def features(reply: Reply) -> dict[str, str]:
    """Keyword in capitals to its parameters, of a reply to EHLO (RFC 5321 4.1.1.1)."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword.upper().startswith("AUTH=") and "AUTH" in found:  # an old form, beside the new
            continue
        if keyword:
            found[keyword.upper()] = parameters.strip()
    return found
