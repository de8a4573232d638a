"""Negative controls of the claims of confinement, as predicates: the sound system that
`specs.patterns.sample` makes by hand, and the same with one thing wrong in it. All claims of the
five patterns judge both; the control counts if the named claim is among those that refuse the wrong
one. On a running system: `subjects.confinement_mutants`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from specs.kernel.control import Control, Verdict
from specs.observe.probes import Outcome
from specs.observe.process import Process
from specs.patterns import sample
from specs.patterns.attacks import ATTACKS
from specs.patterns.claims import claims
from specs.patterns.compartmentalization import Slices
from specs.patterns.layers import Layers, Revealed, Run
from specs.patterns.manifest import Asset, Talk
from specs.patterns.observation import Instant, Observation

PATTERNS = (
    "compartmentalization", "distributed_delegation", "chroot_jail", "least_privilege",
    "defense_in_depth",
)  # fmt: skip
Wrong = Callable[[Observation], Observation]


def judge(observation: Observation) -> Verdict:
    """All claims of confinement; the names of those that don't hold."""
    found = {each.key: each.judge(observation) for each in claims(PATTERNS)}
    violated = {key: counterexamples for key, counterexamples in found.items() if counterexamples}
    detail = "; ".join(f"{key}: {texts[0]}" for key, texts in violated.items())
    return Verdict(violated=frozenset(violated), detail=detail)


def controls() -> list[Control]:
    """Entry point (group refmta.specs.controls)."""
    return [_control(name, claim, wrong) for name, claim, wrong in _rows()]


def _control(name: str, claim: str, wrong: Wrong) -> Control:
    def mutant() -> Verdict:
        sound = sample.sample()
        changed = wrong(sound)
        return replace(judge(changed), mutated_line_ran=changed != sound)

    return Control(
        name=name,
        spec=f"patterns/{claim.partition('.')[0]}",
        invariant=claim,
        twin=lambda: judge(sample.sample()),
        mutant=mutant,
    )


# -- how a sound observation is spoiled -----------------------------------------------------------


def process(part: str, change: Callable[[Process], Process], detail: str = "") -> Wrong:
    """One process is different, at every instant."""

    def spoil(observation: Observation) -> Observation:
        return replace(
            observation,
            instants=tuple(
                Instant(label=instant.label, processes=tuple(
                    change(each) if (each.name, each.detail) == (part, detail) else each
                    for each in instant.processes
                ))
                for instant in observation.instants
            ),
        )  # fmt: skip

    return spoil


def having(part: str, **fields: object) -> Wrong:
    """Other values in these fields."""
    return process(part, lambda each: replace(each, **fields))  # type: ignore[arg-type]


def holding(part: str, number: int, kind: str, target: str, *, writable: bool = False) -> Wrong:
    """One descriptor too many."""
    extra = sample.descriptor(number, kind, target, writable=writable)  # type: ignore[arg-type]
    return process(part, lambda each: replace(each, descriptors=(*each.descriptors, extra)))


def capable(part: str, **sets: int) -> Wrong:
    """Other capabilities."""
    return process(
        part, lambda each: replace(each, capabilities=replace(each.capabilities, **sets))
    )


def tried(part: str, probe: str, result: str, detail: str = "") -> Wrong:
    """An attempt with another outcome."""
    return lambda o: replace(o, probes={**o.probes, (part, probe): Outcome(result, detail)})


def filed(path: str, kind: str, owner: int, mode: int) -> Wrong:
    """A name in the file system, in place of what was there."""
    extra = sample.file(path, kind, owner, mode)
    return lambda o: replace(o, files=(*(each for each in o.files if each.path != path), extra))


def slices(change: Callable[[Mapping[str, frozenset[str]]], Mapping[str, frozenset[str]]]) -> Wrong:
    """Other findings in the memory of processes."""
    return lambda o: replace(
        o, results={**o.results, "slices": Slices(change(o.result("slices", Slices).holdings))}
    )


def layers(change: Callable[[Layers], Layers]) -> Wrong:
    """Other findings without one of the layers."""
    return lambda o: replace(o, results={**o.results, "layers": change(o.result("layers", Layers))})


def _run(layer: str, **fields: object) -> Wrong:
    return layers(lambda found: replace(
        found, runs={**found.runs, layer: replace(found.runs[layer], **fields)}  # type: ignore[arg-type]
    ))  # fmt: skip


def _without(part: str) -> Wrong:
    return lambda o: replace(
        o,
        instants=tuple(
            replace(i, processes=tuple(each for each in i.processes if each.name != part))
            for i in o.instants
        ),
    )


def _talking(o: Observation) -> Observation:
    return replace(o, manifest=replace(o.manifest, talks=tuple(
        each for each in o.manifest.talks if each != Talk(client="qmgr", server="accounts")
    )))  # fmt: skip


