"""Recorded sessions, judged by `specs.smtp`: what files of three kinds say, as streams of octets.

| file                       | is                                                              |
|----------------------------|-----------------------------------------------------------------|
| `refmta-conform --json`    | each connection of each case that spoke to the server as client |
| `C:` and `S:` lines        | one connection, in the order of the lines                       |
| pcap, pcapng               | each TCP connection whose beginning was captured, by tshark     |

A text has a line of octets for each line of the session (CRLF is added; \\r, \\n, \\t, \\\\ and
\\xHH are octets).  `-:` lines are remarks; one that says "inside TLS" is where TLS begins.  A line
may not be a pattern, as it may for `replay`: what is judged was said.

In a record, cases of the client's role, and connections to our own hops, are left out: there the
server under test is the client.  Who took LHLO once speaks LMTP at that address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from specs.conformance.capture import MAGIC, RecordedConnection, Unreadable, of_capture
from specs.conformance.replay import octets
from specs.smtp.heard import Chunk, Heard
from specs.smtp.judge import Judgement, judge

INSIDE_TLS: Final = re.compile(rb"inside TLS")
#: A remark of `transcript.Told`: the octets before it are not all of them.
SHORTENED: Final = re.compile(rb"\A[0-9]+ octets, of which [0-9]+ are shown")
#: A remark of `hop.Hop`: there the server under test is the client.
INCOMING: Final = re.compile(rb"\Athe server connects to ")
#: A remark of `connection.Connection`.
CONNECTED: Final = re.compile(rb"\Aconnected to (.+)")
_LHLO: Final = re.compile(rb"LHLO [!-~]+\r\n", re.IGNORECASE)
_STEP: Final = re.compile(r"([CS-]):(?: (.*)|)\Z", re.DOTALL)
_PATTERN: Final = re.compile(r"(?:[2-5z][0-9z]{2}|close)(?:\|(?:[2-5z][0-9z]{2}|close))*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A connection, and what is said of it."""

    name: str
    judgement: Judgement


def judged(path: Path, *, port: int = 0, lmtp: bool = False) -> list[Judged]:
    """Every connection of a file.  Raises Unreadable, NoTshark."""
    found = []
    for each in connections(path, port=port):
        if each.why:
            said = Judgement(fault=None, replies=0, opaque=each.why)
        else:
            said = judge(each.heard, lmtp=lmtp or each.lmtp)
        found.append(Judged(name=each.name, judgement=said))
    return found


def connections(path: Path, *, port: int = 0) -> list[RecordedConnection]:
    """Of a file of any of the three kinds.  Raises Unreadable, NoTshark."""
    try:
        with path.open("rb") as file:
            begin = file.read(4)
            content = b"" if begin in MAGIC else begin + file.read()
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    if begin in MAGIC:
        return of_capture(path, port)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: it is neither text nor a capture: {error}") from None
    found = of_record(text, path) if text.lstrip().startswith("{") else of_text(text, path)
    if not found:
        raise Unreadable(f"{path}: there is no session in it")
    return found


# -- a record of refmta-conform -------------------------------------------------------------------


def of_record(text: str, path: Path) -> list[RecordedConnection]:
    """Raises Unreadable."""
    try:
        told = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Unreadable(f"{path}: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("results"), list):
        raise Unreadable(f"{path}: it is no record of refmta-conform: no results")
    found: list[tuple[bytes, RecordedConnection]] = []
    for number, each in enumerate(told["results"]):
        try:
            if each.get("role") not in ("client", "relay"):
                found += list(_of_result(each))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreadable(
                f"{path}: results[{number}] is no result of refmta-conform ({error!r})"
            ) from None
    lmtp = {address for address, each in found if address and _took_lhlo(each.heard)}
    return [replace(each, lmtp=address in lmtp) for address, each in found]


def _took_lhlo(heard: Heard) -> bool:
    """It was the first command, and answered 250."""
    second = heard.server.partition(b"\r\n")[2]
    return bool(_LHLO.match(heard.client)) and second.startswith(b"250")


def _of_result(told: dict[str, Any]) -> Iterator[tuple[bytes, RecordedConnection]]:
    """A case's connections, each apart, with the address of each."""
    case = str(told["case"])
    chunks: dict[int, list[Chunk]] = {}
    ours: set[int] = set()
    addresses: dict[int, bytes] = {}
    for each in told["transcript"]:
        said = each["octets"].encode("latin-1")
        if each["who"] == "-" and INCOMING.match(said):
            ours.add(int(each["connection"]))
        if each["who"] == "-" and (address := CONNECTED.match(said)):
            addresses[int(each["connection"])] = address[1]
        chunk = _chunk(each["who"], said)
        if chunk is not None:
            chunks.setdefault(int(each["connection"]), []).append(chunk)
    for number, listed in sorted(chunks.items()):
        if number in ours:
            continue
        name = f"{case}, connection {number}"
        yield addresses.get(number, b""), RecordedConnection(name=name, heard=Heard(listed))


def _chunk(who: str, said: bytes) -> Chunk | None:
    """None for a remark that has no meaning here.  Raises ValueError."""
    match who:
        case "C":
            return Chunk("C", said)
        case "S":
            return Chunk("S", said)
        case "-" if SHORTENED.search(said):
            return Chunk("lost")
        case "-":
            return Chunk("tls") if INSIDE_TLS.search(said) else None
        case _:
            raise ValueError(f"{who!r} is not C, S or -")


# -- a text ---------------------------------------------------------------------------------------


def of_text(text: str, path: Path) -> list[RecordedConnection]:
    """Raises Unreadable."""
    chunks: list[Chunk] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _STEP.match(line)
        if found is None:
            raise Unreadable(f"{path}: line {number}: it begins with neither C: nor S:")
        who, said = found[1], found[2] or ""
        if who == "S" and _is_pattern(said):
            raise Unreadable(f"{path}: line {number}: {said!r} is a pattern, not what was said")
        if who == "S" and said == "close":
            continue
        chunk = _chunk(who, octets(said) + (b"" if who == "-" else b"\r\n"))
        chunks += [chunk] if chunk is not None else []
    return [RecordedConnection(name=str(path), heard=Heard(chunks))] if chunks else []


def _is_pattern(said: str) -> bool:
    word = re.split(r"[ \t-]", said, maxsplit=1)[0]
    return bool(_PATTERN.match(word)) and ("|" in word or "z" in word)
