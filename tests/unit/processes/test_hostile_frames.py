"""Every kind of bad frame, on every channel: refused, said, and nothing kept.

Controls: carriers that take what is forbidden, wait for what is too long, keep descriptors, or say
nothing, are refused by the named claim.
"""

import pytest

from refmta.architectures.catalogue import ARCHITECTURES
from refmta.patterns.trust_partitioning import BORDERS
from specs.kernel.control import run_control
from specs.patterns.lines import KINDS
from subjects.border_controls import attacks, controls
from subjects.hostile_frames import facts
from subjects.parts import between


def test_every_kind_is_refused_on_every_channel():
    found = attacks()
    assert len(found) == 2 * len(BORDERS) * len(KINDS)
    assert {each.kind for each in found} == set(KINDS)
    assert [str(each) for each in found if not each.ended] == []
    assert [str(each) for each in found if not each.said] == []
    assert [str(each) for each in found if each.kept] == []


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name)
def test_a_wrong_carrier_is_refused_by_the_named_claim(control):
    result = run_control(control)
    assert result.counts, result.reason


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_forbidden_frame_is_known_for_every_channel_of_an_architecture(name):
    architecture = ARCHITECTURES[name]
    known = facts(architecture)["forbidden"]
    assert isinstance(known, dict)
    for row in between(architecture):
        ends = {row.client, f"{row.client} worker"}, {row.server, f"{row.server} worker"}
        assert [pair for pair in known if pair[0] in ends[0] and pair[1] in ends[1]], row
