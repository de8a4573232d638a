"""Claims on what running processes have loaded: banned calls, budgets.

Controls: a mutated tree of refmta, in which a role goes around its pattern, or has grown too large,
is measured as the right one is, and refused by the claim that was named before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refmta.patterns import low_level_coding as bans
from refmta.patterns import small_modules as sizes
from specs.kernel.mutant import MutationError
from specs.patterns import low_level_coding, small_modules
from specs.patterns.claims import Claim
from specs.patterns.manifest import Budget, Compartment, Manifest
from specs.patterns.observation import Failed, Instant, Module, Observation, Unavailable
from subjects.modules import loaded
from subjects.mutant_tree import mutant_tree

NAMES = ("spawner", "enqueue", "local")
CLAIMS = (*low_level_coding.CLAIMS, *small_modules.CLAIMS)


def manifest(**changes: Any) -> Manifest:
    return Manifest(
        architecture="refmta",
        layers=(),
        compartments=tuple(Compartment(name=n, parts=(n,), user=1) for n in NAMES),
        rooms=bans.rooms(),
        budgets={
            name: Budget(own_lines=row.own_lines, lines=row.lines, modules=row.modules)
            for name, row in sizes.BUDGETS.items()
        },
        **changes,
    )


def observation(modules: dict[str, tuple[Module, ...]], **changes: Any) -> Observation:
    mapped = {
        name: frozenset(m.file for m in found if ".so" in m.file) for name, found in modules.items()
    }
    return Observation(
        manifest=manifest(),
        instants=(Instant(label="loaded", processes=()),),
        modules=modules,
        events=({"event": "serving", "pid": 1},),
        results={small_modules.MAPPED: mapped},
        **changes,
    )


def as_loaded(python: str | None = None) -> dict[str, tuple[Module, ...]]:
    return {
        name: loaded(name, "refmta", python) if python else loaded(name, "refmta") for name in NAMES
    }


def violated(seen: Observation, claims: tuple[Claim, ...] = CLAIMS) -> dict[str, tuple[str, ...]]:
    judged = {claim.name: claim.judge(seen) for claim in claims}
    return {name: found for name, found in judged.items() if found}


@pytest.fixture(scope="module")
def right() -> Observation:
    return observation(as_loaded())


def test_the_unmutated_twin_is_accepted(right):
    assert violated(right) == {}


# -- a mutated tree -------------------------------------------------------------------------------

#: What a role does around its pattern: (where, what, the claim, the words of the counterexample).
AROUND = [
    ("chroot", "import os\n\ndef escape():\n    os.chroot('/')\n",
     "no_privileges_around_their_pattern", "os.chroot"),
    ("setuid", "from os import setuid as become_root\n\ndef escape():\n    become_root(0)\n",
     "no_privileges_around_their_pattern", "os.setuid"),
    ("ctypes", "import ctypes\n\nlibc = ctypes.CDLL(None)\n",
     "no_privileges_around_their_pattern", "ctypes"),
    ("link", "import os\n\ndef publish():\n    getattr(os, 'link')('a', 'b')\n",
     "no_names_around_the_stores", "os.link"),
    ("subprocess", "import subprocess\n",
     "no_other_programs", "subprocess"),
    ("shell", "import os as o\n\ndef run(name):\n    o.system('mail ' + name)\n",
     "no_other_programs", "os.system"),
    ("pickle", "def load(octets):\n    return __import__('pickle').loads(octets)\n",
     "no_data_that_runs", "pickle"),
    ("assert", "def check(uid):\n    assert uid\n",
     "no_checks_that_go_away", "assert"),
]  # fmt: skip
PASSAGE = "@dataclass(slots=True, eq=False)\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """One tree for all mutants: the interpreter, and the role's file."""
    directory = tmp_path_factory.mktemp("mutant") / "tree"
    python = mutant_tree(directory, "roles/enqueue.py", [])
    (file,) = directory.glob("lib/python*/site-packages/refmta/roles/enqueue.py")
    yield python, file


@pytest.fixture
def mutant(tree: tuple[str, Path]) -> Iterator[Any]:
    """Put a passage into the role, and measure that; the right text returns afterwards."""
    python, file = tree
    text = file.read_text()

    def put(passage: str) -> dict[str, tuple[Module, ...]]:
        if text.count(PASSAGE) != 1:
            raise MutationError(PASSAGE)
        file.write_text(text.replace(PASSAGE, f"{passage}\n\n{PASSAGE}"))
        loaded.__globals__["_loaded"].cache_clear()
        loaded.__globals__["_lines"].cache_clear()
        low_level_coding._uses.cache_clear()
        return {**as_loaded(), "enqueue": loaded("enqueue", "refmta", python)}

    yield put
    file.write_text(text)


def test_the_tree_without_a_mutation_is_accepted(mutant):
    assert violated(observation(mutant(""))) == {}


@pytest.mark.parametrize(("_name", "passage", "claim", "words"), AROUND, ids=[r[0] for r in AROUND])
def test_a_role_that_goes_around_its_pattern_is_refused_by_name(
    mutant, _name, passage, claim, words
):
    found = violated(observation(mutant(passage)), low_level_coding.CLAIMS)
    assert set(found) == {claim}
    assert any(words in each and "refmta.roles.enqueue" in each for each in found[claim])


