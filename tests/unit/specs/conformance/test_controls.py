"""The suite finds every planted fault by name, and says nothing against servers that conform."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import trio

from specs.conformance.controls.check import GOOD, WRONG, complaints, find_all, judged
from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.planting import Fault
from specs.conformance.controls.server import Parts, certificate, serving
from specs.conformance.model import FAIL, NON_STRICT, Result, Verdict

#: Faults are looked for in so many groups: one that hangs names its neighbours.
GROUP = 40
GROUPS = [all_faults()[at : at + GROUP] for at in range(0, len(all_faults()), GROUP)]
#: Conforming otherwise; all of them take a few minutes (`check --liberties`).
SAMPLE = ("keeps bare CR and LF", "no extensions")

needs_tls = pytest.mark.skipif(certificate() is None, reason="no openssl to make a certificate")


def _told(results: list[Result]) -> list[str]:
    return [f"{each.verdict} {each.case.id}: {each.observed} {each.saw}" for each in results]


@needs_tls
@pytest.mark.parametrize("faults", GROUPS, ids=lambda group: group[0].name)
async def test_each_fault_is_found_by_its_case(faults: tuple[Fault, ...]) -> None:
    found = await find_all(faults)
    assert len(found) == len(faults)
    assert [str(each) for each in found if not each.caught] == []


@needs_tls
async def test_the_faultless_server_passes_all_cases() -> None:
    assert _told(await complaints(Parts(), GOOD)) == []


@needs_tls
@pytest.mark.parametrize("name", SAMPLE)
async def test_who_conforms_otherwise_fails_no_case(name: str) -> None:
    said = await complaints(LIBERTIES[name](Parts()), frozenset(Verdict) - WRONG)
    assert _told(said) == []


def test_every_case_that_is_named_exists() -> None:
    assert [each.case for each in all_faults() if each.case not in judged()] == []


def test_faults_have_names_of_their_own_and_a_verdict_that_the_case_can_give() -> None:
    assert [
        name for name, count in Counter(each.name for each in all_faults()).items() if count > 1
    ] == []
    for each in all_faults():
        assert each.verdict in (FAIL, NON_STRICT), each.name
        assert each.verdict is FAIL or NON_STRICT in judged()[each.case].allowed.values(), each.name


def test_faults_against_most_rfcs_are_there() -> None:
    """Of each RFC with MUST cases, at least one fault; what has none is listed here."""
    without = {"7505", "7208", "8601", "5321bis"}
    wanted = {each.rfc for each in judged().values() if each.level in ("MUST", "MUST NOT")}
    assert wanted - {each.case.split("-")[0] for each in all_faults()} <= without
    assert len(all_faults()) >= 150


@needs_tls
async def test_a_fault_of_the_control_itself_ends_one_connection_only() -> None:
    """What a fault breaks in the server is not taken for something that a case has found."""

    def broken(*_: object) -> bytes:
        raise RuntimeError("broken on purpose")

    async with serving(replace(Parts(), talk=broken)) as given:
        for _ in range(2):
            stream = await trio.open_tcp_stream(*given.smtp)
            assert (await stream.receive_some(100)).startswith(b"220 ")
            await stream.send_all(b"NOOP\r\n")
            assert await stream.receive_some(100) == b""
            await stream.aclose()
