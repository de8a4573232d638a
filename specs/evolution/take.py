"""All numbers of an evolution, step by step; the ones that need all steps at once come last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from specs.evolution.look import look
from specs.evolution.losses import losses
from specs.evolution.measured import Seen, Stage
from specs.evolution.rates import DoesNotStart, rates
from specs.evolution.steps import Evolution, Step
from specs.patterns.observation import Unavailable
from specs.patterns.target import NoSuchArchitecture, TargetError

Tell = Callable[[str], None]


def take(evolution: Evolution, rounds: int, messages: int, tell: Tell) -> list[Stage]:
    """A stage for each step.  rounds: 0 for no rates.  Raises DoesNotStart, Unavailable."""
    steps = list(evolution.steps)
    stages = [_stage(evolution, step, tell) for step in steps]
    if not rounds:
        return stages
    found = rates(evolution.shipped, steps, rounds, messages, tell)
    return [replace(stage, rates=each) for stage, each in zip(stages, found, strict=True)]


def _stage(evolution: Evolution, step: Step, tell: Tell) -> Stage:
    return Stage(
        step=step,
        seen=_look(evolution, step, step.architecture, tell),
        lost=losses(evolution.stores(step)),
        weakened=_look(evolution, step, step.weakened, tell) if step.weakened else None,
    )


def _look(evolution: Evolution, step: Step, architecture: str, tell: Tell) -> Seen:
    tell(f"looked at: {architecture} ({step.pattern or 'the start'})")
    try:
        return look(evolution.observed, architecture)
    except (TargetError, NoSuchArchitecture) as error:
        raise DoesNotStart(f"{step}: {error}") from None
    except Unavailable as missing:
        raise Unavailable(f"{step}: {missing}") from None
