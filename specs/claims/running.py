"""The matrix as an instrument: ours is started and observed once, for all claims of some patterns.

What a claim can't tell (`Unavailable`) is missing; one whose judgement breaks down does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from specs.claims.instruments import Answer, NotHere
from specs.patterns.claims import Claim, claims, experiments
from specs.patterns.gather import gather
from specs.patterns.observation import Observation, Unavailable
from specs.patterns.target import NoSuchArchitecture, Target, load

#: The target whose compositions the ledger calls by name.
TARGET: Final = "refmta"


def run_matrix(architecture: str, patterns: tuple[str, ...]) -> Mapping[str, Answer]:
    """Claim's key -> counterexamples, or what it lacks.  Raises NotHere, TargetError."""
    maker = _maker()
    try:
        seen = gather(maker, architecture, experiments(patterns), tell=lambda _: None)
    except (NoSuchArchitecture, Unavailable) as lacks:
        raise NotHere(str(lacks)) from lacks
    return {claim.key: judged(claim, seen) for claim in claims(patterns)}


def _maker() -> Callable[[], Target]:
    try:
        lacks = load(TARGET).unavailable()
    except KeyError:
        raise NotHere(f"the target {TARGET} for the matrix") from None
    if lacks:
        raise NotHere(lacks)
    return lambda: load(TARGET)


def judged(claim: Claim, seen: Observation) -> Answer:
    """One claim on an observation; never raises."""
    try:
        return tuple(claim.judge(seen))
    except Unavailable as lacks:
        return NotHere(f"{claim.key}: {lacks}")
    except Exception as error:  # a judgement that breaks is no success
        return (f"could not be judged: {type(error).__name__}: {error}",)
