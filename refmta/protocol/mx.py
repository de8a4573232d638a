"""Which hosts take the mail of a destination, and in which order (RFC 5321 section 5.1).

The shell asks the DNS; this file says what to ask and what the answers mean.  First the levels of
a destination, best first, each a set of host names of one preference; then, level by level and
only as far as needed, the addresses of its hosts.

    hop "example.net" -> MX answer -> levels | Refusal
        level 1 -> address answers -> candidates, or: that is us, stop here
        level 2 ...
    nothing tried at all -> refusal()

Rules a reader may rely on
- Pure: answers and chance (numbers in [0, 1)) are arguments.  Names are compared in lower case.
- Lower preferences first; equal ones in the order of their chances (5.1: "MUST randomize them").
- The domain's own address stands in for its MX only if there is no MX record at all (5.1, the
  implicit MX): not when the look-up failed, nor when the exchangers have no address.
- Null MX, "." alone (RFC 7505): never any host, and no fallback.  "." beside others is no host.
- Never to ourselves: a level that holds one of our names or addresses is dropped with all that
  follow it (5.1: "all records at that preference level and higher-numbered ones MUST be
  discarded").  A whole level is resolved before any host of it is tried, or chance would decide
  whether we find ourselves in time.
- At most `ADDRESSES` addresses are tried, of both families if there are both.

What is tricky
- The domain may be an alias (5.1: "the resulting name is processed as if it were the initial
  name"); the resolver follows it.  The target of an MX must not be one ("that query MUST return
  at least one address record"), but many are, and everyone follows those, too.
- No such domain is final.  A silent or failing name server says nothing about the domain: later.
- An address is us only at a port of ours: another server may share our address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

from refmta.protocol.relaying import Hop

#: Addresses tried for one message (Postfix smtp_mx_address_limit, Exim hosts_max_try: 5; RFC 5321
#: section 5.1: at least two).
ADDRESSES: Final = 5
#: MX records, and addresses of one host, that are looked at; more than these are not mail.
RECORDS: Final = 100

_is_host = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z").match


class Absent(Enum):
    """A definite answer without records."""

    NO_DATA = "the name has no such record"
    NO_DOMAIN = "no such name"


@dataclass(frozen=True, slots=True)
class Trouble:
    """No definite answer: the name server failed, or was silent.  `text`: printable, ours."""

    text: str


@dataclass(frozen=True, slots=True)
class Exchanger:
    """An MX record.  host: without the last dot; "" is the root."""

    preference: int
    host: str


MxAnswer: TypeAlias = tuple[Exchanger, ...] | Absent | Trouble
AddressAnswer: TypeAlias = tuple[str, ...] | Absent | Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No host is to be tried: the outcome of every recipient."""

    kind: Literal["deferred", "failed"]
    enhanced: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Who we are: names in lower case, addresses as `ipaddress` spells them, ports we listen at."""

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset({25})


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Host names by preference, best first.

    cut: one of our names ended the list.  listed: they come from MX records.
    """

    hosts: tuple[tuple[str, ...], ...]
    cut: bool = False
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address to connect to, and the name that led there (or its literal)."""

    host: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The candidates of one level, in order.

    cut: the level holds one of our addresses; it has no candidates, and no level follows it.
    trouble: what failed while it was resolved, "" for nothing.
    """

    candidates: tuple[Candidate, ...] = ()
    cut: bool = False
    trouble: str = ""


# -- levels ---------------------------------------------------------------------------------------


def direct(hop: Hop) -> Levels:
    """The levels of a hop that has no MX look-up: its host."""
    return Levels(hosts=((hop.host,),))


def levels(
    domain: str, answer: MxAnswer, own: Own, port: int, chances: Sequence[float]
) -> Levels | Refusal:
    """What the MX answer for a domain means.  chances: one per record, at least."""
    match answer:
        case Trouble():
            return Refusal(
                kind="deferred", enhanced="4.4.3", text=f"MX look-up of {domain}: {answer.text}"
            )
        case Absent.NO_DOMAIN:
            return Refusal(kind="failed", enhanced="5.1.2", text=f"no such domain: {domain}")
        case Absent.NO_DATA:
            return _cut(((domain,),), own, port, listed=False)
        case _:
            return _listed(domain, answer, own, port, chances)


