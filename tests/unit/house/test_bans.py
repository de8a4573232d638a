"""The house's bans (`refmta.patterns.low_level_coding.BANS`), asserted over the source.

Layers are import-linter's business.  Control: each ban finds its own example.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from refmta.patterns.low_level_coding import BANS, rooms
from specs.patterns.low_level_coding import BANNED
from specs.patterns.source import Use, is_among, uses

ROOT = Path(__file__).parents[3]
CALLS = [(call, ban) for ban in BANS for call in ban.calls]
#: What is banned from the judge and its adapters, too; module -> why it may.
JUDGES = {
    "eval": {},
    "exec": {"specs.kernel.mutant": "mutants are compiled from text"},
    "pickle": {},
    "marshal": {},
    "os.system": {},
    "os.popen": {},
    "multiprocessing": {},
    "print": {},
    "input": {},
    "subprocess": {
        "specs.conformance.testbed": "runs openssl, for a throw-away certificate",
        "specs.conformance.capture": "runs tshark",
        "specs.conformance.controls.server": "runs openssl, for a throw-away certificate",
        "subjects.conformance.__main__": "runs a command beside a server",
        "specs.kernel.proofs": "runs CrossHair",
        "specs.patterns.calls": "runs strace",
        "subjects.target": "starts the server",
        "subjects.architecture": "starts the server",
        "subjects.measures_programs": "runs strace and load",
        "subjects.modules": "runs an entry point to see what it loads",
    },
}


def modules(*packages: str) -> dict[str, Path]:
    """Dotted name -> file."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@cache
def used(path: Path) -> tuple[Use, ...]:
    return tuple(uses(path.read_text()))


def offenders(banned: str, allowed: dict[str, str], *packages: str) -> list[str]:
    return [
        f"{name}:{use.line}: {use.name}"
        for name, path in modules(*packages).items()
        if name not in allowed
        for use in used(path)
        if is_among(use.name, banned)
    ]


@pytest.mark.parametrize(("banned", "ban"), CALLS, ids=[call for call, _ in CALLS])
def test_banned(banned, ban):
    assert offenders(banned, ban.rooms, "refmta") == [], f"instead: {ban.instead}"


@pytest.mark.parametrize("banned", JUDGES)
def test_banned_from_the_judge_and_its_adapters(banned):
    assert offenders(banned, JUDGES[banned], "specs", "subjects") == []


def test_exceptions_to_bans_are_still_needed():
    files = modules("refmta", "specs", "subjects")
    rows = [*((call, ban.rooms) for call, ban in CALLS), *JUDGES.items()]
    unused = [
        (banned, name)
        for banned, allowed in rows
        for name in allowed
        if not any(is_among(use.name, banned) for use in used(files[name]))
    ]
    assert unused == []


def test_each_room_has_its_reason():
    assert all(reason for ban in BANS for reason in ban.rooms.values())
    assert len({call for call, _ in CALLS}) == len(CALLS), "a call is banned twice"


def test_what_the_judge_bans_is_banned_here():
    """The judge names the libraries of others, too; those that are not installed need no row."""
    theirs = {call for calls in BANNED.values() for call in calls}
    assert theirs - set(rooms()) <= {"prctl", "seccomp"}


# -- controls: how a call may be hidden, and is found ---------------------------------------------

DISGUISES = [
    "import {module}\n{module}.{name}()\n",
    "import {module} as innocent\ninnocent.{name}()\n",
    "from {module} import {name}\n{name}()\n",
    "from {module} import {name} as innocent\n",
    "import {module}\nf = {module}.{name}\n",
    "import {module}\ngetattr({module}, '{name}')()\n",
    "def f():\n    import {module}\n    return {module}.{name}\n",
]


def example(banned: str, disguise: str) -> str:
    module, _, name = banned.replace("*", "ve").rpartition(".")
    if module:
        return disguise.format(module=module, name=name)
    if banned == "assert":
        return "assert 1\n"
    return disguise.format(module=banned, name="anything")


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("banned", [call for call, _ in CALLS])
def test_a_ban_finds_its_example(banned, disguise):
    assert [use for use in uses(example(banned, disguise)) if is_among(use.name, banned)]


@pytest.mark.parametrize("banned", ["eval", "exec", "compile", "print", "input", "__import__"])
def test_a_builtin_is_found_called_or_handed_on(banned):
    for text in (f"{banned}(1)", f"f = {banned}", f"class C:\n  def {banned}(self): {banned}()"):
        assert [use for use in uses(text) if use.name == banned], text


def test_names_of_its_own_are_no_offence():
    innocent = "def compile(x): return x\ncompile(1)\nself.input\nlink = 1\nlink\nbox.os.link\n"
    for banned in ("compile", "input", "os.link", "print"):
        assert not [use for use in uses(innocent) if is_among(use.name, banned)], banned


# -- other rules over the source ------------------------------------------------------------------


def test_no_bare_assert_outside_proofs():
    """An assert goes away under -O; a check that matters must not."""
    found = [
        f"{name}:{node.lineno}"
        for name, path in modules("specs").items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_a_private_name_stays_in_its_module():
    """What begins with an underscore is used by its own module, its package, and nobody else."""
    found = [
        f"{name}:{use.line}: {use.name}"
        for name, path in modules("refmta").items()
        for use in used(path)
        if use.name.startswith("refmta.")
        and any(part.startswith("_") for part in use.name.split(".") if part != "__init__")
    ]
    assert found == []


def test_the_spawner_imports_neither_trio_nor_a_role():
    import subprocess
    import sys

    program = "import refmta.processes.spawner, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert not {"trio", "msgspec"} & loaded
    assert not [each for each in loaded if each.startswith("refmta.roles")]


OPENING = ["Context (paper, section", "Problem:", "Forces:", "Solution:", "Observable claim:"]


@pytest.mark.parametrize("path", sorted((ROOT / "refmta" / "patterns").glob("[a-z]*.py")))
def test_each_pattern_opens_with_its_context_problem_solution_and_claim(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    places = [text.find(each) for each in OPENING]
    assert -1 not in places and places == sorted(places), dict(zip(OPENING, places, strict=True))


def test_each_claimed_pattern_has_a_mechanism_of_the_same_name():
    mechanisms = {path.stem for path in (ROOT / "refmta" / "patterns").glob("[a-z]*.py")}
    judged = {
        path.stem
        for path in (ROOT / "specs" / "patterns").glob("*.py")
        if re.search("^CLAIMS", path.read_text(), re.MULTILINE)
    }
    assert judged <= mechanisms, judged - mechanisms
