"""What recovery does to a disk, run for real once on each disk and remembered.

What recovery does follows from the disk alone: not from what was acknowledged before the crash, nor
from the model under which the crash left that disk. So the result of one run serves every model,
every schedule and every crash inside another recovery that leads to the same disk; two disks that
differ in one octet are two runs.

The second run, which shows whether recovery is idempotent, is a run on the disk that the first one
left, by a new process, as it were: no handle and no lock is inherited.

Crashes inside recovery. Which states they leave depends on the names that are there, and on what
recovery did; octets take part only where recovery itself changed them. So the states are worked out
once for each such pattern, with marks in place of the octets of each file, and filled in for each
disk (`Inside`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from specs.persistence.crash import LIMIT, Enumeration
from specs.persistence.model_disk import ModelDisk, Recorded, Snapshot, sparse
from specs.persistence.models import Model
from specs.persistence.octets import CHANGES
from specs.persistence.protocols import CommitStore, Recovered
from specs.persistence.states import CrashState

CHANGES_NOTHING = frozenset({"sync", "sync_dir", "reply", "release"})
_MARK = b"\xff\xfe the octets of file %d, whatever they are \xfe\xff"


class Ran:
    """One run of recovery. error: what it raised ("": nothing); after: the disk that it left;
    record: what it did; open: paths of the handles that it did not close.
    """

    __slots__ = ("after", "changed", "error", "open", "record", "recovered", "renamed")

    def __init__(
        self,
        recovered: Recovered,
        after: Snapshot,
        record: tuple[Recorded, ...] = (),
        opened: tuple[str, ...] = (),
        error: str = "",
    ) -> None:
        self.recovered = recovered
        self.after = after
        self.record = record
        self.open = opened
        self.error = error
        self.changed = any(each.kind not in CHANGES_NOTHING for each in record)
        self.renamed = any(each.kind == "rename" for each in record)


class Outcome:
    """What is to be said of recovery on one disk, whoever asks.

    violated: invariant -> detail, but for what depends on what was acknowledged; wrong: token ->
    how its octets differ from what was submitted; clean: nothing of that.
    """

    __slots__ = ("clean", "ran", "violated", "visible", "wrong")

    def __init__(self, ran: Ran, violated: Mapping[str, str], wrong: Mapping[str, str]) -> None:
        self.ran = ran
        self.violated = violated
        self.wrong = wrong
        self.visible = frozenset(ran.recovered.visible)
        self.clean = not violated and not wrong


_NOTHING = Recovered(visible={})


@dataclass(slots=True)
class Recoveries:
    """Of one store, after one workload. submitted: token -> octets.

    judged: the disks that a crash left, under whatever model, and that recovery was run on.
    """

    store: CommitStore
    submitted: Mapping[str, bytes]
    judged: set[Snapshot] = field(default_factory=set)
    _ran: dict[Snapshot, Ran] = field(default_factory=dict)
    _outcomes: dict[Snapshot, Outcome] = field(default_factory=dict)
    _needed: dict[Snapshot, str] = field(default_factory=dict)

    def outcome(self, snapshot: Snapshot) -> Outcome:
        """Of recovery on this disk, which must be canonical."""
        found = self._outcomes.get(snapshot)
        if found is None:
            found = self._outcomes[snapshot] = self._judge(self.ran(snapshot))
        return found

    def ran(self, snapshot: Snapshot) -> Ran:
        """Recovery, run once on this disk."""
        found = self._ran.get(snapshot)
        if found is None:
            found = self._ran[snapshot] = self._run(snapshot)
        return found

    def _run(self, snapshot: Snapshot) -> Ran:
        disk = ModelDisk(snapshot)
        try:
            recovered = self.store.recover(disk)
        except Exception as error:  # whatever it is: recovery must not raise
            return Ran(_NOTHING, snapshot, error=f"{type(error).__name__}: {error}")
        ran = Ran(recovered, snapshot, tuple(disk.record), disk.open_handles())
        if ran.changed:
            ran.after = disk.canonical()
        return ran

    # -- what is said of a run --------------------------------------------------------------------

    def _judge(self, first: Ran) -> Outcome:
        again = self.ran(first.after) if first.changed else first
        error = first.error or again.error
        if error:
            return Outcome(first, {"recovery_completes": error}, {})
        violated = {}
        if first.changed:
            differs = self._differs(first, again)
            if differs:
                violated["recovery_idempotent"] = f"the second run did: {differs}"
        left = self._left_over(again, first.open + again.open)
        if left:
            violated["nothing_left_over"] = left
        visible = first.recovered.visible
        wrong = {
            token: self._difference(token, octets)
            for token, octets in visible.items()
            if self.submitted.get(token) != octets
        }
        return Outcome(first, violated, wrong)

    @staticmethod
    def _differs(first: Ran, again: Ran) -> str:
        if again.changed:
            return ", ".join(str(e) for e in again.record if e.kind not in CHANGES_NOTHING)
        one, two = first.recovered, again.recovered
        same = one.visible == two.visible and one.aside == two.aside
        return "" if same else "nothing, but saw something else"

    def _difference(self, token: str, octets: bytes) -> str:
        submitted = self.submitted.get(token)
        if submitted is None:
            return f"{token} is visible and was never submitted"
        return f"{token} has {len(octets)} octets that differ from the {len(submitted)} submitted"

    def _left_over(self, ran: Ran, opened: tuple[str, ...]) -> str:
        """What is there and serves nothing; "" if there is no such thing."""
        if opened:
            return f"handles left open: {', '.join(opened)}"
        after = ran.after
        apart = ran.recovered.aside | ran.recovered.notes
        missing = apart.difference(after.paths)
        if missing:
            return f"said to be set aside or kept, but not there: {', '.join(sorted(missing))}"
        rest = only(after, [n for n, path in enumerate(after.paths) if path not in apart])
        found = self._needed.get(rest)
        if found is None:
            found = self._needed[rest] = self._unneeded(rest)
        return found

    def _unneeded(self, rest: Snapshot) -> str:
        """A file without which the same messages are visible."""
        everything = self.ran(rest).recovered.visible
        for number, path in enumerate(rest.paths):
            others = [other for other in range(len(rest.paths)) if other != number]
            if self.ran(only(rest, others)).recovered.visible == everything:
                return f"{path} serves nothing"
        return ""


def only(snapshot: Snapshot, numbers: Sequence[int]) -> Snapshot:
    """The same disk with some of its names only; canonical."""
    if len(numbers) == len(snapshot.paths):
        return snapshot
    links: dict[int, int] = {}
    return Snapshot(
        tuple([snapshot.paths[number] for number in numbers]),
        tuple([links.setdefault(snapshot.inodes[n], len(links) + 1) for n in numbers]),
        tuple([snapshot.contents[number] for number in numbers]),
        snapshot.directories,
        sparse(tuple([snapshot.modes[number] for number in numbers if snapshot.modes])),
    )


# -- crashes inside recovery ----------------------------------------------------------------------


@dataclass(slots=True)
class Inside:
    """The states that crashes during recoveries leave, by pattern.

    limit: as of `Enumeration`; exhaustive: no combination was left out.
    """

    model: Model
    limit: int = LIMIT
    exhaustive: bool = True
    _patterns: dict[object, list[CrashState]] = field(default_factory=dict)

    def states(
        self, before: Snapshot, record: tuple[Recorded, ...]
    ) -> Iterator[tuple[Snapshot, CrashState]]:
        """(the disk, the state of the pattern, which tells the losses)."""
        marked, marks = _marked(before, record)
        key = (marked, record)
        pattern = self._patterns.get(key)
        if pattern is None:
            inside = Enumeration(marked, record, self.model, limit=self.limit)
            pattern = self._patterns[key] = list(inside.states())
            self.exhaustive &= inside.exhaustive
        for state in pattern:
            paths, links, contents, directories, modes = state.snapshot
            octets = tuple([marks.get(each, each) for each in contents])
            yield Snapshot(paths, links, octets, directories, modes), state


def _marked(before: Snapshot, record: Sequence[Recorded]) -> tuple[Snapshot, dict[bytes, bytes]]:
    """The disk with marks for the octets of files that were not changed; what each stands for."""
    changed = {each.inode for each in record if each.kind in CHANGES}
    marks = {}
    contents = []
    for inode, octets in zip(before.inodes, before.contents, strict=True):
        if inode in changed:
            contents.append(octets)
        else:
            mark = _MARK % inode
            marks[mark] = octets
            contents.append(mark)
    paths, inodes, _, directories, modes = before
    return Snapshot(paths, inodes, tuple(contents), directories, modes), marks
