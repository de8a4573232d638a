"""chroot Jail, judged: what a process sees as "/", what it holds from outside, and whether it gets
out.

Theory.  A jail is the path that /proc/PID/root shows, and it holds if three more things hold: no
open directory lies outside of it (fchdir(2) leads there), nothing in it is a way to the machine (a
device node, a writable place in a jail that should be empty), and no attempt from inside leads out.
The attempts are made by the seized process itself; that it *was* jailed is seen from outside, so
that a jail which merely refuses the attempts (for lack of permission, say) does not count.

A compartment whose row says "none" has no jail; it must say why, and nothing else is asked here.
"""

from __future__ import annotations

from collections.abc import Iterator

from specs.observe.process import Process
from specs.patterns.claims import Claim
from specs.patterns.manifest import Compartment
from specs.patterns.observation import Observation
from specs.patterns.sightings import attempts, confined, judged

PATTERN = "chroot_jail"
MACHINE = "/"
#: Attempts to leave a jail, or to see what is outside.
WAYS_BACK = (
    "change_root", "climb", "mount", "make_device", "new_user_namespace", "reach_namespaces",
    "open_passwd", "open_shadow", "open_environ", "open_own_memory",
)  # fmt: skip
#: Without a jail there is nothing to leave; what every user may read remains.
WITHOUT_A_JAIL = ("open_passwd", "climb")


def _jailed(compartment: Compartment) -> bool:
    return compartment.jail != "none"


# -- predicates -----------------------------------------------------------------------------------


def root_is_the_jail(observation: Observation) -> tuple[str, ...]:
    """/proc/PID/root is the directory that the manifest names; a recipient's own for an agent."""
    return judged(observation, lambda process, row: _root(observation, process, row), _jailed)


def _root(observation: Observation, process: Process, compartment: Compartment) -> Iterator[str]:
    expected = compartment.root or _home(observation, process)
    if process.root == MACHINE:
        yield "it sees the machine's root"
    elif process.root != expected:
        yield f"its root is {process.root}, not {expected or 'a home of anybody known'}"


def _home(observation: Observation, process: Process) -> str:
    """A recipient's mail lies in his home: an asset "mail of" him."""
    assets = observation.manifest.assets
    return next((each.path for each in assets if each.name == f"mail of {process.detail}"), "")


def an_empty_jail_is_empty(observation: Observation) -> tuple[str, ...]:
    """No name in it, and nobody but root may put one there."""
    wrong = judged(
        observation,
        lambda process, _row: (
            ()
            if process.root_listing == ()
            else ("its root can't be read",)
            if process.root_listing is None
            else (f"its root holds {', '.join(process.root_listing[:3])}",)
        ),
        lambda row: row.jail == "empty",
    )
    places = {row.root for row in observation.manifest.compartments if row.jail == "empty"}
    return (*wrong, *(text for place in sorted(places) for text in _open(observation, place)))


def _open(observation: Observation, place: str) -> Iterator[str]:
    file = next((each for each in observation.files if each.path == place), None)
    if file is None:
        yield f"{place}: nobody looked at it"
    elif file.owner != 0 or file.mode & 0o222:
        yield f"{place}: user {file.owner}, mode {file.mode:o}: others than root may change it"


def no_device_in_a_jail(observation: Observation) -> tuple[str, ...]:
    """A device node is a way to the kernel, and to the disk, past every directory."""
    jails = {each.root for _, each in observation.sightings() if each.root != MACHINE}
    if not jails:
        return ("nobody has a jail",)
    return tuple(
        f"{each.path}: {each.kind} device in the jail {jail}"
        for jail in sorted(jails)
        for each in observation.files
        if each.kind in ("char", "block") and below(each.path, jail)
    )


def nothing_open_leads_outside(observation: Observation) -> tuple[str, ...]:
    """Every open directory, and the working directory, lie at or below the jail."""
    return judged(observation, _outside, _jailed)


def _outside(process: Process, _compartment: Compartment) -> Iterator[str]:
    if process.root == MACHINE:
        yield "it sees the machine's root, so nothing is outside"
    if not below(process.cwd, process.root):
        yield f"it works in {process.cwd}, outside of {process.root}"
    for each in process.descriptors:
        if each.kind == "dir" and not below(each.target, process.root):
            yield f"descriptor {each.number} is the directory {each.target}"


def no_way_back(observation: Observation) -> tuple[str, ...]:
    """Every attempt of a seized process to get out fails."""
    return attempts(
        observation, WAYS_BACK,
        may=lambda row, probe, _: row.jail == "none" and probe in WITHOUT_A_JAIL,
    )  # fmt: skip


def no_jail_has_a_reason(observation: Observation) -> tuple[str, ...]:
    """Whoever has more than an empty jail says why; who has no jail may change nothing."""
    chosen = confined(observation.manifest)
    return tuple(
        f"{row.name}: jail {row.jail!r}: {text}"
        for row in observation.manifest.compartments
        if chosen(row) and row.jail != "empty"
        for text in _unfounded(row)
    )


def _unfounded(row: Compartment) -> Iterator[str]:
    if not row.reason:
        yield "no reason is given"
    if row.jail == "none" and row.user == 0:
        yield "it is root's, and may change everything"
    elif row.jail == "none" and row.changes:
        yield f"it may change {', '.join(row.changes)}"


def below(path: str, directory: str) -> bool:
    """Whether a path is a directory, or lies in it; both absolute."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


CLAIMS = (
    Claim(PATTERN, "root_is_the_jail",
          "What a process sees as its root directory is the jail of its compartment.",
          root_is_the_jail),
    Claim(PATTERN, "an_empty_jail_is_empty",
          "An empty jail holds no name, and nobody but root may put one there.",
          an_empty_jail_is_empty),
    Claim(PATTERN, "no_device_in_a_jail", "No jail holds a device node.", no_device_in_a_jail),
    Claim(PATTERN, "nothing_open_leads_outside",
          "No open directory of a jailed process, nor its working directory, lies outside.",
          nothing_open_leads_outside),
    Claim(PATTERN, "no_way_back",
          "No attempt of a seized process to leave its jail, or to look outside, succeeds.",
          no_way_back),
    Claim(PATTERN, "no_jail_has_a_reason",
          "Whoever has more than an empty jail has a reason, and who has none changes no file.",
          no_jail_has_a_reason),
)  # fmt: skip
