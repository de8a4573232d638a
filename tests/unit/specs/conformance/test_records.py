"""A run, written, read back, and told in JUnit's XML, in Markdown and on a terminal."""

from __future__ import annotations

import io
import json
import re
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from unit.specs.conformance.made import FAIL, NON_STRICT, PASS, result

from specs.conformance import expectations, junit, records, summary, terminal
from specs.conformance.expectations import Expected
from specs.conformance.model import Verdict

HOSTILE = "500 \x1b[31m\x00</testcase>]]>&\ud800 | `x` "
RESULTS = (
    result(verdict=FAIL, security="mail can be smuggled in", saw=HOSTILE),
    result("5321-4.1.1.9-noop", verdict=PASS, observed="250", saw="250 ok"),
    result("1870-6-size", verdict=Verdict.NOT_APPLICABLE, observed="", saw="SIZE"),
    result("5321-3.3-x", verdict=NON_STRICT),
    result("5321-3.4-x", verdict=Verdict.ERROR, observed="", saw="could not begin: MAIL: 451"),
    result("5321-3.5-x", verdict=Verdict.UNAVAILABLE, observed="", saw="--rcpt was not given"),
)
RECORD = records.Record(name="mx", seed=7, results=RESULTS, greeting="mx ESMTP \x1b[2J")


def cases():
    return {each.case.id: each.case for each in RESULTS}


def test_it_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(records.as_json(RECORD)))
    again = records.read(file, cases())
    assert records.as_json(again) == records.as_json(RECORD)
    assert again.results[0].transcript == RESULTS[0].transcript


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"refmta-conform": 9}', '{"refmta-conform": 1}', "\xff"]
)
def test_what_is_no_record_is_refused(tmp_path, text):
    file = tmp_path / "run.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(records.RecordError, match=r"run\.json"):
        records.read(file, cases())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", float("inf")), ("offered", [1]), ("offered", {"smtp": 5}), ("results", 7),
        ("results", [{"case": RESULTS[0].case.id, "transcript": [{"at": float("nan")}]}]),
    ],
)  # fmt: skip
def test_a_record_with_something_odd_in_it_is_refused(tmp_path, key, value):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**records.as_json(RECORD), key: value}))
    with pytest.raises(records.RecordError, match=r"run\.json"):
        records.read(file, cases())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_record_without_a_bottom_is_refused(tmp_path, text):
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(records.RecordError, match="too deeply"):
        records.read(file, cases())


def test_a_case_that_nobody_knows_is_refused(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(records.as_json(RECORD)))
    with pytest.raises(records.RecordError, match=r"5321-4\.1\.1\.10-quit"):
        records.read(file, {})


def xml(expect=None, *, strict=False):
    judged = expectations.judge(RECORD.results, expect or {}, strict=strict)
    return ET.fromstring(junit.document(RECORD, judged))  # noqa: S314  our own


def test_junit_counts_and_names():
    root = xml()
    suites = {each.get("name"): each for each in root}
    smtp = suites["RFC 5321"]
    assert [smtp.get(name) for name in ("tests", "failures", "errors", "skipped")] == [*"5111"]
    assert suites["RFC 1870"].get("skipped") == "1"
    named = {each.get("name").partition(":")[0]: each for each in root.iter("testcase")}
    assert set(named) == {each.case.id for each in RESULTS}
    failed = named["5321-4.1.1.10-quit"]
    assert "expected any of: 221" in failed.find("failure").text
    assert "\\x1b[31m" in failed.find("system-out").text  # a transcript is escaped
    assert failed.get("classname") == "rfc5321.4.1.1.10"


def test_junit_says_what_was_sent_and_what_can_be_misused():
    named = {each.get("classname"): each for each in xml().iter("testcase")}
    failed, passed = named["rfc5321.4.1.1.10"], named["rfc5321.4.1.1.9"]
    told = {each.get("name"): each.get("value") for each in failed.iter("property")}
    assert told == {
        "verdict": "fail", "level": "MUST", "role": "server", "clauses": "5321-4.1.1.10-a",
        "sent": "QUIT", "expected": "221", "security": "mail can be smuggled in",
    }  # fmt: skip
    assert "security" not in {each.get("name") for each in passed.iter("property")}
    assert "sent: QUIT" in failed.find("failure").text
    assert "security: mail can be smuggled in" in failed.find("failure").text


def test_keys_of_a_record_are_those_that_are_documented():
    """Others read it: a key is not renamed by the way."""
    told = json.loads(json.dumps(records.as_json(RECORD)))
    known = set(re.findall(r"`([a-z-]+)`", records.__doc__))
    assert {*told, *told["results"][0], *told["results"][0]["transcript"][0]} == known


def test_junit_with_what_is_expected():
    entry = Expected(case="5321-4.1.1.10-quit", verdict=FAIL, reason="issue 42")
    passed = Expected(case="5321-4.1.1.9-noop", verdict=FAIL, reason="issue 43")
    root = xml({each.case: each for each in (entry, passed)}, strict=True)
    named = {each.get("name").partition(":")[0]: each for each in root.iter("testcase")}
    assert "issue 42" in named["5321-4.1.1.10-quit"].find("skipped").get("message")
    assert "issue 43" in named["5321-4.1.1.9-noop"].find("failure").get("message")
    assert named["5321-3.3-x"].find("failure") is not None


def test_a_terminal_sees_no_escape_of_a_server():
    text = io.StringIO()
    judged = expectations.judge(RECORD.results, {})
    terminal.show(RECORD, judged, Console(file=text, width=100), verbose=True)
    shown = text.getvalue()
    assert "\x1b" not in shown and "\x00" not in shown
    assert "expected any of" in shown and "mail can be smuggled in" in shown
    assert "SIZE (1)" in shown and "seed 7" in shown


def test_a_summary_holds_no_markup_of_a_server_and_no_time():
    text = summary.markdown([RECORD])
    assert "\x1b" not in text and "\\<" in text and "0.25" not in text
    assert "| mx | 1 | 1 | 1 | 0 | 1 | 1 | 1 | 1 |" in text
    head, row = "(MUST, security); expected any of: 221", "5321-4.1.1.10-quit: sent: QUIT; got: 500"
    assert f"{head}\n  - {row}" in text
