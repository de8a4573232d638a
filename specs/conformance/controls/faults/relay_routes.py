"""Faults of the relay against RFC 5321 3.6 and 5, and RFC 7505: where to, and reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import dns.message
import dns.rcode

from specs.conformance.controls.planting import (
    relayed,
)
from specs.conformance.controls.relay import Letter, Relay
from specs.conformance.controls.routes import Later, Never
from specs.conformance.model import NON_STRICT


async def _address_first(self: Relay, domain: str) -> list[str]:
    return await self.addresses(domain) or await Relay.hosts(self, domain)


async def _address_last(self: Relay, domain: str) -> list[str]:
    """If the MX records lead nowhere."""
    try:
        return [*await Relay.hosts(self, domain), *await self.addresses(domain)]
    except (Never, Later):
        return await self.addresses(domain, need=True)


async def _no_implicit(self: Relay, domain: str) -> list[str]:
    if not (await self.lookup(domain, "MX"))[1]:
        raise Never("no MX")
    return await Relay.hosts(self, domain)


async def _null_falls_back(self: Relay, domain: str) -> list[str]:
    try:
        return await Relay.hosts(self, domain)
    except Never as never:
        if never.status == "5.1.10":
            return await self.addresses(domain, need=True)
        raise


def _alphabetical(self: Relay, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    del self
    return sorted(rows, key=lambda row: str(row[0]))


def _highest(self: Relay, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    del self
    return sorted(rows, reverse=True)


def _by_name(self: Relay, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    del self
    return sorted(rows)


def _not_oneself(self: Relay, rows: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [row for row in rows if row[1].lower() != self.hostname]


def _failure_is_absence(
    self: Relay, answer: dns.message.Message, name: str, kind: str
) -> tuple[str, list[str]]:
    """SERVFAIL as if there were no such records."""
    answer.set_rcode(dns.rcode.NOERROR)
    return Relay.understood(self, answer, name, kind)


def _failure_is_final(
    self: Relay, answer: dns.message.Message, name: str, kind: str
) -> tuple[str, list[str]]:
    try:
        return Relay.understood(self, answer, name, kind)
    except Later:
        raise Never("no such domain") from None


def _no_aliases(
    self: Relay, answer: dns.message.Message, name: str, kind: str
) -> tuple[str, list[str]]:
    if any(str(each).startswith("target.") for s in answer.answer for each in s):
        return name, []
    return Relay.understood(self, answer, name, kind)


def _report_to(who: Callable[[Letter], str]) -> Callable[..., None]:
    def bounce(self: Relay, letter: Letter, content: bytes) -> None:
        self.send(Letter(sender="", rcpts=(who(letter),), content=content))

    return bounce


def _report_from(self: Relay, letter: Letter, content: bytes) -> None:
    sender = f"postmaster@{letter.sender.rpartition('@')[2]}"
    self.send(Letter(sender=sender, rcpts=(letter.sender,), content=content))


def _report_always(self: Relay, letter: Letter, failed: Mapping[str, Never]) -> None:
    """For an empty sender, to whom Return-Path names."""
    found = re.search(rb"^Return-Path: <(.+)>", letter.content, re.MULTILINE)
    if not letter.sender and found:
        self.bounce(Letter(sender=found[1].decode(), rcpts=(), content=b""),
                    self.written(letter, failed))  # fmt: skip
    Relay.report(self, letter, failed)


def _report_all(self: Relay, letter: Letter, failed: Mapping[str, Never]) -> None:
    """Also who was delivered."""
    one = next(iter(failed.values()))
    Relay.report(self, letter, dict.fromkeys(letter.rcpts, one))


def _silent(self: Relay, letter: Letter, failed: Mapping[str, Never]) -> None:
    del self, letter, failed


def _plain_report(
    self: Relay, letter: Letter, failed: Mapping[str, Never], action: str = ""
) -> bytes:
    del action
    return (
        f"From: <postmaster@{self.hostname}>\r\nTo: <{letter.sender}>\r\nSubject: failed\r\n\r\n"
        f"{', '.join(failed)}\r\n"
    ).encode()


async def _one_host(self: Relay, domain: str) -> list[str]:
    return (await Relay.hosts(self, domain))[:1]


async def _final_visit(
    self: Relay, address: str, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    try:
        await Relay.visit(self, address, letter, waiting, failed)
    except OSError:
        raise Never("it does not answer") from None


def _last_of_route(self: Relay, path: str) -> str:
    """@a,@b:user@c is sent to b."""
    route, _, mailbox = path.rpartition(":")
    last = route.rpartition("@")[2]
    return f'"{mailbox}"@{last}' if last else mailbox


FAULTS: Final = (
    # -- reports -----------------------------------------------------------------------------------
    relayed("No reports", "5321-3.6.3-report", report=_silent),
    relayed("A report has a sender", "5321-3.6.3-null-path", bounce=_report_from),
    relayed("A report in free form", "5321-3.6.3-form", verdict=NON_STRICT, written=_plain_report),
    relayed(
        "A report to the wrong one",
        "5321-6.1-recipient",
        bounce=_report_to(lambda letter: letter.sender.lower()),
    ),
    relayed("A report for an empty sender", "5321-4.5.5-null-not-reported", report=_report_always),
    relayed("A report of reports", "5321-6.1-no-report-of-report", bounce=_report_from),
    relayed("A report of all", "5321-3.6.3-names-recipient", report=_report_all),
    # -- names -------------------------------------------------------------------------------------
    relayed("The address first", "5321-5.1-mx-first", hosts=_address_first),
    relayed("No implicit MX", "5321-5.1-implicit-mx", hosts=_no_implicit),
    relayed("Preferences as text", "5321-5.1-order-numeric", ordered=_alphabetical),
    relayed("The highest first", "5321-5.1-order-two", ordered=_highest),
    relayed("No chance among equals", "5321-5.1-equal", ordered=_by_name),
    relayed("Aliases are not followed", "5321-5.1-cname", understood=_no_aliases),
    relayed("The address at last", "5321-5.1-unusable-no-such-host", hosts=_address_last),
    relayed(
        "The address at last, after refusals", "5321-5.1-unusable-refuses", hosts=_address_last
    ),
    relayed(
        "The address for want of an answer", "5321-5.1-mx-servfail", understood=_failure_is_absence
    ),
    relayed("SERVFAIL is for ever", "5321-5.1-servfail", understood=_failure_is_final),
    relayed("Does not know itself", "5321-5.1-self-first", before_oneself=_not_oneself),
    relayed("A null MX is passed over", "7505-3-address-unused", hosts=_null_falls_back),
    relayed(
        "One host that is down is the end",
        "5321-5.1-next-refuses",
        hosts=_one_host,
        visit=_final_visit,
    ),
    relayed("A short cut through a route", "5321-F.2-no-shortcut", unrouted=_last_of_route),
)
