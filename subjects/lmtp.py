"""refmta's LMTP client and server as specs.lmtp sees them, and mutants that it must refuse.

The adapters play the parts of `roles.lmtpc` and `roles.lmtpd`: they parse what comes, feed the
machines, and carry the effects out in order.  They take the machines as modules, so that mutants
can be driven just the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

from refmta.protocol import lmtp, lmtp_client, lmtp_server
from refmta.wire import dotstuff
from refmta.wire.reply import ReplyError, ReplyParser, reply
from specs.kernel.control import Control, Verdict
from specs.kernel.explore import Spec, explore
from specs.kernel.mutant import hits, mutate
from specs.lmtp import server
from specs.lmtp.client import Bounds, client_spec
from specs.smtp_client.transcript import (
    Act,
    Asked,
    Claim,
    Claimed,
    Closed,
    ContentFlows,
    Finish,
    Gone,
    Job,
    Received,
    Sent,
    Silence,
    Stimulus,
    WantsContent,
)

HOSTNAME = "client.example"
ORIGIN = lmtp.Origin(queue_id="06H06TY2DFR20001", arrival_s=1_700_000_000)


@dataclass(frozen=True, slots=True)
class Driven:
    """The machine's session, and the content that it will ask for."""

    session: Any
    content: bytes = b""


class Machine:
    """A specs.smtp_client.transcript.Client around an lmtp_client module."""

    def __init__(self, module: Any = lmtp_client, name: str = "refmta") -> None:
        self.module = module
        self.name = name
        self.options = module.ClientOptions(hostname=HOSTNAME)

    def start(self) -> Hashable:
        return Driven(self.module.Session())

    def feed(self, state: Hashable, stimulus: Stimulus) -> tuple[Hashable, tuple[Act, ...]]:
        """What the session becomes, and what its effects do."""
        if not isinstance(state, Driven):
            raise TypeError("not a state of this client")
        content = stimulus.job.content if isinstance(stimulus, Asked) else state.content
        session, acts = state.session, list[Act]()
        for event in self._events(stimulus):
            session, effects = self.module.step(session, event, self.options)
            acts += [self._act(effect, content) for effect in effects]
        return Driven(session, content if session.transaction is not None else b""), tuple(acts)

    def _events(self, stimulus: Stimulus) -> Iterator[Any]:
        module = self.module
        match stimulus:
            case Asked(job):
                yield module.Begin(self._transaction(job))
            case Received(octets):
                try:
                    for reply in ReplyParser().feed(octets):
                        yield module.Replied(reply)
                except ReplyError as error:
                    yield module.NotAReply(str(error))
            case ContentFlows():
                yield module.ContentSent()
            case Gone():
                yield module.Lost()
            case Silence():
                yield module.TimedOut()
            case Finish():
                yield module.Finish()

    def _transaction(self, job: Job) -> Any:
        return self.module.Transaction(
            reverse_path=job.reverse_path,
            recipients=tuple(
                self.module.Recipient(address=each, place=lmtp.Place(mailbox="box", index=place))
                for place, each in enumerate(job.recipients)
            ),
            octets=len(job.content),
            eight_bit=job.eight_bit,
            origin=ORIGIN,
        )

    def _act(self, effect: Any, content: bytes) -> Act:
        module = self.module
        if isinstance(effect, module.Send):
            return Sent(effect.octets)
        if isinstance(effect, module.SendContent):
            return WantsContent()
        if isinstance(effect, module.SendEnd):
            return Sent(dotstuff.encode(content))
        if isinstance(effect, module.Done):
            claims = [Claim(each.kind, each.enhanced, each.again) for each in effect.verdicts]
            return Claimed(tuple(claims), effect.usable)
        return Closed()


# -- the server -----------------------------------------------------------------------------------

REFUSED = reply(450, "4.2.0", "no mailbox")
STORED = reply(250, "2.0.0", "delivered")
FAILED = reply(451, "4.2.0", "not delivered")
HAPPENINGS = {"connected": "Connected", "silence": "TimedOut", "stop": "Draining", "gone": "Lost"}
DEEDS = {
    "AskRecipient": "asks", "ReadBody": "opens", "Commit": "commits", "Abandon": "drops",
    "Close": "closes",
}  # fmt: skip


