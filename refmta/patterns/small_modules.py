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
    "supervisor": Budget(own_lines=2_700, lines=74_000, modules=335),
    "resolve": Budget(own_lines=3_400, lines=75_000, modules=342),
    "accounts": Budget(own_lines=3_050, lines=75_000, modules=340),
    "smtpd": Budget(own_lines=4_200, lines=76_000, modules=342),
    "enqueue": Budget(own_lines=4_400, lines=76_000, modules=348),
    "qmgr": Budget(own_lines=6_000, lines=78_000, modules=360),
    "local": Budget(own_lines=4_350, lines=76_000, modules=348),
    "bounce": Budget(own_lines=3_200, lines=75_000, modules=343),
    # dnspython: a quarter of all that it loads.
    "remote": Budget(own_lines=5_250, lines=97_500, modules=462),
}
