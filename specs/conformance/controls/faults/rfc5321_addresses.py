"""Faults against RFC 5321 4.1.2, 4.1.3 and 4.5.3.1: addresses, and sizes."""

from __future__ import annotations

import re
from typing import Any, Final

from specs.conformance.controls.planting import (
    Fault,
    around,
    grammar,
    having,
    house_around,
    refusing,
)
from specs.conformance.controls.session import Session
from specs.conformance.controls.syntax import ATEXT, Path
from specs.conformance.model import NON_STRICT


def _twice_closed(go: Any, self: Session, line: bytes) -> Any:
    found = go(line)
    if found.code == 500 and found.enhanced == "5.5.2":
        self.ended = True
    return found


def _quoted_differs(go: Any, self: Any, path: Path) -> Any:
    return None if path.text.startswith('"') else go(path)


def _split(session: Session, octets: bytes) -> bytes:
    if session.mode != "command":
        return octets
    return re.sub(rb"([^\r\n]{2048})(?=[^\r\n])", rb"\1\r\n", octets)


FAULTS: Final = (
    Fault(
        "fifty-recipients",
        "5321-4.5.3.1.8-recipients-100",
        "No more than 50 recipients",
        having(most_recipients=50),
    ),
    Fault(
        "recipients-forgotten",
        "5321-4.5.3.1.8-recipients-none-lost",
        "Recipients beyond 99 are taken, and forgotten",
        around(
            "add_recipient",
            lambda go, self, t, *rest: go(t, *rest) if len(t.recipients) < 99 else None,
        ),
    ),
    # -- 4.1.2, 4.1.3: addresses -------------------------------------------------------------------
    Fault(
        "quoted-refused",
        "5321-4.1.2-mail-local-quoted",
        "A quoted local part is a syntax error",
        grammar(quoted="\x00"),
    ),
    Fault(
        "quoted-differs",
        "5321-4.1.2-same-quotes",
        'ada and "ada" are two mailboxes',
        house_around("maildir", _quoted_differs),
    ),
    Fault(
        "quoted-pair-kept",
        "5321-4.1.2-same-pair",
        "A quoted pair is not taken apart",
        house_around("maildir", lambda go, self, path: None if "\\" in path.text else go(path)),
    ),
    Fault(
        "dots-anywhere",
        "5321-4.1.2-mail-no-local-dots",
        "Dots may stand anywhere in a local part",
        grammar(dot_string=rf"[.{ATEXT}]+"),
        NON_STRICT,
    ),
    Fault(
        "hyphens-anywhere",
        "5321-4.1.2-mail-no-domain-hyphen-first",
        "A label may begin and end with a hyphen",
        grammar(label=r"[A-Za-z0-9-]+"),
        NON_STRICT,
    ),
    Fault(
        "underscores",
        "5321-4.1.2-mail-domain-octet-underscore",
        "A label may have an underscore",
        grammar(label=r"[A-Za-z0-9_-]+"),
        verdict=NON_STRICT,
    ),
    Fault(
        "empty-labels",
        "5321-4.1.2-mail-no-domain-empty-label",
        "A label may be empty",
        grammar(label=r"[A-Za-z0-9-]*"),
        NON_STRICT,
    ),
    Fault(
        "comments",
        "5321-4.1.2-mail-no-local-comment",
        "Comments in a path are taken out",
        around("command", lambda go, self, line: go(re.sub(rb"\([^)]*\)", b"", line))),
        NON_STRICT,
    ),
    Fault(
        "controls-in-quotes",
        "5321-4.1.2-mail-control-quoted-soh",
        "Control characters are taken",
        around(
            "command", lambda go, self, line: go(re.sub(rb"[\x00-\x09\x0b-\x1f\x7f]", b"", line))
        ),
    ),
    Fault(
        "brackets-nested",
        "5321-4.1.2-mail-no-path-nested",
        "Angle brackets are taken in an address",
        around(
            "command", lambda go, self, line: go(line.replace(b"<<", b"<").replace(b">>", b">"))
        ),
        NON_STRICT,
    ),
    Fault(
        "literals-refused",
        "5321-4.1.3-mail-v4",
        "An address literal is a syntax error",
        grammar(literals=False),
        verdict=NON_STRICT,
    ),
    Fault(
        "ipv6-refused",
        "5321-4.1.3-mail-v6",
        "IPv6 literals are a syntax error",
        refusing(r"MAIL FROM:<[^>]*\[IPv6:.*", 501, "5.1.7"),
        verdict=NON_STRICT,
    ),
    Fault(
        "literals-unchecked",
        "5321-4.1.3-mail-bad-v4-256",
        "Anything in square brackets is a literal",
        around(
            "command", lambda go, self, line: go(re.sub(rb"\[[^\]>]*\]?>", b"[127.0.0.1]>", line))
        ),
        NON_STRICT,
    ),
    Fault(
        "hash-literal",
        "5321-F.4-number-rcpt",
        "A number behind # is an address",
        around("command", lambda go, self, line: go(re.sub(rb"@#[0-9]+>", b"@[127.0.0.1]>", line))),
    ),
    # -- 4.5.3.1: sizes ----------------------------------------------------------------------------
    Fault(
        "local-32",
        "5321-4.5.3.1.1-local-rcpt",
        "A local part has 32 octets at most",
        grammar(most_local=32),
    ),
    Fault(
        "local-63",
        "5321-4.5.3.1.1-local-mail",
        "A local part has 63 octets at most",
        grammar(most_local=63),
    ),
    Fault(
        "domain-64",
        "5321-4.5.3.1.2-domain-mail",
        "A domain has 64 octets at most",
        grammar(most_domain=64),
    ),
    Fault(
        "domain-200",
        "5321-4.5.3.1.2-domain-rcpt",
        "A domain has 200 octets at most",
        grammar(most_domain=200),
    ),
    Fault(
        "path-128",
        "5321-4.5.3.1.3-path-mail",
        "A path has 128 octets at most",
        grammar(most_path=128),
    ),
    Fault(
        "path-255",
        "5321-4.5.3.1.3-path-rcpt",
        "A path has 255 octets at most",
        grammar(most_path=255),
    ),
    Fault(
        "line-256",
        "5321-4.5.3.1.4-noop",
        "A command line has 256 octets at most",
        having(most_line=256),
    ),
    Fault(
        "line-511",
        "5321-4.5.3.1.4-vrfy",
        "A command line has 511 octets at most",
        having(most_line=511),
    ),
    Fault(
        "line-split",
        "5321-4.5.3.1.4-overlong-5000-words",
        "The rest of a long line is another command",
        around("receive", lambda go, self, octets: go(_split(self, octets))),
    ),
    Fault(
        "long-line-closes",
        "5321-4.5.3.1.4-overlong-5000-letters",
        "A long line ends the connection",
        around("command", _twice_closed),
        NON_STRICT,
    ),
    Fault(
        "98-recipients",
        "5321-4.5.3.1.8-recipients-99",
        "No more than 98 recipients",
        having(most_recipients=98),
    ),
    Fault(
        "plus-in-labels",
        "5321-4.1.2-mail-domain-octet-plus",
        "A label may have a plus sign",
        grammar(label=r"[A-Za-z0-9+-]+"),
    ),
)
