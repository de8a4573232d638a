"""Whether a long queue slows other mail down: a server twice, one with a queue, taking turns.

The queue is mail for a user whose mailbox can't be written: accepted, tried, deferred. Its retries
fall into the measurement, as they do in life.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench.load import LoadError, Rates, Shape, run, sending, settle
from bench.target import STUCK_USER, Target

CLIENTS = 20
FILL_LIMIT_S = 600.0


def fill(target: Target, messages: int) -> None:
    """Put so many messages into the queue that stay there."""
    target.let_stuck()
    shape = Shape(clients=CLIENTS, messages=messages, kept=True, user=STUCK_USER)
    with sending(target, shape):
        pass
    settle(target, quiet_s=3.0, limit_s=FILL_LIMIT_S)  # Postfix pauses for a second at times
    queued = target.queued()
    if queued != messages:
        raise LoadError(f"{target.name}: {queued} messages in the queue instead of {messages}")


def measure(
    plain: Target, loaded: Target, number: int, quick: bool, chance: random.Random
) -> Iterator[tuple[bool, Rates]]:
    """(with the queue?, rates) of each run."""
    shape = Shape(clients=CLIENTS, messages=750 if quick else 1500, kept=True)
    for _ in range(number):
        for target in chance.sample((plain, loaded), 2):
            yield target is loaded, run(target, shape)
