"""No compartment starts a process while it imports what it is made of."""

from __future__ import annotations

import subprocess
import sys

import pytest

WATCHED = """
import sys
begun = []
sys.addaudithook(
    lambda event, arguments:
    begun.append(arguments) if event in ("subprocess.Popen", "os.fork", "os.posix_spawn") else None
)
{imports}
print(len(begun), "trio" in sys.modules)
"""


def begun_by(imports: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(imports=imports)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


ROLES = ["smtpd", "enqueue", "resolve", "qmgr", "local", "remote", "bounce"]


@pytest.mark.parametrize("role", ROLES)
def test_a_compartment_begins_without_a_child(role):
    assert begun_by(f"import refmta.architectures.enter, refmta.roles.{role}") == "0 True"


def test_the_control_the_same_import_in_another_order_is_caught():
    begun, trio = begun_by("import trio").split()
    assert int(begun) > 0
    assert trio == "True"
