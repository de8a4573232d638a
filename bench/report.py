"""The tables that a run prints: every number beside the others of the same run, ratio and aim."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

MIB = 1 << 20
WIDTH = 17


def line(label: str, *cells: str) -> None:
    """One row of a table, shown at once: a run takes long."""
    print(f"{label:38}" + "".join(f"{cell:>{WIDTH}}" for cell in cells), flush=True)


def title(text: str, *columns: str) -> None:
    """The head of a table."""
    print()
    line(text, *columns)
    print("-" * (38 + WIDTH * len(columns)))


def verdict(value: float, aim: float, at_least: bool = True) -> str:
    """The aim, and whether it is met."""
    met = value >= aim if at_least else value <= aim
    return f"{'>=' if at_least else '<='} {aim:g} {'met' if met else 'MISSED'}"


def ratio(own: Sequence[float], other: Sequence[float]) -> float:
    """The median over the rounds of own against other."""
    return statistics.median(a / b for a, b in zip(own, other, strict=True))


def better(rates: Mapping[str, Sequence[float]], references: Sequence[str]) -> str | None:
    """The reference with the higher median."""
    present = [name for name in references if name in rates]
    return max(present, key=lambda name: statistics.median(rates[name]), default=None)


def rates_rows(
    label: str,
    delivered: Mapping[str, Sequence[float]],
    accepted: Mapping[str, Sequence[float]],
    references: Sequence[str],
    aim: float | None,
) -> None:
    """Delivered and accepted per second; the ratio of each other column to the better reference."""
    for what, rates in (("delivered", delivered), ("accepted", accepted)):
        cells = [f"{statistics.median(found):.0f}/s" for found in rates.values()]
        base = better(rates, references)
        for name in rates:
            if base and name not in references:
                value = ratio(rates[name], rates[base])
                cells += [f"{value:.2f}"]
                cells += [verdict(value, aim)] if aim and what == "delivered" else [""]
        line(f"{label if what == 'delivered' else ''} {what[:3]}.".rjust(38), *cells)


def octets(value: float) -> str:
    """Mebibytes, one decimal."""
    return f"{value / MIB:.1f} MB"


def milliseconds(seconds: Sequence[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(seconds) * 1e3:.1f}/{max(seconds) * 1e3:.0f}"
