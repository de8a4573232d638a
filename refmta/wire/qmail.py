"""qmail's formats: what its programs say to each other, and what they write into its queue.

    record       a letter, a text, NUL                       the queue's files; envelopes
    envelope     F sender NUL (T recipient NUL)* NUL         qmail-queue(8), descriptor 1
    submission   environment, envelope, content              to qmail-queue, as one stream; below
    verdict      exit code; after 0 the queue id, NUL        qmail-queue(8), EXIT CODES
    concurrency  one octet, first of all                     each spawner to qmail-send
    command      number, message id NUL, sender NUL, recipient NUL, and more    to a spawner
    report       number, K or Z or D, text NUL, and more                        from a spawner
    cleaning     foop/ID NUL or todo/ID NUL                  qmail-send to qmail-clean
    cleaned      one octet: + done, ! failed, x not understood

Sources: qmail 1.03's INTERNALS, qmail-queue(8), spawn.c, qmail-send.c, qmail-clean.c.

Rules a reader may rely on
- A text holds no NUL, so nothing is ever quoted; it is UTF-8, and its octets are bounded, by field.
- Whatever is cut from a stream is bounded before it is kept: a field's cap by `Form`, a list's by
  its number of strings, a piece of content by its length.  What breaks a rule raises `QmailError`,
  and the stream is over.
- These functions know no message type of ours and no descriptor; `processes.qmail` maps them.

Where qmail differs, and why
- qmail-queue has two pipes, an environment and an exit code.  Two pipes have no order between them;
  here they are one stream, in this order: environment, envelope, content.  The envelope goes first
  because our queue begins a message with it: were it last, a process would have to hold a whole
  message.  Where a pipe would end, a list ends with an empty string, and the content (netstrings of
  any number) with an empty netstring.  qmail's rule stays: an early end aborts.
- Of the environment, TCPREMOTEIP is ucspi-tcp's.  HELOHOST and SMTPPROTO are ours: qmail-smtpd
  writes that Received field itself.
- After exit code 0 comes the queue id, where qmail's client knows the process id of its qmail-queue
  ("qp 1234").  Exit codes 21 to 23 are ours, in the range that is permanent.
- Ids are queue ids, where qmail has inode numbers.  A spawner is handed the open message, and does
  not open the queue's file itself.  What a spawner of ours is told besides stands in further fields
  (`LOCAL_COMMAND`, `REMOTE_COMMAND`, `REMOTE_REPORT`).
- Reports R (nothing tried) and X (the message is damaged) are ours.  qmail-send defers at a letter
  that it does not know; so does whoever hears one of these and cares for no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from refmta.wire.frame import LIMITS, OCTETS, FrameError

#: Deliveries per spawner, said first: qmail's conf-spawn has 120, and a number must fit an octet.
#: A worker of ours lets 100 jobs wait (`roles.remote`).
CONCURRENCY: Final = 100
#: An address, as a path without brackets may be (RFC 5321 4.5.3.1.3).
ADDRESS_OCTETS: Final = 256
MAX_RECIPIENTS: Final = 1000
#: A piece of content.
PIECE_OCTETS: Final = LIMITS[OCTETS]
#: A report's text; qmail-send cuts at 10,000 (REPORTMAX), with the marks around it.
TEXT_OCTETS: Final = 4 * 1024
#: qmail-clean refuses longer ones.
CLEANING_OCTETS: Final = 100
#: A record of a queue file, its letter and NUL not counted.
RECORD_OCTETS: Final = 1024


class QmailError(FrameError):
    """The octets are not in the format; the text says where and why, without quoting them."""


# -- strings and records --------------------------------------------------------------------------


def string(text: str) -> bytes:
    """A text and its NUL.  Raises QmailError for one that has a NUL within, or is not UTF-8."""
    if "\0" in text:
        raise QmailError("a text with a NUL in it")
    try:
        return text.encode() + b"\0"
    except UnicodeEncodeError:
        raise QmailError("a text that is not UTF-8") from None


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise QmailError("a text that is not UTF-8") from None


class Record(NamedTuple):
    """A record, and the offset of its letter, which a mark overwrites (T done: D)."""

    offset: int
    letter: str
    text: str


def record(letter: str, text: str) -> bytes:
    """A letter, a text, NUL."""
    if len(letter) != 1 or not letter.isascii() or not letter.isalpha():
        raise QmailError("a record begins with one letter")
    octets = string(letter + text)
    if len(octets) > RECORD_OCTETS + 2:
        raise QmailError("record too long")
    return octets


def records(octets: bytes, letters: str) -> list[Record]:
    """The records of a file that holds nothing else, each with one of these letters.

    Raises QmailError, also for a last one without its NUL: the file was cut short.
    """
    found: list[Record] = []
    at = 0
    while at < len(octets):
        end = octets.find(b"\0", at, at + RECORD_OCTETS + 2)
        if end < 0:
            raise QmailError(f"the record at octet {at} is cut short, or too long")
        if end == at:
            raise QmailError(f"an empty record at octet {at}")
        text = _text(octets[at:end])
        if text[0] not in letters:
            raise QmailError(f"unknown record at octet {at}")
        found.append(Record(at, text[0], text[1:]))
        at = end + 1
    return found


def encode_envelope(sender: str, recipients: Iterable[str]) -> bytes:
    """F sender NUL (T recipient NUL)* NUL.  Raises QmailError if it is out of bounds."""
    listed = tuple(recipients)
    if not 1 <= len(listed) <= MAX_RECIPIENTS:
        raise QmailError("an envelope has 1 to 1,000 recipients")
    parts = [record("F", sender), *(record("T", each) for each in listed)]
    if max(map(len, parts)) > ADDRESS_OCTETS + 2:
        raise QmailError("address too long")
    return b"".join(parts) + b"\0"


def _envelope(texts: list[str]) -> tuple[str, tuple[str, ...]]:
    """An envelope's strings, without the empty one at its end."""
    if not texts or texts[0][:1] != "F":
        raise QmailError("an envelope begins with its sender")
    if not 1 < len(texts) <= MAX_RECIPIENTS + 1:
        raise QmailError("an envelope has 1 to 1,000 recipients")
    if any(each[:1] != "T" for each in texts[1:]):
        raise QmailError("not a recipient, in an envelope")
    if any(len(each.encode()) > ADDRESS_OCTETS + 1 for each in texts):
        raise QmailError("address too long")
    return texts[0][1:], tuple(each[1:] for each in texts[1:])


