"""How a fault is written: small changes of the faultless controls' parts.

answering("QUIT", 250)                     another answer to such lines; what they do is done
rewriting("RSET .*", "RSET")               lines are changed before they are read
having(most_recipients=50)                 attributes and methods of the session
around("do_quit", lambda go, self, a: ...) a method, with the one it replaces
house(...), house_around(...)              the same of the house
relay(...)                                 attributes and methods of the relay
grammar(routes=False), offering(...), saying(...), storing(...), hearing(...)

Each notes, by its piece of the witness, that it was met: that its line came, that it was called or
read, that it has changed something.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce, wraps
from types import FunctionType
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer
from specs.conformance.controls.mailbox import fields_of, split
from specs.conformance.controls.parameters import Parameter, Reader
from specs.conformance.controls.parts import Parts
from specs.conformance.controls.relay import Relay
from specs.conformance.controls.session import Session
from specs.conformance.controls.witness import Piece, Witness
from specs.conformance.model import Verdict

Change = Callable[[Parts], Parts]
FLAGS: Final = re.IGNORECASE | re.DOTALL


def as_it_is(parts: Parts) -> Parts:
    return parts


@dataclass(frozen=True, slots=True)
class Fault:
    """name: for people and commands.  case: the id of what must find it.  says: what is wrong.
    verdict: what that case must say: fail, or non-strict where the standard says SHOULD.
    behind: a liberty that it hides behind; its twin, which has not the fault, takes it, too.
    observed: what the case must observe.  To be said where that is no reply ("closed", "silent"),
    which a control that has broken down would show as well.
    """

    name: str
    case: str
    says: str
    change: Change
    verdict: Verdict = Verdict.FAIL
    behind: Change = as_it_is
    observed: str = ""


def relayed(
    says: str, case: str, *, verdict: Verdict = Verdict.FAIL, behind: Change = as_it_is,
    observed: str = "", **new: Any,
) -> Fault:  # fmt: skip
    """Of the relay, named after what is wrong: attributes and methods that replace."""
    name = "relay-" + re.sub("[^a-z0-9]+", "-", says.lower())
    return Fault(name, case, says, relay(**new), verdict, behind, observed)


def both(*changes: Change) -> Change:
    """One after the other."""
    return lambda parts: reduce(lambda made, change: change(made), changes, parts)


# -- classes with something else in them ----------------------------------------------------------


class _Read:
    """An attribute that notes that it was read of an instance."""

    def __init__(self, piece: Piece, value: Any) -> None:
        self.piece, self.value = piece, value

    def __get__(self, instance: Any, owner: type) -> Any:
        self.piece.met |= instance is not None
        return self.value


def _called(piece: Piece, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def noting(*arguments: Any, **named: Any) -> Any:
        piece.met = True
        return function(*arguments, **named)

    return noting


def _with(base: type, new: Mapping[str, Any], witness: Witness) -> Any:
    """A class of that base, in which these are planted."""
    planted = {
        name: (_called if isinstance(value, FunctionType) else _Read)(witness.plant(name), value)
        for name, value in new.items()
    }
    return type(f"Faulty{base.__name__}", (base,), planted)


def having(**new: Any) -> Change:
    """Of the session: attributes, and methods that replace."""
    return lambda parts: replace(parts, session=_with(parts.session, new, parts.witness))


def house(**new: Any) -> Change:
    return lambda parts: replace(parts, house=_with(parts.house, new, parts.witness))


def relay(**new: Any) -> Change:
    return lambda parts: replace(parts, relay=_with(parts.relay, new, parts.witness))


def around(name: str, what: Callable[..., Any]) -> Change:
    """what(go on, session, *arguments) instead of a method of the session."""
    return lambda parts: having(**{name: _wrapped(parts.session, name, what)})(parts)


def house_around(name: str, what: Callable[..., Any]) -> Change:
    return lambda parts: house(**{name: _wrapped(parts.house, name, what)})(parts)


def _wrapped(base: type, name: str, what: Callable[..., Any]) -> Callable[..., Any]:
    former = getattr(base, name)

    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        return what(partial(former, self), self, *arguments, **named)

    return method


def server(**new: Any) -> Change:
    """Of the parts themselves: late, tls, delay_s."""
    return lambda parts: replace(parts, **new)


def tls(change: Callable[[ssl.SSLContext], None]) -> Change:
    """What TLS is made with."""
    return lambda parts: replace(parts, context=_called(parts.witness.plant("TLS"), change))


def line(change: Callable[[str], str]) -> Callable[..., str]:
    """For `relay`: another MAIL."""
    return lambda self, wire, letter: change(Relay.mail_line(self, wire, letter))


# -- commands -------------------------------------------------------------------------------------


def on(pattern: str, what: Callable[..., Answer], within: str = "") -> Change:
    """what(go on, session, line) instead of all that is done with lines like that.

    within: only if that attribute of the session is true ("!..." if it is not).
    """
    match = re.compile(pattern.encode(), FLAGS)

    def change(parts: Parts) -> Parts:
        piece = parts.witness.plant(pattern)

        def command(go: Callable[[bytes], Answer], self: Session, line: bytes) -> Answer:
            if not match.fullmatch(line) or not _holds(self, within):
                return go(line)
            piece.met = True
            return what(go, self, line)

        return around("command", command)(parts)

    return change


def _holds(session: Session, what: str) -> bool:
    return not what or bool(getattr(session, what.removeprefix("!"))) is not what.startswith("!")


def answering(pattern: str, code: int, enhanced: str = "", *lines: str, within: str = "") -> Change:
    """Lines like that get this answer; what the faultless server does then is done all the same."""
    given = answer(code, enhanced, *(lines or ("as you like",)))
    return on(pattern, lambda go, self, line: (go(line), given)[1], within)


def refusing(pattern: str, code: int = 550, enhanced: str = "5.7.1") -> Change:
    """Lines like that are refused, and do nothing."""
    return on(pattern, lambda go, self, line: answer(code, enhanced, "refused"))


def rewriting(pattern: str, new: str) -> Change:
    """Whole lines of commands, before they are understood."""
    match = re.compile(pattern.encode(), FLAGS)
    return on(pattern, lambda go, self, line: go(match.sub(new.encode(), line)))


def then(pattern: str, what: Callable[[Session], object]) -> Change:
    """After a line like that, this is done to the session."""
    return on(pattern, lambda go, self, line: (go(line), what(self))[0])


def offering(add: Sequence[str] = (), drop: Sequence[str] = (), within: str = "") -> Change:
    """Lines of EHLO."""

    def keywords(go: Callable[[], list[str]], self: Session) -> list[str]:
        if not _holds(self, within):
            return go()
        return [each for each in go() if each.partition(" ")[0] not in drop] + list(add)

    return around("keywords", keywords)


def drop(session: Session) -> None:
    """The transaction is given up."""
    session.transaction = None


def without(*keywords: str) -> Change:
    return offering(drop=keywords)


def grammar(**new: Any) -> Change:
    """Entries of the syntax."""
    return lambda parts: having(syntax=replace(parts.session.syntax, **new))(parts)


def of_mail(keyword: str, read: Reader) -> Change:
    """A reader of a parameter of MAIL."""
    return lambda parts: having(of_mail=_table(parts, parts.session.of_mail, keyword, read))(parts)


def of_rcpt(keyword: str, read: Reader) -> Change:
    return lambda parts: having(of_rcpt=_table(parts, parts.session.of_rcpt, keyword, read))(parts)


def anything(session: Session, value: str | None) -> object:
    """A reader that takes it."""
    return value or ""


def _table(
    parts: Parts, table: Mapping[str, Parameter], keyword: str, read: Reader
) -> Mapping[str, Parameter]:
    noting = _called(parts.witness.plant(keyword), read)
    return {**table, keyword: replace(table[keyword], read=noting)}


# -- octets ---------------------------------------------------------------------------------------


def _changing(
    where: Callable[[str, Callable[..., Any]], Change], name: str, change: Callable[[bytes], bytes],
    *, coming: bool = False,
) -> Change:  # fmt: skip
    """The octets that a method gives, or (coming) those that it is given as its last argument."""

    def plant(parts: Parts) -> Parts:
        piece = parts.witness.plant(f"octets of {name}")

        def changed(octets: bytes) -> bytes:
            made = change(octets)
            piece.met |= made != octets
            return made

        def method(go: Callable[..., Any], self: object, *rest: Any) -> Any:
            return go(*rest[:-1], changed(rest[-1])) if coming else changed(go(*rest))

        return where(name, method)(parts)

    return plant


def hearing(change: Callable[[bytes], bytes]) -> Change:
    """What the connection brings is taken for other octets."""
    return _changing(around, "receive", change, coming=True)


def saying(change: Callable[[bytes], bytes]) -> Change:
    """Every reply."""
    return _changing(around, "written", change)


def storing(change: Callable[[bytes], bytes]) -> Change:
    """Every message, as it is put into a mailbox."""
    return _changing(house_around, "stored", change)


def receiving(change: Callable[[bytes], bytes]) -> Change:
    """Every message, before it is stored."""
    return _changing(around, "keep", change, coming=True)


def header(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    """Fields of every message, before it is stored."""

    def of(content: bytes) -> bytes:
        head, blank, body = split(content)
        return b"".join(change(fields_of(head))) + blank + body

    return receiving(of)


def reporting(change: Callable[[bytes], bytes]) -> Change:
    """Every report (DSN)."""
    return _changing(house_around, "written", change)


def text(pattern: bytes, new: bytes, count: int = 0) -> Change:
    """Every report, with something replaced."""
    return reporting(lambda octets: re.sub(pattern, new, octets, count=count, flags=re.MULTILINE))


# -- the end of data ------------------------------------------------------------------------------


def ending(pattern: bytes) -> Change:
    """Content ends at this, too."""
    end = re.compile(rb"\r\n\.\r\n|" + pattern)

    def change(parts: Parts) -> Parts:
        piece = parts.witness.plant(repr(pattern))

        def step_content(go: Callable[[], Any], self: Session) -> Any:
            self.content += self.input
            self.input = b""
            found = end.search(self.content)
            if found is None:
                return None
            piece.met |= found[0] != b"\r\n.\r\n"
            self.input = bytes(self.content[found.end() :])
            content = bytes(self.content[: found.start()]) + b"\r\n"
            self.mode, self.content = "command", bytearray()
            return self.receive_content(self.unstuffed(content)[2:], dotted=True)

        return around("step_content", step_content)(parts)

    return change


# -- liberties that faults hide behind, and what several faults have in common --------------------

#: Bare CR and LF in content are kept as data.
KEEPS: Final = around(
    "check_content", lambda go, self, content, *, dotted: go(content, dotted=False)
)
#: Unknown users are found out late, and their senders told.
LATE: Final = server(late=True)


def _for_nobody(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None and not self.transaction.recipients and not argument:
        self.mode, self.content = "content", bytearray(b"\r\n")
        return answer(354, "", "go on")
    return go(argument)


#: DATA without recipients is answered 354.
DATA_FOR_NOBODY: Final = around("do_data", _for_nobody)


def _left(go: Any, self: Any, argument: str) -> Any:
    found = go(argument)
    if self.transaction is not None:
        self.transaction.recipients = list(getattr(self, "old", []))
    return found


def _added(go: Any, self: Any, transaction: Any, *rest: Any) -> Any:
    go(transaction, *rest)
    self.old = list(transaction.recipients)


#: Recipients of the transaction before are there in the next one.
RECIPIENTS_STAY: Final = both(around("do_mail", _left), around("add_recipient", _added))


def _noted(go: Any, self: Any, content: bytes, **named: Any) -> Any:
    self.last_envelope = self.envelope(self.transaction)
    return go(content, **named)


#: `last_envelope` of the session is that of the content that is looked at.
NOTES_ENVELOPE: Final = around("receive_content", _noted)


def _unprotected(go: Any, self: Session, argument: str) -> Any:
    kept, self.tls = self.tls, True
    try:
        return go(argument)
    finally:
        self.tls = kept


#: AUTH is taken without TLS.
AUTH_IN_CLEAR: Final = around("do_auth", _unprotected)
