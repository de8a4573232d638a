"""One step: which replies are possible in a state, and in which states each may leave the session.

`moves` gives what a reply may be the answer to, with its codes; `after` what is then.  Where a
standard leaves a state open ("indeterminate", RFC 3030 2) there are several states after a move.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from specs.smtp.reading import Unit, units
from specs.smtp.replies import Reply, keywords
from specs.smtp.states import Phase, State, Transaction, secured
from specs.smtp.tables import (
    CODES,
    DEMANDS,
    REPLIES,
    SHUTTING_DOWN,
    Bar,
    barred,
    codes_of,
    shown,
)

_BINARY: Final = re.compile(rb"[ \t]BODY=BINARYMIME(?:[ \t]|\Z)", re.IGNORECASE)
HELLOS: Final = ("EHLO", "HELO", "LHLO")
#: First octets of a TLS record that holds a ClientHello.
TLS_RECORD: Final = b"\x16\x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A reply to `unit` in `state`; unit None: by itself.  codes: what it may be.  forbids: what
    each rule takes away from what the first digit would allow.
    """

    state: State
    unit: Unit | None
    codes: frozenset[str]
    usual: frozenset[str]
    section: str
    forbids: tuple[tuple[str, str], ...] = ()

    @property
    def hails(self) -> bool:
        """It answers EHLO or LHLO: a positive reply has a form of its own."""
        return self.unit is not None and self.unit.what in ("EHLO", "LHLO")

    @property
    def shown(self) -> str:
        """What is allowed, for people."""
        if self.unit is None:
            return f"421, unasked ({self.section})"
        return f"{shown(self.codes, self.usual)} to {self.unit.shown} ({self.section})"

    def remark(self, code: str) -> str:
        """What is to be said of a code that is allowed; "" if nothing is."""
        if self.state.phase is Phase.ENDED:
            return "421 after the reply to QUIT (RFC 5321 4.1.1.10)"
        if self.unit is None or code in self.usual:
            return ""
        return f"{code} is not usual for {self.unit.what} ({self.section})"


def settled(states: frozenset[State], client: bytes, limit: int) -> frozenset[State]:
    """After STARTTLS: what came behind it is TLS, or what was said inside it; or the client went on
    in the clear, and the server with it.  Where TLS is spoken first, nothing can be read.
    """
    found: set[State] = set()
    for each in states:
        if each.phase is Phase.GREETING and client.startswith(TLS_RECORD) and limit:
            found.add(opaque(each, "the client speaks TLS"))
        elif each.phase is not Phase.SECURING:
            found.add(each)
        elif client.startswith(TLS_RECORD, each.tls_at) and limit > each.tls_at:
            found.add(opaque(each, "the client speaks TLS, after STARTTLS"))
        else:
            found.add(secured(each, each.tls_at))
            found.add(replace(each, phase=Phase.COMMAND))
    return frozenset(found)


def opaque(state: State, why: str) -> State:
    return State(phase=Phase.OPAQUE, at=state.at, why=why)


def moves(state: State, client: bytes, limit: int) -> tuple[Move, ...]:
    """All replies that are possible now."""
    found = [_move(state, each) for each in units(state, client, limit)]
    if state.phase not in (Phase.GREETING, Phase.OPAQUE):
        found.append(
            Move(state=state, unit=None, codes=SHUTTING_DOWN, usual=SHUTTING_DOWN,
                 section="RFC 5321 3.8")
        )  # fmt: skip
    return tuple(found)


def _move(state: State, unit: Unit) -> Move:
    row = REPLIES[unit.what]
    codes, forbids = codes_of("45" if unit.refused else row.digits), []
    demand = DEMANDS.get(unit.what) if unit.exact and not state.turned_away else None
    if demand is not None:
        codes = demand.codes - ({"503"} if state.hello else set())
        forbids.append((f"{unit.what} is answered {shown(codes, codes)}", demand.section))
    bars: tuple[Bar, ...] = barred(unit.what, state)
    if bars:
        only = {each.only for each in bars if each.only and unit.exact and not state.turned_away}
        codes = SHUTTING_DOWN | only if only else codes & codes_of("45")
        forbids += [
            (f"{each.says} is refused{f', by {each.only}' if each.only else ''}", each.section)
            for each in bars
        ]
    return Move(
        state=state, unit=unit, codes=codes, usual=row.usual, section=row.section,
        forbids=tuple(forbids),
    )  # fmt: skip


def after(move: Move, reply: Reply, limit: int) -> tuple[State, ...]:
    """The states that this reply may leave behind.  limit: what the client had sent when its end
    was seen.
    """
    unit = move.unit
    if unit is None:
        return (move.state,)
    state = replace(move.state, at=unit.end, skipping=unit.skipping)
    if unit.what == "the connection":
        away = reply.code[0] != "2"
        return (replace(state, phase=Phase.COMMAND, turned_away=away),)
    if unit.what == "a recipient":
        left = state.left - 1
        return (replace(state, left=left) if left else ended(state),)
    if unit.what == "the content":
        return _content_answered(state, reply)
    if unit.skipping == "content":
        return tuple(_broken_off(each) for each in _content_answered(state, reply))
    if reply.code[0] in "45":
        return _refused(state, unit)
    return _accepted(state, unit, reply, limit)


