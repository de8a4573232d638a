"""A transcript: what a client was asked, sent, received and claimed, in the order in which it knew.

A reply stands where the client had read it, not where the server wrote it: a client can't be judged
by what it could not know. Octets may be cut anywhere. Whoever records a live client writes its
claim down when it is made; the judge then says whether it was allowed.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["delivered", "deferred", "failed", "returned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One message to be sent: paths without brackets, content with CRLF at the end of each line."""

    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def eight_bit(self) -> bool:
        return not self.content.isascii()


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said to have become of one recipient.

    enhanced: RFC 3463, "" with "returned". elsewhere: another host may be asked at once.
    """

    kind: Kind
    enhanced: str = ""
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The client was given a job."""

    job: Job


@dataclass(frozen=True, slots=True)
class Sent:
    octets: bytes


@dataclass(frozen=True, slots=True)
class Received:
    octets: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """The end of the job. usable: the client means to use the connection again."""

    claims: tuple[Claim, ...]
    usable: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """The client has seen the connection end, or has waited for long enough."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The client has closed the connection. Nothing follows."""


Entry = Asked | Sent | Received | Claimed | Gone | Closed

# -- a client that can be driven ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """Stimulus: the connection stands."""


@dataclass(frozen=True, slots=True)
class ContentFlows:
    """Stimulus: the content that was wanted can be written, to its end."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Stimulus: what is awaited did not come in time."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Stimulus: there will be no further job."""


@dataclass(frozen=True, slots=True)
class Hurry:
    """Stimulus: stop; what can be given back is given back."""


@dataclass(frozen=True, slots=True)
class WantsContent:
    """Act: waits for ContentFlows."""


Stimulus = Connected | Asked | Received | ContentFlows | Gone | Silence | Finish | Hurry
Act = Sent | WantsContent | Claimed | Closed


class Client(Protocol):
    """A client as values: what it is after a stimulus, and what it did."""

    @property
    def name(self) -> str: ...

    def start(self) -> Hashable: ...

    def feed(self, state: Hashable, stimulus: Stimulus) -> tuple[Hashable, tuple[Act, ...]]: ...
