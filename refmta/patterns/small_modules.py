"""Small modules: what a compartment loads has a budget, and privileged code the smallest.

Context (paper, section 3): simple parts can be inspected; nobody has read a large one.
Problem: code grows where it is easiest to add; an import brings a library, and its libraries.
Forces: a parser that was proved once is better used twice; a budget that is too tight is raised
without a thought.
Solution: each compartment has a budget of lines of ours, of lines in all (the interpreter's library
and others' packages) and of modules, a few percent above what it has; whoever exceeds it either
makes something smaller or raises the number, in a commit that says why.
Observable claim: what a process of each compartment has loaded, measured by running its entry
point, is within its budget; the spawner, the only privileged process, loads no code that reads mail
and none that others wrote.

Lines are lines of code: no blanks, no comments, no docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Budget:
    """Most lines of ours, lines in all, and modules, that a compartment's processes load."""

    own_lines: int
    lines: int
    modules: int


#: The kernel of trust: the spawner and all of ours that it imports.
PRIVILEGED: Final = "spawner"

#: compartment -> budget.  What all but the spawner have in common is processes, channels and trio.
BUDGETS: Final = {
    PRIVILEGED: Budget(own_lines=400, lines=25_000, modules=110),
    "supervisor": Budget(own_lines=3_500, lines=75_000, modules=340),
    "resolve": Budget(own_lines=4_700, lines=76_000, modules=350),
    "accounts": Budget(own_lines=4_400, lines=76_000, modules=345),
    "smtpd": Budget(own_lines=4_800, lines=76_000, modules=345),
    "enqueue": Budget(own_lines=5_700, lines=77_000, modules=355),
    "qmgr": Budget(own_lines=7_300, lines=79_000, modules=365),
    "local": Budget(own_lines=5_600, lines=77_000, modules=355),
    "bounce": Budget(own_lines=4_500, lines=76_000, modules=350),
    # dnspython: a quarter of all that it loads.
    "remote": Budget(own_lines=5_800, lines=98_000, modules=465),
}
