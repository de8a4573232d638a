"""`refmta-conform judge FILE`: are the sessions in it ones that the standards allow?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from specs.conformance.capture import NoTshark, Unreadable
from specs.conformance.commands.endings import EX_UNEXPECTED, EX_USAGE, end
from specs.conformance.recorded_sessions import Judged, judged
from specs.smtp.judge import Fault

EX_NO_TSHARK: Final = 3


@click.command("judge")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The server's, in a capture [default: 25, 587, 24, 2525, or who was connected to].",
)
@click.option("--lmtp", is_flag=True, help="The server speaks LMTP.")
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
@click.option("-v", "--verbose", is_flag=True, help="Also what is allowed, but odd.")
def judge_command(file: Path, port: int | None, lmtp: bool, as_json: bool, verbose: bool) -> None:
    """Judge recorded sessions: a record of --json, a text of C: and S: lines, or a pcap.

    What no allowed behaviour explains is told by its first octet.  Exit codes: 0 allowed, 1 not
    allowed, 2 unreadable, or nothing in it that could be judged, 3 a capture, and no tshark.
    """
    try:
        found = judged(file, port=port or 0, lmtp=lmtp)
    except Unreadable as error:
        end(EX_USAGE, str(error))
    except NoTshark as error:
        end(EX_NO_TSHARK, str(error))
    if as_json:
        click.echo(json.dumps(document(found), indent=1))
    else:
        for line in lines(found, verbose=verbose):
            click.echo(line)
    if not all(each.judgement.allowed for each in found):
        sys.exit(EX_UNEXPECTED)
    if not any(each.judgement.replies for each in found):
        end(EX_USAGE, f"{file}: there is no reply in it that could be judged")


def lines(found: Sequence[Judged], *, verbose: bool) -> list[str]:
    """For people: faults first, what was not judged, and a line of all."""
    said: list[str] = []
    for each in found:
        judgement = each.judgement
        if judgement.fault is not None:
            said += _fault(each.name, judgement.fault)
        elif judgement.opaque and (verbose or not judgement.replies):
            said.append(f"{each.name}: after {judgement.replies} replies not judged: "
                        f"{judgement.opaque}")  # fmt: skip
        if verbose:
            said += [f"{each.name}: allowed, but {remark}" for remark in judgement.remarks]
    bad = sum(not each.judgement.allowed for each in found)
    replies = sum(each.judgement.replies for each in found)
    partly = sum(bool(each.judgement.opaque) for each in found)
    more = f", {partly} judged in part or not at all" if partly else ""
    said.append(f"{len(found)} connections, {replies} replies: {bad} not allowed{more}")
    return said


def _fault(name: str, fault: Fault) -> list[str]:
    octet = repr(fault.octet)[2:-1]
    return [
        f"{name}: NOT ALLOWED at octet {fault.at} of the server's (line {fault.line}): '{octet}'",
        f"    in:       {_text(fault.before)} >>>{_text(fault.octet)}<<< {_text(fault.behind)}",
        *(f"    state:    {each}" for each in fault.states),
        *(f"    expected: {each}" for each in fault.expected),
        *(f"    rule:     {each}" for each in fault.rules),
    ]


def _text(octets: bytes) -> str:
    return repr(octets)[2:-1]


def document(found: Sequence[Judged]) -> dict[str, Any]:
    """For programs.  Octets are texts in which each character is one octet (latin-1)."""
    return {
        "refmta-conform-judge": 1,
        "allowed": all(each.judgement.allowed for each in found),
        "connections": [
            {
                "name": each.name, "allowed": each.judgement.allowed,
                "replies": each.judgement.replies, "remarks": list(each.judgement.remarks),
                "not_judged": each.judgement.opaque,
                "fault": _as_json(each.judgement.fault) if each.judgement.fault else None,
            }
            for each in found
        ],
    }  # fmt: skip


def _as_json(fault: Fault) -> dict[str, Any]:
    return {
        "at": fault.at, "line": fault.line, "before": fault.before.decode("latin-1"),
        "octet": fault.octet.decode("latin-1"), "behind": fault.behind.decode("latin-1"),
        "states": list(fault.states), "expected": list(fault.expected), "rules": list(fault.rules),
    }  # fmt: skip
