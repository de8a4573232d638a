"""Which descriptors each process of refmta may have: the allow-lists of the manifest.

A row per purpose. All processes share the first ones: standard input and output on the null
device, the log on standard error, an epoll of trio's, and two socket pairs of its own by which trio
wakes itself. What is left are channels, and what the compartment's job needs: a directory, a
message, a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from refmta.architectures.architecture import ROOT, Architecture, CompartmentRow
from refmta.architectures.configuration import Settings
from specs.patterns.manifest import Allowed
from subjects.parts import between, ends, working

SPAWNER: Final = "spawner"
#: A message of refmta's queue is a file whose name ends so (`wire.envelope`); sendmail's begins
#: with its kind.
_MESSAGE: Final = r"(qf|df|tf|xf)?[0-9A-Z]{16}"
_GONE: Final = r"( \(deleted\))?"


def allowed(
    architecture: Architecture, compartment: str, settings: Settings
) -> dict[str, tuple[Allowed, ...]]:
    """Process name -> its list, for all processes of a compartment."""
    if compartment == SPAWNER:
        return {SPAWNER: tuple(_spawner(settings))}
    row = architecture.row(compartment)
    if row.pooled:
        return {
            row.name: (*_parent(architecture, row, settings),),
            f"{row.name} template": tuple(_template(row)),
            f"{row.name} worker": tuple(_worker(architecture, row, settings)),
        }
    if compartment == "supervisor":
        return {compartment: tuple(_supervisor(architecture, settings))}
    return {compartment: tuple(_compartment(architecture, row, settings))}


# -- what all have --------------------------------------------------------------------------------


def _standard(least: int = 2) -> Iterator[Allowed]:
    """most 2: of standard input and output."""
    yield Allowed(purpose="nothing", kind="device", target="/dev/null", least=least, most=2)
    yield Allowed(purpose="the log", kind="file", target=r".*/log", writable=True, least=1, most=1)


def _trio(part: str) -> Iterator[Allowed]:
    yield Allowed(purpose="trio waits", kind="anon", target=r"anon_inode:\[eventpoll\]", least=1)
    yield Allowed(
        purpose="trio wakes itself", kind="socket", family="unix", peers=(part,), least=4, most=4
    )


def _channel(purpose: str, *peers: str, least: int = 0, most: int | None = 1) -> Allowed:
    return Allowed(
        purpose=purpose, kind="socket", family="unix", peers=peers, least=least, most=most
    )


def _listeners(settings: Settings) -> Allowed:
    count = len(settings.addresses())
    return Allowed(
        purpose="SMTP clients come here", kind="socket", listening=True, least=count, most=count
    )


# -- who starts the others ------------------------------------------------------------------------


def _started() -> Allowed:
    return _pidfd("a process that it started", most=None)


def _pidfd(purpose: str, most: int | None) -> Allowed:
    return Allowed(purpose=purpose, kind="anon", target=r"anon_inode:\[pidfd\]", most=most)


def _plan() -> Allowed:
    return Allowed(purpose="the plan", kind="memfd", target=r"/memfd:plan.*", least=1)


def _control() -> Allowed:
    return Allowed(
        purpose="the operator comes here", kind="socket", family="unix", listening=True, least=1
    )


def _spawner(settings: Settings) -> Iterator[Allowed]:
    yield Allowed(purpose="nothing", kind="device", target="/dev/null", most=3)
    # Standard output, as its own starter had it, beside standard error.
    yield Allowed(purpose="the log", kind="file", target=r".*/log", writable=True, least=1, most=2)
    yield from (_listeners(settings), _control(), _plan(), _started())
    yield _channel("the supervisor's requests", "supervisor", least=1)


def _supervisor(architecture: Architecture, settings: Settings) -> Iterator[Allowed]:
    yield from (*_standard(), *_trio("supervisor"))
    yield from (_listeners(settings), _control(), _plan())
    yield _channel("requests to the spawner", SPAWNER, least=1)
    for row in architecture.compartments:
        yield _channel(f"orders to {row.name}", row.name, most=None if row.per_user else 1)
    for each in between(architecture):
        server, client = architecture.row(each.server), architecture.row(each.client)
        if server.lazy:
            yield _channel(f"kept until {server.name} is used", *ends(client), most=None)


# -- compartments ---------------------------------------------------------------------------------


def _compartment(
    architecture: Architecture, row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    yield from (*_standard(), *_trio(row.name))
    yield _channel("orders of the supervisor", "supervisor", least=1)
    yield from _peers(architecture, row)
    yield from _works(architecture, row, settings)
    if row.listener:
        yield _listeners(settings)
        yield from _connections("its clients", most=None)


def _peers(architecture: Architecture, row: CompartmentRow) -> Iterator[Allowed]:
    """Channels to clients and servers. Who is a pool has one per worker, and its parent's; a fresh
    one is made by a line to the server for as long as it is needed.
    """
    for each in between(architecture):
        if each.client == row.name:
            server = architecture.row(each.server)
            # A channel to what is not there yet ends at the supervisor.
            absent = ("supervisor",) if server.lazy else ()
            most = None if server.per_user or server.pooled or each.fresh else 1
            yield _channel(f"to {server.name}", *ends(server), *absent, most=most)
        if each.server == row.name:
            client = architecture.row(each.client)
            most = None if client.pooled or each.fresh else 1
            yield _channel(f"from {client.name}", *ends(client), most=most)


def _works(
    architecture: Architecture, row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    """What the jobs need besides channels, each thing once."""
    found = {
        each.purpose + each.kind + each.family + str(each.writable): each
        for role in row.roles
        for each in WORK.get(role, _nothing)(architecture, row, settings)
    }
    yield from found.values()


# -- pools ----------------------------------------------------------------------------------------


def _parent(
    architecture: Architecture, row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    yield from (*_standard(), *_trio(row.name))
    yield _channel("orders of the supervisor", "supervisor", least=1)
    yield _channel("requests to its template", f"{row.name} template", least=1)
    yield _channel("a worker's sessions", working(row), most=None)
    yield from _peers(architecture, row)
    if row.listener:
        yield _listeners(settings)


def _template(row: CompartmentRow) -> Iterator[Allowed]:
    yield from _standard()
    yield _channel("requests for workers", row.name, least=1)
    yield _started()


def _worker(
    architecture: Architecture, row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    yield from (*_standard(), *_trio(working(row)))
    yield _channel("its sessions", row.name, least=1)
    if row.user == ROOT:
        yield _pidfd("its template, with which it ends", most=1)
    for each in between(architecture):
        if each.client == row.name:
            server = architecture.row(each.server)
            absent = ("supervisor",) if server.lazy else ()
            most = None if each.fresh else 1
            yield _channel(f"to {server.name}", *ends(server), *absent, most=most)
        if each.server == row.name:
            yield _channel(f"a call of {each.client}", *ends(architecture.row(each.client)))
    if row.listener:
        yield from _connections("its one client", most=1)
        if row.acceptor == "workers":
            yield _listeners(settings)
    yield from _works(architecture, row, settings)


# -- what the job needs ---------------------------------------------------------------------------


def _nothing(*_: object) -> Iterator[Allowed]:
    yield from ()


def _below(settings: Settings, paths: Iterable[str]) -> str:
    return "|".join(re.escape(str(settings.spool / each.strip("/"))) for each in paths)


def _messages(architecture: Architecture, settings: Settings) -> Allowed:
    """Messages to be read, one for each job."""
    places = _below(settings, (each.path for each in architecture.directories))
    return Allowed(
        purpose="a message", kind="file", target=rf"({places})/{_MESSAGE}{_GONE}", writable=False,
        most=None,
    )  # fmt: skip


def _queue(
    architecture: Architecture, row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    """The queue's writers: its directories, and what they have there."""
    paths = [each for each in (*row.reads, *row.changes) if each != "/"]
    mine, spool = _below(settings, paths), re.escape(str(settings.spool))
    yield Allowed(
        purpose="the queue", kind="dir", target=rf"{spool}|{mine}", most=1 + 2 * len(paths)
    )
    yield Allowed(
        purpose="what it writes", kind="file", target=rf"({mine})/[^/]*{_GONE}", writable=True,
        most=None,
    )  # fmt: skip
    yield _messages(architecture, settings)


