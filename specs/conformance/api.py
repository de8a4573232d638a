"""The suite as a function: for a test of somebody else's, and for whoever builds on it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs.conformance import expectations, selection, terminal
from specs.conformance.expectations import Judged
from specs.conformance.measuring import measured
from specs.conformance.options import from_values
from specs.conformance.records import Record
from specs.conformance.registry import all_cases
from specs.conformance.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A run, and what it was judged to be."""

    record: Record
    judged: Judged

    def check(self) -> None:
        """Raises AssertionError with every failure that was not expected, or if none was tried."""
        if self.judged.fine:
            return
        text = io.StringIO()
        terminal.show(
            self.record, self.judged, terminal.console(file=text, width=120, no_color=True)
        )
        raise AssertionError(text.getvalue())


def conform(
    address: str, *sections: str, expect: str | Path | None = None, strict: bool = False,
    security: bool = False, slow: bool = False, jobs: int = 16, wait: float = 0.0, name: str = "",
    password: str = "", **options: Any,
) -> Outcome:  # fmt: skip
    """Put the cases to a server.  Not to be called where trio runs already (RuntimeError).

    options: those of the command line, with an underscore for a dash: rcpt (one, or a list of
    them), unknown_rcpt, relay_rcpt, maildir, sender, sender_maildir, hostname, submission, tls,
    lmtp, user, names, hops, timeout, quiet, patience, seed.

    Raises ValueError for an address that is none and for an option that is wrong,
    selection.NothingMatches, ExpectationError, run.Unreachable, run.NoTestbed.
    """
    if password:
        options["user"] = f"{options.get('user', '')}:{password}"
    told = from_values(address, options)
    everything = all_cases()
    cases = selection.chosen(everything, sections, security=security, slow=slow)
    ids = (each.id for each in everything)
    known = expectations.read(Path(expect), ids) if expect is not None else {}
    record = measured(name or address, [Run(given=told, cases=cases, jobs=jobs, wait_s=wait)])
    judged = expectations.judge(record.results, known, strict=strict)
    return Outcome(record=record, judged=judged)
