"""The fork server's protocol: what it starts, reports and refuses, and what it leaves behind."""

from __future__ import annotations

import array
import contextlib
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from refmta.processes.children import (
    MAX_DESCRIPTORS,
    Children,
    StartRefused,
    kill_request,
    parse_report,
    send_request,
    start_request,
)

PATIENCE_S = 60


def start(rest: bytes, descriptors: list[int]) -> int:
    """Children that wait for their descriptor's end, exit, or are refused."""
    if rest == b"refuse":
        raise StartRefused("not today")
    if rest == b"fail":
        raise OSError(11, "no more processes")
    if rest == b"count":  # what the server has open, besides what came with this request
        opened = len(os.listdir("/proc/self/fd")) - 1
        raise StartRefused(f"{opened - len(descriptors)} and {len(descriptors)}")
    pid = os.fork()
    if pid == 0:
        if descriptors:
            os.read(descriptors[0], 1)
        os._exit(rest[0])
    if rest == b"full":  # no descriptor is left to watch it by
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors[0], limits[1]))
        os.write(descriptors[1], f"{pid}".encode())
    return pid


class Requester:
    """A fork server in a process of its own, and our end of it."""

    def __init__(self) -> None:
        self.end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.settimeout(PATIENCE_S)
        self.server = os.fork()
        if self.server == 0:
            status = 1
            try:
                self.end.close()
                children = Children(theirs, start)
                children.serve()
                children.end_all()
                status = 0
            finally:
                os._exit(status)
        theirs.close()

    def start(self, token: int, rest: bytes, *descriptors: int) -> tuple[str, int, int, str]:
        send_request(self.end, start_request(token, rest), list(descriptors))
        return self.report()

    def kill(self, token: int, number: int) -> None:
        send_request(self.end, kill_request(token, number), [])

    def report(self) -> tuple[str, int, int, str]:
        return parse_report(self.end.recv(4096))

    def close(self) -> int:
        self.end.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.server, 0)[1])


@pytest.fixture
def requester() -> Iterator[Requester]:
    requester = Requester()
    yield requester
    if requester.end.fileno() >= 0:
        assert requester.close() == 0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A child that holds the reading end lives until it is killed or the writing end closes."""
    read, write = os.pipe()
    yield read, write
    for each in (read, write):
        with contextlib.suppress(OSError):
            os.close(each)


def test_a_child_is_reported_when_it_starts_and_when_it_ends(requester):
    kind, token, pid, _ = requester.start(7, b"\x05")
    assert (kind, token) == ("P", 7) and pid > 0
    kind, token, status, _ = requester.report()
    assert (kind, token, os.waitstatus_to_exitcode(status)) == ("X", 7, 5)
    assert not os.path.exists(f"/proc/{pid}")  # reaped before it was reported


@pytest.mark.parametrize(
    ("rest", "text"), [(b"refuse", "not today"), (b"fail", "[Errno 11] no more processes")]
)
def test_what_cannot_be_started_is_reported_with_the_reason(requester, rest, text):
    assert requester.start(1, rest) == ("E", 1, 0, text)
    assert requester.start(1, b"\0")[0] == "P"  # the token is free


def test_a_child_that_nobody_could_end_has_ended(requester, pipe):
    told, tell = os.pipe()
    kind, token, _, text = requester.start(1, b"full", pipe[0], tell)
    assert (kind, token) == ("E", 1) and "[Errno 24]" in text
    pid = int(os.read(told, 16))
    os.close(told)
    os.close(tell)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert requester.start(1, b"refuse") == ("E", 1, 0, "not today")


def test_a_token_in_use_is_refused_and_its_child_lives_on(requester, pipe):
    kind, _, pid, _ = requester.start(1, b"\0", pipe[0])
    assert kind == "P"
    assert requester.start(1, b"\0") == ("E", 1, 0, "that token is in use")
    os.kill(pid, 0)
    requester.kill(1, signal.SIGKILL)
    assert requester.report() == ("X", 1, signal.SIGKILL, "")
    assert requester.start(1, b"\0")[0] == "P"


def test_a_signal_goes_to_the_child_of_that_token_and_to_nobody_without(requester, pipe):
    requester.start(1, b"\0", pipe[0])
    requester.kill(2, signal.SIGKILL)
    requester.kill(1, signal.SIGTERM)
    assert requester.report() == ("X", 1, signal.SIGTERM, "")
    requester.kill(1, signal.SIGTERM)
    assert requester.start(3, b"\0")[0] == "P"


@pytest.mark.parametrize(
    "octets",
    [
        kill_request(1, 12345),
        kill_request(1, -1),
        kill_request(7, signal.SIGKILL),
        start_request(2**64 - 1, b"refuse"),
    ],
    ids=repr,
)
def test_a_request_that_can_t_be_met_harms_nobody(requester, pipe, octets):
    requester.start(1, b"\0", pipe[0])
    requester.end.send(octets)
    if octets[:1] == b"S":
        assert requester.report()[0] == "E"
    requester.kill(1, signal.SIGKILL)
    assert requester.report() == ("X", 1, signal.SIGKILL, "")


@pytest.mark.parametrize(
    "octets",
    [
        b"K" + struct.pack("!Q", 1),
        b"K" + struct.pack("!Qh", 1, 9),
        b"K" + struct.pack("!Qii", 1, 9, 9),
        b"Z" + struct.pack("!Q", 1) + b"what",
        b"K",
    ],
    ids=repr,
)
def test_a_requester_that_talks_nonsense_gets_nothing_more(requester, pipe, octets):
    assert requester.start(1, b"\0", pipe[0])[0] == "P"
    requester.end.send(octets)
    assert requester.end.recv(4096) == b""


def test_the_server_keeps_no_descriptor_that_came_with_a_request(requester):
    def count(*descriptors: int) -> str:
        return requester.start(1, b"count", *descriptors)[3]

    read, write = os.pipe()
    before = count()
    for number in (1, 2, MAX_DESCRIPTORS):
        assert count(*([read] * number)) == before.replace(" and 0", f" and {number}")
    # More than it takes: what the kernel lets through is closed, too.
    many = array.array("i", [read] * 40)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)]
    requester.end.sendmsg([start_request(1, b"count")], rights)
    assert requester.report()[0] == "E"
    assert count() == before
    for _ in range(5):
        requester.start(2, b"\0", read, write)
        os.write(write, b"x")
        assert requester.report()[0] == "X"
    assert count() == before
    os.close(read)
    os.close(write)


def test_when_the_requester_is_gone_all_children_are_ended(requester, pipe):
    read, write = pipe
    pids = [requester.start(token, b"\0", read)[2] for token in range(1, 6)]
    os.close(read)
    assert requester.close() == 0
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")


def test_reports_that_nobody_reads_do_not_keep_the_server(requester):
    for token in range(50):
        send_request(requester.end, start_request(token, b"\0"), [])
    assert requester.close() == 0


@pytest.mark.parametrize(
    "octets",
    [b"", b"P", b"P" + bytes(8), b"X" + bytes(8 + 3), b"P" + bytes(8 + 5), b"Z" + bytes(12)],
)
def test_a_report_that_is_none_is_a_value_error(octets):
    with pytest.raises(ValueError):
        parse_report(octets)


def test_a_reason_in_any_octets_is_text():
    assert parse_report(b"E" + bytes(8) + b"\xff!") == ("E", 0, 0, "\ufffd!")
