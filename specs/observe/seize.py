"""A process is seized: system calls of ours, made by it, inside its own confinement.

Theory.  What a seized part of a system could do is not computed from its credentials; it is tried.
With ptrace(2) a process is stopped, its registers are set to a system call of ours at a `syscall`
instruction that it has anyway (every process has the vdso), and it runs for just that instruction.
User, capabilities, root, namespaces, Landlock and seccomp all apply, as the kernel sees no
difference.  No help of the process is needed, so this works on any server.

Afterwards it goes on unharmed:
- it is let go where it was stopped: in a stop of the same kind (PTRACE_EVENT_STOP), with the
  registers that it had.  A system call that was interrupted by the stop is then begun again by the
  kernel, as after any signal that the process does not notice;
- signals that came meanwhile are sent anew (who sent them is lost), before it is let go: so a
  call that a signal must interrupt is interrupted;
- memory that we needed is unmapped.

Not here: threads (only the first one is stopped; none of its peers is), processors other than
x86_64, and what a process can do without system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from specs.observe.unavailable import Unavailable

#: Numbers of the calls that callers name (asm/unistd_64.h).
CALLS: Final[dict[str, int]] = {
    "read": 0, "write": 1, "open": 2, "close": 3, "fstat": 5, "mmap": 9, "munmap": 11, "dup": 32,
    "getpid": 39, "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "recvmsg": 47,
    "bind": 49, "listen": 50, "socketpair": 53, "clone": 56, "execve": 59, "kill": 62,
    "fcntl": 72, "getdents": 78, "chdir": 80, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86,
    "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "ptrace": 101, "getuid": 102,
    "setuid": 105, "setgroups": 116, "setresuid": 117, "mknod": 133, "prctl": 157, "chroot": 161,
    "mount": 165, "umount2": 166, "getdents64": 217, "openat": 257, "mkdirat": 258,
    "unlinkat": 263, "unshare": 272, "accept4": 288, "setns": 308, "process_vm_readv": 310,
    "memfd_create": 319, "bpf": 321, "userfaultfd": 323, "pidfd_open": 434, "pidfd_getfd": 438,
    "io_uring_setup": 425,
}  # fmt: skip
#: Octets for arguments, mapped into the process when first needed.
SCRATCH: Final = 1 << 16
PATIENCE_S: Final = 5.0
_LOOK_S: Final = 0.0002

_GETREGS, _SETREGS, _DETACH, _SYSCALL, _SEIZE, _INTERRUPT = 12, 13, 17, 24, 0x4206, 0x4207
_TRACESYSGOOD, _EVENT_STOP, _WALL = 1, 128, 0x40000000
_SYSCALL_STOP: Final = signal.SIGTRAP | 0x80
#: What an interrupted call returns to the kernel: ERESTARTSYS, NOINTR, NOHAND, RESTARTBLOCK.
_RESTARTS: Final = (-512, -513, -514, -516)
_INSTRUCTION: Final = b"\x0f\x05"  # syscall
_MASK: Final = (1 << 64) - 1
_NAMES: Final = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
    "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es",
    "fs", "gs",
)  # fmt: skip
_ARGUMENTS: Final = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class _Registers(ctypes.Structure):
    """struct user_regs_struct of sys/user.h."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in _NAMES]


class Gone(Exception):
    """The process has ended, perhaps by what it was made to do; the text says how."""


def _ptrace(request: int, pid: int, data: object = None) -> None:
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.restype, call.argtypes = ctypes.c_long, (ctypes.c_long, ctypes.c_long, *_POINTERS)
    if call(request, pid, None, data) == -1:
        code = ctypes.get_errno()
        if code == errno.ESRCH:
            raise Gone("no such process, or it is being killed")
        raise OSError(code, os.strerror(code))


_POINTERS = (ctypes.c_void_p, ctypes.c_void_p)