# -- to and from the spawners, and qmail-clean ----------------------------------------------------


class Form(NamedTuple):
    """A unit of a stream: perhaps a number (one octet), then texts with these caps, in octets."""

    numbered: bool
    caps: tuple[int, ...]


class Unit(NamedTuple):
    """What a `Form` describes: its number (0 if it has none) and its texts."""

    number: int
    texts: tuple[str, ...]


#: message id, sender, recipient; ours: index, time of arrival (or empty), mailbox, user.
LOCAL_COMMAND: Final = Form(True, (16, ADDRESS_OCTETS, ADDRESS_OCTETS, 5, 15, 1024, 64))
#: message id, sender, recipient; ours: index, time of arrival (or empty), destination.
REMOTE_COMMAND: Final = Form(True, (16, ADDRESS_OCTETS, ADDRESS_OCTETS, 5, 15, 280))
LOCAL_REPORT: Final = Form(True, (TEXT_OCTETS,))
#: Ours: the host that said the text (or empty), and what is known of the destination now.
REMOTE_REPORT: Final = Form(True, (TEXT_OCTETS, 300, 7))
CLEANING: Final = Form(False, (CLEANING_OCTETS,))


def unit(form: Form, texts: Iterable[str], number: int = 0) -> bytes:
    """The octets of a unit.  Raises QmailError if it is out of bounds."""
    strings = [string(each) for each in texts]
    if len(strings) != len(form.caps):
        raise QmailError("wrong number of texts")
    if any(len(each) > cap + 1 for each, cap in zip(strings, form.caps, strict=True)):
        raise QmailError("text too long")
    if not 0 <= number < (256 if form.numbered else 1):
        raise QmailError("a number is one octet")
    return (bytes((number,)) if form.numbered else b"") + b"".join(strings)


class Units:
    """Cuts a stream, split anywhere, into units of one form."""

    __slots__ = ("_buffer", "_form")

    def __init__(self, form: Form) -> None:
        self._form = form
        self._buffer = b""

    @property
    def pending(self) -> int:
        """Octets of an unfinished unit."""
        return len(self._buffer)

    def feed(self, octets: bytes) -> list[Unit]:
        """The units that are complete now.  Raises QmailError; then the cutter is spent."""
        buffer = self._buffer + octets
        units: list[Unit] = []
        at = 0
        while (cut := self._cut(buffer, at)) is not None:
            each, at = cut
            units.append(each)
        self._buffer = buffer[at:]
        return units

    def _cut(self, buffer: bytes, start: int) -> tuple[Unit, int] | None:
        """The unit that begins here, and where it ends; None if it is not all there."""
        if start == len(buffer):
            return None
        at = start + self._form.numbered
        texts: list[str] = []
        for cap in self._form.caps:
            end = buffer.find(b"\0", at, at + cap + 1)
            if end < 0:
                if len(buffer) - at > cap:
                    raise QmailError("text too long")
                return None
            texts.append(_text(buffer[at:end]))
            at = end + 1
        return Unit(buffer[start] if self._form.numbered else 0, tuple(texts)), at


