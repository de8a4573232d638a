"""How a fault is written: small changes of the faultless server's parts.

answering("QUIT", 250)                     another answer to such lines; what they do is done
rewriting("RSET .*", "RSET")               lines are changed before they are read
having(most_recipients=50)                 attributes and methods of the session
around("do_quit", lambda go, self, a: ...) a method, with the one it replaces
house(...), house_around(...)              the same of the house
grammar(routes=False), offering(...), saying(...), storing(...), hearing(...)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer
from specs.conformance.controls.parameters import Parameter, Reader
from specs.conformance.controls.server import Parts
from specs.conformance.controls.session import Session
from specs.conformance.model import Verdict

Change = Callable[[Parts], Parts]
FLAGS: Final = re.IGNORECASE | re.DOTALL


@dataclass(frozen=True, slots=True)
class Fault:
    """name: for people and commands.  case: the id of what must find it.  says: what is wrong.
    verdict: what that case must say: fail, or non-strict where the standard says SHOULD.
    """

    name: str
    case: str
    says: str
    change: Change
    verdict: Verdict = Verdict.FAIL


def both(*changes: Change) -> Change:
    """One after the other: a fault and the liberty that it hides behind."""
    return lambda parts: reduce(lambda made, change: change(made), changes, parts)


def having(**new: Any) -> Change:
    """Of the session: attributes, and methods that replace."""
    return lambda parts: replace(parts, session=type("Faulty", (parts.session,), new))


def house(**new: Any) -> Change:
    return lambda parts: replace(parts, house=type("FaultyHouse", (parts.house,), new))


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


def _bytes(text: str) -> bytes:
    return text.encode("utf-8")


def answering(pattern: str, code: int, enhanced: str = "", *lines: str, within: str = "") -> Change:
    """Lines like that get this answer; what the faultless server does then is done all the same.

    within: only if that attribute of the session is true ("!..." if it is not).
    """
    match = re.compile(_bytes(pattern), FLAGS)
    given = answer(code, enhanced, *(lines or ("as you like",)))

    def command(go: Callable[[bytes], Answer], self: Session, line: bytes) -> Answer:
        found = go(line)
        if not match.fullmatch(line) or not _holds(self, within):
            return found
        return given

    return around("command", command)


def _holds(session: Session, what: str) -> bool:
    return not what or bool(getattr(session, what.removeprefix("!"))) is not what.startswith("!")


def refusing(pattern: str, code: int = 550, enhanced: str = "5.7.1") -> Change:
    """Lines like that are refused, and do nothing."""
    match = re.compile(_bytes(pattern), FLAGS)

    def command(go: Callable[[bytes], Answer], self: Session, line: bytes) -> Answer:
        return answer(code, enhanced, "refused") if match.fullmatch(line) else go(line)

    return around("command", command)


def rewriting(pattern: str, new: str) -> Change:
    """Whole lines of commands, before they are understood."""
    match = re.compile(_bytes(pattern), FLAGS)

    def command(go: Callable[[bytes], Answer], self: Session, line: bytes) -> Answer:
        return go(match.sub(_bytes(new), line) if match.fullmatch(line) else line)

    return around("command", command)


def then(pattern: str, what: Callable[[Session], None]) -> Change:
    """After a line like that, this is done to the session."""
    match = re.compile(_bytes(pattern), FLAGS)

    def command(go: Callable[[bytes], Answer], self: Session, line: bytes) -> Answer:
        found = go(line)
        if match.fullmatch(line):
            what(self)
        return found

    return around("command", command)


def hearing(old: bytes, new: bytes) -> Change:
    """Octets of the connection are taken for others."""
    return around("receive", lambda go, self, octets: go(octets.replace(old, new)))


def saying(change: Callable[[bytes], bytes]) -> Change:
    """Every reply, as octets."""
    return around("written", lambda go, self, each: change(go(each)))


def grammar(**new: Any) -> Change:
    """Entries of the syntax."""
    return lambda parts: having(syntax=replace(parts.session.syntax, **new))(parts)


def offering(add: Sequence[str] = (), drop: Sequence[str] = (), within: str = "") -> Change:
    """Lines of EHLO."""

    def keywords(go: Callable[[], list[str]], self: Session) -> list[str]:
        if not _holds(self, within):
            return go()
        return [each for each in go() if each.partition(" ")[0] not in drop] + list(add)

    return around("keywords", keywords)


def without(*keywords: str) -> Change:
    return offering(drop=keywords)


def storing(change: Callable[[bytes], bytes]) -> Change:
    """Every message, as it is put into a mailbox."""
    return house_around("stored", lambda go, self, *rest: change(go(*rest)))


def receiving(change: Callable[[bytes], bytes]) -> Change:
    """Every message, before it is stored."""
    return around("keep", lambda go, self, envelope, content: go(envelope, change(content)))


def reporting(change: Callable[[bytes], bytes]) -> Change:
    """Every report (DSN) as octets."""
    return house_around("written", lambda go, self, *rest: change(go(*rest)))


def of_mail(keyword: str, read: Reader) -> Change:
    """A reader of a parameter of MAIL."""

    def change(parts: Parts) -> Parts:
        row = parts.session.of_mail[keyword]
        table = {**parts.session.of_mail, keyword: Parameter(row.keyword, read)}
        return having(of_mail=table)(parts)

    return change


def of_rcpt(keyword: str, read: Reader) -> Change:
    def change(parts: Parts) -> Parts:
        row = parts.session.of_rcpt[keyword]
        table = {**parts.session.of_rcpt, keyword: Parameter(row.keyword, read)}
        return having(of_rcpt=table)(parts)

    return change


# -- the end of data ------------------------------------------------------------------------------


def ending(pattern: bytes, *, keeps: bool = True) -> Change:
    """Content ends at this, too.  keeps: bare CR and LF in it are no reason to refuse it."""
    end = re.compile(rb"\r\n\.\r\n|" + pattern)

    def step_content(go: Callable[[], Any], self: Session) -> Any:
        self.content += self.input
        self.input = b""
        found = end.search(self.content)
        if found is None:
            return None
        self.input = bytes(self.content[found.end() :])
        content = bytes(self.content[: found.start()]) + b"\r\n"
        self.mode, self.content = "command", bytearray()
        return self.receive_content(self.unstuffed(content)[2:], dotted=True)

    return both(around("step_content", step_content), *([KEEPS] if keeps else []))


#: Bare CR and LF in content are kept as data (a liberty).
KEEPS: Final = around(
    "check_content", lambda go, self, content, *, dotted: go(content, dotted=False)
)
