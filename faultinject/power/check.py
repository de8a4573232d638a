"""A clone is judged: the server is started on it, drains its queue, and the ledger says the rest.

    mount (the log is replayed) -> configure -> start -> until the queue is empty -> stop -> ledger

Rules a reader may rely on
- It is a machine that lost its power: no process of the former life, no lock that a process held, a
  file system as it was at the cut.
- A server that does not start on it is a finding (`unrecovered`), and so is one that does not stop.
  What was wrong in its log before the cut is not counted a second time; the line that the cut has
  torn is nobody's fault.
- What is finally delivered counts, not what lies around: mailboxes, reports in them, and what is
  still in the queue of the stopped server.

A second cut may come while the server recovers: a clone of the clone, judged in the same way, by
the same promises.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from faultinject.collect import book_mailboxes, book_queue
from faultinject.ledger import Account, Finding, judge
from faultinject.power.images import clone
from faultinject.power.records import DOMAIN, USERS, WINDOWS, Cut, Judged, Settings, books_of
from faultinject.target import Site, Target, TargetError

#: How often the queue is looked at, and tried again.
LOOK_S, FLUSH_S = 0.02, 1.5
#: A queue that has not changed for so long, and was tried twice, will not change now.
QUIET_S: Final = 4.0
#: A second cut comes within so many seconds after the start was asked for, or when it is over.
RECOVERY_S: Final = 1.5
#: Of each kind of finding, at one clone.
EXAMPLES: Final = 5
#: A promise so shortly before a cut is counted apart: it is what a server without syncs loses.
FRESH_S: Final = 0.25


@dataclass(slots=True)
class Clock:
    """How long each part took."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last_s: float = field(default_factory=time.monotonic)

    def note(self, part: str) -> None:
        """What was done since the last note was this."""
        now_s = time.monotonic()
        self.seconds[part] = round(now_s - self._last_s, 4)
        self._last_s = now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondCut:
    """source, target: the clone, and the clone of it.  seed: decides when."""

    source: Path
    target: Path
    seed: str


class _Second:
    """A thread that makes the second cut."""

    def __init__(self, wanted: SecondCut | None) -> None:
        self.wanted, self.when_s = wanted, 0.0
        self._recovered = threading.Event()
        self._thread = threading.Thread(target=self._cut, daemon=True)
        if wanted is not None:
            self._thread.start()

    def _cut(self) -> None:
        if self.wanted is not None:
            self._recovered.wait(Random(self.wanted.seed).uniform(0, RECOVERY_S))  # noqa: S311
            self.when_s = time.time()
            clone(self.wanted.source, self.wanted.target)

    def await_made(self) -> float:
        """The recovery is over: when it was, or is now; 0 if none was wanted."""
        self._recovered.set()
        if self.wanted is not None:
            self._thread.join()
        return self.when_s


def site_in(directory: Path) -> Site:
    """The site on a mounted image."""
    place = directory / "site"
    place.mkdir(exist_ok=True)
    return Site(
        directory=place, hostname=f"mx.{DOMAIN}", domain=DOMAIN, users=USERS, next_hops={}
    )  # fmt: skip


def examine(
    target: Target,
    site: Site,
    cut: Cut,
    deaths: tuple[float, ...],
    settings: Settings,
    second: SecondCut | None,
    clock: Clock,
) -> tuple[Judged, float]:
    """Start it there, and judge; and when the second cut was made.  again: more than one death.

    Raises TargetError if it can't even be configured: that is no fault of the server.
    """
    findings: list[Finding] = []
    books = books_of(cut, deaths)
    try:
        target.configure(site)
    except TargetError:
        target.dispose()
        raise
    later = _Second(second)
    try:
        old = _defects(target)
        target.start()
        clock.note("start")
        _drain(target, settings.drain_s)
        clock.note("drain")
        when_s = later.await_made()
        left = target.waiting()
        findings += [Finding(name="stop", text=text) for text in target.stop()]
        clock.note("stop")
        book_mailboxes(books, target.mailboxes())
        if left:
            book_queue(books, target.queued())
        account = judge(books, WINDOWS)
        findings += account.findings
        new = Counter(_defects(target)) - Counter(old)
        findings += [Finding(name="defect", text=text) for text in new]
        clock.note("judge")
    except TargetError as error:
        when_s, account = later.await_made(), Account()
        findings.append(Finding(name="unrecovered", text=str(error)))
    finally:
        target.dispose()
    return _judged(cut, deaths, findings, account, clock, target.log_end), when_s


def _drain(target: Target, patience_s: float) -> None:
    """Until the queue is empty, or does not change although it was tried twice: what a server keeps
    then, it has to name (`Target.queued`).  Raises TargetError if it dies.
    """
    began_s = changed_s = now_s = time.monotonic()
    next_s, before, tries = began_s + FLUSH_S, -1, 0
    while (left := target.waiting()) and now_s < began_s + patience_s:
        now_s = time.monotonic()
        if left != before:
            before, changed_s, tries = left, now_s, 0
        if now_s - changed_s > QUIET_S and tries > 1:
            return
        if not target.alive():
            raise TargetError(f"it died by itself while it recovered:\n{target.log_end()}")
        if now_s >= next_s:
            next_s, tries = now_s + FLUSH_S, tries + 1
            with suppress(TargetError):  # it is not ready, or has nothing to try
                target.flush()
        time.sleep(LOOK_S)


def _defects(target: Target) -> tuple[str, ...]:
    with suppress(OSError):
        return target.defects()
    return ()


def _judged(
    cut: Cut,
    deaths: tuple[float, ...],
    findings: list[Finding],
    account: Account,
    clock: Clock,
    log: Callable[[], str],
) -> Judged:
    found = Counter(each.name for each in findings)
    ages = {f"{s.token}/{s.attempt}": cut.begun_s - s.answered_s for s in cut.sent if s.answered_s}
    shown: Counter[str] = Counter()
    examples = []
    for each in findings:
        if shown[each.name] < EXAMPLES:
            shown[each.name] += 1
            examples.append((each.name, _told(each, ages)))
    promised = [age for age in ages.values() if age >= 0]
    return Judged(
        number=cut.number, again=len(deaths) > 1, found=dict(found), examples=examples,
        counts={
            "promised": account.acknowledged,
            "fresh": sum(age < FRESH_S for age in promised),
            "in flight": account.attempts["unanswered"] + account.attempts["unsent"],
            "delivered": account.delivered,
            "queued": account.queued,
            "delivered again": account.duplicates.total(),
        },
        seconds=clock.seconds,
        log=log() if findings else "",
    )  # fmt: skip


def _told(finding: Finding, ages: dict[str, float]) -> str:
    """With the age of the promise, where a letter is named first."""
    age_s = ages.get(finding.text.split(" ", 1)[0])
    if age_s is None or age_s < 0:
        return finding.text
    return f"{finding.text}; its 250 was read {1000 * age_s:.0f} ms before the cut"
