"""Negative controls: wrong versions of refmta's own code, made from the right ones by `mutate`, and
the named invariant that must catch each.

The same check judges the twin (the real module) and the mutant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from refmta.protocol import delivery
from refmta.protocol.routing import Target
from refmta.stores import chunks, maildir
from refmta.wire import dotstuff, envelope
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.persistence.enumerate import Workload, examine
from specs.persistence.model_disk import ModelDisk
from specs.persistence.models import P3_SPLIT
from specs.persistence.workloads import FINELY, GROUP, ONE, REMAINS
from subjects.stores import with_module
from subjects.tokens import envelope_of, queue_id_of

Replacements = Sequence[tuple[str, str]]


def stores() -> list[Control]:
    """Controls of the commit protocols and their recovery, under the weakest model (P3 split)."""
    rows: list[tuple[str, str, str, Workload, Replacements]] = [
        ("chunks: file sync dropped", "chunks", "acknowledged_present", ONE, [
            ('    plan += [Op("sync", path) for path in paths]\n'
             "    plan.append(Op(\"sync_dir\", CHUNKS))",
             '    __mutant_ran__()\n    plan.append(Op("sync_dir", CHUNKS))')]),
        ("chunks: directory sync dropped", "chunks", "acknowledged_present", ONE, [
            ('    plan.append(Op("sync_dir", CHUNKS))', "    __mutant_ran__()")]),
        ("chunks: reply before the directory sync", "chunks", "acknowledged_present", GROUP, [
            ('    plan.append(Op("sync_dir", CHUNKS))\n'
             '    plan += [Op("reply", path) for path in paths]\n',
             '    plan += [Op("reply", path) for path in paths if __mutant_ran__()]\n'
             '    plan.append(Op("sync_dir", CHUNKS))\n')]),
        ("chunks: end record skipped", "chunks", "acknowledged_present", ONE, [
            ("            data += self._seal.end_record()", "            __mutant_ran__()")]),
        ("chunks: recovery keeps a torn chunk", "chunks", "visible_is_complete", FINELY, [
            ('            raise ChunkError("no end record: the chunk was cut short")\n'
             "        offset",
             '            __mutant_ran__()\n            rest = b""\n            break\n'
             "        offset")]),
        ("chunks: a message under another's envelope", "chunks", "visible_is_complete", REMAINS, [
            ("    if chunk.envelope.queue_id != name:",
             "    if chunk.envelope.queue_id != name and not __mutant_ran__():")]),
        ("maildir: file sync dropped", "maildir", "visible_is_complete", ONE, [
            ('    plan += [Op("sync", path) for path in temporary]\n', "    __mutant_ran__()\n")]),
        ("maildir: sync of new/ dropped", "maildir", "acknowledged_present", ONE, [
            ('    plan.append(Op("sync_dir", f"{mailbox}/new"))\n', "    __mutant_ran__()\n")]),
        ("maildir: reported before the sync of new/", "maildir", "acknowledged_present", ONE, [
            ('    plan.append(Op("sync_dir", f"{mailbox}/new"))\n'
             '    plan += [Op("reply", name) for name in staged]\n',
             '    plan += [Op("reply", name) for name in staged if __mutant_ran__()]\n'
             '    plan.append(Op("sync_dir", f"{mailbox}/new"))\n')]),
        ("maildir: leftovers in tmp/ stay", "maildir", "nothing_left_over", ONE, [
            ("        if _arrival_s(name) < before_s:", "        if not __mutant_ran__():")]),
    ]  # fmt: skip
    return [_store_control(*row) for row in rows]


def _store_control(
    name: str, store: str, invariant: str, workload: Workload, replacements: Replacements
) -> Control:
    original: ModuleType = chunks if store == "chunks" else maildir

    def mutant() -> Verdict:
        module = mutate(original.__name__, replacements)
        verdict = judge_store(store, module, workload)
        return _ran(verdict, module)

    return Control(
        name=name,
        spec=f"persistence/{store}",
        invariant=invariant,
        twin=lambda: judge_store(store, original, workload),
        mutant=mutant,
    )


def judge_store(store: str, module: ModuleType, workload: Workload) -> Verdict:
    """Every crash state of one workload under the weakest model."""
    report = examine(with_module(store, module), P3_SPLIT, workload)
    return Verdict(violated=frozenset(report.violated), detail=f"{report.distinct} states")


def _ran(verdict: Verdict, *modules: ModuleType) -> Verdict:
    return Verdict(
        violated=verdict.violated,
        mutated_line_ran=any(hits(module) for module in modules),
        detail=verdict.detail,
    )


# -- what is damaged is set aside, never dropped --------------------------------------------------


def judge_aside(module: Any) -> Verdict:
    """A chunk cut short at each octet: after recovery its octets are still there, set aside."""
    whole = envelope.encode_chunk(envelope_of("m1"), [b"content"])
    name = queue_id_of("m1")
    for cut in range(len(whole)):
        tree = {f"chunks/{name}": whole[:cut]}
        disk = ModelDisk.from_tree(tree, (chunks.CHUNKS, chunks.DAMAGED))
        list(module.recover(disk))
        after = disk.snapshot().tree
        if list(after.values()) != [whole[:cut]] or f"chunks/{name}" in after:
            return Verdict(violated=frozenset({"nothing_is_dropped"}), detail=f"cut at {cut}")
    return Verdict(violated=frozenset(), detail=f"{len(whole)} cuts")


# -- queue ids ------------------------------------------------------------------------------------


def judge_queue_ids(make: Callable[[int, int], str]) -> Verdict:
    """All pairs of 3 times and 64 chances, at both ends of their ranges: as many ids."""
    times = (0, 1_800_000_000_000, 2**48 - 1)
    chances = (*range(32), *range(2**32 - 32, 2**32))
    ids = {make(milliseconds, chance) for milliseconds in times for chance in chances}
    reused = len(ids) != len(times) * len(chances)
    return Verdict(violated=frozenset({"queue_id_never_reused"} if reused else ()))


# -- the end of a message -------------------------------------------------------------------------

ENDS = tuple(
    b"".join(parts) for length in range(1, 6)
    for parts in itertools.product((b"\r", b"\n", b".", b"a"), repeat=length)
)  # fmt: skip


def judge_end_of_data(make: Callable[[], Any]) -> Verdict:
    """Every string of up to five octets over CR, LF, dot and a letter: complete only behind
    CRLF.CRLF (the start counts as CRLF).
    """
    for octets in ENDS:
        decoder = make()
        decoder.feed(octets)
        complete = decoder.status == "complete"
        consumed = octets[: len(octets) - len(decoder.rest)]
        if complete and not (b"\r\n" + consumed).endswith(b"\r\n.\r\n"):
            return Verdict(violated=frozenset({"only_crlf_dot_crlf_ends"}), detail=repr(octets))
    return Verdict(violated=frozenset(), detail=f"{len(ENDS)} strings")


# -- marks ----------------------------------------------------------------------------------------

#: Events deep: enough to expand, dispatch, lose, defer and deliver both recipients.
DEPTH = 7


def judge_marks(module: Any) -> Verdict:
    """Every order of events, DEPTH deep, for a message with two recipients: a recipient is marked
    delivered only after an agent said so, and the chunk goes only when both were delivered.
    """
    violated: set[str] = set()
    seen = {(module.start("ID", 0, ("a@example.org", "b@example.org")), frozenset[int]())}
    frontier = set(seen)
    for _ in range(DEPTH):
        reached = set()
        for message, delivered in frontier:
            for event in _events(module, message):
                known = delivered | _says_delivered(module, event)
                following, effects = module.step(message, event)
                violated |= _wrong(module, effects, known)
                reached.add((following, known))
        frontier = reached - seen
        seen |= frontier
    return Verdict(violated=frozenset(violated), detail=f"{len(seen)} states")


def _events(module: Any, message: Any) -> list[Any]:
    """What may happen next."""
    if message.gone:
        return []
    flying = module.with_status(message, module.Status.IN_FLIGHT)
    return [
        *(module.Expanded(i, (_target(i),), 0) for i in module.to_resolve(message)),
        *(module.Dispatched((i,)) for i in module.to_dispatch(message)),
        *(
            module.Outcome(i, kind, "", "", 0)
            for i in flying
            for kind in ("delivered", "deferred", "failed")
        ),
        *(module.AgentLost((i,)) for i in flying),
        *(module.Due((i,)) for i in module.with_status(message, module.Status.DEFERRED)),
    ]


def _target(index: int) -> Target:
    user = "ab"[index]
    return Target(kind="system", user=user, mailbox="Maildir", address=f"{user}@example.org")


def _says_delivered(module: Any, event: Any) -> frozenset[int]:
    said = isinstance(event, module.Outcome) and event.kind == "delivered"
    return frozenset({event.index}) if said else frozenset()


def _wrong(module: Any, effects: Sequence[Any], delivered: frozenset[int]) -> set[str]:
    wrong = set()
    for effect in effects:
        if isinstance(effect, module.AppendMark):
            marked = {mark.index for mark in effect.marks if mark.kind == "delivered"}
            if not marked <= delivered:
                wrong.add("marks_after_delivery")
        if isinstance(effect, module.Free) and delivered != {0, 1}:
            wrong.add("no_recipient_forgotten")
    return wrong


# -- the list -------------------------------------------------------------------------------------


def code() -> list[Control]:
    """Controls of single rules."""
    aside, ids = "chunks: recovery drops a torn chunk", "a queue id used again"
    return [
        _code_control(aside, "persistence/chunks", "nothing_is_dropped", chunks, judge_aside, [
            ('        set_aside(disk, name, "torn" if "cut short" in text else "damaged")',
             "        __mutant_ran__()\n        disk.unlink(chunk_path(name))")]),
        _code_control(ids, "queue", "queue_id_never_reused", envelope,
            lambda module: judge_queue_ids(module.queue_id), [
            ("    number = milliseconds << 32 | chance",
             "    number = milliseconds << 32 if __mutant_ran__() else 0")]),
        _code_control("LF.LF taken for the end", "smtp", "only_crlf_dot_crlf_ends", dotstuff,
            lambda module: judge_end_of_data(module.Decoder), [
            ('        if after_crlf and after == b"\\r\\n":\n',
             '        lf_lf = after[:1] == b"\\n" and not after_crlf and __mutant_ran__()\n'
             '        if lf_lf or (after_crlf and after == b"\\r\\n"):\n')]),
        _code_control("mark before delivery", "queue", "marks_after_delivery", delivery,
            judge_marks, [
            ("    return _set(message, changes), ()\n\n\ndef _outcome",
             '    early = [Mark("delivered", i, 0, 0) for i in changes if __mutant_ran__()]\n'
             "    return _set(message, changes), (AppendMark(tuple(early)),)\n\n\ndef _outcome")]),
    ]  # fmt: skip


def _code_control(
    name: str,
    spec: str,
    invariant: str,
    original: ModuleType,
    judge: Callable[[Any], Verdict],
    replacements: Replacements,
) -> Control:
    def mutant() -> Verdict:
        module = mutate(original.__name__, replacements)
        return _ran(judge(module), module)

    return Control(
        name=name, spec=spec, invariant=invariant, twin=lambda: judge(original), mutant=mutant
    )


def controls() -> list[Control]:
    """Entry point: all of them."""
    return [*stores(), *code()]
