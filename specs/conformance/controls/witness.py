"""What is known of one control's run beside what its cases say of it.

- Whether what was planted was met: a fault that nobody comes to cannot have been found.
- What the control itself raised: a server that breaks down fails cases, too, and proves nothing.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class BrokenDown(Exception):
    """The control's own code has raised something; the witness knows what."""


@dataclass(slots=True)
class Piece:
    """Of what was planted.  met: it was called, or read, or has changed something."""

    what: str
    met: bool = False


@dataclass(slots=True)
class Witness:
    pieces: list[Piece] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)

    def plant(self, what: str) -> Piece:
        self.pieces.append(Piece(what))
        return self.pieces[-1]

    @property
    def unmet(self) -> list[str]:
        return [each.what for each in self.pieces if not each.met]

    def note(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        self.raised.append(f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Over the control's own code, without any connection.  Raises BrokenDown."""
        try:
            yield
        except Exception as error:
            self.note(error)
            raise BrokenDown from error
