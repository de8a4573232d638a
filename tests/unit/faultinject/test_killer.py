"""Who is killed next, and that it is this very process that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
import trio

from faultinject.books import Books
from faultinject.killer import Killer
from faultinject.processes import Process, age_s, everyone, family, look, strike


def killer(*roles):
    return Killer(roles=roles, books=Books(), random=Random(1), now=lambda: 7.0)


def running(*kinds):
    rows = [kind.partition(" ") for kind in kinds]
    return [Process(number, role, part) for number, (role, _, part) in enumerate(rows, 1)]


@pytest.fixture
def sleeper():
    """A process to be killed."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def hit(chooser, processes, times):
    """The kinds of the victims."""
    chosen = Counter()
    for _ in range(times):
        victim = chooser.choose(processes)
        if victim is not None:
            chosen[victim.kind] += 1
            chooser.hits[victim.role] += 1
            chooser.kinds[victim.kind] += 1
    return chosen


def test_every_role_is_hit_equally_whatever_it_has_of_processes():
    chooser = killer("a", "b", "c")
    chosen = hit(chooser, running("a", *["b worker"] * 30, "c"), 60)
    assert chosen == {"a": 20, "b worker": 20, "c": 20}


def test_whoever_was_hit_is_not_hit_again_while_he_dies(sleeper):
    seen = look(sleeper.pid)
    victim, chooser = Process(sleeper.pid, "a", born=seen.born), killer("a")
    assert [chooser.kill_one([victim]) for _ in range(3)] == ["a", "", ""]
    assert len(chooser.books.kills) == 1


def test_every_part_of_a_role_is_hit_equally():
    chooser = killer("pool")
    chosen = hit(chooser, running("pool", "pool template", *["pool worker"] * 30), 60)
    assert chosen == {"pool": 20, "pool template": 20, "pool worker": 20}


def test_a_role_that_runs_seldom_is_hit_when_it_runs():
    chooser = killer("often", "seldom")
    hit(chooser, running("often"), 9)
    assert hit(chooser, running("often", "seldom"), 5) == {"seldom": 5}


@pytest.mark.parametrize(("age_s", "ripe"), [(0, 0), (0.5, 25), (2, 100), (3, 100)])
def test_the_young_are_left_alone_for_a_while_by_chance(age_s, ripe):
    chooser = Killer(
        roles=("a",), books=Books(), random=Random(1), now=lambda: 7.0, grace_s=2.0,
        age_s=lambda _: age_s,
    )  # fmt: skip
    hits = sum(chooser.choose([Process(pid, "a")]) is not None for pid in range(100))
    assert abs(hits - ripe) <= 10


def test_who_starts_first_is_not_killed_again_and_again():
    chooser = killer("spawner", "a")
    chooser.choose(running("spawner", "a"))
    assert hit(chooser, running("spawner"), 100).total() == 4
    assert hit(chooser, running("a"), 4) == {"a": 4}
    assert hit(chooser, running("spawner", "a"), 10).total() == 10
    assert hit(chooser, running("spawner"), 100).total() == 4  # 9, where the other has 5
    assert hit(chooser, running("spawner", "a"), 5) == {"a": 5}


def test_a_process_has_one_grace():
    chooser = killer("a")
    chooser.grace_s, chooser.age_s = 2.0, lambda _: 1.0
    victims = [Process(pid, "a") for pid in range(50)]
    first = [chooser.choose([each]) for each in victims]
    assert [chooser.choose([each]) for each in victims] == first
    assert None in first and set(first) != {None}


def test_the_age_of_a_process():
    seen = look(os.getpid())
    assert 0 <= age_s(Process(seen.pid, "test", born=seen.born)) < 86400


def test_nothing_runs():
    assert killer("a").kill_one([]) == ""


def test_the_spared_are_named():
    chooser = killer("a", "b")
    chooser.hits.update(a=3)
    assert chooser.spared(3) == ["b"] and chooser.spared(0) == []


def test_a_kill_is_in_the_books(sleeper):
    chooser = killer("a")
    seen = look(sleeper.pid)
    assert chooser.kill_one([Process(seen.pid, "a", born=seen.born)]) == "a"
    assert sleeper.wait(20) == -signal.SIGKILL
    (kill,) = chooser.books.kills
    assert (kill.role, kill.when_s) == ("a", 7.0)


def test_another_process_with_the_same_number_is_not_struck(sleeper):
    chooser = killer("a")
    seen = look(sleeper.pid)
    assert chooser.kill_one([Process(seen.pid, "a", born=seen.born - 1)]) == ""
    assert sleeper.poll() is None and not chooser.books.kills and not chooser.hits


def test_who_is_gone_is_not_struck(sleeper):
    seen = look(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    process = Process(seen.pid, "a", born=seen.born)
    assert look(seen.pid) is None  # a zombie
    assert not strike(process)
    sleeper.wait()
    assert not strike(process)


def test_the_family_of_a_process(sleeper):
    seen = {each.pid: each for each in family(os.getpid())}
    assert seen[os.getpid()].parent == os.getppid()
    assert seen[sleeper.pid].parent == os.getpid()
    assert set(seen) < {*everyone(), *seen} and os.getppid() not in seen
    assert family(2**22 + 1) == []


@pytest.mark.parametrize(
    ("hits", "left_s", "victims"),
    [
        ({}, 100, 1),  # two roles, five hits each: no hurry
        ({}, 5, 2),
        ({}, 0, 2),
        ({"a": 5}, 2.5, 2),
        ({"a": 5}, 5, 1),
        ({"a": 50, "b": 5}, 0.1, 1),
    ],
)
def test_as_many_are_killed_at_once_as_need_be(hits, left_s, victims):
    chooser = killer("a", "b")
    chooser.hits.update(hits)
    assert chooser.volley(5, left_s) == victims


class Counting(Killer):
    """Nobody dies; who would have is counted."""

    def kill_one(self, processes):
        victim = self.choose(processes)
        if victim is None:
            return ""
        self.hits[victim.role] += 1
        return victim.role


@pytest.mark.parametrize(
    ("kinds", "left_s", "struck"),
    [
        (("a", "b"), 10.0, {"b"}),  # a has its hits
        (("a", "b"), 1.0, {"b"}),
        (("a",), 10.0, {"a"}),  # b does not run now: as often as ever
        (("a",), -1.0, set()),  # past the time b is waited for
        (("a", "b"), -1.0, {"b"}),
    ],
)
def test_whoever_lacks_hits_is_hit(kinds, left_s, struck):
    counting = Counting(roles=("a", "b"), books=Books(), random=Random(1), now=lambda: 7.0)
    counting.hits.update(a=5, c=5, d=5)
    counting.choose(running(*"abcd"))  # they have been seen
    before = Counter(counting.hits)
    assert counting.strike_some(running(*kinds), 5, left_s) == (counting.hits - before).total()
    assert set(counting.hits - before) == struck


async def test_kills_come_again_and_again(autojump_clock):
    chooser = killer("a", "b")
    chooser.kinds = chooser.hits  # counted by hand: nobody dies here
    looks = []

    def processes():
        looks.append(trio.current_time())
        chooser.hits.update(a=1, b=1)
        return []

    began_s = trio.current_time()
    await chooser.rage(60, 20, processes)
    assert trio.current_time() == began_s + 60
    assert len(looks) > 20


async def test_overtime_ends(autojump_clock):
    began_s = trio.current_time()
    await killer("a").rage(60, 1, list)
    assert 85 < trio.current_time() - began_s < 90
