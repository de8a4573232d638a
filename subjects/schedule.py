"""Scheduling by destination beside its spec: `refmta.protocol.destinations` and `specs.schedule`.

`Beside` does each thing twice, on the real books and by the spec's rules, and says by name what
does not agree. It calls the real one as the queue manager does: whoever has work is announced
before each turn (`wants`), whoever is called without work gives its place back, and a dead one
comes back when its pause is over. The real choice must be *one of* those that the spec allows.

The walks of the controls are seeded and need nothing but this file; longer ones, which shrink, are
in tests/refinement/test_schedule_machine.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from types import ModuleType
from typing import Any

from refmta.protocol import destinations
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.schedule import rules
from specs.schedule.rules import Limits, Passed

INVARIANTS = (
    "bounded_total",  # never more sessions than places
    "bounded_each",  # nor more than a destination's window, which is what the rules make it
    "one_leaves_room",  # whoever starts has more places free than it holds
    "no_starvation",  # whoever holds none and waits is passed over once by each other
    "no_place_stays_free",  # nobody waits who may be started
    "the_dead_are_left_alone",  # until their pause is over
    "recovery_is_noticed",  # when it is, it is their turn like anybody's
    "pauses_are_bounded",  # from the shortest to the longest that chance may make of it
)
#: Small, so that every limit is met within a short walk.
SMALL = Limits(total=4, each=3, initial=2, pause=4, longest=8, spread=20)
NAMES = ("a", "b", "c", "d")


class DisagreementError(AssertionError):
    """The real books did what the rules do not allow; `invariant` is one of INVARIANTS."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


