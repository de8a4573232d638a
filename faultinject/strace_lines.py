"""The lines that strace writes, read as values.  Pure.

Rules a reader may rely on
- Every form of line is known that strace 6.1 writes with the options of `tracing`.  A line that is
  not known is an error, never passed over.
- One file for all processes: its order is the order in which strace saw things.  A call has a begin
  and an end in it; "before" means that one had ended when the other began.
- A call that was cut off by the death of its process has no result (None), and counts as not made.
  One in which strace let go of its process has none either, and is `detached`: what became of it
  nobody saw.
- A text that strace cut short is an error when it is read, never a shorter text.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

#: Characters of a wrong line that are told.
TOLD: Final = 500


class TracingError(Exception):
    """strace failed, or wrote what can't be read; the text shows it."""


# -- what it wrote, as values ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call.

    arguments: as strace shows them, one by one.  result: None if it never returned.  error: "EIO"
    and the like, "" if there was none.  returned: what a descriptor that it returned is open on.
    at: its begin, in seconds since 1970; took: seconds.  begin, end: line numbers, from 0; a call
    that never returned ends where its process did, or at the end of the file.  injected: strace
    made the result up; the call was not made.  detached: strace ended before the call did.
    """

    pid: int
    name: str
    arguments: tuple[str, ...]
    result: int | None
    begin: int
    end: int
    error: str = ""
    returned: str = ""
    at: float = 0.0
    took: float = 0.0
    injected: bool = False
    detached: bool = False

    @property
    def made(self) -> bool:
        """Whether it was made, and did what it should."""
        return self.result is not None and self.result >= 0 and not self.injected


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled:
    """A signal was delivered."""

    pid: int
    name: str
    line: int
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A thread or process ended.  status: its exit code, or minus the number of the signal."""

    pid: int
    status: int
    line: int
    at: float = 0.0


Record: TypeAlias = Call | Signalled | Ended

_FRONT = re.compile(r"(?:(?P<pid>\d+) +)?(?:(?P<at>\d+\.\d+) )?(?P<rest>.*)", re.DOTALL)
_BEGIN = re.compile(r"(\w+)\((.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed> ?(.*)", re.DOTALL)
_RESULT = re.compile(
    r"(?P<arguments>.*)\) += (?P<result>\?|0x[0-9a-f]+|-?\d+)(?:<(?P<returned>.*?)>(?= |$))?"
    r"(?: (?P<error>E[A-Z0-9]+)\b)?(?P<rest>.*?)(?: <(?P<took>\d+\.\d+)>)?$",
    re.DOTALL,
)
_SIGNAL = re.compile(r"--- (?:stopped by )?(SIG\w+)")
_EXITED = re.compile(r"\+\+\+ exited with (\d+) \+\+\+")
_KILLED = re.compile(r"\+\+\+ killed by (\w+)(?: \(core dumped\))? \+\+\+")
_UNFINISHED: Final = "<unfinished ...>"
_DETACHED: Final = "<detached ...>"


def parse(lines: Iterable[str], pid: int = 0) -> Iterator[Record]:
    """Records in the order of their ends.  pid: whose lines they are, where they don't say it.

    Raises TracingError.
    """
    open_calls: dict[int, Call] = {}
    number = 0
    for number, line in enumerate(lines):
        front = _FRONT.fullmatch(line.rstrip("\n"))
        if front is None or not front["rest"]:
            continue
        who, at = int(front["pid"] or pid), float(front["at"] or 0)
        rest = front["rest"]
        if over := _ended(rest, who, at, number):
            if who in open_calls:
                yield _closed(open_calls.pop(who), number)
            yield over
        elif rest.startswith("---"):
            found = _SIGNAL.match(rest)
            yield Signalled(pid=who, name=found[1] if found else rest, line=number, at=at)
        elif rest.startswith("+++"):
            continue  # superseded by execve in another thread
        else:
            call = _call(rest, who, at, number, open_calls)
            if call is not None:
                yield call
    for call in open_calls.values():
        yield _closed(call, number + 1)


def _ended(rest: str, pid: int, at: float, line: int) -> Ended | None:
    if exited := _EXITED.match(rest):
        return Ended(pid=pid, status=int(exited[1]), line=line, at=at)
    if killed := _KILLED.match(rest):
        by = getattr(signal, killed[1], None)
        return Ended(pid=pid, status=-int(by) if by is not None else -1, line=line, at=at)
    return None


def _closed(call: Call, line: int) -> Call:
    """A call that never returned: its arguments are the text before the cut."""
    return replace(call, arguments=split(_text(call)), end=line)


def _text(call: Call) -> str:
    return call.arguments[0] if call.arguments else ""


