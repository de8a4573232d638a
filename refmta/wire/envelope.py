"""The queue record: a message on disk, which certifies itself.

A chunk is a sequence of records, each a type octet, a length of four octets, and a payload:

    V  version (1 octet) and queue id (16 octets)      once, first
    T  time of arrival, seconds since 1970, 8 octets   once
    O  origin: client, HELO name, protocol             once
    S  reverse-path, empty for the null one            once
    R  recipient                                       one to 1,000
    B  content, at most 256 KiB a record               any number
    E  octets before this record (8), digest (16)      once: the end record
    M  a mark, with a checksum of its own              any number, appended later

A chunk is *whole* when its records come in this order up to E, E's length is its own offset, and
E's digest (BLAKE2b, 128 bits) is that of every octet before it.  Everything before E never
changes once written.  Marks record what became of recipients; the first mark that is torn or
damaged ends the list, since a lost mark costs at most a second delivery (design: the window
between delivery and mark), while a believed false mark would lose mail.

A queue id is 80 bits, 48 of time in milliseconds and 32 of chance, in Crockford's base 32: it
sorts by arrival, and it is never used again.  It stands inside the chunk, so that a chunk under
another's name is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from zlib import crc32

VERSION: Final = 1
QUEUE_ID_OCTETS: Final = 16
DIGEST_OCTETS: Final = 16
MAX_RECIPIENTS: Final = 1000
MAX_BLOCK: Final = 256 * 1024
#: Longest payload by record type, in octets.
CAPS: Final = {
    b"V": 1 + QUEUE_ID_OCTETS, b"T": 8, b"O": 1024, b"S": 256, b"R": 256,
    b"B": MAX_BLOCK, b"E": 8 + DIGEST_OCTETS, b"M": 256 * 1024,
}  # fmt: skip
#: Which record types may follow which: the grammar of a whole chunk.
FOLLOWS: Final = {
    b"": b"V", b"V": b"T", b"T": b"O", b"O": b"S", b"S": b"R", b"R": b"RBE", b"B": b"BE", b"E": b"",
}  # fmt: skip

_HEADER = struct.Struct("!cI")
HEADER_OCTETS: Final = _HEADER.size
_LENGTH = struct.Struct("!Q")
_CHECKSUM = struct.Struct("!I")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
END_OCTETS: Final = HEADER_OCTETS + CAPS[b"E"]


class ChunkError(ValueError):
    """The octets are not a whole chunk; the text says where and why, without quoting them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What is known of a message besides its content.  Addresses in canonical form."""

    queue_id: str
    arrival_s: int
    reverse_path: str
    recipients: tuple[str, ...]
    client: str
    helo: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Extent:
    """Where content lies in a chunk: offset and length, in octets."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk as read: envelope, extents of the content, end of the certified part, marks."""

    envelope: Envelope
    content: tuple[Extent, ...]
    certified: int
    marks: tuple[bytes, ...] = ()

    @property
    def content_octets(self) -> int:
        """The content's size."""
        return sum(extent.length for extent in self.content)


def queue_id(milliseconds: int, chance: int) -> str:
    """The queue id for an arrival time (ms since 1970, 48 bits) and 32 random bits."""
    if not (0 <= milliseconds < 1 << 48 and 0 <= chance < 1 << 32):
        raise ValueError("a queue id has 48 bits of time and 32 of chance")
    number = milliseconds << 32 | chance
    return "".join([_ALPHABET[number >> shift & 31] for shift in range(75, -1, -5)])


def is_queue_id(text: str) -> bool:
    """Whether a text, a file's name perhaps, has the form of a queue id."""
    return len(text) == QUEUE_ID_OCTETS and all(letter in _ALPHABET for letter in text)


def made_s(queue_id: str) -> float:
    """When a queue id was made, in seconds since 1970: its time of arrival."""
    number = 0
    for letter in queue_id:
        number = number << 5 | _ALPHABET.index(letter)
    return (number >> 32) / 1000


