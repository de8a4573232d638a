"""Waiting for something that another process does, and that no event tells us.

Not a pause that is hoped to be long enough: the condition is looked at until it holds, and a time
limit ends the wait, so that a system that never gets there is a finding and not a hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: Between two looks, in seconds.
LOOK_S: Final = 0.02


def within(patience_s: float, condition: Callable[[], bool], look_s: float = LOOK_S) -> bool:
    """Whether the condition came to hold in that time (seconds); it is looked at once at least."""
    deadline = time.monotonic() + patience_s
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(look_s)
    return held