class Beside:
    """The real books and the spec's. `work`: destinations that there is mail for."""

    def __init__(self, module: Any = destinations, limits: Limits = SMALL) -> None:
        self.limits = limits
        self.real = module.Destinations(
            module.Limits(
                total=limits.total,
                per_destination=limits.each,
                initial=limits.initial,
                pause_s=limits.pause,
                longest_pause_s=limits.longest,
                spread_percent=limits.spread,
            )
        )
        self.now_s = 1000.0
        self.books: dict[int | str, rules.Book] = {}
        self.passed: Passed = frozenset()
        self.work: set[str] = set()

    def book(self, name: str) -> rules.Book:
        return self.books.setdefault(name, rules.stranger(self.limits))

    def busy(self) -> list[str]:
        """Destinations with sessions."""
        return [str(name) for name, book in self.books.items() if book.busy]

    # -- what happens -------------------------------------------------------------------------

    def gets_work(self, name: str) -> None:
        self.book(name)
        self.work.add(name)

    def loses_work(self, name: str) -> None:
        """Its mail was removed, or goes elsewhere."""
        self.work.discard(name)
        self.passed = frozenset(pair for pair in self.passed if pair[0] != name)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.books = {name: rules.elapsed(book, seconds) for name, book in self.books.items()}
        # The clock is a sum of floats; the end of a pause is the real one's.
        for name, book in self.books.items():
            if bool(book.rest) != self.real.is_dead(name, self.now_s):
                self._require(
                    "the_dead_are_left_alone", book.rest < 1e-6, f"{name} at {self.now_s}: {book}"
                )
                self.books[name] = book._replace(rest=0)

    def start(self) -> str | None:
        """Give the next place away; returns to whom."""
        for name in sorted(self.work):
            self.real.wants(name)
        chosen = self._next()
        self._judge(chosen)
        if chosen is not None:
            self.passed = rules.passed_over(self.books, self.work, self.passed, self.limits, chosen)
            self.books[chosen] = rules.started(self.book(chosen))
            self._compare(chosen)
        return chosen

    def _next(self) -> str | None:
        """Whoever has no work gives its place back, and has then left the round."""
        for _ in range(len(self.books) + 1):
            chosen: str | None = self.real.next(self.now_s)
            if chosen is None or chosen in self.work:
                return chosen
            self.real.ended(chosen)
        raise DisagreementError("no_starvation", f"{chosen} again and again, without work")

    def finds(self, name: str, alive: bool, chance: float) -> None:
        """A session of this destination has learned something."""
        before = self.book(name)
        self.real.found(name, "alive" if alive else "dead", self.now_s, chance)
        if alive:
            self.books[name] = rules.found_alive(before, self.limits)
        else:
            self.books[name] = self._found_dead(name, before)
        self._compare(name)

    def _found_dead(self, name: str, before: rules.Book) -> rules.Book:
        after = rules.found_dead(before, self.limits)
        if after.deaths == before.deaths:
            return after
        rest = self.real.revival_s(name) - self.now_s
        low, high = rules.pauses(after.deaths, self.limits)
        self._require(
            "pauses_are_bounded", low <= rest <= high, f"{name}: {rest}, not {low} to {high}"
        )
        return after._replace(rest=rest)

    def ends(self, name: str) -> None:
        """A session of this destination ends."""
        self.real.ended(name)
        self.books[name] = rules.ended(self.book(name), self.limits)
        self._compare(name)

    def forgives(self, name: str) -> None:
        """The operator says that it was mended: a stranger again, with the sessions it has."""
        self.real.forgive(name)
        self.books[name] = rules.stranger(self.limits)._replace(busy=self.book(name).busy)
        self._compare(name)

    # -- judgement ----------------------------------------------------------------------------

    def _judge(self, chosen: str | None) -> None:
        free = self.limits.total - sum(book.busy for book in self.books.values())
        allowed = rules.turns(self.books, self.work, self.passed, self.limits)
        if chosen is None:
            self._require("recovery_is_noticed", not self._doubtful(allowed), f"{allowed}")
            self._require("no_place_stays_free", not allowed, f"{allowed} may have one of {free}")
            return
        book = self.book(chosen)
        self._require("bounded_total", free > 0, f"{chosen} beyond {self.limits.total}")
        self._require("bounded_each", book.busy < book.window, f"{chosen}: {book}")
        self._require("the_dead_are_left_alone", not book.rest, f"{chosen}: {book}")
        self._require("one_leaves_room", free > book.busy, f"{chosen}: {book}, {free} free")
        if chosen not in allowed:
            missed = self._doubtful(name for name, other in self.passed if other == chosen)
            self._require("recovery_is_noticed", not missed, f"{chosen} again, not {missed}")
            self._require("no_starvation", False, f"{chosen}, not one of {allowed}")

    def _doubtful(self, names: Iterable[int | str]) -> list[str]:
        """Those that were dead, and whose pause is over."""
        books = {str(name): self.book(str(name)) for name in names}
        return sorted(name for name, book in books.items() if book.deaths and not book.rest)

    def _compare(self, name: str) -> None:
        """What the real one believes is what the rules say."""
        real, book = self.real.of(name), self.book(name)
        same = (real.window, real.busy, real.failures, real.deaths) == (
            book.window, book.busy, book.failures, book.deaths,
        )  # fmt: skip
        self._require("bounded_each", same, f"{name}: {real}, by the rules {book}")
        self._require(
            "the_dead_are_left_alone",
            self.real.is_dead(name, self.now_s) == bool(book.rest),
            f"{name}: {real}, by the rules {book}",
        )

    def _require(self, invariant: str, holds: bool, detail: str) -> None:
        if not holds:
            raise DisagreementError(invariant, detail)


# -- controls -------------------------------------------------------------------------------------

WALKS, STEPS = 300, 120


def judge_destinations(module: Any) -> Verdict:
    """Seeded walks; the first disagreement is the verdict."""
    for number in range(WALKS):
        chance = Random(number)  # noqa: S311  (the same walks each time)
        beside = Beside(module)
        try:
            for _ in range(STEPS):
                _wander(beside, chance)
        except DisagreementError as error:
            return Verdict(violated=frozenset({error.invariant}), detail=f"walk {number}: {error}")
    return Verdict(violated=frozenset(), detail=f"{WALKS} walks of {STEPS} steps")


