"""The way from the monolith to ours (`refmta.architectures.evolution`), as the judge sees it.

Every step is a server as the matrix has it (`subjects.architecture`); to be timed, one whose
workers serve as often as shipped.  Two more lines are registered beside it, to show that the judge
can see nothing where there is nothing: one whose only step does nothing, and one whose step is an
architecture that does not start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from refmta.architectures.catalogue import find
from refmta.architectures.evolution import EVOLUTION, STEPS
from specs.evolution.steps import Step
from specs.patterns.target import Site, Target, TargetError
from specs.persistence.protocols import CommitStore
from subjects import stores, stores_qmail_postfix, stores_sendmail
from subjects.architecture import Architecture

#: Store and form of mailbox -> how it is judged.
COMMITS: Final[MappingProxyType[str, Callable[[], CommitStore]]] = MappingProxyType(
    {
        "sendmail_qfdf": stores_sendmail.sendmail_store,
        "sendmailx_ibdb": stores_sendmail.sendmailx_store,
        "qmail_todo": stores_qmail_postfix.qmail_store,
        "postfix_modebit": stores_qmail_postfix.postfix_store,
        "chunks": stores.chunk_store,
        "mbox": stores_sendmail.mbox_store,
        "maildir": stores.maildir_store,
    }
)
#: The guards that are broken, to see what stands behind them.
FILTERS: Final = ("landlock", "seccomp")
#: What the matrix asks of a pool, so that its workers end while it looks.
_HURRIED: Final = "[smtpd]\nmax_workers = 12\nmax_uses = 20\nstress_command_s = 2.0\n"


@dataclass(slots=True)
class Shipped(Architecture):
    """The pool of clients as it is shipped."""

    def _configure(self, site: Site) -> None:
        Architecture._configure(self, site)
        file = self.server.configuration
        text = file.read_text(encoding="utf-8")
        if _HURRIED not in text:
            raise TargetError("the configuration has changed: is the pool as shipped?")
        file.write_text(text.replace(_HURRIED, ""), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Line:
    """An `Evolution` of ours."""

    steps: Sequence[Step]

    def observed(self) -> Target:
        return Architecture()

    def shipped(self) -> Target:
        return Shipped()

    def stores(self, step: Step) -> Sequence[CommitStore]:
        chosen = find(step.architecture)
        return [COMMITS[name]() for name in (chosen.store, chosen.mailbox)]


@dataclass(slots=True)
class Blocked(Architecture):
    """One in whose place for a spool there is a file, for architectures of that name."""

    blocked: str = ""

    def start(self, site: Site, architecture: str) -> None:
        if architecture == self.blocked:
            (site.directory / "spool").touch()
        Architecture.start(self, site, architecture)


@dataclass(frozen=True, slots=True)
class BlockedLine(Line):
    """Its last step does not start."""

    def observed(self) -> Target:
        return Blocked(blocked=self.steps[-1].architecture)


def _weakened(name: str) -> str:
    """Without the guards that keep files out of reach before the jail does."""
    broken = [each for each in FILTERS if each in find(name).layers]
    return "-".join([name, *broken]) if broken else ""


# -- entry points ---------------------------------------------------------------------------------


def evolution() -> Line:
    """Entry point: from the monolith to ours."""
    (first, *others) = EVOLUTION
    made = [
        Step(architecture=name, pattern=step.pattern, text=step.text, weakened=_weakened(name))
        for name, step in zip(others, STEPS, strict=True)
    ]
    return Line((Step(architecture=first, text=EVOLUTION[first].summary), *made))


def idle() -> Line:
    """Entry point: one step, which does nothing."""
    (first, *_) = EVOLUTION
    return Line(
        (
            Step(architecture=first, text="the monolith"),
            Step(architecture=first, pattern="Nothing", text="the monolith again"),
        )
    )


def blocked() -> Line:
    """Entry point: one step, which does not start."""
    (first, second, *_) = EVOLUTION
    return BlockedLine(
        (
            Step(architecture=first, text="the monolith"),
            Step(architecture=second, pattern="Nowhere", text="its spool can not be made"),
        )
    )
