"""What a round of power cuts says, and its row: for tests."""

from __future__ import annotations

from faultinject.power.injector import case
from faultinject.power.records import Judged, Loaded, Settings
from faultinject.power.results import Row

WORDS = [
    Loaded(cuts=2, acknowledged=9, seconds=1.5),
    Judged(number=0, counts={"promised": 3, "fresh": 1}),
    Judged(number=1, again=True, counts={"promised": 4}, found={"lost": 7},
           examples=[("lost", "p1-3/1 for ada")], log="the end"),
]  # fmt: skip
CASE = case("toy", 5, Settings(fs="xfs", cuts=1))


class Silent:
    """A target of which nothing but its known failures is asked."""

    known_failures: dict[str, str] = {}  # noqa: RUF012


def row(fs: str, seed: int, cuts: int = 5, **changes) -> Row:
    return Row(
        case=case("toy", seed, Settings(fs=fs)), seed=1, verdict="held", counts={"cuts": cuts},
        seconds=2.0, **changes,
    )  # fmt: skip
