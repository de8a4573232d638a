"""Least privilege, judged: credentials, capabilities and filters, as the kernel shows them.

Theory.  Everything here is a line of /proc/PID/status but two: whether a process is dumpable is
seen by who owns its files in /proc, and that nothing can be had back is tried from inside.  The
spawner is the exception that the pattern needs: it makes users of processes.  It is held to its
list of capabilities, exactly, and to being the only one.
"""

from __future__ import annotations

from collections.abc import Iterator

from specs.observe.process import Capabilities, Process
from specs.patterns.claims import Claim, Unavailable
from specs.patterns.manifest import Compartment
from specs.patterns.observation import Observation
from specs.patterns.sightings import attempts, confined, judged, never, who

PATTERN = "least_privilege"
#: How many capabilities the privileged process may have.
MOST_CAPABILITIES = 3
#: linux/capability.h, for people.
CAPABILITIES = {
    0: "CHOWN", 1: "DAC_OVERRIDE", 2: "DAC_READ_SEARCH", 3: "FOWNER", 5: "KILL", 6: "SETGID",
    7: "SETUID", 8: "SETPCAP", 10: "NET_BIND_SERVICE", 12: "NET_ADMIN", 13: "NET_RAW",
    18: "SYS_CHROOT", 19: "SYS_PTRACE", 21: "SYS_ADMIN", 27: "MKNOD",
}  # fmt: skip
#: Attempts to become more than one is.
WAYS_UP = (
    "become_root", "become_other", "drop_groups", "become_dumpable", "execute", "mount",
    "new_user_namespace", "reach_ring", "reach_bpf", "reach_faults",
)  # fmt: skip
#: What makes a privileged process worth seizing, beside the ids that it may set.
SPOILS = ("open_shadow", "open_message", "create_file", "make_socket", "execute")
#: The kernel's default (getrlimit(2)) is unlimited; a core file has mail in it.
CORE = "Max core file size"


# -- users ----------------------------------------------------------------------------------------


def only_the_spawner_is_root(observation: Observation) -> tuple[str, ...]:
    """Any of the four ids of users and groups, or a supplementary group, being 0 is root.  Who is
    listed as root is seen being it: else the list would be too long.  And the list has one name,
    however good the others' reasons are.
    """
    roots = {each.name for _, each in observation.sightings() if _is_root(each)}
    manifest = observation.manifest
    others = {
        (each.pid, each.name): f"{who(each)}, {instant.label}: it is root"
        for instant, each in observation.sightings()
        if _is_root(each) and each.name != manifest.starter
    }
    idle = (
        f"{name}: listed as root, but is not" for name in sorted({*manifest.privileged} - roots)
    )
    return (*others.values(), *idle)


def _is_root(process: Process) -> bool:
    return 0 in (*process.uids, *process.gids, *process.groups)


# -- capabilities ---------------------------------------------------------------------------------


def no_capability_is_left(observation: Observation) -> tuple[str, ...]:
    """None effective, permitted, inheritable, ambient, nor to be had (bounding)."""
    return judged(
        observation, lambda process, _row: _left(process.capabilities, 0),
        confined(observation.manifest),
    )  # fmt: skip


def _left(has: Capabilities, allowed: int) -> Iterator[str]:
    sets = {
        "effective": has.effective,
        "permitted": has.permitted,
        "inheritable": has.inheritable,
        "ambient": has.ambient,
        "bounding": has.bounding,
    }
    for kind, bits in sets.items():
        if bits & ~allowed:
            yield f"{kind}: {named(bits & ~allowed)}"


def named(bits: int) -> str:
    """Capabilities for people."""
    held = [bit for bit in range(64) if bits >> bit & 1]
    if len(held) > MOST_CAPABILITIES:
        return f"{len(held)} capabilities"
    return ", ".join(CAPABILITIES.get(bit, f"capability {bit}") for bit in held)


def the_spawner_has_its_three(observation: Observation) -> tuple[str, ...]:
    """Exactly what the manifest says, three at the most, and no other can come."""
    free = confined(observation.manifest)
    return judged(observation, _privileged, lambda row: not free(row))


