"""What may become of a relayed message, as tables (`Way.fate` has the words), and what several
files of relayed cases ask of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from specs.conformance.hop import Hop
from specs.conformance.hop_records import Visit
from specs.conformance.model import INFO, NON_STRICT, PASS, Verdict

Fates = Mapping[str, Verdict]

#: Nothing stands in its way.
ARRIVES: Final[Fates] = MappingProxyType({"delivered": PASS})
#: It should arrive; another end is not forbidden.
SHOULD_ARRIVE: Final[Fates] = MappingProxyType({
    "delivered": PASS, "put off": NON_STRICT, "kept waiting": NON_STRICT, "returned": NON_STRICT,
    "sent again": NON_STRICT,
})  # fmt: skip
#: Refused for good: the sender hears of it.  Who tries again misses a SHOULD NOT.
COMES_BACK: Final[Fates] = MappingProxyType({
    "returned": PASS, "put off": NON_STRICT, "kept waiting": NON_STRICT,
})  # fmt: skip
#: It may be tried again at once, or in minutes, which is not seen.  It must not come back.
IS_KEPT: Final[Fates] = MappingProxyType({"delivered": PASS, "put off": INFO, "kept waiting": INFO})
#: The standard leaves it open; but what is said and done is recorded.
OPEN: Final[Fates] = MappingProxyType({
    "delivered": PASS, "returned": INFO, "put off": INFO, "kept waiting": INFO,
})  # fmt: skip

#: What any SMTP server may be told, with or without extensions (RFC 5321 4.1.1).
BASIC: Final = frozenset({
    "EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP",
})  # fmt: skip


def without_reply(visit: Visit) -> str:
    """The first command that did not wait for the reply before, for people; "" if all did."""
    return next((each.line[:80] for each in visit.commands if each.early), "")


def all_without_reply(hop: Hop) -> str:
    """The same, of all visits of a hop."""
    return next(filter(None, map(without_reply, hop.visits)), "")
