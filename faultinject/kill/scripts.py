"""The messages that are sent: each takes another way through a server.

A recipient that is named twice gets one copy: servers that queue mail see to that, and one that
does not has delivered a duplicate.  Of those that are known to deliver each ("each" among their
capabilities) nobody is named twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from faultinject.storm import DOMAIN, HONEST, REFUSED

USERS: Final = ("ada", "bob")
ADA, BOB = (f"{user}@{DOMAIN}" for user in USERS)
FAR: Final = f"r1@{HONEST}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """recipients: as they are said in the envelope.  needs: capabilities of a target."""

    says: str
    recipients: tuple[str, ...]
    sender: str = BOB
    needs: frozenset[str] = frozenset()


SCRIPTS: Final[Mapping[str, Script]] = {
    "one": Script(says="to one recipient", recipients=(ADA,)),
    "three": Script(says="to three recipients in two mailboxes", recipients=(ADA, BOB, ADA)),
    "both": Script(
        says="to a mailbox and to a next hop", recipients=(ADA, FAR), needs=frozenset({"remote"})
    ),
    "bounced": Script(
        says="to somebody whom the next hop refuses: the sender gets a report",
        recipients=(REFUSED,), needs=frozenset({"remote", "reports"}),
    ),
}  # fmt: skip


def recipients(script: Script, capabilities: frozenset[str]) -> tuple[str, ...]:
    """Whom a letter to a target with these names."""
    named = script.recipients
    return tuple(dict.fromkeys(named)) if "each" in capabilities else named


def possible(capabilities: frozenset[str]) -> tuple[str, ...]:
    """Of a target with these."""
    return tuple(name for name, script in SCRIPTS.items() if script.needs <= capabilities)


class Patient(Random):
    """No chance: one letter per connection, each reply is awaited."""

    def random(self) -> float:
        """Always the same: no reuse of connections, no pipelining."""
        return 0.5

    def randrange(self, *_: object) -> int:
        """Never careless."""
        return 1