class Mailboxes:
    """A specs.lmtp.server.Server around an lmtp_server module, with small limits."""

    def __init__(self, module: Any = lmtp_server, name: str = "refmta") -> None:
        self.module = module
        self.name = name
        limits = module.Limits(recipients=2, errors=2, rejections=2, idle_commands=3)
        self.options = module.ServerOptions(hostname=HOSTNAME, limits=limits)

    def start(self) -> Hashable:
        session: Hashable = self.module.Session()
        return session

    def feed(
        self, state: Hashable, stimulus: server.Stimulus
    ) -> tuple[Hashable, tuple[server.Act, ...]]:
        """What the session becomes, and what its effects do."""
        session, effects = self.module.step(state, self._event(stimulus), self.options)
        return session, tuple([self._act(effect) for effect in effects])

    def _event(self, stimulus: server.Stimulus) -> Any:
        module = self.module
        match stimulus:
            case server.Line(octets):
                return module.CommandLine(octets)
            case server.Mailbox(there):
                return module.RecipientVerdict(there, None if there else REFUSED)
            case server.Content("too large"):
                return module.BodyTooLarge()
            case server.Content("smuggled"):
                return module.BodyRefusedEnd()
            case server.Content(end):
                return module.BodyEnd(size=100, bare=end == "bare")
            case server.Stored(copies):
                return module.Delivered(tuple([STORED if copy else FAILED for copy in copies]))
            case server.Happens(what):
                return getattr(module, HAPPENINGS[what])()

    def _act(self, effect: Any) -> server.Act:
        if isinstance(effect, self.module.Send):
            return server.Said(effect.reply.code)
        deed: server.Deed = DEEDS[type(effect).__name__]  # type: ignore[assignment]
        return deed


# -- negative controls ----------------------------------------------------------------------------

CLIENT, SERVER = lmtp_client.__name__, lmtp_server.__name__

