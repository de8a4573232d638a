"""A small sender that measures how long a message takes: until 250, and until it is delivered.

Runs as a process of its own, where the server listens, until its standard input ends:
`python -m bench.probe HOST PORT ADDRESS DIRECTORY`. One message at a time, each over a connection
of its own, as strangers come. Each line of output is [seconds to 250, seconds to the mailbox].
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

PAUSE_S = 0.02
TIMEOUT_S = 60.0
POLL_S = 0.001
BODY = b"Subject: small\r\n\r\n" + b"small\r\n" * 140 + b".\r\n"


def expect(server: socket.socket, code: bytes) -> None:
    """Read one reply, which must have this code."""
    reply = b""
    while not reply.endswith(b"\r\n") or reply.splitlines()[-1][3:4] == b"-":
        octets = server.recv(4096)
        if not octets:
            break
        reply += octets
    if not reply.startswith(code):
        raise SystemExit(f"probe: expected {code!r}, got {reply[:200]!r}")


def send(host: str, port: int, address: str) -> None:
    """Send one small message; returns with its 250."""
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        expect(server, b"220")
        dialogue = [("EHLO probe.test", b"250"), (f"MAIL FROM:<{address}>", b"250")]
        dialogue += [(f"RCPT TO:<{address}>", b"250"), ("DATA", b"354")]
        for line, code in dialogue:
            server.sendall(line.encode("ascii") + b"\r\n")
            expect(server, code)
        server.sendall(BODY)
        expect(server, b"250")
        server.sendall(b"QUIT\r\n")


def await_delivery(new_mail: Path) -> None:
    """Wait for the message and remove it."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if found := list(new_mail.iterdir()):
            for message in found:
                message.unlink()
            return
        time.sleep(POLL_S)
    raise SystemExit("probe: not delivered")


def main() -> int:
    """Send until standard input ends."""
    host, port, address, directory = sys.argv[1:]
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        begin = time.perf_counter()
        send(host, int(port), address)
        accepted = time.perf_counter()
        await_delivery(Path(directory))
        print(json.dumps([accepted - begin, time.perf_counter() - begin]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
