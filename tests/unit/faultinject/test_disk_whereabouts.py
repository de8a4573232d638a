"""What paths mean to processes that moved, were confined, or were just born."""

from __future__ import annotations

import os

import pytest

from faultinject.disk.calls import places
from faultinject.disk.grounds import grounds
from faultinject.disk.whereabouts import Whereabouts, located, whereabouts_of
from faultinject.tracing import Call, parse

QUEUE = "/var/spool/postfix"


def seen(lines: list[str], **known: Whereabouts) -> list[tuple[str, ...]]:
    calls = [each for each in parse(lines) if isinstance(each, Call)]
    found = located(calls, {int(pid[1:]): where for pid, where in known.items()})
    return [places(call) for call in found if call.name not in ("clone", "chdir", "chroot")]


JAILED = Whereabouts(root=QUEUE, cwd=QUEUE)
HOME = Whereabouts(cwd=QUEUE)
RENAME = 'rename("incoming/A", "active/A") = 0'
ROWS = {
    "relative": ([f"7 1.0 {RENAME}"], HOME, [(f"{QUEUE}/incoming/A", f"{QUEUE}/active/A")]),
    "confined": (['7 1.0 unlink("/active/A") = 0'], JAILED, [(f"{QUEUE}/active/A",)]),
    "confined, by a descriptor": (
        ['7 1.0 openat(AT_FDCWD</>, "/active/A", O_RDONLY) = 4'], JAILED, [(f"{QUEUE}/active/A",)],
    ),
    "below a descriptor": (
        ['7 1.0 openat(5</home/ada>, "./new//a", O_RDONLY) = 4'], HOME, [("/home/ada/new/a",)],
    ),
    "a descriptor alone": (["7 1.0 fsync(5</x/a>) = 0"], HOME, [("/x/a",)]),
    "moved": (['7 1.0 chdir("deferred") = 0', '7 1.1 unlink("A") = 0'], HOME,
              [(f"{QUEUE}/deferred/A",)]),
    "moved in vain": (['7 1.0 chdir("deferred") = -1 ENOENT (x)', '7 1.1 unlink("A") = 0'], HOME,
                      [(f"{QUEUE}/A",)]),
    "moved by a descriptor": (["7 1.0 fchdir(5</x>) = 0", '7 1.1 unlink("A") = 0'], HOME,
                              [("/x/A",)]),
    "confines itself": (
        [f'7 1.0 chroot("{QUEUE}") = 0', '7 1.1 chdir("/") = 0', '7 1.2 unlink("active/A") = 0'],
        Whereabouts(), [(f"{QUEUE}/active/A",)],
    ),
    "a child": (
        ["7 1.0 clone(child_stack=NULL) = 9", '9 1.1 unlink("A") = 0'], HOME, [(f"{QUEUE}/A",)],
    ),
    "a child of a namespace": (
        ["7 1.0 clone(child_stack=NULL) = 2", '9 1.1 unlink("A") = 0'], HOME, [(f"{QUEUE}/A",)],
    ),
    "cut off": (["7 1.0 rename( <unfinished ...>", "7 1.1 +++ killed by SIGKILL +++"], HOME,
                [("",)]),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_path_is_made_absolute(row):
    lines, where, expected = ROWS[row]
    assert [each for each in seen(lines, p7=where) if each != ("/x",)] == expected


def test_who_is_not_known_is_at_the_root():
    assert seen(['7 1.0 unlink("A") = 0']) == [("/A",)]
    assert whereabouts_of(os.getpid()).cwd == os.getcwd()
    assert whereabouts_of((1 << 22) + 1) == Whereabouts()


def test_grounds_have_the_names_that_the_processes_use(tmp_path):
    spool, home = tmp_path / "spool", tmp_path / "home"
    boxes = [home / user / "Maildir" / "new" for user in ("ada", "bob")]
    alike = grounds(spool, boxes, {})
    assert alike.mail == (str(spool), *alike.boxes)
    assert alike.boxes == tuple(str(box.parent) for box in boxes)
    bound = grounds(spool, boxes, {QUEUE: spool, "/home": home, "/queue/x": spool / "x"})
    assert {QUEUE, "/queue/x", "/home/ada/Maildir"} < {*bound.mail}
    assert "/home/bob/Maildir" in bound.boxes and QUEUE not in bound.boxes
