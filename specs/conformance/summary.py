"""A summary per server, in Markdown: counts, what failed or can be misused, what was not tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from specs.conformance.model import Result, Verdict
from specs.conformance.records import Record, got

_SPECIAL: Final = "\\`*_{}[]<>|#"


def _safe(text: str) -> str:
    """Nothing of it is markup."""
    plain = text.encode("ascii", "backslashreplace").decode()
    line = " ".join("".join(each if each >= " " else repr(each)[1:-1] for each in plain).split())
    line = line.replace("\x7f", "")
    return "".join(f"\\{each}" if each in _SPECIAL else each for each in line)


def markdown(found: Sequence[Record]) -> str:
    """One document.  It holds no time and no duration: the same results, the same text."""
    heads = ["server", *(each.value for each in Verdict), "security"]
    rows = [f"| {' | '.join(heads)} |", f"|{'-|' * len(heads)}"]
    for each in found:
        counts = [str(each.counts[verdict.value]) for verdict in Verdict]
        rows.append(f"| {_safe(each.name)} | {' | '.join(counts)} | {len(_misused(each))} |")
    rows += ["", "security: failed cases of something that can be misused.", ""]
    for each in found:
        rows += _server(each)
    return "\n".join(rows)


def _misused(record: Record) -> list[Result]:
    return [each for each in record.results if each.case.security and each.verdict is Verdict.FAIL]


def _server(record: Record) -> list[str]:
    rows = [f"## {_safe(record.name)}", ""]
    if record.version:
        rows += [f"{_safe(record.version)}; its greeting: {_safe(record.greeting)}", ""]
    for verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.NON_STRICT):
        own = [each for each in record.results if each.verdict is verdict]
        if own:
            rows += [f"### {verdict}", "", *_listed(own), ""]
    for verdict in (Verdict.NOT_APPLICABLE, Verdict.UNAVAILABLE):
        why = Counter(each.saw for each in record.results if each.verdict is verdict)
        if why:
            told = ", ".join(f"{_safe(what)} ({number})" for what, number in sorted(why.items()))
            rows += [f"{verdict}: {told}", ""]
    return rows


def _listed(results: Sequence[Result]) -> list[str]:
    """What is required and expected, once; below it each case, with what was sent and got."""
    rows: dict[str, list[str]] = {}
    for each in results:
        case = each.case
        tag = ", security" if case.security else ""
        head = (
            f"- {_safe(case.requirement)} ({case.level}{tag});"
            f" expected any of: {_safe(', '.join(case.expected))}"
        )
        row = f"  - {case.id}: sent: {_safe(case.sent)}; got: {_safe(got(each)[:200])}"
        rows.setdefault(head, []).append(row)
    return [line for head, own in rows.items() for line in (head, *own)]
