"""A network of its own for a harness and its target: loopback only, and every port is free.

    with networks.own():
        trio.run(...)            # clients, next hops, name servers and the target's own sockets

The real servers listen on port 25, and ask whatever name server they are told of; neither may touch
this machine's network.  So not the server is brought into reach of the harness, by proxies or
pairs of interfaces, but the harness into the server's network: there a connection is a
connection, and a reset is a reset.

Rules a reader may rely on
- A network belongs to a thread (network_namespaces(7)): the one that enters, the threads and
  processes that it starts then, and nobody else's.  A socket stays in the network that it was
  made in.
- Threads are kept and used again by trio, so which network one of its workers is in is chance.
  Whoever makes a socket or a process in such a thread says so: `within`, `command`.  Which network
  is meant travels with the context (contextvars), as trio hands it to its workers.
- At the end of the block the thread is where it was.  The kernel removes the network with the last
  process or socket in it: nothing to clean up, however the harness ends.

It needs root (CAP_SYS_ADMIN).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from typing import Final, Protocol, TypeVar

import trio

T = TypeVar("T")
#: Of sched.h, and of netdevice(7).
CLONE_NEWNET: Final = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
SIOCSIFADDR: Final = 0x8916
#: A target's capability: it must be called in a network of its own.
CAPABILITY: Final = "network"
HERE: Final = "/proc/thread-self/ns/net"
#: The name of the interface, and its flags, or a socket address.
_REQUEST: Final = struct.Struct("16sH22x")
_ADDRESS: Final = struct.Struct("16sH2x4s16x")
#: Beside 127.0.0.0/8: who has no other address asks no name server for one (AI_ADDRCONFIG).  It is
#: of a network for documentation (RFC 5737).
OTHER: Final = "192.0.2.1"

_current: ContextVar[int | None] = ContextVar("network", default=None)
#: This machine's network, once anybody has left it.
_machine: list[int] = []


class NetworkError(OSError):
    """The kernel refused."""


class _Capable(Protocol):
    @property
    def capabilities(self) -> frozenset[str]: ...


def around(target: _Capable) -> AbstractContextManager[None]:
    """What to call a target in: a network of its own if it needs one."""
    return own() if CAPABILITY in target.capabilities else nullcontext()


@contextmanager
def own() -> Iterator[None]:
    """This thread is in a new network until the end of the block.  Raises NetworkError."""
    before = os.open(HERE, os.O_RDONLY)
    try:
        if not _machine:
            _machine.append(os.dup(before))
        _kernel("unshare", CLONE_NEWNET)
        try:
            _raise_loopback()
            inside = os.open(HERE, os.O_RDONLY)
            token = _current.set(inside)
            try:
                yield
            finally:
                _current.reset(token)
                os.close(inside)
        finally:
            _kernel("setns", before, CLONE_NEWNET)
    finally:
        os.close(before)


def is_own() -> bool:
    """Whether this context is in a network of its own."""
    return _current.get() is not None


def within(call: Callable[[], T]) -> T:
    """Make the call in the network of this context, whichever thread this is; blocks.

    The thread that makes it has entered that network, and ends with the call.
    """
    network = _meant()
    if network is None:
        return call()
    context = copy_context()
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            _kernel("setns", network, CLONE_NEWNET)
            results.append(context.run(call))
        except BaseException as error:  # raised again, by the caller
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


async def in_thread(call: Callable[[], T]) -> T:
    """The same, without blocking the others: for what may make sockets or processes.  The thread
    that trio lends may have been born in another network.
    """
    return await trio.to_thread.run_sync(within, call)


def command(*arguments: str) -> tuple[list[str], tuple[int, ...]]:
    """A command line that runs in the network of this context, and what it must inherit."""
    return _command(_meant(), arguments)


def command_outside(*arguments: str) -> tuple[list[str], tuple[int, ...]]:
    """The same in this machine's network."""
    return _command(_machine[0] if _machine else None, arguments)


def _command(network: int | None, arguments: tuple[str, ...]) -> tuple[list[str], tuple[int, ...]]:
    if network is None:
        return [*arguments], ()
    return ["nsenter", f"--net=/proc/self/fd/{network}", "--", *arguments], (network,)


def _meant() -> int | None:
    """The network of this context; None if no thread has ever left the machine's."""
    return _current.get() or (_machine[0] if _machine else None)


class Reserved:
    """An address that nobody else of us takes in its network, until `free`, or until this process
    ends; its port is left to whoever it is for.

    What reserves it is a name among the abstract sockets (unix(7)), which each network has its own
    of: bound at once or not at all, and gone with its holder.
    """

    def __init__(self, host: str, port: int, mark: socket.socket) -> None:
        self.host, self.port, self._mark = host, port, mark

    def free(self) -> None:
        """Again for everybody; twice is once."""
        self._mark.close()


def reserve_address(port: int, last: int = 250) -> Reserved:
    """The first loopback address of the network of this context where nobody has that port, and
    nobody else has reserved it.  In a network of its own the interface has it then, too: some
    servers listen on no other.

    Raises NetworkError if there is none.
    """

    def find() -> Reserved:
        for number in range(1, last):
            host = f"127.0.0.{number}"
            mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                mark.bind(f"\0refmta {host}:{port}")
                socket.create_server((host, port)).close()
            except OSError:
                mark.close()
                continue
            if is_own() and number > 1:
                _add_address(f"lo:{number}", host)
            return Reserved(host, port, mark)
        raise NetworkError(f"no loopback address has port {port} free")

    return within(find)


# -- the kernel's calls that Python 3.11 lacks ----------------------------------------------------


def _kernel(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise NetworkError(number, f"{name}: {os.strerror(number)}")


def _raise_loopback() -> None:
    """A new network has a loopback interface, which is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, _REQUEST.pack(b"lo", 0))
        name, flags = _REQUEST.unpack(answer)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, _REQUEST.pack(name, flags | IFF_UP))
    _add_address("lo:1", OTHER)


def _add_address(label: str, host: str) -> None:
    """One more of an interface (netdevice(7): an alias)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        told = _ADDRESS.pack(label.encode(), socket.AF_INET, socket.inet_aton(host))
        fcntl.ioctl(any_socket, SIOCSIFADDR, told)
