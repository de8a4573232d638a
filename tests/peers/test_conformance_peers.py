"""The suite on servers that others wrote: what is known of each comes out, and nothing ends in an
error.

A sample of cases, in seconds for each; the whole is measured by `tox -e conform`.  What is asserted
are verdicts that do not depend on a release: extensions that a server has, holes that are known.
"""

from __future__ import annotations

import pytest

from faultinject import networks
from faultinject.overlay import scratch
from specs.conformance.model import Verdict
from specs.conformance.records import Record
from specs.conformance.registry import all_cases
from specs.conformance.selection import chosen
from subjects.conformance.__main__ import measure
from subjects.conformance.postfix import Postfix
from subjects.conformance.servers import SERVERS
from subjects.conformance.setup import PASSWORD, Ready, Setup

pytestmark = [pytest.mark.needs("overlay", "dnsmasq"), pytest.mark.timeout(700)]
PASS, FAIL, ABSENT = Verdict.PASS, Verdict.FAIL, Verdict.NOT_APPLICABLE

#: Sections that every server has something to say to.
SECTIONS = ("5321-4.1.1.10", "5321-4.1.1.4", "5321-4.5.1", "3207-4.2", "3030-2", "4954-4", "2033")
INJECTED, BARE, TRUE_END, BDAT, AUTH, LMTP = (
    "3207-4.2-injected-noop", "5321-4.1.1.4-end-lf-lf-alone", "5321-4.1.1.4-true-end-text",
    "3030", "4954", "2033",
)  # fmt: skip
#: A case, or all that begin so: what comes out (of all, at least of one).
KNOWN = {
    "postfix": {INJECTED: PASS, BARE: PASS, TRUE_END: PASS, BDAT: PASS, AUTH: PASS},
    "exim": {INJECTED: PASS, BARE: PASS, TRUE_END: PASS, BDAT: PASS, AUTH: PASS},
    "opensmtpd": {INJECTED: Verdict.UNAVAILABLE, TRUE_END: PASS, BDAT: ABSENT},
    "sendmail": {INJECTED: PASS, BARE: PASS, TRUE_END: PASS, BDAT: ABSENT, AUTH: PASS},
    "aiosmtpd": {INJECTED: PASS, TRUE_END: PASS, BDAT: ABSENT, AUTH: PASS, LMTP: PASS},
}


def measured(setup: Setup, sections: tuple[str, ...]) -> tuple[Record, Ready]:
    assert setup.unavailable() is None
    with scratch("conform-test") as (place, _), networks.own(), setup.up(place) as ready:
        return measure(setup.name, ready, chosen(all_cases(), sections), seed=1, jobs=8), ready


def test_smuggling_is_found_where_a_server_lets_it_happen() -> None:
    """CVE-2023-51764, in the very server that is cured of it by one setting."""
    record, _ = measured(Postfix(smtpd_forbid_bare_newline="no"), (BARE,))
    assert [each.verdict for each in record.results] == [FAIL]
    assert record.results[0].case.security


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_of_it_comes_out(name: str) -> None:
    record, ready = measured(SERVERS[name](), SECTIONS)
    found = {each.case.id: each.verdict for each in record.results}
    for case, verdict in KNOWN[name].items():
        got = {each for key, each in found.items() if key == case or key.startswith(f"{case}-")}
        assert verdict in got, (case, got)
    errors = [each for each in record.results if each.verdict is Verdict.ERROR]
    assert [(each.case.id, each.saw) for each in errors] == []
    assert ready.version and ready.configuration and PASSWORD not in ready.configuration