def ended(state: State, *, last: bool = False) -> State:
    """The transaction is over."""
    return replace(state, phase=Phase.COMMAND, transaction=None, left=0, after_last=last)


def _content_answered(state: State, reply: Reply, *, last: bool = False) -> tuple[State, ...]:
    """After DATA's content, or BDAT LAST."""
    transaction = state.transaction
    if state.lmtp and transaction is not None and transaction.recipients:
        if transaction.recipients == 1:
            return (ended(state, last=last),)
        left = transaction.recipients - 1
        return (replace(state, phase=Phase.RECIPIENTS, left=left, after_last=last),)
    if reply.code[0] in "45":  # whether buffers are cleared then, too, is not said clearly
        return ended(state), replace(state, phase=Phase.COMMAND)
    return (ended(state, last=last),)


def _broken_off(state: State) -> State:
    """Content was refused before its end, and is read on all the same."""
    return replace(state, phase=Phase.COMMAND) if state.phase is Phase.CONTENT else state


def _refused(state: State, unit: Unit) -> tuple[State, ...]:
    """4yz or 5yz: nothing changes (RFC 5321 4.1.4), but where that is left open."""
    match unit.what:
        case "a response" | "a cancellation":
            return (replace(state, phase=Phase.COMMAND),)
        case "a line that is too long" | "a bare CR or LF":
            return (replace(state, phase=Phase.COMMAND),)
        case "DATA":
            return state, ended(state)
        case "BDAT" | "BURL":
            failed = replace(state, unsure=True)
            if unit.last and state.lmtp and state.transaction and not unit.refused:
                owed = state.transaction.recipients - 1
                if owed > 0:  # one reply for the command, or one for each recipient
                    return failed, replace(failed, phase=Phase.RECIPIENTS, left=owed)
            return (failed,)
        case _:
            return (state,)


def _accepted(state: State, unit: Unit, reply: Reply, limit: int) -> tuple[State, ...]:
    """2yz or 3yz."""
    fresh = replace(state, transaction=None, after_last=False, unsure=False)
    match unit.what:
        case "EHLO" | "HELO" | "LHLO":
            offers = frozenset() if unit.what == "HELO" else frozenset(keywords(reply))
            lmtp = state.lmtp or unit.what == "LHLO"
            return (replace(fresh, hello=unit.what, offers=offers, lmtp=lmtp),)
        case "MAIL":
            begun = Transaction(binary=bool(_BINARY.search(unit.line)))
            return (replace(state, transaction=begun, after_last=False),)
        case "RCPT":
            known = state.transaction or Transaction()
            return (replace(state, transaction=replace(known, recipients=known.recipients + 1)),)
        case "DATA":
            return (replace(state, phase=Phase.CONTENT),)
        case "BDAT" | "BURL" if unit.last:
            return _content_answered(state, reply, last=unit.what == "BDAT")
        case "BDAT" | "BURL":
            known = state.transaction or Transaction()
            return (replace(state, transaction=replace(known, chunks=True)),)
        case "RSET":
            return (fresh,)
        case "QUIT":
            return (replace(state, phase=Phase.ENDED),)
        case "STARTTLS":
            return (replace(state, phase=Phase.SECURING, tls_at=limit),)
        case "AUTH" | "a response":
            done = reply.code[0] == "2"
            phase = Phase.COMMAND if done else Phase.EXCHANGE
            return (replace(state, phase=phase, authenticated=state.authenticated or done),)
        case "ATRN" | "TURN":
            return (opaque(state, f"the roles are turned by {unit.what}"),)
        case "XCLIENT":
            return (replace(fresh, hello="", unsure=True), replace(state, unsure=True))
        case "another command" if reply.code[0] == "3":
            return (opaque(state, f"an exchange that is not known, begun by {unit.shown}"),)
        case "another command":
            return (replace(state, unsure=True),)
        case _:
            return (state,)


def refusals(found: tuple[Move, ...], code: str) -> tuple[tuple[str, str], ...]:
    """Why a code, or its beginning, is none of these moves': (what is so, section)."""
    said: dict[tuple[str, str], None] = {}
    if not any(each.startswith(code) for each in CODES):
        return (("a code is 2 to 5, 0 to 5, 0 to 9", "RFC 5321 4.2"),)
    for each in found:
        if each.unit is None:
            continue
        for row in each.forbids:
            said[row] = None
        if not each.forbids:
            said[(f"{each.unit.what} is answered {shown(each.codes, each.usual)}",
                  each.section)] = None  # fmt: skip
    return tuple(said) or (
        ("each command has one reply, and none comes unasked but 421", "RFC 5321 4.2, 3.8"),
    )
