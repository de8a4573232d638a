"""refmta relays for those for whom it should, and for nobody else: all rows, and their controls."""

import pytest

from specs.kernel.control import run_control
from specs.relaying import RELAYS_ALL, RELAYS_ONLY, Client, Policy, Range, may_send, violated
from subjects.relaying import controls, judge, routing


def test_every_question_is_answered_as_the_claim_says():
    verdict = judge(routing)
    assert not verdict.violated, verdict.detail
    assert int(verdict.detail.split()[0]) > 10_000


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name.replace(" ", "-"))
def test_an_open_relay_is_caught_by_the_named_invariant(control):
    result = run_control(control)
    assert result.counts, result.reason


def test_the_claim_itself():
    policy = Policy(
        ours=frozenset({"example.org"}),
        backup=frozenset({"b.example"}),
        trusted=(Range(bits=32, value=0x7F000000, prefix=8),),
    )
    inside, outside = Client(bits=32, value=0x7FFFFFFF), Client(bits=32, value=0x80000000)
    mapped = Client(bits=128, value=0xFFFF << 32 | 0x7F000001)
    for client, away in ((inside, True), (outside, False), (mapped, True), (Client(bits=0), False)):
        assert may_send(policy, client, "EXAMPLE.org")
        assert may_send(policy, client, "b.example")
        assert may_send(policy, client, "a.b.example") is away
    assert not may_send(policy, Client(bits=128, value=0x7F000001), "x.example")
    assert violated(allowed=False, relaying_refused=False, accepted=True) == {RELAYS_ONLY}
    assert violated(allowed=True, relaying_refused=True, accepted=False) == {RELAYS_ALL}
    assert not violated(allowed=True, relaying_refused=False, accepted=False)