def test_a_role_that_has_grown_is_over_its_budget(mutant):
    budget = sizes.BUDGETS["enqueue"].own_lines
    found = violated(observation(mutant("\n".join(f"N{each} = 1" for each in range(budget // 10)))))
    assert set(found) == {"own_lines_within_budget"}
    assert found["own_lines_within_budget"][0].startswith("enqueue: ")


def test_a_role_that_imports_a_large_library_is_over_its_budget(mutant):
    # Debian has distutils, lib2to3 and idlelib in packages of their own.
    names = "asyncio email http.server sqlite3 unittest xml.dom.minidom xml.sax pydoc doctest"
    more = "multiprocessing.managers wsgiref.simple_server xmlrpc.server logging.config mailbox"
    text = "\n".join(f"import {each}" for each in f"{names} {more}".split())
    found = violated(observation(mutant(text)), small_modules.CLAIMS)
    assert set(found) >= {"modules_within_budget"}
    assert all(each.startswith("enqueue: ") for rows in found.values() for each in rows)


# -- predicates -----------------------------------------------------------------------------------


def judge(name: str, seen: Observation) -> tuple[str, ...]:
    (claim,) = (each for each in CLAIMS if each.name == name)
    return claim.judge(seen)


def changed(right: Observation, **changes: Any) -> Observation:
    return replace(right, manifest=replace(right.manifest, **changes))


def test_a_room_that_is_not_granted_is_an_offence(right):
    rooms = {**right.manifest.rooms, "os.fsync": ()}
    found = judge("no_names_around_the_stores", changed(right, rooms=rooms))
    assert found and all("refmta.stores.disk" in each for each in found)


def test_a_room_that_nobody_uses_is_an_offence(right):
    rooms = {**right.manifest.rooms, "os.system": ("refmta.roles.enqueue",)}
    assert judge("rooms_are_used", changed(right, rooms=rooms)) == (
        "refmta.roles.enqueue has a room for os.system, and does not use it",
    )


def test_a_defect_in_the_log_is_an_offence_and_so_is_an_empty_log(right):
    event = {"event": "defect", "role": "qmgr", "pid": 7, "reason": "KeyError(1)"}
    seen = replace(right, events=(*right.events, event))
    assert judge("no_defect", seen) == ("qmgr, process 7: KeyError(1)",)
    assert judge("no_defect", replace(right, events=()))


def test_a_module_whose_file_is_gone_is_an_offence(right):
    ghost = Module("ghost", "/nowhere/ghost.py", 1, own=False)
    modules = {**right.modules, "local": (*right.modules["local"], ghost)}
    seen = replace(right, modules=modules)
    assert judge("modules_can_be_read", seen) == ("local: ghost: /nowhere/ghost.py",)


@pytest.mark.parametrize("what", ["own_lines", "lines", "modules"])
def test_one_line_or_module_too_many_is_named(right, what):
    there = getattr(small_modules.measure(right.modules["local"]), what)
    for most, over in ((there, False), (there - 1, True)):
        budget = replace(right.manifest.budgets["local"], **{what: most})
        seen = changed(right, budgets={**right.manifest.budgets, "local": budget})
        found = judge(f"{what}_within_budget", seen)
        assert bool(found) is over
        assert all(each.startswith(f"local: {there} of {most} ") for each in found)


def test_a_compartment_without_a_budget_or_a_measure_is_named(right):
    budgets = {name: row for name, row in right.manifest.budgets.items() if name != "local"}
    assert judge("lines_within_budget", changed(right, budgets=budgets)) == ("local has no budget",)
    seen = replace(right, modules={**right.modules, "local": ()})
    assert judge("lines_within_budget", seen) == ("local: nothing is known of what it loads",)


def test_a_budget_that_says_nothing_is_named(right):
    wide = Budget(own_lines=1_000_000, lines=200_000, modules=10_000)
    seen = changed(right, budgets={**right.manifest.budgets, "local": wide})
    assert len(judge("budgets_are_near", seen)) == 3


def test_privileged_code_that_is_not_the_smallest_is_named(right):
    modules = {**right.modules, "spawner": right.modules["local"]}
    found = judge("privileged_is_smallest", replace(right, modules=modules))
    assert len(found) == 1 and found[0].startswith("spawner: ")


def test_privileged_code_that_imports_a_package_is_named(right, tmp_path):
    file = tmp_path / "extra.py"
    file.write_text("import os\nfrom trio import run\nfrom refmta.journal import journal\n")
    extra = Module("refmta.extra", str(file), 3, own=True)
    modules = {**right.modules, "spawner": (*right.modules["spawner"], extra)}
    found = judge("privileged_is_ours", replace(right, modules=modules))
    assert found == ("refmta.extra imports trio",)


def test_what_runs_and_was_not_measured_is_named(right):
    mapped = {"local": frozenset({"/x/lib-dynload/_sqlite3.cpython-311-x86_64-linux-gnu.so"})}
    seen = replace(right, results={small_modules.MAPPED: mapped})
    assert len(judge("measured_is_running", seen)) == 1
    assert judge("measured_is_running", replace(right, results={small_modules.MAPPED: {}}))
    broken = replace(right, results={small_modules.MAPPED: Failed("why")})
    with pytest.raises(RuntimeError, match="why"):
        judge("measured_is_running", broken)


@pytest.mark.parametrize("name", ["no_other_programs", "lines_within_budget", "rooms_are_used"])
def test_a_target_that_is_not_made_of_modules_can_t_be_judged(right, name):
    with pytest.raises(Unavailable):
        judge(name, replace(right, modules={"spawner": ()}))
