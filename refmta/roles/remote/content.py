"""A message as it is sent: read from its chunk, found whole, and dot-stuffed.

Rules a reader may rely on
- A chunk is verified to its last octet before a single octet of it is sent.
- A small message is kept in memory, as one piece with its end; a large one is read twice, in
  pieces of at most 256 KiB.
- What can't be sent by SMTP (a bare CR or LF, RFC 5321 2.3.8), or has gone through too many hands
  (RFC 5321 6.3), raises `Unsendable`: a verdict on the message, not on a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from refmta.stores.disk import Disk
from refmta.wire import dotstuff, header
from refmta.wire.envelope import Chunk, ChunkError, Extent, Reader

#: Messages up to this size are kept in memory while they are sent, in octets.
SMALL_OCTETS = 1 << 20
PIECE_OCTETS = 256 * 1024
#: The last piece is sent when all others have gone, so it had better be short.
BLOCK_OCTETS = 64 * 1024
#: Received fields beyond this are a loop (RFC 5321 6.3: "at least 100"; Postfix hopcount_limit 50).
HOPS = 100

_has_bare = re.compile(rb"\r(?!\n)|(?<!\r)\n").search


class Unsendable(Exception):
    """The message can't be sent to anybody.  enhanced, text: for the sender."""

    def __init__(self, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.enhanced = enhanced
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message that is whole.

    octets: of the content as it is sent, before dot-stuffing.  whole: a small one, as sent, with
    its end; else it is read again, by `pieces`.
    """

    reverse_path: str
    octets: int
    eight_bit: bool
    whole: bytes = b""
    disk: Disk
    descriptor: int
    extents: tuple[Extent, ...] = ()

    def pieces(self) -> Iterator[bytes]:
        """What to write after the 354, in order; the last piece holds the end of data.

        Raises OSError.
        """
        if self.whole:
            for start in range(0, len(self.whole), BLOCK_OCTETS):
                yield self.whole[start : start + BLOCK_OCTETS]
            return
        last = b"\n"
        for extent in self.extents:
            octets = self.disk.read(self.descriptor, extent.length, extent.offset)
            if len(octets) != extent.length:
                raise OSError(5, "the chunk was cut short while it was sent")
            # No LF stands without its CR, so LF and a dot is a dot at the start of a line.
            dot = b"." if last == b"\n" and octets[:1] == b"." else b""
            yield dot + octets.replace(b"\n.", b"\n..")
            last = octets[-1:]
        yield b".\r\n" if last == b"\n" else b"\r\n.\r\n"


async def read(disk: Disk, descriptor: int, queue_id: str) -> Letter:
    """The message of a chunk.  Raises ChunkError, OSError, Unsendable."""
    size = disk.size(descriptor)
    if size <= SMALL_OCTETS:
        return _small(disk, descriptor, queue_id, size)
    return await _large(disk, descriptor, queue_id)


def _small(disk: Disk, descriptor: int, queue_id: str, size: int) -> Letter:
    octets = disk.read(descriptor, size, 0)  # a buffer of a megabyte for each would be mapped anew
    reader = Reader()
    if reader.feed(octets) is None:
        raise ChunkError("no end record: the chunk was cut short")
    chunk = reader.chunk()
    _check(chunk, queue_id)
    content = b"".join([octets[at.offset : at.offset + at.length] for at in chunk.content])
    _check_hops(header.split_message(content)[0])
    try:
        whole = dotstuff.encode(content)
    except ValueError:
        raise _bare() from None
    return Letter(
        reverse_path=chunk.envelope.reverse_path,
        octets=len(content) + (0 if content.endswith(b"\r\n") or not content else 2),
        eight_bit=not content.isascii(),
        whole=whole,
        disk=disk,
        descriptor=descriptor,
    )


async def _large(disk: Disk, descriptor: int, queue_id: str) -> Letter:
    chunk = await _verify(disk, descriptor)
    _check(chunk, queue_id)
    eight_bit, last, head = False, b"", b""
    extents = tuple(each for each in chunk.content if each.length)
    for extent in extents:
        octets = disk.read(descriptor, extent.length, extent.offset)
        eight_bit = eight_bit or not octets.isascii()
        if len(head) < SMALL_OCTETS:
            head += octets
        # A CR at the end may be half of a CRLF: it is looked at with the next piece.
        joined = last + octets
        last = joined[-1:] if joined.endswith(b"\r") else b""
        if _has_bare(joined.removesuffix(b"\r")):
            raise _bare()
        await trio.lowlevel.checkpoint()
    if last:
        raise _bare()
    _check_hops(header.split_message(head)[0])
    return Letter(
        reverse_path=chunk.envelope.reverse_path,
        octets=chunk.content_octets + _missing_end(disk, descriptor, extents),
        eight_bit=eight_bit,
        disk=disk,
        descriptor=descriptor,
        extents=extents,
    )


def _missing_end(disk: Disk, descriptor: int, extents: tuple[Extent, ...]) -> int:
    """Two octets for the CRLF that is added where the last line has none."""
    if not extents:
        return 0
    final = extents[-1]
    return 0 if disk.read(descriptor, 1, final.offset + final.length - 1) == b"\n" else 2


async def _verify(disk: Disk, descriptor: int) -> Chunk:
    reader, offset = Reader(), 0
    while octets := disk.read(descriptor, PIECE_OCTETS, offset):
        offset += len(octets)
        if reader.feed(octets) is not None:
            return reader.chunk()
        await trio.lowlevel.checkpoint()
    raise ChunkError("no end record: the chunk was cut short")


def _check(chunk: Chunk, queue_id: str) -> None:
    if chunk.envelope.queue_id != queue_id:
        raise ChunkError("the descriptor is of another message")


def _check_hops(head: bytes) -> None:
    hops = header.count_received(head)
    if hops > HOPS:
        raise Unsendable("5.4.6", f"mail loop: {hops} Received fields")


def _bare() -> Unsendable:
    return Unsendable("5.6.0", "bare CR or LF in the content; RFC 5321 forbids to send it")
