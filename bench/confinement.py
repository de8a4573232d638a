"""What confinement costs: the same mail, by the same server with and without its layers.

Both run at once and are loaded in turn, so that the noise of the machine meets both alike.
"""

from __future__ import annotations

from bench.load import Shape

#: Confined, it delivers at least this part of what it delivers without.
AIM = 0.9
#: Fewer would tell nothing: two rounds of one server differ by a tenth.
ROUNDS = 5


def shapes(quick: bool) -> list[Shape]:
    """One client, whose time is the latency of every step; twenty, who wait for the processor."""
    messages = 400 if quick else 1500
    return [
        Shape(clients=1, messages=messages // 2, kept=True),
        Shape(clients=20, messages=messages),
        Shape(clients=20, messages=messages, kept=True),
    ]
