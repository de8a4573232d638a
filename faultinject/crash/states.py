"""Which of the states that a crash may leave of a recording are tried on the real server.

A recording of a real server has too many states to start the server on each.  So: at the instant of
each reply, and at the end, under P1, P2 and P3 (renames atomic and split)
- *minimal* states: nothing is lost, or one operation is (under P1, which keeps names in their
  order: all names from one on), in each way to lose it, all of them;
- *sampled* states: each loss by chance, by a seed, at any instant.
Equal disks are one state; it is told with the fewest losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from faultinject.crash.recording import Recording
from specs.persistence.model_disk import Snapshot
from specs.persistence.models import MODELS, Model
from specs.persistence.sample import cut_short, single_losses
from specs.persistence.states import CrashState

MODELS_TRIED: Final[tuple[Model, ...]] = tuple(each for each in MODELS if each.octets_lost)


@dataclass(slots=True, kw_only=True)
class Tried:
    """A state, and the strongest model that allows it (of a sample: one that does).  minimal: one
    operation is lost at most; choices: of a sample, what was drawn, 0 for each thing not lost.
    """

    state: CrashState
    model: Model
    minimal: bool
    choices: tuple[int, ...] = ()

    @property
    def lost(self) -> int:
        """How many operations did not survive whole."""
        return len({index for index, _ in self.state.losses})

    def story(self, recording: Recording, lines: dict[int, str]) -> list[str]:
        """The instant, and what was lost, with the call and the line that made it."""
        cut, losses = self.state.told()
        found = [f"crash after: {recording.said(cut - 1) if cut else 'nothing'} ({self.model})"]
        for index, what in losses:
            line = f" by {lines[index]}" if index in lines else ""
            found.append(f"{recording.said(index)}{line}: {what}")
        return found


def minimal(recording: Recording, models: Sequence[Model] = MODELS_TRIED) -> list[Tried]:
    """Those with a promise first, then by what is lost: fewest, and whole operations first."""
    found: dict[tuple[Snapshot, frozenset[str]], Tried] = {}
    for model in models:
        for cut in cuts(recording):
            for state in single_losses(recording.initial, recording.operations[:cut], model):
                tried = Tried(state=state, model=model, minimal=True)
                found.setdefault((state.snapshot, state.acknowledged), tried)
    return sorted(found.values(), key=_weight)


def _weight(tried: Tried) -> tuple[bool, int, int]:
    whole = sum(what == "lost" or "name" in what for _, what in tried.state.losses)
    return not tried.state.acknowledged, tried.lost, -whole


def cuts(recording: Recording) -> list[int]:
    """The instants: behind each reply, and the end."""
    replies = [n for n, each in enumerate(recording.operations, 1) if each.kind == "reply"]
    return sorted({*replies, len(recording.operations)})


def sampled(
    recording: Recording, seed: int, models: Sequence[Model] = MODELS_TRIED
) -> Iterator[Tried]:
    """For ever; some come twice."""
    random = Random(f"crash {seed}")  # noqa: S311  (replayed by its seed)
    while True:
        model = random.choice(models)
        cut = random.randint(1, len(recording.operations))
        rarely = random.choice((2, 4, 8))
        made: list[int] = []

        def choose(ways: int, rarely: int = rarely, made: list[int] = made) -> int:
            made.append(random.randrange(ways) if random.randrange(rarely) == 0 else 0)
            return made[-1]

        state = cut_short(recording.initial, recording.operations[:cut], model, choose)
        yield Tried(state=state, model=model, minimal=False, choices=tuple(made))


def smaller(recording: Recording, tried: Tried) -> Iterator[Tried]:
    """Samples at the same instant, in each of which one thing more is not lost."""
    operations = recording.operations[: tried.state.cut]
    for number, choice in enumerate(tried.choices):
        if choice:
            choices = (*tried.choices[:number], 0, *tried.choices[number + 1 :])
            left = iter(choices)

            def choose(ways: int, left: Iterator[int] = left) -> int:
                return min(next(left, 0), ways - 1)  # what was lost before decides what is asked

            state = cut_short(recording.initial, operations, tried.model, choose)
            yield Tried(state=state, model=tried.model, minimal=False, choices=choices)


def chosen(recording: Recording, seed: int, most: int, samples: int) -> tuple[list[Tried], int]:
    """What is tried: at most so many minimal ones, and samples that are none of them; and how many
    minimal ones there are.
    """
    every = minimal(recording)
    found = every[:most]
    known = {(each.state.snapshot, each.state.acknowledged) for each in every}
    tries = sampled(recording, seed)
    for _ in range(samples * 20):
        if samples <= 0:
            break
        tried = next(tries)
        key = (tried.state.snapshot, tried.state.acknowledged)
        if key not in known:
            known.add(key)
            found.append(tried)
            samples -= 1
    return found, len(every)
