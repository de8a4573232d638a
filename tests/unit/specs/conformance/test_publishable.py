"""What is published of a measurement: nothing that can be misused and is unknown, no place here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from unit.specs.conformance.made import FAIL, case, result

from specs.conformance.model import Line, Result, Verdict
from specs.conformance.records import Record
from subjects.conformance.__main__ import WITHHELD, publishable
from subjects.conformance.servers import SERVERS

DOCUMENTS = Path(__file__).parents[4] / "docs" / "conformance"
PLACE = Path("/tmp/of-this-run")
LINE = Line(at_s=0.0, who="-", octets=b"mail in /tmp/of-this-run/home")


def told(verdict: Verdict, withheld: tuple[str, ...]) -> Result:
    one = Result(case=case("5321-4.1-a"), verdict=verdict, saw=f"in {PLACE}", transcript=(LINE,))
    record = Record(name="x", seed=1, results=(one, result(verdict=FAIL)))
    return publishable(record, withheld, PLACE).results[0]


@pytest.mark.parametrize("verdict", Verdict)
def test_what_is_withheld_says_nothing_whatever_came_of_it(verdict):
    found = told(verdict, ("5321-4.1-",))
    assert (found.verdict, found.saw) == (Verdict.UNAVAILABLE, WITHHELD)
    assert not found.transcript and not found.observed


def test_the_rest_is_told_without_the_place():
    found = told(FAIL, ("5321-4.2-",))
    assert (found.verdict, found.saw) == (FAIL, "in /srv")
    assert found.transcript[0].octets == b"mail in /srv/home"


@pytest.mark.parametrize("name", SERVERS)
def test_the_summary_that_is_there_says_nothing_of_what_is_withheld(name):
    setup = SERVERS[name]()
    summary = (DOCUMENTS / "summary.md").read_text(encoding="utf-8")
    own = re.search(rf"(?ms)^## {setup.name}$(.*?)(?=^## |\Z)", summary)
    assert own is not None
    ids = re.findall(r"(?m)^  - ([0-9][0-9A-Za-z.-]+): ", own.group(1))
    assert ids and not [each for each in ids if each.startswith(getattr(setup, "withheld", ()))]
