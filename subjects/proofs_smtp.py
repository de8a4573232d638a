"""Proofs of one step of the SMTP server, and of the retry schedule, for CrossHair.

Theory. `refmta.protocol.smtp_server` names what always holds of a session (INVARIANTS) and of one
step (STEP_INVARIANTS). Each function here builds a session that fulfils the invariants from a few
symbolic numbers (and checks that it does), feeds it every event of one class, and says which
invariants are broken after it: none. With the initial session, which `initial` covers, that is the
step of an induction over all sequences of events.

What is symbolic: the counters that the rows at hand change, between 0 and their limits, declared
and actual size, phase, flags, and which event. What is not: the texts of addresses and replies
(the step never looks into them), fields that the rows at hand only carry along, and the number of
recipients, which is 0, 1 or 2 with a limit of 2. The unit tests search every state that can be
reached with small limits, which covers the combinations left out here. Parsing is not part of it:
a command arrives parsed, as `obey` gets it.

Every postcondition is confirmed over all paths, in about 30 seconds for all of them, by
`crosshair check --analysis_kind=PEP316 --per_condition_timeout=40 --report_all`; CrossHair's
default of five uninteresting iterations confirms only the smallest.

An ImpossibleError counts as a failure: no function filters it out.
"""

from __future__ import annotations

from dataclasses import replace

from refmta.protocol.schedule import Schedule, base_delay_s, expired, lengthened_s
from refmta.protocol.smtp_server import (
    COMMAND_PHASES,
    BodyEnd,
    BodyRefusedEnd,
    BodyTooLarge,
    CommandLine,
    CommitVerdict,
    Connected,
    Draining,
    Event,
    Limits,
    LineTooLong,
    Lost,
    Phase,
    RecipientVerdict,
    ServerOptions,
    Session,
    Step,
    TimedOut,
    broken_by_step,
    broken_invariants,
    obey,
    step,
)
from refmta.wire.address import Mailbox
from refmta.wire.command import (
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
)
from refmta.wire.reply import Reply, reply

OPTIONS = ServerOptions(hostname="mx.example", limits=Limits(recipients=2))
LIMITS = OPTIONS.limits
ADA = Mailbox(local="ada", domain="example.org")
BOB = Mailbox(local="bob", domain="example.org")
LATER = reply(451, "4.3.0", "later")
FULL = reply(452, "4.3.1", "full")
NEVER = reply(550, "5.1.1", "never")

#: Every verb; several of each whose arguments matter to the step.
COMMANDS: tuple[Command, ...] = (
    Ehlo(domain="client.example"),
    Helo(domain="client.example"),
    Mail(reverse_path=ADA, parameters=()),
    Mail(reverse_path=None, parameters=(("BODY", "8BITMIME"),)),
    Mail(reverse_path=ADA, parameters=(("BODY", "9BIT"),)),
    Mail(reverse_path=ADA, parameters=(("SIZE", "1000"),)),
    Mail(reverse_path=ADA, parameters=(("SIZE", str(LIMITS.message_octets + 1)),)),
    Mail(reverse_path=ADA, parameters=(("SIZE", None),)),
    Mail(reverse_path=ADA, parameters=(("AUTH", "<>"),)),
    Rcpt(forward_path=BOB, parameters=()),
    Rcpt(forward_path=BOB, parameters=(("NOTIFY", "NEVER"),)),
    Data(),
    Rset(),
    Noop(argument=""),
    Quit(),
    Vrfy(argument="ada"),
    Expn(argument="list"),
    Help(argument=""),
)
VERDICTS = (
    RecipientVerdict(accepted=True),
    RecipientVerdict(accepted=True, reply=reply(251, "2.1.5", "will forward")),
    RecipientVerdict(accepted=False, reply=NEVER),
    RecipientVerdict(accepted=False, reply=LATER),
)
COMMITS = (CommitVerdict(queue_id="0ABC"), CommitVerdict(reply=FULL), CommitVerdict(reply=NEVER))
ANY_TIME = (TimedOut(), Draining(), Lost())


def _session(
    phase: Phase, errors: int, rejections: int, idle: int, extended: bool = True
) -> Session:
    """A session of this phase with as little in it as the invariants allow."""
    greeted = phase not in (Phase.NEW, Phase.CONNECTED, Phase.CLOSED)
    return Session(
        phase=phase,
        helo="client.example" if greeted else "",
        extended=extended and greeted,
        errors=errors,
        rejections=rejections,
        idle_commands=idle,
    )