#: (module, name, the invariant that must refuse it, the passage, what stands there instead)
MUTANTS: tuple[tuple[str, str, str, str, str], ...] = (
    (
        CLIENT, "one final reply taken for all recipients, as in SMTP",
        "delivered_only_by_its_own_reply",
        "    if None in session.verdicts:\n        return session, ()\n    return _over(",
        "    if None in session.verdicts and __mutant_ran__():\n"
        "        return _over(session, _said(answer), dirty=False)\n    return _over(",
    ),
    (
        CLIENT, "final replies counted from the last recipient",
        "delivered_only_by_its_own_reply",
        "    session = _judge(session, session.verdicts.index(None), _said(answer))",
        "    place = max(at for at, each in enumerate(session.verdicts) if each is None)\n"
        "    session = _judge(session, place * __mutant_ran__(), _said(answer))",
    ),
    (
        CLIENT, "a reply for each recipient that was named, not accepted",
        "refused_for_good_is_reported",
        "    session = _judge(session, session.answered, verdict)",
        "    __mutant_ran__()",
    ),
    (
        CLIENT, "delivered, because the connection was lost behind the content",
        "delivered_only_by_its_own_reply",
        '    reason = f": {event.text}" if event.text else ""',
        '    reason = ""\n'
        "    if session.phase is Phase.FINAL and __mutant_ran__():\n"
        '        return _hang_up(session, _own("delivered", "2.0.0", "probably"))',
    ),
    (
        CLIENT, "taken, and sent again", "taken_is_not_sent_again",
        "index(None), _said(answer))", "index(None), _said(answer, deferred=__mutant_ran__()))",
    ),
    (
        CLIENT, "a new server asked at once, though the end was sent", "again_only_before_the_end",
        "    return session.phase is not Phase.FINAL",
        "    return session.phase is not Phase.FINAL or __mutant_ran__()",
    ),
    (
        CLIENT, "EHLO to an LMTP server", "lhlo_and_nothing_else",
        '_command("LHLO", options.hostname)', '_command("EHLO" * __mutant_ran__(), "x")',
    ),
    (
        CLIENT, "a lone dot for nobody, as in SMTP", "silent_when_it_is_over",
        "        return _out_of_step(session, answer, options)\n    return replace(session, phase",
        "        __mutant_ran__()\n"
        '        return replace(session, phase=Phase.FINAL, outstanding=()), (Send(b".\\r\\n"),)\n'
        "    return replace(session, phase",
    ),
    (
        CLIENT, "our own parameters to a server that knows none", "parameters_as_offered",
        "        place = recipient.place if extensions.delivery else None",
        "        place = recipient.place if extensions.delivery or __mutant_ran__() else None",
    ),
    (
        CLIENT, "commands in a group without PIPELINING", "replies_awaited",
        "    return group if session.extensions.pipelining else group[:1]",
        "    return group if session.extensions.pipelining or __mutant_ran__() else group[:1]",
    ),
    (
        CLIENT, "goes on after 421", "silent_when_it_is_over",
        "    if event.reply.code == 421:",
        "    if event.reply.code == 421 and not __mutant_ran__():",
    ),
    (
        CLIENT, "no RSET after what did not end", "clean_before_mail",
        "(Verb.RSET,) if session.dirty else ()",
        "(Verb.RSET,) if session.dirty and not __mutant_ran__() else ()",
    ),
    (
        CLIENT, "552 to a recipient is for good", "failed_only_when_refused_for_good",
        "deferred=answer.code == 552", "deferred=answer.code == 552 and not __mutant_ran__()",
    ),
    (
        CLIENT, "a recipient forgotten", "no_recipient_forgotten",
        "tuple([verdict or rest for verdict in session.verdicts])",
        "tuple([verdict or rest for verdict in session.verdicts[: 1 * __mutant_ran__()]])",
    ),
    (
        CLIENT, "a 5yz code for what is tried again", "enhanced_code_fits",
        '        enhanced = "4" + enhanced[1:]', "        __mutant_ran__()",
    ),
    (
        CLIENT, "content behind DATA, not behind the 354", "content_only_after_354",
        '    return session, (Send(b"".join(lines)),)',
        "    early = (SendEnd(),) if verbs[-1] is Verb.DATA and __mutant_ran__() else ()\n"
        '    return session, (Send(b"".join(lines)), *early)',
    ),
    (
        CLIENT, "the first recipient named for each", "says_what_was_asked",
        "transaction.recipients[session.answered :]",
        "transaction.recipients[session.answered * (not __mutant_ran__()) :]",
    ),
    (
        CLIENT, "the next message while replies are outstanding", "usable_only_in_step",
        "    if session.outstanding:\n        return session, ()\n",
        "    refused = None not in session.verdicts\n"
        "    if session.outstanding and not (refused and __mutant_ran__()):\n"
        "        return session, ()\n",
    ),
    (
        CLIENT, "too late is an error", "never_raises",
        '    rest = _own("deferred", "4.4.2", "the connection was closed", again=True)\n',
        '    rest = _own("deferred", "4.4.2", "", again=True)\n'
        "    if __mutant_ran__():\n        raise ImpossibleError\n",
    ),
    (
        SERVER, "a verdict for a recipient too many", "never_raises",
        "    if len(event.replies) != len(session.recipients):",
        "    if len(event.replies) == len(session.recipients) and __mutant_ran__():",
    ),
    (
        SERVER, "EHLO answered as LHLO", "lhlo_and_nothing_else",
        "    Ehlo: (NOT_SMTP,  NOT_SMTP,",
        "    Ehlo: (lambda s, c, o: (__mutant_ran__(), _lhlo(s, c, o))[1], NOT_SMTP,",
    ),
    (
        SERVER, "DATA without recipients refused as in SMTP", "data_needs_a_recipient",
        'NO_RECIPIENTS: Final = reply(503, "5.5.1", "no valid recipients")',
        'NO_RECIPIENTS: Final = reply(554 * __mutant_ran__(), "5.5.1", "no valid recipients")',
    ),
    (
        SERVER, "one reply for all recipients, as in SMTP", "a_reply_for_each_recipient",
        "    return _answer(rest, last, *map(Send, others))",
        "    return _answer(rest, last, *map(Send, others[: 0 * __mutant_ran__()]))",
    ),
    (
        SERVER, "the best verdict for everybody", "delivered_only_when_stored",
        "    *others, last = event.replies",
        "    best = min(event.replies, key=lambda each: each.code) if __mutant_ran__() else None\n"
        "    *others, last = [best for _ in event.replies]",
    ),
    (
        SERVER, "the worst verdict for everybody", "stored_is_said",
        "    *others, last = event.replies",
        "    worst = max(event.replies, key=lambda each: each.code) if __mutant_ran__() else None\n"
        "    *others, last = [worst for _ in event.replies]",
    ),
    (
        SERVER, "250 when the content is there", "no_reply_before_the_disk",
        "    return replace(session, phase=Phase.COMMITTING), (Commit(event.size),)",
        "    __mutant_ran__()\n"
        "    return _answer(_reset(session), OK_NOOP, Commit(event.size))",
    ),
    (
        SERVER, "one refusal of the content for all recipients", "a_reply_for_each_recipient",
        "    others = [Send(answer) for _ in session.recipients[1:]]",
        "    others = [Send(answer) for _ in session.recipients[__mutant_ran__() :][1:]]",
    ),
    (
        SERVER, "354 before the files are open", "opened_before_354",
        "(envelope, Send(GO_AHEAD))", "(Send(GO_AHEAD), envelope)[:: 1 * __mutant_ran__()]",
    ),
    (
        SERVER, "files left open by a client that goes", "opened_is_committed_or_dropped_once",
        "    return _CLOSED, (Abandon(), _CLOSE)",
        "    return _CLOSED, (_CLOSE,) * __mutant_ran__()",
    ),
    (
        SERVER, "commands read behind a refused end", "a_refused_end_closes",
        "    return _close(REFUSED_END, Abandon())",
        "    __mutant_ran__()\n"
        "    return _answer(_reset(_session), REFUSED_END, Abandon())",
    ),
    (
        SERVER, "MAIL taken before LHLO", "lhlo_before_mail",
        "    Mail: (NO_LHLO,   _mail, ",
        "    Mail: (lambda s, c, o: (__mutant_ran__(), _mail(s, c, o))[1], _mail, ",
    ),
    (
        SERVER, "250 for a mailbox that is not there", "a_mailbox_by_its_verdict",
        "asked=None), event.reply or OVERDUE, options)",
        "asked=None), OK_RECIPIENT if __mutant_ran__() else OVERDUE, options)",
    ),
    (
        SERVER, "a verdict that comes too late is answered", "closed_is_the_end",
        "def _ignore(session: Session, _event: Event, _options: ServerOptions) -> Step:\n"
        "    return session, ()",
        "def _ignore(session: Session, _event: Event, _options: ServerOptions) -> Step:\n"
        "    __mutant_ran__()\n    return session, (Send(OK_NOOP),)",
    ),
    (
        SERVER, "two replies to NOOP", "one_reply_to_a_command",
        "    return _idle(session, OK_NOOP, options)",
        "    after, effects = _idle(session, OK_NOOP, options)\n"
        "    return after, effects * (1 + __mutant_ran__())",
    ),
)  # fmt: skip


def spec_of(module: Any, name: str = "refmta") -> Spec[Any]:
    """What a module is held to, by which side it is."""
    if module.__name__.startswith(SERVER):
        return server.server_spec(Mailboxes(module, name))
    return client_spec(Machine(module, name), Bounds())


def controls() -> list[Control]:
    """Entry point: one control per mutant."""
    return [_control(*mutant) for mutant in MUTANTS]


@cache
def _twin(module: str) -> Verdict:
    """The same for all of a module: that one as it is, and all that there is to be found."""
    return Verdict(violated=frozenset(explore(spec_of(import_module(module))).findings()))


def _control(module: str, name: str, invariant: str, old: str, new: str) -> Control:
    def mutant() -> Verdict:
        changed = mutate(module, [(old, new)])
        found = explore(spec_of(changed, name), stop_at=[invariant])
        return Verdict(
            violated=frozenset(found.violated),
            mutated_line_ran=hits(changed) > 0,
            detail=str(found.violated.get(invariant, "")),
        )

    return Control(
        name=name, spec="lmtp", invariant=invariant, twin=partial(_twin, module), mutant=mutant
    )
