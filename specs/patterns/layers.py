"""The experiment of Defense in Depth: a target is started without each of its layers, and attacked.

Landlock, which the kernel shows nowhere in /proc, is made to show itself: by something that the
user may do, that the jail has, and that only Landlock refuses (EACCES).  Where system calls are
filtered EPERM comes first and hides it, so it is looked for in the run without that filter.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from specs.observe.probes import PROBES, Aims, Outcome, Probe, attempt
from specs.observe.process import Process, look
from specs.observe.seize import Gone, Seized
from specs.patterns.attacks import ATTACKS, SECCOMP
from specs.patterns.chroot_jail import MACHINE
from specs.patterns.claims import Bench
from specs.patterns.gather import Running, aims
from specs.patterns.manifest import Compartment
from specs.patterns.observation import Unavailable
from specs.patterns.sightings import compartment_of, confined
from specs.patterns.target import TargetError

_FDCWD: Final = -100

# -- is Landlock there? ---------------------------------------------------------------------------


def _socket_inside(victim: Seized, aims_: Aims) -> Outcome:
    """A socket's node in a directory that it may change."""
    name = victim.write(os.fsencode(f"{aims_.places['inside'].rstrip('/')}/probe.of.specs"))
    result = victim.call("mknod", name, stat.S_IFSOCK | 0o600, 0)
    if result >= 0:
        victim.call("unlink", name)
    return _outcome(result)


def _write_null(victim: Seized, _aims: Aims) -> Outcome:
    """The null device, which every user may write to."""
    return _close(victim, victim.call("openat", _FDCWD, victim.write(b"/dev/null"), os.O_WRONLY, 0))


def _list_root(victim: Seized, _aims: Aims) -> Outcome:
    """An empty jail, which every user may list."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    return _close(victim, victim.call("openat", _FDCWD, victim.write(b"/"), flags, 0))


def _close(victim: Seized, descriptor: int) -> Outcome:
    if descriptor >= 0:
        victim.call("close", descriptor)
    return _outcome(descriptor)


def _outcome(result: int) -> Outcome:
    return Outcome("done" if result >= 0 else errno.errorcode.get(-result, str(-result)))


SOCKET_INSIDE = Probe("socket_inside", "make a socket where it may write", _socket_inside)
WRITE_NULL = Probe("write_null", "write to /dev/null", _write_null)
LIST_ROOT = Probe("list_root", "list /", _list_root)


def _revealing(row: Compartment, process: Process) -> tuple[Probe, Aims]:
    """What only Landlock refuses to this compartment."""
    if row.changes or row.per_user:
        inside = row.changes[0] if row.changes else process.root
        if process.root != MACHINE:
            inside = inside.removeprefix(process.root)
        return SOCKET_INSIDE, Aims(places={"inside": inside or "/"})
    return (WRITE_NULL if row.jail == "none" else LIST_ROOT), Aims()


# -- the experiment -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One start without a layer.  layers: those that were left, as its manifest says.  tried:
    (process name, probe) -> outcome.  still_there: signs that the layer was not gone.
    """

    layers: tuple[str, ...]
    tried: Mapping[tuple[str, str], Outcome]
    still_there: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """runs: the layer that was taken -> what came of it.  peeled: one layer after the other gone,
    the first of these without two.
    """

    runs: Mapping[str, Run]
    peeled: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Revealed:
    """outcomes: process name -> of what only Landlock refuses, where no filter comes before it."""

    outcomes: Mapping[str, Outcome]


def reveal_landlock(bench: Bench) -> Revealed:
    """In the system itself, or without its filters.  Raises TargetError."""
    if SECCOMP not in bench.manifest.layers:
        return Revealed(_landlock(bench))
    with bench.fresh(f"{bench.manifest.architecture}-{SECCOMP}") as less:
        return Revealed(_landlock(less))


def take_each_away(bench: Bench) -> Layers:
    """A run for each layer, and the peeling.  Raises TargetError if one does not start."""
    whole = bench.manifest
    runs: dict[str, Run] = {}
    for layer in whole.layers:
        with bench.fresh(f"{whole.architecture}-{layer}") as less:
            runs[layer] = Run(
                layers=less.manifest.layers,
                still_there=tuple(_still_there(less, layer)),
                tried=_attack(less),
            )
    return Layers(runs=runs, peeled=tuple(_peel(bench)))


def _peel(bench: Bench) -> Iterator[Run]:
    """From the outermost layer in; those that rest on one go with it."""
    name, left = bench.manifest.architecture, bench.manifest.layers
    for place, layer in enumerate(reversed(bench.manifest.layers)):
        name = f"{name}-{layer}"
        if place and layer in left:
            with bench.fresh(name) as less:
                left = less.manifest.layers
                yield Run(layers=left, tried=_attack(less))


def _attack(bench: Bench) -> dict[tuple[str, str], Outcome]:
    """All attacks; a process of each name is seized once.  What would change one that is root's
    would change the machine.
    """
    if not isinstance(bench, Running):
        raise Unavailable("nothing to aim at")
    by_part: dict[str, list[str]] = defaultdict(list)
    for each in ATTACKS:
        by_part[each.victim(bench.manifest)].append(each.probe)
    found: dict[tuple[str, str], Outcome] = {}
    for part, names in by_part.items():
        victim = bench.process(part)
        spared = part in bench.manifest.privileged
        chosen = [e for e in PROBES if e.name in names and not (spared and e.harmful)]
        try:
            outcomes = attempt(victim.pid, aims(bench, victim), chosen)
        except Gone:
            continue  # the claim says what was not tried
        found |= {(part, name): outcome for name, outcome in outcomes.items()}
    return found


def _landlock(bench: Bench) -> dict[str, Outcome]:
    found = {}
    for row in bench.manifest.compartments:
        for part in row.parts:
            if part == bench.manifest.starter:
                continue
            try:
                pid = bench.process(part).pid
                process = look(pid, part)
                if process is not None:
                    probe, places = _revealing(row, process)
                    found[part] = attempt(pid, places, [probe])[probe.name]
            except (Gone, TargetError):
                continue  # the claim says whom it misses
    return found


def _still_there(bench: Bench, layer: str) -> Iterator[str]:
    """Signs of a layer that should be gone, in any process that can show them."""
    if layer in bench.manifest.layers:
        yield f"the manifest still has {layer}"
    machine = look(os.getpid(), "observer")
    seen = [look(each.pid, each.name, each.detail) for each in bench.target.processes()]
    free = confined(bench.manifest)
    for process in seen:
        row = process and compartment_of(bench.manifest, process.name)
        if process and machine and row and free(row) and _shows(process, machine, layer):
            yield f"{process.name} has it"
    uids = {each.uids[0] for each in seen if each and each.name not in bench.manifest.privileged}
    if layer == "users" and len(uids) > 1 + len(bench.manifest.recipients):
        yield f"there are {len(uids)} users"


def _shows(process: Process, machine: Process, layer: str) -> bool:
    match layer:
        case "namespace":
            return process.namespaces["user"] != machine.namespaces["user"]
        case "network":
            return process.namespaces["net"] != machine.namespaces["net"]
        case "jail":
            return process.root != MACHINE
        case "capabilities":
            return process.dumpable is False and process.no_new_privs
        case "seccomp":
            return process.seccomp != 0
    return False
