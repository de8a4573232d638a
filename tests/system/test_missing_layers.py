"""A machine that lacks a layer: an error that names it before anything starts; with
`--allow-missing` a server that keeps saying so.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from system.observe import send, wait_delivered
from system.server import PATIENCE_S, Server, free_port, server

from refmta.architectures.machine import NO_ROOT
from refmta.patterns.defense_in_depth import LAYERS

OLD_KERNEL = Path(__file__).with_name("old_kernel.py")


@dataclass
class Old(Server):
    """A server on a kernel that lacks something."""

    lacking: str = ""
    options: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        prefix = [sys.executable, str(OLD_KERNEL), self.lacking, "--"] if self.lacking else []
        options = self.options if arguments[0] in ("serve", "check") else ()
        return [*prefix, *super().command(*arguments), *options]


@contextmanager
def old(tmp_path: Path, lacking: str, *allowed: str) -> Iterator[Old]:
    options = tuple(word for each in allowed for word in ("--allow-missing", each))
    with server(tmp_path, start=False) as plain:
        running = Old(plain.directory, plain.port, plain.config, lacking=lacking, options=options)
        try:
            yield running
        finally:
            plain.process = running.process


def said(number: int) -> str:
    return f"{os.strerror(number)} ({errno.errorcode[number]})"


REFUSED = [
    ("users", "users", errno.EINVAL, "setresuid"),
    ("landlock", "landlock", errno.ENOSYS, "landlock_create_ruleset"),
    ("landlock off", "landlock", errno.EOPNOTSUPP, "landlock_create_ruleset"),
    ("namespace", "namespace", errno.EPERM, "unshare(CLONE_NEWUSER)"),
    ("network", "network", errno.EINVAL, "unshare(CLONE_NEWNET)"),
    ("jail", "jail", errno.EPERM, "chroot"),
    ("capabilities", "capabilities", errno.EPERM, "capset"),
    ("seccomp", "seccomp", errno.EINVAL, "libseccomp"),
]


@pytest.mark.needs("root")
@pytest.mark.parametrize(("lacking", "layer", "number", "tried"), REFUSED)
def test_a_layer_that_the_machine_lacks_is_an_error_before_anything_starts(
    tmp_path: Path, lacking: str, layer: str, number: int, tried: str
):
    with old(tmp_path, lacking) as running:
        done = running.run("serve")
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert line.startswith(f"layer {layer}: missing on this machine: ")
        assert tried in line and said(number) in line
        assert line.endswith(f"--allow-missing {layer}")
        assert not running.spool.exists() and not running.survivors()


@pytest.mark.needs("root")
def test_all_that_is_missing_is_said_at_once_and_check_says_it_too(tmp_path: Path):
    with old(tmp_path, "landlock,namespace,seccomp") as running:
        served, checked = running.run("serve"), running.run("check", "--json")
        lines = served.stderr.splitlines()
        layers = [line.split(":")[0].removeprefix("layer ") for line in lines]
        assert layers == ["namespace", "landlock", "seccomp"]
        assert "and of network and jail, which rest on it" in served.stderr
        found = json.loads(checked.stdout)
        assert (checked.returncode, found["problems"]) == (1, lines)


@pytest.mark.needs("root")
def test_one_that_may_be_missing_does_not_excuse_another(tmp_path: Path):
    with old(tmp_path, "landlock,seccomp", "landlock") as running:
        done = running.run("serve")
        assert done.returncode == 2
        assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["layer seccomp"]


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("lacking", "gone"),
    [("landlock", ("landlock",)), ("namespace", ("namespace", "network", "jail"))],
)
def test_with_leave_it_starts_moves_mail_and_keeps_saying_what_is_missing(
    tmp_path: Path, lacking: str, gone: tuple[str, ...]
):
    with old(tmp_path, lacking, lacking, "seccomp") as running:  # seccomp is there: it stays
        running.start()
        name = "-".join(["refmta", *gone])
        (serving,) = [each for each in running.events() if each["event"] == "serving"]
        assert serving["architecture"] == name
        running.wait_for(lambda: len(layers_missing(running)) >= len(gone), "it is said")
        warned = {e["layer"]: e for e in layers_missing(running)}
        assert tuple(warned) == gone
        assert all(each["level"] == "warning" and each["reason"] for each in warned.values())
        running.lacking = ""
        found = json.loads(running.run("ps", "--json").stdout)
        assert found["architecture"] == name and tuple(found["missing"]) == gone
        assert all(each["landlock"] is False for each in found["processes"]) == ("landlock" in gone)
        text = running.run("ps").stdout
        assert all(f"missing: {layer}: " in text for layer in gone)
        assert "missing: seccomp" not in text
        assert send(running, "old")[0] == 250
        wait_delivered(running, "old")
        assert running.stop() == 0


def layers_missing(running: Server) -> list[dict[str, Any]]:
    """What the log says of them: after it says that the server serves."""
    return [each for each in running.events() if each["event"] == "layer missing"]


#: As an ordinary user, whatever lies between that user and the interpreter.
AS_NOBODY = """
import os, sys
from refmta.architectures.reach import open_view, program_paths
if os.getuid() == 0:
    open_view(program_paths())
    os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)
