"""The result of a campaign as a document that can be kept: an object for programs, and a table.

    python -m faultinject.power.summary RESULTS --commit 1905734 --out docs/campaigns/power-refmta

writes power-refmta.json and power-refmta.md.  It counts what the rows say, and nothing else
(`results`); a row of a round that was not judged to its end is not there.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from faultinject.cases import Case
from faultinject.ledger import FINDINGS
from faultinject.power.images import BLIND
from faultinject.power.injector import settings_of
from faultinject.power.records import Settings
from faultinject.power.results import Results, ResultsError
from faultinject.power.show import OWN

EX_USAGE: Final = 2
COMMIT: Final = re.compile(r"[0-9a-f]{7,40}")
#: Row of the table -> the count it shows.  Sums over all clones but the first three.
ROWS: Final = {
    "rounds, each on a new file system": "rounds",
    "power cuts": "cuts",
    "of them while the server recovered from another": "cuts during recovery",
    "messages acknowledged under the loads": "acknowledged",
    "promises judged": "promised",
    "of them made within 250 ms before the cut": "fresh",
    "messages in flight at the cut": "in flight",
    "recipients that have theirs": "delivered",
    "still queued": "queued",
    "recipients that have theirs twice (allowed)": "delivered again",
}
#: Findings that are told when there are none, too.
ALWAYS: Final = ("lost", "half_lost", "altered", "misdelivered", "duplicate", "unrecovered")
MEANINGS: Final = {**FINDINGS, **OWN}
UNKNOWN: Final = "not recorded"


class SummaryError(ValueError):
    """The rows don't make one campaign; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """commit: of the code under test, as whoever ran the campaign says."""

    commit: str
    target: str
    seed: int
    settings: dict[str, Any]
    file_systems: dict[str, dict[str, int]]
    seconds: dict[str, int]
    findings: list[tuple[str, str]]

    def found(self) -> list[str]:
        """Names of findings: those that are always told, and those that there are."""
        there = {name for counts in self.file_systems.values() for name in counts}
        return [name for name in MEANINGS if name in ALWAYS or name in there]

    def as_json(self) -> dict[str, Any]:
        """In plain types; a count that is not there was not recorded."""
        return {
            "harness": "power",
            "target": self.target,
            "commit": self.commit,
            "seed": self.seed,
            "settings": self.settings,
            "file_systems": {
                fs: {
                    **{name: counts[name] for name in ROWS.values() if name in counts},
                    "findings": {name: counts.get(name, 0) for name in self.found()},
                    "seconds": self.seconds[fs],
                }
                for fs, counts in self.file_systems.items()
            },
            "examples": [{"name": name, "text": text} for name, text in self.findings],
            "not_shown": list(BLIND),
        }

    def as_markdown(self) -> str:
        """For people."""
        total = sum(counts["cuts"] for counts in self.file_systems.values())
        names = ", ".join(self.file_systems)
        lines = [
            f"# {total:,} power cuts: {self.target} on {names}",
            "",
            f"Commit {self.commit}, seed {self.seed}; `refmta-fault power --target {self.target}"
            f" --fs {names.replace(', ', ',')} --seed {self.seed}`.",
            f"Load: {self.settings['clients']} clients, messages of"
            f" {self.settings['least_octets']:,} to {self.settings['most_octets']:,} octets. A cut"
            " is a clone of the device's backing file at an instant; the server is started on"
            " each clone, drains its queue, and the ledger judges what is delivered.",
            "",
            *_table(["", *self.file_systems], self._rows()),
            "",
            "A promise counts at every cut that comes after it, which is why there are more"
            " promises judged than messages.",
            "",
            "## What such cuts can't show",
            "",
            *(f"- {text}" for text in BLIND),
        ]
        if self.findings:
            lines += ["", "## Findings", ""]
            lines += [f"- {name}: {text}" for name, text in self.findings]
        return "\n".join(lines) + "\n"

    def _rows(self) -> list[list[str]]:
        rows = [
            [title, *(_said(counts.get(name)) for counts in self.file_systems.values())]
            for title, name in ROWS.items()
        ]
        rows += [
            [
                f"**{name}** ({MEANINGS[name]})",
                *(f"**{counts.get(name, 0):,}**" for counts in self.file_systems.values()),
            ]
            for name in self.found()
        ]
        return [*rows, ["hours", *(f"{each / 3600:.1f}" for each in self.seconds.values())]]


def _said(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in head[1:])]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]


def summary(results: Results, commit: str) -> Summary:
    """Raises SummaryError."""
    if not results.rows:
        raise SummaryError("there are no results")
    same = {_key(each.case) for each in results.rows}
    if len(same) > 1 or len({each.case.target for each in results.rows}) > 1:
        raise SummaryError("the rounds are of several targets or loads")
    systems = dict.fromkeys(each.fs for each in results.rows)
    counts, seconds = {}, {}
    for fs in systems:
        rows, sums = results.of(fs), results.sums(fs)
        seconds[fs] = round(sums.pop("milliseconds") / 1000)
        if not all("acknowledged" in each.counts for each in rows):
            sums.pop("acknowledged", None)  # of some rounds only: that would be no sum
        counts[fs] = {"rounds": len(rows), **sums}
    settings = msgspec.to_builtins(settings_of(results.rows[0].case))
    kept = ("clients", "recipients", "least_octets", "most_octets", "again_one_in", "pause_s")
    return Summary(
        commit=commit, target=results.target() or "", seed=results.seed() or 0,
        settings={name: settings[name] for name in kept}, file_systems=counts, seconds=seconds,
        findings=results.findings(),
    )  # fmt: skip


def _key(case: Case) -> Settings:
    """A load, whatever it runs on, and however many cuts it has."""
    return msgspec.structs.replace(settings_of(case), fs="", cuts=0)


def _commit(_context: click.Context, _option: click.Parameter, text: str) -> str:
    if not COMMIT.fullmatch(text):
        raise click.BadParameter(f"{text} is no commit: 7 to 40 hexadecimal digits")
    return text


@click.command()
@click.argument("path", metavar="RESULTS", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--commit", required=True, callback=_commit, help="Of the code under test.")
@click.option("--out", type=click.Path(path_type=Path), help="Files OUT.json and OUT.md, too.")
def main(path: Path, commit: str, out: Path | None) -> None:
    """The document of a campaign of power cuts, from the file that --resume has written."""
    try:
        made = summary(Results.read(path), commit)
    except (ResultsError, SummaryError, msgspec.ValidationError) as error:
        click.echo(f"{path}: {error}", err=True)
        sys.exit(EX_USAGE)
    except OSError as error:
        click.echo(f"{path}: {error.strerror}", err=True)
        sys.exit(EX_USAGE)
    click.echo(made.as_markdown(), nl=False)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".md").write_text(made.as_markdown(), encoding="utf-8")
        text = json.dumps(made.as_json(), indent=2)
        out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
