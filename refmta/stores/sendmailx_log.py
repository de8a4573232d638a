"""The records of sendmail X's incoming backup database: a log, to which the queue manager appends.

A segment is a file of records; a record is a type, a length and a checksum over both and the
payload.  The first record that is torn ends its segment: what follows was never synced.

    S  snapshot: the entries that are alive now    first in a segment; voids all segments before it
    E  an envelope (`wire.envelope`: V, T, O, S, R)
    M  a mark: queue id, then the mark
    D  queue id: it rests, and deferred/ID has taken over
    F  queue id: every recipient is done, wherever the message lies

Pure: octets in, values out.  What is a mistake of ours raises ValueError; what the disk did to the
octets never raises anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

import msgspec

from refmta.protocol.delivery import Mark
from refmta.wire.envelope import (
    QUEUE_ID_OCTETS,
    ChunkError,
    Envelope,
    decode_envelope,
    encode_envelope,
    is_queue_id,
)

#: Largest record but a snapshot, in octets: an envelope of 1,000 recipients stays below it.
RECORD_OCTETS: Final = 1 << 20
#: Largest snapshot, in octets.
SNAPSHOT_OCTETS: Final = 256 << 20

_HEADER = struct.Struct("!cII")  # type, length, checksum
_COUNT = struct.Struct("!I")
_TYPES: Final = b"SEMDF"

encode_mark = msgspec.msgpack.Encoder().encode
decode_mark = msgspec.msgpack.Decoder(Mark).decode


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as the log knows it."""

    envelope: Envelope
    marks: tuple[Mark, ...] = ()


@dataclass(slots=True)
class Segment:
    """What a segment says.  started: it begins with a whole snapshot.  end: of the last whole
    record, in octets; torn: something lies behind that.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)
    started: bool = False
    end: int = 0
    torn: bool = False


def record(kind: bytes, payload: bytes) -> bytes:
    """One record.  Raises ValueError if it is too long."""
    if len(payload) > (SNAPSHOT_OCTETS if kind == b"S" else RECORD_OCTETS):
        raise ValueError("a record of the log is too long")
    return _HEADER.pack(kind, len(payload), _checksum(kind, payload)) + payload


def envelope_record(envelope: Envelope) -> bytes:
    """E.  Raises ValueError for an envelope out of bounds."""
    return record(b"E", encode_envelope(envelope))


def logged_mark(queue_id: str, mark: Mark) -> bytes:
    """M."""
    return record(b"M", queue_id.encode("ascii") + encode_mark(mark))


def rested_record(queue_id: str) -> bytes:
    """D."""
    return record(b"D", queue_id.encode("ascii"))


def freed_record(queue_id: str) -> bytes:
    """F."""
    return record(b"F", queue_id.encode("ascii"))


def snapshot_record(entries: Mapping[str, Entry]) -> bytes:
    """S: the records that make these entries, as one: it is there, or it is not."""
    return record(b"S", b"".join([_records(entry) for entry in entries.values()]))


def _records(entry: Entry) -> bytes:
    queue_id = entry.envelope.queue_id
    marks = [logged_mark(queue_id, mark) for mark in entry.marks]
    return b"".join([envelope_record(entry.envelope), *marks])


def read_segment(octets: bytes) -> Segment:
    """What a segment says, up to the first record that is torn or out of place."""
    segment = Segment()
    for kind, payload, end in _split(octets):
        if (kind == b"S") is segment.started or not _apply(segment, kind, payload):
            break
        segment.end = end
    segment.torn = segment.end < len(octets)
    return segment


def _apply(segment: Segment, kind: bytes, payload: bytes) -> bool:
    """Whether it meant something."""
    if kind == b"S":
        segment.started = True
        inside = [(inner, body) for inner, body, _ in _split(payload)]
        return all(inner in b"EM" and _apply(segment, inner, body) for inner, body in inside)
    try:
        if kind == b"E":
            envelope = decode_envelope(payload)
            segment.entries[envelope.queue_id] = Entry(envelope)
            return True
        queue_id = payload[:QUEUE_ID_OCTETS].decode("ascii")
        if not is_queue_id(queue_id):
            return False
        if kind == b"M":
            entry = segment.entries.get(queue_id)
            mark = decode_mark(payload[QUEUE_ID_OCTETS:])
            if entry is not None:
                segment.entries[queue_id] = Entry(entry.envelope, (*entry.marks, mark))
            return True
    except (ChunkError, ValueError, msgspec.MsgspecError):
        return False
    segment.entries.pop(queue_id, None)
    if kind == b"F":
        segment.freed.add(queue_id)
    return True


def _split(octets: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Type, payload and end of each record that is whole; the first that is not ends it."""
    at = 0
    while len(octets) - at >= _HEADER.size:
        kind, length, checksum = _HEADER.unpack_from(octets, at)
        end = at + _HEADER.size + length
        payload = octets[at + _HEADER.size : end]
        if kind not in _TYPES or end > len(octets) or _checksum(kind, payload) != checksum:
            return
        yield kind, payload, end
        at = end


def _checksum(kind: bytes, payload: bytes) -> int:
    return crc32(payload, crc32(kind + _COUNT.pack(len(payload))))


def living(segments: Iterable[tuple[str, Segment]]) -> tuple[str, Segment] | None:
    """Of segments by name, in order: the last one that was started; those before it are void, and
    those behind it were never used.
    """
    started = [(name, segment) for name, segment in segments if segment.started]
    return started[-1] if started else None