def _with_envelope(session: Session, recipients: int, null_path: bool, size: int) -> Session:
    """The session in the middle of a transaction."""
    return replace(
        session,
        reverse_path=None if null_path else ADA,
        recipients=(BOB, ADA)[:recipients],
        asked=BOB if session.phase is Phase.RCPT_ASKED else None,
        size=size,
        body="8BITMIME",
    )


def _broken(before: Session, event: Event, after: Step) -> list[str]:
    session, effects = after
    return [
        *broken_invariants(before, OPTIONS),  # of what was built here: the proof is not vacuous
        *broken_by_step(before, event, session, effects),
        *broken_invariants(session, OPTIONS),
    ]


LINE = CommandLine(b"stands for the command that obey got")


def initial(hostname: str) -> list[str]:
    """
    post: __return__ == []
    """
    return broken_invariants(Session(), ServerOptions(hostname=hostname))


def command_before_mail(
    greeted: bool, extended: bool, verb: int, errors: int, rejections: int, idle: int
) -> list[str]:
    """
    pre: 0 <= verb < len(COMMANDS)
    pre: 0 <= errors < LIMITS.errors
    pre: 0 <= rejections < LIMITS.rejections
    pre: 0 <= idle < LIMITS.idle_commands
    post: __return__ == []
    """
    phase = Phase.GREETED if greeted else Phase.CONNECTED
    before = _session(phase, errors, rejections, idle, extended)
    return _broken(before, LINE, obey(before, COMMANDS[verb], OPTIONS))


def _transaction(
    recipients: int, extended: bool, errors: int, rejections: int, idle: int, size: int
) -> Session:
    phase = Phase.RCPT if recipients else Phase.MAIL
    session = _session(phase, errors, rejections, idle, extended)
    return _with_envelope(session, recipients, False, size)


def command_without_recipients(
    extended: bool, verb: int, errors: int, rejections: int, idle: int, size: int
) -> list[str]:
    """
    pre: 0 <= verb < len(COMMANDS)
    pre: 0 <= errors < LIMITS.errors
    pre: 0 <= rejections < LIMITS.rejections
    pre: 0 <= idle < LIMITS.idle_commands
    pre: 0 <= size <= LIMITS.message_octets
    post: __return__ == []
    """
    before = _transaction(0, extended, errors, rejections, idle, size)
    return _broken(before, LINE, obey(before, COMMANDS[verb], OPTIONS))


def command_with_recipients(
    second: bool, extended: bool, verb: int, errors: int, rejections: int, idle: int, size: int
) -> list[str]:
    """
    pre: 0 <= verb < len(COMMANDS)
    pre: 0 <= errors < LIMITS.errors
    pre: 0 <= rejections < LIMITS.rejections
    pre: 0 <= idle < LIMITS.idle_commands
    pre: 0 <= size <= LIMITS.message_octets
    post: __return__ == []
    """
    before = _transaction(2 if second else 1, extended, errors, rejections, idle, size)
    return _broken(before, LINE, obey(before, COMMANDS[verb], OPTIONS))


def line_too_long(phase: int, errors: int) -> list[str]:
    """
    pre: 0 <= phase < len(COMMAND_PHASES)
    pre: 0 <= errors < LIMITS.errors
    post: __return__ == []
    """
    before = _session(COMMAND_PHASES[phase], errors, 0, 0)
    before = replace(before, recipients=(BOB,) if before.phase is Phase.RCPT else ())
    return _broken(before, LineTooLong(), step(before, LineTooLong(), OPTIONS))


def recipient_verdict(
    recipients: int, verdict: int, rejections: int, draining: bool, null_path: bool, size: int
) -> list[str]:
    """
    pre: 0 <= recipients < LIMITS.recipients
    pre: 0 <= verdict < len(VERDICTS)
    pre: 0 <= rejections < LIMITS.rejections
    pre: 0 <= size <= LIMITS.message_octets
    post: __return__ == []
    """
    session = _session(Phase.RCPT_ASKED, 0, rejections, 0)
    before = _with_envelope(replace(session, draining=draining), recipients, null_path, size)
    return _broken(before, VERDICTS[verdict], step(before, VERDICTS[verdict], OPTIONS))


