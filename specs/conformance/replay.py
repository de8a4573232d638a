"""A plain dialogue, played against a server.

    # comments, and empty lines, are nothing
    S: 220
    C: EHLO {hostname}
    S: 250
    C: MAIL FROM:<{sender}>
    S: 250 any text; only the code counts
    C: RCPT TO:<{unknown}>
    S: 550|551|553
    C: QUIT
    S: 221|close

A line of the client is sent with CRLF; several `C:` lines in a row are sent one by one, and nothing
is awaited between them.  A reply is told by its code; z stands for any digit, | for "or", and the
lines of a longer one (`S: 250-`) count once.  "close" is the end of the connection, also without a
reply.  {rcpt}, {rcpt2}, {unknown}, {relay}, {sender}, {domain}, {hostname} and {token} are filled
in; \\r, \\n, \\t, \\\\ and \\xHH are octets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import trio

from specs.conformance.given import PLACES, Given
from specs.conformance.model import Line, Reply
from specs.conformance.session import Session, token_of
from specs.conformance.transcript import Told

_STEP: Final = re.compile(r"([CS]): ?(.*)\Z", re.DOTALL)
_CODE: Final = re.compile(r"[2-5z][0-9z][0-9z]\Z")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_ESCAPES: Final = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\", "0": b"\0"}
_PLACE: Final = re.compile(r"\{([a-z0-9]+)\}")


class DialogueError(Exception):
    """The file is no dialogue; the text names the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """line: of the file.  text: what is sent, or what the reply may be."""

    line: int
    who: Literal["C", "S"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """wrong: "" if all went as written; else which line of the file it is, and what came."""

    wrong: str
    transcript: tuple[Line, ...]


def parse(text: str) -> list[Step]:
    """Raises DialogueError."""
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _STEP.match(line)
        if found is None:
            raise DialogueError(f"line {number}: it begins with neither C: nor S:")
        who: Literal["C", "S"] = "C" if found[1] == "C" else "S"
        if who == "S":
            codes, more = _expected(number, found[2])
            if more and steps and steps[-1].who == "S" and steps[-1].text.endswith("-"):
                continue
            if steps and steps[-1].who == "S" and steps[-1].text.endswith("-"):
                steps[-1] = Step(line=number, who="S", text=codes)
                continue
            steps.append(Step(line=number, who="S", text=codes + ("-" if more else "")))
        else:
            if unknown := set(_PLACE.findall(found[2])) - set(PLACES):
                raise DialogueError(f"line {number}: nothing is known of {{{min(unknown)}}}")
            steps.append(Step(line=number, who="C", text=found[2]))
    if not any(each.who == "S" for each in steps):
        raise DialogueError("nothing is expected of the server")
    return steps


def _expected(number: int, text: str) -> tuple[str, bool]:
    """(alternatives, whether more lines of the same reply follow)."""
    word = re.split(r"[ \t]", text, maxsplit=1)[0]
    head, dash, _ = word.partition("-")
    for each in head.split("|"):
        if each != "close" and not _CODE.match(each):
            raise DialogueError(f"line {number}: {each!r} is no code of a reply, and not close")
    return head, bool(dash)


def needs(steps: Sequence[Step]) -> set[str]:
    """Names of what must be given (`given.NEEDS`)."""
    found = {name for each in steps for name in _PLACE.findall(each.text)}
    return {PLACES[name] for name in found if PLACES.get(name)}


def fits(reply: Reply, expected: str) -> bool:
    """Whether a reply is one of the alternatives."""
    for each in expected.rstrip("-").split("|"):
        if each == "close":
            if reply.kind == "closed":
                return True
        elif reply.kind == "reply" and re.fullmatch(each.replace("z", "[0-9]"), reply.code):
            return True
    return False


async def play(steps: Sequence[Step], given: Given) -> Played:
    """Raises OSError if there is no connection."""
    told = Told(trio.current_time())
    token = token_of("replay", given.seed)
    async with Session(given=given, door="smtp", token=token, told=told) as talk:
        await talk.connect()
        wrong = ""
        for each in steps:
            if each.who == "C":
                await talk.send(octets(talk.fill(each.text)) + b"\r\n")
                continue
            reply = await talk.reply()
            if not fits(reply, each.text):
                wrong = f"line {each.line}: expected {each.text.rstrip('-')}, got {reply}"
                break
        return Played(wrong=wrong, transcript=tuple(told.lines))


def octets(text: str) -> bytes:
    """With its escapes taken for octets."""
    return b"".join(_parts(text))


def _parts(text: str) -> Iterator[bytes]:
    at = 0
    for found in _ESCAPE.finditer(text):
        yield text[at : found.start()].encode()
        at = found.end()
        if found[1]:
            yield bytes([int(found[1], 16)])
        else:
            yield _ESCAPES.get(found[2], found[0].encode())
    yield text[at:].encode()
