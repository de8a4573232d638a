"""How a campaign is watched: bars on a terminal, a line for what is new elsewhere.

Findings, and what shrinking made of them, are said in both.  Everything goes to stderr.
"""

from __future__ import annotations

from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from faultinject.campaign.campaign import Underway
from faultinject.campaign.records import Closed, Ran, Record, Smallest

#: Seconds between lines that say only that it goes on.
QUIET_S: Final = 30.0


class Watcher:
    """Of one start; a context, which restores the terminal."""

    def __init__(self, console: Console, budget_s: float) -> None:
        self.console = console
        self.cases, self.found, self.shrinking, self.lost = 0, 0, 0, 0
        self._said_s = 0.0
        self._progress = Progress(
            TextColumn("budget"), BarColumn(), TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=budget_s)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, underway: Underway, record: Record | None) -> None:
        """Something has begun, or was written down."""
        match record:
            case Ran():
                self._ran(record, underway)
            case Smallest():
                self._smallest(record)
            case Closed(why="unavailable" | "broken"):
                self._say(f"{record.target}, {record.harness}: {record.why}: {record.reason}")
        self._progress.update(
            self._task, completed=underway.clock_s, description=self._counts(underway)
        )
        if not self.console.is_terminal and underway.clock_s - self._said_s > QUIET_S:
            self._said_s = underway.clock_s
            self._say(f"{underway.clock_s:.0f} s: {self._counts(underway)}")

    def _counts(self, underway: Underway) -> str:
        return (
            f"{self.cases} cases, {underway.running} running, {self.shrinking} runs to shrink,"
            f" {self.found} with findings" + (f", {self.lost} lost" if self.lost else "")
        )

    def _ran(self, record: Ran, underway: Underway) -> None:
        self.lost += record.lost
        if record.of:
            self.shrinking += 1
            return
        self.cases += 1
        names = underway.agenda.findings(record.outcome)
        case = record.outcome.case
        if names:
            self.found += 1
            self._say(f"found: {', '.join(names)}: {case.target}, {case.harness}, seed {case.seed}")

    def _smallest(self, record: Smallest) -> None:
        self._say(
            f"shrunk: {record.finding}: {record.case.target}, {record.case.harness}: after"
            f" {record.tries} tries; fails {record.fails} of {record.runs} times: {record.file}"
        )

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
