"""The SMTP server's tables, as dialogues, as a matrix, and exhaustively.

Three kinds of check, each a function of the step under test, so that the negative controls at the
end can put a mutant in its place: a dialogue (what a client sees), the matrix (phase by verb, as
RFC 5321 has it), and a search of every reachable state for broken invariants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.protocol import smtp_server as server
from refmta.protocol.smtp_server import (
    AskRecipient,
    BodyEnd,
    BodyRefusedEnd,
    BodyTooLarge,
    Close,
    CommandLine,
    Commit,
    CommitVerdict,
    Connected,
    Draining,
    Effect,
    Event,
    Limits,
    LineTooLong,
    Lost,
    Phase,
    ReadBody,
    RecipientVerdict,
    Send,
    ServerOptions,
    Session,
    TimedOut,
    step,
)
from refmta.wire import command as commands
from refmta.wire.address import Mailbox
from refmta.wire.reply import Reply, reply

StepUnderTest = Callable[[Session, Event, ServerOptions], tuple[Session, tuple[Effect, ...]]]

OPTIONS = ServerOptions(hostname="mx.example", limits=Limits(message_octets=1000, recipients=2))

HI, MORE = Connected(), True
OK, NO = (
    RecipientVerdict(accepted=True),
    RecipientVerdict(accepted=False, reply=reply(550, "5.7.1", "relaying denied")),
)
END, BARE = BodyEnd(size=10), BodyEnd(size=10, bare=True)
KEPT, FULL = CommitVerdict(queue_id="0ABC"), CommitVerdict(reply=reply(452, "4.3.1", "full"))


def line(text: str | tuple[str, bool] | Event) -> Event:
    """Tables write a command line as its text, or as text and "more input behind it"."""
    if isinstance(text, str):
        return CommandLine(text.encode("latin-1"))
    if isinstance(text, tuple):
        return CommandLine(text[0].encode("latin-1"), pipelined=text[1])
    return text


def seen(effects: tuple[Effect, ...]) -> str:
    """Effects as one word each: replies by their codes."""
    return " ".join(map(_word, effects))


def _word(effect: Effect) -> str:
    if isinstance(effect, Send):
        answer = effect.reply
        return f"{answer.code}/{answer.enhanced}" if answer.enhanced else str(answer.code)
    return type(effect).__name__.lower()


HELLO = ((HI, "220"), ("EHLO client.example", "250"))
OPENED = (*HELLO, ("MAIL FROM:<ada@example.net>", "250/2.1.0"))
ADDRESSED = (*OPENED, ("RCPT TO:<bob@example.org>", "askrecipient"), (OK, "250/2.1.5"))
IN_BODY = (*ADDRESSED, ("DATA", "readbody 354"))
COMMITTING = (*IN_BODY, (END, "commit"))

DIALOGUES = {
    "a message, and another": (
        *COMMITTING,
        (KEPT, "250/2.0.0"),
        ("MAIL FROM:<>", "250/2.1.0"),
        ("RCPT TO:<bob@example.org>", "askrecipient"),
        (OK, "250/2.1.5"),
        ("DATA", "readbody 354"),
        (END, "commit"),
        (KEPT, "250/2.0.0"),
        ("QUIT", "221/2.0.0 close"),
    ),
    "after a message the transaction is empty": (
        *COMMITTING,
        (KEPT, "250/2.0.0"),
        ("RCPT TO:<bob@example.org>", "503/5.5.1"),
        ("DATA", "503/5.5.1"),
    ),
    "HELO works as it did in 1982": (
        (HI, "220"),
        ("HELO client.example", "250"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
        ("RCPT TO:<bob@example.org>", "askrecipient"),
        (OK, "250/2.1.5"),
        ("DATA", "readbody 354"),
    ),
    "HELO takes no parameters": (
        (HI, "220"),
        ("HELO client.example", "250"),
        ("MAIL FROM:<ada@example.net> SIZE=10", "555/5.5.4"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
    ),
    "HELO after EHLO takes the extensions away": (
        *HELLO,
        ("HELO client.example", "250"),
        ("MAIL FROM:<ada@example.net> BODY=8BITMIME", "555/5.5.4"),
    ),
    "nothing before EHLO but what may stand alone": (
        (HI, "220"),
        ("MAIL FROM:<ada@example.net>", "503/5.5.1"),
        ("NOOP", "250/2.0.0"),
        ("RSET", "250/2.0.0"),
        ("HELP", "214/2.0.0"),
        ("VRFY ada", "252/2.0.0"),
        ("QUIT", "221/2.0.0 close"),
    ),
    "EHLO in a transaction resets it": (
        *ADDRESSED,
        ("EHLO client.example", "250"),
        ("DATA", "503/5.5.1"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
    ),
    "RSET in a transaction resets it, and keeps the greeting": (
        *ADDRESSED,
        ("RSET", "250/2.0.0"),
        ("DATA", "503/5.5.1"),
        ("MAIL FROM:<ada@example.net> SIZE=5", "250/2.1.0"),
    ),
    "RSET before EHLO is no greeting": (
        (HI, "220"),
        ("RSET", "250/2.0.0"),
        ("MAIL FROM:<ada@example.net>", "503/5.5.1"),
    ),
    "MAIL is not nested": (*OPENED, ("MAIL FROM:<eve@example.net>", "503/5.5.1")),
    "MAIL is not nested after a recipient": (
        *ADDRESSED,
        ("MAIL FROM:<eve@example.net>", "503/5.5.1"),
        ("DATA", "readbody 354"),
    ),
    "no relaying": (
        *OPENED,
        ("RCPT TO:<eve@example.com>", "askrecipient"),
        (NO, "550/5.7.1"),
        ("DATA", "554/5.5.1"),
    ),
    "one good recipient is enough": (
        *OPENED,
        ("RCPT TO:<eve@example.com>", "askrecipient"),
        (NO, "550/5.7.1"),
        ("RCPT TO:<bob@example.org>", "askrecipient"),
        (OK, "250/2.1.5"),
        ("RCPT TO:<eve@example.com>", "askrecipient"),
        (NO, "550/5.7.1"),
        ("DATA", "readbody 354"),
    ),
    "postmaster without a domain": (*OPENED, ("RCPT TO:<PostMaster>", "askrecipient")),
    "the recipients' limit is a 452, and the message goes on": (
        *ADDRESSED,
        ("RCPT TO:<bob2@example.org>", "askrecipient"),
        (OK, "250/2.1.5"),
        ("RCPT TO:<bob3@example.org>", "452/4.5.3"),
        ("DATA", "readbody 354"),
        (END, "commit"),
    ),
    "SIZE within the limit": (*HELLO, ("MAIL FROM:<ada@example.net> SIZE=1000", "250/2.1.0")),
    "SIZE 0 is no size": (*HELLO, ("MAIL FROM:<ada@example.net> SIZE=0", "250/2.1.0")),
    "SIZE over the limit": (*HELLO, ("MAIL FROM:<ada@example.net> SIZE=1001", "552/5.3.4")),
    "SIZE without a value": (*HELLO, ("MAIL FROM:<ada@example.net> SIZE", "501/5.5.4")),
    "SIZE that is no number": (*HELLO, ("MAIL FROM:<ada@example.net> SIZE=1e3", "501/5.5.4")),
    "SIZE with 21 digits": (
        *HELLO,
        (f"MAIL FROM:<ada@example.net> SIZE={'0' * 20}1", "501/5.5.4"),
    ),
    "SIZE twice": (*HELLO, ("MAIL FROM:<ada@example.net> SIZE=1 SIZE=2", "501/5.5.4")),
    "BODY in any case": (*HELLO, ("MAIL FROM:<ada@example.net> body=8bitmime", "250/2.1.0")),
    "BODY 7BIT": (*HELLO, ("MAIL FROM:<ada@example.net> BODY=7BIT SIZE=1", "250/2.1.0")),
    "BODY that nobody knows": (
        *HELLO,
        ("MAIL FROM:<ada@example.net> BODY=BINARYMIME", "501/5.5.4"),
    ),
    "BODY without a value": (*HELLO, ("MAIL FROM:<ada@example.net> BODY", "501/5.5.4")),
    "a parameter of another extension": (
        *HELLO,
        ("MAIL FROM:<ada@example.net> SMTPUTF8", "555/5.5.4"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
        ("RCPT TO:<bob@example.org> NOTIFY=NEVER", "555/5.5.4"),
    ),
    "DATA with an argument": (*ADDRESSED, ("DATA now", "501/5.5.4"), ("DATA", "readbody 354")),
    "NOOP with an argument": (*HELLO, ("NOOP whatever", "250/2.0.0")),
    "EXPN is not implemented": (*HELLO, ("EXPN list", "502/5.5.1")),
    "nonsense": (*HELLO, ("WIZ", "500/5.5.2"), ("", "500/5.5.2"), ("\x00", "500/5.5.2")),
    "a line too long": (*ADDRESSED, (LineTooLong(), "500/5.5.2"), ("DATA", "readbody 354")),
    "a bare CR or LF refuses the message, not the session": (
        *IN_BODY,
        (BARE, "abandon 550/5.6.0"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
    ),
    "an end that is none closes": (
        *IN_BODY,
        (BodyRefusedEnd(), "abandon 550/5.5.2 close"),
        ("MAIL FROM:<smuggled@example.net>", ""),
        (KEPT, ""),
    ),
    "too large, found at the end": (
        *IN_BODY,
        (BodyTooLarge(), "abandon 552/5.3.4"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
    ),
    "too large, though nobody said so": (
        *IN_BODY,
        (BodyEnd(size=1001), "abandon 552/5.3.4"),
    ),
    "disk full is a 452": (
        *COMMITTING,
        (FULL, "452/4.3.1"),
        ("DATA", "503/5.5.1"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
    ),
    "disk full in the middle of the content": (
        *IN_BODY,
        (FULL, "abandon"),
        (FULL, ""),
        (END, "452/4.3.1"),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
    ),
    "disk full, and then the client goes": (*IN_BODY, (FULL, "abandon"), (Lost(), "close")),
    "a pipelined group": (
        *HELLO,
        (("MAIL FROM:<ada@example.net>", MORE), "250/2.1.0"),
        (("RCPT TO:<bob@example.org>", MORE), "askrecipient"),
        (OK, "250/2.1.5"),
        ("DATA", "readbody 354"),
        (END, "commit"),
        (KEPT, "250/2.0.0"),
        (("RSET", MORE), "250/2.0.0"),
        (("NOOP", MORE), "250/2.0.0"),
        (("QUIT", MORE), "221/2.0.0 close"),
    ),
    "content behind DATA": (*ADDRESSED, (("DATA", MORE), "554/5.5.0 close")),
    "commands behind EHLO": ((HI, "220"), (("EHLO client.example", MORE), "554/5.5.0 close")),
    "commands behind a second EHLO": (*HELLO, (("EHLO client.example", MORE), "554/5.5.0 close")),
    "pipelining that was not offered": (
        (HI, "220"),
        ("HELO client.example", "250"),
        (("MAIL FROM:<ada@example.net>", MORE), "554/5.5.0 close"),
    ),
    "a browser": ((HI, "220"), (("POST / HTTP/1.1", MORE), "554/5.5.0 close")),
    "an early talker": ((Connected(early=True), "554/5.5.0 close"), ("EHLO x", "")),
    "silence": (*ADDRESSED, (TimedOut(), "421/4.4.2 close")),
    "silence in the content": (*IN_BODY, (TimedOut(), "abandon 421/4.4.2 close")),
    "an overdue verdict": (
        *OPENED,
        ("RCPT TO:<bob@example.org>", "askrecipient"),
        (TimedOut(), "421/4.3.0 close"),
        (OK, ""),
    ),
    "an overdue commit is not taken back": (
        *COMMITTING,
        (TimedOut(), "421/4.3.0 close"),
        (KEPT, ""),
    ),
    "the client goes in the content": (*IN_BODY, (Lost(), "abandon close")),
    "the client goes before our 250": (*COMMITTING, (Lost(), "close"), (KEPT, "")),
    "draining while a command is awaited": (*ADDRESSED, (Draining(), "421/4.3.2 close")),
    "draining lets a message finish": (
        *IN_BODY,
        (Draining(), ""),
        (END, "commit"),
        (KEPT, "250/2.0.0 421/4.3.2 close"),
    ),
    "draining while a recipient is asked for": (
        *OPENED,
        ("RCPT TO:<bob@example.org>", "askrecipient"),
        (Draining(), ""),
        (OK, "250/2.1.5 421/4.3.2 close"),
    ),
    "draining and a refused message": (
        *IN_BODY,
        (Draining(), ""),
        (BARE, "abandon 550/5.6.0 421/4.3.2 close"),
    ),
    "ten errors": (
        *HELLO,
        *((("WIZ", "500/5.5.2"),) * 9),
        ("MAIL FROM:ada", "421/4.7.0 close"),
    ),
    "an accepted message forgives": (
        *HELLO,
        *((("WIZ", "500/5.5.2"),) * 9),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
        ("RCPT TO:<bob@example.org>", "askrecipient"),
        (OK, "250/2.1.5"),
        ("DATA", "readbody 354"),
        (END, "commit"),
        (KEPT, "250/2.0.0"),
        ("WIZ", "500/5.5.2"),
    ),
    "a refused message does not": (
        *HELLO,
        *((("WIZ", "500/5.5.2"),) * 9),
        ("MAIL FROM:<ada@example.net>", "250/2.1.0"),
        ("RCPT TO:<bob@example.org>", "askrecipient"),
        (OK, "250/2.1.5"),
        ("DATA", "readbody 354"),
        (END, "commit"),
        (FULL, "452/4.3.1"),
        ("WIZ", "421/4.7.0 close"),
    ),
    "a hundred commands without mail": (
        *HELLO,
        *((("NOOP", "250/2.0.0"),) * 98),
        ("NOOP", "421/4.7.0 close"),
    ),
    "a thousand unknown recipients": (
        *OPENED,
        *((("RCPT TO:<eve@example.com>", "askrecipient"), (NO, "550/5.7.1")) * 999),
        ("RCPT TO:<eve@example.com>", "askrecipient"),
        (NO, "421/4.7.0 close"),
    ),
}


def check_dialogue(take: StepUnderTest, name: str) -> None:
    session = Session()
    for number, (text, expected) in enumerate(DIALOGUES[name]):
        event = line(text)
        session, effects = take(session, event, OPTIONS)
        assert seen(effects) == expected, f"{name}: line {number}: {text}"


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(name: str) -> None:
    check_dialogue(step, name)


# --- the matrix ----------------------------------------------------------------------------------

#: RFC 5321 sections 4.1.1 and 4.1.4: what a command of each verb gets in each phase.
MATRIX = {
    #                               CONNECTED    GREETED      MAIL            RCPT
    "EHLO client.example":         ("250",       "250",       "250",          "250"),
    "HELO client.example":         ("250",       "250",       "250",          "250"),
    "MAIL FROM:<ada@example.net>": ("503/5.5.1", "250/2.1.0", "503/5.5.1",    "503/5.5.1"),
    "RCPT TO:<bob@example.org>":   ("503/5.5.1", "503/5.5.1", "askrecipient", "askrecipient"),
    "DATA":                        ("503/5.5.1", "503/5.5.1", "554/5.5.1",    "readbody 354"),
    "RSET":                        ("250/2.0.0", "250/2.0.0", "250/2.0.0",    "250/2.0.0"),
    "NOOP":                        ("250/2.0.0", "250/2.0.0", "250/2.0.0",    "250/2.0.0"),
    "QUIT":                        ("221/2.0.0 close",) * 4,
    "VRFY ada":                    ("252/2.0.0", "252/2.0.0", "252/2.0.0",    "252/2.0.0"),
    "EXPN list":                   ("502/5.5.1", "502/5.5.1", "502/5.5.1",    "502/5.5.1"),
    "HELP":                        ("214/2.0.0", "214/2.0.0", "214/2.0.0",    "214/2.0.0"),
}  # fmt: skip
AFTER = (DIALOGUES["silence"][:1], HELLO, OPENED, ADDRESSED)


def check_matrix(take: StepUnderTest) -> None:
    for text, row in MATRIX.items():
        for script, expected in zip(AFTER, row, strict=True):
            session = Session()
            for earlier, _ in script:
                session, _ = take(session, line(earlier), OPTIONS)
            _, effects = take(session, line(text), OPTIONS)
            assert seen(effects) == expected, (text, session.phase)


def test_matrix() -> None:
    check_matrix(step)


def test_tables_are_total() -> None:
    verbs = commands.Command.__args__
    assert set(server.VERBS) == {(phase, verb) for phase in server.COMMAND_PHASES for verb in verbs}
    events = Event.__args__
    assert set(server.EVENTS) == {(phase, event) for phase in Phase for event in events}


def test_matrix_names_every_verb() -> None:
    verbs = {type(commands.parse_command(text.encode())) for text in MATRIX}
    assert verbs == set(commands.Command.__args__)


# --- details of replies and effects --------------------------------------------------------------


def run(*script: str | Event, options: ServerOptions = OPTIONS) -> tuple[Session, list[Effect]]:
    session = Session()
    all_effects: list[Effect] = []
    for text in script:
        session, effects = step(session, line(text), options)
        all_effects += effects
    return session, all_effects


def test_ehlo_lists_what_is_implemented() -> None:
    _, effects = run(HI, "EHLO client.example")
    assert isinstance(effects[-1], Send)
    assert effects[-1].reply.encode() == (
        b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250 HELP\r\n"
    )


def test_greeting_and_commit_texts() -> None:
    _, effects = run(HI)
    assert effects == [Send(reply(220, None, "mx.example ESMTP refmta"))]
    bob = Mailbox(local="bob", domain="example.org")
    session = Session(phase=Phase.COMMITTING, helo="x", recipients=(bob,))
    _, sent = step(session, KEPT, OPTIONS)
    assert sent == (Send(reply(250, "2.0.0", "queued as 0ABC")),)


def test_ask_and_envelope_carry_what_was_said() -> None:
    _, effects = run(
        HI,
        "EHLO client.example",
        "MAIL FROM:<ada@example.net> BODY=8BITMIME SIZE=77",
        "RCPT TO:<bob@example.org>",
        OK,
        "RCPT TO:<Postmaster>",
        OK,
        "DATA",
    )
    bob = Mailbox(local="bob", domain="example.org")
    postmaster = Mailbox(local="postmaster", domain="")
    assert [effect for effect in effects if not isinstance(effect, Send)] == [
        AskRecipient(bob),
        AskRecipient(postmaster),
        ReadBody(
            reverse_path=Mailbox(local="ada", domain="example.net"),
            recipients=(bob, postmaster),
            size=77,
            body="8BITMIME",
            helo="client.example",
            extended=True,
        ),
    ]


def test_an_accepting_reply_of_its_own() -> None:
    will_forward = reply(251, "2.1.5", "will forward")
    session, effects = run(
        HI,
        "HELO client.example",
        "MAIL FROM:<>",
        "RCPT TO:<bob@example.org>",
        RecipientVerdict(accepted=True, reply=will_forward),
    )
    assert effects[-1] == Send(will_forward)
    assert session.phase is Phase.RCPT


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RecipientVerdict(accepted=False), "needs a reply"),
        (lambda: RecipientVerdict(accepted=False, reply=reply(250, "2.1.5", "")), "contradicts"),
        (lambda: RecipientVerdict(accepted=True, reply=reply(550, "5.1.1", "")), "contradicts"),
        (CommitVerdict, "either"),
        (lambda: CommitVerdict(queue_id="0ABC", reply=reply(451, "4.3.0", "")), "either"),
        (lambda: CommitVerdict(queue_id=""), "empty"),
        (lambda: CommitVerdict(reply=reply(250, "2.0.0", "yes")), "positive"),
    ],
)
def test_a_contradictory_verdict_cannot_be_made(make: Callable[[], Event], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


# --- every reachable state -----------------------------------------------------------------------

SMALL = ServerOptions(
    hostname="mx.example",
    limits=Limits(message_octets=1000, recipients=2, errors=3, rejections=3, idle_commands=3),
)
LINES = (
    *MATRIX,
    "MAIL FROM:<>",
    "MAIL FROM:<ada@example.net> SIZE=1000 BODY=8BITMIME",
    "MAIL FROM:<ada@example.net> SIZE=1001",
    "MAIL FROM:<ada@example.net> SIZE",
    "MAIL FROM:<ada@example.net> BODY=X",
    "MAIL FROM:<ada@example.net> AUTH=<>",
    "RCPT TO:<bob@example.org> NOTIFY=NEVER",
    "WIZ",
)
ALPHABET: tuple[Event, ...] = (
    *(CommandLine(text.encode(), pipelined) for text in LINES for pipelined in (False, True)),
    HI,
    Connected(early=True),
    LineTooLong(),
    OK,
    NO,
    END,
    BARE,
    BodyEnd(size=1001),
    BodyRefusedEnd(),
    BodyTooLarge(),
    KEPT,
    FULL,
    TimedOut(),
    Draining(),
    Lost(),
)


def possible(session: Session) -> Iterator[Event]:
    """What the caller may feed here; everything but the rows that are marked as ours."""
    for event in ALPHABET:
        ours = server.EVENTS[session.phase, type(event)] is server.OURS
        complete_too_soon = session.phase is Phase.BODY and event == KEPT
        if not ours and not complete_too_soon:
            yield event


def broken(before: Session, event: Event, after: Session, effects: tuple[Effect, ...]) -> list[str]:
    return [
        *server.broken_by_step(before, event, after, effects),
        *server.broken_invariants(after, SMALL),
    ]


def search(take: StepUnderTest) -> tuple[int, set[str], list[str]]:
    """States found, rows that fired, and the first broken invariants."""
    fired: set[str] = set()
    known = {Session()}
    waiting = [Session()]
    while waiting:
        before = waiting.pop()
        for event in possible(before):
            after, effects = take(before, event, SMALL)
            found = broken(before, event, after, effects)
            if found:
                return len(known), fired, found
            fired.add(f"{before.phase.value}: {_row(before, event)}")
            if after not in known:
                known.add(after)
                waiting.append(after)
    return len(known), fired, []


def _row(session: Session, event: Event) -> str:
    if not isinstance(event, CommandLine) or session.phase not in server.COMMAND_PHASES:
        return type(event).__name__
    if event.pipelined or event.octets == b"WIZ":
        return "CommandLine"
    return type(commands.parse_command(event.octets)).__name__


def test_every_reachable_state_keeps_the_invariants() -> None:
    states, fired, found = search(step)
    assert found == []
    assert states > 1000
    rows = {
        f"{phase.value}: {kind.__name__}"
        for (phase, kind), row in [*server.EVENTS.items(), *server.VERBS.items()]
        if row is not server.OURS
    }
    assert rows - fired == set(), "rows that no path reaches"


@pytest.mark.parametrize("phase", Phase)
def test_what_only_we_can_get_wrong_raises(phase: Phase) -> None:
    for event in ALPHABET:
        if server.EVENTS[phase, type(event)] is server.OURS:
            with pytest.raises(server.ImpossibleError):
                step(Session(phase=phase), event, OPTIONS)


def test_a_queue_id_before_the_end_is_ours() -> None:
    with pytest.raises(server.ImpossibleError):
        step(Session(phase=Phase.BODY), KEPT, OPTIONS)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_walks_with_any_octets(data: st.DataObject) -> None:
    """Longer ways than the search's, with lines that nobody thought of."""
    session = Session()
    junk = st.binary(max_size=40).map(CommandLine)
    for _ in range(60):
        choices = st.sampled_from(list(possible(session)))
        if session.phase in server.COMMAND_PHASES:
            choices = choices | junk
        event = data.draw(choices)
        after, effects = step(session, event, SMALL)
        assert broken(session, event, after, effects) == []
        session = after


