"""Proofs by CrossHair: one step, all paths.

A condition is *proved* only where CrossHair says "Confirmed over all paths". Where it ran out of
time it has *searched* for so many seconds and found nothing, which is a test and not a proof. A
counterexample *refutes*; a precondition that nothing meets makes a condition *vacuous*, which is as
bad. CrossHair runs in a process of its own, because it patches the interpreter that it runs in.

A module with proofs may say SECONDS_PER_CONDITION, where the default is not enough for it.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS_PER_CONDITION = 40
LONGEST_S = 3600

_LINE = re.compile(r"(?P<file>.*?):(?P<line>\d+): (?P<kind>info|warning|error): (?P<text>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What became of one condition of one function."""

    module: str
    function: str
    line: int
    verdict: str  # proved, searched, refuted, vacuous, failed
    detail: str

    @property
    def is_finding(self) -> bool:
        return self.verdict in {"refuted", "vacuous", "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRun:
    """One module's proofs, and how long CrossHair took."""

    name: str
    module: str
    seconds: float
    proofs: tuple[Proof, ...]


def prove(name: str, module: str, seconds: int | None = None) -> ProofRun:
    """Check every condition of a module. Never raises for what the module does.

    `seconds` per condition; None: what the module says, or the default.
    """
    started = time.perf_counter()
    try:
        path, own = _read(module)
        proofs = tuple(_run(module, path, seconds or own))
    except (OSError, ImportError, SyntaxError, subprocess.TimeoutExpired) as error:
        proofs = (_failed(module, f"{type(error).__name__}: {error}"),)
    return ProofRun(name=name, module=module, seconds=time.perf_counter() - started, proofs=proofs)


def _read(module: str) -> tuple[Path, int]:
    """Where the module's source is, and the time that it asks for; it is not imported here."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ImportError(f"no module named {module}")
    path = Path(found.origin)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if names == ["SECONDS_PER_CONDITION"] and isinstance(node.value.value, int):
                return path, node.value.value
    return path, SECONDS_PER_CONDITION


def _run(module: str, path: Path, seconds: int) -> Iterator[Proof]:
    command = [sys.executable, "-m", "crosshair", "check", "--report_all"]
    command += ["--analysis_kind=PEP316,asserts", f"--per_condition_timeout={seconds}", module]
    done = subprocess.run(  # noqa: S603  (our own interpreter, our own module)
        command,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    yield from parse(module, path, done.stdout, seconds)
    if done.returncode not in {0, 1}:
        yield _failed(module, (done.stderr or done.stdout).strip()[-500:])


def parse(module: str, path: Path, output: str, seconds: int) -> Iterator[Proof]:
    """CrossHair's lines, one per condition."""
    functions = _functions(path)
    any_condition = False
    for match in map(_LINE.match, output.splitlines()):
        if match is None:
            continue
        any_condition = True
        line, text = int(match["line"]), match["text"]
        verdict = _verdict(match["kind"], text)
        yield Proof(
            module=module,
            function=next((name for name, first, last in functions if first <= line <= last), "?"),
            line=line,
            verdict=verdict,
            detail=f"searched {seconds} s" if verdict == "searched" else text,
        )
    if not any_condition:
        yield _failed(module, "CrossHair found no condition in it")


def _verdict(kind: str, text: str) -> str:
    if text.startswith("Confirmed over all paths"):
        return "proved"
    if text.startswith("Unable to meet precondition"):
        return "vacuous"
    if text.startswith("Not confirmed"):
        return "searched"
    return "refuted" if kind == "error" else "failed"


def _functions(path: Path) -> list[tuple[str, int, int]]:
    """Name, first and last line; inner functions before those around them."""
    found = [
        (node.name, node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    return sorted(found, key=lambda function: function[2] - function[1])


def _failed(module: str, detail: str) -> Proof:
    return Proof(module=module, function="", line=0, verdict="failed", detail=detail)
