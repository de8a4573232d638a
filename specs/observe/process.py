"""A process as the kernel shows it: /proc/PID, and who is at the other end of its sockets.

Theory.  What a process may do is in its credentials, its root, its namespaces, its filters and its
descriptors; all of them can be read from outside by root, whatever the process thinks of it.  Three
things need care:
- a process can end while it is read: then `look` says None, never half a process;
- the other end of a socket pair is no name in /proc; the kernel's sock_diag(7) tells its inode, but
  only in the network namespace in which the pair was made, so all namespaces in sight are asked;
- whether a process is dumpable is nowhere in /proc; but the files of one that isn't belong to
  root (proc(5)).  Of root's own processes this can't be said: None.

Not here: Landlock (the kernel shows it nowhere; see `probes`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from specs.observe.sockets import Socket, sockets

#: anon: what has no name, such as an epoll, an eventfd or a signalfd.
Kind = Literal["file", "dir", "socket", "pipe", "memfd", "anon", "device"]
#: Kinds of namespaces that are looked at.
NAMESPACES: Final = ("user", "net", "mnt", "pid", "ipc", "uts")
_KINDS: Final[tuple[tuple[Callable[[int], bool], Kind], ...]] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "dir"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """One entry of /proc/PID/fd.

    number: the process's own.  target: the link's text, such as "/a/file", "socket:[123]",
    "anon_inode:[eventpoll]".  inode: of the file, the socket or the pipe.  writable: opened for
    writing.  family: of a socket "unix", "inet", "inet6", "netlink" or "" (not known).
    listening: a socket that takes connections.  local, remote: of an inet socket "address:port".
    peer: (pid, descriptor) of all who hold the other end of a unix socket or pipe; () if nobody
    who was looked at does.
    """

    number: int
    kind: Kind
    target: str
    writable: bool
    inode: int
    family: str = ""
    listening: bool = False
    local: str = ""
    remote: str = ""
    peer: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Five sets, as bits (capability.h): CAP_SETGID is 1 << 6."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process at one instant.

    name: what the target calls it ("qmgr", "smtpd template", "smtpd worker").  detail: whose it
    is, of several with that name (a recipient).  uids, gids: real, effective, saved, file system.
    seccomp: 0 none, 1 strict, 2 filters, and their number.  dumpable: None if that can't be said
    (root's).  root: the path of what it sees as "/"; root_listing: the names in it, None if it
    can't be read.  namespaces: user, net, mnt, pid, ipc, uts -> number.  threads: how many.
    started: ticks after the machine's start.  limits: name (such as "Max open files") ->
    (soft, hard), -1 for unlimited.  environment: names only.  resident: octets in memory.
    """

    pid: int
    parent: int
    name: str
    detail: str = ""
    command: tuple[str, ...] = ()
    uids: tuple[int, int, int, int]
    gids: tuple[int, int, int, int]
    groups: tuple[int, ...]
    capabilities: Capabilities
    no_new_privs: bool
    seccomp: int
    filters: int
    dumpable: bool | None
    root: str
    root_listing: tuple[str, ...] | None
    cwd: str
    namespaces: Mapping[str, int]
    descriptors: tuple[Descriptor, ...]
    threads: int
    started: int
    limits: Mapping[str, tuple[int, int]]
    environment: tuple[str, ...]
    resident: int = 0


# -- looking --------------------------------------------------------------------------------------


def look(pid: int, name: str = "", detail: str = "") -> Process | None:
    """A process without its peers; None if it is gone, or goes meanwhile."""
    proc = Path(f"/proc/{pid}")
    try:
        status = _status(proc)
        fields = (proc / "stat").read_bytes().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            return None
        return Process(
            pid=pid,
            parent=int(fields[1]),
            name=name,
            detail=detail,
            command=_texts(proc / "cmdline"),
            uids=_four(status["Uid"]),
            gids=_four(status["Gid"]),
            groups=tuple(map(int, status["Groups"].split())),
            capabilities=_capabilities(status),
            no_new_privs=status["NoNewPrivs"] == "1",
            seccomp=int(status["Seccomp"]),
            filters=int(status.get("Seccomp_filters", "0")),
            dumpable=_dumpable(proc, status),
            root=str((proc / "root").readlink()),
            root_listing=_listing(proc / "root"),
            cwd=str((proc / "cwd").readlink()),
            namespaces={each: (proc / "ns" / each).stat().st_ino for each in NAMESPACES},
            descriptors=_descriptors(proc),
            threads=int(status["Threads"]),
            started=int(fields[19]),
            limits=_limits(proc),
            environment=tuple(each.partition("=")[0] for each in _texts(proc / "environ")),
            resident=int(status["VmRSS"].split()[0]) * 1024,
        )
    except (OSError, KeyError, IndexError):
        return None


