"""The client's octets, read as a server may read them: what the next reply can be the answer to.

- A line ends with CRLF, and nothing else (RFC 5321 2.3.8); content with CRLF . CRLF, of which the
  first CRLF may be that of DATA (4.1.1.4); a chunk with its last octet (RFC 3030 2).
- There may be several ways to read: BDAT is a chunk's head for a server that offers CHUNKING, and
  where it does not, perhaps an unknown command with more commands behind it.  An empty line is no
  command: it is answered, or passed over.
- Only what is whole within the limit is read.  But what can never become right may be refused
  before its end comes: a line beyond the longest, and lines and content with a bare CR or LF, which
  no client may send.  Then the rest is skipped, and not answered again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from specs.smtp.states import Phase, State
from specs.smtp.tables import REPLIES, SAME_AS

#: With CRLF (RFC 5321 4.5.3.1.4).  Extensions make some longer: who takes those does not answer.
LONGEST: Final = 512
#: A size that integers may not hold is refused as a syntax error.
LARGEST: Final = 1 << 31
SHOWN: Final = 60
_VERB: Final = re.compile(rb"[ \t]*([A-Za-z][A-Za-z0-9-]*)")
_EXACT: Final = re.compile(rb"[A-Za-z]+\Z")
_SIZED: Final = re.compile(rb"[ \t]*BDAT[ \t]+([0-9]+)(.*)\Z", re.IGNORECASE | re.DOTALL)
#: A CR that has another octet behind it than LF, or a LF without a CR (RFC 5321 2.3.8).
_BARE: Final = re.compile(rb"\r(?=[^\n])|(?<!\r)\n")
_LAST: Final = re.compile(rb"(?:[ \t]+LAST)?[ \t]*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """what: a row of `tables.REPLIES`.  line: as it came, without CRLF.  end: where it ends.
    exact: nothing but the verb.  last: LAST of BDAT and BURL.  refused: it must not be answered
    positively when it is read like this.
    """

    what: str
    end: int
    line: bytes = b""
    exact: bool = False
    last: bool = False
    refused: bool = False
    skipping: Literal["", "line", "content"] = ""

    @property
    def shown(self) -> str:
        """For people."""
        if not self.line:
            return self.what
        text = repr(self.line[:SHOWN])[2:-1]
        return f"{text}..." if len(self.line) > SHOWN else text


def units(state: State, client: bytes, limit: int) -> tuple[Unit, ...]:
    """What the next reply may answer."""
    match state.phase:
        case Phase.GREETING:
            return (Unit(what="the connection", end=state.at),)
        case Phase.RECIPIENTS:
            return (Unit(what="a recipient", end=state.at),)
        case Phase.CONTENT:
            return tuple(_content(client, state.at, limit))
        case Phase.EXCHANGE:
            return tuple(_response(client, state.at, limit))
        case Phase.COMMAND:
            return tuple(_commands(state, client, limit))
        case _:
            return ()


def _content(client: bytes, at: int, limit: int) -> Iterator[Unit]:
    end = end_of_content(client, at)
    if 0 <= end <= limit:
        yield Unit(what="the content", end=end)
    elif _BARE.search(client, at, limit):
        yield Unit(what="a bare CR or LF", end=at, refused=True, skipping="content")


def end_of_content(client: bytes, at: int) -> int:
    """Behind CRLF . CRLF; -1 if that has not come."""
    if client.startswith(b".\r\n", at):
        return at + 3
    found = client.find(b"\r\n.\r\n", at)
    return found + 5 if found >= 0 else -1


def _response(client: bytes, at: int, limit: int) -> Iterator[Unit]:
    end = client.find(b"\r\n", at)
    if 0 <= end <= limit - 2:
        cancel = client[at:end] == b"*"
        yield Unit(what="a cancellation" if cancel else "a response", end=end + 2)
    else:
        yield from _broken(client, at, limit)


def _broken(client: bytes, at: int, limit: int) -> Iterator[Unit]:
    """Of a line whose end has not come."""
    if limit - at > LONGEST:
        yield Unit(what="a line that is too long", end=at, refused=True, skipping="line")
    elif _BARE.search(client, at, limit):
        yield Unit(what="a bare CR or LF", end=at, refused=True, skipping="line")


def _commands(state: State, client: bytes, limit: int) -> Iterator[Unit]:
    """Of the next line; where it is empty, of the one behind it, too."""
    at = _behind_skipped(state, client)
    if not 0 <= at <= limit:
        return
    while True:
        end = client.find(b"\r\n", at)
        if not 0 <= end <= limit - 2:
            yield from _broken(client, at, limit)
            return
        line = client[at:end]
        if line.strip(b" \t"):
            yield from _command(state, line, end + 2, limit)
            return
        yield Unit(what="no command", end=end + 2)
        at = end + 2


def _behind_skipped(state: State, client: bytes) -> int:
    """Where the next command begins; -1 if that has not come."""
    match state.skipping:
        case "line":
            found = client.find(b"\r\n", state.at)
            return found + 2 if found >= 0 else -1
        case "content":
            return end_of_content(client, state.at)
        case _:
            return state.at


def _command(state: State, line: bytes, end: int, limit: int) -> Iterator[Unit]:
    found = _VERB.match(line)
    if found is None:
        yield Unit(what="no command", end=end, line=line)
        return
    verb = found[1].decode().upper()
    what = SAME_AS.get(verb, verb)
    if what == "BDAT":
        yield from _chunk(state, line, end, limit)
        return
    known = what in REPLIES and what.isupper()
    last = what == "BURL" and line.upper().rstrip().endswith(b" LAST")
    if known:
        yield Unit(what=what, end=end, line=line, exact=bool(_EXACT.match(line)), last=last)
    else:
        yield Unit(what="another command", end=end, line=line)


def _chunk(state: State, line: bytes, end: int, limit: int) -> Iterator[Unit]:
    """BDAT and its octets; and the line alone, where a server may read it so."""
    found = _SIZED.match(line)
    size = int(found[1][:20]) if found else -1
    well = found is not None and bool(_LAST.match(found[2]))
    if found is not None and end + size <= limit:
        last = b"LAST" in found[2].upper()
        yield Unit(what="BDAT", end=end + size, line=line, last=last)
    if not well or size >= LARGEST or "CHUNKING" not in state.offers or state.unsure:
        yield Unit(what="BDAT", end=end, line=line, refused=True)
