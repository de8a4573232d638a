"""The letters that a storm sends, and how one is recognised wherever it turns up again.

Rules a reader may rely on
- A letter is a function of (run, number, attempt): nobody needs to keep ten thousand of them.
- Its first header line names it: `X-Storm: run=..; letter=..; attempt=..`. Everything from there
  to the end is its own and must come through octet for octet; what stands above it was added on
  the way, and may only be trace fields (RFC 5321 4.4) and what mail systems add at delivery.
- A letter that is sent again has the same token and a new attempt: otherwise a second delivery of
  one attempt could not be told from the only delivery of two.
- Digests are over the octets with LF for CRLF: a Maildir has the one, SMTP the other.

What is tricky: a report about a letter carries that header line as well, in its last part. So a
letter is recognised by its *header* only; `named` finds the name anywhere, for reports.

It does not send, read or judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Final

MARK: Final = b"X-Storm: "
_NAME = re.compile(
    rb"^X-Storm: run=([0-9a-z]{1,16}); letter=([0-9]{1,9}); attempt=([0-9]{1,6})\r?$", re.MULTILINE
)
#: Header lines that a mail system may put on top of what it was given.
ADDED: Final = (
    b"return-path:", b"received:", b"delivered-to:", b"x-original-to:", b"envelope-to:",
    b"delivery-date:", b"x-envelope-to:", b" ", b"\t",
)  # fmt: skip
#: Octets in which the name of a letter is looked for, from the front.
HEADER_OCTETS: Final = 16 * 1024
DIGEST_OCTETS: Final = 16
#: The length of a header line.
FOLDED_AT: Final = 78
#: One in so many letters is large, with so many octets: it is under way for a while.
LARGE_ONE_IN, LARGE_OCTETS = 100, 200_000
_LINES = (b"the quick brown fox", b".", b"..", b". leading dot", b"", b"From here on", b"x" * 900)


@dataclass(frozen=True, slots=True, order=True)
class Copy:
    """One attempt to send a letter. token: run and number, the same for all attempts."""

    token: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.token}/{self.attempt}"


@dataclass(frozen=True, slots=True)
class Recognised:
    """A letter that was found. clean: only trace fields stand above it."""

    copy: Copy
    digest: bytes
    clean: bool


def compose(
    run: str, number: int, attempt: int, sender: str, recipients: tuple[str, ...], octets: int = 0
) -> bytes:  # fmt: skip
    """The letter's octets, with CRLF, before dot-stuffing; all ASCII. run: of [0-9a-z]; octets: of
    the body, at least; 0: as chance will have it.
    """
    random = Random(f"{run}/{number}")  # noqa: S311  not the attempt: the body stays the same
    head = (
        f"X-Storm: run={run}; letter={number}; attempt={attempt}\r\n"
        f"From: <{sender or 'nobody@storm.invalid'}>\r\n"
        f"{_addressed(recipients)}\r\n"
        f"Subject: letter {number}\r\n"
        f"Message-ID: <{run}.{number}.{attempt}@storm.invalid>\r\n"
        "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        "\r\n"
    ).encode("ascii")
    lines = random.choices(_LINES, k=random.randint(1, 12))
    body = b"\r\n".join([*lines, b"end", b""])
    if random.randrange(LARGE_ONE_IN) == 0:
        octets = max(octets, LARGE_OCTETS)
    return head + body * (octets // len(body) + 1)


def _addressed(recipients: tuple[str, ...]) -> str:
    """The To field, folded as sendmail folds every such field that it passes on: anything else it
    would alter.
    """
    lines = [f"To: <{recipients[0]}>"]
    for each in recipients[1:]:
        if len(lines[-1]) + len(f", <{each}>") <= FOLDED_AT:
            lines[-1] += f", <{each}>"
        else:
            lines[-1] += ","
            lines.append(f"{' ' * 8}<{each}>")
    return "\r\n".join(lines)


def token_of(run: str, number: int) -> str:
    """What all attempts of a letter have in common."""
    return f"{run}-{number}"


def digest(octets: bytes) -> bytes:
    """Of a letter's own octets, whichever line ends they have."""
    return blake2b(octets.replace(b"\r\n", b"\n"), digest_size=DIGEST_OCTETS).digest()


def recognise(octets: bytes) -> Recognised | None:
    """The letter that a delivered message is; None if it is none of ours."""
    top = octets[:HEADER_OCTETS]
    ends = [at for at in (top.find(b"\n\n"), top.find(b"\n\r\n")) if at >= 0]
    match = _NAME.search(top, 0, min(ends) + 1 if ends else len(top))
    if match is None:
        return None
    above = top[: match.start()].splitlines()
    return Recognised(
        _copy(match),
        digest(octets[match.start() :]),
        all(line.lower().startswith(ADDED) for line in above),
    )


def named(octets: bytes) -> Copy | None:
    """The first letter that is named anywhere, for reports and for what lies in a queue."""
    match = _NAME.search(octets)
    return _copy(match) if match else None


def _copy(match: re.Match[bytes]) -> Copy:
    run, number, attempt = (each.decode("ascii") for each in match.groups())
    return Copy(token_of(run, int(number)), int(attempt))
