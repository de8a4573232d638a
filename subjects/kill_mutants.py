"""Controls of the kill harness: refmta made wrong where a process dies, and what must find it out.

Each is a passage of a file and what replaces it, the case that reveals it, and the name of the
finding.  The mutated line says in the log that it ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

RAN: Final = "__mutant_ran__"


@dataclass(frozen=True, slots=True, kw_only=True)
class KillMutant:
    """file: below refmta/.  settings: of a case of the kill harness.  numbers: the calls, from the
    first to the last, that are enough to find it out.
    """

    what: str
    file: str
    replacements: tuple[tuple[str, str], ...]
    settings: Mapping[str, Any]
    finding: str
    numbers: tuple[int, int]
    architecture: str = "refmta"
    relays: bool = False
    traces: bool = False

    def interpreter(self, directory: Path) -> str:
        """One that finds the mutant; the directory is made.  Raises MutationError."""
        return mutant_tree(directory, self.file, self.replacements)

    def target(self, python: str) -> Refmta:
        """A server, run by that interpreter (or by our own: the twin)."""
        return Refmta(
            python=python, relays=self.relays, traces=self.traces, architecture=self.architecture
        )


def _settings(**settings: Any) -> Mapping[str, Any]:
    return MappingProxyType(settings)


MUTANTS: Final = (
    KillMutant(
        what="the promise is given before the end of the message is written",
        file="roles/submissions.py",
        replacements=(
            (
                "                submission.draft.finish()\n",
                f'                self.journal.error("{RAN}")\n'
                "                self._answer(submission, Kept(queue_id=submission.queue_id))\n"
                "                await submission.channel.flush()\n"
                "                submission.draft.finish()\n",
            ),
            (
                "        self._answer(submission, Kept(queue_id=submission.queue_id))\n"
                "        self._log_kept(submission)\n",
                "        self._log_kept(submission)\n",
            ),
        ),
        settings=_settings(script="one", kind="enqueue"),
        finding="lost",
        numbers=(3, 4),
    ),
    KillMutant(
        what="the message is removed when it is handed to its agent, not when it is delivered",
        file="roles/qmgr/agents.py",
        replacements=(
            (
                "        self.queue.post(channel, job, descriptor)\n",
                "        self.queue.post(channel, job, descriptor)\n"
                '        self.queue.store.disk.unlink(f"chunks/{active.queue_id}")\n'
                f'        self.queue.journal.error("{RAN}")\n',
            ),
        ),
        settings=_settings(script="one", kind="local"),
        finding="lost",
        numbers=(2, 3),
    ),
    KillMutant(
        what="the promise is given although the process that was to log the envelope is dead",
        file="roles/submissions.py",
        replacements=(
            (
                "        if not (word.lost or word.error):\n",
                f'        if word.lost:\n            self.journal.error("{RAN}")\n'
                "        if not word.error:\n",
            ),
        ),
        settings=_settings(script="one", kind="qmgr"),
        finding="lost",
        numbers=(1, 2),
        architecture="sendmailx",
    ),
    KillMutant(
        what="who starts anew forgets the last mark: excused by the death, but not by the trace",
        file="roles/qmgr/queue.py",
        replacements=(
            (
                "            state, _ = delivery.replay(state, loaded.marks)\n",
                f'            _ = loaded.marks and self.journal.error("{RAN}")\n'
                "            state, _ = delivery.replay(state, loaded.marks[:-1])\n",
            ),
        ),
        settings=_settings(script="both", kind="qmgr"),
        finding="trace",
        numbers=(9, 11),
        relays=True,
        traces=True,
    ),
)
