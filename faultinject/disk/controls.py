"""Negative controls of `trust`: the calls of a server that gives up what it could not sync, and the
same with one of them replaced, which must be refused by its name.

The calls are written as strace writes them.  A control counts only if the replacement changed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from faultinject.disk.trust import TRUSTED, TRUSTED_DELIVERY, Answered, judge
from faultinject.tracing import Call, parse
from specs.kernel.control import Control, Verdict

_FAILS: Final = "= -1 EIO (Input/output error) (INJECTED)"
_NEW: Final = "O_RDWR|O_CREAT|O_EXCL, 0600)"
#: A file's sync fails, then one's name's; a third one comes to its end, and is answered.  Its
#: delivery fails once, too.
SOUND: Final[Mapping[str, str]] = {
    "make the first": f'openat(3</q>, "a", {_NEW} = 5</q/a>',
    "its sync fails": f"fsync(5</q/a>) {_FAILS}",
    "give the first up": 'unlinkat(3</q>, "a", 0) = 0',
    "make the second": f'openat(3</q>, "b", {_NEW} = 5</q/b>',
    "sync the second": "fsync(5</q/b>) = 0",
    "its name's sync fails": f"fsync(6</q>) {_FAILS}",
    "give the second up": 'unlinkat(3</q>, "b", 0) = 0',
    "make the third": f'openat(3</q>, "c", {_NEW} = 5</q/c>',
    "sync the third": "fsync(5</q/c>) = 0",
    "sync its name": "fsync(6</q>) = 0",
    "make the delivery": f'openat(3</box>, "tmp/a", {_NEW} = 5</box/tmp/a>',
    "the delivery's sync fails": f"fsync(5</box/tmp/a>) {_FAILS}",
    "give the delivery up": 'unlinkat(3</box>, "tmp/a", 0) = 0',
    "make it again": f'openat(3</box>, "tmp/a", {_NEW} = 5</box/tmp/a>',
    "sync it": "fsync(5</box/tmp/a>) = 0",
    "show it": 'renameat(3</box>, "tmp/a", 3</box>, "new/a") = 0',
}
#: (what is wrong, the name that must be found, which call, what it is instead)
REPLACED: Final = (
    ("a file's failed sync is made again", TRUSTED, "give the first up", "fsync(5</q/a>) = 0"),
    ("a file's failed sync is forgotten", TRUSTED, "give the first up", "fchmod(5</q/a>, 0) = 0"),
    ("the file is only renamed", TRUSTED, "give the first up", 'rename("/q/a", "/q/z") = 0'),
    ("its removal fails, too", TRUSTED, "give the first up", f'unlink("/q/a") {_FAILS}'),
    ("a name's failed sync is made again", TRUSTED, "give the second up", "fsync(6</q>) = 0"),
    ("a mailbox's failed sync is made again", TRUSTED_DELIVERY, "give the delivery up",
     'rename("/box/tmp/a", "/box/new/z") = 0'),
)  # fmt: skip
_LETTER: Final = Answered(what="disk-1/1", begun_s=100.0, answered_s=109.5)


def _verdict(rows: Mapping[str, str]) -> Verdict:
    """The reply comes behind the tenth call."""
    lines = (f"7 {100 + place}.0 {line} <0.1>" for place, line in enumerate(rows.values()))
    calls = [each for each in parse(lines) if isinstance(each, Call)]
    found = judge(calls, [_LETTER], ["/box"], settled=True)
    return Verdict(
        violated=frozenset(each.name for each in found),
        mutated_line_ran=rows != SOUND,
        detail="; ".join(each.text for each in found),
    )


def _control(what: str, name: str, which: str, instead: str) -> Control:
    return Control(
        name=what, spec="disk", invariant=name, twin=lambda: _verdict(SOUND),
        mutant=lambda: _verdict({**SOUND, which: instead}),
    )  # fmt: skip


def controls() -> list[Control]:
    """Entry point (refmta.specs.controls): all of them."""
    return [_control(*row) for row in REPLACED]
