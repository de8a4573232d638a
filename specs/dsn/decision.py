"""Who is told of a failure or a delay: every case of it, and every chain of failing reports.

The rules, from RFC 5321 4.5.5 and 6.1, and RFC 3464 2:

- A message from somebody that fails, or is late, is reported to its reverse-path, once.
- Nothing is ever reported to a null reverse-path, nor to an address that only the mail system
  itself writes from; of such a message the postmaster may be told, if that is configured.
- A notice that the postmaster can't be sent is not the occasion for another one: every chain of
  reports about reports ends.

The cases are exhausted: `cases` is the product of all kinds of senders, recipients, events and
configurations, with the spellings in which addresses come.  It says nothing of *when* qmgr asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple, Protocol

HOSTNAME: Final = "mx.example.org"
POSTMASTER: Final = "ada@example.org"
STRANGER: Final = "eve@remote.example"
#: In a chain of reports, most that may follow one failure: to the sender, then to the postmaster.
CHAIN: Final = 2


class Told(NamedTuple):
    """One report: whom, and of what."""

    to: str
    kind: str


class Decide(Protocol):
    """The subject.  copies: which of "failed" and "double" the postmaster gets."""

    def __call__(
        self,
        event: str,
        reverse_path: str,
        *,
        hostname: str,
        postmaster: str,
        copies: frozenset[str],
        recipients: Collection[str],
    ) -> Collection[Told]: ...


class Case(NamedTuple):
    """One question."""

    event: str
    reverse_path: str
    copies: frozenset[str]
    recipients: tuple[str, ...]


NOBODY: Final = (
    "",
    f"MAILER-DAEMON@{HOSTNAME}",
    f"mailer-daemon@{HOSTNAME.upper()}",
    f"double-bounce@{HOSTNAME}",
)
SOMEBODY: Final = (STRANGER, POSTMASTER, "Ada@Example.org", "mailer-daemon@remote.example")
RECIPIENTS: Final = (
    ("bob@example.org",),
    (POSTMASTER,),
    ("bob@example.org", "ADA@example.org"),
)
COPIES: Final = tuple(
    frozenset(some)
    for length in range(3)
    for some in itertools.combinations(("failed", "double"), length)
)


def cases() -> Iterator[Case]:
    """All of them."""
    for row in itertools.product(("failed", "delayed"), (*NOBODY, *SOMEBODY), COPIES, RECIPIENTS):
        yield Case(*row)


def judge(decide: Decide) -> dict[str, str]:
    """Each invariant that some case violates, with the first such case."""
    violated: dict[str, str] = {}
    for case in cases():
        told = _ask(decide, case)
        for invariant in _wrong(case, told):
            violated.setdefault(invariant, f"{case}: {told}")
        if chain(decide, case) > CHAIN:
            violated.setdefault("reports_end", str(case))
    return violated


def _ask(decide: Decide, case: Case) -> list[Told]:
    answer = decide(
        case.event,
        case.reverse_path,
        hostname=HOSTNAME,
        postmaster=POSTMASTER,
        copies=case.copies,
        recipients=case.recipients,
    )
    return [Told(*each) for each in answer]


def _wrong(case: Case, told: list[Told]) -> Iterator[str]:
    sender = case.reverse_path.lower()
    somebody = case.reverse_path in SOMEBODY
    heard = [each.to.lower() for each in told]
    if not somebody and (sender in heard or "" in heard):
        yield "no_report_about_report"
    if somebody and heard.count(sender) != 1:
        yield "sender_is_told"
    if len(set(heard)) != len(heard):
        yield "told_once"
    if any(each.kind != case.event for each in told):
        yield "told_what_happened"
    if set(heard) - {sender, POSTMASTER}:
        yield "no_stranger_is_told"
    if sender != POSTMASTER and (POSTMASTER in heard) != _postmaster_hears(case):
        yield "postmaster_as_configured"


def _postmaster_hears(case: Case) -> bool:
    if case.event == "delayed":
        return False
    if case.reverse_path in SOMEBODY:
        return "failed" in case.copies
    himself = POSTMASTER in [each.lower() for each in case.recipients]
    return "double" in case.copies and not himself


def chain(decide: Decide, case: Case, depth: int = 0) -> int:
    """The longest chain of reports if each of them fails; more than CHAIN is cut off."""
    if depth > CHAIN:
        return depth
    lengths = [depth]
    for told in _ask(decide, case):
        report = Case("failed", "", case.copies, (told.to,))
        lengths.append(chain(decide, report, depth + 1))
    return max(lengths)
