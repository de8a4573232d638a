"""The view in which the compartments' users reach what lies below closed directories."""

import os
import subprocess
import sys

import pytest

LOOK = """
import json, os, sys
from pathlib import Path
from refmta.architectures.reach import open_view
os.chdir("/")
paths = [Path(each) for each in sys.argv[1:]]
open_view(paths)
os.setresuid(12345, 12345, 12345)
print(json.dumps([sorted(os.listdir(each)) for each in (*paths, paths[0].parent)]))
"""


def look(*paths):
    return subprocess.run(
        [sys.executable, "-c", LOOK, *map(str, paths)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def tree(tmp_path):
    """closed/open/closed/program, beside a secret on each level."""
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_uid == os.geteuid() and each.stat().st_mode & 0o777 == 0o700:
            each.chmod(0o711)
    for directory in (
        "outer",
        "outer/package",
        "outer/package/inner",
        "outer/package/inner/program",
    ):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "secret").touch()
    for closed in ("outer", "outer/package/inner"):
        (tmp_path / closed).chmod(0o700)
    return tmp_path / "outer"


@pytest.mark.needs("root")
def test_what_is_needed_is_reached_and_nothing_else(tree):
    program = tree / "package" / "inner" / "program"
    done = look(program)
    assert done.stdout == '[["secret"], ["program"]]\n', done.stderr


@pytest.mark.needs("root")
def test_also_through_a_closed_directory_within_what_is_needed(tree):
    package = tree / "package"
    done = look(package, package / "inner" / "program")
    assert done.stdout == '[["inner", "secret"], ["secret"], ["package"]]\n', done.stderr


@pytest.mark.needs("root")
def test_outside_nothing_changes(tree):
    look(tree / "package")
    assert sorted(each.name for each in tree.iterdir()) == ["package", "secret"]


@pytest.mark.needs("root")
def test_what_is_closed_itself_is_named(tree):
    done = look(tree / "package" / "inner")
    assert done.returncode != 0
    assert f"can't be opened to all: {tree}/package/inner" in done.stderr
