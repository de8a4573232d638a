"""Messages per second of every target under every shape of load, in interleaved rounds.

Within a shape the targets take turns, in an order that changes from round to round, so that what
else happens on the machine happens to all of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.load import Rates, Shape, run
from bench.target import Target

WARM_UP_PER_CLIENT = 2
AIMS = {1: 1.0, 20: 1.5}  # clients -> ratio to the better column of the reference


def shapes(quick: bool) -> list[Shape]:
    """1, 20 and 100 clients; a connection per message and kept open; 1 and 16 recipients."""
    messages = {1: {1: 400, 20: 1000, 100: 1000}, 16: {1: 40, 20: 100, 100: 100}}
    every = [
        Shape(
            clients=clients,
            messages=messages[recipients][clients],
            kept=kept,
            recipients=recipients,
        )
        for recipients in (1, 16)
        for kept in (False, True)
        for clients in (1, 20, 100)
    ]
    if not quick:
        return every
    return [replace(shape, messages=shape.messages // 2) for shape in every if shape.clients < 100]


def measure(
    targets: Sequence[Target], shape: Shape, number: int, chance: random.Random
) -> Iterator[tuple[int, str, Rates]]:
    """(round, target's name, rates) of each run; the run before the first warms up."""
    warm_up = replace(shape, messages=min(shape.messages, WARM_UP_PER_CLIENT * shape.clients))
    for target in targets:
        run(target, warm_up)
    for turn in range(number):
        for target in chance.sample(targets, len(targets)):
            yield turn, target.name, run(target, shape)
