"""Controls of the disk harness: refmta made wrong where a disk fails, and what must find it out.

    python -m subjects.disk_mutants NUMBER DIRECTORY     one of them; what came of it on stdout

Each is a passage of a file and what replaces it, the fault that reveals it, and the name of the
finding.  The mutated line says in the log that it ran (a line of the journal, so that it is no
defect by itself).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from faultinject.campaign.records import encode_outcome
from faultinject.cases import Case
from faultinject.disk.harness import NAME, run_on
from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

RAN: Final = '{"event":"__mutant_ran__"}'
#: How long a mutant that never recovers is waited for, in seconds.
SHORT_S: Final = 4.0
_SAY: Final = f"os.write(2, b'{RAN}\\n')"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskMutant:
    """file: below refmta/.  settings: of a case of the disk harness."""

    what: str
    file: str
    old: str
    new: str
    settings: Mapping[str, Any]
    finding: str

    def target(self, directory: Path) -> Refmta:
        """The server; the directory is made.  Raises MutationError."""
        python = mutant_tree(directory, self.file, [(self.old, self.new)])
        return Refmta(python=python, relays=False, traces=False)


_DISK: Final = "stores/disk.py"
_SYNC: Final = "        os.fsync(handle)\n"
_SYNC_DIR: Final = "        self._with_directory(path, os.fsync)\n"
_WRITE: Final = "        written = os.write(handle, data)\n"


def _once(call: str, role: str, number: int = 1, fault: str = "eio") -> Mapping[str, Any]:
    """That step, and no other."""
    return MappingProxyType(
        {"fault": fault, "call": call, "role": role, "first": number, "last": number}
    )


def _retried(attempt: str) -> str:
    """A sync that failed is simply made again."""
    return f"        try:\n    {attempt}        except OSError:\n            {_SAY}\n    {attempt}"


MUTANTS: Final = (
    DiskMutant(
        what="a failed sync of a file is made again", file=_DISK, old=_SYNC, new=_retried(_SYNC),
        settings=_once("fsync", "enqueue"), finding="trusted_failed_sync",
    ),
    DiskMutant(
        what="a failed sync of a directory is made again", file=_DISK, old=_SYNC_DIR,
        new=_retried(_SYNC_DIR), settings=_once("fsync", "enqueue", 2),
        finding="trusted_failed_sync",
    ),
    DiskMutant(
        what="a failed sync of a mailbox is made again", file=_DISK, old=_SYNC, new=_retried(_SYNC),
        settings=_once("fsync", "local"), finding="trusted_failed_delivery",
    ),
    DiskMutant(
        what="a short write is taken for a whole one", file=_DISK, old=_WRITE,
        new=f"{_WRITE}        if written < len(data):\n            {_SAY}\n            return\n",
        settings=MappingProxyType({"fault": "short-write-forever", "first": 1, "last": 1}),
        finding="lost",
    ),
    DiskMutant(
        what="a write that finds no room is passed over", file=_DISK, old=_WRITE,
        new="        try:\n            written = os.write(handle, data)\n"
        f"        except OSError:\n            {_SAY}\n            return\n",
        settings=MappingProxyType({"fault": "full-disk", "first": 0, "last": 3}), finding="lost",
    ),
    DiskMutant(
        what="a full disk is a refusal for good", file="roles/admission.py",
        old='        return Rejection(452, "4.3.1",',
        new=f"        __import__('os').write(2, b'{RAN}\\n')\n"
        '        return Rejection(552, "5.3.1",',
        settings=_once("write", "enqueue", fault="enospc"), finding="refused",
    ),
    DiskMutant(
        what="after a failed write nothing is written any more", file=_DISK, old=_WRITE,
        new="        if getattr(self, 'broken', False):\n            raise OSError(5, 'broken')\n"
        "        try:\n            written = os.write(handle, data)\n"
        f"        except OSError:\n            {_SAY}\n            self.broken = True\n"
        "            raise\n",
        settings=_once("write", "enqueue"), finding="unanswered",
    ),
)  # fmt: skip


def main(number: int, directory: Path) -> None:
    """Run it, in an empty directory that the compartments' users can enter.

    Mounts and processes are whoever's that starts this: in namespaces of its own it leaves none.
    """
    mutant = MUTANTS[number]
    case = Case(harness=NAME, target="refmta", seed=7, settings=dict(mutant.settings))
    place = directory / "run"
    place.mkdir(mode=0o711)
    target = mutant.target(directory / "python")
    outcome = run_on(target, case, place, settles_s=SHORT_S)
    sys.stdout.buffer.write(encode_outcome(outcome))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
