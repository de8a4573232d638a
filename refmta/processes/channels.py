"""Carriers of channels: a local socket between processes, or a queue within one process.

Both carry the same messages in the same order, and both enforce the border (the in-process
carrier checks types only: there is no octet to parse).  A carrier writes once per `flush` and
reads all that is there per `receive`: singly, four hops make about 2,000 round trips a second;
in groups of twenty, more than ten times that.

Descriptors travel by SCM_RIGHTS.  They are attached to the first octet of the write that carries
their frame; the kernel never merges two writes that carry descriptors in one read, so that they
arrive with or before their frame.  A frame that announces more descriptors than came, or a peer
that sends many that no frame announces, ends the channel, with a line in the log; all are closed.

Two departures from trio's habit, both for speed: a `flush` that need not wait and a `receive`
that finds something do not yield.  `receive` yields after a large read, so that a body that
streams in does not keep the other channels of its process waiting.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections import deque

import trio

from refmta.journal import journal
from refmta.patterns.trust_partitioning import Border, ChannelBroken, Received, close_all
from refmta.wire.frame import (
    MAX_DESCRIPTORS,
    MESSAGE,
    OCTETS,
    Assembler,
    FrameError,
    check_header,
    encode_header,
)
from refmta.wire.messages import Message, encode_message

#: Octets per read: some tens of small messages; after a read that was full, a whole body frame.
READ_OCTETS = 8 * 1024
LARGE_READ_OCTETS = 256 * 1024 + 4096
#: A read of this size means that more is coming: let others run.
YIELD_OCTETS = 64 * 1024
#: Why a channel ends whose peer did nothing wrong.
END = "end of stream"
_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


class SocketChannel:
    """A channel over one end of a socketpair (AF_UNIX, stream), which it takes over."""

    __slots__ = (
        "_assembler", "_border", "_inbox", "_lock", "_outbox", "_read_octets", "_socket"
    )  # fmt: skip

    def __init__(self, end: socket.socket, border: Border) -> None:
        end.setblocking(False)
        self._socket = end
        self._border = border
        self._assembler = Assembler()
        self._read_octets = READ_OCTETS
        self._inbox: deque[int] = deque()
        #: Octets to write, and the descriptors that go with their first octet.
        self._outbox: deque[tuple[bytearray, list[int]]] = deque()
        self._lock = trio.Lock()

    def post(self, message: Message, *descriptors: int) -> None:
        payload = encode_message(message)
        octets = encode_header(MESSAGE, len(descriptors), len(payload)) + payload
        self._queue(octets, descriptors)

    def post_octets(self, octets: bytes) -> None:
        self._queue(encode_header(OCTETS, 0, len(octets)) + octets, ())

    def _queue(self, octets: bytes, descriptors: tuple[int, ...]) -> None:
        outbox = self._outbox
        if outbox:
            last, carried = outbox[-1]
            if not descriptors or len(carried) + len(descriptors) <= MAX_DESCRIPTORS:
                last += octets
                carried.extend(descriptors)
                return
        outbox.append((bytearray(octets), list(descriptors)))

    async def flush(self) -> None:
        try:
            if not self._lock.locked():
                while self._outbox and self._write_first():
                    pass
            while self._outbox:
                async with self._lock:
                    if self._outbox and not self._write_first():
                        await trio.lowlevel.wait_writable(self._socket)
        except (OSError, trio.ClosedResourceError) as error:
            self._discard_outbox()
            raise ChannelBroken("the peer is gone") from error

    def _write_first(self) -> bool:
        """Write what is first in line; False if the carrier is full."""
        octets, descriptors = self._outbox[0]
        try:
            if descriptors:
                rights = array.array("i", descriptors)
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                sent = self._socket.sendmsg([octets], ancillary)
                close_all(descriptors)
                descriptors.clear()
            else:
                sent = self._socket.send(octets)
        except BlockingIOError:
            return False
        if sent == len(octets):
            self._outbox.popleft()
        else:
            del octets[:sent]
        return True

    async def receive(self) -> list[Received]:
        while True:
            try:
                octets, ancillary, flags, _ = self._socket.recvmsg(
                    self._read_octets, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                try:
                    await trio.lowlevel.wait_readable(self._socket)
                except trio.ClosedResourceError:
                    raise ChannelBroken("closed") from None
                continue
            except OSError as error:
                self.close()
                raise ChannelBroken("the peer is gone") from error
            try:
                received = self._digest(octets, ancillary, flags)
            except FrameError as error:
                self._cut_off(str(error))
                raise ChannelBroken(str(error)) from error
            full = len(octets) >= READ_OCTETS
            self._read_octets = LARGE_READ_OCTETS if full else READ_OCTETS
            if len(octets) >= YIELD_OCTETS:
                await trio.lowlevel.checkpoint()
            if received:
                return received
            await self._idle()

    async def _idle(self) -> None:
        """What was read so far is not one whole message: what to do before more is waited for."""

    def _digest(
        self, octets: bytes, ancillary: list[tuple[int, int, bytes]], flags: int
    ) -> list[Received]:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(data) - len(data) % 4
                self._inbox.extend(array.array("i", data[:whole]))
        if flags & socket.MSG_CTRUNC or len(self._inbox) > 4 * MAX_DESCRIPTORS:
            raise FrameError("more descriptors than a frame may bring")
        return self._understand(octets) if octets else self._ended()

    def _ended(self) -> list[Received]:
        """The peer says no more."""
        raise FrameError("end of stream within a frame" if self._assembler.pending else END)

    def _understand(self, octets: bytes) -> list[Received]:
        received: list[Received] = []
        try:
            for frame in self._assembler.feed(octets):
                received.append(self._admit(frame.kind, frame.payload, frame.descriptors))
        except FrameError:
            for each in received:
                close_all(each.descriptors)
            raise
        return received

    def _admit(self, kind: int, payload: bytes, descriptors: int) -> Received:
        hears = self._border.hears
        if kind == OCTETS:
            if not hears.octets or descriptors:
                raise FrameError("octets are not allowed here")
            return Received(None, payload)
        message = hears.decode(payload)
        if descriptors != hears.brings(message) or len(self._inbox) < descriptors:
            raise FrameError("wrong number of descriptors")
        return Received(message, b"", tuple(self._inbox.popleft() for _ in range(descriptors)))

    def _cut_off(self, reason: str) -> None:
        """The end of the stream, or a peer that broke the rules: the log says so, as the roles see
        both as "the peer is away".
        """
        self.close()
        if reason != END:
            hears = [each.__name__ for each in self._border.hears.types]
            journal("channels", terminal=os.isatty(2)).warning(
                "peer cut off", reason=reason, hears=hears
            )

    def _discard_outbox(self) -> None:
        for _, descriptors in self._outbox:
            close_all(descriptors)
        self._outbox.clear()

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        with contextlib.suppress(RuntimeError):  # outside trio nobody waits on it
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        self._discard_outbox()
        close_all(self._inbox)
        self._inbox.clear()


class LocalChannel:
    """One end of a channel within a process: messages pass as they are."""

    __slots__ = ("_arrived", "_border", "_closed", "_held", "_inbox", "_peer")

    def __init__(self, border: Border) -> None:
        self._border = border
        self._peer: LocalChannel | None = None
        self._held: list[Received] = []
        self._inbox: list[Received] = []
        self._arrived = trio.Event()
        self._closed = False

    def join(self, other: LocalChannel) -> None:
        """Become the two ends of one channel."""
        self._peer, other._peer = other, self

    @property
    def pending(self) -> bool:
        """Whether something was said at this end that is not out, or is here and not heard."""
        return bool(self._held or self._inbox)

    def post(self, message: Message, *descriptors: int) -> None:
        says = self._border.says
        if type(message) not in says.types or says.brings(message) != len(descriptors):
            raise ValueError(f"not allowed on this channel: {type(message).__name__}")
        self._held.append(Received(message, b"", descriptors))

    def post_octets(self, octets: bytes) -> None:
        if not self._border.says.octets:
            raise ValueError("octets are not allowed on this channel")
        check_header(OCTETS, 0, len(octets))
        self._held.append(Received(None, octets))

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        peer = self._peer
        if peer is None or self._closed or peer._closed:
            self._discard(self._held)
            raise ChannelBroken("the peer is gone")
        peer._inbox += self._held
        self._held = []
        peer._arrived.set()

    async def receive(self) -> list[Received]:
        while not self._inbox:
            if self._closed or self._peer is None or self._peer._closed:
                raise ChannelBroken(END)
            self._arrived = trio.Event()
            await self._arrived.wait()
        await trio.lowlevel.checkpoint()
        received, self._inbox = self._inbox, []
        return received

    def close(self) -> None:
        self._closed = True
        self._discard(self._held)
        self._discard(self._inbox)
        self._arrived.set()
        if self._peer is not None:
            self._peer._arrived.set()

    def _discard(self, items: list[Received]) -> None:
        for each in items:
            close_all(each.descriptors)
        items.clear()


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, not inherited by anyone."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def socket_channels(border: Border) -> tuple[SocketChannel, SocketChannel]:
    """Both ends of a channel over a socketpair; the first has this border, the other its turn."""
    one, other = socket_pair()
    return SocketChannel(one, border), SocketChannel(other, border.turned())


def local_channels(border: Border) -> tuple[LocalChannel, LocalChannel]:
    """Both ends of a channel within this process."""
    one, other = LocalChannel(border), LocalChannel(border.turned())
    one.join(other)
    return one, other


def adopt(descriptor: int, border: Border) -> SocketChannel:
    """The channel on a descriptor that was handed to this process."""
    os.set_inheritable(descriptor, False)
    return SocketChannel(socket.socket(fileno=descriptor), border)
