"""The proofs' functions, run as ordinary ones: sound on real tables, and not blind to a mutant.

CrossHair proves them; that takes longer and happens with the specs. Here each is called on a grid
of concrete arguments, and each must notice a row that was changed in what it is about.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from refmta.protocol import smtp_server as server
from refmta.protocol.smtp_server import EVENTS, VERBS, Close, Phase, Send, Session
from refmta.wire import command as commands
from subjects import proofs_smtp as proofs

Proof = Callable[..., list[str]]

PROOFS: tuple[Proof, ...] = (
    proofs.initial,
    proofs.command_before_mail,
    proofs.command_without_recipients,
    proofs.command_with_recipients,
    proofs.line_too_long,
    proofs.recipient_verdict,
    proofs.body_end,
    proofs.body_refused,
    proofs.commit_verdict,
    proofs.refused_early,
    proofs.greeting,
    proofs.any_time,
)

#: Values of each argument that are worth trying, within the preconditions.
LAST = {"errors": 9, "rejections": 999, "idle": 99, "size": 50 * 1024 * 1024}
COUNTS = {
    "phase": len(Phase),
    "event": len(proofs.ANY_TIME),
    "recipients": proofs.LIMITS.recipients,
}


def grid(proof: Proof) -> Iterator[dict[str, object]]:
    names = inspect.signature(proof, eval_str=True).parameters
    values = {name: list(_values(proof, name, names[name].annotation)) for name in names}
    for row in itertools.product(*values.values()):
        yield dict(zip(values, row, strict=True))


def _values(proof: Proof, name: str, kind: type) -> Iterator[object]:
    if kind is bool:
        yield from (False, True)
    elif kind is str:
        yield "mx.example"
    elif name in LAST:
        yield from (0, LAST[name])
    elif name == "verb":
        yield from range(len(proofs.COMMANDS))
    elif name == "verdict":
        commits = proof is proofs.commit_verdict
        yield from range(len(proofs.COMMITS if commits else proofs.VERDICTS))
    elif name == "phase" and proof is proofs.line_too_long:
        yield from range(len(server.COMMAND_PHASES))
    else:
        yield from range(COUNTS[name])


def findings(proof: Proof) -> set[str]:
    return {name for arguments in grid(proof) for name in proof(**arguments)}


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.__name__)
def test_holds_on_a_grid(proof: Proof) -> None:
    assert findings(proof) == set()


def test_all_proofs_of_steps_are_here() -> None:
    proved = {
        value
        for name, value in vars(proofs).items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and value.__module__ == proofs.__name__
        and inspect.signature(value, eval_str=True).return_annotation == list[str]
    }
    assert proved == set(PROOFS)


def _keep(session: Session, *_: object) -> server.Step:
    return session, ()


def _answer_and_keep(session: Session, *_: object) -> server.Step:
    return session, (Send(server.OK_NOOP),)


def _leave(_session: Session, *_: object) -> server.Step:
    return Session(phase=Phase.CLOSED), (Close(),)


def _uncounted(session: Session, *_: object) -> server.Step:
    return replace(session, errors=session.errors + 1), (Send(server.TOO_LONG),)


def _both(session: Session, *_: object) -> server.Step:
    return session, (Send(server.OK_NOOP), Send(server.OK_NOOP))


def _greeted(session: Session, *_: object) -> server.Step:
    return replace(session, phase=Phase.GREETED), (Send(server.OK_RESET),)


#: proof: (phase, event or verb, what stands in its row, the invariant that must break)
MUTANTS: dict[Proof, tuple[Phase, type, server.Action, str]] = {
    proofs.command_before_mail: (
        Phase.CONNECTED, commands.Rset, _greeted, "a transaction only after EHLO or HELO"),
    proofs.command_without_recipients: (
        Phase.MAIL, commands.Noop, _both, "one answer to a command"),
    proofs.command_with_recipients: (
        Phase.RCPT, commands.Rset, _greeted, "recipients only in a transaction"),
    proofs.line_too_long: (
        Phase.GREETED, server.LineTooLong, _uncounted, "every counter below its limit"),
    proofs.recipient_verdict: (
        Phase.RCPT_ASKED, server.RecipientVerdict, _greeted,
        "one recipient is asked for, when asked"),
    proofs.body_end: (
        Phase.BODY, server.BodyEnd, _answer_and_keep, "a message's 250 only for a queue id"),
    proofs.body_refused: (
        Phase.BODY, server.BodyRefusedEnd, _keep, "a refused end closes"),
    proofs.commit_verdict: (
        Phase.COMMITTING, server.CommitVerdict, _answer_and_keep,
        "a message's 250 only for a queue id"),
    proofs.any_time: (
        Phase.BODY, server.Lost, _leave, "content handed over is committed or abandoned, once"),
}  # fmt: skip


@pytest.mark.parametrize("proof", MUTANTS, ids=lambda proof: proof.__name__)
def test_notices_a_mutant(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    phase, kind, mutant, invariant = MUTANTS[proof]
    if (phase, kind) in VERBS:
        monkeypatch.setitem(VERBS, (phase, kind), mutant)
    else:
        monkeypatch.setitem(EVENTS, (phase, kind), mutant)
    assert invariant in findings(proof)