# --- negative controls ---------------------------------------------------------------------------


def _accept_at_once(session: Session, event: Event, _options: ServerOptions) -> server.Step:
    return Session(phase=Phase.GREETED, helo=session.helo), (Send(reply(250, "2.0.0", "ok")),)


def _go_on(session: Session, _event: Event, _options: ServerOptions) -> server.Step:
    return session, (Send(server.REFUSED_END),)


def _leave(session: Session, _event: Event, _options: ServerOptions) -> server.Step:
    return Session(phase=Phase.CLOSED), (Close(),)


def _stay(session: Session, _event: Event, _options: ServerOptions) -> server.Step:
    return session, (Send(server.TIMEOUT),)


def _commit_anyway(session: Session, event: BodyEnd, _options: ServerOptions) -> server.Step:
    return replace(session, phase=Phase.COMMITTING), (Commit(event.size),)


def _read(session: Session, command: object, options: ServerOptions) -> server.Step:
    row = server.VERBS[Phase.RCPT, commands.Data]
    assert callable(row)
    return row(session, command, options)


def _take_recipient(
    session: Session, command: commands.Rcpt, _options: ServerOptions
) -> server.Step:
    recipients = (*session.recipients, command.forward_path)
    taken = replace(session, phase=Phase.RCPT, recipients=recipients)
    return taken, (Send(server.OK_RECIPIENT),)