def _status(proc: Path) -> dict[str, str]:
    rows = (line.partition(":") for line in (proc / "status").read_text().splitlines())
    return {name: value.strip() for name, _, value in rows}


def _texts(path: Path) -> tuple[str, ...]:
    return tuple(path.read_bytes().decode("utf-8", "replace").split("\0")[:-1])


def _four(text: str) -> tuple[int, int, int, int]:
    real, effective, saved, files = map(int, text.split())
    return real, effective, saved, files


def _capabilities(status: Mapping[str, str]) -> Capabilities:
    inheritable, permitted, effective, bounding, ambient = (
        int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    )
    return Capabilities(
        inheritable=inheritable,
        permitted=permitted,
        effective=effective,
        bounding=bounding,
        ambient=ambient,
    )


def _dumpable(proc: Path, status: Mapping[str, str]) -> bool | None:
    user = _four(status["Uid"])[1]
    return None if user == 0 else (proc / "status").stat().st_uid == user


def _listing(root: Path) -> tuple[str, ...] | None:
    try:
        return tuple(sorted(each.name for each in root.iterdir()))
    except OSError:
        return None


def _limits(proc: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for line in (proc / "limits").read_text().splitlines()[1:]:
        soft, hard = (-1 if each == "unlimited" else int(each) for each in line[26:].split()[:2])
        found[line[:26].strip()] = soft, hard
    return found


# -- descriptors ----------------------------------------------------------------------------------


def _descriptors(proc: Path) -> tuple[Descriptor, ...]:
    """Raises OSError if the process is gone; a descriptor that is closed meanwhile is left out."""
    found = []
    for number in sorted(int(each.name) for each in (proc / "fd").iterdir()):
        with suppress(OSError):
            found.append(_descriptor(proc, number))
    return tuple(found)


def _descriptor(proc: Path, number: int) -> Descriptor:
    link = proc / "fd" / str(number)
    target, status = str(link.readlink()), link.stat()
    flags = int(_info(proc / "fdinfo" / str(number), "flags"), 8)
    return Descriptor(
        number=number,
        kind=_kind(target, status.st_mode),
        target=target,
        writable=flags & os.O_ACCMODE != os.O_RDONLY,
        inode=status.st_ino,
    )


def _info(path: Path, key: str) -> str:
    rows = (line.split() for line in path.read_text().splitlines())
    return next(row[1] for row in rows if row[0] == f"{key}:")


def _kind(target: str, mode: int) -> Kind:
    if target.startswith("/memfd:"):
        return "memfd"
    for test, kind in _KINDS:
        if test(mode):
            return kind
    return "anon"


# -- all of them, and who is connected with whom --------------------------------------------------


def look_around(who: Iterable[tuple[int, str, str]]) -> tuple[Process, ...]:
    """Those of (pid, name, detail) that live, their sockets' families, addresses and peers
    filled in.  Raises Unavailable where the kernel has no sock_diag for unix sockets.
    """
    found = [each for each in (look(*one) for one in who) if each is not None]
    table = sockets([each.pid for each in found])
    holders: dict[int, list[tuple[int, int]]] = {}
    for process in found:
        for each in process.descriptors:
            holders.setdefault(each.inode, []).append((process.pid, each.number))
    return tuple(
        replace(
            process,
            descriptors=tuple(
                _connected(process.pid, each, table, holders)
                for each in process.descriptors
                if each.kind != "socket" or each.inode in table or not _closed(process.pid, each)
            ),
        )
        for process in found
    )


def _closed(pid: int, one: Descriptor) -> bool:
    """Whether a socket was closed after the process had been looked at."""
    try:
        return str(Path(f"/proc/{pid}/fd/{one.number}").readlink()) != one.target
    except OSError:
        return True


def _connected(
    pid: int, one: Descriptor, table: Mapping[int, Socket], holders: _Holders
) -> Descriptor:
    if one.kind == "pipe":
        others = (each for each in holders[one.inode] if each != (pid, one.number))
        return replace(one, peer=tuple(others))
    known = table.get(one.inode)
    if one.kind != "socket" or known is None:
        return one
    return replace(
        one,
        family=known.family,
        listening=known.listening,
        local=known.local,
        remote=known.remote,
        peer=tuple(holders.get(known.peer, ())) if known.peer else (),
    )


_Holders = Mapping[int, Sequence[tuple[int, int]]]