def _one_end_twice(o: Observation) -> Observation:
    """A worker keeps the end of a channel that was for another one."""
    held = next(
        each for _, other in o.sightings() if other.name == "remote worker"
        for each in other.descriptors if each.family == "unix"
    )  # fmt: skip
    return process(
        "remote", lambda p: replace(p, descriptors=(*p.descriptors, replace(held, number=30)))
    )(o)


def _owning(name: str) -> Wrong:
    return lambda o: replace(o, manifest=replace(o.manifest, assets=(
        *o.manifest.assets, Asset(name="the key", path="/s/key", owners=(name,))
    )))  # fmt: skip


def _unfounded(o: Observation) -> Observation:
    rows = tuple(
        replace(row, reason="") if row.name == "enqueue" else row for row in o.manifest.compartments
    )
    return replace(o, manifest=replace(o.manifest, compartments=rows))


def _said(name: str, **fields: object) -> Wrong:
    """A row of the manifest says something else."""
    return lambda o: replace(o, manifest=replace(o.manifest, compartments=tuple(
        replace(row, **fields) if row.name == name else row  # type: ignore[arg-type]
        for row in o.manifest.compartments
    )))  # fmt: skip


def _a_listed_root(o: Observation) -> Observation:
    """One that the manifest lets be root, and that is."""
    listed = replace(o.manifest, privileged=("spawner", "qmgr"))
    return having("qmgr", uids=(0,) * 4, gids=(0,) * 4)(replace(o, manifest=listed))


def _becoming(o: Observation) -> Observation:
    """Workers that are to become recipients, and became nobody."""
    return _said("smtpd", becomes=("smtpd worker",))(o)


def _rootly(o: Observation) -> Observation:
    """The queue's writer is root."""
    return replace(o, manifest=replace(o.manifest, privileged=("spawner", "enqueue")))


def _blind(o: Observation) -> Observation:
    return replace(o, probes={key: Outcome("EPERM") for key in o.probes})


def _silent(probe: str) -> Wrong:
    return lambda o: replace(
        o, probes={key: each for key, each in o.probes.items() if key[1] != probe}
    )


# -- the table ------------------------------------------------------------------------------------


def _rows() -> Iterator[tuple[str, str, Wrong]]:
    """(name, claim that must refuse it, what is wrong)."""
    for pattern, rows in (
        ("compartmentalization", _compartmentalization()),
        ("distributed_delegation", _distributed_delegation()),
        ("chroot_jail", _chroot_jail()),
        ("least_privilege", _least_privilege()),
        ("defense_in_depth", _defense_in_depth()),
    ):
        for name, claim, wrong in rows:
            yield f"{pattern}: {name}", f"{pattern}.{claim}", wrong


def _compartmentalization() -> Iterator[tuple[str, str, Wrong]]:
    yield "a stranger", "everyone_is_known", having("accounts", name="helper")
    yield "nobody of a row", "everyone_is_known", _without("smtpd template")
    yield "a shared user", "each_is_its_own_user", having("qmgr", uids=(1002,) * 4)
    yield "a worker that did not become its user", "each_is_its_own_user", _becoming
    yield "a saved user id", "each_is_its_own_user", having("qmgr", uids=(1003, 1003, 0, 1003))
    yield "a group besides", "each_is_its_own_user", having("smtpd worker", groups=(1003,))
    yield (
        "one descriptor too many",
        "descriptors_are_those_allowed",
        holding("smtpd worker", 20, "file", "/etc/passwd"),
    )
    yield (
        "one more of an allowed kind",
        "descriptors_are_those_allowed",
        holding("remote worker", 20, "file", sample.MESSAGE),
    )
    yield (
        "a message for writing",
        "descriptors_are_those_allowed",
        process(
            "remote worker",
            lambda each: replace(
                each, descriptors=tuple(replace(d, writable=True) for d in each.descriptors)
            ),
        ),
    )
    yield (
        "no log",
        "descriptors_are_those_allowed",
        process(
            "enqueue",
            lambda each: replace(
                each, descriptors=tuple(d for d in each.descriptors if d.target != sample.LOG)
            ),
        ),
    )
    yield "a channel without a talk", "peers_are_those_who_talk", _talking
    yield "one end, two holders", "an_end_has_one_holder", _one_end_twice
    yield (
        "the machine's user namespace",
        "namespaces_are_its_own",
        having("qmgr", namespaces={"user": 0, "net": 1013}),
    )
    yield (
        "a shared user namespace",
        "namespaces_are_its_own",
        having("qmgr", namespaces={"user": 1012, "net": 1013}),
    )
    yield (
        "the machine's network",
        "no_network_but_by_need",
        having("smtpd worker", namespaces={"user": 1011, "net": 0}),
    )
    yield (
        "a network by right, and no need of it",
        "no_network_but_by_need",
        lambda o: _said("qmgr", network=True)(
            having("qmgr", namespaces={"user": 1013, "net": 0})(o)
        ),
    )
    yield "a connection out", "no_network_but_by_need", tried("enqueue", "connect", "done")
    yield "a port", "no_network_but_by_need", tried("remote worker", "bind", "done")
    yield (
        "the starter's environment",
        "environment_is_bare",
        having("qmgr", environment=("HOME", "AWS_SECRET_ACCESS_KEY")),
    )
    yield (
        "a signal to another",
        "no_other_process_is_reached",
        tried("smtpd worker", "signal_other", "done", "smtpd, qmgr"),
    )
    yield (
        "another's memory",
        "no_other_process_is_reached",
        tried("qmgr", "read_other", "done", "enqueue"),
    )
    yield "nobody tries", "no_other_process_is_reached", _silent("trace_other")
    yield (
        "another's secret in a slice",
        "slices_hold_no_more",
        slices(lambda found: {**found, "smtpd worker": frozenset({"a next hop"})}),
    )
    yield (
        "a blind search",
        "slices_hold_no_more",
        slices(lambda found: dict.fromkeys(found, frozenset())),
    )
    yield (
        "a search that misses a process",
        "slices_hold_no_more",
        slices(lambda found: {part: each for part, each in found.items() if part != "remote"}),
    )


