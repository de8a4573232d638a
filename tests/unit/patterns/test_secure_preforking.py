"""The parent's books keep the claims of their docstring, whatever happens in whatever order.

What an onlooker counts (births, sessions, ends) knows nothing of how the books work.  Each claim
has its name, and each has a control: books with one thing wrong, refused by that name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from refmta.patterns import secure_preforking
from refmta.patterns.secure_preforking import Pool, Rules
from specs.kernel.mutant import hits, mutate

RULES = Rules(max_workers=3, max_uses=2, max_age_s=100, max_idle_s=10, spare=1)
RANDOM_RULES = st.fixed_dictionaries(
    {
        "max_workers": st.integers(1, 4), "max_uses": st.integers(1, 3),
        "max_age_s": st.sampled_from([1.0, 5.0]), "max_idle_s": st.sampled_from([0.5, 2.0]),
        "spare": st.integers(0, 2), "max_session_s": st.sampled_from([2.0, 20.0]),
        "stress_command_s": st.sampled_from([0.0, 1.0]),
    }
)  # fmt: skip


class Broken(Exception):
    """A claim does not hold; the text is its name."""


def claim(name: str, holds: bool) -> None:
    """One claim about what was just seen."""
    if not holds:
        raise Broken(name)


class Onlooker:
    """Counts births, sessions, retirements and ends, beside the books."""

    def __init__(self, module: ModuleType, rules: Mapping[str, Any]) -> None:
        self.rules = Rules(**rules)
        self.pool = module.Pool(module.Rules(**rules))
        self.now_s = 0.0
        self.next = 0
        self.born_s: dict[int, float] = {}
        self.sessions: dict[int, int] = {}
        self.busy: dict[int, float] = {}
        self.idle_since_s: dict[int, float] = {}
        self.retired: set[int] = set()
        self.told_s: dict[int, float] = {}
        self.handed = 0
        self.stressed = False
        self.full_s = 0.0

    @property
    def living(self) -> set[int]:
        return set(self.pool.workers)

    @property
    def free(self) -> set[int]:
        """Who may serve, by the rules."""
        return {
            number
            for number in self.living - set(self.busy) - self.retired - set(self.told_s)
            if self.sessions[number] < self.rules.max_uses
            and self.now_s - self.born_s[number] < self.rules.max_age_s
        }

    def want(self) -> None:
        """A worker is made, if one may be."""
        if not self.pool.may_grow():
            with pytest.raises(ValueError):
                self.pool.born(self.next, self.now_s)
            return
        self.pool.born(self.next, self.now_s)
        self.born_s[self.next] = self.idle_since_s[self.next] = self.now_s
        self.sessions[self.next] = 0
        self.next += 1
        claim("never_more_than_max_workers", len(self.living) <= self.rules.max_workers)

    def client(self) -> None:
        """A client comes."""
        free, found = self.free, self.pool.has_free(self.now_s)
        number = self.pool.hand_out(self.now_s)
        if number is not None:
            claim("one_session_at_a_time", number not in self.busy)
            claim("the_retired_get_none", number not in self.retired | set(self.told_s))
            age_s = self.now_s - self.born_s[number]
            claim("none_past_max_age", age_s < self.rules.max_age_s)
            self.sessions[number] += 1
            self.handed += 1
            claim("none_beyond_max_uses", self.sessions[number] <= self.rules.max_uses)
            self.busy[number] = self.now_s
        claim("who_may_serve_is_found", (number is not None) == found == bool(free))

    def end_session(self, number: int) -> None:
        self.pool.take_back(number, self.now_s)
        self.busy.pop(number)
        self.idle_since_s[number] = self.now_s

    def keep_house(self) -> None:
        """Who is due is retired; who lasts too long is told, then killed."""
        due = self.pool.due(self.now_s)
        claim("due_are_idle", not set(due) & (set(self.busy) | self.retired))
        for number in due:
            self.pool.retire(number)
            self.retired.add(number)
        rules, idle = self.rules, self.living - set(self.busy) - self.retired
        long_idle = [n for n in idle if self.now_s - self.idle_since_s[n] >= rules.max_idle_s]
        claim("no_more_idle_than_spare", len(long_idle) <= rules.spare)
        claim("nobody_spent_stays", idle == self.free)
        told, killed = self.pool.overlong(self.now_s)
        again = set(told) & (self.retired | set(self.told_s))
        claim("told_while_busy", set(told) <= set(self.busy) and not again)
        self.told_s |= dict.fromkeys(told, self.now_s)
        for number in killed:
            self.end(number)
        over = [n for n, since in self.busy.items() if self.now_s - since >= rules.max_session_s]
        claim("who_is_too_long_is_told", set(over) <= set(self.told_s))
        ends = [self.told_s[number] + rules.last_word_s for number in over]
        claim("no_session_for_ever", self.now_s < min(ends, default=math.inf))

    def look(self) -> None:
        """The parent looks for stress."""
        full = len(self.living) >= self.rules.max_workers and not self.free
        self.full_s = self.now_s if full else self.full_s
        change = self.pool.look(self.now_s)
        if not self.rules.stress_command_s:
            claim("no_stress_where_none_is_known", change is None and not self.pool.stressed)
            return
        calm = self.now_s - self.full_s >= self.rules.stress_command_s
        told = None if self.pool.stressed == self.stressed else self.pool.stressed
        claim("each_change_is_told_once", change is told)
        claim("stress_when_full", not full or self.pool.stressed)
        claim("stress_ends_with_calm", not calm or not self.pool.stressed)
        claim("stress_lasts_until_calm", full or calm or self.pool.stressed == self.stressed)
        self.stressed = self.pool.stressed

    def end(self, number: int) -> None:
        """A worker ends: by itself, killed, or seized and gone; at any time."""
        self.pool.gone(number)
        self.busy.pop(number, None)
        self.retired.discard(number)

    def compare(self) -> None:
        busy = {n for n in self.living if self.pool.workers[n].busy}
        uses = {n: self.pool.workers[n].uses for n in self.living}
        claim("books_agree", busy == set(self.busy) and self.pool.sessions == self.handed)
        claim("books_agree", uses == {n: self.sessions[n] for n in self.living})


class Books(RuleBasedStateMachine):
    """Everything that may happen, in any order."""

    @initialize(rules=RANDOM_RULES)
    def begin(self, rules: dict[str, Any]) -> None:
        self.it = Onlooker(secure_preforking, rules)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.it.now_s += seconds

    @rule()
    def a_worker_is_wanted(self) -> None:
        self.it.want()

    @rule()
    def a_client_comes(self) -> None:
        self.it.client()

    @precondition(lambda self: self.it.busy)
    @rule(data=st.data())
    def a_session_ends(self, data: st.DataObject) -> None:
        self.it.end_session(data.draw(st.sampled_from(sorted(self.it.busy))))

    @rule()
    def the_parent_keeps_house(self) -> None:
        self.it.keep_house()

    @rule()
    def the_parent_looks(self) -> None:
        self.it.look()

    @precondition(lambda self: self.it.living)
    @rule(data=st.data())
    def a_worker_ends(self, data: st.DataObject) -> None:
        self.it.end(data.draw(st.sampled_from(sorted(self.it.living))))

    @invariant()
    def the_books_agree(self) -> None:
        if hasattr(self, "it"):
            self.it.compare()


Books.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase


# -- controls: a story that the right books survive, and the wrong ones don't ---------------------

#: Words: a worker is (w)anted, a (c)lient comes, the oldest session (e)nds, the parent keeps
#: (h)ouse, it (l)ooks; a number: so many seconds pass.
STORY_RULES = {
    "max_workers": 2, "max_uses": 2, "max_age_s": 50.0, "max_idle_s": 10.0, "spare": 1,
    "max_session_s": 100.0, "stress_command_s": 5.0,
}  # fmt: skip
CONTROLS = {
    "never_more_than_max_workers": (
        "w w w",
        "len(self.workers) < self.rules.max_workers",
        "__mutant_ran__() and len(self.workers) <= self.rules.max_workers",
    ),
    "none_beyond_max_uses": (
        "w c e c e c",
        "used_up = worker.uses >= rules.max_uses or",
        "used_up = __mutant_ran__() and worker.uses > rules.max_uses or",
    ),
    "none_past_max_age": (
        "w 50 c",
        "or now_s - worker.born_s >= rules.max_age_s",
        "or now_s - worker.born_s >= rules.max_age_s + __mutant_ran__()",
    ),
    "one_session_at_a_time": (
        "w c c",
        "        worker.busy, worker.since_s, worker.uses = True, now_s, worker.uses + 1\n",
        "        worker.uses += __mutant_ran__()\n        self._idle.append(number)\n",
    ),
    "the_retired_get_none": (
        "w w 10 h c c",
        "worker.busy or worker.retired:",
        "worker.busy or worker.retired and not __mutant_ran__():",
    ),
    "no_more_idle_than_spare": (
        "w w 10 h",
        "len(fresh) - self.rules.spare)]",
        "len(fresh) - self.rules.spare - __mutant_ran__())]",
    ),
    "told_while_busy": (
        "w c 100 h 1 h",
        "                worker.warned_s = now_s\n",
        "                __mutant_ran__()\n",
    ),
    "who_is_too_long_is_told": (
        "w c 100 h",
        "                told.append(number)\n",
        "                __mutant_ran__()\n",
    ),
    "no_session_for_ever": (
        "w c 100 h 5 h",
        "                killed.append(number)\n",
        "                __mutant_ran__()\n",
    ),
    "stress_when_full": (
        "w c l w c l",
        "        full = not self.may_grow() and",
        "        full = not __mutant_ran__() and not self.may_grow() and",
    ),
    "stress_lasts_until_calm": (
        "w w c c l e l 4 l 1 l",
        "            self._full_s = now_s\n",
        "            self._full_s = now_s - 9 * __mutant_ran__()\n",
    ),
    "stress_ends_with_calm": (
        "w w c c l e 5 l",
        "now_s - self._full_s >= self.rules.stress_command_s",
        "now_s - self._full_s >= self.rules.stress_command_s + __mutant_ran__()",
    ),
    "each_change_is_told_once": (
        "w w c c l l",
        "        if full == self.stressed or not (full or calm):\n            return None\n",
        "        __mutant_ran__()\n",
    ),
}


def tell(story: str, module: ModuleType) -> None:
    """What the onlooker sees.  Raises Broken."""
    it = Onlooker(module, STORY_RULES)
    words: dict[str, Callable[[], None]] = {
        "w": it.want, "c": it.client, "e": lambda: it.end_session(min(it.busy)),
        "h": it.keep_house, "l": it.look,
    }  # fmt: skip
    for word in story.split():
        if word in words:
            words[word]()
        else:
            it.now_s += float(word)


@pytest.mark.parametrize("name", CONTROLS)
def test_wrong_books_are_refused_by_name(name: str):
    story, old, new = CONTROLS[name]
    tell(story, secure_preforking)
    mutant = mutate(secure_preforking.__name__, [(old, new)])
    with pytest.raises(Broken) as refused:
        tell(story, mutant)
    assert hits(mutant) > 0
    assert str(refused.value) == name


def test_every_claim_has_its_control_or_only_compares():
    """What has none: consequences of others, and what the mutants would break at once."""
    text = Path(__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'claim\("([a-z_]+)"', text))
    assert names - {*CONTROLS, *COUNTED_CONTROLS} == {
        "who_may_serve_is_found", "due_are_idle", "nobody_spent_stays",
        "no_stress_where_none_is_known", "books_agree", "counts_agree",
    }  # fmt: skip


# -- the books of those who accept by themselves --------------------------------------------------


class Counting:
    """What an onlooker counts where workers accept: births, who said busy, failures."""

    def __init__(self, module: ModuleType, rules: Mapping[str, Any]) -> None:
        self.rules = Rules(**rules)
        self.books = module.Counted(module.Rules(**rules))
        self.now_s = 0.0
        self.next = 0
        self.free: set[int] = set()
        self.busy: set[int] = set()
        self.used: set[int] = set()
        self.throttled_s = -math.inf
        self.clients = 0

    @property
    def living(self) -> set[int]:
        return self.free | self.busy

    def client_waits(self) -> None:
        """The parent makes a worker if that is a reason for one."""
        wants = self.books.wants_more(self.now_s)
        claim("none_is_made_while_one_is_free", not (wants and self.free))
        claim("never_more_live_than_may", not wants or len(self.living) < self.rules.max_workers)
        claim("none_is_made_while_throttled", not wants or self.now_s >= self.throttled_s)
        reason = not self.free and len(self.living) < self.rules.max_workers
        claim("who_waits_is_a_reason", wants or not reason or self.now_s < self.throttled_s)
        if wants:
            self.books.born(self.next, self.now_s)
            self.free.add(self.next)
            self.next += 1

    def busy_is_said(self) -> None:
        number = min(self.free)
        self.books.taken(number, self.now_s)
        self.free.discard(number)
        self.busy.add(number)
        self.used.add(number)
        self.clients += 1

    def idle_is_said(self) -> None:
        number = min(self.busy)
        self.books.take_back(number, self.now_s)
        self.busy.discard(number)
        self.free.add(number)

    def one_fails(self) -> None:
        number = min(self.free or self.busy)
        self.books.failed(number, self.now_s)
        if number not in self.used:
            self.throttled_s = self.now_s + secure_preforking.THROTTLE_S
        self.one_ends()

    def one_ends(self) -> None:
        number = min(self.free or self.busy)
        self.books.gone(number)
        self.free.discard(number)
        self.busy.discard(number)

    def compare(self) -> None:
        books = self.books
        busy = {number for number in books.workers if books.workers[number].busy}
        claim("counts_agree", busy == self.busy and {*books.workers} == self.living)
        claim("counts_agree", books.sessions == self.clients)


class CountedBooks(RuleBasedStateMachine):
    """Everything that workers may say and do, in any order."""

    @initialize(rules=RANDOM_RULES)
    def begin(self, rules: dict[str, Any]) -> None:
        self.it = Counting(secure_preforking, rules)

    @rule(seconds=st.sampled_from([0.5, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.it.now_s += seconds

    @rule()
    def a_client_waits(self) -> None:
        self.it.client_waits()

    @precondition(lambda self: self.it.free)
    @rule()
    def a_worker_says_busy(self) -> None:
        self.it.busy_is_said()

    @precondition(lambda self: self.it.busy)
    @rule()
    def a_worker_says_idle(self) -> None:
        self.it.idle_is_said()

    @precondition(lambda self: self.it.living)
    @rule(fails=st.booleans())
    def a_worker_ends(self, fails: bool) -> None:
        (self.it.one_fails if fails else self.it.one_ends)()

    @invariant()
    def the_counts_agree(self) -> None:
        if hasattr(self, "it"):
            self.it.compare()


CountedBooks.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestCountedBooks = CountedBooks.TestCase

#: Words: a client (w)aits, a worker says (b)usy or (i)dle, one (f)ails; a number: seconds pass.
COUNTED_CONTROLS = {
    "none_is_made_while_one_is_free": (
        "w w",
        "return not self.has_free(now_s) and",
        "return __mutant_ran__() and",
    ),
    "never_more_live_than_may": (
        "w b w b w",
        "and self.may_grow() and now_s",
        "and __mutant_ran__() and now_s",
    ),
    "none_is_made_while_throttled": (
        "w f 59 w",
        "            self.throttled_until_s = now_s + THROTTLE_S\n",
        "            __mutant_ran__()\n",
    ),
    "who_waits_is_a_reason": (
        "w b f w",
        "if not self.workers[number].uses:",
        "if __mutant_ran__():",
    ),
}


@pytest.mark.parametrize("name", COUNTED_CONTROLS)
def test_wrong_counts_are_refused_by_name(name: str):
    story, old, new = COUNTED_CONTROLS[name]

    def told(module: ModuleType) -> None:
        it = Counting(module, STORY_RULES)
        words = {"w": it.client_waits, "b": it.busy_is_said, "i": it.idle_is_said}
        for word in story.split():
            if word == "f":
                it.one_fails()
            elif word in words:
                words[word]()
            else:
                it.now_s += float(word)

    told(secure_preforking)
    mutant = mutate(secure_preforking.__name__, [(old, new)])
    with pytest.raises(Broken) as refused:
        told(mutant)
    assert hits(mutant) > 0
    assert str(refused.value) == name


# -- single cases ---------------------------------------------------------------------------------


def test_a_retired_worker_gets_no_session_and_keeps_its_place_until_it_is_gone():
    """One that ignores its retirement wins nothing, and cannot make the pool grow past its cap."""
    pool = Pool(Rules(max_workers=1))
    pool.born(1, 0)
    pool.retire(1)
    assert pool.hand_out(0) is None and not pool.has_free(0)
    assert not pool.may_grow()
    pool.gone(1)
    assert pool.may_grow()


def test_the_worker_that_was_idle_last_is_taken_so_that_the_others_can_go():
    pool = Pool(RULES)
    for number in (1, 2, 3):
        pool.born(number, 0)
    assert pool.hand_out(1) is not None
    first = next(n for n, worker in pool.workers.items() if worker.busy)
    pool.take_back(first, 5)
    assert pool.hand_out(6) == first
    pool.take_back(first, 7)
    due = pool.due(11)
    assert first in due  # used up
    assert len(due) == 2  # one of the others is spare


def test_who_has_gone_is_not_missed():
    pool = Pool(RULES)
    pool.gone(7)
    assert pool.hand_out(0) is None and pool.due(0) == []


def test_a_session_that_is_too_long_is_told_once_then_killed_and_its_worker_serves_no_other():
    pool = Pool(Rules(max_session_s=100))
    pool.born(1, 0)
    assert pool.hand_out(0) == 1
    assert pool.overlong(99) == ([], [])
    assert pool.overlong(100) == ([1], [])
    assert pool.overlong(104) == ([], [])
    assert pool.overlong(105) == ([], [1])
    pool.take_back(1, 105)
    assert pool.is_spent(1, 105) and pool.hand_out(105) is None and pool.due(105) == [1]


def test_stress_does_not_come_and_go_with_every_session():
    """All of a pool's workers are busy a hundred times a second: two changes, not two hundred."""
    pool = Pool(Rules(max_workers=1, stress_command_s=10))
    pool.born(1, 0)
    changes = []
    for hundredth in range(3000):
        now_s = hundredth / 100
        if now_s < 1:
            assert pool.hand_out(now_s) == 1
            changes.append(pool.look(now_s))
            pool.take_back(1, now_s)
        changes.append(pool.look(now_s))
    assert [each for each in changes if each is not None] == [True, False]


def test_no_worker_lives_longer_than_its_longest_life():
    """The worst: handed out in its last second, it keeps the session; the parent looks at times."""
    rules = Rules(max_age_s=50, max_session_s=100)
    pool = Pool(rules)
    pool.born(1, 0)
    assert pool.hand_out(49.9) == 1
    look_s = 0
    while 1 not in pool.overlong(look_s)[1]:
        look_s += 1
    assert look_s <= rules.longest_life_s + 2
