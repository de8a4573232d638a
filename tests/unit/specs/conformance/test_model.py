"""What is allowed, from the exact to the general; cases that say nothing are refused."""

from __future__ import annotations

import pytest
from unit.specs.conformance.made import FAIL, INFO, NON_STRICT, PASS, case

from specs.conformance.registry import all_cases
from specs.conformance.section import Section

ALLOWED = {"503": PASS, "50z": NON_STRICT, "5yz": INFO, "closed": NON_STRICT}


@pytest.mark.parametrize(
    ("observed", "verdict"),
    [
        ("503", PASS), ("502", NON_STRICT), ("554", INFO), ("closed", NON_STRICT), ("250", FAIL),
        ("silent", FAIL), ("5", FAIL), ("", FAIL), ("5034", FAIL), ("kept", FAIL),
    ],
)  # fmt: skip
def test_the_first_key_that_fits_decides(observed: str, verdict: object) -> None:
    assert case(allowed=ALLOWED).verdict_on(observed) is verdict


def test_parts_of_an_id() -> None:
    one = case("5321bis-F.5-quit-again")
    assert (one.rfc, one.section) == ("5321bis", "F.5")


@pytest.mark.parametrize(
    "wrong", ["4.1-Quit", "4.1", "quit", "4.1-quit--x", "4.1-quit-", "4.1-q uit", "-4.1-quit"]
)
def test_an_id_that_is_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        _probe(Section("5321"), wrong)


def _probe(here: Section, name: str, **more: object) -> None:
    fields: dict[str, object] = {
        "level": "MUST", "clauses": "5321-4.1-a", "requirement": "r", "sent": ["NOOP"],
        "allowed": {"250": PASS},
    }  # fmt: skip
    here.probe(name, **{**fields, **more})  # type: ignore[arg-type]


def test_nothing_allowed_and_a_fail_allowed_are_mistakes() -> None:
    for allowed in ({}, {"250": FAIL}):
        with pytest.raises(ValueError, match="nothing is allowed"):
            _probe(Section("5321"), "4.1-x", allowed=allowed)


def test_an_id_is_there_once() -> None:
    here = Section("5321")
    _probe(here, "4.1-x")
    with pytest.raises(ValueError, match="twice"):
        _probe(here, "4.1-x")


def test_words_are_taken_apart() -> None:
    here = Section("5321", role="delivery")
    _probe(here, "4.1-x", needs="rcpt maildir", keywords="SIZE DSN")
    (made,) = here.cases
    assert made.needs == {"rcpt", "maildir"} and made.keywords == ("SIZE", "DSN")
    assert made.role == "delivery"


def test_every_case_says_what_a_stranger_needs() -> None:
    for each in all_cases():
        assert each.requirement.strip() and each.sent.strip() and each.clauses, each.id
        assert len(each.requirement) < 240, each.id
