"""System calls to operations: lines as strace writes them, and what reached the disk."""

import pytest

from faultinject.crash.contexts import Context, Contexts
from faultinject.crash.recording import Reading, Replied, in_order
from faultinject.tracing import Call, TracingError, parse
from specs.persistence.crash import crash_states
from specs.persistence.model_disk import Snapshot
from specs.persistence.models import MODELS

ROOT = "/srv/mail"
BASE = Snapshot(("q/old",), (1,), (b"abcdef",), frozenset({"", "q", "new"}))


def place(absolute):
    return absolute[len(ROOT) + 1 :] if absolute.startswith(f"{ROOT}/") else None


def hexed(text):
    return "".join(f"\\x{octet:02x}" for octet in text.encode())


def lines(text):
    """One call a line: TEXT in quotes becomes hexadecimal, as with -xx; %R is the root."""
    found = []
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines()))):
        parts = line.replace("%R", ROOT).split('"')
        parts[1::2] = [hexed(each) for each in parts[1::2]]
        pid, _, rest = '"'.join(parts).partition(" ")
        found.append(f"{pid} {number}.5 {rest} <0.000010>\n")
    return [each for each in parse(found) if isinstance(each, Call)]


def read(text, replies=(), known=None, groups=None):
    calls = lines(text)
    contexts = Contexts.of(known or {1: Context(cwd=ROOT, uid=7, gid=8)}, calls)
    return Reading(BASE, contexts, list(replies), place, groups or {}).read(calls)


def said(text, **more):
    return [str(each) for each in read(text, **more).operations]


CREATE = '1 openat(AT_FDCWD<%R>, "q/a", O_RDWR|O_CREAT|O_EXCL, 0640) = 3<%R/q/a>\n'

OPEN = '1 openat(AT_FDCWD<%R>, "q/old", {}) = 3<%R/q/old>\n'

