"""The SMTP client's tables: dialogues, verdicts by code, and a search of every reachable session.

What may be sent and claimed is judged from outside by specs.smtp_client; here is what a reader of
the module may rely on, and what its own invariants catch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.protocol import smtp_client as client
from refmta.protocol.smtp_client import (
    EVENTS,
    OURS,
    REPLIES,
    Begin,
    ClientOptions,
    Close,
    Connected,
    ContentSent,
    Done,
    Effect,
    Event,
    Extensions,
    Finish,
    Hurry,
    ImpossibleError,
    Lost,
    NotAReply,
    Phase,
    Replied,
    Send,
    Session,
    TimedOut,
    Transaction,
    Verb,
    awaited,
    patience_s,
    step,
)
from refmta.protocol.smtp_client_invariants import (
    INVARIANTS,
    STEP_INVARIANTS,
    broken_by_step,
    broken_invariants,
)
from refmta.wire.reply import Reply, ReplyError, ReplyParser, reply

OPTIONS = ClientOptions(hostname="me.example")
ONE = Transaction(reverse_path="a@me.example", recipients=("b@x.example",), octets=100)
TWO = Transaction(reverse_path="", recipients=("b@x.example", "c@x.example"), octets=100)
EIGHT = replace(ONE, eight_bit=True)

GROUP = "EHLO me.example|MAIL FROM:<>,RCPT TO:<b@x.example>,RCPT TO:<c@x.example>,DATA"
START = [Begin(TWO), Connected(), "220 hi"]
PLAIN = [*START, "250 hi"]
PIPELINED = [*START, "250-hi\r\n250 PIPELINING"]


def event(said: str | Event) -> Event:
    """Tables write replies as their text."""
    if not isinstance(said, str):
        return said
    try:
        (answer,) = ReplyParser().feed(said.encode() + b"\r\n")
    except ReplyError as error:
        return NotAReply(str(error))
    return Replied(answer)


def word(effect: Effect) -> str:
    if isinstance(effect, Send):
        return effect.octets.decode().removesuffix("\r\n").replace("\r\n", ",")
    if isinstance(effect, Done):
        verdicts = " ".join(
            f"{each.kind}/{each.enhanced}" + "+" * each.elsewhere for each in effect.verdicts
        )
        return f"[{verdicts}; {effect.destination}{', usable' * effect.usable}]"
    return type(effect).__name__.lower()


def seen(events: list[str | Event]) -> str:
    """Everything that the client does, in order; invariants hold all the way."""
    session, words = Session(), []
    for each in map(event, events):
        before = session
        session, effects = step(before, each, OPTIONS)
        assert broken_by_step(before, each, session, effects) == []
        assert broken_invariants(session) == []
        words += map(word, effects)
    return "|".join(words)


DIALOGUES: list[tuple[str, list[str | Event], str]] = [
    ("one by one",
     [*PLAIN, "250 ok", "250", "251 will forward", "354", ContentSent(), "250 2.6.0 kept"],
     "EHLO me.example|MAIL FROM:<>|RCPT TO:<b@x.example>|RCPT TO:<c@x.example>|DATA|sendcontent"
     "|sendend|[delivered/2.6.0 delivered/2.6.0; alive, usable]"),
    ("in one group",
     [*PIPELINED, "250", "250", "550 5.1.1 no", "354", ContentSent(), "250", Finish(), "221"],
     f"{GROUP}|sendcontent|sendend|[delivered/2.0.0 failed/5.1.1; alive, usable]|QUIT|close"),
    ("begun later",
     [Connected(), "220", "250 hi", Begin(ONE), "250", "452"],
     "EHLO me.example|MAIL FROM:<a@me.example>|RCPT TO:<b@x.example>"
     "|[deferred/4.3.1; alive, usable]"),
    ("the next one begins with RSET",
     [*PIPELINED, "250", "450", "450", "554", Begin(ONE), "250", "250", "250", "354"],
     f"{GROUP}|[deferred/4.2.0 deferred/4.2.0; alive, usable]"
     "|RSET,MAIL FROM:<a@me.example>,RCPT TO:<b@x.example>,DATA|sendcontent"),
    ("RSET alone, without PIPELINING",
     [*PLAIN, "550 5.7.1 not you", Begin(ONE), "250", "250"],
     "EHLO me.example|MAIL FROM:<>|[failed/5.7.1 failed/5.7.1; alive, usable]|RSET"
     "|MAIL FROM:<a@me.example>|RCPT TO:<b@x.example>"),
    ("no RSET after an answer to the content",
     [*PIPELINED, "250", "250", "250", "354", ContentSent(), "451", Begin(ONE)],
     f"{GROUP}|sendcontent|sendend|[deferred/4.3.0 deferred/4.3.0; alive, usable]"
     "|MAIL FROM:<a@me.example>,RCPT TO:<b@x.example>,DATA"),
    ("a lone dot when nobody was accepted",
     [*PIPELINED, "250", "550", "553", "354", "250 kept nothing"],
     f"{GROUP}|.|[failed/5.0.0 failed/5.1.0; alive, usable]"),
    ("MAIL refused, and all accepted all the same",
     [*PIPELINED, "452", "250", "250", "354", "250"],
     f"{GROUP}|.|[deferred/4.3.1 deferred/4.3.1; alive, usable]"),
    ("552 for a recipient is for now",
     [*PIPELINED, "250", "552 5.5.3 too many", "250", "554"],
     f"{GROUP}|[deferred/4.5.3 failed/5.0.0; alive, usable]"),
    ("EHLO refused",
     [*START, "502 what?", "250 hi", "250"],
     "EHLO me.example|HELO me.example|MAIL FROM:<>|RCPT TO:<b@x.example>"),
    ("HELO refused, too",
     [*START, "500", "550 go away", "221"],
     "EHLO me.example|HELO me.example|[deferred/4.0.0+ deferred/4.0.0+; dead]|QUIT|close"),
    ("554 instead of a greeting",
     [Begin(ONE), Connected(), "554 no SMTP here", "221"],
     "[deferred/4.0.0+; dead]|QUIT|close"),
    ("421 instead of a greeting", [Begin(ONE), Connected(), "421"],
     "[deferred/4.3.2+; dead]|close"),
    ("421 in the middle of a group",
     [*PIPELINED, "250", "550", "421 bye", "250"],
     f"{GROUP}|[failed/5.0.0 deferred/4.3.2+; dead]|close"),
    ("421 for the content",
     [*PIPELINED, "250", "250", "550", "354", ContentSent(), "421"],
     f"{GROUP}|sendcontent|sendend|[deferred/4.3.2 failed/5.0.0; dead]|close"),
    ("421 between transactions", [Connected(), "220", "250 hi", "421"], "EHLO me.example|close"),
    ("a 250 too many, early", [*PIPELINED, "250", "250", "250", "250"],
     f"{GROUP}|[deferred/4.5.0+ deferred/4.5.0+; alive]|close"),
    ("a 250 too many, behind the 354", [*PIPELINED, "250", "250", "250", "354", "250"],
     f"{GROUP}|sendcontent|[deferred/4.5.0+ deferred/4.5.0+; alive]|close"),
    ("a 250 too many, at the end",
     [*PIPELINED, "250", "250", "250", "354", ContentSent(), "250", "250", Begin(ONE)],
     f"{GROUP}|sendcontent|sendend|[delivered/2.0.0 delivered/2.0.0; alive, usable]|close"
     "|[deferred/4.4.2+; unknown]"),
    ("354 for the content", [*PIPELINED, "250", "250", "250", "354", ContentSent(), "354"],
     f"{GROUP}|sendcontent|sendend|[deferred/4.5.0 deferred/4.5.0; alive]|close"),
    ("refused while the content is sent",
     [*PIPELINED, "250", "250", "450", "354", "552 5.3.4 too big", ContentSent()],
     f"{GROUP}|sendcontent|[failed/5.3.4 deferred/4.2.0; alive]|close"),
    ("unknown codes are their class",
     [*PIPELINED, "259", "209", "459", "359", ContentSent(), "242"],
     f"{GROUP}|sendcontent|sendend|[delivered/2.0.0 deferred/4.0.0; alive, usable]"),
    ("1yz is no reply", [*PIPELINED, "250", "150 wait"],
     f"{GROUP}|[deferred/4.5.0+ deferred/4.5.0+; dead]|close"),
    ("lost before the end", [*PIPELINED, "250", "250", "250", "354", Lost("reset")],
     f"{GROUP}|sendcontent|[deferred/4.4.2+ deferred/4.4.2+; dead]|close"),
    ("lost behind the end", [*PIPELINED, "250", "250", "250", "354", ContentSent(), Lost()],
     f"{GROUP}|sendcontent|sendend|[deferred/4.4.2 deferred/4.4.2; dead]|close"),
    ("silence behind the end", [*PIPELINED, "250", "250", "250", "354", ContentSent(), TimedOut()],
     f"{GROUP}|sendcontent|sendend|[deferred/4.4.2 deferred/4.4.2; dead]|close"),
    ("no connection", [Begin(ONE), TimedOut()], "[deferred/4.4.1+; dead]|close"),
    ("hurry before the answer", [*PIPELINED, "250", "550", Hurry()],
     f"{GROUP}|[failed/5.0.0 returned/; alive]|close"),
    ("hurry before the greeting", [Begin(ONE), Connected(), Hurry()], "[returned/; unknown]|close"),
    ("hurry behind the end",
     [*PIPELINED, "250", "250", "250", "354", ContentSent(), Hurry(), "250", "221"],
     f"{GROUP}|sendcontent|sendend|[delivered/2.0.0 delivered/2.0.0; alive]|QUIT|close"),
    ("idle for too long", [Connected(), "220", "250 hi", TimedOut()], "EHLO me.example|QUIT"),
    ("larger than SIZE", [Begin(ONE), Connected(), "220", "250-hi\r\n250 SIZE 99", Finish()],
     "EHLO me.example|[failed/5.3.4; alive, usable]|QUIT"),
    ("SIZE that suffices", [Begin(ONE), Connected(), "220", "250-hi\r\n250 size 100"],
     "EHLO me.example|MAIL FROM:<a@me.example> SIZE=100"),
    ("8-bit, and no 8BITMIME", [Begin(EIGHT), Connected(), "220", "250 hi"],
     "EHLO me.example|[failed/5.6.3; alive, usable]"),
    ("8-bit", [Begin(EIGHT), Connected(), "220", "250-hi\r\n250-SIZE 0\r\n250 8bitMIME"],
     "EHLO me.example|MAIL FROM:<a@me.example> SIZE=100 BODY=8BITMIME"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "done"), [row[1:] for row in DIALOGUES],
                         ids=[row[0] for row in DIALOGUES])  # fmt: skip
def test_dialogue(events: list[str | Event], done: str) -> None:
    assert seen(events) == done


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        ([], Extensions()),
        (["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 10"],
         Extensions(pipelining=True, eight_bit_mime=True, enhanced_status_codes=True, size=10)),
        (["pipelining extra", "Size"], Extensions(pipelining=True, size=0)),
        (["SIZE 0", "SIZE 5"], Extensions(size=0)),
        (["SIZE 12a"], Extensions()),
        (["SIZE " + "9" * 21], Extensions()),
        (["SIZE=10", "XPIPELINING", "", "  ", "-", "PIPELINING=1"], Extensions()),
    ],
)  # fmt: skip
def test_extensions(lines: list[str], offered: Extensions) -> None:
    session = Session(phase=Phase.EHLO)
    session, _ = step(session, Replied(reply(250, None, "PIPELINING", *lines)), OPTIONS)
    assert session.extensions == offered


@pytest.mark.parametrize(
    ("reverse_path", "recipient"),
    [
        ("a@b.example>\r\nRSET", "c@x.example"),
        ("a@b.example", "c@x.example> NOTIFY=NEVER"),
        ("a@b.example", "c@x.example\r\nDATA"),
        ("a@b.example", ""),
        ("a@b.example", "\xe9@x.example"),
        ("a b@x.example", "c@x.example"),
    ],
)
def test_what_is_no_address_is_never_said(reverse_path: str, recipient: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Transaction(reverse_path=reverse_path, recipients=(recipient,), octets=0)


def test_a_transaction_has_recipients_and_a_size() -> None:
    with pytest.raises(ValueError, match="without recipients"):
        Transaction(reverse_path="", recipients=(), octets=0)
    with pytest.raises(ValueError, match="negative"):
        Transaction(reverse_path="", recipients=("a@x.example",), octets=-1)


def sent(*outstanding: Verb) -> Session:
    return Session(phase=Phase.ENVELOPE, outstanding=outstanding)


@pytest.mark.parametrize(
    ("session", "seconds", "what"),
    [
        (Session(), 30, "the connection"),
        (Session(phase=Phase.GREETING), 300, "the greeting"),
        (Session(phase=Phase.EHLO), 300, "the reply to EHLO"),
        (sent(Verb.MAIL, Verb.RCPT), 300, "the reply to MAIL"),
        (sent(Verb.RCPT, Verb.DATA), 300, "the reply to RCPT"),
        (sent(Verb.DATA), 120, "the reply to DATA"),
        (Session(phase=Phase.CONTENT), 180, "the sending of the content"),
        (Session(phase=Phase.FINAL), 600, "the reply to the end of data"),
    ],
)  # fmt: skip
def test_patience_is_that_of_the_rfc(session: Session, seconds: float, what: str) -> None:
    """RFC 5321 section 4.5.3.2; connecting is not in it."""
    assert (patience_s(session), awaited(session)) == (seconds, what)


def test_every_phase_has_its_patience_and_its_name() -> None:
    assert set(client.PATIENCE_S) == set(client.AWAITED) == set(Phase)
    assert set(client.VERB_PATIENCE_S) == set(Verb)


@given(st.sampled_from((421, 450, 451, 550, 554)), st.lists(st.text(max_size=900), max_size=5))
def test_a_verdict_is_bounded_and_printable(code: int, lines: list[str]) -> None:
    session = Session(phase=Phase.FINAL, transaction=ONE, verdicts=(None,), answered=1)
    _, effects = step(
        session, Replied(Reply(code=code, enhanced=None, lines=tuple(lines))), OPTIONS
    )
    (verdict,) = next(effect for effect in effects if isinstance(effect, Done)).verdicts
    assert verdict.said
    assert verdict.text.startswith(str(code))
    assert verdict.text.isascii()
    assert verdict.text.isprintable()
    assert len(verdict.text) <= client.TEXT_OCTETS


def test_derived_codes_fit() -> None:
    for code, enhanced in client.ENHANCED.items():
        assert Reply(code=code, enhanced=enhanced, lines=()).code == code


# -- tables ---------------------------------------------------------------------------------------

EVENT_TYPES = (
    Connected, Replied, NotAReply, Begin, ContentSent, Lost, TimedOut, Finish, Hurry)  # fmt: skip


def test_the_tables_are_total() -> None:
    assert set(EVENTS) == {(phase, kind) for phase in Phase for kind in EVENT_TYPES}
    expected = {*Phase, *Verb} - {Phase.NEW, Phase.ENVELOPE, Phase.CLOSED}
    assert set(REPLIES) == {(what, digit) for what in expected for digit in (2, 3, 4, 5)}


def test_no_server_reaches_what_is_ours() -> None:
    """What comes from outside has a row wherever there is a connection."""
    outside = (Replied, NotAReply, Lost, TimedOut)
    ours = {where for where, row in EVENTS.items() if row is OURS and where[1] in outside}
    assert ours == {(Phase.NEW, Replied), (Phase.NEW, NotAReply)}


@pytest.mark.parametrize("session", [
    Session(phase=Phase.GREETING, transaction=ONE, verdicts=(None,)),
    Session(phase=Phase.FINAL, transaction=ONE, verdicts=(None,)),
])  # fmt: skip
def test_a_second_transaction_at_a_time_is_ours(session: Session) -> None:
    for each in (Begin(ONE), Finish()):
        with pytest.raises(ImpossibleError):
            step(session, each, OPTIONS)


def test_closed_is_the_end() -> None:
    closed = Session(phase=Phase.CLOSED)
    for each in EVENTS_TRIED:
        after, effects = step(closed, each, OPTIONS)
        assert after == closed
        assert all(isinstance(effect, Done) for effect in effects)


# -- every reachable session ----------------------------------------------------------------------

EVENTS_TRIED: tuple[Event, ...] = (
    Connected(), Begin(ONE), Begin(TWO), Begin(EIGHT), ContentSent(), Lost(), TimedOut(), Finish(),
    Hurry(), *map(event, ("250", "250-hi\r\n250-PIPELINING\r\n250 SIZE", "250-hi\r\n250 SIZE 9",
                          "354", "421", "451", "550", "552", "nonsense")),
)  # fmt: skip

StepUnderTest = Callable[[Session, Event, ClientOptions], tuple[Session, tuple[Effect, ...]]]


def edges(session: Session) -> Iterator[Event]:
    for each in EVENTS_TRIED:
        ours = EVENTS[session.phase, type(each)] is OURS
        busy = session.transaction is not None and isinstance(each, Begin | Finish)
        if not ours and not busy:
            yield each


def search(take: StepUnderTest) -> tuple[int, set[str]]:
    """All sessions that any sequence of events reaches: how many, and what is broken."""
    known, todo, broken = {Session()}, [Session()], set[str]()
    while todo:
        before = todo.pop()
        for each in edges(before):
            try:
                after, effects = take(before, each, OPTIONS)
            except Exception as error:  # a mutant's next step, from where nothing should be
                broken.add(repr(error))
                continue
            broken |= {*broken_by_step(before, each, after, effects), *broken_invariants(after)}
            if after not in known:
                known.add(after)
                todo.append(after)
    return len(known), broken


def test_every_reachable_session_is_sound() -> None:
    count, broken = search(step)
    assert broken == set()
    assert count > 200


def becoming(*effects: Effect, **changes: object) -> client.Action:
    return lambda session, *_: (replace(session, **changes), effects)  # type: ignore[arg-type]


def _delivered(session: Session, *_: object) -> client.Step:
    done = Done(verdicts=(GOOD,) * len(session.verdicts), destination="alive", usable=False)
    return Session(phase=Phase.CLOSED), (done, Close())


def _hopeful(session: Session, *_: object) -> client.Step:
    return replace(session, phase=Phase.FINAL, verdicts=(GOOD,) * len(session.verdicts)), ()


def _data_for_nobody(session: Session, *_: object) -> client.Step:
    verdicts = (BAD,) * len(session.verdicts)
    return client._send(replace(session, verdicts=verdicts, answered=len(verdicts)), (Verb.DATA,))


def _deaf_to_421(session: Session, event: Replied, options: ClientOptions) -> client.Step:
    row = REPLIES[session.outstanding[0], event.reply.code // 100]
    return row(session, event.reply, options)


GOOD = client.Verdict(kind="delivered", enhanced="2.0.0", text="", said=False)
BAD = client.Verdict(kind="failed", enhanced="5.0.0", text="", said=True)
USABLE = Done(verdicts=(), destination="alive", usable=True)

#: (what is awaited or the phase, digit or event, what stands in its row, what must break)
MUTANTS: list[tuple[Phase | Verb, int | type, client.Action, str]] = [
    (Phase.CONTENT, 2, _delivered, "delivered only by the reply to the content"),
    (Phase.FINAL, Lost, _delivered, "delivered only by the reply to the content"),
    (Phase.FINAL, 5, _delivered, "a verdict stands"),
    (Phase.FINAL, 2, client._turned_away, "taken is delivered"),
    (Phase.FINAL, 2, becoming(phase=Phase.READY), "a transaction while one is under way"),
    (Phase.FINAL, Hurry, client._give_back, "returned or elsewhere only while no end was sent"),
    (Phase.GREETING, 5, client._answered_content, "failed only by a refusal for good"),
    (Phase.GREETING, 4, becoming(USABLE), "usable is ready"),
    (Phase.ENVELOPE, NotAReply, client._quit, "every transaction has one Done, complete"),
    (Phase.ENVELOPE, Replied, _deaf_to_421, "after 421 only the end"),
    (Phase.CONTENT, Hurry, client._hurry, "hurried only while the last reply is awaited"),
    (
        Phase.CONTENT,
        ContentSent,
        _hopeful,
        "a verdict before the end is a refusal",
    ),
    (Phase.READY, Begin, becoming(transaction=ONE), "a place for a verdict per recipient"),
    (Phase.READY, Finish, becoming(phase=Phase.QUIT), "nothing is known of a server before EHLO"),
    (Phase.READY, Lost, becoming(Close()), "closing is the end"),
    (Verb.MAIL, 2, client._go_ahead, "content for somebody"),
    (Verb.MAIL, 4, becoming(answered=1), "verdicts by RCPT, or all by MAIL"),
    (Verb.RCPT, 4, client._greeted, "one thing is sent, when nothing is outstanding"),
    (Verb.RCPT, 5, client._go_on, "outstanding commands in ENVELOPE, in order"),
    (Verb.RCPT, 5, _data_for_nobody, "DATA for somebody, or in a group"),
]


def test_every_invariant_has_a_mutant() -> None:
    assert {mutant[3] for mutant in MUTANTS} == {*INVARIANTS, *STEP_INVARIANTS}


@pytest.mark.parametrize(("what", "on", "row", "invariant"), MUTANTS)
def test_the_search_notices_a_mutant(
    what: Phase | Verb, on: int | type, row: client.Action, invariant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    table = REPLIES if isinstance(on, int) else EVENTS
    assert (what, on) in table
    monkeypatch.setitem(table, (what, on), row)  # type: ignore[arg-type]
    assert invariant in search(step)[1]
