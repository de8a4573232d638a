"""Servers that do one thing wrong everywhere: what a case must be able to find, whatever it asks.

They are no controls of single cases, which `faults` are.  A case that not even these make fail is
likely to be one that cannot fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer
from specs.conformance.controls.planting import (
    KEEPS,
    LATE,
    Change,
    around,
    both,
    ending,
    having,
    house,
    house_around,
    receiving,
    reporting,
    saying,
    storing,
)
from specs.conformance.controls.session import Session

#: What a case needs before it can ask anything; all else is out of the ordinary.
ORDINARY: Final = re.compile(
    rb"(EHLO|LHLO) client\.conform\.example|MAIL FROM:<sender@client\.conform\.example>"
    rb"|RCPT TO:<(ada|bob)@control\.example>|DATA|STARTTLS|QUIT"
    rb"|AUTH PLAIN AGNhcm9sADctc2VhbGluZy13YXg="
)
#: The same, and parameters of MAIL and RCPT.
WITH_PARAMETERS: Final = re.compile(ORDINARY.pattern.replace(b">", b">( [A-Z].*)?"), re.DOTALL)


def _odd(
    what: Callable[[Any, Session, bytes], Answer], usual: re.Pattern[bytes] = ORDINARY
) -> Change:
    """Instead of the answer to whatever is out of the ordinary, or out of order."""

    def command(go: Any, self: Session, line: bytes) -> Answer:
        if usual.fullmatch(line):
            return go(line)  # type: ignore[no-any-return]
        return what(go, self, line)

    return around("command", command)


def _yes(go: Any, self: Session, line: bytes) -> Answer:
    found: Answer = go(line)
    return found if found.code < 400 else answer(250, "2.0.0", "yes")


def _hang_up(go: Any, self: Session, line: bytes) -> Answer:
    self.ended = True
    return answer(0, "")


def _forget(go: Any, self: Session, line: bytes) -> Answer:
    found: Answer = go(line)
    self.transaction, self.hello = None, ""
    return found


def _silent_zero(go: Any, self: Session, each: Answer) -> bytes:
    return b"" if each.code == 0 else go(each)


def _mangled(octets: bytes) -> bytes:
    head, _, body = octets.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + body.swapcase().replace(b"\r\n", b" \r\n").replace(b"..", b".")


def _always(self: Any, outcome: Any) -> bool:
    return True


def _never(self: Any, outcome: Any) -> bool:
    return False


BLUNT: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "yes to everything": both(
            around("command", _yes), having(check_content=lambda *_, **__: None)
        ),
        "no to what is odd": _odd(lambda go, self, line: answer(501, "5.5.2", "no")),
        "500 to what is odd": _odd(
            lambda go, self, line: answer(500, "5.5.2", "what?"), WITH_PARAMETERS
        ),
        "550 to what is odd": _odd(lambda go, self, line: answer(550, "5.7.1", "no")),
        "354 to what is odd": _odd(lambda go, self, line: answer(354, "", "go on")),
        "hangs up at what is odd": both(_odd(_hang_up), around("written", _silent_zero)),
        "silent at what is odd": both(
            _odd(lambda go, self, line: answer(0, "")), around("written", _silent_zero)
        ),
        "forgets at what is odd": _odd(_forget),
        "every reply twice": saying(
            lambda octets: octets * (not octets.startswith(b"220")) + octets
        ),
        "no content is good": having(
            receive_content=lambda self, content, *, dotted: self.given_up(
                answer(500, "5.6.0", "no")
            )
        ),
        "every end is one": both(KEEPS, ending(rb"[\r\n\0\x0b\x0c\x85 ]?\.[\r\n\0\x0b\x0c\x85 ]")),
        "nothing arrives": house_around("deliver", lambda go, self, *rest: None),
        "everything arrives at once": house_around(
            "accept", lambda go, self, *rest: [self.deliver(*rest), self.deliver(*rest)]
        ),
        "content is mangled": storing(_mangled),
        "headers are mangled": receiving(lambda content: content.replace(b": ", b":  ").swapcase()),
        "no trace": both(
            house(received=lambda *_: b"", return_path=lambda *_: b"", results=lambda *_: b"")
        ),
        "trace is mangled": storing(
            lambda octets: re.sub(
                rb"(?s)\A.*?(?=From:)", b"Received: ; by\r\nReturn-Path: x\r\n", octets
            )
        ),
        "everybody gets reports": both(LATE, house(wanted=_always)),
        "nobody gets reports": both(LATE, house(wanted=_never)),
        "reports are mangled": both(
            LATE,
            reporting(lambda octets: octets.replace(b": ", b": ; ").replace(b"-Type:", b"-Kind:")),
        ),
        "relays for everybody": having(check_recipient=lambda self, path: None),
        "keeps all in TLS": having(
            secured=lambda self: self.__dict__.update(tls=True, wants_tls=False)
        ),
    }
)
