"""Lines of strace as values: every form of line, and a real strace on a real process."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from faultinject import tracing
from faultinject.processes import Process
from faultinject.tracing import (
    MESSAGES,
    NAMES,
    SYNCS,
    WRITES,
    Call,
    Ended,
    Signalled,
    Tampering,
    Tracer,
    TracingError,
    Unavailable,
    descriptor,
    octets,
    parse,
    path,
    split,
    written,
)


def one(line):
    (record,) = parse([line + "\n"])
    return record


FORMS = [
    ('7 2.5 write(3</a/b>, "x", 1) = 1 <0.25>',
     {"pid": 7, "at": 2.5, "name": "write", "arguments": ("3</a/b>", '"x"', "1"), "result": 1,
      "took": 0.25}),
    ("7 2.5 fsync(3</a>) = -1 EIO (Input/output error) (INJECTED) <0.1>",
     {"result": -1, "error": "EIO", "injected": True, "made": False}),
    ("7 2.5 fsync(3</a>) = 0 (DELAYED) <0.6>", {"result": 0, "injected": False, "made": True}),
    ("7 2.5 exit_group(0) = ?", {"result": None, "made": False}),
    ('7 2.5 openat(AT_FDCWD</a>, "b", O_RDONLY) = 4</a/b> <0.1>', {"returned": "/a/b"}),
    (r'7 2.5 openat(AT_FDCWD<\x2f>, "\x62", O_RDONLY) = 4<\x2f\x62> <0.1>', {"returned": "/b"}),
    ("7 2.5 mmap(NULL, 4096) = 0x7f00 <0.1>", {"result": 0x7F00}),
    ("fsync(3)                = 0", {"pid": 0, "at": 0.0, "result": 0, "took": 0.0}),
    ("7 2.5 openat(AT_FDCWD, 0x7ffe) = -1 EFAULT (Bad address) <0.1>", {"error": "EFAULT"}),
    ("7 2.5 restart_syscall(<... resuming interrupted read ...>) = 1 <0.1>", {"result": 1}),
    ("7 2.5 <... epoll_wait resumed>[], 1, 5) = 0 <0.1>", {"name": "epoll_wait", "result": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "wanted"), FORMS)
def test_a_call(line, wanted):
    call = one(line)
    assert {name: getattr(call, name) for name in wanted} == wanted


def test_a_call_that_another_interrupts_is_put_together():
    lines = [
        '1 1.0 write(3</a, b>, "x(, " <unfinished ...>',
        "2 1.1 fsync(4</c>) = 0 <0.1>",
        "1 1.2 <... write resumed>, 4) = 4 <0.2>",
    ]
    sync, write = parse(lines)
    assert (write.arguments, write.begin, write.end) == (("3</a, b>", '"x(, "', "4"), 0, 2)
    assert write.begin < sync.begin and sync.end < write.end  # neither is before the other


def test_who_is_killed_in_a_call_has_not_made_it():
    call, ended = parse(["1 1.0 fsync(3</a> <unfinished ...>", "1 1.1 +++ killed by SIGKILL +++"])
    assert call.result is None and not call.made and call.arguments == ("3</a>",)
    assert ended == Ended(pid=1, status=-9, line=1, at=1.1)


def test_a_file_that_ends_in_a_call():
    (call,) = parse(["1 1.0 fsync(3</a>  <unfinished ...>"])
    assert call.result is None and call.end == 1


def test_a_call_in_which_strace_let_go_is_neither_made_nor_wrong():
    (call,) = parse(["7 1.5 read(3</a, b>,  <detached ...>"])
    assert call.detached and not call.made and call.result is None
    assert (call.arguments, call.begin, call.end) == (("3</a, b>",), 0, 0)
    begun, late = parse(
        ["1 1.0 fsync(3</a> <unfinished ...>", "2 1.1 fsync(4</b>) = 0 <0.1>",
         "1 1.2 <... fsync resumed> <detached ...>"]
    )  # fmt: skip
    assert begun.made and not begun.detached
    assert late.detached and (late.arguments, late.begin, late.end) == (("3</a>",), 0, 2)


def test_signals_and_ends():
    assert one("1 1.0 --- SIGCHLD {si_signo=SIGCHLD} ---") == Signalled(
        pid=1, name="SIGCHLD", line=0, at=1.0
    )
    assert one("1 1.0 +++ exited with 3 +++").status == 3
    assert list(parse(["1 1.0 +++ superseded by execve in pid 5 +++", ""])) == []


@pytest.mark.parametrize("line", ["1 1.0 what is this", "1 1.0 write(3, 4"])
def test_a_line_of_no_known_form_is_an_error(line):
    with pytest.raises(TracingError, match="no known form"):
        one(line)


SPLITS = [
    ("", ()),
    ("1", ("1",)),
    ('3<a, b>, "c, \\" d", {e=1, f=[2, 3]}', ("3<a, b>", '"c, \\" d"', "{e=1, f=[2, 3]}")),
    ("8<TCP:[127.0.0.1:25->127.0.0.1:5]>, 1", ("8<TCP:[127.0.0.1:25->127.0.0.1:5]>", "1")),
    ("[{st => 1}], 0", ("[{st => 1}]", "0")),
    ('"cut"..., 5', ('"cut"...', "5")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), SPLITS)
def test_arguments_are_split_at_their_commas(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(r'"\x00\xff"', b"\0\xff"),
     (r'"a\n\t\"\\\0b"', b'a\n\t"\\\0b'), (r'"\33[\1772"', b"\x1b[\x7f2"),
     ('""', b""), (r'"\x2fa"', b"/a")],
)  # fmt: skip
def test_texts_read_back(text, wanted):
    assert octets(text) == wanted


@pytest.mark.parametrize("text", ['"cut"...', "NULL", "0x7f"])
def test_what_is_no_whole_text_is_an_error(text):
    with pytest.raises(TracingError):
        octets(text)


def test_descriptors():
    assert descriptor(r"3<\x2fa>") == (3, "/a")
    assert descriptor("AT_FDCWD</a>") == (tracing.AT_FDCWD, "/a")
    assert descriptor("5</a>(deleted)") == (5, "/a")
    assert descriptor("9") == (9, "")
    with pytest.raises(TracingError):
        descriptor("NULL")


def test_only_what_was_taken_counts_as_written():
    call = one(
        r'1 1.0 writev(3</a>, [{iov_base="ab", iov_len=2}, {iov_base="\x63d", iov_len=2}], 2) = 3'
    )
    assert written(call) == b"abc"
    assert written(one('1 1.0 write(3</a>, "ab", 2) = ?')) == b""
    with pytest.raises(TracingError):
        written(one("1 1.0 write() = 2"))


TAMPERINGS = [
    (Tampering(calls=("fsync",), error="EIO", first=3, last=3), "--inject=fsync:error=EIO:when=3"),
    (Tampering(calls=("a", "b"), error="ENOSPC", first=2), "--inject=a,b:error=ENOSPC:when=2+1"),
    (Tampering(calls=("a",), signal="SIGKILL", first=2, last=5, step=2),
     "--inject=a:signal=SIGKILL:when=2..5+2"),
    (Tampering(calls=("a",), delay_s=0.5), "--inject=a:delay_enter=500000us:when=1+1"),
    (Tampering(calls=("a",), result=0), "--inject=a:retval=0:when=1+1"),
]  # fmt: skip


@pytest.mark.parametrize(("tampering", "option"), TAMPERINGS)
def test_what_is_injected(tampering, option):
    assert tampering.option == option


@pytest.mark.parametrize(
    "tampering",
    [Tampering(calls=("a",)), Tampering(calls=("a",), error="EIO", result=0)],
)
def test_an_injection_that_says_nothing_or_too_much(tampering):
    with pytest.raises(ValueError, match=r"a result|nothing"):
        _ = tampering.option


# -- strace itself --------------------------------------------------------------------------------

PROGRAM = """
import os, sys
sys.stdin.readline()
place = os.open(sys.argv[1] + "/a, <b>", os.O_CREAT | os.O_WRONLY)
os.write(place, b"h\\0\\"\\\\, )= 1\\n")
os.writev(place, [b"ab", b"cd"])
try:
    os.fsync(place)