def _call(rest: str, pid: int, at: float, line: int, open_calls: dict[int, Call]) -> Call | None:
    """A whole call, or None where its end is still to come."""
    if resumed := _RESUMED.match(rest):
        begun = open_calls.pop(pid, None)
        if begun is None or begun.name != resumed[1]:
            begun = Call(pid=pid, name=resumed[1], arguments=("",), result=None, begin=line,
                         end=line, at=at)  # fmt: skip  # begun before the attachment
        text = _text(begun) + resumed[2]
    elif begin := _BEGIN.match(rest):
        begun = Call(pid=pid, name=begin[1], arguments=(), result=None, begin=line, end=line, at=at)
        text = begin[2]
    else:
        raise TracingError(f"strace wrote a line of no known form: {rest[:TOLD]!r}")
    if text.endswith(_UNFINISHED):
        text = text.removesuffix(_UNFINISHED).rstrip(" ")
        open_calls[pid] = replace(begun, arguments=(text,))
        return None
    if text.endswith(_DETACHED):
        text = text.removesuffix(_DETACHED).rstrip(" ")
        return replace(begun, arguments=split(text), end=line, detached=True)
    done = _RESULT.match(text)
    if done is None:
        raise TracingError(f"strace wrote a call of no known form: {rest[:TOLD]!r}")
    result = None if done["result"] == "?" else int(done["result"], 0)
    return replace(
        begun, arguments=split(done["arguments"]), result=result, error=done["error"] or "",
        returned=_named(done["returned"] or ""), took=float(done["took"] or 0), end=line,
        injected="(INJECTED)" in done["rest"],
    )  # fmt: skip


_PARTS = re.compile(
    r'"(?:[^"\\]|\\.)*"(?:\.\.\.)?|[\[{(<]|[\]})>]|,|(?:=>|->)|[^"\[\]{}()<>,=-]+|.'
)


def split(text: str) -> tuple[str, ...]:
    """Arguments, at the commas that stand in no text, bracket or <path>."""
    found, depth, part = [], 0, ""
    for piece in _PARTS.findall(text):
        if piece == "," and depth == 0:
            found.append(part.strip())
            part = ""
            continue
        if len(piece) == 1:
            depth += (piece in "[{(<") - (piece in "]})>")
        part += piece
    return (*found, part.strip()) if part.strip() else tuple(found)


# -- what an argument says ------------------------------------------------------------------------

_DESCRIPTOR = re.compile(r"(-?\d+|AT_FDCWD)(?:<(.*)>(\(deleted\))?)?", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|[0-7]{1,3}|.)", re.DOTALL)
_VECTOR = re.compile(r'iov_base=("(?:[^"\\]|\\.)*"(?:\.\.\.)?)')
_PLAIN: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
AT_FDCWD: Final = -100


def descriptor(argument: str) -> tuple[int, str]:
    """(number, what it is open on; "" if that was not shown).  Raises TracingError."""
    found = _DESCRIPTOR.fullmatch(argument)
    if found is None:
        raise TracingError(f"no descriptor: {argument[:TOLD]!r}")
    number = AT_FDCWD if found[1] == "AT_FDCWD" else int(found[1])
    return number, _named(found[2] or "")


def _named(text: str) -> str:
    """What stands between < and >: a path, or "socket:[NUMBER]" and the like."""
    return octets(f'"{text}"').decode("utf-8", "surrogateescape") if text else ""


def octets(argument: str) -> bytes:
    """The octets of a quoted text.  Raises TracingError if it is none, or was cut short."""
    found = _QUOTED.fullmatch(argument)
    if found is None:
        raise TracingError(f"no text: {argument[:TOLD]!r}")
    if found[2]:
        raise TracingError(f"strace cut a text short: {argument[-TOLD:]!r}")
    if found[1].startswith("\\x") and found[1].count("\\x") * 4 == len(found[1]):
        return bytes.fromhex(found[1].replace("\\x", ""))  # of -xx, and fast
    return _ESCAPE.sub(_escaped, found[1].encode("utf-8", "surrogateescape"))


def _escaped(found: re.Match[bytes]) -> bytes:
    name = found[1]
    if name[:1] == b"x" and len(name) == 3:
        return bytes.fromhex(name[1:].decode("ascii"))
    if name.isdigit():
        return bytes([int(name, 8) & 0xFF])
    return _PLAIN.get(name, name)


def path(argument: str) -> str:
    """A path that was named.  Raises TracingError."""
    return octets(argument).decode("utf-8", "surrogateescape")


def written(call: Call) -> bytes:
    """What a call of WRITES or MESSAGES has handed over: as many octets as it said.

    Raises TracingError where strace does not show them.
    """
    if len(call.arguments) < 2:
        raise TracingError(f"{call.name}: its arguments are not there: {call.arguments}")
    argument = call.arguments[1]
    if argument.startswith('"'):
        found = octets(argument)
    else:
        found = b"".join(octets(each) for each in _VECTOR.findall(argument))
    return found[: call.result] if call.result is not None else b""
