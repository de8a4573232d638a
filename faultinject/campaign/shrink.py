"""Shrinking: from a case in which something was found, to the smallest that still shows it.

    current := the case;  candidates := smaller(current), the simplest first
    a candidate that fails in the same way becomes the current one, and it begins again
    when none does, the current one is the smallest

"In the same way" means: a finding of the same name.  Greedy, so it ends in a case none of whose own
smaller ones failed; a case that fails only now and then may be passed over, so the result is small,
and not proved smallest.  At the end it is run again a few times, to say how often it fails.

Pure: what is to be run is yielded, what came of it is sent back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Final

from faultinject.campaign.records import Ending
from faultinject.cases import Case

#: Candidates that are tried at most, for one finding.
TRIES: Final = 60
#: How often the smallest is run again.
CONFIRMATIONS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A case to be run.  again: 0, or the number of its confirmation."""

    case: Case
    again: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """fails, runs: of the confirmations."""

    case: Case
    tries: int
    ending: Ending
    fails: int
    runs: int


Shrinking = Generator[Attempt, bool, Shrunk]


def shrink(case: Case, smaller: Callable[[Case], Iterator[Case]], tries: int = TRIES) -> Shrinking:
    """Yields what is to be run, takes whether it failed in the same way, returns the smallest."""
    current, tried = case, {case.key}
    ending: Ending = "minimal"
    while ending == "minimal":
        for candidate in _simpler(current, smaller):
            if candidate is None:
                ending = "the harness failed"
                break
            if candidate.key in tried:
                continue
            if len(tried) > tries:
                ending = "enough tries"
                break
            tried.add(candidate.key)
            if (yield Attempt(case=candidate)):
                current = candidate
                break
        else:
            break
    fails = 0
    for again in range(1, CONFIRMATIONS + 1):
        fails += yield Attempt(case=current, again=again)
    return Shrunk(
        case=current, tries=len(tried) - 1, ending=ending, fails=fails, runs=CONFIRMATIONS
    )  # fmt: skip


def _simpler(case: Case, smaller: Callable[[Case], Iterator[Case]]) -> Iterator[Case | None]:
    """None at the end if the harness, another's code, fails."""
    try:
        yield from smaller(case)
    except Exception:
        yield None
