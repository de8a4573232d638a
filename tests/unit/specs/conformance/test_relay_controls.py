"""The relayed cases pass a faultless relay, and each fault of the table is found by its case."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from specs.conformance.controls.faults_relay import FAULTS, Fault, find, missed
from specs.conformance.model import Verdict
from specs.conformance.registry import all_cases

#: One of each kind, for a quick look.
QUICK = (
    "leaves without QUIT", "no dots are doubled", "the highest first", "a report has a sender",
    "gives up at 4yz", "replies out of step",
)  # fmt: skip

#: Next hops make their certificate with it; without it those cases are unavailable.
TLS = shutil.which("openssl") is not None
POSSIBLE = [each for each in FAULTS if TLS or not each.case.startswith(("3207-", "7672-"))]


def test_there_are_at_least_thirty_faults_with_names_and_cases_that_exist() -> None:
    assert len(FAULTS) >= 30
    assert [name for name, count in Counter(f.name for f in FAULTS).items() if count > 1] == []
    known = {each.id for each in all_cases()}
    assert [each.case for each in FAULTS if each.case not in known] == []


async def test_some_faults_are_found_at_once() -> None:
    assert await missed([each for each in FAULTS if each.name in QUICK]) == []


async def test_every_fault_is_found() -> None:
    assert await missed(POSSIBLE) == []


async def test_no_case_says_fail_of_the_faultless_relay() -> None:
    chosen = [each.id for each in all_cases() if "hops" in each.needs and not each.slow]
    results = await find(None, chosen)
    bad = [
        f"{each.case.id}: {each.verdict} ({each.observed} {each.saw})"
        for each in results
        if each.verdict in (Verdict.FAIL, Verdict.ERROR)
    ]
    assert bad == []
    passed = sum(each.verdict is Verdict.PASS for each in results)
    assert passed > len(results) * 0.8


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.name in QUICK][:2])
async def test_a_fault_is_not_found_by_all_others(fault: Fault) -> None:
    """A case that fails whatever the server does would find every fault."""
    others = [each.case for each in FAULTS if each is not fault and each.says == "fail"][:6]
    results = await find(fault, [*dict.fromkeys(others)])
    assert any(each.verdict is Verdict.PASS for each in results)