def _listed(
    domain: str, answer: tuple[Exchanger, ...], own: Own, port: int, chances: Sequence[float]
) -> Levels | Refusal:
    records = answer[:RECORDS]
    if {record.host for record in records} == {""}:
        # RFC 7505 section 4.2: 556 and 5.1.10.
        return Refusal(kind="failed", enhanced="5.1.10", text=f"{domain} takes no mail (null MX)")
    order = sorted(range(len(records)), key=lambda at: (records[at].preference, chances[at]))
    by_preference: dict[int, dict[str, None]] = {}
    named: set[str] = set()
    for record in [records[at] for at in order]:
        host = record.host.lower()
        if len(host) <= 253 and _is_host(host) and host not in named:
            named.add(host)
            by_preference.setdefault(record.preference, {})[host] = None
    return _cut(tuple(tuple(hosts) for hosts in by_preference.values()), own, port, listed=True)


def _cut(hosts: tuple[tuple[str, ...], ...], own: Own, port: int, *, listed: bool) -> Levels:
    """Drop the level that holds one of our names, and what follows it."""
    for at, level in enumerate(hosts):
        if port in own.ports and not own.names.isdisjoint(level):
            return Levels(hosts=hosts[:at], cut=True, listed=listed)
    return Levels(hosts=hosts, listed=listed)


# -- addresses ------------------------------------------------------------------------------------


def found(
    hosts: Sequence[str],
    answers: Mapping[str, AddressAnswer],
    own: Own,
    port: int,
    limit: int,
    chances: Sequence[float],
) -> Found:
    """The candidates of a level: `limit` (1 or more) at most.  chances: one per host, at least."""
    candidates: list[Candidate] = []
    troubles: list[str] = []
    for host, chance in zip(hosts, chances, strict=False):
        answer = answers[host]
        if isinstance(answer, Trouble):
            troubles.append(f"address look-up of {host}: {answer.text}")
        elif not isinstance(answer, Absent):
            # A host with some of ours is us, whatever else it has.
            if port in own.ports and any(is_own(address, own) for address in answer):
                return Found(cut=True)
            candidates += [Candidate(host, each) for each in _alternating(answer, chance)]
    return Found(candidates=balanced(candidates, limit), trouble="; ".join(troubles[:3]))


def is_own(address: str, own: Own) -> bool:
    """Whether a connection to this address reaches ourselves (at a port of ours).

    The unspecified and the usual loopback addresses are us on every machine.
    """
    if address in own.addresses or address in ("127.0.0.1", "::1"):
        return True
    return ipaddress.ip_address(address).is_unspecified


def _alternating(addresses: Sequence[str], chance: float) -> list[str]:
    """Families in turn, so that one that leads nowhere costs one attempt; chance says who begins,
    and which address of a family is first."""
    families: list[list[str]] = [[], []]
    for address in dict.fromkeys(addresses[:RECORDS]):
        families[(":" in address) ^ (chance < 0.5)].append(address)
    for each in families:
        at = int(chance * 2 % 1 * len(each))
        each[:] = each[at:] + each[:at]
    first, second = families
    both = min(len(first), len(second))
    pairs = [each for pair in zip(first, second, strict=False) for each in pair]
    return pairs + first[both:] + second[both:]


def balanced(candidates: Sequence[Candidate], limit: int) -> tuple[Candidate, ...]:
    """The first ones; the last place goes to the other family if it would have none (Postfix's
    smtp_balance_inet_protocols)."""
    chosen = list(candidates[:limit])
    if limit > 1 and len({":" in each.address for each in chosen}) == 1:
        family = ":" in chosen[0].address
        other = next((each for each in candidates if (":" in each.address) != family), None)
        if other is not None:
            chosen[-1] = other
    return tuple(chosen)


def refusal(domain: str, levels: Levels, *, cut: bool, trouble: str) -> Refusal:
    """Why not a single address was tried.  cut, trouble: of the levels that were resolved."""
    if trouble:
        return Refusal(kind="deferred", enhanced="4.4.3", text=trouble)
    if cut or levels.cut:
        return Refusal(kind="failed", enhanced="5.4.6", text=f"mail for {domain} loops to myself")
    if levels.listed:  # Postfix: smtp_defer_if_no_mx_address_found = no
        text = f"no mail exchanger of {domain} has an address"
        return Refusal(kind="failed", enhanced="5.4.4", text=text)
    return Refusal(kind="failed", enhanced="5.1.2", text=f"{domain} has no address for mail")
