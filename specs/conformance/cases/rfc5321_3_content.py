"""RFC 5321 sections 3.3 (its end) and 3.7.2: what a message must or should not be refused for.

Tricky
- A message that is odd follows an ordinary one on the same connection: who refuses both does so
  for another reason.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session

here = Section("5321")

HEAD: Final = "From: <{sender}>\r\nTo: <{rcpt}>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n"
#: Headers that are defective, whole: {token} in each.
DEFECTS = (
    ("empty", ""), ("only-a-body", "\r\n{token}\r\n"), ("no-header-end", "Subject: {token}\r\n"),
    ("no-colon", HEAD + "this is no field {token}\r\n\r\nbody\r\n"),
    ("no-date", "From: <{sender}>\r\nMessage-ID: <{token}@x.example>\r\n\r\nbody\r\n"),
    ("no-from", "Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nSubject: {token}\r\n\r\nbody\r\n"),
    ("no-message-id", HEAD + "Subject: {token}\r\n\r\nbody\r\n"),
    ("no-recipient-field", "From: <{sender}>\r\nSubject: {token}\r\n\r\nbody\r\n"),
    ("bad-date", "From: <{sender}>\r\nDate: yesterday\r\nSubject: {token}\r\n\r\nbody\r\n"),
    ("bad-from", "From: nobody in particular <\r\nSubject: {token}\r\n\r\nbody\r\n"),
    ("two-from", "From: <a@x.example>\r\n" + HEAD + "Subject: {token}\r\n\r\nbody\r\n"),
    ("two-subject", HEAD + "Subject: {token}\r\nSubject: again\r\n\r\nbody\r\n"),
    ("bad-message-id", HEAD + "Message-ID: {token}\r\n\r\nbody\r\n"),
    ("unix-from", "From x@x.example Mon Nov  2 10:00:00 2026\r\n" + HEAD + "\r\n{token}\r\n"),
    ("unclosed-multipart", HEAD + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; "
     'boundary="b"\r\n\r\n--b\r\n\r\n{token}\r\n'),
    ("bad-base64", HEAD + "MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n"
     "*** {token}\r\n"),
    ("bad-content-type", HEAD + "MIME-Version: 1.0\r\nContent-Type: ;;;\r\n\r\n{token}\r\n"),
)  # fmt: skip
#: 3.3 again: never a reason to refuse.
RESENT = (
    ("to-alone", "Resent-To: <x@x.example>\r\n"),
    ("to-without-date", "Resent-From: <x@x.example>\r\nResent-To: <x@x.example>\r\n"),
    ("date-alone", "Resent-Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n"),
    ("counts-differ", "Resent-From: <x@x.example>\r\nResent-From: <y@x.example>\r\n"
     "Resent-To: <z@x.example>\r\n"),
    ("message-ids", "Resent-Message-ID: <1@x.example>\r\nResent-Message-ID: <2@x.example>\r\n"),
)  # fmt: skip
#: 3.7.2: trace fields of whatever form.
TRACES = (
    ("received-nonsense", "Received: nonsense\r\n"), ("received-empty", "Received:\r\n"),
    ("received-no-date", "Received: from a.example by b.example with ESMTP id 1\r\n"),
    ("received-bad-date", "Received: from a.example by b.example; some day\r\n"),
    ("received-two-digit-year", "Received: from a by b; Mon, 2 Nov 98 10:00:00 GMT\r\n"),
    ("received-foreign", "Received: FROM NODE::USER (\\NODE\\1 via gateway); 02-NOV-1998\r\n"),
    ("received-folded", "Received:\r\n\tfrom a.example\r\n\tby b.example;\r\n\tnever\r\n"),
    ("received-small", "received: (qmail 1 invoked by uid 1); 2 Nov 1998 10:00:00 -0000\r\n"),
    ("received-long", "Received: from a.example by b.example (" + "x" * 800 + "); never\r\n"),
    ("return-path", "Return-Path: nonsense\r\n"),
    ("return-paths", "Return-Path: <a@x.example>\r\nReturn-Path: <b@x.example>\r\n"),
    ("x-trace", "X-Received: by x; y\r\nDelivered-To: someone@x.example\r\n"),
)  # fmt: skip


async def _accepted(talk: Session) -> None:
    """An ordinary message, accepted.  Raises Refused."""
    reply = await talk.transact()
    if not reply.positive:
        raise Refused("an ordinary message", reply)


def _defect(slug: str, octets: str) -> None:
    @here.case(
        f"3.3-content-{slug}", level="SHOULD NOT", clauses="5321-3.3-f", needs="rcpt",
        requirement="A message is not refused for a defect of its header or its MIME structure",
        sent=f"an ordinary message, then one with this defect: {slug}",
        allowed={"2yz": PASS, "4yz": INFO, "5yz": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await _accepted(talk)
        return await talk.transact(talk.fill(octets).encode())


def _odd(name: str, clause: str, requirement: str, headers: str) -> None:
    @here.case(
        name, level="MUST NOT", clauses=clause, requirement=requirement, needs="rcpt",
        sent=f"an ordinary message, then one with {headers[:60]!r}",
        allowed={"2yz": PASS, "4yz": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await _accepted(talk)
        # trace fields stand above the others
        return await talk.transact(headers.encode() + talk.message())


for _slug, _octets in DEFECTS:
    _defect(_slug, _octets)
for _slug, _octets in RESENT:
    _odd(
        f"3.3-resent-{_slug}", "5321-3.3-k",
        "A message is not refused because its Resent- fields do not match", _octets,
    )  # fmt: skip
for _slug, _octets in TRACES:
    _odd(
        f"3.7.2-{_slug}", "5321-3.7.2-b",
        "A message is not refused for the form of its trace fields", _octets,
    )  # fmt: skip
