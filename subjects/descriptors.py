"""Which descriptors each process of refmta may have: the allow-lists of the manifest.

A row per purpose. All processes share the first ones: standard input and output on the null
device, the log on standard error, an epoll of trio's, and two socket pairs of its own by which trio
wakes itself. What is left are channels, and what the compartment's job needs: a directory, a
message, a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.configuration import Settings
from specs.patterns.manifest import Allowed

SPAWNER: Final = "spawner"
#: A message of refmta's queue is a file with such a name (`wire.envelope`).
_MESSAGE: Final = r"[0-9A-Z]{16}"


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
    return Allowed(
        purpose="a process that it started", kind="anon", target=r"anon_inode:\[pidfd\]", most=None
    )


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
    for each in architecture.talks:
        server, client = architecture.row(each.server), architecture.row(each.client)
        if server.lazy:
            yield _channel(
                f"kept until {server.name} is used", client.name, f"{client.name} worker", most=None
            )


# -- compartments ---------------------------------------------------------------------------------


def _compartment(
    architecture: Architecture, row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    yield from (*_standard(), *_trio(row.name))
    yield _channel("orders of the supervisor", "supervisor", least=1)
    yield from _peers(architecture, row)
    yield from WORK.get(row.name, lambda _: ())(settings)


def _peers(architecture: Architecture, row: CompartmentRow) -> Iterator[Allowed]:
    """Channels to clients and servers. Who is a pool has one per worker, and its parent's."""
    for each in architecture.talks:
        if each.client == row.name:
            server = architecture.row(each.server)
            # A channel to what is not there yet ends at the supervisor.
            absent = ("supervisor",) if server.lazy else ()
            most = None if server.per_user or server.pooled else 1
            yield _channel(f"to {server.name}", *_ends(server), *absent, most=most)
        if each.server == row.name:
            client = architecture.row(each.client)
            most = None if client.pooled else 1
            yield _channel(f"from {client.name}", *_ends(client), most=most)


def _ends(row: CompartmentRow) -> tuple[str, ...]:
    return (row.name, f"{row.name} worker") if row.pooled else (row.name,)


# -- pools ----------------------------------------------------------------------------------------


def _parent(
    architecture: Architecture, row: CompartmentRow, settings: Settings
) -> Iterator[Allowed]:
    yield from (*_standard(), *_trio(row.name))
    yield _channel("orders of the supervisor", "supervisor", least=1)
    yield _channel("requests to its template", f"{row.name} template", least=1)
    yield _channel("a worker's sessions", f"{row.name} worker", most=None)
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
    yield from (*_standard(), *_trio(f"{row.name} worker"))
    yield _channel("its sessions", row.name, least=1)
    for each in architecture.talks:
        if each.client == row.name:
            server = architecture.row(each.server)
            absent = ("supervisor",) if server.lazy else ()
            yield _channel(f"to {server.name}", *_ends(server), *absent)
        if each.server == row.name:
            yield _channel(f"a call of {each.client}", each.client)
    yield from WORK.get(f"{row.name} worker", lambda _: ())(settings)


# -- what the job needs ---------------------------------------------------------------------------


def _message(settings: Settings, *, writable: bool, most: int | None) -> Allowed:
    chunks = re.escape(str(settings.spool / "chunks"))
    return Allowed(
        purpose="a message",
        kind="file",
        target=rf"{chunks}/{_MESSAGE}( \(deleted\))?",
        writable=writable,
        most=most,
    )


def _spool(settings: Settings) -> Iterator[Allowed]:
    """The queue's writers: its directories, and messages."""
    spool = re.escape(str(settings.spool))
    yield Allowed(purpose="the queue", kind="dir", target=rf"{spool}(/chunks|/damaged)?", most=3)
    yield _message(settings, writable=True, most=None)
    yield _message(settings, writable=False, most=None)


def _home(settings: Settings) -> Iterator[Allowed]:
    """A recipient's agent: the home, the Maildir's parts, one message, and its copy."""
    homes = "|".join(re.escape(each.home) for each in settings.configuration.users.values())
    yield Allowed(purpose="the home", kind="dir", target=f"({homes})(/Maildir.*)?", most=4)
    copy = f"({homes})/Maildir/.*"
    yield Allowed(purpose="a copy", kind="file", target=copy, writable=True, most=None)
    yield _message(settings, writable=False, most=None)


def _onward(settings: Settings) -> Iterator[Allowed]:
    """One message in each lane; connections to next hops and name servers."""
    yield _message(settings, writable=False, most=None)
    for family in ("inet", "inet6"):
        yield Allowed(purpose="a next hop", kind="socket", family=family, most=None)


def _session(_settings: Settings) -> Iterator[Allowed]:
    for family in ("inet", "inet6"):
        yield Allowed(purpose="its one client", kind="socket", family=family)


def _reported(settings: Settings) -> Iterator[Allowed]:
    yield _message(settings, writable=False, most=None)


#: process name -> what it has besides channels.
WORK: Final = {
    "enqueue": _spool,
    "qmgr": _spool,
    "local": _home,
    "bounce": _reported,
    "smtpd worker": _session,
    "remote worker": _onward,
}
