"""The toy as a target: the smallest adapter, with nothing but mailboxes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from faultinject import networks
from faultinject.books import Window
from faultinject.processes import Process, look
from faultinject.target import TargetError

PATIENCE_S = 60.0
#: Below those that the kernel gives to clients; each toy of a network has an address of its own.
PORT = 12525


class Toy:
    """`how`: see toy.py.  followed: it serves nobody whom no tracer could see."""

    name = "toy"
    capabilities = frozenset()
    known_failures: ClassVar[dict[str, str]] = {}
    roles = ("toy",)
    complaints: tuple[str, ...] = ()
    windows: ClassVar[dict[str, Window]] = {}
    places: ClassVar[dict[str, Path]] = {}

    def __init__(self, how: str, *, followed: bool = False) -> None:
        self.how = how
        self.followed = followed
        self.address = ("127.0.0.1", 0)
        self.spool = Path()
        self.running: subprocess.Popen[bytes] | None = None
        self._reserved: networks.Reserved | None = None

    def unavailable(self) -> str | None:
        return None

    def install(self) -> None:
        """Nothing to do."""

    def configure(self, site) -> None:
        self.site, self.spool = site, site.directory
        self._let_go()
        self._reserved = networks.reserve_address(PORT)
        self.address = (self._reserved.host, PORT)

    def _let_go(self) -> None:
        if self._reserved is not None:
            self._reserved.free()

    def start(self) -> None:
        program = str(Path(__file__).with_name("toy.py"))
        arguments = [f"{self.address[0]}:{self.address[1]}", str(self.spool), self.how]
        arguments += ["followed"] if self.followed else []
        try:
            self.running = subprocess.Popen(
                [sys.executable, "-I", "-S", program, *arguments], cwd=self.spool
            )
        except OSError as problem:
            raise TargetError(f"the toy does not start: {problem}") from problem
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
            self._end()
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
        self._end()
        self._let_go()

    def _end(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait()
