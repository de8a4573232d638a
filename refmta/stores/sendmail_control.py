"""sendmail's control file, the qf: what is to be done with a message, as lines of text.

    V8                     version of the format, first
    T1800000000            arrival, seconds since 1970
    K1800000600            last attempt, 0 for none
    N2                     how often it was written before
    DdfID                  the data file: a qf that stands under another name is refused
    $_ $s $r               client, its HELO name, protocol (sendmail's macros of these names)
    Sada@example.org       reverse-path
    RPFD:bob@example.org   a recipient; who is done has Y: in the place of R and its flags
    M{...}                 the last mark of a recipient, or of the message, in JSON
    .                      the end: without it the file was cut short

The letters are those of queueup() in sendmail's queue.c, where Y is free; M is a text for people
there, and N counts attempts.  Headers (H) are not here: they stay in the data file.  A recipient
keeps his place when he is done, since marks know recipients by number; those whom an alias has
added stand in the mark that says so.

A field is one line of visible ASCII, all else being written as %XX.  A file that says the same in
other words than `encode_control` was not written here, and is refused; so nothing is quoted twice,
left out, or out of bounds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import msgspec

from refmta.protocol.delivery import Mark
from refmta.wire.envelope import ChunkError, Envelope, encode_envelope

#: QF_VERSION of sendmail 8.14.
VERSION: Final = "8"
#: Largest control file, in octets: 10,000 recipients with a mark each stay far below it.
CONTROL_OCTETS: Final = 64 << 20
#: Marks after which a recipient has no R line any more.
DONE: Final = frozenset({"delivered", "expanded", "reported"})

_encode_mark = msgspec.json.Encoder().encode
_decode_mark = msgspec.json.Decoder(Mark).decode
#: What a mark is about: of each there is one at most.
_ABOUT: Final = {"held": "hold", "released": "hold", "warned": "delay", "expanded": "alias"}
#: The head of a control file: which line comes when.
_HEAD: Final = ("V", "T", "K", "N", "D", "$_", "$s", "$r", "S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a qf says.  written: how often it was written before."""

    envelope: Envelope
    marks: tuple[Mark, ...] = ()
    written: int = 0


def encode_control(control: Control) -> bytes:
    """The lines of a qf.  V must be first, and nothing comes behind the dot: "this is to prevent
    scurrilous crackers from appending any data" (queueup()).
    """
    envelope = control.envelope
    done = {mark.index for mark in control.marks if mark.kind in DONE}
    head = (
        VERSION,
        str(envelope.arrival_s),
        str(max([0, *(mark.when_s for mark in control.marks)])),
        str(control.written),
        f"df{envelope.queue_id}",
        envelope.client,
        envelope.helo,
        envelope.protocol,
        envelope.reverse_path,
    )
    lines = [letter + _escaped(text) for letter, text in zip(_HEAD, head, strict=True)]
    for index, recipient in enumerate(envelope.recipients):
        lines.append(("Y:" if index in done else "RPFD:") + _escaped(recipient))
    octets = "".join(f"{line}\n" for line in lines).encode("ascii")
    marks = b"".join([b"M" + _encode_mark(mark) + b"\n" for mark in control.marks])
    return octets + marks + b".\n"


def decode_control(octets: bytes, queue_id: str) -> Control:
    """What a qf of that queue id says.  Raises ChunkError: cut short, damaged, another's."""
    if not octets.endswith(b"\n.\n"):
        raise ChunkError("no end of the control file: it was cut short")
    lines = octets.split(b"\n")[:-2]
    try:
        head = [_field(line, letter) for letter, line in zip(_HEAD, lines, strict=False)]
        recipients = [
            _field(line, "Y:" if line[:1] == b"Y" else "RPFD:")
            for line in lines[len(_HEAD) :]
            if line[:1] in b"RY"
        ]
        rest = lines[len(_HEAD) + len(recipients) :]
        marks = tuple([_decode_mark(_after(line, b"M")) for line in rest])
        version, arrival, _last, written, content, client, helo, protocol, sender = head
        control = Control(
            envelope=Envelope(
                queue_id=queue_id,
                arrival_s=int(arrival),
                reverse_path=sender,
                recipients=tuple(recipients),
                client=client,
                helo=helo,
                protocol=protocol,
            ),
            marks=marks,
            written=int(written),
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise ChunkError("the control file is not what was written") from error
    if content != f"df{queue_id}":
        raise ChunkError("the control file belongs to another queue id")
    if version != VERSION or not _is_written_so(control, octets):
        raise ChunkError("the control file is not what was written")
    return control


def marked(control: Control, marks: Iterable[Mark]) -> Control:
    """With further marks.  Only the last one of each recipient says anything; of the message, that
    it is held, and that its sender was told of the delay.  That a recipient was expanded is said
    beside what was said of him before, and stays in front of the marks of those whom it has added.
    """
    last: dict[object, Mark] = {}
    for mark in chain(control.marks, marks):
        about = _ABOUT.get(mark.kind, "recipient"), mark.index
        last.pop(about, None)
        last[about] = mark
    kept = tuple([mark for mark in last.values() if mark.kind != "released"])
    return replace(control, marks=kept, written=control.written + 1)


def _escaped(text: str) -> str:
    """Raises ValueError for what is not ASCII."""
    if not text.isascii():
        raise ValueError("a field of a control file is ASCII")
    return "".join([c if "!" <= c <= "~" and c != "%" else f"%{ord(c):02X}" for c in text])


def _field(line: bytes, letter: str) -> str:
    text = _after(line, letter.encode()).decode("ascii")
    return re.sub("%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)


def _after(line: bytes, letter: bytes) -> bytes:
    if not line.startswith(letter):
        raise ValueError("line out of order")
    return line[len(letter) :]


def _is_written_so(control: Control, octets: bytes) -> bool:
    """Word for word, and within the bounds of an envelope."""
    try:
        encode_envelope(control.envelope)
        return encode_control(control) == octets
    except (ValueError, struct.error):
        return False
