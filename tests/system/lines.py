"""Files that others are writing, line by line."""

from __future__ import annotations

from pathlib import Path


def whole_lines(file: Path, start: int = 0) -> list[bytes]:
    """The lines from that octet on, without a last one that is only begun: a read that crosses a
    page may see the first half of what one write appends.
    """
    octets = file.read_bytes()[start:]
    return octets[: octets.rfind(b"\n") + 1].splitlines()
