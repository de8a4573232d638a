"""How an observation is made: a target is started, put under load, looked at, and tried.

start -> load -> look -> files, modules, experiments -> probes -> load -> experiments that
destroy -> load -> look -> the journal -> stop
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from specs.observe.files import locks, walk
from specs.observe.probes import PROBES, Aims, Outcome, attempt
from specs.observe.process import look
from specs.observe.seize import Gone
from specs.observe.unavailable import Unavailable
from specs.patterns.bench import Maker, Running, running
from specs.patterns.claims import Experiment
from specs.patterns.manifest import Compartment, Manifest
from specs.patterns.observation import Failed, Module, Observation
from specs.patterns.target import Named, TargetError

__all__ = ["Running", "aims", "gather", "running"]

Tell = Callable[[str], None]
#: How often somebody is sought to be seized.
TRIES: Final = 2


def _quietly(_text: str) -> None:
    """How far it is, told to nobody."""


def gather(
    maker: Maker, architecture: str, experiments: tuple[Experiment, ...], tell: Tell = _quietly
) -> Observation:
    """Everything.  Raises TargetError, NoSuchArchitecture, Unavailable."""
    with running(maker, architecture) as bench:
        tell(f"{bench.target.name}:{bench.manifest.architecture} runs, under load")
        loaded = bench.instant("loaded")
        files = walk([bench.target.spool, *bench.target.mailboxes().values()])
        held = locks(files)
        modules = _modules(bench)
        results = _results(bench, [each for each in experiments if not each.destructive], tell)
        probes = _probes(bench, tell)
        bench.settle()
        bench.load()
        results |= _results(bench, [each for each in experiments if each.destructive], tell)
        bench.load()
        return Observation(
            manifest=bench.manifest,
            instants=(loaded, bench.instant("after")),
            machine=look(os.getpid(), "observer"),
            files=files,
            locks=held,
            probes=probes,
            modules=modules,
            events=tuple(bench.target.journal()),
            results=results,
        )


# -- parts ----------------------------------------------------------------------------------------


def _modules(bench: Running) -> dict[str, tuple[Module, ...]]:
    names = {part: None for each in bench.manifest.compartments for part in each.parts}
    return {name: bench.target.modules(name) for name in names}


def _results(bench: Running, experiments: list[Experiment], tell: Tell) -> dict[str, object]:
    found: dict[str, object] = {}
    for each in experiments:
        tell(f"experiment: {each.name}")
        try:
            found[each.name] = each.run(bench)
        except Unavailable as missing:
            found[each.name] = missing
        except Exception as error:  # it is the claim's to fail, not ours
            found[each.name] = Failed(f"{type(error).__name__}: {error}")
        if each.destructive:
            bench.settle()
    return found


def _probes(bench: Running, tell: Tell) -> dict[tuple[str, str], Outcome]:
    """One process of each name, those first that are easily replaced."""
    found: dict[tuple[str, str], Outcome] = {}
    for part, harmless in _order(bench.manifest):
        tell(f"seized: {part}")
        chosen = [each for each in PROBES if not (harmless and each.harmful)]
        for _ in range(TRIES):
            try:
                victim = bench.process(part)
                outcomes = attempt(victim.pid, aims(bench, victim), chosen)
            except (Gone, TargetError) as error:
                tell(f"not seized: {part}: {error}")  # claims say what they miss
                bench.settle()  # who was seized before may have been what this one rests on
                continue
            found |= {(part, name): outcome for name, outcome in outcomes.items()}
            break
    return found


def _order(manifest: Manifest) -> list[tuple[str, bool]]:
    """(process name, harmless attempts only): what holds up the rest comes last, and is spared."""
    rows = [(part, each) for each in manifest.compartments for part in each.parts]

    def rank(row: tuple[str, Compartment]) -> tuple[bool, bool, bool]:
        part, each = row
        return part in manifest.privileged, part == each.parts[0] and not each.lazy, not each.lazy

    return [(part, part in manifest.privileged) for part, _ in sorted(rows, key=rank)]


def aims(bench: Running, victim: Named) -> Aims:
    """What that process is made to aim at: never what is its own."""
    places = {each.name: each.path for each in bench.manifest.assets}
    places["spool"] = str(bench.target.spool)
    queued = bench.target.queued()
    if queued:
        places |= {"message": str(queued[0]), "queue": str(queued[0].parent)}
    others = [each for each in bench.site.users if each != victim.detail]
    mailbox = bench.target.mailboxes()[f"{others[0]}@{bench.site.domain}"]
    places["mailbox"] = str(mailbox)
    delivered = sorted(mailbox.iterdir()) if mailbox.is_dir() else [mailbox]
    if delivered:
        places["delivered"] = str(delivered[0])
    return Aims(
        places=places,
        others=_others(bench.target.processes(), victim),
        port=bench.target.address[1],
        user=_foreign_user(bench.manifest, victim),
    )


def _others(processes: list[Named], victim: Named) -> Mapping[str, int]:
    """One of each name; of the victim's own name another one."""
    return {each.name: each.pid for each in processes if each.pid != victim.pid}


def _foreign_user(manifest: Manifest, victim: Named) -> int:
    own = manifest.of(victim.name).user
    users = (each.user for each in manifest.compartments)
    return next((each for each in users if each not in (own, None, 0)), 65534) or 65534
