"""Every scripted server within bounds, against a client, under the judge's eyes.

A state is the client's own state (a value that the client gives us), the judge, and what may still
be asked. The actions are the server's: to whatever is awaited, a reply of each class, in several
shapes; octets that are no reply; a close; silence; and replies that nobody awaits, between
transactions and while content is sent. And the surroundings': jobs are given before the connection,
in the middle of the greetings, or between transactions; content flows; the client is told to
finish, or to hurry. Each (reply class, command) is an action of its own, so that the search
fails if one of them never happened.

Scripts don't depend on what the client does behind their back, so the judge's conversation is the
server's as well: what the client has not read, it can't have been influenced by.

Bounds: `Bounds` (jobs with their recipients, EHLO replies, hurries); replies arrive whole and one
by one (cuts are the parsers' business, and tested there); content is a few octets.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from specs.kernel.explore import Spec
from specs.smtp_client.judge import INVARIANTS, Judge
from specs.smtp_client.transcript import (
    Act,
    Asked,
    Claimed,
    Client,
    Closed,
    Connected,
    ContentFlows,
    Finish,
    Gone,
    Hurry,
    Job,
    Received,
    Silence,
    Stimulus,
    WantsContent,
)

CONTENT = b"Subject: dots\r\n\r\n.\r\n..two\r\n"
EIGHT_BIT = b"Subject: 8 bit\r\n\r\n\xe9.\r\n"

#: What EHLO's reply may offer; the size of CONTENT is between the limits.
OFFERS = {
    "nothing": b"250 mx.example\r\n",
    "pipelining": b"250-mx.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    "size": b"250-mx.example at your service\r\n250-size 10000000\r\n250 X-UNKNOWN a b=c\r\n",
    "no room": b"250-mx.example\r\n250-PIPELINING\r\n250 SIZE 10\r\n",
    "no limit": b"250-mx.example\r\n250-8bitmime\r\n250-SIZE\r\n250 Pipelining\r\n",
}
REPLIES = {
    "2yz": (b"250 2.1.0 fine\r\n", b"259\r\n"),
    "3yz": (b"354-send\r\n354 it\r\n",),
    "4yz": (b"451 4.3.0 later\r\n",),
    "5yz": (b"550-5.1.1 nobody\r\n550 5.1.1 here\r\n", b"552\r\n"),
    "421": (b"421 4.3.2 closing\r\n",),
    "garbage": (b"2500 fine\r\n",),
}
AWAITED = ("greeting", "EHLO", "HELO", "RSET", "MAIL", "RCPT", "DATA", "END", "QUIT")
ACTIONS = frozenset(
    {f"{kind} to {what}" for kind in REPLIES for what in AWAITED}
    | {f"{kind} to nothing" for kind in REPLIES}
    | {"connected", "asked", "content flows", "finish", "hurry", "gone", "silence"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """recipients: of each job, in order. hurries: how often the client is told to hurry."""

    recipients: tuple[int, ...] = (2, 1)
    eight_bit: bool = False
    hurries: int = 1
    offers: tuple[str, ...] = tuple(OFFERS)

    def __str__(self) -> str:
        bits = "8" if self.eight_bit else "7"
        return (
            f"jobs with {self.recipients} recipients of {bits}-bit content, "
            f"{sum(map(len, REPLIES.values()))} replies, close and silence to each of "
            f"{len(AWAITED)} commands and to none, EHLO offers {', '.join(self.offers)}, "
            f"{self.hurries} hurry"
        )

    def job(self, number: int) -> Job:
        names = tuple(f"r{place}@example.net" for place in range(self.recipients[number]))
        path = "" if number else "sender@example.org"
        content = EIGHT_BIT if self.eight_bit else CONTENT
        return Job(reverse_path=path, recipients=names, content=content)


@dataclass(frozen=True, slots=True)
class State:
    """client: its own state. wants: content may flow. raised: what the client raised, or ""."""

    client: Hashable
    judge: Judge = field(default_factory=Judge)
    connected: bool = False
    wants: bool = False
    closed: bool = False
    asked: int = 0
    finished: bool = False
    hurries: int = 0
    raised: str = ""


INVARIANT_NAMES = (*INVARIANTS, "never_raises")


def client_spec(client: Client, bounds: Bounds) -> Spec[State]:
    """The search's input for one client."""
    return Spec(
        name="smtp_client",
        bounds=f"{client.name}: {bounds}",
        start=lambda: [State(client.start())],
        next=lambda state: _next(client, bounds, state),
        actions=ACTIONS,
        invariants={name: partial(_holds, name) for name in INVARIANT_NAMES},
        settled=lambda state: state.closed and state.judge.job is None,
    )