def _forget_nothing(session: Session, _event: object, _options: ServerOptions) -> server.Step:
    return replace(session, phase=Phase.GREETED), (Send(server.OK_RESET),)


def _begin(session: Session, command: commands.Mail, _options: ServerOptions) -> server.Step:
    begun = replace(session, phase=Phase.MAIL, reverse_path=command.reverse_path)
    return begun, (Send(server.OK_SENDER),)


def _say_nothing(session: Session, _event: object, _options: ServerOptions) -> server.Step:
    return session, ()


def _accept_without_id(
    session: Session, event: CommitVerdict, options: ServerOptions
) -> server.Step:
    return _accept_at_once(session, event, options)


#: name: (phase, event or verb, what stands in its row, the invariant that must break)
MUTANTS: dict[str, tuple[Phase, type, server.Action, str]] = {
    "DATA without recipients": (
        Phase.MAIL, commands.Data, _read, "content only with recipients"),
    "MAIL before EHLO": (
        Phase.CONNECTED, commands.Mail, _begin, "a transaction only after EHLO or HELO"),
    "recipient taken unasked": (
        Phase.MAIL, commands.Rcpt, _take_recipient, "recipients are added by an accepting verdict"),
    "RSET keeps the recipients": (
        Phase.RCPT, commands.Rset, _forget_nothing, "recipients only in a transaction"),
    "RSET keeps the sender": (
        Phase.MAIL, commands.Rset, _forget_nothing, "envelope empty outside of a transaction"),
    "EHLO unanswered": (
        Phase.GREETED, commands.Ehlo, _say_nothing, "one answer to a command"),
    "250 at the end of the content": (
        Phase.BODY, BodyEnd, _accept_at_once, "a message's 250 only for a queue id"),
    "250 whatever enqueue says": (
        Phase.COMMITTING, CommitVerdict, _accept_without_id, "a message's 250 only for a queue id"),
    "bare LF committed": (
        Phase.BODY, BodyEnd, _commit_anyway, "commit only complete content with recipients"),
    "a refused end goes on": (
        Phase.BODY, BodyRefusedEnd, _go_on, "a refused end closes"),
    "lost client, kept content": (
        Phase.BODY, Lost, _leave, "content handed over is committed or abandoned, once"),
    "silent client, open session": (
        Phase.CLOSED, TimedOut, _stay, "closing is the end"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_the_search_finds_a_mutated_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    phase, kind, mutant, invariant = MUTANTS[name]
    ran = []

    def observed(session: Session, event: object, options: ServerOptions) -> server.Step:
        ran.append(event)
        return mutant(session, event, options)

    if (phase, kind) in server.VERBS:
        monkeypatch.setitem(server.VERBS, (phase, kind), observed)
    else:
        monkeypatch.setitem(server.EVENTS, (phase, kind), observed)
    _, _, found = search(step)
    assert invariant in found
    assert ran


#: name: (phase, verb, what stands in its row, the dialogue that must fail)
REFUSALS: dict[str, tuple[Phase, type, server.Action | Reply, str]] = {
    "nested MAIL": (Phase.RCPT, commands.Mail, _begin, "MAIL is not nested after a recipient"),
    "RCPT without MAIL": (
        Phase.GREETED, commands.Rcpt, _take_recipient, "after a message the transaction is empty"),
    "QUIT refused": (
        Phase.GREETED, commands.Quit, server.NO_MAIL, "a pipelined group"),
    "DATA without recipients gets another code": (
        Phase.MAIL, commands.Data, server.NO_MAIL, "no relaying"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_a_dialogue_finds_a_mutated_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    phase, verb, mutant, dialogue = REFUSALS[name]
    check_dialogue(step, dialogue)
    monkeypatch.setitem(server.VERBS, (phase, verb), mutant)
    with pytest.raises(AssertionError):
        check_dialogue(step, dialogue)


@pytest.mark.parametrize("place", server.VERBS)
def test_the_matrix_finds_every_swapped_row(
    place: tuple[Phase, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(server.VERBS, place, reply(504, "5.5.4", "a reply that no row has"))
    with pytest.raises(AssertionError):
        check_matrix(step)
