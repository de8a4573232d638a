"""Defense in Depth, judged: take any one layer away, and every named attack still fails.

Theory.  That an attack fails says nothing about how many guards stand in its way.  So the
architecture is started once more for each of its layers, without that layer (and without those that
rest on it), the same processes are seized, and the same attacks are made.  Then it is peeled: one
layer after the other goes, from the outermost in, until none is left.  Five judgements:
- in the whole system every named attack fails;
- without any one layer it still does, and the table says with which error, and which layer gives
  that error (`layer_of`): an attack that was stopped by what was taken is now stopped by another;
- with no layer left, the attacks do succeed (all but those that take root): an attack that fails
  on a bare system is no attack;
- the layer was really gone: a run without seccomp whose processes have filters proves nothing;
- Landlock is in force: it shows itself where nothing else refuses.

How that is done is in `layers`; the attacks, and who answers what, are in `attacks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from specs.observe.probes import Outcome
from specs.patterns.attacks import ATTACKS, Attack, layer_of
from specs.patterns.claims import Claim, Experiment
from specs.patterns.layers import Layers, Revealed, Run, reveal_landlock, take_each_away
from specs.patterns.manifest import Compartment, Manifest
from specs.patterns.observation import Observation, Unavailable
from specs.patterns.sightings import UNTRIED, confined

PATTERN = "defense_in_depth"

# -- predicates -----------------------------------------------------------------------------------


def every_attack_fails(observation: Observation) -> tuple[str, ...]:
    """With all layers on."""
    if not observation.probes:
        raise Unavailable("no process was seized")
    return tuple(_successes(observation.manifest, observation.probes, "with all layers"))


def any_layer_may_go(observation: Observation) -> tuple[str, ...]:
    """Without any one of them."""
    layers = observation.manifest.layers
    runs = observation.result("layers", Layers).runs
    missing = tuple(f"without {each}: it was not started" for each in layers if each not in runs)
    return (
        missing
        + tuple(
            text
            for layer, run in runs.items()
            for text in _successes(observation.manifest, run.tried, f"without {layer}")
        )
        if layers
        else ("there are no layers",)
    )


def _successes(
    manifest: Manifest, tried: Mapping[tuple[str, str], Outcome], when: str
) -> Iterator[str]:
    for attack in ATTACKS:
        outcome = attack.of(tried, manifest)
        if outcome.done:
            yield f"{when}: {attack.name} ({attack.probe} succeeds: {outcome.detail})"
        elif attack.victim(manifest) in manifest.privileged:
            yield f"{when}: {attack.name}: {attack.victim(manifest)} is root"
        elif outcome.result in UNTRIED:
            yield f"{when}: {attack.name}: nobody tried it"
        elif outcome.result == "killed":
            yield f"{when}: {attack.name}: the process did not survive it"


def attacks_are_real(observation: Observation) -> tuple[str, ...]:
    """With no layer left, what every user of a bare system could do is done."""
    found, manifest = observation.result("layers", Layers), observation.manifest
    whole = Run(layers=manifest.layers, tried=observation.probes)
    bare = [each for each in (whole, *found.runs.values(), *found.peeled) if not each.layers]
    if not bare:
        return ("no run was without any layer",)
    tried = bare[-1].tried
    return tuple(
        f"with no layer: {attack.name}: {attack.probe} is answered {outcome.result}"
        for attack in ATTACKS
        if attack.bare and not (outcome := attack.of(tried, manifest)).done
    )


def a_layer_that_goes_is_gone(observation: Observation) -> tuple[str, ...]:
    """Otherwise a run without it proves nothing."""
    runs = observation.result("layers", Layers).runs
    if not runs:
        return ("there are no layers",)
    return tuple(f"without {layer}: {e}" for layer, run in runs.items() for e in run.still_there)


def landlock_is_in_force(observation: Observation) -> tuple[str, ...]:
    """In every confined process: what only Landlock refuses is refused with EACCES."""
    outcomes = observation.result("landlock", Revealed).outcomes
    parts = [part for row in _confined_rows(observation.manifest) for part in row.parts]
    return tuple(
        f"{part}: {'nobody tried it' if outcome is None else f'answered {outcome.result}'}"
        for part in parts
        if (outcome := outcomes.get(part)) is None or outcome.result != "EACCES"
    ) or (() if parts else ("nobody is confined",))


def _confined_rows(manifest: Manifest) -> list[Compartment]:
    free = confined(manifest)
    return [row for row in manifest.compartments if free(row)]


# -- for people -----------------------------------------------------------------------------------


def table(observation: Observation) -> tuple[tuple[str, ...], ...]:
    """Attack, then for the whole and without each layer: the error, and which layer gave it; at
    last, how many layers had to go before it succeeded.  The first row is the head.
    """
    found, manifest = observation.result("layers", Layers), observation.manifest
    whole = Run(layers=manifest.layers, tried=observation.probes)
    columns = {"with all": whole}
    columns |= {f"without {layer}": run for layer, run in found.runs.items()}
    return (("attack", *columns, "succeeds"), *(
        (attack.name, *(_cell(attack, run, manifest) for run in columns.values()),
         _depth(attack, (whole, *found.runs.values(), *found.peeled), manifest))
        for attack in ATTACKS
    ))  # fmt: skip


def _cell(attack: Attack, run: Run, manifest: Manifest) -> str:
    outcome = attack.of(run.tried, manifest)
    if outcome.done or outcome.result in UNTRIED:
        return outcome.result
    return f"{outcome.result} ({layer_of(attack.probe, outcome, run.layers)})"


def _depth(attack: Attack, runs: Iterable[Run], manifest: Manifest) -> str:
    for run in sorted(runs, key=lambda each: -len(each.layers)):
        if attack.of(run.tried, manifest).done:
            return f"with {', '.join(run.layers) or 'no layer'} left"
    return "never"


EXPERIMENTS = (
    Experiment("landlock", reveal_landlock, destructive=True),
    Experiment("layers", take_each_away, destructive=True),
)

CLAIMS = (
    Claim(PATTERN, "every_attack_fails", "With all layers on, every named attack fails.",
          every_attack_fails),
    Claim(PATTERN, "any_layer_may_go",
          "Take any one layer away: every named attack still fails, at another one.",
          any_layer_may_go),
    Claim(PATTERN, "attacks_are_real",
          "With no layer left, the attacks that need no root succeed.", attacks_are_real),
    Claim(PATTERN, "a_layer_that_goes_is_gone",
          "An architecture that is started without a layer does not have it.",
          a_layer_that_goes_is_gone),
    Claim(PATTERN, "landlock_is_in_force",
          "Landlock refuses each confined process what nothing else would refuse.",
          landlock_is_in_force),
)  # fmt: skip
