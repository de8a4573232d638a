"""Pools with one thing wrong, and workers that misbehave, as whole trees of refmta (`mutant_tree`).

- GRABBING is no wrong pool but a seized worker: who has served a client at SEIZER ignores
  its retirement, and from then on takes whatever any of its descriptors gives: connections and
  descriptors.  The pool is the real one, except that it does not kill who stays (GRACE_S), so
  that only the handing over is judged.
- LYING is a seized worker, too: from a client at SEIZER on it captures what it is handed, and says
  that it is idle again at once.
- SHARING is the pool of Postfix's design (`processes.sharing`, by one word in the architecture):
  its workers share the listening socket, accept by themselves, and end by themselves after USES
  sessions; who has served a client at SEIZER does not.
- LEAKING forks each worker from the one before, when that one has served.  Only for max_workers 1.

All of them run without seccomp, which would stop the worst of it: accept and fork are not among a
worker's system calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from subjects.mutant_tree import change, mutant_tree

ARCHITECTURE: Final = "refmta-seccomp"
SEIZER: Final = "127.0.0.66"
USES: Final = 20

Changes = dict[str, list[tuple[str, str]]]
POOL: Final = "processes/pool.py"
STAFF: Final = "processes/staff.py"
ACCEPTING: Final = "processes/accepting.py"
WORKER: Final = "processes/worker.py"

_MARK: Final = """
_SEIZED: list[int] = []


def _capture(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        connection.send(b"220 captured\\r\\n")


def _mutant_ran() -> None:
    os.write(2, b'{"event":"__mutant_ran__","pid":%d}\\n' % os.getpid())

"""
_HEAR_THE_WORD: Final = (
    "            self.client = None\n",
    '            if session.client == "127.0.0.66":\n'
    "                _SEIZED.append(os.getpid())\n"
    "            self.client = None\n",
)

GRABBING: Final[Changes] = {
    STAFF: [("GRACE_S, LONG_GRACE_S = 5.0, 30.0\n", "GRACE_S, LONG_GRACE_S = 3600.0, 3600.0\n")],
    WORKER: [
        _HEAR_THE_WORD,
        (
            "        nursery.cancel_scope.cancel()\n",
            "        await _grab()\n        nursery.cancel_scope.cancel()\n",
        ),
        (
            "def _connection(session",
            _MARK.lstrip()
            + """
async def _grab() -> None:
    if _SEIZED:
        _mutant_ran()
    while _SEIZED:
        for number in range(3, 256):
            with contextlib.suppress(OSError):
                near = socket.socket(fileno=os.dup(number))
                with contextlib.suppress(OSError), near:
                    _capture(near.accept()[0])
                with contextlib.suppress(OSError):
                    near = socket.socket(fileno=os.dup(number))
                    _, rights, _, _ = socket.recv_fds(near, 4096, 16, socket.MSG_DONTWAIT)
                    for each in rights:
                        _capture(socket.socket(fileno=each))
        await trio.sleep(0.001)


def _connection(session""",
        ),
    ],
}

LYING: Final[Changes] = {
    WORKER: [
        (
            "                await worker.serve(*await worker.next_session())\n",
            "                session, number = await worker.next_session()\n"
            '                if session.client == "127.0.0.66" or _SEIZED:\n'
            "                    _SEIZED.append(number)\n"
            "                    _mutant_ran()\n"
            "                    _capture(socket.socket(fileno=number))\n"
            "                else:\n"
            "                    await worker.serve(session, number)\n",
        ),
        ("def _connection(session", _MARK.lstrip() + "\ndef _connection(session"),
    ],
}

SHARING: Final[Changes] = {
    "architectures/refmta.py": [
        (
            'roles=("smtpd",), pooled=True, listener=True)',
            'roles=("smtpd",), pooled=True, listener=True, acceptor="workers")',
        ),
    ],
    ACCEPTING: [
        ("import os\n", "import contextlib\nimport os\n"),
        ("class Spent(", _MARK.lstrip() + "\nclass Spent("),
        (
            "        self.uses += 1\n",
            "        self.uses += 1\n"
            '        if taken[1][0] == "127.0.0.66":\n'
            "            _SEIZED.append(os.getpid())\n",
        ),
        (
            '            raise Spent("used, or old")\n',
            "            if not _SEIZED:\n"
            '                raise Spent("used, or old")\n'
            "            _mutant_ran()\n"
            "            while True:\n"
            "                _capture((await self._accept())[0])\n",
        ),
    ],
}

LEAKING: Final[Changes] = {
    POOL: [
        (
            "    def start(rest: bytes, descriptors: list[int]) -> int:\n",
            "    served = []\n\n    def start(rest: bytes, descriptors: list[int]) -> int:\n",
        ),
        (
            "        parent = os.getpid()\n"
            "        pid = os.fork()\n"
            "        if pid:\n"
            "            return pid\n",
            "        parent = os.getpid()\n"
            "        pid = os.fork()\n"
            "        if pid:\n"
            "            os.waitpid(pid, 0)\n"
            "            os._exit(0)\n",
        ),
        (
            "        for each in children.descriptors():\n            os.close(each)\n",
            "",
        ),
        (
            "            status = 0\n",
            "            served.append(os.getpid())\n"
            '            os.write(2, b\'{"event":"__mutant_ran__"}\\n\')\n'
            '            children._report(b"X", len(served), bytes(4))\n'
            "            children.serve()\n",
        ),
    ],
}


def make(directory: Path, changes: Changes) -> str:
    """The path of an interpreter that runs the mutant.  Raises MutationError."""
    (file, first), *others = changes.items()
    python = mutant_tree(directory, file, first)
    for other, replacements in others:
        change(directory, other, replacements)
    return python
