"""Mutants of refmta that confine themselves badly: negative controls on a running system.

Each is a change of refmta's source, the claim that must refuse it, and a word that its
counterexample must have. Changes that don't touch one another go into one tree (`TREES`), so that a
few starts do: every one must be refused, by its own claim, in its own words.

refmta guards itself: each compartment tries to get back out when it starts, and refuses to run if
it can. That guard would refuse these mutants before any claim could, so all trees have it blinded
(`BLIND`), the twin, too, which has nothing else wrong and must be accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from specs.kernel.mutant import MutationError
from subjects.mutant_tree import mutant_tree

#: (file below refmta/, old, new).
Change = tuple[str, str, str]

BLIND: tuple[Change, ...] = (
    ("processes/confinement.py", "    for attempt in attempts:\n", "    for attempt in ():\n"),
    ("processes/confinement.py", "        _count_descriptors(confinement)\n        for",
     "        for"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """name; claim: what must refuse it.  word: in its counterexample.  changes: what is wrong."""

    name: str
    claim: str
    word: str
    changes: tuple[Change, ...]


#: As many wrongs as go together.
LOOSE = (
    Mutant(
        name="one descriptor too many",
        claim="compartmentalization.descriptors_are_those_allowed",
        word="/etc/passwd",
        changes=((
            "architectures/enter.py",
            "    confine(confinement(architecture, row, sys.argv[3]))\n",
            "    import os\n    row.name != 'enqueue' or os.open('/etc/passwd', os.O_RDONLY)\n"
            "    confine(confinement(architecture, row, sys.argv[3]))\n",
        ),),
    ),
    Mutant(
        name="a shared user",
        claim="compartmentalization.each_is_its_own_user",
        word="is shared by enqueue, qmgr",
        changes=((
            "architectures/assemble.py",
            "base + shared.setdefault(whose, place)",
            "base + shared.setdefault(whose, place - (row.name == 'qmgr'))",
        ),),
    ),
    Mutant(
        name="another's secret in a slice",
        claim="compartmentalization.slices_hold_no_more",
        word="bounce: has a next hop",
        changes=((
            "architectures/slices.py",
            "hostname=self.configuration.hostname, postmaster=self.configuration.postmaster\n",
            "hostname=self.configuration.hostname,\n"
            "            postmaster=' '.join([self.configuration.postmaster,"
            " *self.configuration.relay.next_hops]),\n",
        ),),
    ),
    Mutant(
        name="a device node in a jail",
        claim="chroot_jail.no_device_in_a_jail",
        word="empty/null",
        changes=((
            "architectures/launch.py",
            "    path.chmod(0o555)\n    if any(path.iterdir()):\n",
            "    path.chmod(0o555)\n    (path / 'null').unlink(missing_ok=True)\n"
            "    os.mknod(path / 'null', 0o020666, os.makedev(1, 3))\n    if False:\n",
        ),),
    ),
    Mutant(
        name="a capability left",
        claim="least_privilege.no_capability_is_left",
        word="NET_BIND_SERVICE",
        changes=((
            "processes/confinement.py",
            "    least_privilege.drop_capabilities()\n",
            "    import pyprctl\n"
            "    least_privilege.drop_capabilities(\n"
            "        {pyprctl.Cap.NET_BIND_SERVICE} & pyprctl.CapState.get_current().permitted)\n",
        ),),
    ),
    Mutant(
        name="Landlock silently absent",
        claim="defense_in_depth.landlock_is_in_force",
        word="answered done",
        changes=(("patterns/least_privilege.py", "ruleset.restrict()", "pass"),),
    ),
)  # fmt: skip
#: What does not go with those.
OPEN = (
    Mutant(
        name="no jail where it should be empty",
        claim="chroot_jail.root_is_the_jail",
        word="it sees the machine's root",
        changes=((
            "patterns/chroot_jail.py",
            "    os.chroot(directory)\n    os.chdir",
            "    os.chroot('/' if directory.endswith('/empty') else directory)\n    os.chdir",
        ),),
    ),
    Mutant(
        name="dumpable",
        claim="least_privilege.nobody_looks_inside",
        word="it is dumpable",
        changes=(("patterns/least_privilege.py", "    pyprctl.set_dumpable(False)\n", ""),),
    ),
    Mutant(
        name="a fourth capability",
        claim="least_privilege.the_spawner_has_its_three",
        word="CHOWN",
        changes=((
            "patterns/least_privilege.py",
            "pyprctl.Cap.SETGID, pyprctl.Cap.KILL)",
            "pyprctl.Cap.SETGID, pyprctl.Cap.KILL, pyprctl.Cap.CHOWN)",
        ),),
    ),
)  # fmt: skip
TREES: dict[str, tuple[Mutant, ...]] = {"twin": (), "loose": LOOSE, "open": OPEN}


def tree(directory: Path, mutants: Iterable[Mutant]) -> str:
    """The path of an interpreter that runs a refmta with all of these wrong.  Raises
    MutationError.
    """
    python = mutant_tree(directory, "__init__.py", ())
    (package,) = directory.glob("lib/python*/site-packages/refmta")
    for file, old, new in (*BLIND, *(change for each in mutants for change in each.changes)):
        _change(package / file, old, new)
    return python


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise MutationError(f"{path.name}: {old!r} occurs {text.count(old)} times, not once")
    path.write_text(text.replace(old, new), encoding="utf-8")
