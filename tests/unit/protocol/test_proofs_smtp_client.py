"""The proofs' functions, run as ordinary ones: sound on the real tables, and not blind to a mutant.

CrossHair proves them; that takes longer and happens with the specs. Here each is called on a grid
of concrete arguments, and each must notice a row that was changed in what it is about.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from refmta.protocol import smtp_client as client
from refmta.protocol.smtp_client import EVENTS, REPLIES, Phase, Verb
from subjects import proofs_smtp_client as proofs

Proof = Callable[..., list[str]]

PROOFS: tuple[Proof, ...] = (
    proofs.initial,
    proofs.before_mail,
    proofs.ready,
    proofs.one_command,
    proofs.in_a_group,
    proofs.after_mail_was_refused,
    proofs.content,
    proofs.final,
    proofs.at_the_end,
)

#: Values of each argument that are worth trying.
GRID: dict[str, tuple[object, ...]] = {
    "event": tuple(range(proofs.MOST)),
    "first": (0, 1, 2),
    "second": (0, 1, 2),
    "size": (-1, 0, 8, 9),
    "phase": (0, 1, 2, 3),
    "verb": (0, 1, 2, 3, 4),
    "done": (0, 1, 2, 3, 4),
    "answered": (0, 1, 2),
}


def grid(proof: Proof) -> Iterator[dict[str, object]]:
    """Without what the preconditions exclude: somebody is open where somebody has to be."""
    names = list(inspect.signature(proof).parameters)
    for row in itertools.product(*(GRID.get(name, (False, True)) for name in names)):
        arguments = dict(zip(names, row, strict=True))
        nobody = arguments.get("first") and arguments.get("second")
        if not nobody or proof is proofs.final or arguments.get("done") == 4:
            yield arguments


def findings(proof: Proof) -> set[str]:
    return {name for arguments in grid(proof) for name in proof(**arguments)}


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.__name__)
def test_holds_on_a_grid(proof: Proof) -> None:
    assert findings(proof) == set()


def test_all_proofs_are_here() -> None:
    proved = {
        value
        for value in vars(proofs).values()
        if inspect.isfunction(value) and "post:" in (value.__doc__ or "")
    }
    assert proved == set(PROOFS)


def test_every_event_is_tried_where_it_may_happen() -> None:
    tried = {(phase, type(event)) for phase in Phase for event in proofs.IDLE[phase]}
    assert tried == {where for where, row in EVENTS.items() if row is not client.OURS}


def becoming(*effects: client.Effect, **changes: object) -> client.Action:
    return lambda session, *_: (replace(session, **changes), effects)  # type: ignore[arg-type]


#: proof: (phase or verb, event or digit, what stands in its row, the invariant that must break)
MUTANTS: dict[Proof, tuple[Phase | Verb, type | int, client.Action, str]] = {
    proofs.before_mail: (
        Phase.EHLO, 4, client._close, "every transaction has one Done, complete"),
    proofs.ready: (
        Phase.READY, client.Finish, becoming(phase=Phase.QUIT),
        "nothing is known of a server before EHLO"),
    proofs.one_command: (
        Verb.RSET, 2, client._go_ahead, "content for somebody"),
    proofs.in_a_group: (
        Verb.RCPT, 5, client._go_on, "outstanding commands in ENVELOPE, in order"),
    proofs.after_mail_was_refused: (
        Verb.DATA, 3, becoming(phase=Phase.CONTENT, outstanding=()), "content for somebody"),
    proofs.content: (
        Phase.CONTENT, 2, client._answered_content, "delivered only by the reply to the content"),
    proofs.final: (
        Phase.FINAL, client.Hurry, client._give_back,
        "returned or elsewhere only while no end was sent"),
    proofs.at_the_end: (
        Phase.QUIT, client.Lost, becoming(client.Close()), "closing is the end"),
}  # fmt: skip


@pytest.mark.parametrize("proof", MUTANTS, ids=lambda proof: proof.__name__)
def test_notices_a_mutant(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    what, on, row, invariant = MUTANTS[proof]
    table = REPLIES if isinstance(on, int) else EVENTS
    assert (what, on) in table
    monkeypatch.setitem(table, (what, on), row)  # type: ignore[arg-type]
    assert invariant in findings(proof)
