"""One step, running under load: whose its processes are, and what a seized one can do.

Who is seized is seen, not told: the kinds of processes that have a connection to somebody over the
network, one of each.  What any of them reaches counts: it is the attacker who chooses the door.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from specs.evolution.inventory import Inventory, inventory, within_reach
from specs.evolution.measured import Seen, Share
from specs.observe.probes import PROBES, attempt
from specs.observe.process import Process
from specs.observe.rest import await_rest
from specs.observe.seize import Gone, Seized
from specs.patterns.bench import Running, running
from specs.patterns.gather import aims
from specs.patterns.target import Named, Target, TargetError
from specs.patterns.world import SILENT, Unanswered

#: Messages that stay in the queue, for somebody who never answers: so that to have one of them
#: open is not to have them all.
WAITING: Final = 4
#: What is busy for longer is not waited for: it may be looking whether it may go.
REST_S: Final = 1.0
#: How often a process may end while it is looked at.
TRIES: Final = 3
_HARMLESS: Final = tuple(each for each in PROBES if not each.harmful)


def look(maker: Callable[[], Target], architecture: str) -> Seen:
    """Start that architecture, load it, and look.  Raises TargetError, NoSuchArchitecture,
    Unavailable.
    """
    with running(maker, architecture) as bench:
        _fill(bench)
        processes = bench.instant("under load").processes
        doors = {each.name: each for each in processes if _is_facing(each)}
        if not doors:
            raise TargetError("no process has a connection over the network")
        files = inventory(bench)
        reached, attempts = _seize(bench, sorted(doors), files)
        roots = {each.name for each in processes if 0 in each.uids}
        kinds = {each.name for each in processes}
        loads = {name: _own_lines(bench.target, name) for name in roots | {*doors}}
        return Seen(
            root=Share(len(roots), len(kinds)),
            users=len({each.uids[1] for each in processes}),
            facing=tuple(sorted(doors)),
            reach={
                kind: Share(len(reached.intersection(found)), len(found))
                for kind, found in files.items()
            },
            attempts=tuple(sorted(attempts)),
            tried=len(_HARMLESS),
            root_lines=_together(loads[name] for name in roots),
            facing_lines=max(sum(loads[name].values()) for name in doors),
        )


def _fill(bench: Running) -> None:
    """Raises TargetError."""
    try:
        for _ in range(WAITING):
            code, text = bench.world.send(bench.target.address, f"somebody@{SILENT}")
            if code != 250:
                raise TargetError(f"mail to {SILENT} is answered {code} {text}")
    except (OSError, Unanswered) as error:
        raise TargetError(f"mail to {SILENT}: {error}") from None
    await_rest((each.pid for each in bench.target.processes()), REST_S)


def _is_facing(process: Process) -> bool:
    """Whether it has a connection of its own over the network; a listening socket is none."""
    return any(
        each.family in ("inet", "inet6") and each.remote and not each.listening
        for each in process.descriptors
    )


def _seize(
    bench: Running, names: Iterable[str], files: Inventory
) -> tuple[frozenset[Path], frozenset[str]]:
    """Files that one of them reaches, and attempts in which one of them succeeds."""
    reached: set[Path] = set()
    attempts: set[str] = set()
    for name in names:
        found, done = _one(bench, name, [each for kind in files.values() for each in kind])
        reached |= found
        attempts |= done
    return frozenset(reached), frozenset(attempts)


def _one(bench: Running, name: str, files: Iterable[Path]) -> tuple[set[Path], set[str]]:
    for _ in range(TRIES):
        victim = _process(bench, name)
        with contextlib.suppress(Gone):
            with Seized(victim.pid) as seized:
                found = set(within_reach(seized, files))
            outcomes = attempt(victim.pid, aims(bench, victim), _HARMLESS)
            return found, {probe for probe, outcome in outcomes.items() if outcome.done}
    raise TargetError(f"{name} ends whenever it is looked at")


def _process(bench: Running, name: str) -> Named:
    """One of that name that has a connection now.  Raises TargetError."""
    for _ in range(TRIES):
        for each in bench.instant("again").processes:
            if each.name == name and _is_facing(each):
                return Named(each.pid, each.name, each.detail)
        bench.load()
    raise TargetError(f"no process {name} has a connection, even under load")


def _own_lines(target: Target, name: str) -> Mapping[str, int]:
    """Module -> lines, of the judged's own code."""
    return {each.name: each.lines for each in target.modules(name) if each.own}


def _together(loads: Iterable[Mapping[str, int]]) -> int:
    """Lines of all modules, each counted once."""
    merged: dict[str, int] = {}
    for each in loads:
        merged |= each
    return sum(merged.values())
