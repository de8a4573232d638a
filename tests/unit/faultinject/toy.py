"""A mail server of sixty lines, to be stormed: `toy.py HOST:PORT DIRECTORY HOW [followed]`.

HOW: "sound" makes a letter durable, then says 250. "forgetful" says 250 and delivers a moment
later, from memory. "garbling" delivers another octet now and then. "doubling" delivers twice.
"synced" is as "sound", and survives a loss of power, too: it syncs files and directories first.
"followed" behind that: it listens, but serves nobody before it is traced.
"mortal" is as "sound", and dies when a client says QUIT.
"""

from __future__ import annotations

import os
import socketserver
import sys
import threading
import time
from pathlib import Path

DIRECTORY, HOW = Path(sys.argv[2]), sys.argv[3]
#: What the forgetful one keeps in memory.
MEMORY: list[tuple[list[str], bytes]] = []
LOCK = threading.Lock()
REMEMBERED = 5
NUMBERS = iter(range(10**9))


def deliver(recipients: list[str], octets: bytes) -> None:
    """A file for each recipient."""
    for recipient in recipients:
        for _ in range(2 if HOW == "doubling" else 1):
            name = f"{os.getpid()}.{next(NUMBERS)}"
            new = DIRECTORY / recipient.partition("@")[0] / "new"
            new.mkdir(parents=True, exist_ok=True)
            (new.parent / name).write_bytes(octets)
            if HOW == "synced":
                sync(new.parent / name)
            (new.parent / name).rename(new / name)
            if HOW == "synced":
                for directory in (new, new.parent, DIRECTORY):
                    sync(directory)


def sync(path: Path) -> None:
    """A file, or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def take(recipients: list[str], content: bytes) -> None:
    """A whole letter came."""
    octets = b"Received: by toy; now\n" + content.replace(b"\r\n", b"\n")
    if HOW == "garbling":
        octets = octets.replace(b"fox", b"fux")
    with LOCK:
        if HOW != "forgetful":
            deliver(recipients, octets)
            return
        MEMORY.append((recipients, octets))
        if len(MEMORY) > REMEMBERED:
            deliver(*MEMORY.pop(0))


class Session(socketserver.StreamRequestHandler):
    """One client."""

    def handle(self) -> None:
        recipients: list[str] = []
        self.wfile.write(b"220 toy\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                recipients.append(line.decode().partition("<")[2].partition(">")[0])
            elif verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                content = self.content()
                if content is None:
                    return
                take(recipients, content)
                recipients = []
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")
            if HOW == "mortal" and verb == b"QUIT":
                os._exit(1)

    def content(self) -> bytes | None:
        """Up to the lone dot; None if the client goes before."""
        lines = []
        while (line := self.rfile.readline()) not in (b"", b".\r\n"):
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines) if line else None


class Server(socketserver.ThreadingTCPServer):
    """A thread for each client."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    if HOW not in ("sound", "forgetful", "garbling", "doubling", "synced", "mortal"):
        sys.exit(f"the toy can't be {HOW}")
    host, _, port = sys.argv[1].partition(":")
    with Server((host, int(port)), Session) as server:
        status = Path("/proc/self/status")
        while "followed" in sys.argv and "\nTracerPid:\t0\n" in status.read_text():
            time.sleep(0.005)
        server.serve_forever()
