"""Where the ledger's numbers are taken: a server at work, ours in one of its compositions or a real
one, as something that takes mail, has processes, and fills mailboxes.

Nobody here knows what is measured.  Each place is a directory of its own on a disk (never /tmp,
which may be memory), with users who need no account; nothing of it is left behind.

What is tricky: a mailbox may be a Maildir or an mbox.  Messages are counted from what has been
added since the last look, so that looking often costs little.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final, Protocol, TypeVar

from faultinject.processes import Process
from faultinject.target import Site
from specs.claims.instruments import NotHere
from subjects.target import Refmta

T = TypeVar("T")
DOMAIN: Final = "claims.test"
HOSTNAME: Final = f"mx.{DOMAIN}"
USERS: Final = ("ada", "bob", "cyd", "dan")
ON_DISK: Final = "/var/tmp"  # noqa: S108
COMPOSITION, SERVER = "composition:", "server:"
LOOK_S: Final = 0.01
#: No new message for so long: given up.
STALL_S: Final = 60.0
#: A message's beginning in an mbox.
FROM_LINE: Final = b"\nFrom "


class Place(Protocol):
    """A server that runs."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, as seen by whoever is `within`."""
        ...

    @property
    def domain(self) -> str: ...

    @property
    def users(self) -> tuple[str, ...]: ...

    @property
    def mailboxes(self) -> Mapping[str, Counted]: ...

    @property
    def worker_part(self) -> str:
        """The part of a pool's processes that has the sessions."""
        ...

    def processes(self) -> list[Process]:
        """All of it; a role is a compartment of ours, or the program that runs there."""
        ...

    def queued(self) -> int:
        """Messages in its queue."""
        ...

    def within(self, call: Callable[[], T]) -> T:
        """Do it where the server can be connected to."""
        ...

    def on_network(self, *command: str) -> list[str]:
        """The command line that runs this one there."""
        ...


@dataclass(slots=True)
class Counted:
    """A mailbox, and how many messages came into it since it was first looked at."""

    path: Path
    _known: set[str] = field(default_factory=set)
    _read: int = 0
    _seen: int = 0

    def count(self) -> int:
        """All that it has had."""
        if self.path.is_dir():
            self._known.update(os.listdir(self.path))  # noqa: PTH208
            return len(self._known)
        if self.path.is_file():
            self._count_on()
        return self._seen

    def _count_on(self) -> None:
        """What was appended to an mbox; a mark may lie across what was read last."""
        size = self.path.stat().st_size
        if size < self._read:  # cut back after a failed delivery
            self._read = self._seen = 0
        with self.path.open("rb") as mbox:
            back = min(self._read, len(FROM_LINE) - 1)
            mbox.seek(self._read - back)
            octets = mbox.read(size - self._read + back)
        first = self._read == 0 and octets.startswith(FROM_LINE[1:])
        self._seen += octets.count(FROM_LINE) + first
        self._read = size


def await_delivered(
    place: Place, user: str, count: int, is_over: Callable[[], bool] = lambda: False
) -> float:
    """When this user's mailbox had so many messages (of perf_counter).  is_over: whether no more
    will come.  Raises RuntimeError.
    """
    mailbox = place.mailboxes[user]
    seen, progress_s = -1, time.perf_counter()
    while True:
        found, now_s = mailbox.count(), time.perf_counter()
        if found >= count:
            return now_s
        if found != seen:
            seen, progress_s = found, now_s
        if now_s - progress_s > STALL_S or is_over():
            raise RuntimeError(f"{found} of {count} messages came to {user}")
        time.sleep(LOOK_S)


def await_empty(place: Place) -> None:
    """Until nothing is in its queue.  Raises RuntimeError."""
    deadline_s = time.monotonic() + STALL_S
    while place.queued():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{place.queued()} messages stay in the queue")
        time.sleep(LOOK_S)


