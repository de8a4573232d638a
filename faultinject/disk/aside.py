"""What a server has put aside: letters that its queue no longer tells of, and that its disk has.

Some servers move a message that they could not read out of the way, for an administrator to look
at (Postfix: queue/corrupt).  Nobody tries to deliver it again, so it is as good as lost for its
sender; but it is another thing than an octet that is gone.

Only a file that is large enough to hold the whole letter counts, whatever else its format adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from faultinject.ledger import Finding
from faultinject.letters import Copy, token_of

SET_ASIDE: Final = "set_aside"
LOST: Final = "lost"
#: In a queue's own format it need not be a line.
_NAME = re.compile(
    rb"X-Storm: run=([0-9a-z]{1,16}); letter=([0-9]{1,9}); attempt=([0-9]{1,6})(?![0-9])"
)
#: Octets of a file that are looked at, from the front.
FRONT_OCTETS: Final = 64 * 1024


def kept(spool: Path, sizes: Mapping[Copy, int]) -> dict[Copy, str]:
    """Letter -> a file below the spool of a stopped server that has it.  sizes: octets of the
    letters, with LF for CRLF.
    """
    found: dict[Copy, str] = {}
    for file in _files(spool):
        with suppress(OSError), file.open("rb") as octets:
            for run, number, attempt in _NAME.findall(octets.read(FRONT_OCTETS)):
                copy = Copy(token_of(run.decode("ascii"), int(number)), int(attempt))
                if copy in sizes and file.stat().st_size >= sizes[copy]:
                    found[copy] = str(file.relative_to(spool))
    return found


def _files(spool: Path) -> Iterator[Path]:
    """Plain ones: a queue has sockets and pipes, too."""
    for path in sorted(spool.rglob("*")):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield path


def told_apart(findings: Iterable[Finding], files: Mapping[Copy, str]) -> list[Finding]:
    """What is lost, or only put aside."""
    by_text = {str(copy): file for copy, file in files.items()}
    return [_told_apart(finding, by_text) for finding in findings]


def _told_apart(finding: Finding, files: Mapping[str, str]) -> Finding:
    file = files.get(finding.text.partition(" ")[0])
    if finding.name != LOST or file is None:
        return finding
    return replace(finding, name=SET_ASIDE, text=f"{finding.text}, in {file}")
