"""Faults against RFC 1870, 2920, 3030, 2034, 6152, 6531, 8689 and smaller extensions."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, Refusal, answer, no
from specs.conformance.controls.planting import (
    Change,
    Fault,
    answering,
    around,
    both,
    having,
    house_around,
    of_mail,
    of_rcpt,
    offering,
    receiving,
    refusing,
    saying,
    server,
    then,
    without,
)
from specs.conformance.controls.session import Session
from specs.conformance.model import NON_STRICT


def _loose_size(session: Session, value: str | None) -> int:
    return int(re.sub("[^0-9]", "", (value or "")[:5]) or 0)


def _size_up_to(most: int) -> Any:
    def read(session: Session, value: str | None) -> int:
        if value is None or not value.isdigit() or int(value) > most:
            raise no(501, "5.5.4", "bad SIZE")
        return int(value)

    return read


def _wrapping(bits: int) -> Any:
    def read(session: Session, value: str | None) -> int:
        """A number of so many bits."""
        if value is None or not value.isdigit():
            raise no(501, "5.5.4", "bad SIZE")
        size = int(value) % (1 << bits)
        if size > session.most_octets:
            raise no(552, "5.3.4", "too large")
        return size

    return read


def anything(session: Session, value: str | None) -> object:
    return value or ""


def _declared_decides(go: Any, self: Session) -> Any:
    """Content ends where its declared size says."""
    declared = self.transaction.kept.get("SIZE") if self.transaction else None
    if (
        isinstance(declared, int)
        and declared
        and len(self.content) + len(self.input) - 2 >= declared
    ):
        self.content += self.input
        content, self.input = bytes(self.content[2 : declared + 2]), b""
        self.mode, self.content = "command", bytearray()
        return self.receive_content(content, dotted=False)
    return go()


def _counts_stuffing(go: Any, self: Session, content: bytes, *, dotted: bool) -> None:
    go(content, dotted=dotted)
    if len(content) + content.count(b"\r\n.") > self.most_octets:
        raise no(500, "5.3.4", "too large")


def _counts_lf(go: Any, self: Any, content: bytes, *, dotted: bool) -> None:
    go(content, dotted=dotted)
    declared = self.declared
    if declared and len(content) + content.count(b"\n") > declared:
        raise no(500, "5.3.4", "larger than declared")


def _notes_size(go: Any, self: Any, content: bytes, **named: Any) -> Any:
    self.declared = self.transaction.kept.get("SIZE", 0)
    return go(content, **named)


def _turned(go: Any, self: Session, octets: bytes) -> bytes:
    """Replies of a batch in another order."""
    out: bytes = go(octets)
    replies = re.findall(rb"(?:\d{3}-[^\n]*\n)*\d{3} [^\n]*\n", out)
    return b"".join(reversed(replies)) if len(replies) > 2 else out


def _flushes(go: Any, self: Session, line: bytes) -> Answer:
    """After an error, what is waiting is thrown away."""
    found: Answer = go(line)
    if found.code >= 500:
        self.input = b""
    return found


def _one_at_a_time(go: Any, self: Any, octets: bytes) -> bytes:
    """The last reply of a batch is sent only when more is heard."""
    held = getattr(self, "held", b"")
    out: bytes = go(octets)
    replies = re.findall(rb"(?:\d{3}-[^\n]*\n)*\d{3} [^\n]*\n", out)
    if len(replies) > 1 and not self.ended and self.mode == "command":
        self.held = replies[-1]
        return held + b"".join(replies[:-1])
    self.held = b""
    return held + out


def _drops_after_data(go: Any, self: Session, content: bytes, **named: Any) -> Any:
    """What comes in one piece with the end of data is thrown away."""
    self.input = b""
    return go(content, **named)


def _empty_for_nobody(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None and not self.transaction.recipients:
        self.mode, self.content = "content", bytearray(b"\r\n")
        return answer(354, "", "go on")
    return go(argument)


def _eats_nothing(go: Any, self: Session, argument: str) -> Any:
    """The octets of a chunk that is refused are taken for commands."""
    if self.transaction is None or not self.transaction.recipients:
        raise no(503, "5.5.1", "no valid recipients")
    return go(argument)


def _data_after_bdat(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None:
        self.transaction.chunks = None
    return go(argument)


def _data_of_binary(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None:
        self.transaction.kept.pop("BODY", None)
    return go(argument)


def _chunk_by_packet(go: Any, self: Session) -> Any:
    """A chunk ends where the packet does."""
    if self.input:
        self.left = min(self.left, len(self.input))
    return go()


def _anyhow(go: Any, self: Session, argument: str) -> Any:
    """Whatever begins with digits is a size."""
    found = re.match("[0-9]+", argument)
    return go((found[0] if found else "0") + (" LAST" if "LAST" in argument.upper() else ""))


def _keeps_chunks(go: Any, self: Any, argument: str) -> Any:
    """Chunks outlive RSET."""
    kept = self.transaction.chunks if self.transaction else None
    found = go(argument)
    self.left_over = kept
    return found


def _with_left_over(go: Any, self: Any, chunk: bytes) -> Any:
    if self.transaction is not None and self.transaction.chunks is None:
        self.transaction.chunks = getattr(self, "left_over", None)
        self.left_over = None
    return go(chunk)


def _unfinished(go: Any, self: Session, chunk: bytes) -> Any:
    """Every chunk is a message."""
    found = go(chunk)
    if not self.last and self.transaction is not None:
        self.house.accept(self.envelope(self.transaction), chunk)
    return found


def _after_last(go: Any, self: Session, chunk: bytes) -> Any:
    if self.transaction is None:
        return [answer(250, "2.0.0", "more")]
    return go(chunk)


def _without_rcpt(go: Any, self: Session, chunk: bytes) -> Any:
    if self.transaction is None or not self.transaction.recipients:
        return [answer(250, "2.0.0", "taken")]
    return go(chunk)


def _unstuffed_chunks(content: bytes) -> bytes:
    return content.replace(b"\r\n.", b"\r\n")


def _dropping(codes: bytes) -> Change:
    """Replies of that code have no enhanced one."""
    return saying(
        lambda octets: re.sub(rb"(?m)^(" + codes + rb"[ -])[245]\.\d+\.\d+ ?", rb"\1", octets)
    )


def _enhanced(old: bytes, new: bytes) -> Change:
    return saying(lambda octets: re.sub(old, new, octets))


def _first_line_only(octets: bytes) -> bytes:
    return re.sub(rb"(\r\n\d{3}[ -])[245]\.\d+\.\d+ ", rb"\1", octets)


def _utf8_without(self: Session, path: Any, allowed: bool) -> None:
    """UTF-8 needs no SMTPUTF8."""


def _ascii_only(go: Any, self: Session, path: Any, allowed: bool) -> None:
    if path.international:
        raise no(501, "5.6.7", "ASCII, please")


def _echo_utf8(go: Any, self: Session, line: bytes) -> Answer:
    found: Answer = go(line)
    if found.code >= 500 and not line.isascii():
        return replace(found, lines=(line.decode("utf-8", "replace"),))
    return found


def _cut_and_kept(go: Any, self: Any, content: bytes, **named: Any) -> None:
    try:
        go(content, **named)
    except Refusal:
        self.house.accept(self.last_envelope, content[: self.most_octets])
        raise


def _notes_envelope(go: Any, self: Any, content: bytes, **named: Any) -> Any:
    self.last_envelope = self.envelope(self.transaction)
    return go(content, **named)


def _early(session: Session, go: Any, argument: str) -> Any:
    """The size is taken on trust, and the chunk not looked at."""
    go(argument)
    session.early = True  # type: ignore[attr-defined]
    return answer(250, "2.0.0", "taken")


def _refused(code: int) -> None:
    raise no(code, "5.6.1", "not taken")


def _normalised(content: bytes) -> bytes:
    return unicodedata.normalize("NFC", content.decode("utf-8", "surrogateescape")).encode(
        "utf-8", "surrogateescape"
    )


FAULTS: Final = (
    # -- RFC 1870 ---------------------------------------------------------------------------------
    Fault(
        "size-keyword",
        "1870-3-parameter",
        "SIZE has a unit in EHLO",
        both(without("SIZE"), offering(add=["SIZE 1MB"])),
    ),
    Fault(
        "size-unchecked",
        "1870-6-letters",
        "SIZE takes anything",
        of_mail("SIZE", _loose_size),
        NON_STRICT,
    ),
    Fault(
        "size-negative",
        "1870-6-negative",
        "SIZE takes a negative number",
        of_mail("SIZE", _loose_size),
        NON_STRICT,
    ),
    Fault(
        "size-9-digits",
        "1870-5-twenty-digits",
        "SIZE has 9 digits at most",
        refusing(r"MAIL .*SIZE=[0-9]{10,}.*", 501, "5.5.4"),
    ),
    Fault(
        "size-zero-refused",
        "1870-6-zero",
        "SIZE=0 is refused",
        refusing(r"MAIL .*SIZE=0( .*)?", 501, "5.5.4"),
    ),
    Fault(
        "size-small",
        "1870-6.1-exactly",
        "A declared size below the limit is refused",
        of_mail("SIZE", _size_up_to(1000)),
    ),
    Fault(
        "size-31-bits",
        "1870-6.1-overflow-2-32-and-500",
        "A declared size is a number of 32 bits",
        both(of_mail("SIZE", _wrapping(32))),
        NON_STRICT,
    ),
    Fault(
        "size-over-354",
        "1870-6.1-just-over",
        "A size over the limit is answered 354",
        answering("MAIL .*SIZE=1048577.*", 354),
    ),
    Fault(
        "size-ends-content",
        "1870-6-declared-less",
        "A message ends at its declared size",
        around("step_content", _declared_decides),
    ),
    Fault(
        "size-with-dots",
        "1870-5-stuffing-not-counted",
        "Stuffed dots are counted",
        around("check_content", _counts_stuffing),
    ),
    Fault(
        "size-with-crcrlf",
        "1870-6.3-declared-plain",
        "Each line counts an octet more than it has",
        both(around("receive_content", _notes_size), around("check_content", _counts_lf)),
    ),
    Fault(
        "size-limit-less",
        "1870-5-below-limit",
        "The limit is lower than it is said to be",
        around(
            "keywords", lambda go, self: [re.sub("^SIZE.*", "SIZE 2097152", each) for each in go()]
        ),
    ),
    Fault(
        "size-over-closes",
        "1870-6.1-in-step-after-refusal",
        "A size over the limit ends the connection",
        then("MAIL .*SIZE=[0-9]{7,}.*", lambda self: setattr(self, "ended", True)),
    ),
    Fault(
        "size-over-delivered",
        "1870-6.3-over-limit-dropped",
        "What was too large is delivered, cut",
        both(around("receive_content", _notes_envelope), around("check_content", _cut_and_kept)),
    ),
    # -- RFC 6152 ---------------------------------------------------------------------------------
    Fault(
        "8bitmime-parameter",
        "6152-2-no-parameter",
        "8BITMIME has a parameter in EHLO",
        both(without("8BITMIME"), offering(add=["8BITMIME yes"])),
    ),
    Fault(
        "body-refused",
        "6152-3-8bitmime",
        "BODY=8BITMIME is refused",
        refusing("MAIL .*BODY=8BITMIME.*", 555, "5.5.4"),
    ),
    Fault(
        "body-7bit-refused",
        "6152-3-7bit",
        "BODY=7BIT is refused",
        refusing("MAIL .*BODY=7BIT.*", 555, "5.5.4"),
    ),
    Fault("body-unchecked", "6152-3-bad-unknown", "BODY takes anything", of_mail("BODY", anything)),
    Fault(
        "eighth-bit-lost",
        "6152-3-keeps-latin-1",
        "The eighth bit of content is lost",
        receiving(lambda content: bytes(each & 0x7F for each in content)),
    ),
    Fault(
        "latin-1-to-utf-8",
        "6152-3-keeps-utf-8",
        "Content is made UTF-8",
        receiving(lambda content: content.decode("latin-1").encode()),
    ),
    Fault(
        "nbsp-is-space",
        "6152-3-keeps-high-octets",
        "The octets 128 to 159 are dropped",
        receiving(lambda content: re.sub(rb"[\x80-\x9f]", b"", content)),
    ),
    # -- RFC 2920 ---------------------------------------------------------------------------------
    Fault(
        "pipelining-parameter",
        "2920-2-no-parameter",
        "PIPELINING has a parameter in EHLO",
        both(without("PIPELINING"), offering(add=["PIPELINING 10"])),
    ),
    Fault(
        "replies-turned",
        "2920-3.2-envelope",
        "Replies of a batch come in another order",
        around("receive", _turned),
    ),
    Fault(
        "flush-on-error",
        "2920-3.2-refused-among-accepted",
        "An error throws away what waits",
        around("command", _flushes),
    ),
    Fault(
        "reply-held-back",
        "2920-3.2-half-a-group",
        "The last reply of a batch is held back",
        around("receive", _one_at_a_time),
    ),
    Fault(
        "input-lost-after-dot",
        "2920-3.1-after-the-dot-mail",
        "What comes with the end of data is lost",
        around("receive_content", _drops_after_data),
    ),
    Fault(
        "empty-to-nobody",
        "2920-3.2-dot-for-nobody-unknown",
        "An empty message to nobody is accepted",
        around("do_data", _empty_for_nobody),
    ),
    Fault(
        "one-command-a-packet",
        "2920-3.2-two-recipients",
        "Only the first command of a packet is done",
        around(
            "receive",
            lambda go, self, octets: go(
                octets.partition(b"\r\n")[0] + b"\r\n"
                if self.mode == "command" and octets.endswith(b"\r\n")
                else octets
            ),
        ),
    ),
    # -- RFC 3030 ---------------------------------------------------------------------------------
    Fault(
        "chunking-parameter",
        "3030-2-no-parameter",
        "CHUNKING has a parameter in EHLO",
        both(without("CHUNKING"), offering(add=["CHUNKING 65536"])),
    ),
    Fault(
        "bdat-unknown",
        "3030-2-each-chunk",
        "CHUNKING is listed, and BDAT unknown",
        having(do_bdat=lambda self, argument: answer(500, "5.5.1", "what?")),
    ),
    Fault(
        "bdat-unstuffs",
        "3030-2-dots-kept-whole",
        "Dots in a chunk are taken away",
        around("receive_chunk", lambda go, self, chunk: go(_unstuffed_chunks(chunk))),
    ),
    Fault(
        "bdat-ends-at-dot",
        "3030-2-raw-dot-line",
        "A chunk ends at a dot on a line",
        around(
            "receive_chunk",
            lambda go, self, chunk: (
                go(chunk.partition(b"\r\n.\r\n")[0])
                if b"\r\n.\r\n" not in chunk
                else [answer(250, "2.0.0", "ok"), answer(500, "5.5.1", "what?")]
            ),
        ),
    ),
    Fault(
        "bdat-not-eaten",
        "3030-2-refused-rcpt",
        "The chunk of a refused BDAT is taken for commands",
        around("do_bdat", _eats_nothing),
    ),
    Fault(
        "bdat-not-eaten-in-group",
        "3030-4.2-nobody",
        "In a batch, too",
        around("do_bdat", _eats_nothing),
    ),
    Fault(
        "bdat-without-rcpt",
        "3030-2-no-rcpt",
        "BDAT needs no recipient",
        around("receive_chunk", _without_rcpt),
    ),
    Fault(
        "bdat-after-last",
        "3030-2-after-last",
        "BDAT goes on after LAST",
        around("receive_chunk", _after_last),
    ),
    Fault(
        "data-after-bdat",
        "3030-2-data-after-bdat",
        "DATA after BDAT is answered 354",
        around("do_data", _data_after_bdat),
    ),
    Fault(
        "data-of-binary",
        "3030-3-data",
        "DATA is taken with BODY=BINARYMIME",
        around("do_data", _data_of_binary),
    ),
    Fault(
        "bdat-by-packet",
        "3030-2-each-octet",
        "A chunk ends where the packet does",
        around("step_chunk", _chunk_by_packet),
    ),
    Fault(
        "bdat-anyhow", "3030-2-letters", "Any argument of BDAT will do", around("do_bdat", _anyhow)
    ),
    Fault(
        "bdat-last-in-capitals",
        "3030-2-lower-case",
        "LAST is known in capitals only",
        refusing("BDAT [0-9]+ (?-i:[a-z]+)", 501, "5.5.4"),
    ),
    Fault(
        "bdat-354",
        "3030-2-each-chunk",
        "A chunk is answered 354",
        around(
            "receive_chunk",
            lambda go, self, chunk: [
                replace(each, code=354 if each.code == 250 and not self.last else each.code)
                for each in go(chunk)
            ],
        ),
    ),
    Fault(
        "bdat-early",
        "3030-2-waits-for-octets",
        "BDAT is answered before its chunk is there",
        around("do_bdat", lambda go, self, a: _early(self, go, a)),
    ),
    Fault(
        "chunks-outlive-rset",
        "3030-2-rset-discards",
        "Chunks outlive RSET",
        both(around("do_rset", _keeps_chunks), around("receive_chunk", _with_left_over)),
    ),
    Fault(
        "chunks-delivered",
        "3030-2-unfinished-closed",
        "A message is delivered without its last chunk",
        around("receive_chunk", _unfinished),
    ),
    Fault(
        "mail-between-chunks",
        "3030-2-mail-between",
        "MAIL between chunks begins anew",
        answering("MAIL .*", 250, "2.1.0", within="transaction"),
    ),
    Fault(
        "binary-without-chunking",
        "3030-3-implies-chunking",
        "BINARYMIME is offered without CHUNKING",
        without("CHUNKING"),
    ),
    Fault(
        "binary-refused",
        "3030-3-taken",
        "BODY=BINARYMIME is refused",
        refusing("MAIL .*BODY=BINARYMIME.*", 501, "5.5.4"),
    ),
    Fault(
        "binary-line-ends",
        "3030-3-kept-line-ends",
        "Bare line ends in binary content are mended",
        receiving(lambda content: re.sub(rb"\r?\n|\r", b"\r\n", content)),
    ),
    Fault(
        "binary-nul-lost",
        "3030-3-kept-nul",
        "NULs in binary content are lost",
        receiving(lambda content: content.replace(b"\0", b"")),
    ),
    Fault(
        "binary-label-refused",
        "3030-3-binary-label-by-data",
        "A binary label needs BODY=BINARYMIME",
        around(
            "check_content",
            lambda go, self, content, **named: (
                go(content, **named) if b"binary" not in content else _refused(554)
            ),
        ),
    ),
    # -- RFC 2034, 3463, 5248 ---------------------------------------------------------------------
    Fault(
        "enhanced-parameter",
        "2034-3-no-parameter",
        "ENHANCEDSTATUSCODES has a parameter",
        both(without("ENHANCEDSTATUSCODES"), offering(add=["ENHANCEDSTATUSCODES 2"])),
    ),
    Fault("no-enhanced-250", "2034-4-noop", "250 has no enhanced code", _dropping(b"250")),
    Fault(
        "no-enhanced-500", "2034-4-unknown-command", "500 has no enhanced code", _dropping(b"500")
    ),
    Fault("no-enhanced-221", "2034-4-quit", "221 has no enhanced code", _dropping(b"221")),
    Fault("no-enhanced-550", "2034-4-unknown-rcpt", "550 has no enhanced code", _dropping(b"550")),
    Fault(
        "no-enhanced-501", "2034-4-malformed-mail", "501 has no enhanced code", _dropping(b"501")
    ),
    Fault(
        "no-enhanced-503", "2034-4-rcpt-too-early", "503 has no enhanced code", _dropping(b"503")
    ),
    Fault(
        "enhanced-wrong-class",
        "2034-4-unknown-rcpt",
        "550 has an enhanced code of class 4",
        _enhanced(rb"^550 5", b"550 4"),
    ),
    Fault(
        "enhanced-first-line",
        "2034-4-help",
        "Only the first line has an enhanced code",
        saying(_first_line_only),
    ),
    Fault(
        "enhanced-zeros",
        "3463-2-form",
        "An enhanced code has leading zeros",
        _enhanced(rb"^(5\d\d 5)\.(\d)\.(\d) ", rb"\1.0\2.0\3 "),
    ),
    Fault(
        "enhanced-unregistered",
        "5248-2.4-registered",
        "An enhanced code is not registered",
        _enhanced(rb"^250 2\.1\.0", b"250 2.9.99"),
        NON_STRICT,
    ),
    Fault(
        "enhanced-3yz",
        "2034-4-no-code-in-3yz",
        "354 has an enhanced code of class 3",
        _enhanced(rb"^354 ", b"354 3.0.0 "),
    ),
    # -- RFC 6531, 6532 ---------------------------------------------------------------------------
    Fault(
        "smtputf8-parameter",
        "6531-3.1-no-parameter",
        "SMTPUTF8 has a parameter in EHLO",
        both(without("SMTPUTF8"), offering(add=["SMTPUTF8 yes"])),
    ),
    Fault(
        "smtputf8-without-8bitmime",
        "6531-3.1-implies-8bitmime",
        "SMTPUTF8 is offered without 8BITMIME",
        without("8BITMIME"),
    ),
    Fault(
        "smtputf8-value", "6531-3.4-value", "SMTPUTF8 takes a value", of_mail("SMTPUTF8", anything)
    ),
    Fault(
        "smtputf8-refused",
        "6531-3.4-bare",
        "SMTPUTF8 is listed, and refused",
        refusing("MAIL .*SMTPUTF8.*", 555, "5.5.4"),
    ),
    Fault(
        "utf8-refused",
        "6531-3.2-mail-latin",
        "UTF-8 is a syntax error, with SMTPUTF8, too",
        around("check_international", _ascii_only),
    ),
    Fault(
        "utf8-rcpt-refused",
        "6531-3.2-rcpt-latin",
        "UTF-8 in RCPT is a syntax error",
        around("check_international", _ascii_only),
    ),
    Fault(
        "utf8-ill-formed",
        "6531-3.3-mail-latin-1",
        "Octets that are no UTF-8 are taken",
        around("command", lambda go, self, line: go(line.decode("utf-8", "ignore").encode())),
    ),
    Fault(
        "utf8-in-replies",
        "6531-3.7.4.2-ascii-unknown-command",
        "Replies show UTF-8 that came",
        around("command", _echo_utf8),
    ),
    Fault(
        "utf8-in-greeting",
        "6531-3.7.1-ehlo-ascii",
        "The name in EHLO's reply is UTF-8",
        around(
            "do_ehlo",
            lambda go, self, a: replace(go(a), lines=("m\u00fc.example", *go(a).lines[1:])),
        ),
    ),
    Fault(
        "header-normalised",
        "6532-3.1-kept-decomposed",
        "UTF-8 in a header is normalised",
        receiving(_normalised),
    ),
    Fault(
        "header-question-marks",
        "6532-3.1-kept-unstructured",
        "UTF-8 in a header becomes question marks",
        receiving(lambda content: content.decode("utf-8", "replace").encode("ascii", "replace")),
    ),
    Fault(
        "utf8-orcpt-refused",
        "6533-3-unitext",
        "ORCPT of the type utf-8 is refused",
        refusing("RCPT .*ORCPT=utf-8.*", 501, "5.5.4"),
    ),
    # -- RFC 8689 ---------------------------------------------------------------------------------
    Fault(
        "requiretls-in-clear",
        "8689-2-listed-in-clear",
        "REQUIRETLS is listed in the clear",
        offering(add=["REQUIRETLS"], within="!tls"),
    ),
    Fault(
        "requiretls-taken-in-clear",
        "8689-3-in-clear",
        "REQUIRETLS is taken in the clear",
        answering("MAIL .*REQUIRETLS.*", 250, "2.1.0", within="!tls"),
    ),
    Fault(
        "requiretls-value",
        "8689-3-value-yes",
        "REQUIRETLS takes a value",
        of_mail("REQUIRETLS", anything),
    ),
    Fault(
        "requiretls-refused",
        "8689-3-taken-as-it-is",
        "REQUIRETLS is listed, and refused",
        refusing("MAIL .*REQUIRETLS.*", 555, "5.5.4"),
    ),
    Fault(
        "requiretls-whole",
        "8689-5-ret-full",
        "A report on REQUIRETLS mail has the whole message",
        both(
            server(late=True),
            house_around("whole", lambda go, self, envelope, told: envelope.ret == "FULL"),
        ),
    ),
    # -- RFC 1985, 2852, 3885, 4468, 4865, 6710, 7293, 2645 ---------------------------------------
    Fault("etrn-354", "1985-5.1-domain", "ETRN is answered 354", answering("ETRN .+", 354)),
    Fault(
        "etrn-no-argument",
        "1985-5.2-malformed-none",
        "ETRN without a domain is answered 250",
        answering("ETRN ?", 250, "2.0.0"),
    ),
    Fault(
        "deliverby-keyword",
        "2852-2-keyword",
        "DELIVERBY has a word in EHLO",
        both(without("DELIVERBY"), offering(add=["DELIVERBY soon"])),
    ),
    Fault("by-zero", "2852-4-return-zero", "BY=0;R is taken", of_mail("BY", anything)),
    Fault(
        "by-negative",
        "2852-4-good-notify-late",
        "A negative BY with N is refused",
        refusing("MAIL .*BY=-.*", 501, "5.5.4"),
    ),
    Fault("by-malformed", "2852-4-malformed-no-mode", "BY takes anything", of_mail("BY", anything)),
    Fault(
        "by-refused",
        "2852-4-good-return",
        "BY is listed, and a syntax error",
        refusing("MAIL .*BY=.*", 501, "5.5.4"),
    ),
    Fault(
        "mtrk-anything",
        "3885-3-malformed-days-word",
        "MTRK is taken with anything",
        of_mail("MTRK", lambda session, value: None),
        NON_STRICT,
    ),
    Fault(
        "holdfor-long",
        "4865-4-for-over-submission-starttls",
        "HOLDFOR has no limit",
        of_mail("HOLDFOR", lambda session, value: 0.0),
    ),
    Fault(
        "holdfor-anything",
        "4865-4-for-word-submission-starttls",
        "HOLDFOR takes anything",
        of_mail("HOLDFOR", lambda session, value: 1.0),
    ),
    Fault(
        "holdfor-at-once",
        "4865-4-held-submission-starttls",
        "Nothing is held",
        house_around("accept", lambda go, self, envelope, content: self.deliver(envelope, content)),
    ),
    Fault(
        "holduntil-refused",
        "4865-4-until-submission-starttls",
        "HOLDUNTIL is refused",
        refusing("MAIL .*HOLDUNTIL=.*", 555, "5.5.4"),
    ),
    Fault(
        "priority-ten",
        "6710-3-malformed-ten",
        "MT-PRIORITY=10 is taken",
        of_mail("MT-PRIORITY", anything),
    ),
    Fault(
        "priority-negative",
        "6710-3-good-minus-1",
        "A negative MT-PRIORITY is refused",
        refusing("MAIL .*MT-PRIORITY=-.*", 501, "5.5.4"),
    ),
    Fault(
        "rrvs-anything", "7293-4-malformed-word", "RRVS takes anything", of_rcpt("RRVS", anything)
    ),
    Fault(
        "rrvs-refused",
        "7293-4-good-plain",
        "RRVS is a syntax error",
        refusing("RCPT .*RRVS=.*", 501, "5.5.4"),
    ),
    Fault(
        "atrn-for-all",
        "2645-5-without-auth-alone",
        "ATRN needs no AUTH",
        answering("ATRN.*", 453, "4.3.0"),
        NON_STRICT,
    ),
    Fault(
        "burl-for-all",
        "4468-3.1-before-rcpt-imap-submission-starttls",
        "BURL needs no AUTH",
        answering("BURL .*", 250, "2.5.0"),
    ),
    Fault(
        "burl-malformed",
        "4468-3.2-malformed-submission-starttls",
        "BURL needs no URL",
        answering("BURL.*", 250, "2.5.0"),
    ),
)
