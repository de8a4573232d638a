"""Small file systems whose room is taken away: the kernel's own errors, and the room back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faultinject.disk.room import Room, unavailable
from faultinject.namespaces import in_turn

pytestmark = pytest.mark.needs("root")
#: A room is made and used in a second.
PATIENCE_S = 240.0


@contextmanager
def lent(kind: str, place: Path) -> Iterator[Room]:
    """With a directory of it; in the end nothing is mounted there."""
    with Room(kind, place / "room") as made:
        made.lend("spool", place / "spool")
        yield made
    assert not os.path.ismount(place / "spool") and not os.path.ismount(place / "room")


def apart(check: Callable[[], None]) -> None:
    """In a process with mounts of its own: however it ends, the machine has none of them."""
    (ended,) = in_turn([lambda _: check()], 1, PATIENCE_S)
    assert not ended.late and ended.status == 0, "it has said why"


def write(room: Room, size: int) -> int:
    """How much the first write takes, synced; minus an errno."""
    path = room.point.parent / "spool" / "file"
    try:
        with path.open("wb", buffering=0) as file:
            done = file.write(b"x" * size)
            os.fsync(file.fileno())
            return done
    except OSError as error:
        return -error.errno
    finally:
        if not os.statvfs(room.point).f_flag & os.ST_RDONLY:
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_room_is_taken_and_given_back(kind, tmp_path):
    def check() -> None:
        with lent(kind, tmp_path) as room:
            taken_and_given_back(room)

    apart(check)


def taken_and_given_back(room: Room) -> None:
    limit, code = ("space", errno.ENOSPC) if room.kind == "ext4" else ("quota", errno.EDQUOT)
    room.take(limit, 0)
    assert write(room, 3000) == -code
    room.take(limit, 40 if limit == "space" else 5)
    some = write(room, 200_000)
    assert 0 < some < 200_000 or (some == -code and room.kind == "ext4")
    room.give_back()
    assert write(room, 200_000) == 200_000
    assert write(room, 3000) == 3000


def test_inodes_and_the_right_to_write(tmp_path):
    def check() -> None:
        with lent("ext4", tmp_path) as room:
            room.take("inodes", 0)
            assert write(room, 10) == -errno.ENOSPC
            room.take("inodes", 1)
            assert write(room, 10) == 10
            room.take("read-only", 1)
            assert write(room, 10) == -errno.EROFS
            room.give_back()
            assert write(room, 10) == 10

    apart(check)


def test_an_unknown_one_is_said():
    assert unavailable("ext4") is None