def _in_body(
    phase: Phase, errors: int, idle: int, draining: bool, refused: bool, null_path: bool
) -> Session:
    session = _session(phase, errors, 0, idle)
    kept: Reply | None = FULL if refused and phase is Phase.BODY else None
    return _with_envelope(replace(session, draining=draining, refused=kept), 2, null_path, 0)


def body_end(
    size: int, bare: bool, errors: int, idle: int, draining: bool, refused: bool, null_path: bool
) -> list[str]:
    """
    pre: 0 <= size
    pre: 0 <= errors < LIMITS.errors
    pre: 0 <= idle < LIMITS.idle_commands
    post: __return__ == []
    """
    before = _in_body(Phase.BODY, errors, idle, draining, refused, null_path)
    event = BodyEnd(size=size, bare=bare)
    return _broken(before, event, step(before, event, OPTIONS))


def body_refused(too_large: bool, errors: int, draining: bool, refused: bool) -> list[str]:
    """
    pre: 0 <= errors < LIMITS.errors
    post: __return__ == []
    """
    before = _in_body(Phase.BODY, errors, 0, draining, refused, False)
    event = BodyTooLarge() if too_large else BodyRefusedEnd()
    return _broken(before, event, step(before, event, OPTIONS))


def commit_verdict(verdict: int, errors: int, draining: bool, null_path: bool) -> list[str]:
    """
    pre: 0 <= verdict < len(COMMITS)
    pre: 0 <= errors < LIMITS.errors
    post: __return__ == []
    """
    before = _in_body(Phase.COMMITTING, errors, 0, draining, False, null_path)
    return _broken(before, COMMITS[verdict], step(before, COMMITS[verdict], OPTIONS))


def refused_early(permanent: bool, again: bool, draining: bool) -> list[str]:
    """
    post: __return__ == []
    """
    before = _in_body(Phase.BODY, 0, 0, draining, again, False)
    event = CommitVerdict(reply=NEVER if permanent else LATER)
    return _broken(before, event, step(before, event, OPTIONS))


def greeting(early: bool) -> list[str]:
    """
    post: __return__ == []
    """
    return _broken(Session(), Connected(early), step(Session(), Connected(early), OPTIONS))


def any_time(phase: int, event: int, errors: int, refused: bool, draining: bool) -> list[str]:
    """
    pre: 0 <= phase < len(Phase)
    pre: 0 <= event < len(ANY_TIME)
    pre: 0 <= errors < LIMITS.errors
    post: __return__ == []
    """
    here = tuple(Phase)[phase]
    if here in (Phase.RCPT, Phase.BODY, Phase.COMMITTING):
        waiting = here is not Phase.RCPT
        before = _in_body(here, errors, 0, draining and waiting, refused, False)
    else:
        before = _session(here, errors, 0, 0)
    if here is Phase.RCPT_ASKED:
        before = replace(before, asked=BOB, draining=draining)
    return _broken(before, ANY_TIME[event], step(before, ANY_TIME[event], OPTIONS))


# --- the retry schedule --------------------------------------------------------------------------

SCHEDULE = Schedule(first_s=(10, 60))


def delay_in_bounds(attempt: int, thousandths: int) -> int:
    """
    pre: 1 <= attempt
    pre: 0 <= thousandths < 1000
    post: __return__ >= 10
    post: __return__ >= SCHEDULE.minimum_s or attempt <= 2
    post: __return__ * 100 <= SCHEDULE.maximum_s * (100 + SCHEDULE.spread_percent)
    """
    return lengthened_s(base_delay_s(attempt, SCHEDULE), thousandths, SCHEDULE)


def delay_never_falls(attempt: int, thousandths: int) -> bool:
    """
    pre: 1 <= attempt
    pre: 0 <= thousandths < 1000
    post: __return__
    """
    sooner, later = base_delay_s(attempt, SCHEDULE), base_delay_s(attempt + 1, SCHEDULE)
    return lengthened_s(sooner, thousandths, SCHEDULE) <= lengthened_s(later, thousandths, SCHEDULE)


def never_given_up_early(arrival_s: int, now_s: int) -> bool:
    """
    pre: arrival_s >= 0
    pre: now_s >= 0
    post: __return__ is (now_s >= arrival_s + 5 * 24 * 60 * 60)
    """
    return expired(arrival_s, now_s, SCHEDULE)
