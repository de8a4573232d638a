"""Real mail, as raw octets, from three places.

    source        messages  where from
    cpython             65  tests/data/cpython: CPython's test_email data (its README says more)
    spamassassin         2  Debian's samples; `provision.py` puts them there
    mail-parser         23  the source distribution on PyPI: spam, bounces, malformed; fetched once

Rules a reader may rely on:

1. Nothing here parses, decodes or repairs mail.  A file's octets are what was read.
2. `wire` does what a mail client does, and no more: a file whose lines all end in LF gets CRLF,
   and a last line without an end gets one.  A file with a bare CR, or with both kinds of line
   ends, is sent as it is: repairing it would hide what the server must refuse.
3. A source that yields more or fewer messages than stated is an error, never a smaller test.

What is tricky: pip fetches a source distribution only if it can ask its build system about it, so
that the build system (hatchling) is fetched too.  What was fetched once is kept in the cache that
the caller names, and the version is pinned, so that the messages are the same everywhere.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT = Path(__file__).parents[1] / "data" / "cpython"
SAMPLES = Path("/usr/share/doc/spamassassin/examples")
MAIL_PARSER = "mail-parser==4.8.0"
FETCH_S = 300


@dataclass(frozen=True, slots=True)
class Mail:
    """One message.  octets: the file, unchanged."""

    source: str
    name: str
    octets: bytes

    @property
    def wire(self) -> bytes:
        """What a client sends after DATA, before dot-stuffing; ends in CRLF."""
        lines = self.octets.replace(b"\n", b"\r\n") if b"\r" not in self.octets else self.octets
        return lines if lines.endswith(b"\r\n") else lines + b"\r\n"

    @property
    def kept(self) -> bytes:
        """What a mailbox must hold below the trace headers."""
        return self.wire.replace(b"\r\n", b"\n")


@dataclass(frozen=True, slots=True)
class Source:
    """Where messages come from, how many there are, and what the machine must have."""

    name: str
    count: int
    read: Callable[[Path], Iterator[tuple[str, bytes]]]
    needs: tuple[str, ...] = ()

    def mails(self, cache: Path) -> list[Mail]:
        """All of them, by name.  Raises AssertionError where the count is not as stated."""
        found = [Mail(self.name, name, octets) for name, octets in sorted(self.read(cache))]
        assert len(found) == self.count, f"{self.name}: {len(found)} messages, not {self.count}"
        return found


def kept_data(_cache: Path) -> Iterator[tuple[str, bytes]]:
    """CPython's, from this repository."""
    for path in KEPT.iterdir():
        yield path.name, path.read_bytes()


def debian_samples(_cache: Path) -> Iterator[tuple[str, bytes]]:
    """spamassassin's, from Debian's package."""
    for path in SAMPLES.glob("sample-*.txt"):
        yield path.name, path.read_bytes()


def mail_parser(cache: Path) -> Iterator[tuple[str, bytes]]:
    """mail-parser's, out of its archive; nothing is unpacked, installed or run."""
    if not any(cache.glob("*.tar.gz")):
        fetch(MAIL_PARSER, cache)
    (archive,) = cache.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        for member in members:
            if "/tests/mails/" in member.name and member.isfile():
                file = members.extractfile(member)
                assert file is not None
                yield Path(member.name).name, file.read()


def fetch(requirement: str, place: Path) -> None:
    """A source distribution from the index that pip is configured for."""
    name = requirement.partition("==")[0]
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "download"]
    command += ["--no-deps", "--no-binary", name, "--dest", str(place), requirement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
    assert done.returncode == 0, f"{requirement} can't be fetched:\n{done.stderr}"


SOURCES = (
    Source("cpython", 65, kept_data),
    Source("spamassassin", 2, debian_samples, needs=("spamassassin-samples",)),
    Source("mail-parser", 23, mail_parser),
)
