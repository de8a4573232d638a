"""A message as it is sent: read (`stores.letters`), found whole, and dot-stuffed.

Rules a reader may rely on
- What certifies itself is verified to its last octet before a single octet of it is sent.
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

from refmta.stores import letters
from refmta.stores.disk import Disk
from refmta.stores.letters import Letter
from refmta.wire import dotstuff, header

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
class Outgoing:
    """A message that is whole, and may be sent.

    octets: of the content as it is sent, before dot-stuffing.  whole: a small one, as sent, with
    its end; else it is read again, by `pieces`.
    """

    reverse_path: str
    octets: int
    eight_bit: bool
    whole: bytes = b""
    letter: Letter
    disk: Disk
    descriptor: int

    def pieces(self) -> Iterator[bytes]:
        """What to write after the 354, in order; the last piece holds the end of data.

        Raises OSError.
        """
        if self.whole:
            for start in range(0, len(self.whole), BLOCK_OCTETS):
                yield self.whole[start : start + BLOCK_OCTETS]
            return
        last = b"\n"
        for octets in letters.pieces(self.disk, self.descriptor, self.letter):
            # No LF stands without its CR, so LF and a dot is a dot at the start of a line.
            dot = b"." if last == b"\n" and octets[:1] == b"." else b""
            yield dot + octets.replace(b"\n.", b"\n..")
            last = octets[-1:]
        yield b".\r\n" if last == b"\n" else b"\r\n.\r\n"


async def read(disk: Disk, descriptor: int, queue_id: str, head: bytes = b"") -> Outgoing:
    """The message that a descriptor is open on.  Raises ChunkError, OSError, Unsendable."""
    if letters.is_small(disk, descriptor):
        return _small(disk, descriptor, queue_id, head)
    return await _large(disk, descriptor, queue_id, head)


def _small(disk: Disk, descriptor: int, queue_id: str, head: bytes = b"") -> Outgoing:
    letter, content = letters.read(disk, descriptor, queue_id, head)
    _check_hops(header.split_message(content)[0])
    try:
        whole = dotstuff.encode(content)
    except ValueError:
        raise _bare() from None
    return Outgoing(
        reverse_path=letter.envelope.reverse_path,
        octets=len(content) + (0 if content.endswith(b"\r\n") or not content else 2),
        eight_bit=not content.isascii(),
        whole=whole,
        letter=letter,
        disk=disk,
        descriptor=descriptor,
    )


async def _large(disk: Disk, descriptor: int, queue_id: str, head: bytes = b"") -> Outgoing:
    letter = await letters.find(disk, descriptor, queue_id, head)
    eight_bit, last, first, final = False, b"", b"", b""
    for octets in letters.pieces(disk, descriptor, letter):
        eight_bit = eight_bit or not octets.isascii()
        if len(first) < letters.SMALL_OCTETS:
            first += octets
        # A CR at the end may be half of a CRLF: it is looked at with the next piece.
        joined = last + octets
        last = joined[-1:] if joined.endswith(b"\r") else b""
        if _has_bare(joined.removesuffix(b"\r")):
            raise _bare()
        final = octets[-1:]
        await trio.lowlevel.checkpoint()
    if last:
        raise _bare()
    _check_hops(header.split_message(first)[0])
    return Outgoing(
        reverse_path=letter.envelope.reverse_path,
        # The CRLF that is added where the last line has none.
        octets=letter.octets + (0 if final in (b"\n", b"") else 2),
        eight_bit=eight_bit,
        letter=letter,
        disk=disk,
        descriptor=descriptor,
    )


def _check_hops(head: bytes) -> None:
    hops = header.count_received(head)
    if hops > HOPS:
        raise Unsendable("5.4.6", f"mail loop: {hops} Received fields")


def _bare() -> Unsendable:
    return Unsendable("5.6.0", "bare CR or LF in the content; RFC 5321 forbids to send it")
