"""A message's content on its way into a queue that keeps it raw, in a file of its own.

The file is locked while it is being written, and until its submitter was answered: whoever recovers
beside us leaves alone what is locked, and removes what is not (`stores.queue`: a draft stays open).
"""

from __future__ import annotations

from contextlib import suppress

from refmta.patterns.unique_atomic_chunks import Disk
from refmta.wire.envelope import Envelope


class RawDraft:
    """`stores.queue.Draft`.  path: what the message is called; content: where its content lies."""

    __slots__ = ("_disk", "_mode", "content", "envelope", "handle", "octets", "path")

    def __init__(
        self, disk: Disk, envelope: Envelope, content: str, path: str = "", mode: int = 0o600
    ) -> None:
        """Nothing is written before the first content."""
        self._disk, self._mode = disk, mode
        self.envelope, self.content, self.path = envelope, content, path or content
        self.octets = 0
        self.handle: int | None = None

    def add(self, content: bytes) -> None:
        self._disk.write(self._create(), content)
        self.octets += len(content)

    def finish(self) -> None:
        self._create()

    def _create(self) -> int:
        if self.handle is None:
            self.handle = create_locked(self._disk, self.content, self._mode)
        return self.handle

    def close(self) -> None:
        if self.handle is not None:
            self._disk.close(self.handle)  # and so the lock goes
            self.handle = None

    def discard(self) -> None:
        if self.handle is not None:
            with suppress(OSError):  # content that belongs to nothing: recovery removes it
                self._disk.unlink(self.content)
        self.close()


def create_locked(disk: Disk, path: str, mode: int = 0o600) -> int:
    """A new file, locked.  Between the two, somebody who recovers may have taken it for a leftover;
    then it is gone, and so is this attempt.  Raises OSError.
    """
    handle = disk.create(path, mode)
    try:
        if not disk.lock(handle):
            raise BlockingIOError(f"{path} was locked by another process")
        disk.close(disk.open_read(path))
    except (BlockingIOError, FileNotFoundError):
        disk.close(handle)
        raise
    except OSError:  # it is there, and nobody would come for it
        with suppress(OSError):
            disk.unlink(path)
        disk.close(handle)
        raise
    return handle
