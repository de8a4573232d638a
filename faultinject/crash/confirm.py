"""Does a server do what its plan says?  What strace saw until the reply, against the plan.

The plan comes from the server's own code (`stores.Stores.planned`), for the very message that was
recorded; every step is compared: kind, names, octets, order.  Not compared is into how many writes
the octets of a file are cut, which follows how they came in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from faultinject.crash.recorder import Scene
from faultinject.crash.stores import Step, Stores
from specs.persistence.model_disk import ModelDisk, Recorded, Snapshot
from specs.persistence.rehearsal import plan_of

_Row = tuple[str, str, bytes, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """steps: of the plan.  difference: "" if the recording is equal to it."""

    steps: tuple[Step, ...] = ()
    difference: str = ""

    @property
    def lines(self) -> dict[tuple[str, str], str]:
        """(kind, path) -> the line that takes this step."""
        return {(each.kind, each.path): each.line for each in self.steps if each.line}


def confirm(scene: Scene, stores: Stores, architecture: str) -> Confirmed:
    """Of a scene with one letter."""
    initial = below(scene.recording.initial, scene.spool)
    disk = ModelDisk(initial)
    try:
        seen = plan_of(initial, until_reply(scene))
        disk.execute(seen)
        steps = tuple(stores.planned(architecture, initial, disk.snapshot()))
    except (ValueError, OSError) as error:
        return Confirmed(difference=f"{type(error).__name__}: {error}")
    plan = joined((each.kind, each.path, each.data, each.target) for each in steps)
    made = joined((each.kind, each.path, each.data, each.target) for each in seen)
    plan[-1:] = [("reply", made[-1][1], b"", "")]  # the client's name for it is another
    return Confirmed(steps=steps, difference=_difference(plan, made))


def joined(rows: Iterable[_Row]) -> list[_Row]:
    """Writes to a file, one right behind the other, are one."""
    found: list[_Row] = []
    for kind, path, data, target in rows:
        if found and kind == "write" and found[-1][:2] == (kind, path):
            found[-1] = (kind, path, found[-1][2] + data, target)
        else:
            found.append((kind, path, data, target))
    return found


def _difference(plan: list[_Row], made: list[_Row]) -> str:
    for number, (planned, done) in enumerate(zip(plan, made, strict=False), 1):
        if planned != done:
            return f"step {number} is planned as {_said(planned)}, and was {_said(done)}"
    if len(plan) != len(made):
        return f"{len(plan)} steps are planned, and {len(made)} were made"
    return ""


def _said(row: _Row) -> str:
    kind, path, data, target = row
    return (
        f"{kind} {path}{f' {len(data)} octets' if data else ''}{f' -> {target}' if target else ''}"
    )


def until_reply(scene: Scene) -> list[Recorded]:
    """What the process that took the message did to the queue, by names below it, and the reply."""
    found: list[Recorded] = []
    maker = 0
    for each, call in zip(scene.recording.operations, scene.recording.calls, strict=True):
        if each.kind == "reply":
            return [*found, each]
        maker = maker or call.pid
        if call.pid != maker:
            continue  # who was told of the message goes on with it already
        if each.path == scene.spool or each.path.startswith(f"{scene.spool}/"):
            found.append(
                each._replace(
                    path=_strip(each.path, scene.spool), target=_strip(each.target, scene.spool)
                )
            )
    return found


def below(disk: Snapshot, top: str) -> Snapshot:
    """What lies below one directory, as a disk of its own."""
    kept = [number for number, path in enumerate(disk.paths) if path.startswith(f"{top}/")]
    return Snapshot(
        tuple(_strip(disk.paths[number], top) for number in kept),
        tuple(disk.inodes[number] for number in kept),
        tuple(disk.contents[number] for number in kept),
        frozenset({"", *_below(disk.directories, top)}),
        tuple(disk.modes[number] for number in kept) if disk.modes else (),
    )


def _below(paths: Iterable[str], top: str) -> Iterable[str]:
    return (_strip(path, top) for path in paths if path.startswith(f"{top}/"))


def _strip(path: str, top: str) -> str:
    return path.removeprefix(f"{top}/") if path != top else ""
