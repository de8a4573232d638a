"""Who may send where: the claim about relaying, as a predicate over plain facts.

A server is no open relay (RFC 5321 section 7.9 lets it refuse; RFC 2505 section 2.1 says that it
must be able to) if a recipient is taken only when one of these holds, and whenever one does that
its operator has set up:

    ours     its domain is one of ours (who lives there is another question)
    backup   its domain is one for which we take mail from anybody
    trusted  the client's address lies in a network that may send anywhere

Addresses are numbers with a width (32 or 128 bits), networks are numbers with a prefix length: no
library decides here what lies in what.  A client without an address is never trusted.  Domains are
equal or they are not, cases aside; a suffix is another domain.
"""

from __future__ import annotations

from dataclasses import dataclass

RELAYS_ONLY = "relays_only_for_those_it_should"
RELAYS_ALL = "relays_for_all_those_it_should"
STAYS = "mail_for_ours_never_leaves"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An address: so many bits, and their value.  bits 0: no address at all."""

    bits: int
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A network: the addresses of `bits` bits that begin with the first `prefix` bits of value."""

    bits: int
    value: int
    prefix: int

    def holds(self, client: Client) -> bool:
        """Whether the address lies in it.  An IPv4 address written as IPv6 is IPv4."""
        bits, value = client.bits, client.value
        if bits == 128 and value >> 32 == 0xFFFF:
            bits, value = 32, value & 0xFFFFFFFF
        rest = self.bits - self.prefix
        return bits == self.bits and value >> rest == self.value >> rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator has set up; domains in lower case."""

    ours: frozenset[str]
    backup: frozenset[str]
    trusted: tuple[Range, ...]


def may_send(policy: Policy, client: Client, domain: str) -> bool:
    """Whether this client may send to this domain at all."""
    name = domain.lower()
    if name in policy.ours or name in policy.backup:
        return True
    return any(each.holds(client) for each in policy.trusted)


def violated(*, allowed: bool, relaying_refused: bool, accepted: bool) -> frozenset[str]:
    """What an answer at RCPT violates.  relaying_refused: it says that relaying is not allowed.

    An unknown user may be refused whatever the policy says, but not in these words.
    """
    found = set()
    if accepted and not allowed:
        found.add(RELAYS_ONLY)
    if relaying_refused and allowed:
        found.add(RELAYS_ALL)
    return frozenset(found)
