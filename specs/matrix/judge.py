"""Claims meet an observation: verdicts, and whether they are the expected ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from specs.matrix.expected import Expected
from specs.patterns.claims import Claim
from specs.patterns.observation import Observation, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """verdict: "holds", "fails", "unavailable" (the machine or the target lacks something) or
    "broken" (the judge itself failed).  counterexamples: or what is lacking, or what broke.
    """

    claim: Claim
    expected: Expected
    verdict: str
    counterexamples: tuple[str, ...] = ()

    @property
    def as_expected(self) -> bool:
        """What is unavailable or broken never is."""
        return self.verdict == self.expected.verdict


def judge(
    observation: Observation, claims: Iterable[Claim], rows: Mapping[str, Expected]
) -> list[Judged]:
    """Every claim.  Raises KeyError for one without a row (`expected.match` says so before)."""
    layers = observation.manifest.layers
    return [_judged(observation, each, rows[each.key].among(layers)) for each in claims]


def _judged(observation: Observation, claim: Claim, expected: Expected) -> Judged:
    verdict, lines = _verdict(observation, claim)
    return Judged(claim=claim, expected=expected, verdict=verdict, counterexamples=lines)


def _verdict(observation: Observation, claim: Claim) -> tuple[str, tuple[str, ...]]:
    try:
        found = claim.judge(observation)
    except Unavailable as missing:
        return "unavailable", (str(missing),)
    except Exception as error:  # one broken judge must not hide the others' verdicts
        return "broken", (f"{type(error).__name__}: {error}",)
    return ("fails" if found else "holds"), found
