"""Run one case: python -m faultinject.campaign.one DIRECTORY

Reads `case.json` there, runs it in `run`, and leaves `outcome.json`, whole or not at all.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from faultinject import cases
from faultinject.campaign.records import encode_outcome
from faultinject.cases import Case, Outcome


def main(directory: Path) -> int:
    """Always 0, unless it is interrupted or killed."""
    source = directory / "case.json"
    case = cases.decode(source.read_bytes(), str(source))
    began_s = time.monotonic()
    outcome = replace(outcome_of(case, directory / "run"), seconds=time.monotonic() - began_s)
    partial = directory / "outcome.new"
    partial.write_bytes(encode_outcome(outcome))
    partial.rename(directory / "outcome.json")
    return 0


def outcome_of(case: Case, place: Path) -> Outcome:
    """What the harness says; "broken" if there is none of that name here, or if it fails."""
    try:
        harness = cases.load(case.harness)
    except KeyError:
        there = ", ".join(cases.names()) or "none"
        return Outcome(case=case, verdict="broken", reason=f"no such harness here (but {there})")
    try:
        return harness.run(case, place)
    except Exception as error:  # of any kind: a harness is another's code
        return Outcome(
            case=case, verdict="broken",
            reason=f"the harness failed: {type(error).__name__}: {error}",
            evidence={"traceback": traceback.format_exc()},
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
