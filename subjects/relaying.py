"""refmta's routing as `specs.relaying` sees it, and wrong versions of it that the claim must catch.

The judge puts every client to every recipient under every policy below: at both edges of every
network, in every spelling of an address, for domains that resemble one another.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from refmta.protocol import relaying, routing
from refmta.wire.address import Mailbox, parse_mailbox
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.relaying import RELAYS_ALL, RELAYS_ONLY, STAYS, Client, Policy, Range, may_send, violated

OURS, HOSTNAME, BACKUP = "example.org", "mx.example.org", "backup.example"
LITERAL = "[127.0.0.1]"
NETWORKS = ("127.0.0.0/8", "192.0.2.64/26", "2001:db8::/32", "::1", "203.0.113.9")
POLICIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ()),
    ((), (BACKUP,)),
    *(((network,), ()) for network in NETWORKS),
    (NETWORKS, (BACKUP,)),
)
DOMAINS = (
    OURS, HOSTNAME, BACKUP, "example.net", "org", "ample.org", "sub.example.org", "example.org.net",
    "notexample.org", "sub.backup.example", "backup.example.net", "kbackup.example", "example",
    LITERAL, "[127.0.0.2]", "[IPv6:::1]", "[IPv6:2001:db8::1]",
)  # fmt: skip
LOCALS = ("ada", "nobody", "ada+x", "ada%example.net", "ada@example.net", "out", "example.net!ada")
#: What has no address: nobody may be let in who looks like this.
NOBODY = (
    "",
    "unknown",
    "localhost",
    "127.0.0.1/8",
    "127.1",
    "0x7f000001",
    "127.0.0.1 ",
    "mx.example",
)


def clients() -> Iterator[tuple[str, Client]]:
    """Both edges of each network and the addresses beside them, IPv4 also written as IPv6."""
    for text in NOBODY:
        yield text, Client(bits=0)
    for network in map(ipaddress.ip_network, NETWORKS):
        bits, first = network.max_prefixlen, int(network.network_address)
        last = first + 2 ** (bits - network.prefixlen) - 1
        for value in (first - 1, first, last, last + 1):
            kind = ipaddress.IPv4Address if bits == 32 else ipaddress.IPv6Address
            yield str(kind(value)), Client(bits=bits, value=value)
            if bits == 32:
                mapped = 0xFFFF << 32 | value
                yield str(ipaddress.IPv6Address(mapped)), Client(bits=128, value=mapped)
                low = ipaddress.IPv6Address(value)  # the same digits, and another address
                yield str(low), Client(bits=128, value=value)


def policy(networks: Sequence[str], domains: Sequence[str]) -> Policy:
    """The claim's view of a configuration."""
    ranges = tuple(
        Range(bits=each.max_prefixlen, value=int(each.network_address), prefix=each.prefixlen)
        for each in map(ipaddress.ip_network, networks)
    )
    ours = frozenset({OURS, HOSTNAME, LITERAL})
    return Policy(ours=ours, backup=frozenset(domains), trusted=ranges)


def table(module: Any, networks: Sequence[str], domains: Sequence[str]) -> Any:
    """refmta's view of the same."""
    rules = module.relaying.Relaying(
        networks=tuple(map(module.relaying.parse_network, networks)), domains=frozenset(domains)
    )
    away = (parse_mailbox("eve@example.net"),)
    return module.Table(
        hostname=HOSTNAME,
        postmaster=parse_mailbox(f"ada@{OURS}"),
        literals=frozenset({LITERAL}),
        domains={OURS: module.Domain(mailboxes=frozenset({"ada"}), aliases={"out": away})},
        relaying=rules,
    )


