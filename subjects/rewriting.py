"""refmta's address rewriting, as `specs.patterns.resident_service` is told of it, and its controls:
trees in which a process is made for addresses, or nothing is rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from refmta.architectures.architecture import Architecture
from refmta.architectures.sections import Configuration
from specs.patterns.resident_service import FACT
from subjects.parts import working

#: Who asks, and whom.
ASKS, ANSWERS = "smtpd", "resolve"
#: A domain that exists only in the map of the judged server.
FORMER: Final = "former.test"


def configuration(domain: str) -> str:
    """What the judged server rewrites, as tables of its file."""
    return f'[domains."{FORMER}"]\n[rewrite.canonical]\n"@{FORMER}" = "@{domain}"\n'


def facts(architecture: Architecture, settings: Configuration) -> Mapping[str, object]:
    """Which addresses are rewritten, and by which process; nothing if none is."""
    for says, means in settings.rewrite.canonical.items():
        if says.startswith("@") and means.startswith("@"):
            return {FACT: {"service": _service(architecture), "says": says, "means": means}}
    return {}


def _service(architecture: Architecture) -> str:
    """Where a session's questions are answered: in a process that is there for all of them, or, if
    each session brings its own, in the worker that has it.
    """
    pair = ASKS, ANSWERS
    talk = next(e for e in architecture.talks if (e.client_role, e.server_role) == pair)
    return working(architecture.row(talk.server))


# -- controls -------------------------------------------------------------------------------------

#: What is put before a service's answer.
_SAY: Final = "            self.books.answered += 1\n"
#: name: the claim that refuses it, the architecture, the file below refmta/, the change.  Without
#: seccomp's layer a process could be made; with it, resolve dies of the attempt.
MUTANTS: Final[Mapping[str, tuple[str, str, str, tuple[tuple[str, str], ...]]]] = {
    "a service that is replaced after some addresses": (
        "the_same_process_answers",
        "refmta",
        "patterns/resident_service.py",
        ((_SAY, f"{_SAY}            if self.books.answered > 100:\n                sys.exit(1)\n"),
         ("import time\n", "import sys\nimport time\n")),
    ),
    "a process for every address": (
        "no_process_per_address",
        "refmta-seccomp",
        "patterns/resident_service.py",
        ((_SAY, f"{_SAY}            if os.fork() == 0:\n"
          "                signal.alarm(10)\n                signal.pause()\n"),
         ("import time\n", "import os\nimport signal\nimport time\n")),
    ),
    "a map that is never looked at": (
        "addresses_are_rewritten",
        "refmta",
        "protocol/rewriting.py",
        (("    if not rows:\n", "    if rows is not None:\n"),),
    ),
}  # fmt: skip
