"""Next hops for system tests: each a process of its own, that keeps books of what it takes."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from system.lines import whole_lines
from system.observe import Client, letter
from system.server import PATIENCE_S, Server, free_port


@dataclass
class NextHop:
    """Where mail for remote.example goes; what it took, by token."""

    port: int
    record: Path

    def taken(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line)["token"] for line in whole_lines(self.record)]
        return []


@contextlib.contextmanager
def next_hop(directory: Path, behaviour: str = "honest") -> Iterator[NextHop]:
    """A next hop in a process of its own."""
    hop = NextHop(free_port(), directory / f"record.{behaviour}")
    command = [sys.executable, "-m", "faultinject.network.next_hop", "--port", str(hop.port)]
    with subprocess.Popen(
        [*command, "--behaviour", behaviour, "--record", str(hop.record)],
        stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not listens(hop.port):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            yield hop
        finally:
            process.kill()


def relay(ports: dict[str, int]) -> str:
    """The configuration for these destinations, tried again every second."""
    hops = ", ".join(f'"{name}" = "[127.0.0.1]:{port}"' for name, port in ports.items())
    return (
        f'[relay]\nnetworks = ["127.0.0.0/8"]\nnext_hops = {{{hops}}}\n'
        "[retry]\nminimum_s = 1\nmaximum_s = 1\n"
    )


def listens(port: int) -> bool:
    """Whether somebody does, on the loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def submit(running: Server, token: str, recipient: str, sender: str = "x@example.net") -> None:
    """A letter that the next hop knows by its token."""
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        assert client.code(f"MAIL FROM:<{sender}>") == 250
        assert client.code(f"RCPT TO:<{recipient}>") == 250
        assert client.code("DATA") == 354
        client.send(f"X-Token: {token}\r\n".encode() + letter(token) + b".\r\n")
        assert client.reply()[0] == 250
