"""What really happened in town: places, addresses, and the ledger that is the only judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from refmta.wire import messages as wire

EPOCH_S = 1_700_000_000
SENDER = "sender@client.example"
USERS = ("ada", "bob")
HOSTS = ("one.example", "two.example", "three.example")
PLACES = (*USERS, *HOSTS)
LIST = "list@example.org"
NOBODY = "nobody@example.org"  # whom resolve does not know
ADDRESSES = (
    "ada@example.org", "bob@example.org", LIST, NOBODY,
    "x@one.example", "y@one.example", "x@two.example", "x@three.example",
)  # fmt: skip
WEATHER = (
    "fair", "defers", "fails", "slow", "dies before", "dies after",
    "dead", "mixed", "returns", "away",
)  # fmt: skip
HOUR_S = 3600
#: Seconds that a slow place takes for one message.
SLOW_S = 600
#: Longest pause of a dead destination, with its spread.
PAUSE_S = 4800
#: From the end of a lifetime to the end of a message: a place gets free, a last attempt, a report.
STEP_S = 2 * 3600
#: Mail for those who were never any trouble waits no longer: each host may go first, and has two
#: jobs in flight.
TURN_S = 2 * SLOW_S * len(HOSTS)

Key = tuple[str, str]  # token, address


@dataclass
class Ledger:
    """What really happened. `may`: deliveries (reports) that windows allow beyond the first."""

    expected: dict[str, tuple[str, ...]] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    null: set[str] = field(default_factory=set)
    delivered: Counter[Key] = field(default_factory=Counter)
    delivered_at: dict[Key, float] = field(default_factory=dict)
    refused: set[Key] = field(default_factory=set)  # somebody said "never"
    reported: Counter[Key] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    may: Counter[Key] = field(default_factory=Counter)
    may_report: Counter[str] = field(default_factory=Counter)


def expanded(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Whom a message is for in the end, each once."""
    found = [f"{user}@example.org" for user in USERS if LIST in addresses]
    return tuple(dict.fromkeys([*(each for each in addresses if each != LIST), *found]))


def ways_to(address: str, addresses: tuple[str, ...]) -> int:
    """As how many recipients of one message somebody may fail: himself, and on a list."""
    listed = LIST in addresses and place_of(address) in USERS
    return (address in addresses) + listed


def place_of(address: str) -> str:
    user, _, domain = address.partition("@")
    return user if domain == "example.org" else domain


def target(address: str) -> wire.Target:
    user, _, domain = address.partition("@")
    if domain == "example.org":
        return wire.Target(kind="system", user=user, mailbox="Maildir", address=address)
    return wire.Target(kind="remote", user=domain, mailbox=address, address=address)
