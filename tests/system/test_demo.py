"""`refmta demo` with each architecture: it ends with 0 only if every promised message is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest

from refmta.architectures.catalogue import ARCHITECTURES

#: As an ordinary user, whatever lies between that user and the interpreter.
AS_NOBODY = """
import os, sys
from refmta.architectures.reach import open_view, program_paths
if os.getuid() == 0:
    open_view(program_paths())
    os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)
os.chdir("/")
os.execv(sys.executable, [sys.executable, "-m", "refmta.cli.main", *sys.argv[1:]])
"""
PATIENCE_S = 500.0


def shown(*command: str) -> dict[str, object]:
    """What the demo's account says, if it ends well."""
    with tempfile.TemporaryDirectory(prefix="demo-") as place:  # pytest's are root's alone
        os.chmod(place, 0o777)  # noqa: S103  the server is another user
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=PATIENCE_S,
            check=False, env={**os.environ, "TMPDIR": place},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert os.listdir(place) == []  # nothing is left behind
    return json.loads(done.stdout)


#: Two letters, four over a crash, two on to another server, one before delivery; one is reported.
ACCOUNT = {"acknowledged": 10, "delivered": 9, "reported": 1, "failure": ""}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_keeps_what_it_promised(name: str):
    command = ("-m", "refmta.cli.main", "demo", "--json", "--architecture", name)
    assert shown(*command) == ACCOUNT


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", ["sendmail", "qmail"])
def test_so_does_it_as_an_ordinary_user_where_root_would_become_others(name: str):
    """(As an ordinary user, all do: the test above.)"""
    assert shown("-c", AS_NOBODY, "demo", "--json", "--architecture", name) == ACCOUNT
