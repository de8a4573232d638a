"""Parameters of MAIL and RCPT: which extension has them, and what their values may be.

A reader takes the value (None if there is no "=") and gives what the transaction keeps, or raises
`Refusal`.  A fault replaces a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from specs.conformance.controls.answers import Refusal, no
from specs.conformance.controls.syntax import Wrong, of_unitext, of_xtext

if TYPE_CHECKING:
    from specs.conformance.controls.session import Session

Reader = Callable[["Session", str | None], object]


@dataclass(frozen=True, slots=True)
class Parameter:
    """keyword: of EHLO, without which it is unknown."""

    keyword: str
    read: Reader


def _bad(what: str) -> Refusal:
    return no(501, "5.5.4", what)


def _matching(pattern: str, value: str | None, what: str) -> re.Match[str]:
    found = re.fullmatch(pattern, value or "", re.IGNORECASE)
    if value is None or found is None:
        raise _bad(f"bad value of {what}")
    return found


def size(session: Session, value: str | None) -> int:
    """RFC 1870 6.1."""
    octets = int(_matching(r"[0-9]{1,20}", value, "SIZE")[0])
    if octets > session.most_octets:
        raise no(552, "5.3.4", "larger than this server takes")
    return octets


def body(session: Session, value: str | None) -> str:
    """RFC 6152, RFC 3030 3."""
    found = _matching("7BIT|8BITMIME|BINARYMIME", value, "BODY")[0].upper()
    if found == "BINARYMIME" and not session.offered("BINARYMIME"):
        raise _bad("BINARYMIME is not offered")
    return found


def bare(session: Session, value: str | None) -> bool:
    """SMTPUTF8 (RFC 6531 3.4), REQUIRETLS (RFC 8689 3)."""
    if value is not None:
        raise _bad("this parameter has no value")
    return True


def ret(session: Session, value: str | None) -> str:
    return _matching("FULL|HDRS", value, "RET")[0].upper()


def envid(session: Session, value: str | None) -> str:
    """RFC 3461 4.4: at most 100 characters, printable once decoded."""
    if not value or len(value) > 100:
        raise _bad("bad length of ENVID")
    return _printable(value, "ENVID")


def notify(session: Session, value: str | None) -> frozenset[str]:
    """RFC 3461 4.1: NEVER stands alone."""
    word = "(?:SUCCESS|FAILURE|DELAY)"
    return frozenset(_matching(f"NEVER|{word}(?:,{word})*", value, "NOTIFY")[0].upper().split(","))


def orcpt(session: Session, value: str | None) -> tuple[str, str]:
    """RFC 3461 4.2, RFC 6533 3: (type, decoded address)."""
    found = _matching("([!-'*+./0-9A-Z^_`{|}~-]+);(.+)", value, "ORCPT")
    if len(value or "") > 500:
        raise _bad("ORCPT is too long")
    if found[1].lower() != "utf-8":
        return found[1], _printable(found[2], "ORCPT")
    try:
        return found[1], of_unitext(found[2])
    except Wrong as wrong:
        raise _bad(str(wrong)) from wrong


def _printable(text: str, what: str) -> str:
    try:
        decoded = of_xtext(text)
    except Wrong as wrong:
        raise _bad(f"{what}: {wrong}") from wrong
    if not all(" " <= each <= "~" for each in decoded):
        raise _bad(f"{what}: not printable")
    return decoded


def auth(session: Session, value: str | None) -> str:
    """RFC 4954 5: parsed, and trusted for nothing."""
    if value == "<>":
        return ""
    if not value:
        raise _bad("AUTH without a value")
    return _printable(value, "AUTH")


def by(session: Session, value: str | None) -> tuple[int, str]:
    """RFC 2852 4: to be returned in no time makes no sense."""
    found = _matching(r"([+-]?[0-9]{1,9});([RN]T?)", value, "BY")
    seconds, mode = int(found[1]), found[2].upper()
    if mode[0] == "R" and seconds <= 0:
        raise _bad("BY: the time is over")
    return seconds, mode


def hold_for(session: Session, value: str | None) -> float:
    """RFC 4865 4."""
    seconds = int(_matching(r"[1-9][0-9]{0,8}", value, "HOLDFOR")[0])
    if seconds > session.most_hold_s:
        raise no(501, "5.5.4", "HOLDFOR is beyond what this server holds")
    return float(seconds)


def hold_until(session: Session, value: str | None) -> float:
    """The same, as a date; one that is past holds nothing."""
    try:
        when = datetime.fromisoformat(value or "")
    except ValueError as error:
        raise _bad("HOLDUNTIL is no date") from error
    if when.tzinfo is None:
        raise _bad("HOLDUNTIL has no zone")
    if when > session.latest():
        raise no(501, "5.5.4", "HOLDUNTIL is beyond what this server holds")
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def priority(session: Session, value: str | None) -> int:
    """RFC 6710 3."""
    return int(_matching("0|-?[1-9]", value, "MT-PRIORITY")[0])


def mtrk(session: Session, value: str | None) -> str:
    """RFC 3885 3: a certifier, and perhaps days."""
    return _matching("[A-Za-z0-9+/]{1,128}(?::[0-9]{1,9})?", value, "MTRK")[0]


def rrvs(session: Session, value: str | None) -> datetime:
    """RFC 7293 3.2: whether the mailbox has had the same owner since then."""
    found = _matching("([^;]+)(?:;[CR])?", value, "RRVS")
    try:
        when = datetime.fromisoformat(found[1])
    except ValueError as error:
        raise _bad("RRVS is no date") from error
    if when.tzinfo is None or "T" not in found[1].upper():
        raise _bad("RRVS is no date and time with a zone")
    if when < session.owners_since:
        raise no(550, "5.7.17", "that mailbox belongs to somebody else since")
    return when


OF_MAIL: Final[Mapping[str, Parameter]] = MappingProxyType(
    {
        "SIZE": Parameter("SIZE", size),
        "BODY": Parameter("8BITMIME", body),
        "SMTPUTF8": Parameter("SMTPUTF8", bare),
        "REQUIRETLS": Parameter("REQUIRETLS", bare),
        "RET": Parameter("DSN", ret),
        "ENVID": Parameter("DSN", envid),
        "AUTH": Parameter("AUTH", auth),
        "BY": Parameter("DELIVERBY", by),
        "HOLDFOR": Parameter("FUTURERELEASE", hold_for),
        "HOLDUNTIL": Parameter("FUTURERELEASE", hold_until),
        "MT-PRIORITY": Parameter("MT-PRIORITY", priority),
        "MTRK": Parameter("MTRK", mtrk),
    }
)
OF_RCPT: Final[Mapping[str, Parameter]] = MappingProxyType(
    {
        "NOTIFY": Parameter("DSN", notify),
        "ORCPT": Parameter("DSN", orcpt),
        "RRVS": Parameter("RRVS", rrvs),
    }
)