except OSError:
    pass
os.rename(sys.argv[1] + "/a, <b>", sys.argv[1] + "/c")
if os.fork() == 0:
    os.write(place, b"of a child")
    os._exit(3)
os.wait()
os.unlink(sys.argv[1] + "/c")
os.write(place, b"deleted")
os.kill(os.getpid(), 9)
"""


def traced(tmp_path, **options):
    program = [sys.executable, "-I", "-S", "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as running:
        calls = (*WRITES, *SYNCS, *NAMES, *MESSAGES)
        tracer = Tracer([Process(running.pid, "it")], tmp_path, calls=calls, strings=100, **options)
        with tracer:
            running.stdin.write(b"\n")
            running.stdin.close()
            running.wait()
    return list(tracer.records())


@pytest.mark.needs("strace")
def test_a_real_process_is_read_back(tmp_path):
    records = traced(tmp_path)
    calls = [each for each in records if isinstance(each, Call)]
    names = [each.name for each in calls]
    assert names == ["write", "writev", "fsync", "rename", "write", "unlink", "write"]
    texts = [written(each) for each in calls if each.name in WRITES]
    assert texts == [b'h\0"\\, )= 1\n', b"abcd", b"of a child", b"deleted"]
    assert descriptor(calls[0].arguments[0])[1] == f"{tmp_path}/a, <b>"
    assert descriptor(calls[4].arguments[0])[1] == f"{tmp_path}/c"
    assert [path(each) for each in calls[3].arguments] == [f"{tmp_path}/a, <b>", f"{tmp_path}/c"]
    assert {each.status for each in records if isinstance(each, Ended)} == {3, -9}
    assert all(each.made for each in calls)


@pytest.mark.needs("strace")
def test_an_injected_error_is_told_as_such(tmp_path):
    tampering = Tampering(calls=("fsync",), error="EIO")
    records = traced(tmp_path, tamperings=[tampering])
    (sync,) = (each for each in records if isinstance(each, Call) and each.name == "fsync")
    assert sync.error == "EIO" and sync.injected and not sync.made


@pytest.mark.needs("strace")
def test_an_injected_kill_comes_before_the_call(tmp_path):
    tampering = Tampering(calls=("rename",), signal="SIGKILL")
    records = traced(tmp_path, tamperings=[tampering])
    assert (tmp_path / "a, <b>").exists() and not (tmp_path / "c").exists()
    assert isinstance(records[-1], Ended) and records[-1].status == -9


@pytest.mark.needs("strace")
def test_who_is_let_go_in_a_call_is_read_back(tmp_path):
    """What strace wrote while somebody waited in a call is whole, and the other lives on."""
    text = "import os; os.read(0, 1); os.write(1, b'z'); os.read(0, 1)"
    program = [sys.executable, "-I", "-S", "-c", text]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as running:
        it = Process(running.pid, "it")
        with Tracer([it], tmp_path, calls=("read", "write"), strings=10) as tracer:
            running.stdin.write(b"x")
            running.stdin.flush()
            deadline = time.monotonic() + 60
            while "read(0" not in tracer.file.read_text().partition("write(1")[2]:
                assert running.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
        *_, last = tracer.records()
        running.stdin.write(b"y")
        running.stdin.close()
        assert running.wait() == 0
    assert last.name == "read" and last.detached and not last.made


def test_nobody_to_trace(tmp_path):
    with pytest.raises(TracingError), Tracer([], tmp_path):
        pass


def test_without_strace(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no strace" in (tracing.unavailable() or "")
    with pytest.raises(Unavailable), Tracer([Process(1, "it")], tmp_path):
        pass
