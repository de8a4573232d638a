"""What is known of a destination, and what one more session or its end means: the rules alone.

The exploration (`spec.py`) takes whole ticks for time, the refinement real seconds; both use these
functions, so what is explored is what the implementation is held to.

Rules
- A destination begins with a window of `initial` sessions. Each finding "alive" widens it by one,
  up to `each`; each finding "dead" halves it.
- When as many findings "dead" in a row as the window was wide have come, it is dead: nothing is
  started until its pause is over, and then one probe (its window is 1). Findings of sessions from
  before, which come while it is dead, say nothing new.
- The pause doubles from death to death, from `pause` to `longest`; chance may lengthen it.
- A session needs a free place, and *more* free places than its destination holds already.
- Who holds none and waits is passed over at most once by each other destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Limits(NamedTuple):
    """Numbers of sessions, and times (ticks or seconds). `spread`: percent."""

    total: int = 3
    each: int = 2
    initial: int = 1
    pause: int = 1
    longest: int = 2
    spread: int = 0


class Book(NamedTuple):
    """One destination. `rest`: until its pause is over; `deaths` and `failures` are in a row."""

    window: int
    busy: int = 0
    failures: int = 0
    deaths: int = 0
    rest: float = 0

    def __str__(self) -> str:
        dead = f", dead for {self.rest} (death {self.deaths})" if self.deaths else ""
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{self.busy} of {self.window} sessions{failed}{dead}"


def stranger(limits: Limits) -> Book:
    """A destination of which nothing is known."""
    return Book(window=limits.initial)


def may_start(book: Book, free: int) -> bool:
    """Whether it may have one more session, with so many places free."""
    return book.busy < book.window and not book.rest and free > book.busy


def started(book: Book) -> Book:
    return book._replace(busy=book.busy + 1)


def ended(book: Book, limits: Limits) -> Book:
    """A session has ended. An idle destination that gave no trouble is forgotten."""
    left = book._replace(busy=book.busy - 1)
    return left if left.busy or left.deaths or left.failures else stranger(limits)


def found_alive(book: Book, limits: Limits) -> Book:
    window = min(limits.each, max(limits.initial, book.window + 1))
    return Book(window=window, busy=book.busy)


def found_dead(book: Book, limits: Limits, pause: float | None = None) -> Book:
    """`pause`: how long, if this is its death; by default the shortest."""
    if book.rest:
        return book
    failures = book.failures + 1
    narrow = book._replace(failures=failures, window=max(1, book.window // 2))
    if failures < book.window:
        return narrow
    deaths = book.deaths + 1
    rest = pauses(deaths, limits)[0] if pause is None else pause
    return narrow._replace(window=1, failures=0, deaths=deaths, rest=rest)


def pauses(deaths: int, limits: Limits) -> tuple[float, float]:
    """The shortest and the longest pause after so many deaths in a row."""
    base = min(limits.pause << min(deaths - 1, 32), limits.longest)
    return base, base + base * limits.spread / 100


def elapsed(book: Book, time: float) -> Book:
    """After some time."""
    return book._replace(rest=max(0, book.rest - time)) if book.rest else book


# -- whose turn it is -----------------------------------------------------------------------------

Passed = frozenset[tuple[int | str, int | str]]
"""Pairs (who waits without a session, who was started since)."""


def turns(
    books: Mapping[int | str, Book], waiting: Iterable[int | str], passed: Passed, limits: Limits
) -> list[int | str]:
    """Who of those that wait may have the next session; empty only if nobody may."""
    free = limits.total - sum(book.busy for book in books.values())
    able = [name for name in waiting if may_start(books[name], free)]
    idle = [name for name in able if not books[name].busy]
    return [
        name for name in able if not any((other, name) in passed for other in idle if other != name)
    ]


def passed_over(
    books: Mapping[int | str, Book],
    waiting: Iterable[int | str],
    passed: Passed,
    limits: Limits,
    chosen: int | str,
) -> Passed:
    """`passed` once the chosen one is started; `books` and `waiting` are from before."""
    free = limits.total - sum(book.busy for book in books.values())
    over = {
        (name, chosen)
        for name in waiting
        if name != chosen and not books[name].busy and may_start(books[name], free)
    }
    return frozenset(pair for pair in passed if pair[0] != chosen) | over
