"""Mutants that each invariant of the enumeration must refuse, and protocols it must tell apart.

The subjects here are the reference protocols; a project's own stores bring controls of their own.
"""

from __future__ import annotations

from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.persistence import references
from specs.persistence.enumerate import Workload, examine
from specs.persistence.expected import expected
from specs.persistence.models import MODELS, P1_ATOMIC, P3_ATOMIC, P3_SPLIT, Model
from specs.persistence.protocols import CommitStore
from specs.persistence.references import POSTFIX, REFERENCES
from specs.persistence.workloads import ONE, REMAINS

MODULE = "specs.persistence.references"

MUTANTS: tuple[tuple[str, str, str, Workload, str, str], ...] = (
    (
        "no file sync",
        "acknowledged_present",
        "CERTIFIED",
        ONE,
        'yield Op(kind="sync", path=path)\n    yield Op(kind="sync_dir", path="chunks")',
        '__mutant_ran__(); yield Op(kind="sync_dir", path="chunks")',
    ),
    (
        "no directory sync",
        "acknowledged_present",
        "CERTIFIED",
        ONE,
        'yield Op(kind="sync_dir", path="chunks")',
        "__mutant_ran__()",
    ),
    (
        "reply before the directory sync",
        "acknowledged_present",
        "CERTIFIED",
        ONE,
        'yield Op(kind="sync_dir", path="chunks")\n    yield _reply(message)',
        'yield _reply(message); __mutant_ran__(); yield Op(kind="sync_dir", path="chunks")',
    ),
    (
        "recovery that keeps a torn file",
        "visible_is_complete",
        "CERTIFIED",
        ONE,
        'return body if b"end " + last == certificate(token, body) else None',
        "return body or octets if __mutant_ran__() else None",
    ),
    (
        "a certificate not bound to its name",
        "visible_is_complete",
        "CERTIFIED",
        REMAINS,
        'zlib.crc32(token.encode() + b"\\n" + content)',
        "__mutant_ran__() and zlib.crc32(content)",
    ),
    (
        "recovery that fails on a torn file",
        "recovery_completes",
        "CERTIFIED",
        ONE,
        'return body if b"end " + last == certificate(token, body) else None',
        'return body if b"end " + last == certificate(token, body) else __mutant_ran__() / 0',
    ),
    (
        "recovery that renames again each time",
        "recovery_idempotent",
        "CERTIFIED",
        ONE,
        'disk.rename(f"chunks/{name}", f"damaged/{name}.torn")',
        '__mutant_ran__(); disk.rename(f"chunks/{name}", f"chunks/{name}.torn")',
    ),
    (
        "recovery that leaves temporary files",
        "nothing_left_over",
        "MAILDIR",
        ONE,
        'disk.unlink(f"tmp/{name}")',
        "__mutant_ran__()",
    ),
    (
        "recovery that trusts a rename of one file to itself",
        "crash_in_recovery",
        "CERTIFIED",
        ONE,
        'elif f"{name}.torn" in disk.listdir("damaged"):',
        "elif not __mutant_ran__():",
    ),
)


def loses(store: str) -> frozenset[Model]:
    """Under which models this protocol is expected to lose acknowledged mail (expected.toml)."""
    rows = expected()
    return frozenset(
        model for model in MODELS if (store, str(model), "acknowledged_present") in rows
    )


def controls() -> list[Control]:
    """The mutants, and one control for each protocol that must lose mail under some model."""
    found = [_mutant_control(*mutant) for mutant in MUTANTS]
    safe = next(store for store in REFERENCES if not loses(store.name))
    for store in REFERENCES:
        if loses(store.name):
            model = P3_ATOMIC if store is POSTFIX else P1_ATOMIC
            found.append(_protocol_control(store, safe, model))
    return found


def _verdict(store: CommitStore, model: Model, workload: Workload, *, ran: bool) -> Verdict:
    report = examine(store, model, workload)
    return Verdict(
        violated=frozenset(report.violated),
        mutated_line_ran=ran,
        detail="; ".join(f"{name}: {found.detail}" for name, found in report.violated.items()),
    )


def _mutant_control(
    name: str, invariant: str, store: str, workload: Workload, old: str, new: str
) -> Control:
    def twin() -> Verdict:
        return _verdict(getattr(references, store), P3_SPLIT, workload, ran=False)

    def mutant() -> Verdict:
        changed = mutate(MODULE, [(old, new)])
        found = _verdict(getattr(changed, store), P3_SPLIT, workload, ran=False)
        return Verdict(
            violated=found.violated, mutated_line_ran=hits(changed) > 0, detail=found.detail
        )

    return Control(name=name, spec="persistence", invariant=invariant, twin=twin, mutant=mutant)


def _protocol_control(store: CommitStore, safe: CommitStore, model: Model) -> Control:
    """A known protocol in place of a safe one; its plan is the mutated line."""
    return Control(
        name=f"the protocol {store.name} under {model}",
        spec="persistence",
        invariant="acknowledged_present",
        twin=lambda: _verdict(safe, model, ONE, ran=False),
        mutant=lambda: _verdict(store, model, ONE, ran=True),
    )