def _holds(name: str, state: State) -> bool:
    return not state.raised if name == "never_raises" else name not in state.judge.names


# -- what may happen ------------------------------------------------------------------------------


def _next(client: Client, bounds: Bounds, state: State) -> Iterator[tuple[str, State]]:
    if state.closed or state.raised or state.judge.violated:
        return
    for action, stimulus, change in _happenings(bounds, state):
        yield action, _fed(client, change(state), stimulus)


Happening = tuple[str, Stimulus, Callable[[State], State]]


def _same(state: State) -> State:
    return state


def _happenings(bounds: Bounds, state: State) -> Iterator[Happening]:
    yield from _surroundings(bounds, state)
    yield "gone", Gone(), _same
    if state.judge.awaited or not state.connected:  # content that can't flow is awaited, too
        yield "silence", Silence(), _same
    if not state.connected:
        yield "connected", Connected(), lambda state: replace(state, connected=True)
        return
    awaited = state.judge.awaited
    for action, octets in _replies(bounds, awaited[0] if awaited else "nothing"):
        yield action, Received(octets), _same


def _surroundings(bounds: Bounds, state: State) -> Iterator[Happening]:
    if state.wants:
        yield "content flows", ContentFlows(), lambda state: replace(state, wants=False)
    idle = state.judge.job is None and not state.finished
    if idle and state.asked < len(bounds.recipients):
        asked = Asked(bounds.job(state.asked))
        yield f"asked({state.asked})", asked, lambda state: replace(state, asked=state.asked + 1)
    if idle:
        yield "finish", Finish(), lambda state: replace(state, finished=True)
    if state.hurries < bounds.hurries:
        yield "hurry", Hurry(), lambda state: replace(state, hurries=state.hurries + 1)


def _replies(bounds: Bounds, what: str) -> Iterator[tuple[str, bytes]]:
    for kind, shapes in REPLIES.items():
        offered = tuple(OFFERS[name] for name in bounds.offers)
        for octets in offered if (kind, what) == ("2yz", "EHLO") else shapes:
            yield f"{kind} to {what}({octets.decode().strip()!r})", octets


# -- what becomes of it ---------------------------------------------------------------------------


def _fed(client: Client, state: State, stimulus: Stimulus) -> State:
    """The client's next state, its acts judged."""
    try:
        after, acts = client.feed(state.client, stimulus)
    except Exception as error:  # whatever it raises, it should not have
        return replace(state, raised=f"{type(error).__name__}: {error}")
    judge = state.judge
    if isinstance(stimulus, Asked | Received | Gone):
        judge = judge.see(stimulus)
    if isinstance(stimulus, Silence):
        judge = judge.see(Gone())
    return _done(replace(state, client=after, judge=judge), acts)


def _done(state: State, acts: Iterable[Act]) -> State:
    for act in acts:
        if isinstance(act, WantsContent):
            state = replace(state, wants=True)
            continue
        state = replace(state, judge=state.judge.see(act))
        if isinstance(act, Closed):
            state = replace(state, closed=True, wants=False)
        if isinstance(act, Claimed) and not act.usable:
            state = replace(state, finished=True)
    return state