def record(kind: bytes, payload: bytes) -> bytes:
    """One record.  Raises ValueError for an unknown kind or a payload over its cap."""
    check_record(kind, len(payload))
    return _HEADER.pack(kind, len(payload)) + payload


def record_header(octets: bytes) -> tuple[bytes, int]:
    """(type, length) from five octets.  Raises ChunkError."""
    if len(octets) != HEADER_OCTETS:
        raise ChunkError("record header cut short")
    kind, length = _HEADER.unpack(octets)
    check_record(kind, length)
    return kind, length


def check_record(kind: bytes, length: int) -> None:
    """Raise ChunkError unless a record of this type may have this length."""
    cap = CAPS.get(kind)
    if cap is None:
        raise ChunkError("unknown record type")
    if not 0 <= length <= cap:
        raise ChunkError("record too long for its type")


def encode_envelope(envelope: Envelope) -> bytes:
    """The records V, T, O, S, R.  Raises ValueError if the envelope is out of bounds."""
    if not is_queue_id(envelope.queue_id):
        raise ValueError("not a queue id")
    if not 1 <= len(envelope.recipients) <= MAX_RECIPIENTS:
        raise ValueError("an envelope has 1 to 1,000 recipients")
    origin = "\0".join((envelope.client, envelope.helo, envelope.protocol))
    parts = [
        record(b"V", bytes((VERSION,)) + envelope.queue_id.encode("ascii")),
        record(b"T", _LENGTH.pack(envelope.arrival_s)),
        record(b"O", origin.encode("ascii")),
        record(b"S", envelope.reverse_path.encode("ascii")),
    ]
    parts += [record(b"R", recipient.encode("ascii")) for recipient in envelope.recipients]
    return b"".join(parts)


def decode_envelope(octets: bytes) -> Envelope:
    """The envelope of the records V, T, O, S, R, and nothing else.  Raises ChunkError."""
    reader = Reader(verify=False)
    if reader.feed(octets) is not None:
        raise ChunkError("an envelope has no end record")
    return reader.envelope()


class Seal:
    """Digests a chunk while it is written, and makes its end record."""

    __slots__ = ("_digest", "_octets")

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=DIGEST_OCTETS)
        self._octets = 0

    def update(self, octets: bytes) -> None:
        """Take note of octets that were written."""
        self._digest.update(octets)
        self._octets += len(octets)

    def end_record(self) -> bytes:
        """The end record for what was written so far."""
        return record(b"E", _LENGTH.pack(self._octets) + self._digest.digest())


def encode_chunk(envelope: Envelope, blocks: Iterable[bytes]) -> bytes:
    """A whole chunk at once: what `Seal` and the writer make piece by piece."""
    body = encode_envelope(envelope) + b"".join(record(b"B", block) for block in blocks)
    seal = Seal()
    seal.update(body)
    return body + seal.end_record()


def mark_record(payload: bytes) -> bytes:
    """A mark: its payload and a checksum over type, length and payload."""
    octets = record(b"M", payload + bytes(_CHECKSUM.size))
    return octets[: -_CHECKSUM.size] + _CHECKSUM.pack(crc32(octets[: -_CHECKSUM.size]))


