"""What a round of power cuts is asked for, and what it tells: values, and the one rule that decides
what a cut may have taken.

**The rule.**  A 250 that had been read before the cut began is a promise.  What was sent to its end
before the cut was over, and had no such 250, may be there or not.  What was not sent to its end by
then can't be there.  Anything else that the server answered before counts as in every ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final

import msgspec

from faultinject.books import Answer, Books, Kill, Sending, Window
from faultinject.client import Letter
from faultinject.letters import Copy
from faultinject.power.images import KINDS

DOMAIN: Final = "power.example"
USERS: Final = ("ada", "bob")
#: Whose death a loss of power is.
MACHINE: Final = "machine"
#: Nothing is forced between a delivery and its mark but by chance, so that whatever was delivered
#: before a cut may be delivered again after it.
EVER_S: Final = 86400.0
WINDOWS: Final = {
    place: Window(roles=frozenset({MACHINE}), before_s=1.0, after_s=EVER_S)
    for place in ("mailbox", "next hop", "report")
}
#: Letters with a null reverse-path, and with a second recipient: one in so many.
NULL_ONE_IN, SECOND_ONE_IN = 20, 3


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a case: one load on a new file system, and its cuts.

    pause_s: between cuts, on average.  again_one_in: one cut in so many is followed by another one
    while the server recovers from it; 0: none.  at_once: how many clones are judged beside each
    other.  drain_s: how long a recovered server may take for its queue.
    """

    fs: str = "ext4"
    cuts: int = 20
    clients: int = 8
    recipients: int = 2
    least_octets: int = 1_000
    most_octets: int = 200_000
    pause_s: float = 0.12
    again_one_in: int = 4
    at_once: int = 2
    drain_s: float = 60.0

    def wrong(self) -> str | None:
        """What no round can do; None if all is well."""
        if self.fs not in KINDS:
            return f"no such file system: {self.fs} (there are: {', '.join(KINDS)})"
        least = {"cuts": 1, "clients": 1, "recipients": 1, "least_octets": 0, "at_once": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                return f"{name} must be {bound} or more"
        if not 0 <= self.pause_s <= EVER_S or not 0 <= self.drain_s <= EVER_S:
            return "pause_s and drain_s must be from 0 to a day"
        if self.again_one_in < 0 or self.most_octets < self.least_octets:
            return "again_one_in must not be negative, nor most_octets below least_octets"
        return None


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker is asked for.  place: an empty directory."""

    target: str
    seed: int
    settings: Settings
    place: str


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to send, as it stood when a cut began, and when it was over.

    before: None if the attempt was not yet begun.  digest: hexadecimal.
    """

    token: str
    attempt: int
    sender: str
    recipients: tuple[str, ...]
    digest: str
    before: Answer | None
    after: Answer
    answered_s: float = 0.0


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """One loss of power.  begun_s, over_s: since 1970."""

    number: int
    begun_s: float
    over_s: float
    sent: tuple[Sent, ...]


class Judged(msgspec.Struct, frozen=True, kw_only=True, tag="judged"):
    """What was found on one clone.  again: it was cut while the server recovered.

    examples: (name, text), some of each kind; found: how many of each.  log: if anything was found.
    """

    number: int
    again: bool = False
    found: dict[str, int] = {}
    examples: list[tuple[str, str]] = []
    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    log: str = ""


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """The load and its cuts are over.  log: the end of the server's, which no cut has shortened."""

    cuts: int
    acknowledged: int
    seconds: float
    in_memory: bool = True
    longest_cut_s: float = 0.0
    log: str = ""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """There is no verdict, and why."""

    reason: str


Word = Judged | Loaded | Failed
_decoder: Final = msgspec.json.Decoder(Word)
_encoder: Final = msgspec.json.Encoder()


def encode(word: Word) -> bytes:
    """A line."""
    return _encoder.encode(word) + b"\n"


def decode(line: bytes) -> Word:
    """Raises msgspec.DecodeError."""
    word: Word = _decoder.decode(line)
    return word


# -- what is sent ---------------------------------------------------------------------------------


def letter(settings: Settings, random: Random, number: int) -> Letter:
    """To one mailbox or more; sizes spread evenly over the orders of magnitude."""
    most = min(settings.recipients, len(USERS))
    count = random.randint(2, most) if most > 1 and not random.randrange(SECOND_ONE_IN) else 1
    local = random.sample(USERS, count)
    sender = "" if not random.randrange(NULL_ONE_IN) else f"{random.choice(USERS)}@{DOMAIN}"
    least, most_octets = max(1, settings.least_octets), max(1, settings.most_octets)
    return Letter(
        number=number, sender=sender, recipients=tuple(f"{user}@{DOMAIN}" for user in local),
        octets=int(least * (most_octets / least) ** random.random()),
    )  # fmt: skip


def pauses(settings: Settings, random: Random) -> list[float]:
    """Before each cut, in seconds."""
    return [settings.pause_s * random.uniform(0.1, 1.9) for _ in range(settings.cuts)]


# -- what a cut may have taken --------------------------------------------------------------------


def answers(books: Books) -> dict[Copy, Answer]:
    """How all attempts stand now."""
    return {copy: sending.answer for copy, sending in books.sendings.items()}


def cut_of(
    number: int, books: Books, before: Mapping[Copy, Answer], begun_s: float, over_s: float
) -> Cut:
    """A cut that is just over.  before: the answers as it began."""
    sent = tuple(
        Sent(
            token=copy.token, attempt=copy.attempt, sender=sending.sender,
            recipients=sending.recipients, digest=sending.digest.hex(),
            before=before.get(copy), after=sending.answer, answered_s=sending.answered_s,
        )
        for copy, sending in books.sendings.items()
    )  # fmt: skip
    return Cut(number=number, begun_s=begun_s, over_s=over_s, sent=sent)


def standing(before: Answer | None, after: Answer) -> Answer:
    """What the ledger may hold against the server: the rule above."""
    if before in (Answer.ACKNOWLEDGED, Answer.REFUSED, Answer.DEFERRED):
        return before
    return Answer.UNSENT if after is Answer.UNSENT else Answer.UNANSWERED


def books_of(cut: Cut, deaths: tuple[float, ...]) -> Books:
    """The ledger's books as of a cut, without what is found later.  deaths: when power was lost."""
    books = Books(kills=[Kill(role=MACHINE, when_s=when_s) for when_s in deaths])
    for each in cut.sent:
        books.sendings[Copy(each.token, each.attempt)] = Sending(
            sender=each.sender, recipients=each.recipients, digest=bytes.fromhex(each.digest),
            answer=standing(each.before, each.after), answered_s=each.answered_s,
        )  # fmt: skip
    return books
