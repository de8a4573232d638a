"""ptrace(2), as far as it is needed to follow processes and to look at their system calls.

Rules: all calls come from one thread of one process, which is then the tracer.  A process that is
killed meanwhile is `Gone`: that can happen at any call, and is no error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from dataclasses import dataclass
from typing import Final

_CONT, _SYSCALL, _SEIZE, _INTERRUPT, _LISTEN = 7, 24, 0x4206, 0x4207, 0x4208
_GET_SYSCALL_INFO: Final = 0x420E
_SYSGOOD, _FORK, _VFORK, _CLONE, _EXEC, _EXITKILL = 1, 2, 4, 8, 16, 1 << 20
_POKEUSER, _DETACH = 6, 17
#: Children are followed.
_OPTIONS: Final = _SYSGOOD | _FORK | _VFORK | _CLONE
#: Where rdx, the third argument of a call, stands in struct user (sys/user.h, x86_64).
_THIRD: Final = 96
_EVENT_EXEC, _EVENT_STOP = 4, 128
_WALL: Final = 0x40000000
_SYSCALL_STOP: Final = signal.SIGTRAP | 0x80
_GROUP_STOPS: Final = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_ENTRY: Final = 1
TEXT_OCTETS: Final = 256


class Gone(Exception):
    """There is no such process, or it is being killed."""


class _Info(ctypes.Structure):
    """struct ptrace_syscall_info of linux/ptrace.h, at the entry of a call."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


_call = ctypes.CDLL(None, use_errno=True).ptrace
_call.restype = ctypes.c_long
_call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> int:
    result: int = _call(request, thread, address, data)
    if result == -1:
        code = ctypes.get_errno()
        if code == errno.ESRCH:
            raise Gone
        raise OSError(code, os.strerror(code))
    return result


@dataclass(frozen=True, slots=True)
class Stop:
    """What a thread has come to.

    kind: "ended" (it is no more), "entry" (of a system call), "executed" (another program),
    "grouped" (by SIGSTOP and its like), "signal" (number is on its way to it), "other".
    """

    thread: int
    kind: str
    number: int = 0
    arguments: tuple[int, ...] = ()


def seize(thread: int, *, to_the_death: bool = True) -> None:
    """Follow it from now on; it goes on running.  Raises Gone, PermissionError, OSError.

    to_the_death: when the tracer ends, the kernel kills it; and programs that it executes are told.
    """
    more = _EXEC | _EXITKILL if to_the_death else 0
    _ptrace(_SEIZE, thread, 0, _OPTIONS | more)


def release(thread: int, number: int = 0) -> None:
    """It is followed no more, and goes on, with this signal.  Raises Gone, OSError."""
    _ptrace(_DETACH, thread, 0, number)


def change_third(thread: int, value: int) -> None:
    """The third argument of the call in which it waits.  Raises Gone, OSError."""
    _ptrace(_POKEUSER, thread, _THIRD, value)


def interrupt(thread: int) -> None:
    """Have it stop ("other").  Raises Gone."""
    _ptrace(_INTERRUPT, thread)


def resume(thread: int, *, to_call: bool, number: int = 0) -> None:
    """Let it go on, to the next system call or for good; with this signal.  Raises Gone."""
    _ptrace(_SYSCALL if to_call else _CONT, thread, 0, number)


def leave_stopped(thread: int) -> None:
    """It stays in the stop of its group until SIGCONT.  Raises Gone."""
    _ptrace(_LISTEN, thread)


def next_stop() -> Stop | None:
    """None if nothing has happened, or nobody is traced."""
    try:
        thread, status = os.waitpid(-1, os.WNOHANG | _WALL)
    except ChildProcessError:
        return None
    if thread == 0:
        return None
    if not os.WIFSTOPPED(status):
        return Stop(thread, "ended")
    number, event = os.WSTOPSIG(status), status >> 16
    if number == _SYSCALL_STOP:
        return _at_call(thread)
    if event == _EVENT_EXEC:
        return Stop(thread, "executed")
    if event == _EVENT_STOP and number in _GROUP_STOPS:
        return Stop(thread, "grouped")
    return Stop(thread, "other") if event else Stop(thread, "signal", number)


def _at_call(thread: int) -> Stop:
    info = _Info()
    try:
        _ptrace(_GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info))
    except Gone:
        return Stop(thread, "other")
    if info.op != _ENTRY:
        return Stop(thread, "other")
    return Stop(thread, "entry", info.number, tuple(info.arguments))


def text_at(process: int, address: int) -> str:
    """The text at an address of its memory; "" if there is none."""
    with (
        contextlib.suppress(OSError, OverflowError),
        open(f"/proc/{process}/mem", "rb", buffering=0) as memory,
    ):
        memory.seek(address)
        return memory.read(TEXT_OCTETS).partition(b"\0")[0].decode("utf-8", "replace")
    return ""


def open_on(process: int, descriptor: int) -> str:
    """What a descriptor is open on; "" if that is not known."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process}/fd/{descriptor}")  # noqa: PTH115
    return ""


def group_of(thread: int) -> int:
    """The process that a thread belongs to; itself, if that is not known."""
    return _said_of(thread, "Tgid") or thread


def tracer_of(thread: int) -> int:
    """Who follows it; 0 if nobody does."""
    return _said_of(thread, "TracerPid")


def is_dead(thread: int) -> bool:
    """Whether it has ended, and perhaps nobody has heard of that yet."""
    return _word_of(thread, "State") in ("", "Z", "X")


def _said_of(thread: int, field: str) -> int:
    """A number of /proc/PID/status; 0 if it can't be read."""
    word = _word_of(thread, field)
    return int(word) if word.isdigit() else 0


def _word_of(thread: int, field: str) -> str:
    """The first word of a field of /proc/PID/status; "" if it can't be read."""
    with (
        contextlib.suppress(OSError, IndexError),
        open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as status,
    ):
        return status.read().partition(f"\n{field}:")[2].split(maxsplit=1)[0]
    return ""
