"""What a target is: a mail server whose architecture is judged, behind one Protocol.

An adapter is a callable without arguments, registered as an entry point of the group
`refmta.specs.architectures`.  The matrix knows nothing of a server but what stands here, so that
Postfix or sendmail differ by an adapter, and by nothing else.

The order of calls: unavailable, start, then everything else in any order, stop or dispose.
Methods block; times out after a minute at the most, with TargetError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from specs import registered
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Module

TARGETS = "refmta.specs.architectures"


class TargetError(Exception):
    """A target did not start, stop or answer as it must; the text says what, and shows its log."""


class NoSuchArchitecture(Exception):
    """The text says which there are."""


@dataclass(frozen=True, slots=True, order=True)
class Named:
    """A living process.  name: as in `Compartment.parts`.  detail: a recipient's name."""

    pid: int
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a server is to be configured for.

    directory: an empty place at its disposal, which every user can enter.  domain: the local one,
    with a system mailbox for each of users.  next_hops: remote domain -> port on 127.0.0.1.
    """

    directory: Path
    hostname: str
    domain: str
    users: tuple[str, ...]
    next_hops: Mapping[str, int]


class Target(Protocol):
    """One server under judgement.  Methods raise TargetError."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> tuple[str, int]:
        """Where it takes mail by SMTP, once started."""
        ...

    @property
    def spool(self) -> Path:
        """Where its queue lies."""
        ...

    @property
    def log(self) -> Path:
        """The file that all its processes write their log to."""
        ...

    def unavailable(self) -> str | None:
        """Why it can't run here; None if it can."""
        ...

    def start(self, site: Site, architecture: str) -> None:
        """Return when it answers.  Raises NoSuchArchitecture, TargetError."""
        ...

    def manifest(self) -> Manifest:
        """What should be, of the architecture that was started."""
        ...

    def processes(self) -> list[Named]:
        """All of its processes that now live."""
        ...

    def mailboxes(self) -> Mapping[str, Path]:
        """Local address -> the directory that holds a file for each message delivered to it."""
        ...

    def queued(self) -> tuple[Path, ...]:
        """The files of the messages in the queue."""
        ...

    def modules(self, name: str) -> tuple[Module, ...]:
        """What a process of that name loads: of the program, measured apart from the running
        one; () if it isn't made of modules.
        """
        ...

    def journal(self) -> Iterable[Mapping[str, object]]:
        """The lines of its log so far, as fields: at least "event", and "pid", "role" if known."""
        ...

    def stop(self) -> None:
        """End it in good order."""
        ...

    def dispose(self) -> None:
        """Leave no process behind, whatever happened; files may stay."""
        ...


def names() -> tuple[str, ...]:
    """Of the registered targets."""
    return registered.names(TARGETS)


def load(name: str) -> Target:
    """A target of that name.  Raises KeyError if there is none."""
    target: Target = registered.make(TARGETS, name)
    return target
