"""The measures of the ledger of claims (`specs.claims`): numbers that only a running server gives.

One entry point each, called with the subject ("composition:qmail", "server:postfix") and the part
that is asked for.  What a number is, and what is tricky about it, stands where it is taken:

    measures_parts   who works on a message, who is root, how much code, how much configuration
    measures_pools   what reuse of workers gains and costs, their caps, resident rewriting
    measures_speed   messages per second; a second processor; what a process costs here
    measures_kills   what is lost, torn or doubled by kills before system calls
    measures_trade   one knob turned, both sides
    measures_generations  what each pattern brings, along the line from the monolith to ours

They stand on `measures_places` (ours, at work), `measures_peers` (real servers, in overlay roots)
and `measures_calls` (strace).  Nobody is seized here: that is the matrix's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from refmta.architectures.catalogue import ARCHITECTURES
from specs.claims.instruments import NotHere
from specs.claims.verdict import Reading
from subjects import (
    measures_generations,
    measures_kills,
    measures_parts,
    measures_pools,
    measures_speed,
    measures_trade,
)
from subjects.measures_places import peers

OURS: Final = "composition:refmta"

Take = Callable[[str, str], Reading]


def _of(take: Take, *parts: str) -> Take:
    """The same, refusing what it has no part for."""

    def taken(subject: str, part: str) -> Reading:
        if part not in parts:
            raise NotHere(f"the part {part!r} of this measure of {subject}")
        return take(subject, part)

    taken.__name__ = take.__name__
    taken.__doc__ = take.__doc__
    return taken


processes = _of(measures_parts.processes, "")
privileged = _of(measures_parts.privileged, "")
roots = _of(measures_parts.roots, "all", "unexpected")
largest_part = _of(measures_parts.largest_part, "", "root")
configuration = _of(measures_parts.configuration, "mailers", "lines", "transports")
session_cost = _of(measures_pools.session_cost, "")
exposure = _of(measures_pools.exposure, "")
pool_caps = _of(measures_pools.pool_caps, "")
rewriting = _of(measures_pools.rewriting, "")
rate = _of(measures_speed.rate, "")
scaling = _of(measures_speed.scaling, "")
kills = _of(measures_kills.kills, "harmed", "harmed_or_doubled")
trade = _of(measures_trade.trade, *measures_trade.KNOBS)
generations = _of(measures_generations.generations, "unexpected", "idle_steps")

#: Entry points of the group refmta.specs.measures.
MEASURES: Final[dict[str, Take]] = {
    each.__name__: each
    for each in (
        processes, privileged, roots, largest_part, configuration, session_cost, exposure,
        pool_caps, rewriting, rate, scaling, kills, trade, generations,
    )
}  # fmt: skip


def compositions() -> tuple[str, ...]:
    """Entry point: what can be composed of our roles."""
    return tuple(ARCHITECTURES)


def servers() -> tuple[str, ...]:
    """Entry point: which real servers can be had here."""
    try:
        found: tuple[str, ...] = peers().available()
    except NotHere:
        return ()
    return found
