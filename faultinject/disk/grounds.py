"""Where the mail lies, as the server's processes name it.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Grounds:
    """mail: directories of queue and mailboxes; boxes: of the mailboxes alone."""

    mail: tuple[str, ...]
    boxes: tuple[str, ...]


def grounds(spool: Path, mailboxes: Iterable[Path], places: Mapping[str, Path]) -> Grounds:
    """All as they are named here.  places: a directory as the processes name it -> the same here.

    What lies beside a mailbox belongs to it: a Maildir's tmp, an mbox's lock.
    """
    boxes = [name for box in mailboxes for name in _names(box.parent, places)]
    mail = [*_names(spool, places), *boxes]
    return Grounds(tuple(dict.fromkeys(mail)), tuple(dict.fromkeys(boxes)))


def _names(place: Path, places: Mapping[str, Path]) -> Iterator[str]:
    """Outside, and inside: of what is bound there, or of what is bound below it."""
    yield str(place)
    for inner, here in places.items():
        if place.is_relative_to(here):
            yield str(Path(inner) / place.relative_to(here))
        elif here.is_relative_to(place):
            yield inner
