"""What a conforming server may do otherwise than the control: no case may fail it for that.

Each of these is a server that the standards allow, if not always love: some miss a SHOULD.  A case
that says fail to one of them is wrong.  An error is no better: the case asks for too much before
it begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer, no
from specs.conformance.controls.mailbox import Envelope
from specs.conformance.controls.planting import (
    AUTH_IN_CLEAR,
    DATA_FOR_NOBODY,
    KEEPS,
    LATE,
    Change,
    answering,
    around,
    both,
    grammar,
    having,
    house_around,
    refusing,
    saying,
    server,
    storing,
    without,
)
from specs.conformance.controls.session import Session

EXTENSIONS: Final = (
    "PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "BINARYMIME",
    "SMTPUTF8", "DELIVERBY", "MT-PRIORITY", "MTRK", "RRVS", "EXPN", "ETRN", "ATRN", "BURL",
    "FUTURERELEASE", "HELP",
)  # fmt: skip


def beside_lmtp(change: Change) -> Change:
    """LMTP demands what SMTP leaves open (RFC 2033 5): it stays as it was there."""

    return lambda parts: replace(change(parts), lmtp=parts.session)


def _bare(octets: bytes) -> bytes:
    return re.sub(rb"(?m)^([245]..[ -])[245]\.[0-9]+\.[0-9]+ ", rb"\1", octets)


def _refused(*verbs: str) -> Change:
    return both(*(refusing(f"{each}( .*)?", 502, "5.5.1") for each in verbs))


def _content(test: Callable[[bytes], bool], status: str) -> Change:
    """Content like that is refused."""

    def check(go: Any, self: Session, content: bytes, *, dotted: bool) -> None:
        go(content, dotted=dotted)
        if test(content):
            raise no(554, status, "not taken")

    return around("check_content", check)


def _verified(go: Any, self: Session, argument: str) -> Answer:
    found: Answer = go(argument)
    name = argument.removesuffix(" SMTPUTF8").strip("<>").lower()
    if name in self.house.mailboxes and "@" in name:
        return answer(250, "2.1.5", f"<{name}>")
    if name == "postmaster":
        return answer(250, "2.1.5", f"<postmaster@{self.house.hostname.partition('.')[2]}>")
    if found.code != 252 or " " in name:
        return found
    return answer(550, "5.1.1", "no such user")


def _patient(go: Any, self: Any, line: bytes) -> Answer:
    """RFC 5321 7.8: after some mistakes it is over."""
    found: Answer = go(line)
    self.mistakes = getattr(self, "mistakes", 0) + (found.code in (500, 501, 502, 503, 504, 555))
    if self.mistakes > 3:
        self.ended = True
        return answer(421, "4.7.0", "too many mistakes")
    return found


def _three_lines(go: Any, self: Session, each: Answer) -> bytes:
    octets: bytes = go(each)
    if each.code in (334, 354) or len(each.lines) > 1:
        return octets
    return go(replace(each, lines=("There is more to say:", *each.lines, "That is all.")))  # type: ignore[no-any-return]


def _hangs_up(go: Any, self: Session, content: bytes, **named: Any) -> Any:
    found = go(content, **named)
    self.ended |= any(each.enhanced == "5.6.11" for each in found)
    return found


def _for_nobody(go: Any, self: Session, content: bytes, **named: Any) -> Any:
    if self.transaction is not None and not self.transaction.recipients:
        self.transaction = None
        return [answer(554, "5.5.1", "no valid recipients")]
    return go(content, **named)


def _no_recipients_554(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None and not self.transaction.recipients:
        raise no(554, "5.5.1", "no valid recipients")
    return go(argument)


def _delivers_later(go: Any, self: Any, envelope: Envelope, content: bytes) -> None:
    self.later(max(0.5, envelope.hold_s), lambda: self.deliver(envelope, content))


def _each_again(go: Any, self: Any, envelope: Envelope, content: bytes) -> None:
    """A copy for each RCPT, also of one mailbox."""
    for each in envelope.recipients:
        go(replace(envelope, recipients=(each,)), content)


def _more_fields(octets: bytes) -> bytes:
    line, _, rest = octets.partition(b"\r\n")
    more = b"Delivered-To: somebody@control.example\r\nX-Scanned: by nobody, of\r\n\tno use\r\n"
    return line + b"\r\n" + more + rest


def _own_case(go: Any, self: Any, path: Any) -> Any:
    known = path.local in ("ada", "bob", "sender") or path.local.lower() == "postmaster"
    return go(path) if known else None


def _demands_tls(go: Any, self: Session, line: bytes) -> Answer:
    """RFC 3207 4: of a submission server."""
    free = re.match(rb"(?i)(EHLO|HELO|NOOP|QUIT|STARTTLS|RSET)\b", line)
    if self.tls or not self.door.submission or free:
        return go(line)  # type: ignore[no-any-return]
    return answer(530, "5.7.0", "STARTTLS comes first")


def _clear_auth(go: Any, self: Session) -> list[str]:
    return [*go(), *([] if self.tls or self.door.lmtp else ["AUTH PLAIN LOGIN CRAM-MD5"])]


LIBERTIES: Final[Mapping[str, Change]] = MappingProxyType(
    {
        # RFC 5321 4.1.1.4: content with a bare CR or LF may be taken, as data.
        "keeps bare CR and LF": KEEPS,
        "hangs up at bare CR and LF": around("receive_content", _hangs_up),
        # RFC 5321 6.1: a user who is not known may be found out after the message was accepted.
        "bounces unknown users": LATE,
        # RFC 5321 2.2: no extension is required.
        "no extensions": beside_lmtp(
            both(
                without(*EXTENSIONS),
                _refused("EXPN", "ETRN", "ATRN", "BURL", "BDAT"),
                saying(_bare),
            )
        ),
        "no TLS": server(tls=False),
        "no pipelining": beside_lmtp(without("PIPELINING")),
        "no enhanced codes": beside_lmtp(both(without("ENHANCEDSTATUSCODES"), saying(_bare))),
        "no chunking": both(without("CHUNKING", "BINARYMIME"), _refused("BDAT")),
        "no SMTPUTF8": without("SMTPUTF8"),
        "no DSN": without("DSN"),
        "SIZE without a number": around(
            "keywords", lambda go, self: [re.sub("^SIZE.*", "SIZE", each) for each in go()]
        ),
        # RFC 5321 4.1.4: mail without EHLO may be taken.
        "no EHLO needed": having(greeted=lambda self: None),
        # RFC 5321 3.3: DATA without recipients is 503 or 554, or 354 and then 554.
        "DATA without recipients is 554": beside_lmtp(around("do_data", _no_recipients_554)),
        "DATA without recipients is 354": beside_lmtp(
            both(DATA_FOR_NOBODY, around("receive_content", _for_nobody))
        ),
        # Maildirs of many servers have LF where the message had CRLF; binary mail cannot be there.
        "stores with LF": both(
            without("BINARYMIME"), storing(lambda octets: octets.replace(b"\r\n", b"\n"))
        ),
        "stores with its own fields": storing(_more_fields),
        "stores a copy for each RCPT": house_around("accept", _each_again),
        "delivers later": house_around("accept", _delivers_later),
        # More than the grammar has, as many servers take it.
        "spaces before a path": grammar(before_path=" *"),
        "brackets may be missing": grammar(brackets=False),
        # RFC 5321 3.5, 7.3.
        "VRFY verifies": around("do_vrfy", _verified),
        "EXPN is not there": both(without("EXPN"), _refused("EXPN")),
        "HELP is 211": answering("HELP", 211, "2.0.0"),
        "local parts have case": house_around("maildir", _own_case),
        # RFC 5321 4.5.3.1: the least that is allowed.
        "a hundred recipients": having(most_recipients=100),
        "content of 64 KiB": having(most_octets=1 << 16),
        "no lines over 1000 octets": _content(
            lambda content: any(len(each) > 998 for each in content.split(b"\r\n")), "5.6.0"
        ),
        "no NUL": _content(lambda content: b"\0" in content, "5.6.0"),
        "nothing unannounced in 8 bits": around(
            "receive_content",
            lambda go, self, content, **named: (
                go(content, **named)
                if content.isascii()
                or self.transaction.kept.get("BODY", "7BIT") != "7BIT"
                or self.international()
                else self.given_up(answer(554, "5.6.3", "8 bits were not announced"))
            ),
        ),
        # RFC 5321 7.8; RFC 3207 4; RFC 4954 4.
        "four mistakes are too many": around("command", _patient),
        "submission demands TLS": around("command", _demands_tls),
        "AUTH in the clear": both(around("keywords", _clear_auth), AUTH_IN_CLEAR),
        # Other words, other pieces.
        "three lines for each reply": around("written", _three_lines),
        "replies in small pieces": server(segment=3),
        "replies after a while": server(delay_s=0.03),
        "a greeting of two lines": around(
            "greeting",
            lambda go, self: self.written(answer(220, "", f"{self.house.hostname} ESMTP", "hello")),
        ),
        "one report a recipient": house_around(
            "report",
            lambda go, self, envelope, content, outcomes: [
                go(envelope, content, [each]) for each in outcomes
            ],
        ),
        "no FOR in Received": storing(
            lambda octets: re.sub(rb"\r\n\tfor <[^>]*>", b"", octets, count=1)
        ),
        "no results of checks": house_around("results", lambda go, self, envelope: b""),
    }
)
