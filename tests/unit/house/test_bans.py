"""The house's bans: (what, where it is allowed, what to use instead), asserted over the source.

Layers are import-linter's business.  Control: each ban finds its own example.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("refmta", "specs", "subjects")

#: (banned call or import, files that may, what to use instead)
BANS = [
    ("os.system", (), "no shell anywhere"),
    ("os.popen", (), "no shell anywhere"),
    ("eval", (), "parse"),
    ("exec", ("specs/kernel/mutant.py",), "parse"),
    ("pickle", (), "wire.messages"),
    ("marshal", (), "wire.messages"),
    ("multiprocessing", (), "the spawner"),
    ("asyncio", (), "trio"),
    (
        "subprocess",
        ("refmta/cli/stage.py", "specs/kernel/proofs.py", "subjects/target.py"),
        "the spawner",
    ),
    ("os.fork", ("refmta/processes/spawner.py", "refmta/processes/pool.py"), "the spawner"),
    ("os.execv", ("refmta/architectures/launch.py",), "the spawner"),
    ("os.execve", ("refmta/processes/spawner.py",), "the spawner"),
    ("os.setuid", (), "spawner.become"),
    ("os.setresuid", ("refmta/processes/spawner.py",), "spawner.become"),
    ("os.setresgid", ("refmta/processes/spawner.py",), "spawner.become"),
    ("os.setgroups", ("refmta/processes/spawner.py",), "spawner.become"),
    ("os.chroot", (), "a jail pattern"),
    ("os.rename", ("refmta/stores/disk.py",), "stores.disk"),
    ("os.link", ("refmta/stores/disk.py",), "stores.disk"),
    ("os.fsync", ("refmta/stores/disk.py",), "stores.disk"),
    ("os.pread", ("refmta/stores/disk.py", "refmta/processes/supervisor.py"), "stores.disk"),
    ("os.unlink", ("refmta/stores/disk.py",), "stores.disk"),
    ("os.ftruncate", ("refmta/stores/disk.py",), "stores.disk"),
    (
        "time.sleep",
        ("refmta/processes/spawner.py", "refmta/cli/stage.py", "subjects/target.py"),
        "trio's clock",
    ),
    ("print", (), "click.echo in cli, the journal elsewhere"),
    ("input", (), "options"),
]


def names(tree: ast.AST):
    """Every dotted name that is called or read, and every module imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def sources():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def offenders(banned: str, allowed: tuple[str, ...]) -> list[str]:
    return [
        str(path.relative_to(ROOT))
        for path in sources()
        if str(path.relative_to(ROOT)) not in allowed
        and banned in set(names(ast.parse(path.read_text())))
    ]


@pytest.mark.parametrize(("banned", "allowed", "instead"), BANS, ids=[row[0] for row in BANS])
def test_banned(banned, allowed, instead):
    assert offenders(banned, allowed) == [], f"use {instead}"


@pytest.mark.parametrize(("banned", "allowed", "instead"), BANS, ids=[row[0] for row in BANS])
def test_a_ban_finds_its_example(banned, allowed, instead):
    text = f"import {banned}\n" if "." not in banned else f"import os, time\n{banned}()\n"
    text = f"{banned}()\n" if banned in ("eval", "exec", "print", "input") else text
    assert banned in set(names(ast.parse(text)))


def test_exceptions_to_bans_are_still_needed():
    for banned, allowed, _ in BANS:
        for path in allowed:
            assert banned in set(names(ast.parse((ROOT / path).read_text()))), (banned, path)


def test_no_bare_assert_outside_proofs():
    """An assert goes away under -O; a check that matters must not."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        if path.parent.name != "subjects"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


#: Lines of code (no blanks, comments, docstrings) of all that the spawner imports of ours.
PRIVILEGED_LINES = 300


def code_lines(path: Path) -> int:
    """Lines that hold code."""
    tree = ast.parse(path.read_text())
    doc = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            doc |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = path.read_text().splitlines()
    return sum(
        1
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#") and number not in doc
    )


def test_the_privileged_code_stays_within_its_budget():
    ours = ["refmta/__init__.py", "refmta/processes/__init__.py"]
    for path in ("refmta/processes/spawner.py", "refmta/processes/children.py"):
        imported = {n for n in names(ast.parse((ROOT / path).read_text())) if "refmta" in n}
        assert all(each.startswith("refmta.processes.children") for each in imported), path
        ours.append(path)
    assert sum(code_lines(ROOT / path) for path in ours) <= PRIVILEGED_LINES


def test_the_spawner_imports_neither_trio_nor_a_role():
    import subprocess
    import sys

    program = "import refmta.processes.spawner, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    modules = set(done.stdout.split())
    assert not {"trio", "msgspec"} & modules
    assert not [each for each in modules if each.startswith("refmta.roles")]
