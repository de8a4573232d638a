"""refmta's SMTP client as specs.smtp_client sees it, and mutants of it that its judge must refuse.

The adapter plays the part of `roles.remote`, as the top of `refmta.protocol.smtp_client` describes
it: it parses what comes, feeds reply by reply, carries the effects out in order, and says each
Done as claims. It takes the machine as a module, so that mutants can be driven just the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from refmta.protocol import smtp_client
from refmta.wire import dotstuff
from refmta.wire.reply import ReplyError, ReplyParser
from specs.kernel.control import Control, Verdict
from specs.kernel.explore import explore
from specs.kernel.mutant import hits, mutate
from specs.smtp_client.spec import Bounds, client_spec
from specs.smtp_client.transcript import (
    Act,
    Asked,
    Claim,
    Claimed,
    Closed,
    Connected,
    ContentFlows,
    Finish,
    Gone,
    Hurry,
    Job,
    Received,
    Sent,
    Silence,
    Stimulus,
    WantsContent,
)

HOSTNAME = "client.example"


@dataclass(frozen=True, slots=True)
class Driven:
    """The machine's session, and the content that it will ask for."""

    session: Any
    content: bytes = b""


class Machine:
    """A specs.smtp_client.transcript.Client around a smtp_client module."""

    def __init__(self, module: Any = smtp_client, name: str = "refmta") -> None:
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
                yield from self._replies(octets)
            case Connected():
                yield module.Connected()
            case ContentFlows():
                yield module.ContentSent()
            case Gone():
                yield module.Lost()
            case Silence():
                yield module.TimedOut()
            case Finish():
                yield module.Finish()
            case Hurry():
                yield module.Hurry()

    def _replies(self, octets: bytes) -> Iterator[Any]:
        """Whole replies, as the spec sends them."""
        try:
            for reply in ReplyParser().feed(octets):
                yield self.module.Replied(reply)
        except ReplyError as error:
            yield self.module.NotAReply(str(error))

    def _transaction(self, job: Job) -> Any:
        return self.module.Transaction(
            reverse_path=job.reverse_path,
            recipients=job.recipients,
            octets=len(job.content),
            eight_bit=job.eight_bit,
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
            return Claimed(tuple(map(_claim, effect.verdicts)), effect.usable)
        return Closed()


def _claim(verdict: Any) -> Claim:
    return Claim(verdict.kind, verdict.enhanced, verdict.elsewhere)


def client() -> Machine:
    """Entry point: the client that refmta uses."""
    return Machine()


# -- negative controls ----------------------------------------------------------------------------

MODULE = smtp_client.__name__
BOUNDS = Bounds(recipients=(2, 1), hurries=1)

#: (name, the invariant that must refuse it, the passage, what stands there instead)
MUTANTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "the 250 of an earlier command taken for the last",
        "delivered_only_by_the_final_reply",
        '    text = f"out of step: instead',
        "    if session.outstanding and answer.code < 300 and __mutant_ran__():\n"
        "        return _answered_content(session, answer, _options)\n"
        '    text = f"out of step: instead',
    ),
    (
        "a 250 before the content's end taken for the last",
        "delivered_only_by_the_final_reply",
        '    text = f"out of step: instead',
        "    if session.phase is Phase.CONTENT and answer.code < 300 and __mutant_ran__():\n"
        "        return _hang_up(session, _said(answer))\n"
        '    text = f"out of step: instead',
    ),
    (
        "delivered at the 354",
        "delivered_only_by_the_final_reply",
        "        return replace(session, phase=Phase.CONTENT), (SendContent(),)",
        "        __mutant_ran__()\n"
        '        return _hang_up(session, _own("delivered", "2.0.0", "354"))',
    ),
    (
        "delivered, because the connection was lost behind the content",
        "delivered_only_by_the_final_reply",
        '    reason = f": {event.text}" if event.text else ""',
        '    reason = ""\n'
        "    if session.phase is Phase.FINAL and __mutant_ran__():\n"
        '        return _hang_up(session, _own("delivered", "2.0.0", "probably"))',
    ),
    (
        "taken, and sent again",
        "taken_is_not_sent_again",
        "    return _over(session, _said(answer), dirty=False)",
        "    return _over(session, _said(answer, deferred=__mutant_ran__()), dirty=False)",
    ),
    (
        "552 to a recipient is for good",
        "failed_only_when_refused_for_good",
        "deferred=answer.code == 552",
        "deferred=answer.code == 552 and not __mutant_ran__()",
    ),
    (
        "a refusal for good is tried again",
        "refused_for_good_is_reported",
        "    verdict = _said(answer)\n",
        "    verdict = _said(answer, deferred=__mutant_ran__())\n",
    ),
    (
        "given back after the end of data",
        "returned_only_before_the_end",
        "    return replace(session, hurried=True), ()",
        "    __mutant_ran__()\n    return _give_back(session, _event, _options)",
    ),
    (
        "sent elsewhere at once, though the end was sent",
        "elsewhere_only_before_the_end",
        "    return session.phase is not Phase.FINAL",
        "    return session.phase is not Phase.FINAL or __mutant_ran__()",
    ),
    (
        "a recipient forgotten",
        "no_recipient_forgotten",
        "tuple(verdict or rest for verdict in session.verdicts)",
        "tuple(verdict or rest for verdict in session.verdicts[: 1 * __mutant_ran__()])",
    ),
    (
        "a 5yz code for what is tried again",
        "enhanced_code_fits",
        '        enhanced = "4" + enhanced[1:]',
        "        __mutant_ran__()",
    ),
    (
        "commands in a group without PIPELINING",
        "replies_awaited",
        "    return group if session.extensions.pipelining else group[:1]",
        "    return group if session.extensions.pipelining or __mutant_ran__() else group[:1]",
    ),
    (
        "goes on after 421",
        "silent_after_421",
        "    if event.reply.code == 421:",
        "    if event.reply.code == 421 and not __mutant_ran__():",
    ),
    (
        "goes on after what was no reply",
        "silent_when_out_of_step",
        '    text = f"no reply while',
        '    if __mutant_ran__():\n        return session, ()\n    text = f"no reply while',
    ),
    (
        "content behind DATA, not behind the 354",
        "content_only_after_354",
        '    return session, (Send(b"".join(lines)),)',
        "    early = (SendEnd(),) if verbs[-1] is Verb.DATA and __mutant_ran__() else ()\n"
        '    return session, (Send(b"".join(lines)), *early)',
    ),
    (
        "content for nobody",
        "content_is_the_message",
        "    if None in session.verdicts:\n",
        "    if None in session.verdicts or __mutant_ran__():\n",
    ),
    (
        "the first recipient named for each",
        "says_what_was_asked",
        "transaction.recipients[session.answered :]",
        "transaction.recipients[session.answered * (not __mutant_ran__()) :]",
    ),
    (
        "SIZE said, though nobody offered it",
        "parameters_as_offered",
        "    if extensions.size is not None:",
        "    if extensions.size is not None or __mutant_ran__():",
    ),
    (
        "more than SIZE allows is sent",
        "parameters_as_offered",
        "    if extensions.size and transaction.octets > extensions.size:",
        "    if extensions.size and transaction.octets > extensions.size and not __mutant_ran__():",
    ),
    (
        "no RSET after what did not end",
        "clean_before_mail",
        "(Verb.RSET,) if session.dirty else ()",
        "(Verb.RSET,) if session.dirty and not __mutant_ran__() else ()",
    ),
    (
        "MAIL, though EHLO was refused",
        "hello_before_mail",
        '    hello = _command("HELO", options.hostname)\n',
        '    if __mutant_ran__():\n        return _start(session)\n    hello = b""\n',
    ),
    (
        "the next message while replies are outstanding",
        "usable_only_in_step",
        "    if session.outstanding:\n        return session, ()\n",
        "    refused = None not in session.verdicts\n"
        "    if session.outstanding and not (refused and __mutant_ran__()):\n"
        "        return session, ()\n",
    ),
    (
        "too late is an error",
        "never_raises",
        '    rest = _own("deferred", "4.4.2", "the connection was closed", elsewhere=True)\n',
        '    rest = _own("deferred", "4.4.2", "", elsewhere=True)\n'
        "    if __mutant_ran__():\n        raise ImpossibleError\n",
    ),
)


def controls() -> list[Control]:
    """Entry point: one control per mutant."""
    return [_control(*mutant) for mutant in MUTANTS]


@cache
def _twin() -> Verdict:
    """The same for all: the client as it is."""
    found = explore(client_spec(client(), BOUNDS))
    return Verdict(violated=frozenset(found.violated), detail="; ".join(found.findings()))


def _control(name: str, invariant: str, old: str, new: str) -> Control:
    def mutant() -> Verdict:
        changed = mutate(MODULE, [(old, new)])
        found = explore(client_spec(Machine(changed, name), BOUNDS), stop_at=[invariant])
        return Verdict(
            violated=frozenset(found.violated),
            mutated_line_ran=hits(changed) > 0,
            detail=str(found.violated.get(invariant, "")),
        )

    return Control(name=name, spec="smtp_client", invariant=invariant, twin=_twin, mutant=mutant)
