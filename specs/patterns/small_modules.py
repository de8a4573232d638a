"""Small modules: lines and imports per compartment; the privileged code within its own budget.

Measured is what a process of each compartment has loaded: all of `sys.modules` after its entry
point ran (`Target.modules`).  That this is what the *running* process has, too, is told by the
kernel: every shared object that is mapped there must be a file of the measured list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from specs.patterns.claims import Bench, Claim, Experiment
from specs.patterns.manifest import Budget, Compartment
from specs.patterns.observation import Module, Observation, Unavailable
from specs.patterns.source import imports

PATTERN: Final = "small_modules"
MAPPED: Final = "small_modules.mapped"
#: Where extension modules of the interpreter and of packages lie.
_PLACES: Final = ("/lib-dynload/", "/site-packages/", "/dist-packages/")


@dataclass(frozen=True, slots=True)
class Measure:
    """What one compartment's processes have loaded, counted."""

    own_lines: int
    lines: int
    modules: int


def measure(loaded: tuple[Module, ...]) -> Measure:
    """Lines of code and modules."""
    return Measure(
        own_lines=sum(each.lines for each in loaded if each.own),
        lines=sum(each.lines for each in loaded),
        modules=len(loaded),
    )


# -- budgets --------------------------------------------------------------------------------------


def _measured(observation: Observation) -> Iterator[tuple[str, Measure]]:
    """(compartment, measure), one for each compartment.  Raises Unavailable."""
    if not any(observation.modules.values()):
        raise Unavailable("this target is not made of modules that could be counted")
    for compartment in observation.manifest.compartments:
        yield compartment.name, measure(_loaded(observation, compartment))


def _loaded(observation: Observation, compartment: Compartment) -> tuple[Module, ...]:
    every = (observation.modules.get(part, ()) for part in compartment.parts)
    return max(every, key=len, default=())


def _over(observation: Observation, what: str) -> tuple[str, ...]:
    found = []
    for name, measured in _measured(observation):
        budget = observation.manifest.budgets.get(name)
        there = getattr(measured, what)
        if budget is None:
            found.append(f"{name} has no budget")
        elif not measured.modules:
            found.append(f"{name}: nothing is known of what it loads")
        elif there > getattr(budget, what):
            found.append(f"{name}: {there} of {getattr(budget, what)} {what.replace('_', ' ')}")
    return tuple(found)


#: A budget this much above its measure is no budget, in percent.
SLACK_PERCENT: Final = 50


def _budgets_are_near(observation: Observation) -> tuple[str, ...]:
    """Budgets that would not notice it if a compartment grew by half."""
    found = []
    for name, measured in _measured(observation):
        budget = observation.manifest.budgets.get(name)
        if budget is not None:
            loose = _loose(measured, budget)
            found += [f"{name}: {each}" for each in loose]
    return tuple(found)


def _loose(measured: Measure, budget: Budget) -> Iterator[str]:
    for what in ("own_lines", "lines", "modules"):
        there, most = getattr(measured, what), getattr(budget, what)
        if most > there * (100 + SLACK_PERCENT) // 100:
            yield f"{most} {what.replace('_', ' ')} for {there}"


def _privileged_is_smallest(observation: Observation) -> tuple[str, ...]:
    """Whatever may be root loads less of the judged's own code than anybody else."""
    measured = dict(_measured(observation))
    privileged = {observation.manifest.of(each).name for each in observation.manifest.privileged}
    others = [measured[each].own_lines for each in measured if each not in privileged]
    if not privileged or not others:
        return ("there is nothing to compare",)
    return tuple(
        f"{name}: {measured[name].own_lines} own lines; one without privilege has {min(others)}"
        for name in privileged
        if measured[name].own_lines >= min(others)
    )


def _privileged_is_ours(observation: Observation) -> tuple[str, ...]:
    """The privileged program imports the interpreter's library and itself, and no package beside
    them.  (What the interpreter loads by itself when it starts is no choice of the program's.)
    """
    own = [
        module
        for part in observation.manifest.privileged
        for module in observation.modules.get(part, ())
        if module.own and module.file.endswith(".py")
    ]
    if not own:
        raise Unavailable("the privileged program is not made of modules that could be read")
    allowed = {*sys.stdlib_module_names, *(each.name.partition(".")[0] for each in own)}
    return tuple(
        f"{module.name} imports {each}"
        for module in own
        for each in sorted(imports(Path(module.file).read_text(encoding="utf-8")) - allowed)
    )


# -- what is measured is what runs ----------------------------------------------------------------


def _mapped(bench: Bench) -> Mapping[str, frozenset[str]]:
    """Process name -> extension modules that are mapped into such processes, by path."""
    found: dict[str, set[str]] = {}
    for process in bench.target.processes():
        try:
            text = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
        except OSError:
            continue  # it has ended
        paths = (line.split(maxsplit=5)[5] for line in text.splitlines() if line.count("/"))
        found.setdefault(process.name, set()).update(filter(_is_extension, paths))
    return {name: frozenset(paths) for name, paths in found.items()}


def _is_extension(path: str) -> bool:
    """Libraries that packages bring for their own use (NAME.libs/) are no modules."""
    place, _, name = path.rpartition("/")
    inside = any(each in f"{place}/" for each in _PLACES) and not place.endswith(".libs")
    return inside and ".so" in name and "cpython" in name


def _measured_is_running(observation: Observation) -> tuple[str, ...]:
    mapped = observation.result(MAPPED, dict)
    if not any(observation.modules.values()):
        raise Unavailable("this target is not made of modules")
    if not any(mapped.values()):
        return ("no process has an extension module mapped: nothing could be compared",)
    return tuple(
        f"{name} has mapped {path}, which its measured program does not load"
        for name, paths in mapped.items()
        for path in sorted(paths - {each.file for each in observation.modules.get(name, ())})
    )


EXPERIMENTS: Final = (Experiment(MAPPED, _mapped),)
CLAIMS: Final = (
    Claim(
        PATTERN, "own_lines_within_budget",
        "Each compartment loads no more lines of the judged than said.",
        lambda seen: _over(seen, "own_lines"),
    ),
    Claim(
        PATTERN, "lines_within_budget", "Each compartment loads no more lines in all than said.",
        lambda seen: _over(seen, "lines"),
    ),
    Claim(
        PATTERN, "modules_within_budget", "Each compartment loads no more modules than said.",
        lambda seen: _over(seen, "modules"),
    ),
    Claim(
        PATTERN, "budgets_are_near", "No budget is so wide that it says nothing.", _budgets_are_near
    ),
    Claim(
        PATTERN, "privileged_is_smallest",
        "Privileged code is less than any other's.", _privileged_is_smallest,
    ),
    Claim(
        PATTERN, "privileged_is_ours",
        "Privileged code was written here, and rests on the interpreter's library alone.",
        _privileged_is_ours,
    ),
    Claim(
        PATTERN, "measured_is_running", "What was counted is what runs.", _measured_is_running
    ),
)  # fmt: skip
