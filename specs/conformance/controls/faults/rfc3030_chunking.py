"""Faults against RFC 3030: BDAT and BINARYMIME."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import answer, no
from specs.conformance.controls.planting import (
    Fault,
    answering,
    around,
    both,
    having,
    offering,
    receiving,
    refusing,
    without,
)
from specs.conformance.controls.session import Session


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


def _early(session: Session, go: Any, argument: str) -> Any:
    """The size is taken on trust, and the chunk not looked at."""
    go(argument)
    session.early = True  # type: ignore[attr-defined]
    return answer(250, "2.0.0", "taken")


def _refused(code: int) -> None:
    raise no(code, "5.6.1", "not taken")


FAULTS: Final = (
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
    Fault(
        "binary-parameter",
        "3030-3-no-parameter",
        "BINARYMIME has a parameter in EHLO",
        both(offering(drop=["BINARYMIME"]), offering(add=["BINARYMIME yes"])),
    ),
    Fault(
        "data-not-with-chunking",
        "3030-2-data-still-works",
        "DATA is gone where CHUNKING is listed",
        refusing("DATA", 502, "5.5.1"),
    ),
)
