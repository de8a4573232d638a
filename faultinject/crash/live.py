"""The real server is started on states that a crash may have left, and the ledger judges.

    record (recorder) -> choose states (states) -> for each: write it as a tree, start the server on
    it, drain its queue, stop it, and balance the books

Rules a reader may rely on
- The ledger as everywhere: every letter that was answered 250 before the crash is delivered once
  the server has recovered; nothing is altered, nothing is there that nobody sent.  Twice is
  allowed: a crash may take a mark back.
- A letter whose 250 came after the crash was not promised.
- A server that does not start on a state, or dies of it, is a finding.
- Each finding is told once, with the shortest list of lost operations that led to it.  Its name
  has the strongest model that allows the state: what is lost under P3 only may be known and
  accepted; what is lost under P1 is lost on today's file systems.  A sample counts for what is
  found already under its model or a stronger one; else its losses are taken back one by one, as
  long as the finding stays.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from faultinject import endings
from faultinject.books import Answer, Books, Kill, Window
from faultinject.crash import trees
from faultinject.crash.recorder import Recorder, Scene, drain, site
from faultinject.crash.states import MODELS_TRIED, Tried, chosen, smaller
from faultinject.ledger import Finding, judge
from faultinject.target import Target, TargetError

POWER: Final = "power"
#: Everything may be done twice: all processes died, and took what they knew with them.
WINDOWS: Final = {
    place: Window(roles=frozenset({POWER}), before_s=math.inf, after_s=math.inf)
    for place in ("mailbox", "next hop", "report")
}
#: Patience for a recovered server's queue, and with one that does not change.
DRAIN_S, UNCHANGED_S = 30.0, 4.0
#: States that are tried at most so that the story of a sample becomes short.
SHORTER: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A finding, with the shortest story that leads to it.  times: states that show it."""

    finding: Finding
    scene: str
    number: int
    story: tuple[str, ...]
    times: int = 1


@dataclass(slots=True, kw_only=True)
class Lived:
    """What the states of a server have shown."""

    target: str
    seed: int
    shown: dict[str, Shown] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    operations: dict[str, list[str]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    log: str = ""
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Live:
    """make: a target of its own for each life.  place: empty.  most, samples: how many minimal and
    sampled states per scene.  lines: of a scene's operations, where they are known.

    `run` raises TargetError, TracingError, Unavailable, RefusedError, OSError.
    """

    make: Callable[[], Target]
    place: Path
    seed: int
    say: Callable[[str], None]
    scenes: tuple[str, ...] = ("one", "two")
    most: int = 1_000
    samples: int = 10
    only: int | None = None  # this state of each scene
    lines: Callable[[Scene], dict[int, str]] = lambda _: {}

    def run(self) -> Lived:
        recorder = Recorder(target=self.make(), place=self.place, seed=self.seed, say=self.say)
        scenes = list(recorder.record(self.scenes))
        found = Lived(target=recorder.target.name, seed=self.seed)
        for scene in scenes:
            self._scene(scene, found)
        return found

    def _scene(self, scene: Scene, found: Lived) -> None:
        recording = scene.recording
        found.passed += recording.passed
        found.operations[scene.name] = [
            recording.said(index) for index in range(len(recording.operations))
        ]
        tries, every = chosen(recording, self.seed, self.most, self.samples)
        found.counts["operations"] += len(recording.operations)
        found.counts["minimal states"] += every
        lines = self.lines(scene)
        for number, tried in enumerate(tries):
            if self.only is not None and number != self.only:
                continue
            if number % 10 == 0:
                self.say(f"scene {scene.name!r}: state {number} of {len(tries)}")
            findings = self._try(scene, tried, found)
            found.counts["minimal states tried" if tried.minimal else "sampled states tried"] += 1
            for finding in findings:
                stronger = None if tried.minimal else _stronger(found, finding, tried)
                if stronger is not None:
                    known = found.shown[stronger]
                    found.shown[stronger] = replace(known, times=known.times + 1)
                    continue
                best, told = (
                    (tried, finding) if tried.minimal
                    else self._shortest(scene, tried, finding, found)
                )  # fmt: skip
                each = replace(told, name=f"{told.name} under {best.model.name}")
                story = tuple(best.story(recording, lines))
                self._show(found, Shown(finding=each, scene=scene.name, number=number, story=story))

    def _shortest(
        self, scene: Scene, tried: Tried, finding: Finding, found: Lived
    ) -> tuple[Tried, Finding]:
        """A sample loses this and that: what is left of it when nothing more can be spared."""
        left, candidates = SHORTER, smaller(scene.recording, tried)
        while left and (candidate := next(candidates, None)) is not None:
            left -= 1
            found.counts["states tried to shorten"] += 1
            same = [
                each for each in self._try(scene, candidate, found) if each.name == finding.name
            ]
            if same:
                tried, finding = candidate, same[0]
                candidates = smaller(scene.recording, tried)
        return tried, finding

    @staticmethod
    def _show(found: Lived, new: Shown) -> None:
        known = found.shown.get(new.finding.name)
        if known is None:
            found.shown[new.finding.name] = new
            return
        best = new if len(new.story) < len(known.story) else known
        found.shown[new.finding.name] = replace(best, times=known.times + 1)

    # -- one state --------------------------------------------------------------------------------

    def _try(self, scene: Scene, tried: Tried, found: Lived) -> list[Finding]:
        directory = self.place / "state"
        trees.write(tried.state.snapshot, scene.base, directory, scene.owners, scene.tops)
        target = self.make()
        began_s = time.monotonic()
        findings: list[Finding] = []
        began = False
        try:
            target.install()
            target.configure(site(directory))
            try:
                target.start()
                began = True
                found.counts["undrained"] += not drain(target, DRAIN_S, UNCHANGED_S)
                if not target.alive():
                    findings.append(Finding(name="died", text="by itself, after it had started"))
                findings += [Finding(name="stop", text=each) for each in target.stop()]
            except TargetError as error:
                findings.append(Finding(name="unrecovered", text=str(error)[:500]))
            if began:
                findings += self._judged(scene, tried, target)
        finally:
            target.dispose()
            shutil.rmtree(directory, ignore_errors=True)
        found.seconds += time.monotonic() - began_s
        if findings:
            found.log = target.log_end() or found.log
        return findings

    def _judged(self, scene: Scene, tried: Tried, target: Target) -> list[Finding]:
        replied = {each.path for each in scene.recording.operations if each.kind == "reply"}
        books = Books(kills=[Kill(role=POWER, when_s=0.0)])
        for copy, sending in scene.books.sendings.items():
            promised = str(copy) not in replied or str(copy) in tried.state.acknowledged
            answer = Answer.ACKNOWLEDGED if promised else Answer.UNANSWERED
            books.sendings[copy] = replace(sending, answer=answer)
        endings.gather(books, target)
        return judge(books, WINDOWS).findings


def _stronger(found: Lived, finding: Finding, tried: Tried) -> str | None:
    """The same finding, under this state's model or a stronger one."""
    for model in dict.fromkeys(each.name for each in MODELS_TRIED):
        name = f"{finding.name} under {model}"
        if name in found.shown:
            return name
        if model == tried.model.name:
            return None
    return None
