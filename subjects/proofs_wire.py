"""Proofs of the small codecs: headers of frames and of queue records.

What is proved is a header, over all numbers; a whole frame or chunk is exhausted over a reduced
alphabet, at every split, by the unit tests (a checksum never confirms symbolically).
"""

from __future__ import annotations

from refmta.wire.envelope import CAPS, ChunkError, check_record
from refmta.wire.frame import (
    LIMITS,
    MAX_DESCRIPTORS,
    MESSAGE,
    OCTETS,
    FrameError,
    check_header,
)
from refmta.wire.qmail import (
    PIECE_OCTETS,
    QmailError,
    check_piece,
    exit_code,
    exit_meaning,
    is_permanent,
)

KINDS = tuple(CAPS)


def frame_header_is_bounded(kind: int, descriptors: int, length: int) -> bool:
    """What passes is a known kind, within the caps; nothing else passes.

    post: _
    """
    try:
        check_header(kind, descriptors, length)
    except FrameError:
        return not _frame_is_right(kind, descriptors, length)
    return _frame_is_right(kind, descriptors, length)


def _frame_is_right(kind: int, descriptors: int, length: int) -> bool:
    if not (0 <= descriptors <= MAX_DESCRIPTORS and length >= 0):
        return False
    if kind == MESSAGE:
        return length <= LIMITS[MESSAGE]
    return kind == OCTETS and length <= LIMITS[OCTETS]


def frame_header_fits_its_fields(kind: int, descriptors: int, length: int) -> bool:
    """What passes fits the header's fields (an octet, an octet, four octets), so that packing and
    unpacking give it back.

    post: _
    """
    try:
        check_header(kind, descriptors, length)
    except FrameError:
        return True
    return 0 <= kind < 256 and 0 <= descriptors < 256 and 0 <= length < 2**32


def record_header_is_bounded(kind: int, length: int) -> bool:
    """What passes has a length within its type's cap; nothing within a cap is refused.

    pre: 0 <= kind < 9
    post: _
    """
    name = KINDS[kind] if kind < len(KINDS) else b"x"
    try:
        check_record(name, length)
    except ChunkError:
        return kind >= len(KINDS) or not 0 <= length <= CAPS[name]
    return kind < len(KINDS) and 0 <= length <= CAPS[name] < 2**32


def qmail_piece_is_bounded(length: int) -> bool:
    """A netstring of content has a length within its cap, and the cap has six digits.

    post: _
    """
    try:
        check_piece(length)
    except QmailError:
        return not 0 <= length <= PIECE_OCTETS
    return 0 <= length <= PIECE_OCTETS < 1_000_000


def qmail_exit_means_what_its_range_says(status: int) -> bool:
    """11 to 40 refuses for ever, each other exit code for now (qmail-queue(8)); so does its reply.

    pre: 1 <= status < 256
    post: _
    """
    meaning = exit_meaning(status)
    digit = "5" if is_permanent(status) else "4"
    return meaning.code // 100 == int(digit) and meaning.enhanced[:1] == digit


def qmail_exit_keeps_a_refusal_permanent(code: int) -> bool:
    """A refusal that is for ever stays so on its way through an exit code, one for now too.

    pre: 400 <= code < 600
    post: _
    """
    return is_permanent(exit_code(code, "")) == (code >= 500)
