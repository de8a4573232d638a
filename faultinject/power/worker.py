"""The process in which a round runs: `python -m faultinject.power.worker` (`workers`).

It reads a request, and says a word per line (`records`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from faultinject import target as targets
from faultinject.namespaces import Write
from faultinject.power.records import Request, encode
from faultinject.power.round import Round
from faultinject.workers import serve


def prepare(line: bytes) -> Callable[[Write], None]:
    """Raises msgspec.DecodeError (a ValueError), KeyError."""
    request = msgspec.json.decode(line, type=Request)
    target = targets.load(request.target)

    def work(write: Write) -> None:
        round_ = Round(
            target=target, settings=request.settings, seed=request.seed, place=Path(request.place)
        )
        for word in round_.run():
            write(encode(word))

    return work


if __name__ == "__main__":
    sys.exit(serve(prepare))