def _wander(beside: Beside, chance: Random) -> None:
    """One step; "a" has work most of the time, and "d" is dead most of the time."""
    name, busy = chance.choice(NAMES), beside.busy()
    steps: Sequence[Callable[[], object]] = (
        lambda: beside.gets_work(name),
        lambda: beside.gets_work("a"),
        lambda: beside.loses_work(name),
        beside.start,
        beside.start,
        beside.start,
        lambda: beside.forgives(name) if chance.random() < 0.1 else None,
        lambda: beside.wait(chance.choice((0.5, 4, 20))),
        lambda: _session_ends(beside, chance, busy),
        lambda: _session_ends(beside, chance, busy),
    )
    chance.choice(steps)()


def _session_ends(beside: Beside, chance: Random, busy: Sequence[str]) -> None:
    if not busy:
        return
    name = chance.choice(busy)
    if chance.random() < 0.9:
        beside.finds(name, name != "d" and chance.random() < 0.8, chance.random())
    if chance.random() < 0.8:
        beside.ends(name)


MUTANTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "destinations: first come, first served",
        "no_starvation",
        "                self._in_round.discard(name)\n                self.known[name] =",
        "                __mutant_ran__() and self._round.appendleft(name)\n"
        "                self.known[name] =",
    ),
    (
        "destinations: one may take all places",
        "one_leaves_room",
        "elif free > destination.busy:",
        "elif free > 0 * __mutant_ran__():",
    ),
    (
        "destinations: more sessions than places",
        "bounded_total",
        "            if free <= 0:\n                return None\n",
        "            free += free <= 0 and len(self._round) > 1 and __mutant_ran__() * 4\n",
    ),
    (
        "destinations: an unbounded window",
        "bounded_each",
        "window=min(limits.per_destination, max(limits.initial, destination.window + 1))",
        "window=max(limits.initial, destination.window + __mutant_ran__())",
    ),
    (
        "destinations: a cache that never expires",
        "recovery_is_noticed",
        "destination.busy < destination.window and now_s >= destination.dead_until_s",
        "destination.busy < destination.window and not (destination.dead_until_s and"
        " __mutant_ran__())",
    ),
    (
        "destinations: the dead are tried all the same",
        "the_dead_are_left_alone",
        "destination.busy < destination.window and now_s >= destination.dead_until_s",
        "destination.busy < destination.window and __mutant_ran__()",
    ),
    (
        "destinations: a dead one keeps its window",
        "bounded_each",
        "narrow, window=1, failures=0",
        "narrow, window=1 + __mutant_ran__(), failures=0",
    ),
    (
        "destinations: pauses without end",
        "pauses_are_bounded",
        "base_s = min(limits.pause_s << doublings, limits.longest_pause_s)",
        "base_s = limits.pause_s << doublings * __mutant_ran__()",
    ),
    (
        "destinations: one that the threshold held back is forgotten",
        "no_place_stays_free",
        "            else:\n                self._round.append(name)\n",
        "            else:\n                __mutant_ran__()\n",
    ),
)  # fmt: skip


def controls() -> list[Control]:
    """Entry point: wrong versions of `protocol.destinations`."""
    return [_control(*row) for row in MUTANTS]


def _control(name: str, invariant: str, old: str, new: str) -> Control:
    original: ModuleType = destinations

    def mutant() -> Verdict:
        module = mutate(original.__name__, [(old, new)])
        verdict = judge_destinations(module)
        return Verdict(
            violated=verdict.violated, mutated_line_ran=hits(module) > 0, detail=verdict.detail
        )

    return Control(
        name=name,
        spec="schedule",
        invariant=invariant,
        twin=lambda: judge_destinations(original),
        mutant=mutant,
    )
