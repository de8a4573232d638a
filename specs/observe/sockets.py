"""Sockets by inode: family, addresses, and the inode at the other end.

/proc/PID/net/tcp knows the inet sockets of that process's network namespace; the unix ones, and
their peers, are told by sock_diag(7) over netlink, again for one namespace.  A socket belongs to
the namespace in which it was made, wherever it was passed to; so every namespace in sight is
asked, each from a thread that enters it and ends.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from specs.observe.unavailable import Unavailable

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST_DUMP, _DONE, _ERROR = 0x301, 3, 2
_SHOW_NAME_PEER, _NAME, _PEER = 1 | 4, 0, 2
_LISTEN = 10
_CLONE_NEWNET: Final = 0x40000000
_HEADER, _MESSAGE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBxI8x"), "=HH"


@dataclass(frozen=True, slots=True)
class Socket:
    """peer: an inode, 0 if there is none.  local: of a unix socket its path."""

    family: str
    listening: bool
    local: str = ""
    remote: str = ""
    peer: int = 0


def sockets(pids: Iterable[int]) -> dict[int, Socket]:
    """Those of the namespaces of these processes and of ours, by inode.  Raises Unavailable."""
    namespaces = {Path("/proc/self/ns/net").stat().st_ino: os.getpid()}
    for pid in pids:
        try:
            namespaces.setdefault(Path(f"/proc/{pid}/ns/net").stat().st_ino, pid)
        except OSError:
            continue  # it has ended
    found: dict[int, Socket] = {}
    for pid in namespaces.values():
        try:
            found.update(_inet(Path(f"/proc/{pid}/net")))
            found.update(_unix(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


# -- inet -----------------------------------------------------------------------------------------


def _inet(net: Path) -> Iterator[tuple[int, Socket]]:
    for name, family in (("tcp", "inet"), ("udp", "inet"), ("tcp6", "inet6"), ("udp6", "inet6")):
        for line in _lines(net / name):
            row = line.split()
            listening = name.startswith("tcp") and row[3] == "0A"
            yield int(row[9]), Socket(family, listening, _end(row[1]), _end(row[2]))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()[1:]
    except OSError:
        return []  # a kernel without that family, or an ended process


def _end(text: str) -> str:
    """ "0100007F:1F90" -> "127.0.0.1:8080": words of four octets in the machine's order."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    octets = struct.pack(f"={len(words)}I", *words)
    host = IPv4Address(octets) if len(words) == 1 else IPv6Address(octets)
    return f"{host}:{int(port, 16)}"


# -- unix -----------------------------------------------------------------------------------------


def _unix(pid: int) -> dict[int, Socket]:
    """Raises Unavailable, FileNotFoundError."""
    line = _line_in_namespace(pid)
    with line:
        body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME_PEER, 0, 0)
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
        line.send(head + body)
        return dict(_answers(line))


def _line_in_namespace(pid: int) -> socket.socket:
    """A netlink socket that belongs to the process's network namespace."""
    with open(f"/proc/{pid}/ns/net") as namespace:
        made: list[socket.socket | OSError] = []

        def make() -> None:  # a thread has a namespace of its own, and this one ends at once
            libc = ctypes.CDLL(None, use_errno=True)
            try:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                made.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
    (line,) = made
    if isinstance(line, OSError):
        raise Unavailable(f"sock_diag: {line.strerror}")
    return line


def _answers(line: socket.socket) -> Iterator[tuple[int, Socket]]:
    while True:
        octets = line.recv(1 << 18)
        at = 0
        while at < len(octets):
            length, kind, *_ = _HEADER.unpack_from(octets, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise Unavailable("the kernel has no sock_diag for unix sockets")
            yield _one(octets[at + _HEADER.size : at + length])
            at += (length + 3) & ~3


def _one(octets: bytes) -> tuple[int, Socket]:
    _family, _type, state, inode = _MESSAGE.unpack_from(octets)
    name, peer, at = "", 0, _MESSAGE.size
    while at < len(octets):
        length, kind = struct.unpack_from(_ATTRIBUTE, octets, at)
        value = octets[at + 4 : at + length]
        if kind == _PEER:
            (peer,) = struct.unpack("=I", value)
        elif kind == _NAME:
            name = value.rstrip(b"\0").decode("utf-8", "replace")
        at += (length + 3) & ~3
    return inode, Socket("unix", state == _LISTEN, name, "", peer)
