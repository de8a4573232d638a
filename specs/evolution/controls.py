"""Mutants of the judgement: each sees effects where there are none, or none where there are.

And one of what is judged: a store that syncs no directory must be seen to lose mail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from specs.evolution import effects, exam
from specs.evolution.losses import losses
from specs.evolution.measured import total
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.persistence.references import CERTIFIED, Reference, certified_plan

#: what, the check that must catch it, old, new.
MUTANTS: Final[tuple[tuple[str, str, str, str], ...]] = (
    (
        "one round decides",
        "noise_is_no_effect",
        "ratios[0] > 1 or ratios[-1] < 1",
        "__mutant_ran__()",
    ),
    (
        "speed counts by a hair",
        "noise_is_no_effect",
        "abs(change) >= RATES_DIFFER",
        "__mutant_ran__()",
    ),
    (
        "files are counted, not kinds of them",
        "how_many_is_no_effect",
        "_LEVELS[share.level] - _LEVELS[reach[kind].level]",
        "share.part - reach[kind].part * __mutant_ran__()",
    ),
    (
        "every line counts",
        "how_many_is_no_effect",
        "abs(less) > tolerance * number(before)",
        "__mutant_ran__()",
    ),
    (
        "a price is no effect",
        "each_price_is_told",
        "for name, change in changes if change)",
        "for name, change in changes if __mutant_ran__() and change > 0)",
    ),
    (
        "what is worse is called better",
        "each_price_is_told",
        "Effect(name, change > 0)",
        "Effect(name, __mutant_ran__())",
    ),
    (
        "everything is an effect",
        "nothing_has_no_effect",
        "for name, change in changes if change)",
        "for name, change in changes if __mutant_ran__())",
    ),
    (
        "a filter that breaks is not looked at",
        "each_measure_is_seen",
        "_nearer(lambda each: each.weakest)",
        "_nearer(lambda each: each.seen if __mutant_ran__() else each.weakest)",
    ),
    (
        "a step that does nothing passes",
        "an_idle_step_is_found",
        "if not changed:",
        "if not __mutant_ran__():",
    ),
    (
        "a measure that was not taken is held against a step",
        "what_was_not_taken_is_not_judged",
        "if any(each.rates is None for each in stages):",
        "if not __mutant_ran__():",
    ),
)


def controls() -> list[Control]:
    """All of them."""
    return [
        *(_mutant(row) for row in MUTANTS),
        Control(
            name="a store without a directory sync",
            spec="evolution/losses",
            invariant="promised_mail_is_there",
            twin=lambda: _losses(CERTIFIED),
            mutant=lambda: _losses(CARELESS),
        ),
    ]


def _mutant(row: tuple[str, str, str, str]) -> Control:
    name, invariant, old, new = row

    def mutant() -> Verdict:
        changed = mutate(effects.__name__, [(old, new)])
        found = exam.broken(changed)
        return Verdict(violated=found, mutated_line_ran=hits(changed) > 0)

    return Control(
        name=name,
        spec="evolution/effects",
        invariant=invariant,
        twin=lambda: Verdict(violated=exam.broken(effects)),
        mutant=mutant,
    )


#: As the reference that certifies itself, but for one sync.
CARELESS: Final[Reference] = replace(
    CERTIFIED, one=lambda message: (op for op in certified_plan(message) if op.kind != "sync_dir")
)


def _losses(store: Reference) -> Verdict:
    lost = total(losses([store]).values()).have > 0
    violated = frozenset({"promised_mail_is_there"} if lost else ())
    return Verdict(violated=violated, mutated_line_ran=store is CARELESS)
