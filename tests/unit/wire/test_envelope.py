"""The queue record: it certifies itself.

Exhaustive: one small chunk, cut at every octet, and with every bit flipped; two chunks, split at
every octet for the reader.  Sampled (Hypothesis): envelopes, contents, splits, marks.
"""

from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.wire.envelope import (
    CAPS,
    ChunkError,
    Envelope,
    Reader,
    decode_chunk,
    encode_chunk,
    is_queue_id,
    mark_record,
    queue_id,
    record,
    split_marks,
)

ENVELOPE = Envelope(
    queue_id=queue_id(1_800_000_000_000, 7),
    arrival_s=1_800_000_000,
    reverse_path="ada@example.org",
    recipients=("bob@example.net", "eve@example.net"),
    client="192.0.2.1",
    helo="client.example",
    protocol="ESMTP",
)
CHUNK = encode_chunk(ENVELOPE, [b"one\r\n", b"", b"two\r\n"])
CONTENT = b"one\r\ntwo\r\n"


def content(octets: bytes) -> bytes:
    chunk = decode_chunk(octets)
    return b"".join(octets[each.offset : each.offset + each.length] for each in chunk.content)


def test_what_was_written_is_read():
    chunk = decode_chunk(CHUNK)
    assert (chunk.envelope, content(CHUNK)) == (ENVELOPE, CONTENT)
    assert (chunk.certified, chunk.content_octets) == (len(CHUNK), len(CONTENT))


def test_every_prefix_is_refused():
    for cut in range(len(CHUNK)):
        with pytest.raises(ChunkError):
            decode_chunk(CHUNK[:cut])


def test_every_flipped_bit_is_refused():
    for place in range(len(CHUNK)):
        for bit in range(8):
            octets = bytearray(CHUNK)
            octets[place] ^= 1 << bit
            with pytest.raises(ChunkError):
                decode_chunk(bytes(octets))


def test_every_split_reads_the_same():
    for cut in range(len(CHUNK) + 1):
        reader = Reader()
        first = reader.feed(CHUNK[:cut])
        rest = reader.feed(CHUNK[cut:]) if first is None else first
        assert rest == b""
        assert reader.chunk() == decode_chunk(CHUNK)


def test_octet_by_octet_reads_the_same():
    reader = Reader()
    fed = [reader.feed(CHUNK[place : place + 1]) for place in range(len(CHUNK))]
    assert fed == [None] * (len(CHUNK) - 1) + [b""]
    assert reader.chunk() == decode_chunk(CHUNK)


ROWS = [
    ("no recipient", record(b"V", bytes(17)) + record(b"T", bytes(8)) + record(b"O", b"")
     + record(b"S", b"") + record(b"B", b"x")),
    ("content before the envelope", record(b"B", b"x")),
    ("two versions", record(b"V", bytes(17)) * 2),
    ("a mark before the end", record(b"V", bytes(17)) + mark_record(b"x")),
    ("an unknown type", b"X\0\0\0\0"),
    ("a length over its cap", b"S\xff\xff\xff\xff"),
    ("a content block over its cap", b"B" + (CAPS[b"B"] + 1).to_bytes(4, "big")),
]  # fmt: skip


@pytest.mark.parametrize("octets", [row[1] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_wrong_order_is_refused_at_once(octets):
    with pytest.raises(ChunkError):
        Reader().feed(octets)


def test_a_chunk_of_another_version_is_refused():
    body = bytearray(CHUNK[: -(5 + CAPS[b"E"])])
    body[5] = 9
    digest = blake2b(body, digest_size=16).digest()
    octets = bytes(body) + record(b"E", len(body).to_bytes(8, "big") + digest)
    with pytest.raises(ChunkError, match="version"):
        decode_chunk(octets)


def test_marks_end_at_the_first_that_is_torn_or_damaged():
    marks = [mark_record(f"mark {n}".encode()) for n in range(3)]
    payloads = [b"mark 0", b"mark 1", b"mark 2"]
    whole = b"".join(marks)
    assert list(split_marks(whole)) == payloads
    ends = [0, len(marks[0]), len(marks[0] + marks[1]), len(whole)]
    for cut in range(len(whole) + 1):
        complete = max(n for n, end in enumerate(ends) if end <= cut)
        assert list(split_marks(whole[:cut])) == payloads[:complete]
    for place in range(len(marks[1])):
        octets = bytearray(whole)
        octets[len(marks[0]) + place] ^= 1
        assert list(split_marks(bytes(octets))) == payloads[:1]


@given(
    st.lists(st.binary(max_size=40), max_size=5),
    st.lists(st.binary(max_size=20), max_size=4),
    st.data(),
)
@settings(max_examples=200)
def test_any_content_comes_back_at_any_split(blocks, marks, data):
    octets = encode_chunk(ENVELOPE, blocks) + b"".join(map(mark_record, marks))
    reader, at, rest = Reader(), 0, None
    while rest is None:
        size = data.draw(st.integers(1, 60))
        rest = reader.feed(octets[at : at + size])
        at += size
    chunk = reader.chunk(rest + octets[at:])
    assert chunk.marks == tuple(marks)
    parts = [octets[each.offset : each.offset + each.length] for each in chunk.content]
    assert parts == list(blocks)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**32 - 1))
def test_queue_ids_are_names_and_sort_by_time(milliseconds, chance):
    name = queue_id(milliseconds, chance)
    assert is_queue_id(name)
    if milliseconds:
        assert queue_id(milliseconds - 1, 2**32 - 1) < name


@pytest.mark.parametrize("name", ["", "0" * 15, "0" * 17, "l" * 16, "I" * 16, "../../etc/passwd"])
def test_what_is_no_queue_id(name):
    assert not is_queue_id(name)
