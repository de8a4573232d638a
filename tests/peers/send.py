"""Send files as messages, octet for octet, from within another network: run by `hops.py`.

    python send.py HOST PORT SENDER DOMAIN DIRECTORY

Each file NAME goes to NAME@DOMAIN in a connection of its own. Prints a JSON object: NAME -> the
reply to the end of its content, or to the command that was refused.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

PATIENCE_S = 60.0


def dot_stuffed(octets: bytes) -> bytes:
    """After DATA: leading dots doubled, the end of data appended."""
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"


def send(host: str, port: int, sender: str, recipient: str, octets: bytes) -> str:
    """One message; the last reply's last line."""
    with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
        replies = connection.makefile("rb")

        def reply() -> str:
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            return line.decode("ascii", "replace").strip()

        said = reply()
        body = "" if octets.isascii() else " BODY=8BITMIME"
        commands = [
            "EHLO client.test", f"MAIL FROM:<{sender}>{body}", f"RCPT TO:<{recipient}>", "DATA",
        ]  # fmt: skip
        for command in commands:
            if said[:1] != "2":
                return said
            connection.sendall(command.encode() + b"\r\n")
            said = reply()
        if said[:3] == "354":
            connection.sendall(dot_stuffed(octets))
            said = reply()
        connection.sendall(b"QUIT\r\n")
        return said


def main() -> None:
    host, port, sender, domain, directory = sys.argv[1:]
    answers = {
        path.name: send(host, int(port), sender, f"{path.name}@{domain}", path.read_bytes())
        for path in sorted(Path(directory).iterdir())
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