def _distributed_delegation() -> Iterator[tuple[str, str, Wrong]]:
    yield "a face with a key", "no_face_owns_an_asset", _owning("smtpd")
    yield (
        "an owner with a connection",
        "no_face_owns_an_asset",
        process(
            "qmgr",
            lambda each: replace(
                each,
                descriptors=(
                    *each.descriptors,
                    replace(sample.descriptor(20, "socket", "socket:[9]"), family="inet"),
                ),
            ),
        ),
    )
    yield (
        "a session opens a message",
        "no_face_opens_an_asset",
        tried("smtpd worker", "open_message", "done", sample.MESSAGE),
    )
    yield (
        "an agent opens another's mailbox",
        "only_owners_open_an_asset",
        tried("local", "open_mailbox", "done", "/home/bob"),
    )
    yield (
        "an owner opens more than its own",
        "only_owners_open_an_asset",
        tried("enqueue", "open_message", "done", f"{sample.MESSAGE}, /home/bob"),
    )
    yield (
        "a message for everybody",
        "modes_shut_faces_out",
        lambda o: filed(sample.QUEUE, "dir", 1002, 0o2775)(
            filed(sample.MESSAGE, "file", 1002, 0o644)(o)
        ),
    )
    yield (
        "two messages in hand",
        "a_face_holds_what_it_sends",
        holding("remote worker", 20, "file", f"{sample.QUEUE}/M2"),
    )
    yield (
        "the queue in hand",
        "a_face_holds_what_it_sends",
        holding("smtpd worker", 20, "dir", sample.QUEUE),
    )
    yield (
        "a monolith",
        "any_mail_takes_two",
        tried("smtpd worker", "open_queue", "done", sample.QUEUE),
    )
    yield (
        "blind attempts",
        "any_mail_takes_two",
        lambda o: process("spawner", lambda each: replace(each, name="x"))(
            _unprivileged(_blind(o))
        ),
    )
    yield (
        "orders from a compartment",
        "operators_are_elsewhere",
        tried("qmgr", "connect_control", "done"),
    )


def _unprivileged(o: Observation) -> Observation:
    rows = tuple(row for row in o.manifest.compartments if row.name != "spawner")
    return replace(o, manifest=replace(o.manifest, compartments=rows))


