"""Faults of the relay against RFC 1870, 2920, 3030, 3207, 3461, 4954, 6152, 6531, 7672 and 8689."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import trio

from specs.conformance.controls.planting import (
    line,
    relay,
    relayed,
)
from specs.conformance.controls.relay import HopReply, Letter, Relay, Wire
from specs.conformance.controls.routes import Later, Never
from specs.conformance.model import NON_STRICT


async def _remembers(self: Relay, wire: Wire) -> None:
    """What was offered before TLS is kept."""
    before = dict(wire.keywords)
    await Relay.secure(self, wire)
    await self.say(wire, f"EHLO {self.hostname}")
    wire.keywords = before


async def _hello_once(self: Relay, wire: Wire) -> None:
    if not wire.tls:
        await Relay.hello(self, wire)


async def _keeps_input(self: Relay, wire: Wire) -> None:
    left = wire.input
    await Relay.secure(self, wire)
    wire.input = left


async def _secure_and_silent(self: Relay, wire: Wire) -> None:
    await Relay.secure(self, wire)
    await self.say(wire, "NOOP")


async def _twice_tls(self: Relay, wire: Wire) -> None:
    await Relay.secure(self, wire)
    await self.say(wire, f"EHLO {self.hostname}")
    await self.say(wire, "STARTTLS")


async def _early_hello(self: Relay, wire: Wire, line: str) -> HopReply:
    """The handshake is not waited for."""
    if line == "STARTTLS":
        await wire.send(b"STARTTLS\r\nEHLO too.soon.example\r\n")
        return await self.reply(wire)
    return await Relay.say(self, wire, line)


async def _records_or_none(self: Relay, host: str) -> list[str]:
    try:
        return await Relay.dane(self, host)
    except Later:
        return []


async def _records_anyway(self: Relay, host: str) -> list[str]:
    self.validated.add(host)
    return await Relay.dane(self, host)


def _no_check(
    self: Relay, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    del self, wire, letter, waiting, failed


def _limit_zero(
    self: Relay, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    if wire.keywords.get("SIZE") == "0":
        failed.update(dict.fromkeys(waiting, Never("too large")))
    Relay.check(self, wire, letter, waiting, failed)


def _shifted(
    self: Relay, rcpts: Sequence[str], answers: Sequence[HopReply], failed: dict[str, Never]
) -> None:
    """Replies of a group are out of step by one."""
    Relay.refuse(self, rcpts, [answers[-1], *answers[:-1]], failed)


def _dsn_always(self: Relay, wire: Wire, rcpt: str, letter: Letter) -> str:
    del wire
    words = [f"{n}={v}" for n, v in letter.rcpt.items()]
    return " ".join([f"RCPT TO:<{self.shortest(rcpt)}>", *words])


def _no_dsn(self: Relay, wire: Wire, rcpt: str, letter: Letter) -> str:
    del wire, letter
    return f"RCPT TO:<{self.shortest(rcpt)}>"


def _no_relayed(self: Relay, wire: Wire, letter: Letter, taken: Sequence[str]) -> None:
    del self, wire, letter, taken


async def _goes_on(self: Relay, wire: Wire, octets: bytes) -> HopReply:
    found = await Relay.chunk(self, wire, octets)
    if not self.success(found):
        await self.say(wire, "MAIL FROM:<>")
    return found


async def _blocks(
    self: Relay, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    """As if both ends waited for the other to read."""
    if len(letter.rcpts) > 50:
        await trio.sleep_forever()
    await Relay.transact(self, wire, letter, waiting, failed)


def _rcpt(change: Callable[[str], str]) -> Callable[..., str]:
    return lambda self, wire, rcpt, letter: change(Relay.rcpt_line(self, wire, rcpt, letter))


async def _bare_keyword(self: Relay, wire: Wire) -> None:
    await Relay.hello(self, wire)
    if wire.keywords.get("SMTPUTF8"):
        raise Later("that is no keyword")


async def _plain_if_unusable(self: Relay, wire: Wire) -> None:
    await Relay.hello(self, wire)
    if wire.records and not self.usable(wire.records):
        wire.keywords.pop("STARTTLS", None)


def _all_must_match(self: Relay, certificate: bytes, records: Sequence[str]) -> None:
    for each in records:
        Relay.compare(self, certificate, [each])


def _demands_tls(
    self: Relay, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    if b"TLS-Required:" in letter.content and not wire.tls:
        failed.update(dict.fromkeys(waiting, Never("no TLS", "5.7.30")))
    Relay.check(self, wire, letter, waiting, failed)


def _auth_passed_on(self: Relay, wire: Wire, letter: Letter) -> str:
    said = Relay.mail_line(self, wire, letter)
    return f"{said} AUTH={letter.mail['AUTH']}" if "AUTH" in letter.mail else said


FAULTS: Final = (
    relayed(
        "SIZE is not looked at",
        "1870-6.2-too-large",
        verdict=NON_STRICT,
        check=_no_check,
        mail_line=line(lambda line: re.sub(" SIZE=[0-9]+", "", line)),
    ),
    relayed("SIZE 0 is a limit", "1870-3-limit-zero", check=_limit_zero),
    relayed("Just eight bits", "6152-3-not-offered", check=_no_check),
    relayed(
        "Eight bits are not declared",
        "6152-3-declared",
        verdict=NON_STRICT,
        mail_line=line(lambda line: line.replace(" BODY=8BITMIME", "")),
    ),
    relayed("Replies out of step", "2920-3.1-each-status", refuse=_shifted),
    relayed("DSN is dropped", "3461-5.2.1-notify-never", rcpt_line=_no_dsn),
    relayed("DSN is not asked for", "3461-4-not-offered", rcpt_line=_dsn_always),
    relayed("Relayed in silence", "3461-5.2.2-relayed", relayed=_no_relayed),
    relayed("Does not wait for 220", "3207-4-waits", say=_early_hello),
    relayed("No EHLO in TLS", "3207-4.2-ehlo-again", verdict=NON_STRICT, secure=_secure_and_silent),
    relayed("Remembers in TLS", "3207-4.2-forgets", secure=_remembers, hello=_hello_once),
    relayed("STARTTLS in TLS", "3207-4.2-not-again", secure=_twice_tls),
    relayed("Any certificate", "7672-2.2-mismatch", compare=lambda self, c, records: None),
    relayed("Plain for want of TLS", "7672-2.2-no-starttls", unprotected=lambda self: None),
    relayed("No DANE for want of an answer", "7672-2.1.2-servfail", dane=_records_or_none),
    relayed("What was not validated", "7672-2.1-not-secure", dane=_records_anyway),
    relayed(
        "All records are usable",
        "7672-2.2-unusable-unknown-type",
        verdict=NON_STRICT,
        usable=lambda self, records: list(records),
    ),
    relayed("Believes what came before TLS", "3207-6-injection", secure=_keeps_input),
    relayed("BDAT unasked", "3030-2-not-offered", chunked=lambda self, wire: True),
    relayed(
        "LF in chunks",
        "3030-2-line-ends",
        chunk=lambda self, wire, octets: Relay.chunk(self, wire, octets.replace(b"\r\n", b"\n")),
    ),
    relayed("Goes on after a failed chunk", "3030-2-after-failure", chunk=_goes_on),
    relayed("Blocks in a large group", "2920-3.1-large-group", transact=_blocks),
    relayed(
        "ORCPT is dropped",
        "3461-5.2.1-orcpt",
        rcpt_line=_rcpt(lambda said: re.sub(" ORCPT=[^ ]*", "", said)),
    ),
    relayed(
        "ENVID in small letters",
        "3461-5.2.1-envid",
        mail_line=line(lambda said: said.replace("ENVID=QQ", "ENVID=qq")),
    ),
    relayed(
        "NOTIFY is made up",
        "3461-5.2.1-none-invented",
        rcpt_line=_rcpt(lambda said: said + " NOTIFY=FAILURE"),
    ),
    relayed(
        "ORCPT of another",
        "3461-5.2.1-orcpt-added",
        rcpt_line=_rcpt(lambda said: said + " ORCPT=rfc822;someone@else.example"),
    ),
    relayed("Knows SMTPUTF8 without parameters only", "6531-3.1-parameters", hello=_bare_keyword),
    relayed(
        "SMTPUTF8 is not said",
        "6531-3.2-offered",
        mail_line=line(lambda said: said.replace(" SMTPUTF8", "")),
    ),
    relayed("UTF-8 to everybody", "6531-3.5-not-offered-rcpt", check=_no_check),
    relayed("UTF-8 in headers to everybody", "6531-3.5-not-offered-header", check=_no_check),
    relayed(
        "No TLS for records of no use",
        "7672-2.2-unusable-unknown-usage",
        hello=_plain_if_unusable,
        unprotected=lambda self: None,
    ),
    relayed("Every record must match", "7672-3.1.1-match", compare=_all_must_match),
    relayed(
        "TLS-Required is said again",
        "8689-3-once",
        traced=lambda self, letter: Relay.traced(self, letter).replace(
            b"\r\nFrom:", b"\r\nTLS-Required: No\r\nFrom:", 1
        ),
    ),
    relayed("TLS-Required: No is a demand", "8689-4.1-tls-required-no", check=_demands_tls),
    relayed(
        "AUTH= of anybody is passed on",
        "4954-5-untrusted-mailbox",
        behind=relay(keywords=(*Relay.keywords, "AUTH PLAIN")),
        mail_line=_auth_passed_on,
    ),
)
