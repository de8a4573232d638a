"""What a case is, what it may observe, and what is said of a server.

A case sends something, observes one thing, and has a table of what the standard allows there:

    allowed = {"250": Verdict.PASS, "5yz": Verdict.NON_STRICT}

Rules a reader may rely on
- A key is what was observed, from the exact to the general: a label ("closed", "kept"), a whole
  code ("503"), its first two digits ("50z"), its first ("5yz").  The first that fits decides.
- What no key fits is a fail.  Nothing else is one.
- `security` is apart from conformance: what fails there can be misused, whatever its level.
- An id is RFC-SECTION-SLUG.  It is never used again for something else, and never renamed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from specs.conformance.session import Session

Level = Literal["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "IMPLIED"]
Role = Literal["server", "delivery", "client", "relay"]
#: Where a case begins: the plain door of a mail exchanger, inside TLS after STARTTLS, where TLS
#: is spoken from the first octet, the submission port, inside TLS there, or an LMTP server's.
Door = Literal["smtp", "starttls", "tls", "submission", "submission-starttls", "lmtp"]


class Verdict(StrEnum):
    """Of one case on one server."""

    PASS = "pass"  # noqa: S105
    NON_STRICT = "non-strict"  # allowed, but misses a SHOULD
    FAIL = "fail"
    INFO = "info"  # the standard leaves it open: what the server does is recorded
    NOT_APPLICABLE = "not applicable"  # the extension is not offered
    UNAVAILABLE = "unavailable"  # this run was not given what the case needs
    ERROR = "error"  # the case could not be carried out


PASS, NON_STRICT, FAIL, INFO = Verdict.PASS, Verdict.NON_STRICT, Verdict.FAIL, Verdict.INFO
#: What an `allowed` table may say.
ALLOWED: Final = frozenset({PASS, NON_STRICT, INFO})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came: a whole reply, or why there is none.

    kind: "reply"; "closed" (the connection ended, perhaps in the middle of a line), "silent"
    (nothing whole in time), "garbage" (no reply by RFC 5321 4.2), "flood" (more than anybody
    reads).  code: three digits of a reply.  lines: their texts, without code and separator.
    octets: all of it, as it came.
    """

    kind: Literal["reply", "closed", "silent", "garbage", "flood"] = "reply"
    code: str = ""
    lines: tuple[str, ...] = ()
    octets: bytes = b""

    @property
    def label(self) -> str:
        """The code, or the kind: what `allowed` is asked for."""
        return self.code if self.kind == "reply" else self.kind

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def enhanced(self) -> str:
        """The enhanced status code of the last line (RFC 2034); "" if it has none."""
        word = self.lines[-1].partition(" ")[0] if self.lines else ""
        parts = word.split(".")
        well = len(parts) == 3 and all(each.isascii() and each.isdigit() for each in parts)
        return word if well else ""

    @property
    def positive(self) -> bool:
        """2yz or 3yz."""
        return self.kind == "reply" and self.code[:1] in ("2", "3")

    def __str__(self) -> str:
        if self.kind != "reply":
            return self.kind
        return f"{self.code} {self.lines[-1] if self.lines else ''}".rstrip()


#: A label of a script's own, and what it saw, for people.
Seen = tuple[str, str]
#: What a script observes: a reply (its label counts), or a label, perhaps with what it saw.
Observed = Reply | str | Seen
Script = Callable[["Session"], Awaitable[Observed]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to a server.

    clauses: ids of the catalogue.  requirement: one sentence, in our words.  sent: what is sent,
    for people.  keywords: each must be offered in EHLO at that door, or the case is not applicable.
    needs: names of what a run must be given (`given.NEEDS`), or it is unavailable.  security: what
    may be misused if it fails ("" if nothing).  slow: takes minutes; only when asked for.
    alone: it must not run beside others (it counts something that they change).
    """

    id: str
    clauses: tuple[str, ...]
    level: Level
    role: Role = "server"
    requirement: str
    sent: str
    allowed: Mapping[str, Verdict]
    script: Script = field(compare=False, repr=False)
    door: Door = "smtp"
    keywords: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    security: str = ""
    slow: bool = False
    alone: bool = False

    @property
    def rfc(self) -> str:
        return self.id.split("-", 2)[0]

    @property
    def section(self) -> str:
        """ "4.1.1.1"."""
        return self.id.split("-", 2)[1]

    @property
    def expected(self) -> tuple[str, ...]:
        """What is allowed, for people."""
        return tuple(
            f"{what} ({how})" if how is not PASS else what for what, how in self.allowed.items()
        )

    def verdict_on(self, observed: str) -> Verdict:
        """Of a label."""
        for key in _from_exact_to_general(observed):
            if key in self.allowed:
                return self.allowed[key]
        return FAIL


def _from_exact_to_general(label: str) -> tuple[str, ...]:
    if len(label) == 3 and label.isascii() and label.isdigit():
        return label, f"{label[:2]}z", f"{label[0]}yz"
    return (label,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Something of a transcript.  at_s: since the case began.  who: "C", "S", or "-" (a remark)."""

    at_s: float
    who: Literal["C", "S", "-"]
    octets: bytes
    connection: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one case.  observed: the label that was judged.  saw: more of it, for people."""

    case: Case
    verdict: Verdict
    observed: str = ""
    saw: str = ""
    seconds: float = 0.0
    transcript: tuple[Line, ...] = ()
