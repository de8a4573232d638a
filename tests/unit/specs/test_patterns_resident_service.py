"""The claims about a resident service, on observations made by hand: one thing wrong in each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specs.patterns.manifest import Manifest
from specs.patterns.observation import Observation, Unavailable
from specs.patterns.resident_service import ADDRESSES, CLAIMS, EXPERIMENT, Rewritten

FINE = Rewritten(
    service="resolve", addresses=ADDRESSES, accepted=ADDRESSES, before=frozenset({(7, 100)}),
    after=frozenset({(7, 100)}), created=("smtpd worker", "local"), seconds=0.2, arrived=True,
    stranger=550,
)  # fmt: skip

#: what is wrong: the claims that must say so
WRONG = {
    "nothing": (FINE, set()),
    "another pid": (replace(FINE, after=frozenset({(8, 100)})), {"the_same_process_answers"}),
    "a pid used again": (replace(FINE, after=frozenset({(7, 101)})), {"the_same_process_answers"}),
    "it is gone": (replace(FINE, after=frozenset()), {"the_same_process_answers"}),
    "it never was": (replace(FINE, before=frozenset()), {"the_same_process_answers"}),
    "one more of it": (
        replace(FINE, after=frozenset({(7, 100), (8, 200)})), {"the_same_process_answers"},
    ),
    "a process each": (replace(FINE, created=("resolve",) * 500), {"no_process_per_address"}),
    "just too many": (replace(FINE, created=("resolve",) * 51), {"no_process_per_address"}),
    "just not too many": (replace(FINE, created=("resolve",) * 50), set()),
    "it did not arrive": (replace(FINE, arrived=False), {"addresses_are_rewritten"}),
    "one was refused": (replace(FINE, accepted=ADDRESSES - 1), {"addresses_are_rewritten"}),
    "nothing was asked": (
        replace(FINE, addresses=0, accepted=0, created=()), {"addresses_are_rewritten"},
    ),
    "everybody is accepted": (replace(FINE, stranger=250), {"addresses_are_rewritten"}),
    "nobody knows": (replace(FINE, stranger=451), {"addresses_are_rewritten"}),
}  # fmt: skip


def observed(result: object) -> Observation:
    manifest = Manifest(architecture="hand-made", layers=(), compartments=())
    return Observation(manifest=manifest, instants=(), results={EXPERIMENT: result})


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_by_its_claim_and_by_no_other(what: str):
    seen, expected = WRONG[what]
    assert {each.name for each in CLAIMS if each.judge(observed(seen))} == expected


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda each: each.name)
def test_a_target_that_names_no_address_is_unavailable_not_fine(claim):
    with pytest.raises(Unavailable):
        claim.judge(observed(Unavailable("no address is rewritten")))
    with pytest.raises(RuntimeError):
        claim.judge(observed(None))


def test_the_two_numbers_are_told():
    assert FINE.measured() == "250 addresses per process created; 400 us each, for the client"
    assert replace(FINE, created=()).measured().startswith("all of 500 addresses")