def _privileged(process: Process, compartment: Compartment) -> Iterator[str]:
    allowed, has = compartment.capabilities, process.capabilities
    if allowed.bit_count() > MOST_CAPABILITIES:
        yield f"it is given {allowed.bit_count()} capabilities, more than {MOST_CAPABILITIES}"
    if has.inheritable or has.ambient:
        yield f"what it executes inherits {named(has.inheritable | has.ambient)}"
    yield from _left(has, allowed)
    if allowed & ~has.effective:
        yield f"it lacks {named(allowed & ~has.effective)}"


# -- what can't be had back -----------------------------------------------------------------------


def nothing_can_be_gained(observation: Observation) -> tuple[str, ...]:
    """No new privileges, in every process, the spawner included."""
    return judged(
        observation, lambda process, _row: () if process.no_new_privs else ("NoNewPrivs is 0",)
    )


def system_calls_are_filtered(observation: Observation) -> tuple[str, ...]:
    """Seccomp with filters, in every process, the spawner included."""
    return judged(
        observation,
        lambda process, _row: () if process.seccomp == 2 else (f"Seccomp is {process.seccomp}",),
    )


def workers_are_filtered_further(observation: Observation) -> tuple[str, ...]:
    """A pool's worker has a filter on top of those that it inherited from its template."""
    pools = [row for row in observation.manifest.compartments if row.pool is not None]
    if not pools:
        return ("there is no pool",)
    return judged(
        observation, lambda process, _row: _further(observation, process), lambda row: row in pools
    )


def _further(observation: Observation, process: Process) -> Iterator[str]:
    if not process.name.endswith(" worker"):
        return
    template = process.name.removesuffix("worker") + "template"
    fewest = [each.filters for _, each in observation.sightings() if each.name == template]
    if not fewest:
        yield "its template was never seen"
    elif process.filters <= max(fewest):
        yield f"it has {process.filters} filters, its template {max(fewest)}"


def nobody_looks_inside(observation: Observation) -> tuple[str, ...]:
    """Not dumpable: no one of the same user may trace it, nor is there a core file."""
    return judged(observation, _opaque, confined(observation.manifest))


def _opaque(process: Process, _compartment: Compartment) -> Iterator[str]:
    if process.dumpable:
        yield "it is dumpable"
    if process.limits.get(CORE, (-1, -1)) != (0, 0):
        yield f"it may leave a core file: {process.limits.get(CORE)}"


def no_way_up(observation: Observation) -> tuple[str, ...]:
    """No attempt of a seized process to become more than it is succeeds."""
    return attempts(observation, WAYS_UP, may=never)


def a_seized_spawner_gains_little(observation: Observation) -> tuple[str, ...]:
    """Whoever seizes a process that keeps privileges reads no secret, makes no file, reaches no
    network and runs no program.  Raises Unavailable without any probes.
    """
    if not observation.probes:
        raise Unavailable("no process was seized")
    return tuple(
        f"{part}: {probe}: {outcome.detail or 'done'}"
        for probe in SPOILS
        for part, outcome in observation.outcomes(probe).items()
        if part in observation.manifest.privileged and outcome.done
    )


CLAIMS = (
    Claim(PATTERN, "only_the_spawner_is_root",
          "The list of root processes is exact: the spawner.", only_the_spawner_is_root),
    Claim(PATTERN, "no_capability_is_left",
          "No process but the spawner has a capability, or can have one.", no_capability_is_left),
    Claim(PATTERN, "the_spawner_has_its_three",
          "The spawner has the capabilities of its row, three at the most, and passes on none.",
          the_spawner_has_its_three),
    Claim(PATTERN, "nothing_can_be_gained",
          "No program that any process executes gives it a privilege.", nothing_can_be_gained),
    Claim(PATTERN, "system_calls_are_filtered",
          "Every process has a filter of system calls.", system_calls_are_filtered),
    Claim(PATTERN, "workers_are_filtered_further",
          "A pool's worker has a narrower filter than the template that it was forked from.",
          workers_are_filtered_further),
    Claim(PATTERN, "nobody_looks_inside",
          "No process can be traced by others of its user, nor leaves a core file.",
          nobody_looks_inside),
    Claim(PATTERN, "no_way_up",
          "No attempt of a seized process to become more than it is succeeds.", no_way_up),
    Claim(PATTERN, "a_seized_spawner_gains_little",
          "Who seizes a privileged process reads no secret, makes no file, connects to nobody and"
          " runs no program.", a_seized_spawner_gains_little),
)  # fmt: skip
