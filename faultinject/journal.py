"""Files of a line each record, that a run goes on with after it was killed.

What a kill may leave is a last line without its end, and that is cut off.  So before anything is
cut off, the file has to be one of ours: its first line, even if that is all there is of it, must
begin as ours do.
"""

from __future__ import annotations

from pathlib import Path


def whole(octets: bytes, begins: bytes, path: Path) -> int:
    """How many octets are whole lines; what follows may be cut off.

    begins: how the first line does.  Raises ValueError: the file is somebody else's.
    """
    shared = min(len(octets), len(begins))
    if octets[:shared] != begins[:shared]:
        raise ValueError(f"{path}:1: no such record: it is left as it is")
    return octets.rfind(b"\n") + 1