class Said(NamedTuple):
    """A report's text, taken apart: K, Z, D (or R, X), the code of RFC 3463, and the rest."""

    letter: str
    enhanced: str
    text: str


REPORT_LETTERS: Final = "KZDRX"
_CODE: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})?")


def said(letter: str, enhanced: str, text: str) -> str:
    """A report's text: the letter, what was said, and the code as qmail's programs put it, (#4.2.2)
    at the end.  It is a peer's words in part, so it is made to fit.
    """
    code = f" (#{enhanced})"
    words = text.replace("\0", "?").encode(errors="replace")
    return letter + words[: TEXT_OCTETS - len(code) - 1].decode(errors="ignore") + code


def parse_said(report: str) -> Said:
    """A report's text, taken apart; one without a code is believed for its letter.  Raises
    QmailError for a letter that nobody says.
    """
    if report[:1] not in REPORT_LETTERS or not report:
        raise QmailError("a report says neither success nor failure")
    words, mark, code = report[1:].rpartition(" (#")
    if mark and code[-1:] == ")" and _CODE.fullmatch(code[:-1]):
        return Said(report[0], code[:-1], words)
    return Said(report[0], "", report[1:])


VERBS: Final = ("foop", "todo")
DONE, FAILED, NOT_UNDERSTOOD = b"+", b"!", b"x"


def cleaning(verb: str, message_id: str) -> bytes:
    """foop: remove what is left of a message; todo: it is on its way, remove what said so."""
    if verb not in VERBS:
        raise QmailError("qmail-clean knows foop and todo")
    return unit(CLEANING, [f"{verb}/{message_id}"])


# -- to and from qmail-queue ----------------------------------------------------------------------


class Opening(NamedTuple):
    """What comes before the content: the environment and the envelope."""

    environment: dict[str, str]
    sender: str
    recipients: tuple[str, ...]


class Closing(NamedTuple):
    """The content is complete, and had this many octets."""

    octets: int


#: What the environment holds, in this order, and the cap of each value in octets.
ENVIRONMENT: Final = {"TCPREMOTEIP": 64, "HELOHOST": 512, "SMTPPROTO": 5}
_LENGTH: Final = re.compile(rb"(0|[1-9][0-9]{0,5}):")
_LENGTH_OCTETS: Final = 7


def encode_opening(environment: Mapping[str, str], sender: str, recipients: Iterable[str]) -> bytes:
    """NAME=value NUL for each of `ENVIRONMENT`, NUL, envelope.  Raises QmailError, KeyError."""
    parts = [string(f"{name}={environment[name]}") for name in ENVIRONMENT]
    if any(
        len(part) > len(name) + cap + 2
        for part, (name, cap) in zip(parts, ENVIRONMENT.items(), strict=True)
    ):
        raise QmailError("value too long, in an environment")
    return b"".join(parts) + b"\0" + encode_envelope(sender, recipients)


