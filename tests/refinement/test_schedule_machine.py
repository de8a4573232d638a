"""`protocol.destinations` beside the rules of specs/schedule, on long walks that shrink.

The spec's exploration says what these rules are worth (no starvation, one probe per pause, each
message over in time); here the real books must do what the rules allow, with real seconds and
chance: see `subjects.schedule` for the invariants, and for the mutants that they catch on seeded
walks. The same mutants are caught here, so that a machine that looks away is noticed.
"""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from refinement.machines import breaks, hold, made, walk

from refmta.protocol import destinations
from specs.kernel.control import run_control
from specs.kernel.mutant import hits, mutate
from specs.schedule.rules import Limits
from subjects.schedule import MUTANTS, NAMES, SMALL, Beside, DisagreementError, controls

CHANCE = st.sampled_from([0.0, 0.25, 0.5, 0.999])
#: Seconds: within a pause, at the very end of the shortest, beyond the longest.
TIMES = st.sampled_from([0.5, 3.0, 4.0, 8.0, 20.0])
ALONE = Limits(total=1, each=1, initial=1, pause=4, longest=8, spread=0)


class Turns(RuleBasedStateMachine):
    """Destinations that get work, have sessions, die, rest and come back."""

    module: Any = destinations
    limits = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.beside = Beside(self.module, self.limits)

    def do(self, action: Any, *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except DisagreementError as error:
            return hold(error.invariant, False, error)

    @rule(name=st.sampled_from(NAMES))
    def mail_comes(self, name: str) -> None:
        self.do(self.beside.gets_work, name)

    @precondition(lambda self: self.beside.work)
    @rule(data=st.data())
    def no_more_mail(self, data: Any) -> None:
        self.do(self.beside.loses_work, data.draw(st.sampled_from(sorted(self.beside.work))))

    @rule(sessions=st.integers(1, 5))
    def places_are_given_away(self, sessions: int) -> None:
        for _ in range(sessions):
            if self.do(self.beside.start) is None:
                return

    @precondition(lambda self: self.beside.busy())
    @rule(data=st.data(), finding=st.sampled_from(["alive", "dead", ""]), chance=CHANCE)
    def a_session_ends(self, data: Any, finding: str, chance: float) -> None:
        """After it has learned something, or nothing (its worker died)."""
        name = data.draw(st.sampled_from(self.beside.busy()))
        if finding:
            self.do(self.beside.finds, name, finding == "alive", chance)
        self.do(self.beside.ends, name)

    @precondition(lambda self: self.beside.busy())
    @rule(data=st.data(), alive=st.booleans(), chance=CHANCE)
    def a_session_goes_on(self, data: Any, alive: bool, chance: float) -> None:
        self.do(self.beside.finds, data.draw(st.sampled_from(self.beside.busy())), alive, chance)

    @rule(seconds=TIMES)
    def time_goes_on(self, seconds: float) -> None:
        self.do(self.beside.wait, seconds)

    @rule(name=st.sampled_from(NAMES), times=st.integers(1, 4), chance=CHANCE)
    def silence(self, name: str, times: int, chance: float) -> None:
        """Nobody is there, for so many probes."""
        for _ in range(times):
            self.time_goes_on(20.0)
            self.mail_comes(name)
            self.places_are_given_away(5)
            while name in self.beside.busy():
                self.do(self.beside.finds, name, False, chance)
                self.do(self.beside.ends, name)

    @rule(name=st.sampled_from(NAMES))
    def operator_forgives(self, name: str) -> None:
        self.do(self.beside.forgives, name)

    @invariant()
    def strangers_are_forgotten(self) -> None:
        """The real one remembers who has sessions or gave trouble, and nobody else."""
        kept = {
            name
            for name, known in self.beside.real.known.items()
            if not (known.busy or known.deaths or known.failures)
        }
        mended = {name for name in kept if self.beside.book(name).window == self.limits.initial}
        hold("strangers_are_forgotten", kept == mended, kept)


@pytest.mark.parametrize("limits", [SMALL, ALONE], ids=["four-places", "one-place"])
def test_every_turn_is_one_that_the_spec_allows(limits):
    walk(made(Turns, limits=limits), examples=150, steps=50)


@pytest.mark.parametrize(("name", "invariant", "old", "new"), MUTANTS, ids=[m[0] for m in MUTANTS])
def test_a_walk_finds_the_mutant_by_the_named_invariant(name, invariant, old, new):
    module = mutate(destinations.__name__, [(old, new)])
    assert breaks(made(Turns, module=module), invariant, examples=600, steps=50)
    assert hits(module)


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name)
def test_seeded_walks_find_it_as_well(control):
    result = run_control(control)
    assert result.counts, result.reason
