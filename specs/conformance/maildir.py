"""Maildirs, as far as mail with a token is looked for in them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

#: How often one is looked at, in seconds.
LOOK_S: Final = 0.05


def messages(
    maildir: Path, token: bytes, since_s: float, seen: dict[str, bytes | None]
) -> list[bytes]:
    """What lies in new/ and cur/ with this token, and has come since then.  seen: what was looked
    at before, by name; a file of a Maildir never changes.
    """
    for part in ("new", "cur"):
        with suppress(OSError), os.scandir(maildir / part) as entries:
            for entry in entries:
                name = entry.name.partition(":")[0]  # flags come behind it
                if name in seen:
                    continue
                with suppress(OSError):  # moved meanwhile
                    octets = b""
                    if entry.stat().st_mtime >= since_s:
                        octets = Path(entry.path).read_bytes()
                    seen[name] = octets if token in octets else None
    return [octets for _, octets in sorted(seen.items()) if octets is not None]
