"""How a predicate about single processes becomes a judgement on a whole observation.

Two rules, kept here once for all claims: each process counts at each instant at which it was seen,
but says the same thing only once; and if nobody was there to be looked at, that is a counterexample
("all workers are jailed" must not hold for want of workers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from specs.observe.process import Process
from specs.patterns.manifest import Compartment, Manifest
from specs.patterns.observation import Observation, Outcome, Unavailable

#: What is wrong with a process, in words; nothing if all is well.
Wrong = Callable[[Process, Compartment], Iterable[str]]
Chosen = Callable[[Compartment], bool]


def compartment_of(manifest: Manifest, part: str) -> Compartment | None:
    """The compartment of a process name, None for a stranger."""
    return next((each for each in manifest.compartments if part in each.parts), None)


def everybody(_compartment: Compartment) -> bool:
    """All processes, the privileged ones, too."""
    return True


def confined(manifest: Manifest) -> Chosen:
    """All but the one that makes the others, whatever their users are."""
    return lambda compartment: manifest.starter not in compartment.parts


def who(process: Process) -> str:
    """A process in a counterexample."""
    whose = f" of {process.detail}" if process.detail else ""
    return f"{process.name}{whose} (pid {process.pid})"


def judged(observation: Observation, wrong: Wrong, chosen: Chosen = everybody) -> tuple[str, ...]:
    """Counterexamples of all processes of the chosen compartments, at all instants."""
    found: dict[tuple[int, str], str] = {}
    looked = False
    for instant, process in observation.sightings():
        compartment = compartment_of(observation.manifest, process.name)
        if compartment is None or not chosen(compartment):
            continue
        looked = True
        for text in wrong(process, compartment):
            line = f"{who(process)}, {instant.label}: {text}"
            found.setdefault((process.pid, text), line)
    return tuple(found.values()) if looked else ("nobody was there to be looked at",)


# -- what was tried from inside -------------------------------------------------------------------

#: An outcome that says nothing about whether the attempt would have succeeded.
UNTRIED = ("none", "spoiled")


#: Whether a compartment may do what this probe did, with this outcome.
May = Callable[[Compartment, str, Outcome], bool]


def attempts(observation: Observation, probes: Iterable[str], *, may: May) -> tuple[str, ...]:
    """Counterexamples: an attempt by a confined process that succeeded although it `may` not, or
    that ended the process; a probe that nobody tried.  Raises Unavailable without any probes.
    """
    if not observation.probes:
        raise Unavailable("no process was seized")
    chosen = confined(observation.manifest)
    wrong: list[str] = []
    for probe in probes:
        tried = 0
        for part, outcome in observation.outcomes(probe).items():
            compartment = compartment_of(observation.manifest, part)
            if compartment is None or not chosen(compartment) or outcome.result in UNTRIED:
                continue
            tried += 1
            if (text := _too_much(outcome)) and not may(compartment, probe, outcome):
                wrong.append(f"{part}: {probe}: {text}")
        if not tried:
            wrong.append(f"{probe}: nobody tried it")
    return tuple(wrong)


def never(_compartment: Compartment, _probe: str, _outcome: Outcome) -> bool:
    """What no confined process may do."""
    return False


def _too_much(outcome: Outcome) -> str:
    if outcome.done:
        return f"succeeds ({outcome.detail})" if outcome.detail else "succeeds"
    return "the process did not survive it" if outcome.result == "killed" else ""