def judge(module: Any) -> Verdict:
    """Every policy, client, local part and domain: the answer at RCPT against the claim."""
    seen = list(clients())
    recipients = [Mailbox(local=local, domain=name) for local in LOCALS for name in DOMAINS]
    count = 0
    for networks, domains in POLICIES:
        ruled, claim = table(module, networks, domains), policy(networks, domains)
        for recipient in recipients:
            if _leaves(module, ruled, claim, recipient):
                return Verdict(violated=frozenset({STAYS}), detail=str(recipient))
        for (text, client), recipient in itertools.product(seen, recipients):
            answer = module.verify(ruled, recipient, _no_user, text)
            wrong = violated(
                allowed=may_send(claim, client, recipient.domain),
                relaying_refused=answer == module.NO_RELAY,
                accepted=isinstance(answer, module.Accepted),
            )
            count += 1
            if wrong:
                return Verdict(violated=wrong, detail=f"{recipient} from {text!r}: {networks}")
    return Verdict(violated=frozenset(), detail=f"{count} questions")


def _leaves(module: Any, ruled: Any, claim: Policy, recipient: Mailbox) -> bool:
    """Whether mail for one of ours would leave, though no alias of the operator's says so."""
    if recipient.domain not in claim.ours or recipient.local == "out":
        return False
    answer = module.route(ruled, recipient, _no_user)
    return isinstance(answer, module.Routed) and any(t.kind == "remote" for t in answer.targets)


def _no_user(_name: str) -> bool:
    return False


# -- controls -------------------------------------------------------------------------------------

#: name, the invariant that catches it, the module whose text is changed, the change.
ROWS: tuple[tuple[str, str, ModuleType, tuple[str, str]], ...] = (
    ("an open relay: nobody is asked", RELAYS_ONLY, routing, (
        "    if not is_ours(table, recipient.domain) and not relaying.may_relay(\n",
        "    if not __mutant_ran__() and not relaying.may_relay(\n")),
    ("an open relay: anybody beside a network of ours", RELAYS_ONLY, relaying, (
        "    return any(address in network for network in relaying.networks)",
        "    return bool(relaying.networks) and __mutant_ran__()")),
    ("an open relay: a client without an address", RELAYS_ONLY, relaying, (
        "    except ValueError:\n        return False\n    if isinstance(address,",
        "    except ValueError:\n        return __mutant_ran__()\n    if isinstance(address,")),
    ("an open relay: a network one bit too wide", RELAYS_ONLY, relaying, (
        "    return any(address in network for network in relaying.networks)",
        "    return any(address in network.supernet() for network in relaying.networks"
        " if __mutant_ran__())")),
    ("an open relay: subdomains of a backup domain", RELAYS_ONLY, relaying, (
        "    return domain in relaying.domains or _trusted(relaying, client)",
        "    below = domain.endswith(tuple(relaying.domains)) and __mutant_ran__()\n"
        "    return below or _trusted(relaying, client)")),
    ("an open relay: a domain that ends like ours", RELAYS_ONLY, routing, (
        "        return name, name in self.domains or name == self.hostname",
        "        ours = name.endswith((self.hostname, *self.domains))\n"
        "        return name, __mutant_ran__() and ours")),
    ("IPv4 clients of an IPv6 socket may not relay", RELAYS_ALL, relaying, (
        "        address = address.ipv4_mapped\n    return any",
        "        __mutant_ran__()\n    return any")),
    ("mail for our own literal leaves", STAYS, routing, (
        '    if domain.startswith("["):\n        return table.hostname if',
        '    if domain.startswith("["):\n        return "" if not __mutant_ran__() and')),
)  # fmt: skip


def controls() -> list[Control]:
    """Entry point: an open relay, in several ways, and what is too strict."""
    return [_control(*row) for row in ROWS]


def _control(name: str, invariant: str, module: ModuleType, change: tuple[str, str]) -> Control:
    def mutant() -> Verdict:
        mutated = mutate(module.__name__, [change])
        if module is relaying:
            using = mutate(routing.__name__, [], replacing={relaying.__name__: mutated})
        else:
            using = mutated
        verdict = judge(using)
        return Verdict(
            violated=verdict.violated, mutated_line_ran=hits(mutated) > 0, detail=verdict.detail
        )

    return Control(
        name=name, spec="relaying", invariant=invariant, twin=lambda: judge(routing), mutant=mutant
    )