SEEN = [
    (CREATE + '1 write(3<%R/q/a>, "xyz", 3) = 2', ["create q/a", "write q/a 2 octets at 0"]),
    (CREATE + '1 write(3<%R/q/a>, "xy", 2) = 2\n1 write(3<%R/q/a>, "z", 1) = 1',
     ["create q/a", "write q/a 2 octets at 0", "write q/a 1 octets at 2"]),
    (OPEN.format("O_WRONLY") + '1 write(3<%R/q/old>, "XY", 2) = 2',
     ["overwrite q/old 2 octets at 0"]),
    (OPEN.format("O_WRONLY|O_APPEND") + '1 write(3<%R/q/old>, "XY", 2) = 2',
     ["write q/old 2 octets at 6"]),
    (OPEN.format("O_WRONLY") + "1 lseek(3<%R/q/old>, 4, SEEK_SET) = 4\n"
     '1 write(3<%R/q/old>, "XYZ", 3) = 3',
     ["overwrite q/old 2 octets at 4", "write q/old 1 octets at 6"]),
    ('1 pwrite64(9<%R/q/old>, "D", 1, 5) = 1', ["overwrite q/old 1 octets at 5"]),
    ('1 write(9<%R/q/old>, "gh", 2) = 2', ["write q/old 2 octets at 6"]),  # handed over
    (OPEN.format("O_WRONLY|O_TRUNC"), ["truncate q/old to 0 octets"]),
    ("1 ftruncate(9<%R/q/old>, 2) = 0", ["truncate q/old to 2 octets"]),
    ('1 rename("q/old", "new/n") = 0\n1 write(9<%R/new/n>, "g", 1) = 1\n1 fsync(9<%R/new/n>) = 0',
     ["rename q/old -> new/n", "write new/n 1 octets at 6", "sync new/n"]),
    ('1 renameat(5<%R/q>, "old", 6<%R/new>, "n") = 0', ["rename q/old -> new/n"]),
    ('1 link("q/old", "new/n") = 0\n1 unlink("q/old") = 0',
     ["link q/old -> new/n", "unlink q/old"]),
    ('1 unlinkat(5<%R/q>, "old", 0) = 0\n1 write(9<%R/q/old>(deleted), "x", 1) = 1\n'
     "1 fsync(9<%R/q/old>(deleted)) = 0",
     ["unlink q/old", "write q/old 1 octets at 6", "sync q/old"]),
    ("1 fsync(9<%R/q>) = 0\n1 fdatasync(8<%R/q/old>) = 0", ["sync_dir q", "sync q/old"]),
    ('1 fchmod(9<%R/q/old>, 0700) = 0\n1 chmod("%R/q/old", 0600) = 0',
     ["chmod q/old to 700", "chmod q/old to 600"]),
    ('1 mkdir("q/sub", 0700) = 0\n'
     '1 openat(AT_FDCWD<%R>, "q/sub/x", O_CREAT|O_RDWR, 0600) = 3<%R/q/sub/x>',
     ["mkdir q/sub", "create q/sub/x"]),
    ('1 chdir("q") = 0\n1 unlink("old") = 0', ["unlink q/old"]),
    ('1 rename("q/old", "q/none/x") = -1 ENOENT (No such file)', []),
    ('1 rename("q", "new/q") = 0\n1 unlink("new/q/old") = 0\n1 rmdir("new/q") = 0',
     ["rename_dir q -> new/q", "unlink new/q/old", "rmdir new/q"]),
    ('1 rename("q/old", "/elsewhere") = 0', ["unlink q/old"]),
    ('1 write(4</elsewhere>, "x", 1) = 1\n1 unlink("/elsewhere") = 0', []),
    (CREATE + '1 clone(child_stack=NULL, flags=SIGCHLD) = 2\n2 write(3<%R/q/a>, "x", 1) = 1\n'
     "1 dup2(3<%R/q/a>, 7<%R/q/a>) = 7<%R/q/a>\n"
     '1 write(7<%R/q/a>, "y", 1) = 1\n1 write(3<%R/q/a>, "z", 1) = 1',
     ["create q/a", *(f"write q/a 1 octets at {at}" for at in (0, 1, 2))]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SEEN, ids=lambda each: str(each)[:40])
def test_what_reached_the_disk(text, expected):
    assert said(text) == expected


def test_a_file_without_a_name_is_not_the_one_that_took_it():
    found = read(
        '1 unlink("q/old") = 0\n'
        '1 openat(AT_FDCWD<%R>, "q/old", O_RDWR|O_CREAT|O_EXCL, 0600) = 3<%R/q/old>\n'
        '1 write(3<%R/q/old>, "new", 3) = 3\n1 fsync(3<%R/q/old>) = 0'
    ).operations
    assert found[-1].inode == found[-2].inode != 1


def test_a_chrooted_process_names_things_below_its_root():
    known = {1: Context(cwd=f"{ROOT}/q", root=ROOT)}
    assert said('1 unlink("/q/old") = 0', known=known) == ["unlink q/old"]


#: A daemon in a pid namespace of its own: to itself its children are 5 and 6; here 105 and 106.
INSIDE = (
    "1 clone(child_stack=NULL, flags=SIGCHLD) = 5\n1 clone(child_stack=NULL, flags=SIGCHLD) = 6\n"
    '105 unlink("old") = 0\n106 chdir("/elsewhere") = 0\n106 unlink("old") = 0'
)


def test_a_child_is_known_by_its_parent_though_its_number_is_another_inside():
    """Where it begins: the directory, the user, the program."""
    known = {1: Context(cwd=f"{ROOT}/q", program="daemon")}
    found = read(INSIDE, known=known)
    assert [str(each) for each in found.operations] == ["unlink q/old"]
    assert found.makers == ["daemon"]
    assert found.said(0) == "unlink q/old [unlink, daemon 105]"


def test_a_child_that_nobody_forked_is_an_error():
    with pytest.raises(TracingError, match="2 processes were forked, and 3 were seen"):
        read(INSIDE + '\n107 unlink("old") = 0')


def test_a_program_is_called_by_what_it_executes():
    text = '1 execve("/usr/bin/procmail", ["procmail"], 0x7f /* 3 vars */) = 0\n'
    assert read(text + CREATE).makers == ["procmail"]


def test_replies_are_those_that_the_client_got():
    reply = Replied(token="t/1", text=b"queued as Q1", from_s=0.0, until_s=9.0)
    late = Replied(token="t/2", text=b"queued as Q2", from_s=5.0, until_s=9.0)
    text = (
        '1 write(5<socket:[1]>, "250 ok\r\n", 8) = 8\n'
        '1 sendto(5<socket:[1]>, "250 queued as Q1\r\n", 18, 0, NULL, 0) = 18\n'
        '1 sendto(6<socket:[2]>, "250 queued as Q2\r\n", 18, 0, NULL, 0) = 18\n'
    )
    found = read(text.replace("\r\n", "  "), replies=[reply, late])
    assert [(each.kind, each.path) for each in found.operations] == [("reply", "t/1")]


def test_owners_follow_processes_names_and_directories():
    text = (
        CREATE + "1 setresuid(-1, 50, -1) = 0\n1 setgid(51) = 0\n"
        '1 openat(AT_FDCWD<%R>, "new/b", O_RDWR|O_CREAT, 0600) = 4<%R/new/b>\n'
        '1 rename("new/b", "new/c") = 0'
    )
    owners = read(text, groups={"q": 99}).owners
    assert owners == {"q/a": (7, 99), "new/b": (50, 51), "new/c": (50, 51)}


def call(name, begin, end, *arguments, returned=""):
    return Call(pid=1, name=name, arguments=arguments, result=0, begin=begin, end=end,
                returned=returned)  # fmt: skip


def test_a_sync_covers_what_had_returned_when_it_was_called():
    """What overlaps it comes after it; what concerns other files stays where it is."""
    sync = call("fsync", 2, 6, "3</q/a>")
    during = call("write", 3, 5, "3</q/a>", '"x"', "1")
    before = call("write", 0, 1, "3</q/a>", '"x"', "1")
    other = call("write", 3, 4, "4</q/b>", '"x"', "1")
    assert in_order([before, sync, during, other]) == [before, other, sync, during]


def test_control_a_write_behind_the_sync_is_not_covered():
    """Were it ordered by its return alone, a store that replies too early would pass."""
    sync = call("fsync", 0, 4, "9</srv/mail/q/old>")
    written = call("write", 1, 2, "9</srv/mail/q/old>", '"\\x67"', "1")
    written = Call(pid=1, name="write", arguments=written.arguments, result=1, begin=1, end=2)
    reading = Reading(BASE, Contexts({1: Context(cwd=ROOT)}, {}), [], place)
    kinds = [each.kind for each in reading.read([written, sync]).operations]
    assert kinds == ["sync", "write"]


def test_a_renamed_directory_takes_its_files_along_or_stays():
    made = read('1 rename("q", "new/q") = 0')
    for model in MODELS:
        states = {each.snapshot.paths for each in crash_states(BASE, made.operations, model)}
        assert states == {("q/old",), ("new/q/old",)}
