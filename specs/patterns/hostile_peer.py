"""What a seized process can do to those who listen to it: bad frames, sent from inside.

Theory.  Each channel of the running system is attacked by the process that has it: it is seized
(`specs.observe.seize`), and made to write octets of ours into its own descriptor, under its own
user, filters and limits.  Who hears them does not know: it must refuse them by itself.

What is written is the target's to say, since only the target knows its frames
(`Manifest.facts["frames"]`: name -> (octets, how many descriptors go with them); "forbidden":
(sender, receiver) -> a frame that is right elsewhere, and that this sender may not say here;
"refusals": what the log calls it; "rests_on": (sender, receiver) of which the receiver ends with
the channel).  The judge says which kinds there must be (KINDS).

Each direction gets one kind in turn; whoever faces the network sends all of them.  After each
attack the seized process is ended: it is lost, and nobody asks it to recover.  What counts is what
the others are then: the receiver alive (or, where the architecture says that it rests on the
sender, started anew), its descriptors and its memory as before, a line in the log, the channel
ended, and a new mail delivered.

Not attacked: whoever may hear nothing at all of a stranger (listening sockets are the clients'
business), and nobody is attacked by who starts all others, against whom there is no defence.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from specs.observe.process import Process, look, look_around
from specs.observe.waiting import within
from specs.patterns.claims import Bench
from specs.patterns.lines import KINDS, Line, Row, lines, numbered, plan
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Unavailable
from specs.patterns.sending import HANDED_ON, unread, write
from specs.patterns.target import TargetError

#: How long a refusal may take to be seen, in seconds.
PATIENCE_S: Final = 2.0
#: How often a channel is sought.
TRIES: Final = 3

Frames = Mapping[str, tuple[bytes, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack and what came of it.

    written: octets, or minus an errno: the sender itself was not allowed to.  lived: whether the
    receiver is the same process as before.  heard: whether it read what was sent; who listens only
    when it waits for an answer does not, and nothing more can be said of it.  ended: whether it had
    closed the channel (or was gone) before the sender was ended.  said: whether the log has a line.
    kept: descriptors that it did not have before.  grown: octets of memory that it has more than
    before.  mail: "" if a new mail was delivered afterwards, else why not.
    """

    sender: str
    receiver: str
    kind: str
    written: int
    lived: bool
    heard: bool
    ended: bool
    said: bool
    kept: tuple[str, ...]
    grown: int
    mail: str

    def __str__(self) -> str:
        return f"{self.kind} from {self.sender} to {self.receiver}"


@dataclass(frozen=True, slots=True)
class Siege:
    """All attacks; `missed`: directions that were seen first, and were not there any more."""

    attacks: tuple[Attack, ...]
    missed: tuple[str, ...] = ()


def _around(bench: Bench) -> tuple[Process, ...]:
    return look_around((each.pid, each.name, each.detail) for each in bench.target.processes())


# -- the siege ------------------------------------------------------------------------------------


def siege(bench: Bench, only: Iterable[Row] = ()) -> Siege:
    """Attack every direction once, and those of the network's faces with every kind; or `only`
    these.
    """
    frames = bench.manifest.facts.get("frames")
    if not isinstance(frames, Mapping):
        raise Unavailable("this target does not say what its frames look like")
    missing = [kind for kind in KINDS if kind not in frames and kind != "forbidden"]
    if missing:
        raise Unavailable(f"this target brings no frames of the kinds {', '.join(missing)}")
    attacks, missed = [], []
    for direction, kind in tuple(only) or plan(bench.manifest, _everybody(bench)):
        line = _find(bench, direction)
        if line is None:
            missed.append(f"{kind} from {direction[0]} to {direction[1]}")
        else:
            attacks.append(_attack(bench, line, kind, cast(Frames, frames)))
    return Siege(tuple(attacks), tuple(missed))


