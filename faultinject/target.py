"""What a target is: a mail server that faults are injected into, behind one Protocol.

An adapter is a class elsewhere, registered as an entry point of the group
`refmta.faultinject.targets` (a callable without arguments). The storm knows nothing of a server
but what stands here, so that Postfix, Exim, OpenSMTPD, sendmail, qmail or aiosmtpd differ by an
adapter and by nothing else.

Rules for adapters
- Methods block, and are called one at a time, except `processes` and `alive`, which are called
  beside the others, often, and must be cheap (no subprocess, no question to the server).
- Nothing is told about the server's health that the adapter could not know from outside.
- What it lacks is not hidden: `capabilities` says what it has, `known_failures` what it is known
  to do wrong, with the reason of each.
- The order of calls: unavailable, install, configure, start, (recover | flush | waiting)*, stop,
  then mailboxes, queued, trace, defects; `dispose` at the very end, whatever happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from faultinject.books import Window
from faultinject.processes import Process
from specs import registered

TARGETS = "refmta.faultinject.targets"


class TargetError(Exception):
    """A target did not start, stop or answer as it must; the text says what, and shows its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a server is to be configured for.

    directory: a place of its own, entirely at the adapter's disposal: empty, or with what an
    earlier life has left there, which is kept. domain: the local one; users: its mailboxes (local
    parts). next_hops: remote domain -> port on 127.0.0.1 that takes its mail. nameserver: an
    address that is asked on port 53, also for the way to other domains; "": no name exists.
    Retries should be quick: seconds, not hours, as far as the server can.
    """

    directory: Path
    hostname: str
    domain: str
    users: tuple[str, ...]
    next_hops: Mapping[str, int]
    nameserver: str = ""

    def addresses(self) -> tuple[str, ...]:
        """Of the local mailboxes."""
        return tuple(f"{user}@{self.domain}" for user in self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message in the queue: its content as it was received, and who has yet to get it."""

    content: bytes
    recipients: tuple[str, ...]


class Target(Protocol):
    """One server under test.  Methods raise TargetError."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> frozenset[str]:
        """Of: "remote" (it relays), "reports" (it sends RFC 3464 reports), "trace", "network" (it
        must be called in a network of its own: `networks.around`), "wary" (as a client it does not
        believe a next hop's 250 that is out of place or not whole), "each" (a recipient gets a copy
        for each time that it is named in an envelope, faults or none).
        """
        ...

    @property
    def known_failures(self) -> Mapping[str, str]:
        """Name of a finding, or HARNESS/name for one harness only -> why it is known (`known`)."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that a storm must hit, as `processes` names them."""
        ...

    @property
    def windows(self) -> Mapping[str, Window]:
        """By place: "mailbox", "next hop", "report"."""
        ...

    @property
    def address(self) -> tuple[str, int]:
        """Where it takes mail by SMTP, once configured."""
        ...

    @property
    def spool(self) -> Path:
        """Where its queue lies, once configured."""
        ...

    @property
    def places(self) -> Mapping[str, Path]:
        """A directory as the server's processes name it -> the same one, as it is named here; only
        where the names differ.
        """
        ...

    def compose(self, architecture: str) -> None:
        """From now on it is that composition of itself.  Raises KeyError if it has none such."""
        ...

    def unavailable(self) -> str | None:
        """Why it can't run here; None if it can."""
        ...

    def install(self) -> None:
        """Put it there, in a root of its own if it needs one; nothing if it is there."""
        ...

    def configure(self, site: Site) -> None:
        """Write its configuration."""
        ...

    def start(self) -> None:
        """Return when it answers."""
        ...

    def alive(self) -> bool:
        """Whether its main process runs."""
        ...

    def recover(self) -> tuple[str, ...]:
        """What its service manager does when the main process has died: see that the rest is
        gone, then start it again; returns what was odd about it, such as processes left over.
        """
        ...

    def processes(self) -> list[Process]:
        """All of its processes that now run, with their roles."""
        ...

    def waiting(self) -> int:
        """How many messages are in the queue now."""
        ...

    def flush(self) -> None:
        """Have everything in the queue tried now."""
        ...

    def stop(self) -> tuple[str, ...]:
        """End it in good order; returns what was odd about it."""
        ...

    def mailboxes(self) -> Mapping[str, Path]:
        """Local address -> its mailbox: a directory with a file for each message, or an mbox."""
        ...

    def queued(self) -> Iterable[Waiting]:
        """What is left in the queue of the stopped server."""
        ...

    def trace(self) -> Path | None:
        """The events that it wrote (`specs.kernel.accept`); None if it has none."""
        ...

    def defects(self) -> tuple[str, ...]:
        """What its log says that no kill excuses: a panic, a failed assertion, a traceback."""
        ...

    def log_end(self) -> str:
        """The last lines of its log, for people."""
        ...

    def dispose(self) -> None:
        """Leave no process behind; files may stay."""
        ...


def known(target: Target, harness: str) -> dict[str, str]:
    """Name of a finding -> why that harness is known to have it with this target."""
    prefix = f"{harness}/"
    rows = {name: why for name, why in target.known_failures.items() if "/" not in name}
    own = target.known_failures.items()
    return rows | {name.removeprefix(prefix): why for name, why in own if name.startswith(prefix)}


def names() -> tuple[str, ...]:
    """Of the registered targets."""
    return registered.names(TARGETS)


def load(name: str) -> Target:
    """A target by NAME, or NAME:ARCHITECTURE.  Raises KeyError if there is none."""
    name, _, architecture = name.partition(":")
    target: Target = registered.make(TARGETS, name)
    if architecture:
        target.compose(architecture)
    return target
