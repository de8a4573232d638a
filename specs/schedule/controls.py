"""Wrong schedules that each invariant must refuse.

Each is the spec's or the rules' own source with one passage changed, explored within the smallest
bounds in which the change matters; the twin is the unchanged spec within the same bounds.
"""

from __future__ import annotations

from specs.kernel.control import Control, Verdict
from specs.kernel.explore import explore
from specs.kernel.mutant import hits, mutate
from specs.schedule import spec as original
from specs.schedule.rules import Limits
from specs.schedule.states import EXPLORED, Bounds

SPEC, RULES = "specs.schedule.spec", "specs.schedule.rules"
HOGS = Bounds(
    slow=(3, 2, 1),
    hogs=(True, True, False),
    flips=(0, 0, 0),
    messages=(2,),
    limits=Limits(total=2, initial=2),
)
WIDE = Bounds(
    slow=(2, 1),
    hogs=(True, False),
    flips=(0, 0),
    messages=(1,),
    limits=Limits(total=3, initial=2),
)
DYING = EXPLORED[2]
ALONE = Bounds(slow=(1,), hogs=(False,), flips=(2,), messages=(0,), lifetime=12)
REFUSED = Bounds(slow=(1,), hogs=(False,), flips=(0,), messages=(0,), lifetime=12, refusals=1)

MUTANTS: tuple[tuple[str, str, Bounds, str, str, str], ...] = (
    (
        "a schedule that starves: first come, first served over all",
        "no_starvation",
        HOGS,
        RULES,
        "name for name in able if not any((other, name) in passed for other in idle"
        " if other != name)\n",
        "name for name in able[:1] if __mutant_ran__()\n",
    ),
    (
        "a schedule without turns",
        "no_starvation",
        HOGS,
        RULES,
        "if not any((other, name) in passed for other in idle if other != name)\n",
        "if __mutant_ran__()\n",
    ),
    (
        "one destination may take all places",
        "one_leaves_room",
        HOGS,
        RULES,
        "and free > book.busy",
        "and free > 0 * __mutant_ran__()",
    ),
    (
        "more sessions than places",
        "bounded_total",
        HOGS,
        RULES,
        "and free > book.busy",
        "and (free > book.busy or __mutant_ran__())",
    ),
    (
        "an unbounded window",
        "bounded_each",
        WIDE,
        RULES,
        "window = min(limits.each, max(limits.initial, book.window + 1))",
        "window = max(limits.initial, book.window + __mutant_ran__())",
    ),
    (
        "a dead destination that is hammered",
        "one_probe_per_pause",
        DYING,
        RULES,
        "narrow._replace(window=1,",
        "narrow._replace(window=1 + __mutant_ran__(),",
    ),
    (
        "no memory of the dead",
        "one_probe_per_pause",
        DYING,
        RULES,
        "and not book.rest and",
        "and __mutant_ran__() and",
    ),
    (
        "a cache that never expires",
        "recovery_is_noticed",
        ALONE,
        RULES,
        "rest=max(0, book.rest - time)",
        "rest=book.rest * __mutant_ran__()",
    ),
    (
        "a retry that never comes",
        "recovery_is_noticed",
        REFUSED,
        SPEC,
        "due = message.due - 1",
        "due = message.due * __mutant_ran__()",
    ),
    (
        "mail for a dead destination without a lifetime",
        "ends_in_time",
        DYING,
        SPEC,
        "if message.ready and message.age >= bounds.lifetime and",
        "if not __mutant_ran__() and",
    ),
    (
        "deferred for ever",
        "ends_in_time",
        Bounds(slow=(1,), hogs=(False,), flips=(0,), messages=(0,), lifetime=2, refusals=4),
        SPEC,
        "    if state.messages[at].age >= bounds.lifetime:\n"
        '        return _with_message(state, at, place="expired")\n',
        "    __mutant_ran__()\n",
    ),
)


def controls() -> list[Control]:
    """One control per mutant."""
    return [_control(*mutant) for mutant in MUTANTS]


def _control(name: str, invariant: str, bounds: Bounds, module: str, old: str, new: str) -> Control:
    def twin() -> Verdict:
        found = explore(original.schedule_spec(bounds))
        return Verdict(violated=frozenset(found.violated), detail="; ".join(found.findings()))

    def mutant() -> Verdict:
        changed = mutate(module, [(old, new)])
        spec = changed if module == SPEC else mutate(SPEC, [], replacing={RULES: changed})
        found = explore(spec.schedule_spec(bounds), stop_at=[invariant], cap=200_000)
        return Verdict(
            violated=frozenset(found.violated),
            mutated_line_ran=hits(changed) > 0,
            detail=str(found.violated.get(invariant, "")),
        )

    return Control(name=name, spec="schedule", invariant=invariant, twin=twin, mutant=mutant)