# -- ours -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ours:
    """One of our compositions."""

    server: Refmta
    domain: str = DOMAIN
    users: tuple[str, ...] = USERS
    mailboxes: Mapping[str, Counted] = field(default_factory=dict)
    worker_part: str = "worker"

    @property
    def address(self) -> tuple[str, int]:
        return self.server.address

    def processes(self) -> list[Process]:
        return self.server.processes()

    def queued(self) -> int:
        return self.server.waiting()

    def within(self, call: Callable[[], T]) -> T:
        return call()

    def on_network(self, *command: str) -> list[str]:
        return list(command)


#: Settings of the configuration: (section, key) -> value, as TOML has it.
Knobs = Mapping[tuple[str, str], str]
#: All clients have one address here; Postfix exempts its own networks from such limits, too.
ONE_CLIENT: Final[Knobs] = {("limits", "connections_per_client"): "1000"}


@contextmanager
def ours(
    architecture: str,
    knobs: Knobs | None = None,
    *,
    python: str = "",
    next_hops: Mapping[str, int] | None = None,
) -> Iterator[Ours]:
    """A composition that serves, with these settings besides those of its adapter.

    python: the interpreter of another refmta.  Raises NotHere, TargetError.
    """
    server = Refmta(relays=next_hops is not None, traces=False)
    if python:
        server.python = python
    server.compose(architecture)
    lacks = server.unavailable()
    if lacks:
        raise NotHere(lacks)
    with ExitStack() as after:
        directory = Path(
            after.enter_context(tempfile.TemporaryDirectory(prefix="refmta-claims-", dir=ON_DISK))
        )
        server.configure(
            Site(
                directory=directory, hostname=HOSTNAME, domain=DOMAIN, users=USERS,
                next_hops=next_hops or {},
            )
        )  # fmt: skip
        configuration = directory / "refmta.toml"
        text = without(configuration.read_text(encoding="utf-8"), "smtpd", "max_uses")
        for (section, key), value in {**ONE_CLIENT, **(knobs or {})}.items():
            text = with_setting(text, section, key, value)
        configuration.write_text(text, encoding="utf-8")
        after.callback(server.dispose)
        server.start()
        boxes = server.mailboxes()
        yield Ours(
            server, mailboxes={user: Counted(boxes[f"{user}@{DOMAIN}"]) for user in USERS}
        )  # fmt: skip


def with_setting(text: str, section: str, key: str, value: str) -> str:
    """The configuration with this value of a key."""
    text = without(text, section, key)
    head = f"[{section}]"
    lines = text.splitlines()
    if head not in lines:
        return "\n".join([*lines, head, f"{key} = {value}", ""])
    place = lines.index(head)
    return "\n".join([*lines[: place + 1], f"{key} = {value}", *lines[place + 1 :], ""])


def without(text: str, section: str, key: str) -> str:
    """The configuration with the default of a key."""
    found, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        if not (inside and line.partition("=")[0].strip() == key):
            found.append(line)
    return "\n".join([*found, ""])


# -- any ------------------------------------------------------------------------------------------


@contextmanager
def place(subject: str) -> Iterator[Place]:
    """What a subject of the ledger is, at work, as it is shipped.  Raises NotHere, TargetError."""
    if subject.startswith(COMPOSITION):
        with ours(subject.removeprefix(COMPOSITION)) as found:
            yield found
    else:
        with peers().peer(subject.removeprefix(SERVER)) as other:
            yield other


def peers() -> ModuleType:
    """`subjects.measures_peers`, which is of use beside the tests and the bench only."""
    try:
        return importlib.import_module("subjects.measures_peers")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("tests", "bench"):
            raise
        lacks = "the source tree for real servers: `python -m specs.command claims` there"
        raise NotHere(lacks) from error


def need_root() -> None:
    """Raises NotHere."""
    if os.geteuid() != 0:
        raise NotHere("a machine with root")
