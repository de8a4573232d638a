"""Compartmentalization, judged: each process is the user, has the descriptors, the peers, the
network and the part of the configuration that the manifest says, and no others.

Theory.  What code that runs in a process can reach is what the kernel lets that process reach: its
ids, its descriptors, its namespaces, and who holds the other end of its sockets.  All are seen from
outside, at several instants, and held against the manifest, which is a list of what *may* be: a
descriptor that no row allows is a counterexample, and so is a row that must be used and is not.

The configuration is judged by markers: unique texts (a mailbox, a next hop, a home) planted in the
configuration before the start, and then looked for in the memory of every process.  A marker that
nobody holds says that the search is blind, and is a counterexample, too.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from specs.observe.memory import held
from specs.observe.process import Descriptor, Process
from specs.patterns.claims import Bench, Claim, Experiment
from specs.patterns.manifest import Allowed, Compartment
from specs.patterns.observation import Observation
from specs.patterns.sightings import (
    attempts,
    compartment_of,
    confined,
    judged,
    never,
    who,
)
from specs.patterns.target import TargetError

PATTERN = "compartmentalization"
#: What a compartment finds in its environment; nothing of who started the server.
ENVIRONMENT = frozenset({"PATH", "LANG", "HOME"})
#: Attempts on other processes.
ON_OTHERS = (
    "signal_other", "read_other", "open_other", "steal_descriptor", "trace_other",
    "connect_control",
)  # fmt: skip
#: Attempts to use the network, for those who have none; and to be found there, for everyone.
ON_NETWORK, ON_PORTS = ("connect",), ("bind", "make_packet_socket")


# -- who is there, and as whom --------------------------------------------------------------------


def everyone_is_known(observation: Observation) -> tuple[str, ...]:
    """Each process has a row of the manifest, and each part of each row was seen."""
    manifest = observation.manifest
    seen = {each.name for _, each in observation.sightings()}
    strangers = sorted(each for each in seen if compartment_of(manifest, each) is None)
    missing = [part for row in manifest.compartments for part in row.parts if part not in seen]
    return (
        *(f"{each}: in no row of the manifest" for each in strangers),
        *(f"{each}: was never seen" for each in missing),
    )


def each_is_its_own_user(observation: Observation) -> tuple[str, ...]:
    """All ids of a process are its compartment's (or its recipient's), it has no group besides,
    and no two compartments, nor two recipients, have one user.
    """
    wrong = judged(observation, lambda process, row: _user(observation, process, row))
    owners: dict[int, set[str]] = defaultdict(set)
    for _, process in observation.sightings():
        row = compartment_of(observation.manifest, process.name)
        if row is not None:
            theirs = row.per_user or process.name in row.becomes
            whose = f"{row.name} of {process.detail}" if theirs else row.name
            owners[process.uids[0]].add(whose)
    shared = (
        f"user {uid} is shared by {', '.join(sorted(names))}"
        for uid, names in sorted(owners.items())
        if len(names) > 1
    )
    return (*wrong, *shared)


def _user(observation: Observation, process: Process, compartment: Compartment) -> Iterator[str]:
    recipients = observation.manifest.recipients
    theirs = compartment.per_user or process.name in compartment.becomes
    expected = recipients.get(process.detail) if theirs else compartment.user
    if expected is None:
        yield "it is the process of no recipient that the manifest knows"
    elif set(process.uids) != {expected}:
        yield f"its user ids are {process.uids}, not {expected}"
    if len(set(process.gids)) != 1:
        yield f"its group ids are {process.gids}, not one"
    if process.groups:
        yield f"it has the groups {process.groups} besides"


# -- descriptors and peers ------------------------------------------------------------------------


def descriptors_are_those_allowed(observation: Observation) -> tuple[str, ...]:
    """Each descriptor fits a row of the allow-list of its process, each row is used as often as it
    must and may be.
    """
    return judged(observation, lambda process, row: _descriptors(observation, process, row))


def _descriptors(
    observation: Observation, process: Process, compartment: Compartment
) -> Iterator[str]:
    rows = compartment.descriptors.get(process.name)
    if rows is None:
        yield "the manifest has no list of descriptors for it"
        return
    names = {each.pid: each.name for _, each in observation.sightings()}
    fitting = {
        each: [place for place, row in enumerate(rows) if _fits(each, row, names)]
        for each in process.descriptors
    }
    for each in _left_over(fitting, rows):
        at = "" if not fitting[each] else f", more than {_most(rows, fitting[each])}"
        yield f"descriptor {each.number}: {shown(each, names)} is not allowed{at}"
    for place, row in enumerate(rows):
        if (count := sum(place in places for places in fitting.values())) < row.least:
            yield f"{row.purpose}: {count} descriptors, at least {row.least}"


def _fits(descriptor: Descriptor, row: Allowed, names: Mapping[int, str]) -> bool:
    return (
        descriptor.kind == row.kind
        and re.fullmatch(row.target, descriptor.target) is not None
        and (not row.family or descriptor.family == row.family)
        and descriptor.listening == row.listening
        and (row.writable is None or descriptor.writable == row.writable)
        and (not row.peers or {names.get(pid, "?") for pid, _ in descriptor.peer} <= {*row.peers})
    )


def _left_over(
    fitting: Mapping[Descriptor, list[int]], rows: tuple[Allowed, ...]
) -> list[Descriptor]:
    """Those that find no room when rows are given out as well as may be (augmenting paths): a
    narrow row must not be taken by who would have fitted a wide one.
    """
    given: dict[int, list[Descriptor]] = defaultdict(list)

    def place(descriptor: Descriptor, tried: set[int]) -> bool:
        for each in fitting[descriptor]:
            if each in tried:
                continue
            tried.add(each)
            most = rows[each].most
            if most is None or len(given[each]) < most:
                given[each].append(descriptor)
                return True
            for other in given[each]:
                if place(other, tried):
                    given[each][given[each].index(other)] = descriptor
                    return True
        return False

    return [each for each in fitting if not place(each, set())]


def _most(rows: tuple[Allowed, ...], places: Iterable[int]) -> str:
    return ", ".join(f"{rows[each].most} ({rows[each].purpose})" for each in places)


def shown(descriptor: Descriptor, names: Mapping[int, str]) -> str:
    """A descriptor in a counterexample."""
    ends = sorted({names.get(pid, f"process {pid}") for pid, _ in descriptor.peer})
    to = f" to {', '.join(ends)}" if ends else ""
    listening = "listening " if descriptor.listening else ""
    writable = " for writing" if descriptor.writable and descriptor.kind in ("file", "dir") else ""
    family = f"{descriptor.family} " if descriptor.family else ""
    return f"{listening}{family}{descriptor.kind} {descriptor.target}{to}{writable}"


def peers_are_those_who_talk(observation: Observation) -> tuple[str, ...]:
    """Whoever holds the other end of a socket or pipe has a talk with this process."""
    talks = {frozenset((each.client, each.server)) for each in observation.manifest.talks}
    names = {each.pid: each.name for _, each in observation.sightings()}

    def wrong(process: Process, _row: Compartment) -> Iterator[str]:
        for each in process.descriptors:
            for pid, number in each.peer:
                peer = names.get(pid, f"process {pid}")
                if pid != process.pid and frozenset((process.name, peer)) not in talks:
                    yield f"descriptor {each.number} is an end of {peer}'s descriptor {number}"

    return judged(observation, wrong)


def an_end_has_one_holder(observation: Observation) -> tuple[str, ...]:
    """No two processes hold the same end of a channel, or the same connection; listening sockets
    are another matter.
    """
    wrong = []
    for instant in observation.instants:
        holders: dict[int, list[Process]] = defaultdict(list)
        for process in instant.processes:
            for inode in {e.inode for e in process.descriptors if _is_end(e)}:
                holders[inode].append(process)
        wrong += [
            f"{instant.label}: socket {inode} is held by {' and '.join(map(who, shared))}"
            for inode, shared in holders.items()
            if len(shared) > 1
        ]
    return tuple(wrong)


def _is_end(descriptor: Descriptor) -> bool:
    return descriptor.kind == "socket" and not descriptor.listening


# -- namespaces, environment, other processes -----------------------------------------------------


def namespaces_are_its_own(observation: Observation) -> tuple[str, ...]:
    """A user namespace for each confined process's compartment, which is not the machine's."""
    return _own(observation, "user", confined(observation.manifest))


def no_network_but_by_need(observation: Observation) -> tuple[str, ...]:
    """A network of its own, which is empty, for whoever is not to have the machine's; and no
    attempt to reach the machine's succeeds.  Who hears strangers may have it; nobody else needs it,
    whatever its row says.
    """
    free = confined(observation.manifest)
    return (
        *_own(observation, "net", lambda row: free(row) and not _needs_network(row)),
        *attempts(observation, ON_NETWORK, may=lambda row, *_: _needs_network(row)),
        *attempts(observation, ON_PORTS, may=never),
    )


def _needs_network(row: Compartment) -> bool:
    return row.network and row.hears


def _own(
    observation: Observation, kind: str, chosen: Callable[[Compartment], bool]
) -> tuple[str, ...]:
    if observation.machine is None:
        return ("the machine's namespaces are not known",)
    machine = observation.machine.namespaces[kind]
    wrong = judged(
        observation,
        lambda process, _row: (
            ("it is in the machine's " + kind + " namespace",)
            if process.namespaces[kind] == machine
            else ()
        ),
        chosen,
    )
    # By instant: the kernel uses the number of a dead process's namespace again.
    holders: dict[tuple[str, int], set[str]] = defaultdict(set)
    for instant, process in observation.sightings():
        row = compartment_of(observation.manifest, process.name)
        if row is not None and chosen(row):
            key = instant.label, process.namespaces[kind]
            holders[key].add(f"{row.name} {process.detail}".rstrip())
    shared = (
        f"{kind} namespace {number} is shared by {', '.join(sorted(names))}"
        for (_, number), names in sorted(holders.items())
        if len(names) > 1 and number != machine
    )
    return (*wrong, *shared)


def environment_is_bare(observation: Observation) -> tuple[str, ...]:
    """Nothing of the environment of who started the server reaches a confined process."""

    def wrong(process: Process, _row: Compartment) -> Iterator[str]:
        if extra := sorted(set(process.environment) - ENVIRONMENT):
            yield f"its environment has {', '.join(extra[:5])}"

    return judged(observation, wrong, confined(observation.manifest))


def no_other_process_is_reached(observation: Observation) -> tuple[str, ...]:
    """No attempt of a seized process to signal, trace or read another compartment succeeds.  The
    processes of one pool are one compartment; a recipient's agent is one by itself.
    """
    return attempts(
        observation, ON_OTHERS,
        may=lambda row, _probe, outcome: not row.per_user and {*outcome.detail.split(", ")} <= {
            *row.parts
        },
    )  # fmt: skip


# -- the configuration ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slices:
    """holdings: process name -> the markers found in the memory of a process of that name."""

    holdings: Mapping[str, frozenset[str]]


def search_memories(bench: Bench) -> Slices:
    """Look for every marker in every process that lives, one of each name at the least.  Those
    that end meanwhile are left out; then the claim says that nobody looked there.
    """
    for part in (part for row in bench.manifest.compartments for part in row.parts):
        with contextlib.suppress(TargetError):
            bench.process(part)
    texts = {each.text.encode(): each.name for each in bench.manifest.markers}
    found: dict[str, set[str]] = {}
    for process in bench.target.processes():
        with contextlib.suppress(OSError):
            names = {texts[each] for each in held(process.pid, texts)}
            found.setdefault(process.name, set()).update(names)
    return Slices({name: frozenset(markers) for name, markers in found.items()})


def slices_hold_no_more(observation: Observation) -> tuple[str, ...]:
    """A marker is in the memory of one of its holders at least, and of no other process."""
    holdings = observation.result("slices", Slices).holdings
    manifest = observation.manifest
    if not manifest.markers:
        return ("no marker was planted",)
    wrong = [
        f"{part}: was not searched"
        for row in manifest.compartments
        for part in row.parts
        if part not in holdings
    ]
    for marker in manifest.markers:
        holders = {part for part, names in holdings.items() if marker.name in names}
        owners = {part for part in holders if _holds(observation, part, marker.holders)}
        if not owners:
            wrong.append(f"{marker.name}: none of {', '.join(marker.holders)} has it")
        wrong += [f"{part}: has {marker.name} in its memory" for part in sorted(holders - owners)]
    return tuple(wrong)


def _holds(observation: Observation, part: str, holders: tuple[str, ...]) -> bool:
    row = compartment_of(observation.manifest, part)
    return row is not None and row.name in holders


EXPERIMENTS = (Experiment("slices", search_memories),)

CLAIMS = (
    Claim(PATTERN, "everyone_is_known",
          "Every process has a row in the manifest, and every row its processes.",
          everyone_is_known),
    Claim(PATTERN, "each_is_its_own_user",
          "Each compartment, and each recipient's agent, is a user of its own in every id.",
          each_is_its_own_user),
    Claim(PATTERN, "descriptors_are_those_allowed",
          "A process has the descriptors of its allow-list, and no others.",
          descriptors_are_those_allowed),
    Claim(PATTERN, "peers_are_those_who_talk",
          "At the other end of every channel is a process that the architecture lets talk.",
          peers_are_those_who_talk),
    Claim(PATTERN, "an_end_has_one_holder",
          "No two processes hold the same end of a channel or the same connection.",
          an_end_has_one_holder),
    Claim(PATTERN, "namespaces_are_its_own",
          "Each compartment is in a user namespace of its own.", namespaces_are_its_own),
    Claim(PATTERN, "no_network_but_by_need",
          "Who needs no network has an empty one of its own, and nobody opens a port.",
          no_network_but_by_need),
    Claim(PATTERN, "environment_is_bare",
          "Nothing of the environment of who started the server reaches a compartment.",
          environment_is_bare),
    Claim(PATTERN, "no_other_process_is_reached",
          "No attempt of a seized process to signal, trace or read another one succeeds.",
          no_other_process_is_reached),
    Claim(PATTERN, "slices_hold_no_more",
          "A compartment has its own slice of the configuration in its memory, and no other.",
          slices_hold_no_more),
)  # fmt: skip
