"""Which codes a reply may have: by command, and where sequence, or a MUST, narrows them.

Three tables, in the order of their reach:

    REPLIES   command -> first digits that are allowed, and the codes that are usual for it
    DEMANDS   commands whose only codes a MUST names
    BARS      what forbids a positive reply to a command in a state

- A code of an allowed digit that is not usual is allowed, with a remark: a server SHOULD send
  listed codes only (RFC 5321 4.2), and clients go by the first digit (4.2.1, 4.3.2).
- 421 is allowed at any time, also unasked (RFC 5321 3.8, 4.2.2); after 221 with a remark.
- There is no 1yz, and no second digit above 5 (RFC 5321 4.2, 4.2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from specs.smtp.states import State

CODES: Final = frozenset(f"{a}{b}{c}" for a in range(2, 6) for b in range(6) for c in range(10))
SHUTTING_DOWN: Final = frozenset({"421"})
#: Of any command: syntax, sequence, policy, TLS, AUTH, and a host that takes no mail.
GENERAL: Final = frozenset({
    "421", "451", "454", "500", "501", "502", "503", "504", "521", "523", "530", "538", "550",
    "554",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Replies:
    """Of a command, or of something else that is answered."""

    digits: str
    usual: frozenset[str]
    section: str


def _row(digits: str, usual: str, section: str) -> Replies:
    return Replies(digits, frozenset(usual.split()) | GENERAL, section)


HELLO: Final = _row("245", "250", "RFC 5321 4.1.1.1, 4.3.2")
REPLIES: Final[Mapping[str, Replies]] = {
    "the connection": _row("245", "220 556", "RFC 5321 3.1, 4.3.1, 4.3.2"),
    "EHLO": HELLO,
    "HELO": HELLO,
    "LHLO": _row("245", "250", "RFC 2033 4.1"),
    "MAIL": _row("245", "250 450 452 453 455 550 552 553 555 556", "RFC 5321 4.1.1.2, 4.3.2"),
    "RCPT": _row("245", "250 251 450 452 455 550 551 552 553 555 556", "RFC 5321 4.1.1.3, 4.3.2"),
    "DATA": _row("345", "354 450 452 552", "RFC 5321 4.1.1.4, 4.3.2"),
    "the content": _row("245", "250 450 452 552", "RFC 5321 4.1.1.4, 4.3.2"),
    "a recipient": _row("245", "250 450 452 552 553", "RFC 2033 4.2"),
    "BDAT": _row("245", "250 450 452 552 555", "RFC 3030 2"),
    "BURL": _row("245", "250 450 452 552", "RFC 4468 3"),
    "RSET": _row("245", "250", "RFC 5321 4.1.1.5, 4.3.2"),
    "NOOP": _row("245", "250", "RFC 5321 4.1.1.9, 4.3.2"),
    "VRFY": _row("245", "250 251 252 551 553", "RFC 5321 3.5, 4.1.1.6, 4.3.2"),
    "EXPN": _row("245", "250 252", "RFC 5321 3.5, 4.1.1.7, 4.3.2"),
    "HELP": _row("245", "211 214", "RFC 5321 4.1.1.8, 4.3.2"),
    "QUIT": _row("245", "221", "RFC 5321 4.1.1.10, 4.3.2"),
    "STARTTLS": _row("245", "220", "RFC 3207 4"),
    "AUTH": _row("2345", "235 334 432 534 535", "RFC 4954 4, 6"),
    "a response": _row("2345", "235 334 432 534 535", "RFC 4954 4, 6"),
    "a cancellation": _row("45", "501", "RFC 4954 4"),
    "ETRN": _row("245", "250 251 252 253 458 459", "RFC 1985 5.3"),
    "ATRN": _row("245", "250 450 453", "RFC 2645 5.2"),
    "TURN": _row("245", "250", "RFC 5321 F.1"),
    "XCLIENT": _row("245", "220 250", "no standard"),
    "a line that is too long": _row("45", "500", "RFC 5321 4.5.3.1.4, 4.5.3.1.9"),
    "a bare CR or LF": _row("45", "550", "RFC 5321 2.3.8"),
    # Private ones begin with X, and no list of extensions is ever whole.
    "another command": _row("2345", "", "RFC 5321 2.2.2, 4.1.5, 4.2.4"),
    "no command": _row("245", "", "RFC 5321 4.1.1, 4.2.4"),
}
#: SEND and its kind are MAIL of old (RFC 5321 F.6).
SAME_AS: Final[Mapping[str, str]] = {"SEND": "MAIL", "SOML": "MAIL", "SAML": "MAIL"}


@dataclass(frozen=True, slots=True)
class Demand:
    """codes: the only ones.  Not for a server that turned the client away with its greeting."""

    codes: frozenset[str]
    section: str


#: Of the bare command, without anything behind it.  530: TLS, or AUTH, comes first (RFC 3207 4).
#: 503: where EHLO comes first, servers SHOULD do without it (4.1.4).
DEMANDS: Final[Mapping[str, Demand]] = {
    "RSET": Demand(frozenset({"250", "421", "503", "530"}), "RFC 5321 4.1.1.5"),
    "QUIT": Demand(frozenset({"221", "421"}), "RFC 5321 4.1.1.10"),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """what: must not be answered positively (2yz, 3yz) when `when` holds, by `section`.  only: the
    code that a MUST names, if what was said has no other fault.
    """

    what: str
    when: Callable[[State], bool]
    says: str
    section: str
    only: str = ""


def _no_mail(state: State) -> bool:
    return state.transaction is None


def _no_recipient(state: State) -> bool:
    return state.transaction is not None and not state.transaction.recipients


def _has_chunks(state: State) -> bool:
    return state.transaction is not None and state.transaction.chunks


def _is_binary(state: State) -> bool:
    return state.transaction is not None and state.transaction.binary


BARS: Final[tuple[Bar, ...]] = (
    Bar("RCPT", _no_mail, "RCPT without an accepted MAIL", "RFC 5321 3.3, 4.1.4"),
    Bar("DATA", lambda s: s.lmtp and (_no_mail(s) or _no_recipient(s)),
        "DATA in LMTP without an accepted recipient", "RFC 2033 4.2", "503"),
    Bar("DATA", _has_chunks, "DATA after BDAT in one transaction", "RFC 3030 2", "503"),
    Bar("DATA", _is_binary, "DATA after BODY=BINARYMIME", "RFC 3030 3", "503"),
    Bar("the content", lambda s: _no_mail(s) or _no_recipient(s),
        "content without an accepted recipient", "RFC 5321 3.3, 4.1.4; RFC 2920 3.1"),
    Bar("BDAT", lambda s: s.after_last, "BDAT after BDAT LAST", "RFC 3030 2"),
    Bar("BDAT", lambda s: _no_mail(s) or _no_recipient(s),
        "BDAT without an accepted recipient", "RFC 3030 2"),
    Bar("AUTH", lambda s: s.authenticated, "AUTH after a successful AUTH", "RFC 4954 4"),
    Bar("AUTH", lambda s: s.transaction is not None, "AUTH in a transaction", "RFC 4954 4"),
    Bar("EHLO", lambda s: s.lmtp, "EHLO in LMTP", "RFC 2033 4.1"),
    Bar("HELO", lambda s: s.lmtp, "HELO in LMTP", "RFC 2033 4.1"),
)  # fmt: skip


def barred(what: str, state: State) -> tuple[Bar, ...]:
    """What forbids a positive reply to it now."""
    if state.unsure:
        return ()
    return tuple(each for each in BARS if each.what == what and each.when(state))


@cache
def codes_of(digits: str) -> frozenset[str]:
    return frozenset(each for each in CODES if each[0] in digits)


@cache
def beginnings(codes: frozenset[str]) -> frozenset[str]:
    """Of all these codes: one, two and three digits."""
    return frozenset(each[:count] for each in codes for count in (1, 2, 3))


@cache
def shown(codes: frozenset[str], usual: frozenset[str]) -> str:
    """For people: "250, 4yz, 5yz"."""
    found: list[str] = []
    for digit in "2345":
        these = sorted(each for each in codes if each[0] == digit)
        if len(these) == len(codes_of(digit)):
            named = sorted(each for each in usual if each[0] == digit and digit in "23")
            found += [*named, f"another {digit}yz"] if named else [f"{digit}yz"]
        else:
            found += these
    return ", ".join(found)
