"""The ledger: what was promised, against what was found afterwards.

Rules a reader may rely on
- Pure: no clock, I/O or chance; whoever fills the books brings times (seconds since 1970).
- What a server says counts for one thing only: a 250 to the end of a letter is a promise. What
  became of it counts by what was found: mailboxes, the record of the next hop, reports as they
  were delivered, the queue.
- **Promised** means: every recipient of the letter has it, or its sender has a report about that
  recipient, or the queue still holds it. Anything else is `lost`.
- **A duplicate** is counted under a window, or it is a finding. Windows of one attempt to send
  (the same copy twice at one recipient) need evidence: a next hop that did not say its 250, or
  the death of a process that could have forgotten the delivery, at that time. Windows between
  attempts (the client sent a letter again) are the client's: it had seen no 250.
- What was refused, or never sent to its end, must not turn up at all.

What is tricky: a delivery by an agent whose master is dead already comes *after* the kill that
excuses it; so evidence is sought from `before_s` ahead of the delivery until the second one, at
most `after_s` later. With a kill each second this is weak for roles that are hit often; the
exact judgement, by process id, is that of the trace (`specs.queue.trace`).

What it doesn't do: look anything up, or know any server. Which roles' deaths open which window is
the target's to say (`Window`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from faultinject.books import (
    FUTILE,
    SECOND_S,
    Answer,
    Books,
    Found,
    Queued,
    Reported,
    Sending,
    Window,
)  # fmt: skip
from faultinject.letters import Copy

# -- the verdict ----------------------------------------------------------------------------------

#: Everything that the ledger can find wrong. A finding's name is one of these.
FINDINGS: Final[Mapping[str, str]] = {
    "lost": "promised, and neither delivered, nor reported, nor queued",
    "half_lost": "kept without a promise, and not for all of its recipients",
    "altered": "its octets are not those that were sent",
    "misdelivered": "to somebody who is not a recipient",
    "invented": "delivered, reported or queued, but it was refused, or never sent to its end",
    "duplicate": "delivered twice with no window open",
    "report_duplicate": "reported twice with no window open",
    "report_misdelivered": "a report to somebody who is not the sender",
    "report_unfounded": "a report about a recipient that has it, or that it never had",
    "report_about_null_sender": "a report about a letter with the null reverse-path",
    "stranger": "a message that nobody sent",
}
RESENT_UNANSWERED: Final = "sent again: no reply to its end"
RESENT_DEFERRED: Final = "sent again: 4yz to its end, but kept"
HOP_SILENT: Final = "the next hop took it without saying 250"
KILLED: Final = "killed between delivery and mark: {}"
#: Every window; "report" for reports made twice.
WINDOWS: Final = (
    RESENT_UNANSWERED, RESENT_DEFERRED, HOP_SILENT,
    *(KILLED.format(place) for place in ("mailbox", "next hop", "report")),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be. name: of FINDINGS, or of what found it."""

    name: str
    text: str


@dataclass(slots=True, kw_only=True)
class Account:
    """The verdict, and the sums: letters, and recipients of letters."""

    acknowledged: int = 0
    attempts: Counter[str] = field(default_factory=Counter)  # by answer
    delivered: int = 0
    at_next_hop: int = 0
    reported: int = 0
    queued: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)  # by window
    findings: list[Finding] = field(default_factory=list)

    def found(self, name: str) -> int:
        """How many findings have this name."""
        return sum(finding.name == name for finding in self.findings)


@dataclass(slots=True)
class _Fate:
    """What became of one copy for one recipient."""

    found: list[Found] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    queued: bool = False

    @property
    def known(self) -> bool:
        return bool(self.found or self.reported or self.queued)


_Fates = dict[tuple[Copy, str], _Fate]


def judge(books: Books, windows: Mapping[str, Window]) -> Account:
    """Balance the books. windows: by place ("mailbox", "next hop", "report")."""
    judgement = _Judgement(books, windows)
    judgement.run()
    return judgement.account


