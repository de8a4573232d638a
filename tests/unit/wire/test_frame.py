"""Frames and messages: what a seized peer may say, and what is decoded of it.

Exhaustive: all headers with lengths at the caps' borders; three small frames at every split.
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.patterns.trust_partitioning import BORDERS
from refmta.wire.frame import (
    HEADER_OCTETS,
    LIMITS,
    MAX_DESCRIPTORS,
    MESSAGE,
    OCTETS,
    Assembler,
    Frame,
    FrameError,
    decode_header,
    encode,
    encode_header,
)
from refmta.wire.messages import (
    Deliver,
    Kept,
    Message,
    Outcome,
    Submit,
    Verify,
    Vocabulary,
    encode_message,
)

FRAMES = [Frame(MESSAGE, b"one"), Frame(OCTETS, b""), Frame(MESSAGE, b"three", 2)]
STREAM = b"".join(map(encode, FRAMES))


def test_every_split_gives_the_same_frames():
    for first in range(len(STREAM) + 1):
        for second in range(first, len(STREAM) + 1):
            assembler = Assembler()
            found = assembler.feed(STREAM[:first])
            found += assembler.feed(STREAM[first:second])
            found += assembler.feed(STREAM[second:])
            assert (found, assembler.pending) == (FRAMES, 0)


BORDER_LENGTHS = [0, 1, LIMITS[OCTETS], LIMITS[OCTETS] + 1, LIMITS[MESSAGE], LIMITS[MESSAGE] + 1,
                  2**32 - 1]  # fmt: skip


@pytest.mark.parametrize("length", BORDER_LENGTHS)
def test_every_header_is_whole_or_refused(length):
    for kind in range(256):
        for descriptors in (0, 1, MAX_DESCRIPTORS, MAX_DESCRIPTORS + 1, 255):
            octets = bytes((kind, descriptors)) + length.to_bytes(4, "big")
            right = kind in LIMITS and descriptors <= MAX_DESCRIPTORS and length <= LIMITS[kind]
            if right:
                assert decode_header(octets) == (kind, descriptors, length)
                assert encode_header(kind, descriptors, length) == octets
            else:
                with pytest.raises(FrameError):
                    decode_header(octets)
                with pytest.raises(FrameError):
                    encode_header(kind, descriptors, length)


def test_a_bad_header_is_refused_before_its_payload_is_kept():
    assembler = Assembler()
    with pytest.raises(FrameError):
        assembler.feed(b"\x01\x00\xff\xff\xff\xff" + b"x" * 10)


@given(st.binary(max_size=HEADER_OCTETS * 4))
def test_any_octets_are_frames_or_an_error(octets):
    assembler = Assembler()
    try:
        for frame in assembler.feed(octets):
            assert len(frame.payload) <= LIMITS[frame.kind]
    except FrameError:
        pass


VOCABULARIES = [
    (f"{pair[0]} hears {pair[1]}", border.hears) for pair, border in BORDERS.items()
] + [(f"{pair[1]} hears {pair[0]}", border.says) for pair, border in BORDERS.items()]


@pytest.mark.parametrize(
    "vocabulary", [v for _, v in VOCABULARIES], ids=[n for n, _ in VOCABULARIES]
)
def test_a_vocabulary_refuses_all_that_is_not_in_it(vocabulary):
    for sample in SAMPLES:
        payload = encode_message(sample)
        if type(sample) in vocabulary.types:
            assert vocabulary.decode(payload) == sample
        else:
            with pytest.raises(FrameError):
                vocabulary.decode(payload)


@pytest.mark.parametrize(
    "vocabulary", [v for _, v in VOCABULARIES], ids=[n for n, _ in VOCABULARIES]
)
@given(octets=st.binary(max_size=64))
def test_any_payload_is_a_message_of_the_vocabulary_or_an_error(vocabulary, octets):
    try:
        message = vocabulary.decode(octets)
    except FrameError:
        return
    assert type(message) in vocabulary.types


SAMPLES: list[Message] = [
    Verify(recipient="ada@example.org"),
    Submit(reverse_path="", recipients=("a@b.example",), client="::1", helo="h", protocol="SMTP"),
    Kept(queue_id="06H06TY2DFR20W5S"),
    Outcome(reference=1, kind="delivered", enhanced="2.0.0", text=""),
    Deliver(reference=1, queue_id="06H06TY2DFR20W5S", index=0, mailbox="Maildir", recipient="a@b"),
]

OUT_OF_BOUNDS = [
    ["kept", "06H06TY2DFR20W5S\n"],
    ["kept", "../../etc/passwd"],
    ["kept", "06H06TY2DFR20W5S", "more"],
    ["kept"],
    ["submit", "", [], "c", "h", "SMTP"],
    ["submit", "", ["r"] * 1001, "c", "h", "SMTP"],
    ["submit", "x" * 257, ["r"], "c", "h", "SMTP"],
    ["submit", "", ["r"], "c", "h", "HTTP"],
    ["outcome", -1, "delivered", "2.0.0", ""],
    ["outcome", 1, "lost", "2.0.0", ""],
    ["outcome", 1, "delivered", "2.0.0\n", ""],
    ["outcome", 1, "delivered", "2.0.0", "x" * 1025],
    ["deliver", 1, "06H06TY2DFR20W5S", 0, "", "a@b"],
    ["unknown"], [], {}, None, 7, [["kept"]],
]  # fmt: skip


@pytest.mark.parametrize("document", OUT_OF_BOUNDS, ids=lambda each: str(each)[:40])
def test_a_value_out_of_bounds_does_not_decode(document):
    everything = Vocabulary(*map(type, SAMPLES))
    with pytest.raises(FrameError):
        everything.decode(msgspec.msgpack.encode(document))
