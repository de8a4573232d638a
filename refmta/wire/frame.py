"""Frames between compartments: how octets on a channel become messages.

A frame is a header of six octets and a payload:

    kind         1 octet    MESSAGE (a typed message, see `messages`) or OCTETS (part of a body)
    descriptors  1 octet    how many file descriptors travel with the frame, at most 64
    length       4 octets   of the payload, network order, capped per kind

What a reader may rely on: the cap is checked on the header alone, before a single payload octet
is kept, so that a seized peer can't make us allocate; nothing is resynchronised after a bad
header, the channel is over (`FrameError`).  What this module does not do: it moves no descriptor
(the carrier does) and knows no message type (the channel's vocabulary does).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MESSAGE = 1
OCTETS = 2

#: Longest payload by kind, in octets.  A submission with 1,000 recipients of 256 octets fits.
LIMITS = {MESSAGE: 512 * 1024, OCTETS: 256 * 1024}
#: Linux hands over at most 253 descriptors in one message (SCM_MAX_FD); groups stay well below.
MAX_DESCRIPTORS = 64

_HEADER = struct.Struct("!BBI")
HEADER_OCTETS = _HEADER.size


class FrameError(ValueError):
    """The peer broke the framing: the channel ends, the receiver survives."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its kind, its payload, and how many descriptors belong to it."""

    kind: int
    payload: bytes
    descriptors: int = 0


def encode_header(kind: int, descriptors: int, length: int) -> bytes:
    """The six octets before a payload.  Raises FrameError for what `decode_header` would refuse."""
    check_header(kind, descriptors, length)
    return _HEADER.pack(kind, descriptors, length)


def decode_header(octets: bytes) -> tuple[int, int, int]:
    """(kind, descriptors, length) of exactly six octets.  Raises FrameError."""
    if len(octets) != HEADER_OCTETS:
        raise FrameError("a frame header has six octets")
    kind, descriptors, length = _HEADER.unpack(octets)
    check_header(kind, descriptors, length)
    return kind, descriptors, length


def check_header(kind: int, descriptors: int, length: int) -> None:
    """Raise FrameError unless the three numbers may stand in a header."""
    if kind != MESSAGE and kind != OCTETS:
        raise FrameError("unknown kind of frame")
    if not 0 <= descriptors <= MAX_DESCRIPTORS:
        raise FrameError("too many descriptors in a frame")
    if not 0 <= length <= (LIMITS[MESSAGE] if kind == MESSAGE else LIMITS[OCTETS]):
        raise FrameError("frame too long")


def encode(frame: Frame) -> bytes:
    """Header and payload in one piece."""
    return encode_header(frame.kind, frame.descriptors, len(frame.payload)) + frame.payload


class Assembler:
    """Cuts a stream of octets, split anywhere, into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Octets of an unfinished frame."""
        return len(self._buffer)

    def feed(self, octets: bytes | memoryview) -> list[Frame]:
        """The frames that are complete now.  Raises FrameError; then the assembler is spent."""
        buffer = self._buffer
        buffer += octets
        frames: list[Frame] = []
        start, available = 0, len(buffer)
        while available - start >= HEADER_OCTETS:
            kind, descriptors, length = decode_header(bytes(buffer[start : start + HEADER_OCTETS]))
            end = start + HEADER_OCTETS + length
            if end > available:
                break
            frames.append(Frame(kind, bytes(buffer[start + HEADER_OCTETS : end]), descriptors))
            start = end
        if start:
            del buffer[:start]
        return frames
