"""The suite finds every planted fault by name, and says nothing against servers that conform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
import trio

from specs.conformance.controls.check import (
    GOOD,
    RELAYED,
    WRONG,
    by_id,
    claimed_clauses,
    complaints,
    find,
    find_all,
    said_of,
    strict_clauses,
    untried,
)
from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.parts import Parts
from specs.conformance.controls.planting import (
    Fault,
    answering,
    around,
    both,
    having,
    refusing,
    saying,
    then,
)
from specs.conformance.controls.server import certificate, serving
from specs.conformance.model import FAIL, NON_STRICT, Result, Verdict

SERVED: Final = [each for each in all_faults() if by_id()[each.case].role not in RELAYED]
#: Faults are looked for in so many groups: one that hangs names its neighbours.
GROUP: Final = 80
GROUPS: Final = [SERVED[at : at + GROUP] for at in range(0, len(SERVED), GROUP)]
#: Conforming otherwise; all of them take a few minutes (`--liberties`).
SAMPLE: Final = ("keeps bare CR and LF", "no extensions")
QUIT: Final = "5321-4.1.1.10-quit-after-ehlo"
QUITS: Final = answering("QUIT", 250, "2.0.0")

#: Clauses with MUST or MUST NOT that a case covers, and no fault has shown it to be able to fail.
WITHOUT: Final[dict[str, str]] = {
    "2033-5-a": "a control cannot listen at port 25; at another, LHLO is information",
    "3030-3-d": "the control relay takes no BINARYMIME",
    "3030-3-f": "the control relay takes no BINARYMIME",
    "3207-4-d": "530 may be right for a server that is not public: information",
    "3207-4.1-a": "what a client does without TLS is its own policy: information, or non-strict",
    "5321-4.1.4-f": "whether it was for the name alone cannot be seen: a refusal is information",
    "5321-6.1-g": "a late reply is non-strict",
    "5321-6.3-a": "loops may be found otherwise than by counting: taken is information",
    "5321-6.4-b": "a relay may take its client for a user who submits: what it adds is information",
    "6376-3.5-a": "the control relay signs nothing",
    "6376-5.4-a": "the control relay signs nothing",
    "6532-3.2-a": "such a header may be refused, and what is changed in it is non-strict",
    "8689-4.2.1-a": "the control relay offers no TLS, thus no REQUIRETLS",
    "8689-4.2.1-b": "the control relay offers no TLS, thus no REQUIRETLS",
}

#: What the faultless server has not, so that cases are not carried out.
LACKING = frozenset(
    {
        "251 and 551",
        "AUTH",
        "AUTH DIGEST-MD5",
        "AUTH EXTERNAL",
        "AUTH PLAIN",
        "AUTH SCRAM-SHA-256",
        "AUTH XOAUTH2",
        "BURL",
        "FUTURERELEASE",
        "SAML",
        "SEND",
        "SOML",
        "TLS demanded from everybody",
        "TURN",
        "VRFY",
        "a server without 8BITMIME",
        "a server without ATRN",
        "a server without BINARYMIME",
        "a server without CHUNKING",
        "a server without DELIVERBY",
        "a server without DSN",
        "a server without ETRN",
        "a server without EXPN",
        "a server without MT-PRIORITY",
        "a server without RRVS",
        "a server without SIZE",
        "a server without SMTPUTF8",
        "a server without STARTTLS",
        "a verification by VRFY",
        "an address that is accepted, and cannot be delivered to",
        "mail that is accepted and returned later, from a source route",
    }
)

needs_tls = pytest.mark.skipif(certificate() is None, reason="no openssl to make a certificate")


def _told(results: Sequence[Result]) -> list[str]:
    return [f"{each.verdict} {each.case.id}: {each.observed} {each.saw}" for each in results]


@needs_tls
@pytest.mark.parametrize("faults", GROUPS, ids=lambda group: group[0].name)
async def test_each_fault_is_found_by_its_case(faults: Sequence[Fault]) -> None:
    found = await find_all(faults)
    assert len(found) == len(faults)
    assert [str(each) for each in found if not each.caught] == []


@needs_tls
async def test_the_faultless_server_passes_all_cases() -> None:
    parts = Parts()
    said = await said_of(parts, GOOD)
    assert _told([each for each in said if each.verdict not in GOOD]) == []
    assert parts.witness.raised == []
    assert untried(said) == LACKING


@needs_tls
@pytest.mark.parametrize("name", SAMPLE)
async def test_who_conforms_otherwise_fails_no_case(name: str) -> None:
    said = await complaints(LIBERTIES[name](Parts()), frozenset(Verdict) - WRONG)
    assert _told(said) == []


def test_every_case_that_is_named_exists() -> None:
    assert [each.case for each in all_faults() if each.case not in by_id()] == []


def test_faults_have_a_verdict_that_the_case_can_give() -> None:
    for each in all_faults():
        assert each.verdict in (FAIL, NON_STRICT), each.name
        assert each.verdict is FAIL or NON_STRICT in by_id()[each.case].allowed.values(), each.name


def test_every_strict_clause_has_a_fault_or_a_reason() -> None:
    """One that gets a case gets a fault, too, or a line in the table; which has no idle lines."""
    assert sorted(strict_clauses() - claimed_clauses() - set(WITHOUT)) == []
    assert sorted(set(WITHOUT) - (strict_clauses() - claimed_clauses())) == []


def _raises(*_: object, **__: object) -> Any:
    raise RuntimeError("broken on purpose")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("raises", QUIT, "", having(do_quit=_raises)), "its own server raised: RuntimeError"),
        (Fault("raises-in-the-twin", QUIT, "", QUITS, behind=around("do_quit", _raises)),
         "its own server raised: RuntimeError"),
        (Fault("unmet", QUIT, "", both(QUITS, refusing("EXPN.*"))), "planted, never met: EXPN.*"),
        (Fault("without-it", QUIT, "", QUITS, behind=QUITS), "without it, too, fail, 250"),
        (Fault("harmless", QUIT, "", then("QUIT", lambda self: None)), "it should be fail"),
        (Fault("hangs-up", QUIT, "", saying(lambda octets: octets * (octets[:3] != b"221"))),
         "closed is not what it makes"),
        (Fault("nowhere", "5321-0-no-such-case", "", QUITS), "is not there"),
        (Fault("caught", QUIT, "", QUITS), ""),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
async def test_what_is_no_catch(fault: Fault, why: str) -> None:
    found = await find(fault)
    assert why in found.why
    assert found.caught is (not why)


@needs_tls
async def test_a_fault_of_the_control_itself_ends_one_connection_only() -> None:
    """And is noted: it is not taken for something that a case has found."""
    parts = replace(Parts(), talk=_raises)
    async with serving(parts) as given:
        for _ in range(2):
            stream = await trio.open_tcp_stream(*given.smtp)
            assert (await stream.receive_some(100)).startswith(b"220 ")
            await stream.send_all(b"NOOP\r\n")
            assert await stream.receive_some(100) == b""
            await stream.aclose()
    assert [each.partition(" (")[0] for each in parts.witness.raised] == [
        "RuntimeError: broken on purpose"
    ] * 2
