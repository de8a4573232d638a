"""Which cases a word means."""

from __future__ import annotations

import pytest
from unit.specs.conformance.made import case

from specs.conformance.selection import NothingMatches, chosen

CASES = [
    case("5321-4.1.1.1-ehlo"), case("5321-4.1.1.10-quit"), case("5321-4.10-odd"),
    case("1870-6.1-size", role="delivery"), case("5321bis-4.1-x"),
    case("5321-4.5.3.2-patience", slow=True), case("5321-F.2-source", security="relaying"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [0, 1, 2, 3, 4, 6]),
        (["5321"], [0, 1, 2, 6]),
        (["rfc5321"], [0, 1, 2, 6]),
        (["RFC 5321bis"], [4]),
        (["5321-4.1"], [0, 1]),
        (["4.1"], [0, 1]),
        (["4.1.1.1"], [0]),
        (["5321-4.1.1.10-quit"], [1]),
        (["5321-4.5.3.2-patience"], [5]),
        (["delivery", "F.2"], [3, 6]),
    ],
)
def test_words(words: list[str], found: list[int]) -> None:
    assert [CASES.index(each) for each in chosen(CASES, words)] == found


def test_what_costs_and_what_counts() -> None:
    assert CASES[5] in chosen(CASES, [], slow=True)
    assert chosen(CASES, [], security=True) == [CASES[6]]


@pytest.mark.parametrize("words", [["9999"], ["5321", "nonsense"], ["4.5"]])
def test_nothing_matches(words: list[str]) -> None:
    with pytest.raises(NothingMatches):
        chosen(CASES, words)