class Reader:
    """Reads a chunk given in pieces of any size; keeps no content, only where it lies.

    `verify=False` leaves the digest unchecked (the reader of the content will check it); the
    order of records and the end record's length are always checked.
    """

    __slots__ = (
        "_buffer", "_content", "_digest", "_fields", "_offset", "_previous", "_recipients",
        "_verify",
    )  # fmt: skip

    def __init__(self, *, verify: bool = True) -> None:
        self._verify = verify
        self._digest = blake2b(digest_size=DIGEST_OCTETS)
        self._buffer = b""
        self._offset = 0  # of the buffer's first octet in the chunk
        self._previous = b""
        self._fields: dict[bytes, bytes] = {}
        self._recipients: list[bytes] = []
        self._content: list[Extent] = []

    def feed(self, octets: bytes) -> bytes | None:
        """Take the next piece.  Returns what lies behind the end record once that was read and
        found right, None before.  Raises ChunkError.
        """
        buffer = self._buffer + octets if self._buffer else octets
        at = 0
        while len(buffer) - at >= HEADER_OCTETS:
            kind, length = record_header(buffer[at : at + HEADER_OCTETS])
            if kind not in FOLLOWS[self._previous]:
                raise ChunkError(f"record out of order at octet {self._offset + at}")
            end = at + HEADER_OCTETS + length
            if end > len(buffer):
                break
            payload = buffer[at + HEADER_OCTETS : end]
            if kind == b"E":
                self._check_end(self._offset + at, payload)
                self._offset += end
                self._buffer = b""
                return buffer[end:]
            self._take(kind, payload, self._offset + at + HEADER_OCTETS)
            if self._verify:
                self._digest.update(buffer[at:end])
            self._previous = kind
            at = end
        self._offset += at
        self._buffer = buffer[at:]
        return None

    def _take(self, kind: bytes, payload: bytes, offset: int) -> None:
        if kind == b"R":
            if len(self._recipients) == MAX_RECIPIENTS:
                raise ChunkError("too many recipients")
            self._recipients.append(payload)
        elif kind == b"B":
            self._content.append(Extent(offset, len(payload)))
        else:
            self._fields[kind] = payload

    def _check_end(self, offset: int, payload: bytes) -> None:
        if len(payload) != CAPS[b"E"] or _LENGTH.unpack(payload[:8])[0] != offset:
            raise ChunkError("end record with another length than its own place")
        if self._verify and self._digest.digest() != payload[8:]:
            raise ChunkError("digest does not match: the content is damaged")

    def chunk(self, marks: bytes = b"") -> Chunk:
        """The chunk, after `feed` has returned; `marks` is what followed the end record."""
        return Chunk(
            envelope=self._envelope(),
            content=tuple(self._content),
            certified=self._offset,
            marks=tuple(split_marks(marks)),
        )

    def envelope(self) -> Envelope:
        """Of what was fed, if that was an envelope and nothing else.  Raises ChunkError."""
        if self._previous != b"R" or self._buffer:
            raise ChunkError("the envelope is cut short, or has content behind it")
        return self._envelope()

    def _envelope(self) -> Envelope:
        version, arrival = self._fields[b"V"], self._fields[b"T"]
        if len(version) != CAPS[b"V"] or version[0] != VERSION or len(arrival) != 8:
            raise ChunkError("unknown version of the queue record")
        try:
            client, helo, protocol = self._fields[b"O"].decode("ascii").split("\0")
            return Envelope(
                queue_id=version[1:].decode("ascii"),
                arrival_s=_LENGTH.unpack(arrival)[0],
                reverse_path=self._fields[b"S"].decode("ascii"),
                recipients=tuple(each.decode("ascii") for each in self._recipients),
                client=client,
                helo=helo,
                protocol=protocol,
            )
        except ValueError as error:
            raise ChunkError("envelope is not what was written") from error


def split_marks(octets: bytes) -> Iterator[bytes]:
    """The payloads of the marks that are whole; the first that is not ends the list."""
    at = 0
    while len(octets) - at >= HEADER_OCTETS:
        kind, length = _HEADER.unpack(octets[at : at + HEADER_OCTETS])
        end = at + HEADER_OCTETS + length
        if kind != b"M" or not _CHECKSUM.size <= length <= CAPS[b"M"] or end > len(octets):
            return
        body = end - _CHECKSUM.size
        if crc32(octets[at:body]) != _CHECKSUM.unpack(octets[body:end])[0]:
            return
        yield octets[at + HEADER_OCTETS : body]
        at = end


def decode_chunk(octets: bytes, *, verify: bool = True) -> Chunk:
    """A chunk that is in memory as a whole.  Raises ChunkError."""
    reader = Reader(verify=verify)
    rest = reader.feed(octets)
    if rest is None:
        raise ChunkError("no end record: the chunk was cut short")
    return reader.chunk(rest)
