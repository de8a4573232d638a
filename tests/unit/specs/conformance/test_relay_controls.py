"""The relayed cases pass a faultless relay, and each of its faults is found by its case."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Final

import pytest

from specs.conformance.controls.check import (
    RELAYED,
    WRONG,
    by_id,
    find_all,
    run,
    said_of,
    untried,
)
from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.parts import Parts
from specs.conformance.controls.planting import Fault
from specs.conformance.model import FAIL, Verdict

#: Next hops make their certificate with it; without it those cases are unavailable.
TLS: Final = shutil.which("openssl") is not None
GROUPS: Final = 4
#: What the faultless relay has not, so that cases are not carried out.
LACKING: Final = frozenset(
    {
        "--user was not given",
        "AUTH where a stranger's mail is relayed",
        "BINARYMIME",
        "STARTTLS",
        "a signature (DKIM)",
        "an IPv6 network in --hops",
    }
)
FAULTS: Final = [
    each for each in all_faults()
    if by_id()[each.case].role in RELAYED and (TLS or not each.case.startswith(("3207-", "7672-")))
]  # fmt: skip


@pytest.mark.parametrize(
    "faults", [FAULTS[at::GROUPS] for at in range(GROUPS)], ids=[f"{at}" for at in range(GROUPS)]
)
async def test_each_fault_is_found(faults: Sequence[Fault]) -> None:
    assert [str(each) for each in await find_all(faults) if not each.caught] == []


async def test_no_case_says_fail_of_the_faultless_relay() -> None:
    parts = Parts()
    results = await said_of(parts, frozenset(Verdict) - WRONG, relayed=True)
    bad = [
        f"{each.case.id}: {each.verdict} ({each.observed} {each.saw})"
        for each in results
        if each.verdict in WRONG
    ]
    assert bad + parts.witness.raised == []
    assert untried(results) == LACKING


@pytest.mark.parametrize("fault", FAULTS[:2], ids=lambda fault: fault.name)
async def test_a_fault_is_not_found_by_all_others(fault: Fault) -> None:
    """A case that fails whatever the server does would find every fault."""
    others = {each.case for each in FAULTS if each is not fault and each.verdict is FAIL}
    results = await run(fault.change(Parts()), [by_id()[each] for each in sorted(others)[:6]])
    assert any(each.verdict is Verdict.PASS for each in results)