def _home(architecture: Architecture, row: CompartmentRow, settings: Settings) -> Iterator[Allowed]:
    """A recipient's agent: the home, the mailbox's parts, one message, and its copy."""
    homes = "|".join(re.escape(each.home) for each in settings.configuration.users.values())
    one = row.per_user or row.becomes
    home = Allowed(
        purpose="the home", kind="dir", target=f"({homes})(/Maildir.*)?", most=4 if one else None
    )
    yield home
    copy = f"({homes})/(Maildir/.*|mbox.*)"
    yield Allowed(purpose="a copy", kind="file", target=copy, writable=True, most=None)
    yield _messages(architecture, settings)


def _onward(
    architecture: Architecture, _row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    """One message in each lane; connections to next hops and name servers."""
    yield _messages(architecture, settings)
    yield from _connections("a next hop", most=None)


def _connections(purpose: str, most: int | None) -> Iterator[Allowed]:
    for family in ("inet", "inet6"):
        yield Allowed(purpose=purpose, kind="socket", family=family, most=most)


def _reported(
    architecture: Architecture, _row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    yield _messages(architecture, settings)


#: role -> what it has besides channels.
WORK: Final = {
    "enqueue": _queue,
    "qmgr": _queue,
    "clean": _queue,
    "local": _home,
    "lmtpd": _home,
    "bounce": _reported,
    "lmtpc": _reported,
    "remote": _onward,
}