class _Judgement:
    """One balance; each method settles one kind of question."""

    def __init__(self, books: Books, windows: Mapping[str, Window]) -> None:
        self.books, self.windows = books, windows
        self.account = Account()
        self.fates: _Fates = {}
        self.survivors: set[Copy] = set()

    def run(self) -> None:
        for text in self.books.strangers:
            self._add("stranger", text)
        for found in self.books.found:
            self._place_found(found)
        for reported in self.books.reported:
            self._place_report(reported)
        for queued in self.books.queued:
            self._place_queued(queued)
        for copy, sending in self.books.sendings.items():
            self._settle(copy, sending)
        for key, fate in self.fates.items():
            self._count(fate)
            self._duplicates(key, fate)
        self._resent()

    def _add(self, name: str, text: str) -> None:
        self.account.findings.append(Finding(name=name, text=text))

    # -- what was found goes to its place ---------------------------------------------------------

    def _fate(self, copy: Copy, recipient: str) -> _Fate:
        self.survivors.add(copy)
        return self.fates.setdefault((copy, recipient), _Fate())

    def _place_found(self, found: Found) -> None:
        sending = self.books.sendings.get(found.copy)
        what = f"{found.copy} for {found.recipient} ({found.place})"
        if sending is None:
            self._add("stranger", what)
        elif found.recipient not in sending.recipients:
            self._add("misdelivered", what)
        else:
            if found.digest != sending.digest or not found.clean:
                self._add("altered", what)
            self._fate(found.copy, found.recipient).found.append(found)

    def _place_report(self, report: Reported) -> None:
        sending = self.books.sendings.get(report.copy)
        what = f"about {report.copy} for {report.recipient}, in the mailbox of {report.to}"
        if sending is None:
            self._add("stranger", f"a report {what}")
        elif not sending.sender:
            self._add("report_about_null_sender", what)
        elif report.to != sending.sender:
            self._add("report_misdelivered", what)
        elif report.recipient not in sending.recipients:
            self._add("report_unfounded", what)
        else:
            self._fate(report.copy, report.recipient).reported.append(report)

    def _place_queued(self, queued: Queued) -> None:
        sending = self.books.sendings.get(queued.copy)
        if sending is None:
            self._add("stranger", f"{queued.copy} in the queue")
            return
        self.account.queued += 1
        for recipient in queued.waiting:
            if recipient in sending.recipients:
                self._fate(queued.copy, recipient).queued = True
            else:
                self._add("misdelivered", f"{queued.copy} is queued for {recipient}")

    # -- each copy --------------------------------------------------------------------------------

    def _settle(self, copy: Copy, sending: Sending) -> None:
        self.account.attempts[sending.answer.value] += 1
        promised = sending.answer is Answer.ACKNOWLEDGED
        self.account.acknowledged += promised
        if copy in self.survivors and sending.answer in FUTILE:
            self._add("invented", f"{copy}, which was {sending.answer.value}")
        elif promised or copy in self.survivors:
            name = "lost" if promised else "half_lost"
            for recipient in dict.fromkeys(sending.recipients):
                if (copy, recipient) not in self.fates:
                    self._add(name, f"{copy} for {recipient}")

    def _count(self, fate: _Fate) -> None:
        if fate.found:
            self.account.delivered += 1
            self.account.at_next_hop += fate.found[0].place == "next hop"
        elif fate.reported:
            self.account.reported += 1

    # -- duplicates -------------------------------------------------------------------------------

    def _duplicates(self, key: tuple[Copy, str], fate: _Fate) -> None:
        what = f"{key[0]} for {key[1]}"
        found = sorted(fate.found, key=lambda each: each.when_s)
        for first, second in pairwise(found):
            self._excuse("duplicate", what, first, second.when_s + second.slack_s)
        reports = sorted(fate.reported, key=lambda each: (each.made_s, each.when_s))
        if found and reports:
            self._told_too(what, found, reports[0])
        for before, after in pairwise(reports):
            self._report_again(f"report about {what}", before, after)

    def _told_too(self, what: str, found: list[Found], report: Reported) -> None:
        """Delivered, and reported: whoever came second needs a window of the first."""
        told_s = report.made_s + SECOND_S
        before = [each for each in found if each.when_s <= told_s]
        if before:
            self._excuse("report_unfounded", what, before[-1], told_s)
        else:
            again_s = found[0].when_s + found[0].slack_s
            self._by_death("report_unfounded", what, "report", report.made_s, again_s)

    def _report_again(self, what: str, before: Reported, after: Reported) -> None:
        if before.message_id == after.message_id:  # one report, delivered twice
            again_s = after.when_s + after.slack_s
            self._by_death("duplicate", what, "mailbox", before.when_s, again_s)
        else:
            again_s = after.made_s + SECOND_S
            self._by_death("report_duplicate", what, "report", before.made_s, again_s)

    def _excuse(self, name: str, what: str, first: Found, again_s: float) -> None:
        """What came after a delivery needs a window: the next hop's silence, or a death."""
        if first.answered:
            self._by_death(name, what, first.place, first.when_s, again_s)
        else:
            self.account.duplicates[HOP_SILENT] += 1

    def _by_death(self, name: str, what: str, place: str, first_s: float, again_s: float) -> None:
        window = self.windows.get(place)
        if window is not None and self._died(window, first_s, again_s):
            self.account.duplicates[KILLED.format(place)] += 1
        else:
            self._add(name, f"{what} ({place}), {again_s - first_s:.3f} s apart")

    def _died(self, window: Window, first_s: float, again_s: float) -> bool:
        begin, end = first_s - window.before_s, min(again_s, first_s + window.after_s)
        return any(
            kill.role in window.roles and begin <= kill.when_s <= end for kill in self.books.kills
        )

    def _resent(self) -> None:
        """Of each letter that survived more than once: whose fault each further copy is."""
        letters: dict[str, list[Copy]] = {}
        for copy in self.survivors:
            letters.setdefault(copy.token, []).append(copy)
        for copies in letters.values():
            for copy in sorted(copies)[:-1]:
                window = self._client_window(self.books.sendings[copy].answer)
                if window:
                    self.account.duplicates[window] += 1
                else:
                    self._add("duplicate", f"{copy} was sent again after it was promised")

    @staticmethod
    def _client_window(answer: Answer) -> str:
        windows = {Answer.UNANSWERED: RESENT_UNANSWERED, Answer.DEFERRED: RESENT_DEFERRED}
        return windows.get(answer, "")


def summary(findings: list[Finding]) -> Iterator[tuple[str, int, str]]:
    """(name, how many, an example) of each kind of finding."""
    for name, count in Counter(finding.name for finding in findings).most_common():
        yield name, count, next(each.text for each in findings if each.name == name)
