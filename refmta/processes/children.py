"""A process that starts others on request and reports their ends: single-threaded, without trio.

Both the spawner (privileged, executes) and the template of a pool (without privilege, forks) are
this loop with another `start`.  Requests and reports are datagrams on a SOCK_SEQPACKET pair:

    request  "S" token rest [descriptors]   start a child; what `rest` means is `start`'s business
             "K" token signal               kill it: only its parent can, without a race for the pid
    report   "P" token pid                  started
             "E" token text                 refused, and why
             "X" token status               it has ended (status as of waitpid)

The loop ends when the requester's end is closed, or says what is no request; whoever called it
ends the children then.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
import struct
from collections.abc import Callable

#: A request holds a slice of the configuration.
MAX_REQUEST = 65536
MAX_DESCRIPTORS = 16
_HEAD = struct.Struct("!cQ")
_VALUE = struct.Struct("!i")
_KILL_OCTETS = _HEAD.size + _VALUE.size


class StartRefused(Exception):
    """The request can't be met; the text goes back to the requester."""


def start_request(token: int, rest: bytes) -> bytes:
    """Ask for a child; `token` names it from now on.  Raises ValueError for more than one request
    can hold: the other side would see its beginning only.
    """
    if _HEAD.size + len(rest) > MAX_REQUEST:
        raise ValueError("request too long")
    return _HEAD.pack(b"S", token) + rest


def kill_request(token: int, number: int) -> bytes:
    """Ask for a signal to a child."""
    return _HEAD.pack(b"K", token) + _VALUE.pack(number)


def parse_report(octets: bytes) -> tuple[str, int, int, str]:
    """(kind, token, value, text) of a report.  Raises ValueError."""
    if len(octets) < _HEAD.size:
        raise ValueError("report cut short")
    kind, token = _HEAD.unpack_from(octets)
    if kind == b"E":
        return "E", token, 0, octets[_HEAD.size :].decode("utf-8", "replace")
    if kind not in (b"P", b"X") or len(octets) != _HEAD.size + _VALUE.size:
        raise ValueError("unknown report")
    return kind.decode(), token, _VALUE.unpack_from(octets, _HEAD.size)[0], ""


class Children:
    """The loop's state: which children live."""

    def __init__(self, requests: socket.socket, start: Callable[[bytes, list[int]], int]) -> None:
        """`start(rest, descriptors)` forks and returns the pid; raises StartRefused or OSError."""
        self._requests = requests
        self._start = start
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._by_pidfd: dict[int, tuple[int, int]] = {}
        self._by_token: dict[int, int] = {}

    def adopt(self, token: int, pid: int) -> None:
        """Watch a child that was started otherwise.  Raises OSError (no descriptor is left,
        perhaps): nobody could end it later, so it has ended.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._by_pidfd[pidfd] = token, pid
        self._by_token[token] = pidfd
        self._poll.register(pidfd, select.POLLIN)

    def serve(self) -> None:
        """Until the requester is gone."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._by_pidfd:
                    self._reap(descriptor)
                elif not self._request():
                    return

    def end_all(self) -> None:
        """Kill and reap every child."""
        for pidfd in list(self._by_pidfd):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in list(self._by_pidfd):
            self._reap(pidfd, report=False)

    def descriptors(self) -> list[int]:
        """What a fork must not hand down."""
        return [self._requests.fileno(), *self._by_pidfd]

    def _request(self) -> bool:
        try:
            octets, descriptors, _, _ = socket.recv_fds(
                self._requests, MAX_REQUEST, MAX_DESCRIPTORS
            )
        except ConnectionResetError:  # the requester has ended with reports unread
            return False
        try:
            if len(octets) < _HEAD.size:
                return False
            kind, token = _HEAD.unpack_from(octets)
            if kind == b"S":
                self._begin(token, octets[_HEAD.size :], descriptors)
            elif kind == b"K" and len(octets) == _KILL_OCTETS:
                number = _VALUE.unpack_from(octets, _HEAD.size)[0]
                with contextlib.suppress(KeyError, OSError):  # it has ended; no such signal
                    signal.pidfd_send_signal(self._by_token[token], number)
            else:  # a requester that talks nonsense is seized: it gets nothing more
                return False
        finally:
            for each in descriptors:
                os.close(each)
        return True

    def _begin(self, token: int, rest: bytes, descriptors: list[int]) -> None:
        try:
            if token in self._by_token:
                raise StartRefused("that token is in use")
            pid = self._start(rest, descriptors)
            self.adopt(token, pid)
        except (StartRefused, OSError) as error:
            self._report(b"E", token, str(error).encode()[:1000])
            return
        self._report(b"P", token, _VALUE.pack(pid))

    def _reap(self, pidfd: int, *, report: bool = True) -> None:
        token, pid = self._by_pidfd.pop(pidfd)
        self._by_token.pop(token, None)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        if report:
            self._report(b"X", token, _VALUE.pack(status))

    def _report(self, kind: bytes, token: int, rest: bytes) -> None:
        try:
            self._requests.send(_HEAD.pack(kind, token) + rest, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # It reads nothing: hung, or seized.  We must not hang with it; `serve` ends.
            self._requests.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the requester is gone: `serve` will see it


def send_request(requests: socket.socket, octets: bytes, descriptors: list[int]) -> None:
    """Send one request with its descriptors, which stay open here."""
    rights = array.array("i", descriptors)
    requests.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else [])
