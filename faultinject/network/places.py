"""Where a trial's hosts are: each destination is a domain with an address of its own.

    D.faulty.example   MX   mx.D.faulty.example   A   127.20.x.y, port 25

A destination is bad in one of three ways, and its name says in which:
    smtp-NAME    its host does what `behaviours.BEHAVIOURS[NAME]` says
    dns-NAME     the name server says about it what `name_rows.ROWS[NAME]` says; its host is honest
    tcp-NAME     there is no conversation at all (`UNHEARD`)

The addresses are of the loopback network, in a network of the trial's own (`networks.own`), so that
every one of them has its port 25; 127.0.0.0/24 is the servers' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from faultinject.network.behaviours import BEHAVIOURS, DEFERRED, DELIVERED, Deaf
from faultinject.network.name_rows import EVERYDAY, FAILING, ROWS
from faultinject.storm import DECEITFUL

FAULTY, LIVE = "faulty.example", "live.example"
#: Honest destinations, beside the bad ones.
LIVE_ONES: Final = tuple(f"d{number}.{LIVE}" for number in range(4))
SMTP_PORT, DNS_PORT = 25, 53
NAME_SERVER: Final = "127.53.0.53"
HONEST_HOST, IMPOSTOR, CLOSED = "127.40.0.1", "127.66.6.6", "127.50.0.1"
#: Connections that lead to no conversation.
UNHEARD: Final[Mapping[str, str]] = {
    "refused": "nobody listens there",
    "black-hole": "nothing that is sent there arrives",
    "never-accepted": "the host's kernel takes the connection, and no server ever does",
}
SMTP, DNS, TCP = "smtp-", "dns-", "tcp-"
#: Whatever a client does in time: deaf for longer than it waits, and honest then.
_UNHURRIED: Final = frozenset(
    name
    for name, row in BEHAVIOURS.items()
    if any(isinstance(step, Deaf) for act in row.acts.values() for step in act)
)


#: What else may become of mail there: it takes more than it says it does (RFC 1870 tells it to
#: refuse what is too large, and its client that it may spare itself the way).
_BESIDES: Final[Mapping[str, frozenset[str]]] = {"tiny-size": DELIVERED}


def _allowed() -> dict[str, frozenset[str]]:
    found = {f"{TCP}{name}": DEFERRED for name in UNHEARD}
    found |= {f"{DNS}{name}": row.allows for name, row in ROWS.items()}
    for name, row in BEHAVIOURS.items():
        late = DEFERRED if name in _UNHURRIED else frozenset[str]()
        found[f"{SMTP}{name}"] = row.allows | late | _BESIDES.get(name, frozenset())
    return found


#: Every bad destination -> what may be reported of a recipient there while it is bad.
ALLOWED: Final[Mapping[str, frozenset[str]]] = _allowed()


def domain(name: str) -> str:
    """Of a bad destination."""
    return f"{name}.{FAULTY}"


def destination(address: str) -> str:
    """The bad destination that a recipient is at; "" if it is none."""
    where = address.partition("@")[2]
    name = where.removesuffix(f".{FAULTY}")
    return name if name != where and name in ALLOWED else ""


def address(number: int) -> str:
    """Of the so-manieth host (from 0)."""
    return f"127.20.{number // 250}.{1 + number % 250}"


def live_address(number: int) -> str:
    """Of the so-manieth honest destination."""
    return f"127.30.0.{1 + number}"


def deceives(name: str) -> bool:
    """Whether a client that believes what is said there loses mail, against the RFC."""
    return name.startswith(SMTP) and name.removeprefix(SMTP) in DECEITFUL


# -- groups ---------------------------------------------------------------------------------------

_USUAL: Final = ("honest", "no-", "size", "tiny", "lower", "mixed", "slow-", "multi", "empty",
                    "octet", "eight", "garbage-features")  # fmt: skip
_REFUSALS: Final = ("4yz", "5yz", "421", "code-", "552", "hostile-text")
_CLOSES: Final = ("close", "reset", "half-a-", "taken-and-close", "taken-and-reset",
                  "taken-and-half-a", "taken-and-4yz")  # fmt: skip
_SILENCES: Final = ("silence", "half-open", "taken-and-silence", "taken-and-half-open", "deaf",
                    "452-and-deaf", "552-and-deaf", "trickle", "endless")  # fmt: skip


def _sort(name: str) -> str:
    """The group of a destination."""
    if deceives(name):
        return "deceit"
    kind, _, rest = name.partition("-")
    if kind == "tcp":
        return "closes" if rest == "refused" else "silences"
    if kind == "dns":
        if rest in EVERYDAY:
            return "names"
        return "names-failing" if rest in FAILING else "names-lying"
    for group, starts in (
        ("refusals", _REFUSALS), ("closes", _CLOSES), ("silences", _SILENCES),
        ("everyday", _USUAL),
    ):  # fmt: skip
        if rest.startswith(starts):
            return group
    return "nonsense"


#: What the destinations of a group have in common.
SAYS: Final[Mapping[str, str]] = {
    "everyday": "what is allowed, and not as usual: slow, laconic, without extensions",
    "refusals": "4yz and 5yz at each stage",
    "closes": "closes and resets at each stage, with the message taken or not; nobody listens",
    "silences": "silence, one-sided connections, trickles and floods at each stage; black holes",
    "nonsense": "replies that are none, or not where they belong",
    "deceit": "250 where nothing was taken: who believes it loses the mail",
    "names": "name servers: seldom, and allowed",
    "names-failing": "name servers: no answer, failures, no such name, null MX, loops",
    "names-lying": "name servers: forged, broken and untrue answers",
}
#: group -> its destinations
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    group: tuple(name for name in ALLOWED if _sort(name) == group) for group in SAYS
}
