"""How the cases of a plan become such as fit into a campaign: small ones first, whole ones later.

A harness plans for somebody who has the time for everything: one of its cases may take an hour.  A
campaign asks many servers, so it runs the same cases in rounds

    kill    all processes killed at each 6th call; then kind by kind of process, each of its points
    crash   the 6 states that lose least, and 2 by chance; then all minimal states
    power   6 cuts on each file system; then a whole round
    disk    3 of a fault's steps, chosen by the seed; then 12; then all

and others as they are.  What a round leaves out is in a later one, but for `kill`, whose kinds are
together the whole case.  A portion is a case as any other: its settings say what it is.

No I/O but for what a target says of its own roles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from faultinject import target as targets
from faultinject.cases import Case, Harness

#: Settings of a portion, or None where the case is none of that round.
Narrow = Callable[[Case], Iterator[Mapping[str, Any]]]

#: How a target may call the processes of a role.
_PARTS: Final = ("", " worker", " template")


def _with(**settings: Any) -> Narrow:
    def narrow(_: Case) -> Iterator[Mapping[str, Any]]:
        yield settings

    return narrow


def _live(**settings: Any) -> Narrow:
    """Of crash states: those of the running server; its stores are quick, and always whole."""

    def narrow(case: Case) -> Iterator[Mapping[str, Any]]:
        yield settings if case.settings.get("part") == "live" else {}

    return narrow


def _trees(case: Case) -> Iterator[Mapping[str, Any]]:
    if case.settings.get("fault") == "tree":
        yield {"every": 6}


def _kinds(case: Case) -> Iterator[Mapping[str, Any]]:
    """Each kind of process by itself."""
    if case.settings.get("fault") == "tree":
        yield {}
        return
    for role in targets.load(case.target).roles:
        for part in _PARTS:
            yield {"kind": role + part}


#: Harness -> its rounds.
ROUNDS: Final[Mapping[str, tuple[Narrow, ...]]] = {
    "kill": (_trees, _kinds),
    "crash": (_live(most=6, samples=2), _with()),
    "power": (_with(cuts=6), _with()),
    "disk": (_with(sample=3), _with(sample=12), _with()),
}


def portions(harness: Harness, target: str, seed: int) -> Iterator[Case]:
    """What a campaign runs of a plan, in order, each case once.  Raises what the plan raises."""
    done = set[str]()
    for narrow in ROUNDS.get(harness.name, (_with(),)):
        for case in harness.plan(target, seed):
            for settings in narrow(case):
                portion = msgspec.structs.replace(case, settings={**case.settings, **settings})
                if portion.key not in done:
                    done.add(portion.key)
                    yield portion


def is_sample(case: Case) -> bool:
    """Whether its settings leave out what its fault could do, and chance or a limit chose."""
    return any(case.settings.get(name) for name in ("sample", "samples", "every"))