def _everybody(bench: Bench) -> tuple[Process, ...]:
    """All processes, those included that start on first use, or live as long as a session."""
    bench.load()
    for name in (part for each in bench.manifest.compartments for part in each.parts):
        with contextlib.suppress(TargetError):
            bench.process(name)
    return _around(bench)


def _find(bench: Bench, direction: tuple[str, str]) -> Line | None:
    """Such a channel, now; what starts on first use, or for one message, is started by the load."""
    for attempt in range(TRIES):
        with contextlib.suppress(TargetError):
            if attempt:
                bench.load()
            for name in direction:
                bench.process(name)
        for line in lines(_around(bench)):
            if line.direction == direction:
                return line
    return None


def _attack(bench: Bench, line: Line, kind: str, frames: Frames) -> Attack:
    octets, descriptors = _frame(bench, line, kind, frames)
    before = len(list(bench.target.journal()))
    written = write(line, octets, descriptors, end=kind == "truncated")
    within(PATIENCE_S, lambda: written < 0 or (_has_ended(line) and _said(bench, line, before)))
    after, ended = _again(line.receiver), _has_ended(line)
    return Attack(
        sender=line.sender.name,
        receiver=line.receiver.name,
        kind=kind,
        written=written,
        lived=after is not None,
        heard=ended or not unread(line),
        ended=ended,
        said=_said(bench, line, before),
        kept=_kept(line, after) if descriptors and after is not None else (),
        grown=after.resident - line.receiver.resident if after is not None else 0,
        mail=_mended(bench, line.sender),
    )


def _frame(bench: Bench, line: Line, kind: str, frames: Frames) -> tuple[bytes, int]:
    if kind != "forbidden":
        return frames[kind]
    forbidden = cast(Mapping[tuple[str, str], bytes], bench.manifest.facts.get("forbidden", {}))
    found = forbidden.get(line.direction)
    return (found, 0) if found is not None else frames["garbage"]


def _mended(bench: Bench, seized: Process) -> str:
    """End the seized process; "" if a new mail is delivered then, else why not."""
    before = _starter(bench)
    if _again(seized) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(seized.pid, signal.SIGKILL)
    try:
        bench.settle()
    except TargetError as error:
        return str(error)
    same = not before or bool(before & _starter(bench))
    return "" if same else "the whole system had to be started anew"


def _starter(bench: Bench) -> set[int]:
    return {e.pid for e in bench.target.processes() if e.name == bench.manifest.starter}


# -- what came of it ------------------------------------------------------------------------------


def _again(before: Process) -> Process | None:
    """The same process, if it still is the same."""
    after = look(before.pid, before.name)
    return after if after is not None and after.started == before.started else None


def _has_ended(line: Line) -> bool:
    """Whether the receiver has let go of its end."""
    after = _again(line.receiver)
    return after is None or all(each.inode != line.far.inode for each in after.descriptors)


def _kept(line: Line, after: Process) -> tuple[str, ...]:
    """More descriptors on what was handed over than before."""
    handed = numbered(line.sender, HANDED_ON)
    if handed is None:
        return ()
    before, now = (
        sum(each.target == handed.target for each in process.descriptors)
        for process in (line.receiver, after)
    )
    return (f"{now - before} on {handed.target}",) if now > before else ()


def _said(bench: Bench, line: Line, before: int) -> bool:
    """Whether the log has a line of it since."""
    lived = _again(line.receiver) is not None
    return any(
        _is_about(bench.manifest, event, line.receiver, lived=lived)
        for event in list(bench.target.journal())[before:]
    )


def _is_about(
    manifest: Manifest, event: Mapping[str, object], receiver: Process, *, lived: bool
) -> bool:
    """Whether a line tells of a refusal by the receiver, or of its end (itself or its parent)."""
    ids = {event.get(name) for name in ("process", "worker")}
    if receiver.pid in ids or (not lived and event.get("pid") == receiver.parent):
        return True
    refusals = cast(tuple[str, ...], manifest.facts.get("refusals", ()))
    return event.get("pid") == receiver.pid and (not refusals or event.get("event") in refusals)