def _has_ended(pid: int) -> bool:
    """Whether it is a zombie, or less."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


class Seized:
    """`with Seized(pid) as victim`: from one thread only.  patience_s: how long a call may block.
    Raises Unavailable, Gone.
    """

    def __init__(self, pid: int, patience_s: float = PATIENCE_S) -> None:
        self.pid = pid
        self._patience_s = patience_s
        self._signals: list[int] = []
        self._scratch = self._used = 0

    # -- the stop ---------------------------------------------------------------------------------

    def __enter__(self) -> Seized:
        if platform.machine() != "x86_64":
            raise Unavailable(f"processes are seized on x86_64 only, not on {platform.machine()}")
        try:
            _ptrace(_SEIZE, self.pid, _TRACESYSGOOD)
        except OSError as error:
            if _has_ended(self.pid):
                raise Gone("it has ended, and nobody has taken note yet") from None
            raise Unavailable(f"ptrace: {error.strerror}") from None
        try:
            _ptrace(_INTERRUPT, self.pid)
            self._wait_until_stopped()
            self._before = self._registers()
            self._memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
            self._instruction = self._find_instruction()
        except BaseException:
            with contextlib.suppress(Gone, OSError):
                _ptrace(_DETACH, self.pid)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with contextlib.suppress(Gone):
                if self._scratch:
                    self.call("munmap", self._scratch, SCRATCH)
                self._set(self._before)
                for number in self._signals:
                    os.kill(self.pid, number)
                _ptrace(_DETACH, self.pid)
                return
            # It has ended: its parent hears of it only when its tracer has taken note.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, _WALL)
        except ProcessLookupError:
            return
        finally:
            os.close(self._memory)

    def _wait_until_stopped(self, patience_s: float = PATIENCE_S) -> int:
        """The next stop: `_SYSCALL_STOP`, or what is not a signal's delivery.  Raises Gone,
        TimeoutError.
        """
        while True:
            status = self._wait(patience_s)
            if not os.WIFSTOPPED(status):
                raise Gone(f"it ended with {os.waitstatus_to_exitcode(status)}")
            number, event = os.WSTOPSIG(status), status >> 16
            if number == _SYSCALL_STOP or event == _EVENT_STOP:
                return number
            if event == 0 and number != signal.SIGTRAP:
                self._signals.append(number)  # later
            _ptrace(_SYSCALL, self.pid)

    def _wait(self, patience_s: float) -> int:
        deadline = time.monotonic() + patience_s
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | _WALL)
            if pid:
                return status
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(_LOOK_S)

    # -- the call ---------------------------------------------------------------------------------

    def call(self, call: str | int, *arguments: int) -> int:
        """The system call's result; a negative errno if it failed.  One that blocks is interrupted
        when patience is over: -EINTR.  Raises Gone.
        """
        registers = _Registers.from_buffer_copy(self._before)
        registers.rip = self._instruction
        registers.rax = CALLS[call] if isinstance(call, str) else call
        registers.orig_rax = _MASK  # nothing to start again
        for name, value in zip(_ARGUMENTS, arguments, strict=False):
            setattr(registers, name, value & _MASK)
        self._set(registers)
        self._run(to_system_call=True)  # at its beginning
        try:
            self._run(to_system_call=True, patience_s=self._patience_s)  # at its end
        except TimeoutError:
            _ptrace(_INTERRUPT, self.pid)
            while self._wait_until_stopped() != _SYSCALL_STOP:
                _ptrace(_SYSCALL, self.pid)
        result = _signed(self._registers().rax)
        self._park()
        if result == (CALLS[call] if isinstance(call, str) else call):
            result = self._after_filter(result)
        return -errno.EINTR if result in _RESTARTS else result

    def _after_filter(self, result: int) -> int:
        """The number itself is what a filter leaves that sends SIGSYS.  The signal, if there is
        one, comes with the next step: it kills, or is the refusal.
        """
        status = Path(f"/proc/{self.pid}/status").read_text()
        if not int(status.partition("\nSigPnd:")[2].split()[0], 16) >> (signal.SIGSYS - 1) & 1:
            return result
        _ptrace(_SYSCALL, self.pid)
        stopped = self._wait(PATIENCE_S)
        if not os.WIFSTOPPED(stopped):
            raise Gone("a filter killed it")
        return -errno.EPERM

    def _run(self, *, to_system_call: bool, patience_s: float = PATIENCE_S) -> None:
        """To the next beginning or end of a system call, or to the next stop that is neither."""
        _ptrace(_SYSCALL, self.pid)
        while (self._wait_until_stopped(patience_s) == _SYSCALL_STOP) != to_system_call:
            _ptrace(_SYSCALL, self.pid)

    def _park(self) -> None:
        """From the end of a call into a stop as the first one was."""
        _ptrace(_INTERRUPT, self.pid)
        self._run(to_system_call=False)

    # -- registers and memory ---------------------------------------------------------------------

    def _registers(self) -> _Registers:
        registers = _Registers()
        _ptrace(_GETREGS, self.pid, ctypes.addressof(registers))
        return registers

    def _set(self, registers: _Registers) -> None:
        _ptrace(_SETREGS, self.pid, ctypes.addressof(registers))

    def write(self, octets: bytes) -> int:
        """Put octets, and a NUL behind them, into its memory; returns the address.  They stay until
        the end.  Raises Gone, Unavailable (no more room: SCRATCH in all).
        """
        if not self._scratch:
            address = self.call("mmap", 0, SCRATCH, 3, 0x22, -1, 0)  # RW, private, anonymous
            if address < 0:
                raise Unavailable(f"no memory in the process: {os.strerror(-address)}")
            self._scratch = address
        if self._used + len(octets) + 1 > SCRATCH:
            raise Unavailable(f"more than {SCRATCH} octets of arguments")
        address = self._scratch + self._used
        self._used += (len(octets) + 1 + 15) & ~15
        os.pwrite(self._memory, octets + b"\0", address)
        return address

    def read(self, address: int, length: int) -> bytes:
        """Octets of its memory.  Raises OSError where there is none."""
        return os.pread(self._memory, length, address)

    def forget(self) -> None:
        """What was written may be overwritten."""
        self._used = 0

    def _find_instruction(self) -> int:
        """A `syscall` instruction: the one that it stopped at, or one in the code that it has."""
        for start, length in [(self._before.rip - 2, 2), *_executable(self.pid)]:
            with contextlib.suppress(OSError, OverflowError):
                found = os.pread(self._memory, length, start).find(_INSTRUCTION)
                if found >= 0:
                    return int(start + found)
        raise Unavailable("no syscall instruction in the process")


def _executable(pid: int) -> Iterator[tuple[int, int]]:
    """(start, octets) of its code, the vdso first."""
    rows = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    for row in sorted(rows, key=lambda row: row[-1] != "[vdso]"):
        if "x" in row[1] and row[-1] != "[vsyscall]":
            start, end = (int(each, 16) for each in row[0].split("-"))
            yield start, end - start


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
