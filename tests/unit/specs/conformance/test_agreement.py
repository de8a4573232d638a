"""Cases that send the same, from the same state through the same door, allow the same replies.

Only cases that judge the reply itself are looked at: one with a label of its own sees something
else in it.  What is sent is taken from `sent`, which a probe writes by itself: "(mail) | RSET" is
RSET after MAIL, and without a state in front it is after EHLO.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import pytest

from specs.conformance.model import Case, Verdict
from specs.conformance.registry import all_cases
from tests.unit.specs.conformance.made import FAIL, INFO, NON_STRICT, PASS, case

REPLY = re.compile(r"[2-5]yz|[2-5][0-9]z|[2-5][0-9]{2}|closed|silent|garbage|flood")
#: Everything that may be observed, as far as a table can tell it apart.
OBSERVED = [f"{code}" for code in range(200, 600)] + ["closed", "silent", "garbage", "flood"]
#: How a session comes to a state, so that each dialogue is written in one way only.
STATES = (
    ("(rcpt)", "(mail) | RCPT TO:<{rcpt}>"), ("(mail)", "(ehlo) | MAIL FROM:<{sender}>"),
    ("(ehlo)", "(greeting) | EHLO {hostname}"),
)  # fmt: skip


def dialogue(sent: str) -> str:
    """From the greeting on."""
    whole = sent if sent.startswith("(") else f"(ehlo) | {sent}"
    for state, way in STATES:
        if whole.startswith(f"{state} | "):
            whole = whole.replace(state, way, 1)
    return whole


def questions(cases: Iterable[Case]) -> dict[tuple[object, ...], list[Case]]:
    """Cases by what they ask."""
    found: dict[tuple[object, ...], list[Case]] = defaultdict(list)
    for each in cases:
        if each.role == "server" and all(REPLY.fullmatch(key) for key in each.allowed):
            found[each.door, each.keywords, dialogue(each.sent)].append(each)
    return found


def verdicts(each: Case) -> list[Verdict]:
    return [each.verdict_on(observed) for observed in OBSERVED]


def contradictions(cases: Iterable[Case]) -> list[list[str]]:
    """Ids of cases that ask the same and do not allow the same."""
    return [
        [each.id for each in alike]
        for alike in questions(cases).values()
        if any(verdicts(each) != verdicts(alike[0]) for each in alike)
    ]


def test_the_same_question_has_the_same_answers():
    assert contradictions(all_cases()) == []


def test_no_question_is_asked_twice():
    twice = [alike for alike in questions(all_cases()).values() if len(alike) > 1]
    assert [[each.id for each in alike] for alike in twice] == []


def test_most_cases_with_a_dialogue_are_looked_at():
    assert len(questions(all_cases())) > 1000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("QUIT", "(ehlo) | QUIT"),
        ("(mail) | QUIT", "(ehlo) | MAIL FROM:<{sender}> | QUIT"),
        ("(rcpt) | DATA", "(greeting) | EHLO {hostname} | MAIL FROM:<{sender}> | RCPT TO:<{rcpt}>"
         " | DATA"),
    ],
)  # fmt: skip
def test_a_dialogue_is_the_same_however_its_state_is_written(one, other):
    assert dialogue(one) == dialogue(other)
    assert dialogue(one) != dialogue(f"{other} ")


@pytest.mark.parametrize(
    ("allowed", "agree"),
    [
        ({"221": PASS}, True), ({"221": PASS, "22z": FAIL}, True), ({"2yz": PASS}, False),
        ({"221": PASS, "4yz": INFO}, False), ({"221": NON_STRICT}, False),
        ({"221": PASS, "closed": NON_STRICT}, False), ({"gone": PASS}, True),
    ],
)  # fmt: skip
def test_a_contradiction_is_found(allowed, agree):
    pair = [case(), case("5321-3.8-quit", sent="(ehlo) | QUIT", allowed=allowed)]
    assert (contradictions(pair) == []) is agree


def test_at_another_door_or_in_another_state_it_is_another_question():
    others = [
        case("5321-3.8-tls", door="tls", allowed={"2yz": PASS}),
        case("5321-3.8-early", sent="(greeting) | QUIT", allowed={"2yz": PASS}),
        case("5321-3.8-listed", keywords=("QUIT",), allowed={"2yz": PASS}),
    ]
    assert contradictions([case(), *others]) == []
