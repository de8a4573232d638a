"""A message as its agents read it: from one open descriptor, never from the queue.

Two forms, told apart by `head` of what qmgr sends along (`wire.messages`: Deliver, Relay, Report):

    head empty      the file is a chunk, which certifies itself: its digest is checked to the last
                    octet before a single one of them is used
    head given      the file holds the content alone, and `head` is the envelope (`wire.envelope`:
                    the records V, T, O, S, R); nothing certifies the content, and a file that was
                    cut short is a shorter message (what the stores of sendmail, qmail and
                    sendmail X leave to their syncs)

Rules a reader may rely on
- An envelope is refused unless its queue id is the one that was asked for.  That `head` has all of
  its recipients is the word of who sent it: the agent is told whom to serve beside.
- A letter tells where its content lies, in pieces of at most 256 KiB; it keeps none.  `read` is for
  small messages and gives the content, too; `find` is for any, and lets others run between pieces.
- The size of raw content is taken once.  What is appended later belongs to no letter; what is
  missing later is an error, never a shorter piece.

Whoever hands us a descriptor is not believed: it may be of a pipe, a socket or a directory.  All
reads say from where, so a pipe or a socket fails at once (ESPIPE), and waits for nobody.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from refmta.patterns.unique_atomic_chunks import Disk
from refmta.wire.envelope import (
    MAX_BLOCK,
    Chunk,
    ChunkError,
    Envelope,
    Extent,
    Reader,
    decode_envelope,
)

#: Messages whose file has up to this size may be read at once, in octets.
SMALL_OCTETS = 1 << 20
#: Read at a time of others, in octets.
PIECE_OCTETS = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message that was found whole.  extents: where its content lies in the file, in order; none
    is empty or longer than MAX_BLOCK.
    """

    envelope: Envelope
    extents: tuple[Extent, ...]

    @property
    def octets(self) -> int:
        """The content's size."""
        return sum([each.length for each in self.extents])


def is_small(disk: Disk, descriptor: int) -> bool:
    """Whether it may be read at once.  Raises OSError."""
    return disk.size(descriptor) <= SMALL_OCTETS


def read(disk: Disk, descriptor: int, queue_id: str, head: bytes = b"") -> tuple[Letter, bytes]:
    """A small message at once: the letter, and its content.  Raises ChunkError, OSError.

    A file that has outgrown `SMALL_OCTETS` since it was measured is read to that size: a chunk
    shows that by itself, and of raw content it is what there was.
    """
    octets = disk.read(descriptor, min(disk.size(descriptor), SMALL_OCTETS), 0)
    if head:
        return _raw(head, queue_id, len(octets)), octets
    reader = Reader()
    if reader.feed(octets) is None:
        raise _cut_short()
    letter = _certified(reader.chunk(), queue_id)
    return letter, b"".join([octets[at.offset : at.offset + at.length] for at in letter.extents])


async def find(disk: Disk, descriptor: int, queue_id: str, head: bytes = b"") -> Letter:
    """A message of any size; `pieces` gives its content.  Raises ChunkError, OSError."""
    if head:
        letter = _raw(head, queue_id, disk.size(descriptor))
        disk.read(descriptor, 1, 0)  # whatever has a size and can't be read says so here
        return letter
    reader, offset = Reader(), 0
    while octets := disk.read(descriptor, PIECE_OCTETS, offset):
        offset += len(octets)
        if reader.feed(octets) is not None:
            return _certified(reader.chunk(), queue_id)
        await trio.lowlevel.checkpoint()
    raise _cut_short()


def pieces(disk: Disk, descriptor: int, letter: Letter) -> Iterator[bytes]:
    """The content, an extent at a time.  Raises OSError, also where something is missing now."""
    for extent in letter.extents:
        octets = disk.read(descriptor, extent.length, extent.offset)
        if len(octets) != extent.length:
            raise OSError(errno.EIO, "the message was cut short while it was read")
        yield octets


def beginning(disk: Disk, descriptor: int, letter: Letter, size: int) -> Iterator[bytes]:
    """The content's first octets, `size` of them if there are so many.  Raises OSError."""
    for extent in letter.extents:
        if size <= 0:
            return
        octets = disk.read(descriptor, min(extent.length, size), extent.offset)
        size -= len(octets)
        yield octets


def _certified(chunk: Chunk, queue_id: str) -> Letter:
    _check(chunk.envelope, queue_id)
    extents = tuple([each for each in chunk.content if each.length])
    return Letter(envelope=chunk.envelope, extents=extents)


def _raw(head: bytes, queue_id: str, octets: int) -> Letter:
    envelope = decode_envelope(head)
    _check(envelope, queue_id)
    extents = tuple([Extent(at, min(MAX_BLOCK, octets - at)) for at in range(0, octets, MAX_BLOCK)])
    return Letter(envelope=envelope, extents=extents)


def _check(envelope: Envelope, queue_id: str) -> None:
    if envelope.queue_id != queue_id:
        raise ChunkError("the descriptor is of another message")


def _cut_short() -> ChunkError:
    return ChunkError("no end record: the chunk was cut short")
