"""What agents read of a message, in both forms, small and large, whole and broken.

Control: the damage that a chunk shows is not seen in raw content, which certifies nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.stores import letters
from refmta.stores.disk import PosixDisk
from refmta.stores.letters import SMALL_OCTETS, Letter
from refmta.wire.envelope import (
    MAX_BLOCK,
    ChunkError,
    Envelope,
    encode_chunk,
    encode_envelope,
    queue_id,
    record,
)

ID, OTHER = queue_id(1_800_000_000_000, 7), queue_id(1_800_000_000_000, 8)
ENVELOPE = Envelope(
    queue_id=ID, arrival_s=1_800_000_000, reverse_path="ada@example.org",
    recipients=("bob@example.net", "eve@example.net"), client="192.0.2.1", helo="h",
    protocol="ESMTP",
)  # fmt: skip
HEAD = encode_envelope(ENVELOPE)
DISK = PosixDisk(-1)


def at_once(descriptor: int, name: str = ID, head: bytes = b"") -> tuple[Letter, bytes]:
    return letters.read(DISK, descriptor, name, head)


def in_pieces(descriptor: int, name: str = ID, head: bytes = b"") -> tuple[Letter, bytes]:
    letter = trio.run(letters.find, DISK, descriptor, name, head)
    return letter, b"".join(letters.pieces(DISK, descriptor, letter))


#: How a message is read: by its size, or as a large one.
READERS = (at_once, in_pieces)
readers = pytest.mark.parametrize("reader", READERS)
forms = pytest.mark.parametrize("raw", [False, True], ids=["chunk", "raw"])


def blocks(content: bytes, size: int = 100_000) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def file_and_head(content: bytes, raw: bool) -> tuple[bytes, bytes]:
    return (content, HEAD) if raw else (encode_chunk(ENVELOPE, blocks(content)), b"")


@contextmanager
def opened(octets: bytes) -> Iterator[int]:
    """For reading, as qmgr hands it over, and not at its beginning."""
    descriptor = os.memfd_create("message")
    try:
        os.write(descriptor, octets)
        yield descriptor
    finally:
        os.close(descriptor)


# -- whole ----------------------------------------------------------------------------------------


@readers
@forms
@pytest.mark.parametrize("size", [0, 1, 1000, MAX_BLOCK, MAX_BLOCK + 1, SMALL_OCTETS - 1000])
def test_a_letter_is_its_envelope_and_its_content(reader, raw: bool, size: int):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    octets, head = file_and_head(content, raw)
    with opened(octets) as descriptor:
        assert letters.is_small(DISK, descriptor)
        letter, found = reader(descriptor, head=head)
        assert (letter.envelope, found, letter.octets) == (ENVELOPE, content, size)
        assert all(0 < each.length <= MAX_BLOCK for each in letter.extents)
        for wanted in (0, 1, 999, MAX_BLOCK + 1, 1 << 30):
            beginning = b"".join(letters.beginning(DISK, descriptor, letter, wanted))
            assert beginning == content[:wanted]


@forms
def test_a_large_one_is_found_in_pieces(raw: bool):
    content = b"x" * (SMALL_OCTETS * 3 + 17)
    octets, head = file_and_head(content, raw)
    with opened(octets) as descriptor:
        assert not letters.is_small(DISK, descriptor)
        assert in_pieces(descriptor, head=head)[1] == content


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_both_forms_and_both_ways_agree(content: list[bytes]):
    whole = b"".join(content)
    for octets, head in ((encode_chunk(ENVELOPE, content), b""), (whole, HEAD)):
        with opened(octets) as descriptor:
            for reader in READERS:
                letter, found = reader(descriptor, head=head)
                assert (letter.envelope, found) == (ENVELOPE, whole)


# -- broken ---------------------------------------------------------------------------------------


@readers
@given(st.data())
@settings(max_examples=60)
def test_no_change_of_a_chunk_goes_unseen(reader, data):
    octets = bytearray(encode_chunk(ENVELOPE, [b"Subject: x\r\n\r\n", b"text\r\n"]))
    if data.draw(st.booleans()):
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del octets[data.draw(st.integers(0, len(octets) - 1)) :]
    with opened(octets) as descriptor, pytest.raises(ChunkError):
        reader(descriptor)


@readers
def test_a_change_of_raw_content_is_not_seen(reader):
    """The control: what certifies nothing tells nothing, and a torn file is a shorter letter."""
    for octets in (b"Subject: x\r\n\r\ntexu\r\n", b"Subject: x\r\n", b""):
        with opened(octets) as descriptor:
            assert reader(descriptor, head=HEAD)[1] == octets


@readers
@forms
def test_another_messages_descriptor_is_refused(reader, raw: bool):
    octets, head = file_and_head(b"text\r\n", raw)
    with opened(octets) as descriptor, pytest.raises(ChunkError, match="another message"):
        reader(descriptor, name=OTHER, head=head)


@readers
@pytest.mark.parametrize(
    "head", [HEAD[:-1], HEAD[:20], HEAD + record(b"B", b"x"), HEAD + HEAD, b"x", HEAD + b"R"]
)
def test_a_head_that_is_no_envelope_is_refused(reader, head: bytes):
    with opened(b"text\r\n") as descriptor, pytest.raises(ChunkError):
        reader(descriptor, head=head)


@readers
def test_a_whole_chunk_is_no_head(reader):
    with opened(b"text\r\n") as descriptor, pytest.raises(ChunkError, match="no end record"):
        reader(descriptor, head=encode_chunk(ENVELOPE, []))


@forms
def test_what_is_missing_later_is_an_error_and_what_comes_later_no_part_of_it(raw: bool):
    content = b"x" * (2 * MAX_BLOCK)
    octets, head = file_and_head(content, raw)
    with opened(octets) as descriptor:
        letter, _ = in_pieces(descriptor, head=head)
        os.pwrite(descriptor, b"more", len(octets))
        assert b"".join(letters.pieces(DISK, descriptor, letter)) == content
        os.ftruncate(descriptor, MAX_BLOCK + 100)
        with pytest.raises(OSError, match="cut short"):
            list(letters.pieces(DISK, descriptor, letter))


@readers
@forms
@pytest.mark.parametrize("kind", ["pipe", "socket", "directory"])
def test_what_is_no_file_fails_at_once(reader, raw: bool, kind: str):
    import socket

    if kind == "directory":
        ends = [os.open("/", os.O_RDONLY)]
    elif kind == "pipe":
        ends = [*os.pipe()]
    else:
        ends = [each.detach() for each in socket.socketpair()]
    try:
        with pytest.raises(OSError):
            assert letters.is_small(DISK, ends[0])
            reader(ends[0], head=HEAD if raw else b"")
    finally:
        for each in ends:
            os.close(each)
