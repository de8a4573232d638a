"""The toys, registered as others are: a distribution in a directory that is put into the path."""

from __future__ import annotations

import os
from pathlib import Path

from faultinject import cases

TESTS = Path(__file__).parents[2]
#: Each a target by name alone: what it does is the harness's to say.
TARGETS = (
    "sound", "buggy", "known", "absent", "raising", "dying", "hanging", "leaking", "clinging",
    "nasty",
)  # fmt: skip
ENTRIES = """\
[refmta.faultinject.harnesses]
toys = unit.faultinject.toy_harness:toys
more-toys = unit.faultinject.toy_harness:more_toys
slow-toys = unit.faultinject.toy_harness:slow_toys
{storm}
[refmta.faultinject.targets]
"""


def register(directory: Path) -> list[str]:
    """Write it there, with the storm if that is not registered; what is to be put into the path."""
    about = directory / "refmta_toys-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: refmta-toys\nVersion: 1\n")
    rows = (f"{name} = unit.faultinject.toy_harness:target_{name}\n" for name in TARGETS)
    storm = "" if "storm" in cases.names() else "storm = faultinject.storm_harness:harness\n"
    (about / "entry_points.txt").write_text(ENTRIES.format(storm=storm) + "".join(rows))
    return [str(directory), str(TESTS)]


def environment(path: list[str]) -> dict[str, str]:
    """Of a process that finds them."""
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*path, before]))}