def _environment(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text, (name, cap) in zip(texts, ENVIRONMENT.items(), strict=False):
        key, _, found[name] = text.partition("=")
        if key != name or len(found[name].encode()) > cap:
            raise QmailError("not a variable of this environment, or its value is too long")
    if len(texts) != len(ENVIRONMENT):
        raise QmailError("wrong number of variables in an environment")
    return found


def netstring(octets: bytes) -> bytes:
    """length:octets,  The empty one ends the content.  Raises QmailError if it is over the cap."""
    check_piece(len(octets))
    return b"%d:%b," % (len(octets), octets)


def check_piece(length: int) -> None:
    """Raise QmailError unless a piece of content may be as long as that."""
    if not 0 <= length <= PIECE_OCTETS:
        raise QmailError("piece of content too long")


class Submissions:
    """Cuts a stream, split anywhere, into submissions: an opening, pieces of content, a closing."""

    __slots__ = ("_buffer", "_content", "_environment", "_held", "_looked", "_octets", "_strings")

    def __init__(self) -> None:
        self._buffer = b""
        self._strings: list[str] = []
        self._held = 0
        self._environment: dict[str, str] | None = None
        self._content = False
        self._octets = 0
        #: So far there is no NUL in the buffer.
        self._looked = 0

    @property
    def opened(self) -> bool:
        """Whether its opening was handed out, and its closing was not."""
        return self._content

    def feed(self, octets: bytes) -> list[Opening | bytes | Closing]:
        """What is complete now, in order.  Raises QmailError; then the cutter is spent."""
        buffer = self._buffer + octets
        found: list[Opening | bytes | Closing] = []
        at = 0
        while at < len(buffer):
            end = self._piece(buffer, at, found) if self._content else self._text(buffer, at, found)
            if end == at:
                break
            at = end
        self._buffer = buffer[at:]
        return found

    def _text(self, buffer: bytes, at: int, found: list[Opening | bytes | Closing]) -> int:
        """Take the string that begins here, if it is all there; returns where it ends."""
        end = buffer.find(b"\0", at, at + RECORD_OCTETS + 1)
        if end < 0:
            if len(buffer) - at > RECORD_OCTETS:
                raise QmailError("string too long")
            return at
        if end > at:
            self._strings.append(_text(buffer[at:end]))
            most = len(ENVIRONMENT) if self._environment is None else MAX_RECIPIENTS + 1
            if len(self._strings) > most:
                raise QmailError("too many strings in a list")
            return end + 1
        strings, self._strings = self._strings, []
        if self._environment is None:
            self._environment = _environment(strings)
        else:
            found.append(Opening(self._environment, *_envelope(strings)))
            self._environment, self._content, self._octets = None, True, 0
        return end + 1

    def _piece(self, buffer: bytes, at: int, found: list[Opening | bytes | Closing]) -> int:
        """Take the netstring that begins here, if it is all there; returns where it ends."""
        head = _LENGTH.match(buffer, at)
        if head is None:
            if len(buffer) - at >= _LENGTH_OCTETS or not _may_begin(buffer[at:]):
                raise QmailError("content is not a netstring")
            return at
        length = int(head[1])
        check_piece(length)
        start, end = head.end(), head.end() + length
        if len(buffer) <= end:
            return at
        if buffer[end : end + 1] != b",":
            raise QmailError("a netstring ends with a comma")
        if length:
            found.append(buffer[start:end])
            self._octets += length
        else:
            found.append(Closing(self._octets))
            self._content = False
        return end + 1


def _may_begin(octets: bytes) -> bool:
    """Whether more octets may still make a length of it."""
    return octets.isdigit() and (octets[:1] != b"0" or octets == b"0")


class Exit(NamedTuple):
    """What an exit code of qmail-queue means to an SMTP client."""

    code: int
    enhanced: str
    text: str


KEPT: Final = 0
#: qmail-queue(8), EXIT CODES; 21 to 23 are ours.
EXITS: Final = {
    11: Exit(553, "5.1.3", "Bad recipient address"),
    21: Exit(553, "5.1.7", "Bad sender address"),
    22: Exit(550, "5.5.2", "Bad client name"),
    23: Exit(552, "5.3.4", "Message too large"),
    31: Exit(554, "5.3.0", "The message is refused"),
    51: Exit(451, "4.3.0", "Out of memory"),
    52: Exit(451, "4.3.0", "It took too long"),
    53: Exit(452, "4.3.1", "Insufficient system storage"),
    54: Exit(451, "4.3.0", "Message or envelope could not be read"),
    62: Exit(451, "4.3.0", "The queue could not be written"),
    71: Exit(451, "4.3.0", "The message is refused for now"),
    81: Exit(451, "4.3.0", "An error in this server"),
}
_PERMANENT, _TEMPORARY = 31, 71
_EXIT_OF: Final = {(each.code, each.enhanced): status for status, each in EXITS.items()} | {
    (451, "4.3.0"): 62
}


def exit_code(code: int, enhanced: str) -> int:
    """The exit code that says as much of a refusal as qmail-queue can say."""
    return _EXIT_OF.get((code, enhanced), _PERMANENT if code >= 500 else _TEMPORARY)


def exit_meaning(status: int) -> Exit:
    """What an exit code other than 0 means: 11 to 40 permanent, else temporary."""
    return EXITS.get(status) or EXITS[_PERMANENT if is_permanent(status) else _TEMPORARY]


def is_permanent(status: int) -> bool:
    """Whether an exit code refuses for ever."""
    return 11 <= status <= 40


def verdict(status: int, queue_id: str = "") -> bytes:
    """An exit code, and after 0 the queue id.  Raises QmailError."""
    if not 0 <= status < 256 or (status == KEPT) != bool(queue_id):
        raise QmailError("an exit code is one octet; a queue id comes with 0 alone")
    return bytes((status,)) + (string(queue_id) if status == KEPT else b"")


class Verdicts:
    """Cuts a stream, split anywhere, into (exit code, queue id or nothing)."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> int:
        """Octets of an unfinished verdict."""
        return len(self._buffer)

    def feed(self, octets: bytes) -> list[tuple[int, str]]:
        """The verdicts that are complete now.  Raises QmailError; then the cutter is spent."""
        buffer = self._buffer + octets
        found: list[tuple[int, str]] = []
        at = 0
        while at < len(buffer):
            if buffer[at] != KEPT:
                found.append((buffer[at], ""))
                at += 1
                continue
            end = buffer.find(b"\0", at + 1, at + 18)
            if end < 0:
                if len(buffer) - at > 17:
                    raise QmailError("queue id too long")
                break
            found.append((KEPT, _text(buffer[at + 1 : end])))
            at = end + 1
        self._buffer = buffer[at:]
        return found