os.execv(sys.executable, [sys.executable, "-m", "refmta.cli.main", *sys.argv[1:]])
"""


@dataclass
class Rootless(Server):
    """A server of a user who is not root."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", AS_NOBODY, *arguments]


def test_who_is_not_root_has_no_users_to_give_and_is_told():
    """Without any option: a server of an ordinary user always lacks that layer, and only that."""
    with tempfile.TemporaryDirectory() as place:  # pytest's directories are root's alone
        directory, port = Path(place), free_port()
        config = directory / "refmta.toml"
        config.write_text(
            f'hostname = "mx.example.org"\npostmaster = "ada@example.org"\nspool = "spool"\n'
            f'listen = ["127.0.0.1:{port}"]\n[domains."example.org"]\nmailboxes = ["ada"]\n'
        )
        running = Rootless(directory, port, config)
        running.log.touch()
        if os.geteuid() == 0:
            os.chown(directory, 65534, 65534)
        try:
            running.start()
            found = json.loads(running.run("ps", "--json").stdout)
            assert (found["architecture"], found["missing"]) == ("refmta-users", {"users": NO_ROOT})
            assert send(running, "rootless")[0] == 250
            arrived = running.spool / "mail" / "example.org" / "ada" / "new"
            running.wait_for(lambda: arrived.is_dir() and any(arrived.iterdir()), "delivery")
            assert running.stop() == 0
        finally:
            running.kill()


@pytest.mark.needs("root")
def test_nothing_is_missing_here_and_nothing_is_said(tmp_path: Path):
    """The control: the same command on the kernel as it is."""
    with old(tmp_path, "", *LAYERS) as running:
        running.start()
        assert not [each for each in running.events() if each["event"] == "layer missing"]
        found = json.loads(running.run("ps", "--json").stdout)
        assert (found["architecture"], found["missing"]) == ("refmta", {})
        assert "missing" not in running.run("ps").stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--architecture", "monolith"], "no architecture 'monolith'; there are: refmta"),
        (["--architecture", "refmta-moat"], "no layer 'moat'; there are: users"),
        (["--allow-missing", "moat"], "Invalid value for '--allow-missing'"),
    ],
)
def test_what_there_is_not_can_be_neither_started_nor_taken_away(
    tmp_path: Path, options: list[str], words: str
):
    with server(tmp_path, start=False) as running:
        for command in ("serve", "check"):
            done = subprocess.run(
                running.command(command, "-c", str(running.config), *options),
                capture_output=True, text=True, timeout=PATIENCE_S, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stdout) == (2, "") and words in done.stderr
        assert not running.spool.exists()
