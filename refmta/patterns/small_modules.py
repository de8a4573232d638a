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

Budgets are of roles: a process that does two jobs is given room for the larger one, and exceeds it.
What an architecture asks of a role beside its job (another store, another carrier, a pool) comes on
top, since one that is split as finely must not fail for the formats that it speaks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Budget:
    """Most lines of ours, lines in all, and modules, that a compartment's processes load."""

    own_lines: int
    lines: int
    modules: int

    def plus(self, lines: int, modules: int) -> Budget:
        """With so much more of ours."""
        return Budget(self.own_lines + lines, self.lines + lines, self.modules + modules)


#: The kernel of trust: the spawner and all of ours that it imports.
PRIVILEGED: Final = "spawner"

#: role -> budget.  What all but the spawner have in common is processes, channels and trio.
BUDGETS: Final = {
    PRIVILEGED: Budget(own_lines=400, lines=25_000, modules=110),
    "supervisor": Budget(own_lines=2_750, lines=70_500, modules=320),
    "resolve": Budget(own_lines=3_700, lines=71_500, modules=328),
    "accounts": Budget(own_lines=3_400, lines=71_000, modules=326),
    # smtpd and remote are pools.
    "smtpd": Budget(own_lines=5_100, lines=73_000, modules=338),
    "enqueue": Budget(own_lines=5_050, lines=73_000, modules=337),
    "qmgr": Budget(own_lines=6_750, lines=74_500, modules=348),
    "local": Budget(own_lines=4_650, lines=72_500, modules=336),
    "bounce": Budget(own_lines=3_650, lines=71_500, modules=329),
    # dnspython: a quarter of all that it loads.
    "remote": Budget(own_lines=6_000, lines=93_000, modules=449),
    "clean": Budget(own_lines=3_100, lines=70_500, modules=322),
    "lmtpc": Budget(own_lines=4_700, lines=72_500, modules=336),
    "lmtpd": Budget(own_lines=6_200, lines=74_000, modules=345),
}
#: Roles that are pools in the budget already.
POOLS: Final = frozenset({"smtpd", "remote"})
#: (lines of ours, modules) that come on top: of a pool, for who reads or writes the queue by
#: another store than chunks, for who delivers into another mailbox than a Maildir, for other
#: carriers.
POOL: Final = (1_200, 14)
STORES: Final = {
    "chunks": (0, 0),
    "sendmail_qfdf": (600, 5),
    "qmail_todo": (550, 3),
    "postfix_modebit": (400, 3),
    "sendmailx_ibdb": (700, 6),
}
CARRIERS: Final = {"frames": (0, 0), "stream": (0, 0), "qmail": (850, 8)}
MAILBOXES: Final = {"maildir": (0, 0), "mbox": (250, 2)}


def budget(
    roles: Iterable[str], *, pooled: bool, store: str, mailbox: str, carriers: Iterable[str]
) -> Budget:
    """Of a compartment with these roles, in an architecture that asks this of it."""
    has = frozenset(roles)
    further = [CARRIERS[each] for each in frozenset(carriers)]
    if pooled and not has & POOLS:
        further.append(POOL)
    if has & {"enqueue", "qmgr"}:
        further.append(STORES[store])
    if has & {"local", "lmtpd"}:
        further.append(MAILBOXES[mailbox])
    largest = Budget(
        own_lines=max(BUDGETS[each].own_lines for each in has),
        lines=max(BUDGETS[each].lines for each in has),
        modules=max(BUDGETS[each].modules for each in has),
    )
    return largest.plus(sum(each for each, _ in further), sum(each for _, each in further))
