"""The ledger's books: what was sent and what was seen, as values. No rule is applied here
(`ledger`), nothing is looked up (`collect`), and no time is read: all times are given, in seconds
since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from faultinject.letters import Copy


class Answer(Enum):
    """How far an attempt came, as the client saw it."""

    UNSENT = "unsent"  # the end of the letter was never sent
    UNANSWERED = "unanswered"  # it was (or may have been), and no reply came
    DEFERRED = "deferred"  # 4yz to the end
    REFUSED = "refused"  # 5yz to the end
    ACKNOWLEDGED = "acknowledged"  # 2yz to the end


#: A Date has whole seconds.
SECOND_S: Final = 1.0
#: An attempt that ended so must not leave anything behind.
FUTILE: Final = frozenset({Answer.UNSENT, Answer.REFUSED})


@dataclass(slots=True, kw_only=True)
class Sending:
    """An attempt. sender: "" for the null reverse-path. digest: of the letter's own octets.

    answered_s: when its 250 had been read; 0 if none came.
    """

    sender: str
    recipients: tuple[str, ...]
    digest: bytes
    answer: Answer = Answer.UNSENT
    answered_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A letter at its destination.

    recipient: whose mailbox it lies in, or what RCPT said at the next hop. when_s: when it came
    there, at the earliest; slack_s: by how much it may have been later. answered: False if the next
    hop took it and did not clearly say 250.
    """

    copy: Copy
    recipient: str
    digest: bytes
    when_s: float
    place: str  # "mailbox" or "next hop"
    slack_s: float = 0.0
    answered: bool = True
    clean: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A report that a recipient of a letter has failed. to: whose mailbox it lies in; made_s: the
    time that it says it was made, in whole seconds; when_s and slack_s as above.
    """

    copy: Copy
    recipient: str
    to: str
    message_id: str
    when_s: float
    made_s: float
    slack_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A letter that waits for these recipients, or a report about them that waits."""

    copy: Copy
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A process that was killed."""

    role: str
    when_s: float


@dataclass(slots=True, kw_only=True)
class Books:
    """Everything that was seen. strangers: messages in mailboxes that are none of ours."""

    sendings: dict[Copy, Sending] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    queued: list[Queued] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When a second delivery at a place is excused by a death: of one of these roles, from
    `before_s` before the first delivery began until `after_s` after it.
    """

    roles: frozenset[str]
    before_s: float
    after_s: float
