"""Captures (pcap, pcapng) as streams of octets, by tshark.

- tshark puts TCP's segments in order, and drops what was sent twice.  Where a capture lacks octets
  the connection is judged up to there; one whose beginning is not in it is not judged.
- Which side is the server: the one with the port; without a port, with one of PORTS, or, if the
  capture has no such, the one that did not send SYN.
- What is inside TLS cannot be judged.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from specs.smtp.heard import Chunk, Heard

PORTS: Final = frozenset({25, 587, 24, 2525})
#: What tshark puts in the place of octets that were not captured.
MISSING: Final = re.compile(rb"\[[0-9]+ bytes missing in capture file\]\0?")
MAGIC: Final = (
    b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1",
    b"\x0a\x0d\x0d\x0a",
)  # fmt: skip
#: How many connections one run of tshark follows.
AT_A_TIME: Final = 200
TSHARK_TIMEOUT_S: Final = 600.0


class Unreadable(Exception):
    """The file is none of these; the text names the place."""


class NoTshark(Exception):
    """A capture needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedConnection:
    """name: for people.  lmtp: it is known to be LMTP.  why: it can't be judged at all; "" if it
    can.
    """

    name: str
    heard: Heard
    lmtp: bool = False
    why: str = ""


@dataclass(slots=True, kw_only=True)
class _Stream:
    """What is known of a TCP connection before it is followed.  ends: as first seen, (host, port).
    client: the one that sent SYN.  begun: the capture has its beginning.
    """

    number: int
    ends: tuple[tuple[str, str], tuple[str, str]]
    client: tuple[str, str] | None = None
    begun: bool = False
    chunks: list[Chunk] = field(default_factory=list)

    def server(self, port: int) -> tuple[str, str] | None:
        """The end that is the server, or None."""
        wanted = {port} if port else PORTS
        fitting = [each for each in self.ends if int(each[1]) in wanted]
        if self.client is not None:
            other = self.ends[1] if self.client == self.ends[0] else self.ends[0]
            return other if other in fitting or not (fitting or port) else None
        return fitting[0] if len(fitting) == 1 else None

    def known(self, port: int) -> bool:
        """Whether one of its ends has such a port."""
        wanted = {port} if port else PORTS
        return any(int(each[1]) in wanted for each in self.ends)


def of_capture(path: Path, port: int) -> list[RecordedConnection]:
    """Raises Unreadable, NoTshark."""
    streams = _streams(path)
    if port or any(each.known(port) for each in streams):
        streams = [each for each in streams if each.known(port)]
    if not streams:
        what = f"to port {port}" if port else "of TCP"
        raise Unreadable(f"{path}: there is no connection {what} in it")
    servers = {each.number: end for each in streams if (end := each.server(port)) is not None}
    wanted = [each for each in streams if each.begun and each.number in servers]
    for first in range(0, len(wanted), AT_A_TIME):
        _follow(path, wanted[first : first + AT_A_TIME], servers)
    return [_of_stream(each, servers.get(each.number)) for each in streams]


def _of_stream(stream: _Stream, server: tuple[str, str] | None) -> RecordedConnection:
    client = next((each for each in stream.ends if each != server), stream.ends[0])
    name = f"TCP stream {stream.number}, {_shown(client)} to {_shown(server or stream.ends[1])}"
    why = "" if stream.begun else "its beginning was not captured"
    if server is None:
        why = "it can't be told which side is the server (give --port)"
    return RecordedConnection(name=name, heard=Heard(stream.chunks), why=why)


def _shown(end: tuple[str, str]) -> str:
    host, port = end
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_FIELDS: Final = (
    "tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport",
    "tcp.flags.syn", "tcp.flags.ack",
)  # fmt: skip


def _streams(path: Path) -> list[_Stream]:
    """The connections of a capture, in their order."""
    # The lowest layer only: of tunnels and ICMP errors tshark would tell several addresses.
    arguments = ["-2", "-R", "tcp", "-T", "fields", "-E", "occurrence=l", "-E", "separator=/t"]
    for each in _FIELDS:
        arguments += ["-e", each]
    found: dict[int, _Stream] = {}
    for row in _tshark(path, arguments).decode("latin-1").splitlines():
        values = row.split("\t")
        if len(values) != len(_FIELDS) or not values[0]:
            continue
        number, src4, src6, sport, dst4, dst6, dport, syn, ack = values
        source, target = (src4 or src6, sport), (dst4 or dst6, dport)
        stream = found.setdefault(int(number), _Stream(number=int(number), ends=(source, target)))
        if _set(syn):
            stream.begun = True
            stream.client = target if _set(ack) else source
    return list(found.values())


def _set(flag: str) -> bool:
    return flag in ("1", "True")


def _follow(path: Path, streams: Sequence[_Stream], servers: dict[int, tuple[str, str]]) -> None:
    """The octets of connections, put in order by tshark."""
    arguments = ["-q"]
    for each in streams:
        arguments += ["-z", f"follow,tcp,raw,{each.number}"]
    by_number = {each.number: each for each in streams}
    stream: _Stream | None = None
    first_is_server = False
    for line in _tshark(path, arguments).decode("latin-1").splitlines():
        if line.startswith("Filter: "):
            found = re.search(r"tcp\.stream eq ([0-9]+)", line)
            stream = by_number.get(int(found[1])) if found else None
        elif line.startswith("Node 0: ") and stream is not None:
            first_is_server = _is_node(line.removeprefix("Node 0: "), servers[stream.number])
        elif stream is not None and re.fullmatch(r"\t?[0-9a-fA-F]+", line):
            of_second = line.startswith("\t")
            who: Literal["C", "S"] = "S" if of_second != first_is_server else "C"
            said = bytes.fromhex(line.strip())
            if MISSING.fullmatch(said):
                stream.chunks.append(Chunk("lost"))
            else:
                stream.chunks.append(Chunk(who, said))


def _is_node(text: str, end: tuple[str, str]) -> bool:
    host, _, port = text.strip().rpartition(":")
    return (host.strip("[]"), port) == end


def _tshark(path: Path, arguments: Sequence[str]) -> bytes:
    """What it writes.  -n: no names are looked up.  Raises NoTshark, Unreadable."""
    program = shutil.which("tshark")
    if program is None:
        raise NoTshark("tshark is not here: it is needed to read a capture")
    command = [program, "-n", "-r", str(path.absolute()), *arguments]
    try:
        done = subprocess.run(  # noqa: S603  no shell, and the path is absolute
            command, capture_output=True, check=False, timeout=TSHARK_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise NoTshark(f"tshark: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{path}: tshark took more than {TSHARK_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        raise Unreadable(f"{path}: tshark: {lines[-1] if lines else done.returncode}")
    return done.stdout
