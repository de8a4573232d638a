"""The judge: is there a behaviour, of those that are allowed, that explains the server's octets?

It goes through the server's stream once and keeps all states that are possible.  A reply's octets
take moves away (`step.moves`): an octet that leaves none is the first that nothing explains, and
the verdict.  So a server is never blamed while there is any way to understand it.

For a rule about a whole line of a reply to EHLO that octet is its keyword's first.

Not judged: the client; what a server does not say (it may always be slow, or hang up); what is
inside TLS, unless it is shown as it was said; texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from specs.smtp.heard import Heard
from specs.smtp.replies import (
    Line,
    Reply,
    Wrong,
    wrong_in_hello,
    wrong_in_length,
    wrong_in_offers,
    wrong_in_text,
)
from specs.smtp.states import Phase, State, secured
from specs.smtp.step import Move, after, moves, refusals, settled
from specs.smtp.tables import beginnings

AROUND: Final = 30
#: More ways than these to understand a session are not followed (each 421 adds one).
MOST_STATES: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """at: offset in the server's stream.  line: of that stream, from 1.  octet: the one there.
    before, behind: what is around it.  states: what was possible.  expected: what would have been
    allowed.  rules: what is broken, with its section.
    """

    at: int
    line: int
    before: bytes
    octet: bytes
    behind: bytes
    states: tuple[str, ...]
    expected: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """fault: None if all is allowed.  replies: how many were judged.  remarks: allowed, but odd.
    opaque: why the rest was not judged; "" if all was.
    """

    fault: Fault | None
    replies: int
    remarks: tuple[str, ...] = ()
    opaque: str = ""

    @property
    def allowed(self) -> bool:
        return self.fault is None


@dataclass(slots=True)
class _Reading:
    """A reply while it is read."""

    found: tuple[Move, ...]
    at: int
    code: str = ""
    lines: tuple[Line, ...] = ()


class _Refused(Exception):
    """An octet that nothing explains."""

    def __init__(self, at: int, rules: Sequence[tuple[str, str]]) -> None:
        self.at, self.rules = at, rules
        super().__init__(at)


def judge(heard: Heard, *, lmtp: bool = False) -> Judgement:
    """Of one connection, from its beginning."""
    return _Judge(heard, lmtp).judge()


class _Judge:
    """One judgement."""

    def __init__(self, heard: Heard, lmtp: bool) -> None:
        self.heard = heard
        self.states = frozenset({State(lmtp=lmtp)})
        self.remarks: dict[str, None] = {}
        self.marks = list(heard.marks)
        self.count = 0

    def judge(self) -> Judgement:
        at, server = 0, self.heard.server
        while at < len(server):
            speaks_tls = self.in_tls(at)
            self.begin(at)
            if why := self.opaque() or speaks_tls:
                return self.said(None, why)
            limit = self.heard.limit(at)
            client = self.heard.client
            found = tuple(m for state in self.states for m in moves(state, client, limit))
            reading = _Reading(found, at)
            try:
                reply = self.read(reading)
                if reply is None:
                    break
                self.take(reading, reply)
            except _Refused as refused:
                return self.said(self.fault(refused, found, at))
            at = reply.end
        self.begin(len(server))
        lost = "something is missing in what was seen" if self.heard.lost else ""
        return self.said(None, self.opaque() or lost)

    def said(self, fault: Fault | None, opaque: str = "") -> Judgement:
        return Judgement(
            fault=fault, replies=self.count, remarks=tuple(self.remarks), opaque=opaque
        )

    def begin(self, at: int) -> None:
        """What happened before this octet without one of the server's."""
        while self.marks and self.marks[0].server <= at:
            mark = self.marks.pop(0)
            self.states = frozenset(secured(each, mark.client) for each in self.states)
        limit = self.heard.limit(at) if at < len(self.heard.server) else len(self.heard.client)
        self.states = settled(self.states, self.heard.client, limit)

    def in_tls(self, at: int) -> str:
        """Whether the server speaks TLS here, as it may at first, and after STARTTLS: an alert, if
        the client did not.
        """
        octets = self.heard.server[at : at + 2]
        record = any(each.startswith(octets) for each in (b"\x15\x03", b"\x16\x03"))
        place = any(each.phase in (Phase.GREETING, Phase.SECURING) for each in self.states)
        return "the server speaks TLS" if record and place else ""

    def opaque(self) -> str:
        """Why nothing can be judged any more; "" if it can."""
        if len(self.states) > MOST_STATES:
            return f"more than {MOST_STATES} ways to understand it"
        return next((each.why for each in self.states if each.phase is Phase.OPAQUE), "")

    # -- one reply --------------------------------------------------------------------------------

    def read(self, reading: _Reading) -> Reply | None:
        """The reply at this place; None if it is cut off by the end.  Raises _Refused."""
        server = self.heard.server
        at = reading.at
        while True:
            self.read_code(reading, at)
            if at + 3 >= len(server):
                return None
            separator = server[at + 3 : at + 4]
            if separator not in (b" ", b"-", b"\r"):
                raise _Refused(
                    at + 3,
                    [("behind a code stands a space, a hyphen, or CRLF", "RFC 5321 4.2, 4.2.1")],
                )
            begin = at + 3 + (separator != b"\r")
            end = self.read_text(at, begin)
            if end is None:
                return None
            line = Line(text=server[begin:end], at=begin)
            self.check_line(reading, line)
            reading.lines += (line,)
            at = end + 2
            if separator != b"-":
                return Reply(code=reading.code, lines=reading.lines, end=at)

    def read_code(self, reading: _Reading, at: int) -> None:
        """Three digits, or as many as there are: those of the line before, or of a move."""
        server = self.heard.server
        for place in range(at, min(at + 3, len(server))):
            digits = server[at : place + 1].decode("latin-1")
            if reading.lines:
                if not reading.code.startswith(digits):
                    raise _Refused(
                        place, [("all lines of a reply have the same code", "RFC 5321 4.2.1")]
                    )
                continue
            left = tuple(each for each in reading.found if digits in beginnings(each.codes))
            if not left:
                raise _Refused(place, refusals(reading.found, digits))
            reading.found, reading.code = left, digits

    def read_text(self, line_at: int, begin: int) -> int | None:
        """Where the line's CRLF is; None if that has not come.  Raises _Refused."""
        server = self.heard.server
        until = (self.heard.client, self.heard.limit(line_at))
        found = server.find(b"\r\n", begin)
        end = found if found >= 0 else len(server)
        if found < 0 and server[begin:].endswith(b"\r"):
            end -= 1  # its LF may come
        problems = list(wrong_in_text(server, begin, end, until))
        problems.append(wrong_in_length(line_at, found + 2 if found >= 0 else end, until))
        wrong = [each for each in problems if isinstance(each, Wrong)]
        if wrong:
            first = min(wrong, key=lambda each: each.at)
            raise _Refused(first.at, [(first.says, first.section)])
        self.remarks.update({each: None for each in problems if isinstance(each, str) and each})
        return found if found >= 0 else None

    def check_line(self, reading: _Reading, line: Line) -> None:
        """Lines of a 250 to EHLO have a form.  Raises _Refused if no move allows it."""
        left, wrong, remarks = [], [], []
        for each in reading.found:
            said = self.wrong_line(each, reading, line)
            if isinstance(said, Wrong):
                wrong.append(said)
            else:
                left.append(each)
                remarks.append(said)
        if not left:
            last = max(wrong, key=lambda each: each.at)
            raise _Refused(last.at, [(last.says, last.section)])
        reading.found = tuple(left)
        if all(remarks):
            self.remarks[remarks[0]] = None

    @staticmethod
    def wrong_line(move: Move, reading: _Reading, line: Line) -> Wrong | str:
        if not move.hails or reading.code[0] != "2":
            return ""
        return wrong_in_hello(len(reading.lines), line, tls=move.state.tls)

    def take(self, reading: _Reading, reply: Reply) -> None:
        """The states behind it.  Raises _Refused."""
        limit = self.heard.limit(reply.end - 1)
        new: set[State] = set()
        remarks: list[str] = []
        wrong: list[Wrong] = []
        for each in reading.found:
            if each.hails and reply.code[0] == "2" and (said := wrong_in_offers(reply)):
                wrong.append(said)
                continue
            new.update(after(each, reply, limit))
            remarks.append(each.remark(reply.code))
        if wrong and not new:
            raise _Refused(wrong[0].at, [(wrong[0].says, wrong[0].section)])
        if all(remarks):
            self.remarks[remarks[0]] = None
        self.states = frozenset(new)
        self.count += 1

    def fault(self, refused: _Refused, found: Sequence[Move], begin: int) -> Fault:
        """For people."""
        server, at = self.heard.server, refused.at
        awaited = [each for each in found if each.unit is not None]
        expected = dict.fromkeys(each.shown for each in awaited)
        if not awaited:
            expected = dict.fromkeys(_nothing(each) for each in self.states)
        return Fault(
            at=at, line=server.count(b"\n", 0, at) + 1, before=server[max(at - AROUND, 0) : at],
            octet=server[at : at + 1], behind=server[at + 1 : at + 1 + AROUND],
            states=tuple(sorted({str(each) for each in self.states})),
            expected=tuple(expected),
            rules=tuple(f"{says} ({section})" for says, section in refused.rules),
        )  # fmt: skip


def _nothing(state: State) -> str:
    match state.phase:
        case Phase.CONTENT:
            return "nothing before CRLF . CRLF (RFC 5321 4.1.1.4), but 421"
        case Phase.ENDED:
            return "nothing behind the reply to QUIT (RFC 5321 4.1.1.10), but 421"
        case Phase.EXCHANGE:
            return "nothing before the client's response (RFC 4954 4), but 421"
        case _:
            return "nothing before a whole command has come (RFC 5321 4.2), but 421"