def _chroot_jail() -> Iterator[tuple[str, str, Wrong]]:
    yield "no jail", "root_is_the_jail", having("smtpd worker", root="/")
    yield "another jail", "root_is_the_jail", having("enqueue", root="/s/chunks")
    yield (
        "another's home",
        "root_is_the_jail",
        process("local", lambda each: replace(each, root="/home/bob"), "ada"),
    )
    yield (
        "a file in an empty jail",
        "an_empty_jail_is_empty",
        having("smtpd", root_listing=("core",)),
    )
    yield (
        "an empty jail that can be filled",
        "an_empty_jail_is_empty",
        filed(sample.EMPTY, "dir", 0, 0o1777),
    )
    yield (
        "an empty jail of a compartment",
        "an_empty_jail_is_empty",
        filed(sample.EMPTY, "dir", 1001, 0o555),
    )
    yield (
        "a device node in a jail",
        "no_device_in_a_jail",
        filed("/s/chunks/null", "char", 0, 0o666),
    )
    yield (
        "a directory from outside",
        "nothing_open_leads_outside",
        holding("qmgr", 20, "dir", "/etc"),
    )
    yield (
        "a sibling of the jail",
        "nothing_open_leads_outside",
        holding("smtpd", 20, "dir", "/s/emptyish"),
    )
    yield (
        "a working directory outside",
        "nothing_open_leads_outside",
        having("smtpd worker", cwd="/"),
    )
    yield "no outside", "nothing_open_leads_outside", having("qmgr", root="/")
    yield "a way back", "no_way_back", tried("enqueue", "climb", "done", "/")
    yield "a jail in a jail", "no_way_back", tried("remote worker", "change_root", "done")
    yield "an attempt that kills", "no_way_back", tried("qmgr", "mount", "killed")
    yield "no reason", "no_jail_has_a_reason", _unfounded
    yield "root without a jail", "no_jail_has_a_reason", _said("accounts", user=0)


def _least_privilege() -> Iterator[tuple[str, str, Wrong]]:
    yield "a second root", "only_the_spawner_is_root", having("supervisor", uids=(1000, 0, 0, 0))
    yield "a second root that is listed", "only_the_spawner_is_root", _a_listed_root
    yield "root's group", "only_the_spawner_is_root", having("supervisor", gids=(0,) * 4)
    yield (
        "a list too long",
        "only_the_spawner_is_root",
        having("spawner", uids=(9,) * 4, gids=(9,) * 4),
    )
    yield "a capability left", "no_capability_is_left", capable("enqueue", effective=1 << 1)
    yield "a capability to be had", "no_capability_is_left", capable("qmgr", bounding=1 << 21)
    yield (
        "a fourth capability",
        "the_spawner_has_its_three",
        capable("spawner", effective=sample.THREE | 1, permitted=sample.THREE | 1),
    )
    yield (
        "capabilities that are inherited",
        "the_spawner_has_its_three",
        capable("spawner", ambient=1 << 7),
    )
    yield "new privileges", "nothing_can_be_gained", having("spawner", no_new_privs=False)
    yield "no filter", "system_calls_are_filtered", having("remote worker", seccomp=0, filters=0)
    yield "its template's filter", "workers_are_filtered_further", having("smtpd worker", filters=1)
    yield "dumpable", "nobody_looks_inside", having("smtpd worker", dumpable=True)
    yield (
        "a core file",
        "nobody_looks_inside",
        having("qmgr", limits={"Max core file size": (0, -1)}),
    )
    yield "a program is run", "no_way_up", tried("smtpd worker", "execute", "done", "/bin/sh")
    yield (
        "a spawner that runs anything",
        "a_seized_spawner_gains_little",
        tried("spawner", "execute", "done", "/bin/sh"),
    )


def _defense_in_depth() -> Iterator[tuple[str, str, Wrong]]:
    yield (
        "an attack succeeds",
        "every_attack_fails",
        tried("smtpd worker", "open_delivered", "done", "/home/bob/x"),
    )
    yield (
        "a sole guard",
        "any_layer_may_go",
        _run("seccomp", tried={(sample.VICTIMS[a.job], a.probe): Outcome("done") for a in ATTACKS}),
    )
    yield (
        "a victim that is root",
        "every_attack_fails",
        lambda o: _rootly(tried("enqueue", "become_root", "none")(o)),
    )
    yield "no layer at all", "a_layer_that_goes_is_gone", layers(lambda f: replace(f, runs={}))
    yield "nobody tries", "any_layer_may_go", _run("jail", tried={})
    yield (
        "a run is missing",
        "any_layer_may_go",
        layers(
            lambda found: replace(
                found, runs={k: run for k, run in found.runs.items() if k != "jail"}
            )
        ),
    )
    yield (
        "a layer that does not go",
        "a_layer_that_goes_is_gone",
        _run("seccomp", still_there=("smtpd worker has it",)),
    )
    yield (
        "attacks that always fail",
        "attacks_are_real",
        layers(lambda found: replace(found, peeled=(Run(layers=(), tried={}),))),
    )
    yield "a peeling that stops", "attacks_are_real", layers(lambda f: replace(f, peeled=()))
    yield "Landlock silently absent", "landlock_is_in_force", _revealed({"qmgr": Outcome("done")})
    yield (
        "Landlock never tried",
        "landlock_is_in_force",
        lambda o: replace(o, results={**o.results, "landlock": Revealed({})}),
    )


def _revealed(wrong: Mapping[str, Outcome]) -> Wrong:
    return lambda o: replace(o, results={
        **o.results,
        "landlock": Revealed({**o.result("landlock", Revealed).outcomes, **wrong}),
    })  # fmt: skip
