"""Secure Pre-forking, judged: what a pool's worker is worth to who has seized it.

The claims are those of the pattern (paper, section 4): how many workers there are, how often and by
whom they are used, and the paper's real worry, that one seized worker gets at the clients of the
next.  What can be seen is judged on each instant; the rest on measurements of the running system
(`pool_sessions`): a text planted in a worker's memory, a worker that keeps what it has and grabs
what it can, and five times as many clients as there may be workers.

Where there is no pool the claims do not hold: who has no workers has nothing that bounds what one
of them is worth.

Of a pool's processes the last part is the worker; where there are three the second is the template.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from specs.observe.process import Process
from specs.patterns.claims import Bench, Claim, Experiment, Judge
from specs.patterns.manifest import Compartment, Manifest
from specs.patterns.observation import Observation, Unavailable
from specs.patterns.pool_sessions import (
    SESSIONS,
    Captured,
    Overloaded,
    Planted,
    Pool,
    capture,
    overload,
    plant,
)
from specs.patterns.sightings import Wrong, judged

NAME: Final = "secure_preforking"
TEMPLATE: Final = 1


def pooled(manifest: Manifest) -> tuple[Compartment, ...]:
    """Those that are pools.  Raises Unavailable if none is."""
    found = tuple(each for each in manifest.compartments if each.pool is not None)
    if not found:
        raise Unavailable("no pool")
    return found


def _of_sessions(manifest: Manifest) -> Compartment:
    """The pool that clients connect to.  Raises Unavailable."""
    for each in pooled(manifest):
        if each.listener:
            return each
    raise Unavailable("no pool that clients connect to")


def _is_worker(process: Process, compartment: Compartment) -> bool:
    return process.name == compartment.parts[-1]


def _clients(process: Process) -> list[str]:
    """The far ends of its connections."""
    return [each.remote for each in process.descriptors if each.remote and not each.listening]


# -- what can be seen at each instant -------------------------------------------------------------


def within_max_workers(seen: Observation) -> tuple[str, ...]:
    wrong, looked = [], False
    for instant in seen.instants:
        for each in pooled(seen.manifest):
            living = len(instant.named(each.parts[-1]))
            looked = looked or living > 0
            if each.pool is not None and living > each.pool.max_workers:
                wrong.append(f"{instant.label}: {living} of {each.parts[-1]}")
    return tuple(wrong) if looked else ("nobody was there to be looked at",)


def one_session_at_a_time(seen: Observation) -> tuple[str, ...]:
    pool = _of_sessions(seen.manifest)

    def wrong(process: Process, _: Compartment) -> Iterable[str]:
        clients = _clients(process)
        if pool.pool is not None and len(clients) > pool.pool.sessions_per_worker:
            yield f"{len(clients)} clients at once"

    return judged(seen, _only_workers(wrong), lambda each: each is pool)


def no_worker_listens(seen: Observation) -> tuple[str, ...]:
    pools = pooled(seen.manifest)

    def wrong(process: Process, _: Compartment) -> Iterable[str]:
        for each in process.descriptors:
            if each.listening:
                yield f"descriptor {each.number} takes connections at {each.local or each.target}"

    return judged(seen, _but_the_parent(wrong), lambda each: each in pools)


def forked_from_one_that_served_nobody(seen: Observation) -> tuple[str, ...]:
    pools = [each for each in pooled(seen.manifest) if len(each.parts) > TEMPLATE + 1]
    if not pools:
        return tuple(f"{each.name}: no template" for each in pooled(seen.manifest))
    parents = {process.pid: process for _, process in seen.sightings()}

    def wrong(process: Process, compartment: Compartment) -> Iterable[str]:
        template = compartment.parts[TEMPLATE]
        if process.name == template:
            yield from (f"serves {each}" for each in _clients(process))
        elif _is_worker(process, compartment):
            parent = parents.get(process.parent)
            if parent is None or parent.name != template:
                whose = parent.name if parent else str(process.parent)
                yield f"is a child of {whose}, not of {template}"

    return judged(seen, wrong, lambda each: each in pools)


def _only_workers(wrong: Wrong) -> Wrong:
    return lambda process, its: wrong(process, its) if _is_worker(process, its) else ()


def _but_the_parent(wrong: Wrong) -> Wrong:
    """Where there is a parent it is the one who takes connections."""
    return lambda process, its: () if process.name in its.parts[:-1][:1] else wrong(process, its)


# -- what was measured ----------------------------------------------------------------------------


def planted_state_ends_with_its_worker(seen: Observation) -> tuple[str, ...]:
    found = seen.result("planted_state", Planted)
    if not found.places or not found.own:
        return ("what was planted had no effect on the victim's own session: nothing was tested",)
    if not found.heard:
        return ("no worker was born after the planting: nothing was tested",)
    heard = [f"the session of worker {pid} had it" for pid, had in found.heard if had]
    return (*heard, *(f"process {pid} has it in its memory" for pid in found.remembered))


def no_worker_beyond_max_uses(seen: Observation) -> tuple[str, ...]:
    rules = _of_sessions(seen.manifest).pool
    uses = seen.result("planted_state", Planted).uses
    if rules is None or not uses:
        return ("nobody was seen to serve",)
    return tuple(f"worker {pid}: {n} sessions" for pid, n in uses.items() if n > rules.max_uses)


def used_up_it_captures_nothing(seen: Observation) -> tuple[str, ...]:
    found = seen.result("captured_sessions", Captured)
    if not found.tries or not found.lived:
        return ("the seized worker did not live to try it: nothing was tested",)
    if found.taken or found.served < found.sessions:
        return (
            f"of {found.sessions} sessions {found.served} were served, {found.taken} taken by the "
            f"seized worker",
        )
    return ()


def overload_stays_within_the_cap(seen: Observation) -> tuple[str, ...]:
    rules = _of_sessions(seen.manifest).pool
    found = seen.result("overload", Overloaded)
    if rules is None or found.most < rules.max_workers:
        return (f"only {found.most} workers were reached: that is no overload",)
    wrong = [f"worker {pid} had several clients at once" for pid in found.double]
    if found.most > rules.max_workers:
        wrong.append(f"{found.most} workers at once")
    return tuple(wrong)


def overload_shortens_patience(seen: Observation) -> tuple[str, ...]:
    found = seen.result("overload", Overloaded)
    wrong = []
    if not found.dismissed:
        wrong.append(f"of {found.clients} silent clients none was sent away")
    if not found.recovered:
        wrong.append("afterwards nobody was served")
    return tuple(wrong)


# -- the experiments ------------------------------------------------------------------------------


def pool_of(bench: Bench) -> tuple[Pool, Compartment]:
    """What clients connect to.  Raises Unavailable."""
    compartment = _of_sessions(bench.manifest)
    rules = compartment.pool
    if rules is None:
        raise Unavailable("no pool")
    return Pool(
        address=bench.target.address,
        workers=lambda: _pids(bench, compartment.parts[-1]),
        max_workers=rules.max_workers,
        max_uses=rules.max_uses,
    ), compartment


def _pids(bench: Bench, name: str) -> list[int]:
    return [each.pid for each in bench.target.processes() if each.name == name]


def _plant(bench: Bench) -> Planted:
    pool, compartment = pool_of(bench)
    others = compartment.parts[:-1]
    return plant(pool, lambda: [pid for name in others for pid in _pids(bench, name)])


def _capture(bench: Bench) -> Captured:
    return capture(pool_of(bench)[0])


def _overload(bench: Bench) -> Overloaded:
    return overload(pool_of(bench)[0])


EXPERIMENTS: Final = (
    Experiment("planted_state", _plant, destructive=True),
    Experiment("captured_sessions", _capture, destructive=True),
    Experiment("overload", _overload, destructive=True),
)


def _claim(name: str, text: str, judge: Judge) -> Claim:
    def of_pools(seen: Observation) -> tuple[str, ...]:
        there = any(each.pool is not None for each in seen.manifest.compartments)
        return judge(seen) if there else ("there is no pool",)

    return Claim(pattern=NAME, name=name, text=text, judge=of_pools)


# fmt: off
CLAIMS: Final = (
    _claim("within_max_workers", "never more workers live than the pool may have",
           within_max_workers),
    _claim("one_session_at_a_time", "no worker has the connections of two clients",
           one_session_at_a_time),
    _claim("no_worker_listens", "no worker can take a connection that it is not handed",
           no_worker_listens),
    _claim("forked_from_one_that_served_nobody",
           "each worker is forked from a template that has no client",
           forked_from_one_that_served_nobody),
    _claim("planted_state_ends_with_its_worker",
           "what is planted in a worker is not in those that are born later",
           planted_state_ends_with_its_worker),
    _claim("no_worker_beyond_max_uses", "no worker serves more sessions than it may",
           no_worker_beyond_max_uses),
    _claim("used_up_it_captures_nothing",
           f"a worker that stays after its last session gets none of the next {SESSIONS}",
           used_up_it_captures_nothing),
    _claim("overload_stays_within_the_cap",
           "five clients for each place do not make one more worker, nor share one",
           overload_stays_within_the_cap),
    _claim("overload_shortens_patience",
           "when all workers are busy silent clients are sent away sooner, and later ones served",
           overload_shortens_patience),
)
# fmt: on
