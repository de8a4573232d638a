"""What really reaches the kernel: syncs come before promises, in every process, by strace.

The plans are proved and enumerated; this shows that the running system does what they say.
Control: the same check must refuse a trace from which a sync was removed, or in which it was moved
behind the reply.
"""

import re
import smtplib
import subprocess
import time

import pytest
from system.lines import whole_lines
from system.server import server

CALLS = "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg,link,linkat"
#: A step, the call that makes it, and what its arguments hold.
NAMED = [
    ("enqueue synced the file", "fsync", r"chunks/ID>"),
    ("enqueue synced the directory", "fsync", r"/chunks>"),
    ("enqueue said kept", "sendto", r"kept.*ID"),
    ("smtpd said 250", "sendto", r"250 2\.0\.0 queued as ID"),
    ("local synced the file", "fsync", r"tmp/\d+\.QID"),
    ("local renamed", "rename", r"tmp/\d+\.QID"),
    ("local synced new/", "fsync", r"/new>"),
    ("local reported", "sendto", r"outcome.*delivered"),
    ("qmgr freed", "unlink", r"chunks/ID"),
]
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)")


def steps(trace: str, queue_id: str) -> list[str]:
    """The named steps of one message's life, in the order in which the kernel was asked.

    Each process has a file of its own (strace -ff): in a common one a call during which another
    process makes one is cut in two lines.
    """
    found = []
    for _, call, arguments, result in sorted(_calls(trace)):
        for name, kind, pattern in NAMED:
            wanted = pattern.replace("ID", queue_id)
            if call.startswith(kind) and re.search(wanted, arguments) and result >= 0:
                found.append(name)
    return found


def _calls(trace):
    for match in map(LINE.match, trace.splitlines()):
        if match:
            yield float(match[1]), match[2], match[3], int(match[4])


ORDER = [
    ("enqueue synced the file", "enqueue said kept"),
    ("enqueue synced the directory", "enqueue said kept"),
    ("enqueue said kept", "smtpd said 250"),
    ("local synced the file", "local renamed"),
    ("local renamed", "local synced new/"),
    ("local synced new/", "local reported"),
    ("local reported", "qmgr freed"),
]


def violations(found: list[str]) -> list[str]:
    """Each rule of ORDER that a list of steps breaks."""
    return [
        f"{first!r} must come before {second!r}"
        for first, second in ORDER
        if first not in found or second not in found or found.index(first) > found.index(second)
    ]


@pytest.mark.needs("root", "strace")
def test_every_promise_comes_after_its_syncs(tmp_path):
    def trace() -> str:  # a call that has begun, joined to the next file, would look complete
        lines = (line for each in tmp_path.glob("trace.*") for line in whole_lines(each))
        return "".join(f"{line.decode()}\n" for line in lines)

    with server(tmp_path / "s") as running:
        _send(running, "to start the delivery agent")
        running.wait_for(lambda: len(running.delivered("ada")) == 1, "the first delivery")
        pids: list[str] = []

        def all_told() -> bool:  # a worker may answer before its pool has heard of its number
            pids[:] = [str(row["pid"]) for row in running.ps()]
            return bool(pids) and "0" not in pids

        running.wait_for(all_told, "ps tells of all processes")
        tracer = subprocess.Popen(
            [
                "strace",
                "-ff",
                "-ttt",
                "-y",
                "-s",
                "200",
                "-e",
                f"trace={CALLS}",
                "-o",
                str(tmp_path / "trace"),
            ]
            + [word for pid in pids for word in ("-p", pid)],
            stderr=subprocess.PIPE,
        )
        try:
            for _ in pids:  # "Process N attached"
                tracer.stderr.readline()
            queue_id = _send(running, "traced")
            running.wait_for(lambda: len(running.delivered("ada")) == 2, "the second delivery")
            running.wait_for(
                lambda: "qmgr freed" in steps(trace(), queue_id), "the end in the trace"
            )
        finally:
            tracer.terminate()
            tracer.wait()
    found = steps(trace(), queue_id)
    assert violations(found) == [], trace()


def _send(running, text):
    with smtplib.SMTP("127.0.0.1", running.port) as client:
        client.ehlo()
        client.mail("x@example.net")
        client.rcpt("ada@example.org")
        code, answer = client.data(f"Subject: {text}\r\n\r\n{time.monotonic_ns()}\r\n".encode())
    assert code == 250
    return answer.decode().split()[-1]


@pytest.mark.parametrize("step", [first for first, _ in ORDER])
def test_a_trace_without_a_step_is_refused(step):
    whole = [name for name, _, _ in NAMED]
    assert violations(whole) == []
    assert violations([each for each in whole if each != step])


@pytest.mark.parametrize(("first", "second"), ORDER)
def test_a_trace_with_two_steps_exchanged_is_refused(first, second):
    whole = [name for name, _, _ in NAMED]
    place, other = whole.index(first), whole.index(second)
    whole[place], whole[other] = whole[other], whole[place]
    assert violations(whole)
