"""The suite as a function: for a test of somebody else's, and for whoever builds on it."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio
from rich.console import Console

from specs.conformance import expectations, records, selection, terminal
from specs.conformance.commands.options import parse_address
from specs.conformance.expectations import Judged
from specs.conformance.given import Address, Given
from specs.conformance.records import Record
from specs.conformance.registry import all_cases
from specs.conformance.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A run, and what it was judged to be."""

    record: Record
    judged: Judged

    def check(self) -> None:
        """Raises AssertionError with every failure that was not expected."""
        if self.judged.fine:
            return
        text = io.StringIO()
        terminal.show(self.record, self.judged, Console(file=text, width=120, no_color=True))
        raise AssertionError(text.getvalue())


def conform(
    address: str, *sections: str, rcpt: str | Sequence[str] = (), unknown_rcpt: str = "",
    relay_rcpt: str = "", maildir: str | Path | Sequence[str | Path] = (),
    sender_maildir: str | Path | None = None, submission: str | int | None = None,
    tls: str | int | None = None, lmtp: str | int | None = None, user: str = "",
    password: str = "", expect: str | Path | None = None, strict: bool = False,
    security: bool = False, slow: bool = False, jobs: int = 16, timeout: float = 10.0,
    quiet: float = 0.5, patience: float = 20.0, seed: int | None = None, name: str = "",
    **more: Any,
) -> Outcome:  # fmt: skip
    """Put the cases to a server.  Not to be called where trio runs already (RuntimeError).

    Raises ValueError for an address that is none, selection.NothingMatches, ExpectationError,
    run.Unreachable.
    """
    smtp = parse_address(address, 25)
    many = [maildir] if isinstance(maildir, str | Path) else list(maildir)
    told = Given(
        smtp=smtp, rcpts=(rcpt,) if isinstance(rcpt, str) else tuple(rcpt), unknown=unknown_rcpt,
        relay=relay_rcpt, maildirs=tuple(map(Path, many)),
        sender_maildir=None if sender_maildir is None else Path(sender_maildir),
        submission=_door(submission, smtp), tls=_door(tls, smtp), lmtp=_door(lmtp, smtp), user=user,
        password=password, timeout_s=timeout, quiet_s=quiet, patience_s=patience,
        seed=secrets.randbelow(1 << 31) if seed is None else seed, **more,
    )  # fmt: skip
    everything = all_cases()
    cases = selection.chosen(everything, sections, security=security, slow=slow)
    ids = (each.id for each in everything)
    known = expectations.read(Path(expect), ids) if expect is not None else {}
    began_s, began = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    runner = Run(given=told, cases=cases, jobs=jobs)
    results = trio.run(runner.run)
    record = records.of(
        name or address, told, runner.offered, results, began=began,
        seconds=time.monotonic() - began_s,
    )  # fmt: skip
    judged = expectations.judge(record.results, known, strict=strict)
    return Outcome(record=record, judged=judged)


def _door(value: str | int | None, smtp: Address) -> Address | None:
    """Without a host, at the server's own."""
    if value is None:
        return None
    host, port = parse_address(str(value))
    return host or smtp[0], port
