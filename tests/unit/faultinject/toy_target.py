"""The toy as a target: the smallest adapter, with nothing but mailboxes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from faultinject.books import Window
from faultinject.processes import Process, look
from faultinject.target import TargetError

PATIENCE_S = 20.0


class Toy:
    """`how`: see toy.py."""

    name = "toy"
    capabilities = frozenset()
    known_failures: ClassVar[dict[str, str]] = {}
    roles = ("toy",)
    complaints: tuple[str, ...] = ()
    windows: ClassVar[dict[str, Window]] = {}

    def __init__(self, how: str) -> None:
        self.how = how
        self.address = ("127.0.0.1", 0)
        self.spool = Path()
        self.running: subprocess.Popen[bytes] | None = None

    def unavailable(self) -> str | None:
        return None

    def install(self) -> None:
        """Nothing to do."""

    def configure(self, site) -> None:
        self.site, self.spool = site, site.directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = free.getsockname()

    def start(self) -> None:
        program = str(Path(__file__).with_name("toy.py"))
        arguments = [str(self.address[1]), str(self.spool), self.how]
        self.running = subprocess.Popen([sys.executable, "-I", "-S", program, *arguments])
        deadline = time.monotonic() + PATIENCE_S
        while self.alive() and time.monotonic() < deadline:
            try:
                socket.create_connection(self.address, timeout=1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise TargetError("the toy does not start")

    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def recover(self) -> tuple[str, ...]:
        self.start()
        return ()

    def processes(self) -> list[Process]:
        seen = look(self.running.pid) if self.running is not None else None
        return [Process(seen.pid, "toy", born=seen.born)] if seen else []

    def waiting(self) -> int:
        return 0

    def flush(self) -> None:
        """No queue."""

    def stop(self) -> tuple[str, ...]:
        if self.how != "forgetful":  # which forgets what it has in memory in any case
            self.dispose()
        return ()

    def mailboxes(self) -> dict[str, Path]:
        return {f"{user}@{self.site.domain}": self.spool / user / "new" for user in self.site.users}

    def queued(self):
        return ()

    def trace(self) -> Path | None:
        return None

    def defects(self) -> tuple[str, ...]:
        return self.complaints

    def log_end(self) -> str:
        return ""

    def dispose(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait()
