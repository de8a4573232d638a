"""JUnit's XML, as CI services read it: a suite per RFC, a test case per case, with its id and what
it requires for a name.  Not applicable and unavailable are skipped, with their reason; what misses
a SHOULD is passed, unless it counts.  What a test case says of itself are properties; `security`
is there if it can be misused when it fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from specs.conformance.expectations import Expected, Judged
from specs.conformance.model import Line, Result, Verdict
from specs.conformance.records import Record, got

#: What XML 1.0 can't hold, and what terminals obey.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]")


def document(record: Record, judged: Judged) -> bytes:
    """The file."""
    counts = {each.case.id for each in judged.unexpected}
    known = {each.case.id: why for each, why in judged.known}
    passed = {each.case.id: why for each, why in judged.passed}
    root = ET.Element("testsuites", name=f"refmta-conform {_plain(record.name)}")
    by_rfc: dict[str, list[Result]] = {}
    for each in record.results:
        by_rfc.setdefault(each.case.rfc, []).append(each)
    for rfc, results in by_rfc.items():
        suite = ET.SubElement(root, "testsuite", name=f"RFC {rfc}")
        elements = [_case(suite, each, counts, known, passed) for each in results]
        for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(kind, str(sum(each.find(tag) is not None for each in elements)))
        suite.set("tests", str(len(elements)))
        suite.set("time", f"{sum(each.seconds for each in results):.3f}")
    ET.indent(root)
    octets: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return octets


def _case(
    suite: ET.Element, result: Result, counts: set[str], known: Mapping[str, Expected],
    passed: Mapping[str, Expected],
) -> ET.Element:  # fmt: skip
    case = result.case
    element = ET.SubElement(
        suite, "testcase", classname=f"rfc{case.rfc}.{case.section}",
        name=_plain(f"{case.id}: {case.requirement}"), time=f"{result.seconds:.3f}",
    )  # fmt: skip
    _properties(element, result)
    what, expected = f"got {got(result) or 'nothing'}", ", ".join(case.expected)
    text = f"{case.requirement}\nsent: {case.sent}\nexpected any of: {expected}\n{what}"
    if case.security:
        text += f"\nsecurity: {case.security}"
    if case.id in passed:
        why = f"expected to fail ({passed[case.id].reason}), and it did not"
        ET.SubElement(element, "failure", message=_plain(why)).text = _plain(text)
    elif case.id in known:
        why = f"known {result.verdict}: {known[case.id].reason}"
        ET.SubElement(element, "skipped", message=_plain(why))
    elif case.id in counts:
        tag = "error" if result.verdict is Verdict.ERROR else "failure"
        ET.SubElement(element, tag, message=_plain(what)).text = _plain(text)
    elif result.verdict in (Verdict.NOT_APPLICABLE, Verdict.UNAVAILABLE):
        ET.SubElement(element, "skipped", message=_plain(f"{result.verdict}: {result.saw}"))
    ET.SubElement(element, "system-out").text = _plain(transcript(result.transcript))
    return element


def _properties(element: ET.Element, result: Result) -> None:
    case = result.case
    properties = ET.SubElement(element, "properties")
    for name, value in (
        ("verdict", result.verdict.value), ("level", case.level), ("role", case.role),
        ("clauses", " ".join(case.clauses)), ("sent", case.sent),
        ("expected", ", ".join(case.expected)), ("security", case.security),
    ):  # fmt: skip
        if value:
            ET.SubElement(properties, "property", name=name, value=_plain(value))


def transcript(lines: tuple[Line, ...]) -> str:
    """For people: one row for each line that was sent; octets that are not printable, escaped."""
    rows = []
    for each in lines:
        for part in each.octets.splitlines(keepends=True) or [b""]:
            shown = part.decode("latin-1").encode("unicode_escape").decode("ascii")
            rows.append(f"{each.at_s:8.3f} {each.connection} {each.who}: {shown}")
    return "\n".join(rows)


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
