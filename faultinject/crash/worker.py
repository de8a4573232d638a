"""The process in which a server is started on crash states: `python -m faultinject.crash.worker`,
with mounts and processes of its own, which the kernel ends with it (`faultinject.workers`).

It reads a request, and says a word per line.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from faultinject import networks, target, tracing
from faultinject.crash import confirm, stores
from faultinject.crash.live import Live, Lived, Shown
from faultinject.crash.recorder import SCENES, Scene
from faultinject.crash.senders import RefusedError
from faultinject.namespaces import Write
from faultinject.target import TargetError
from faultinject.workers import serve, worker

MODULE: Final = "faultinject.crash.worker"


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wanted (`live.Live`).  place: an empty directory."""

    target: str
    place: str
    seed: int
    scenes: tuple[str, ...]
    most: int
    samples: int
    state: int | None = None


class Said(msgspec.Struct, frozen=True, kw_only=True, tag="said"):
    """How far it is."""

    text: str


class Told(msgspec.Struct, frozen=True, kw_only=True, tag="told"):
    """Everything: `live.Lived`, in plain types."""

    target: str
    seed: int
    shown: dict[str, Shown]
    counts: dict[str, int]
    operations: dict[str, list[str]]
    passed: dict[str, int]
    log: str
    seconds: float
    confirmed: confirm.Confirmed | None = None

    def lived(self) -> Lived:
        """As it was."""
        return Lived(
            target=self.target, seed=self.seed, shown=self.shown, counts=Counter(self.counts),
            operations=self.operations, passed=Counter(self.passed), log=self.log,
            seconds=self.seconds,
        )  # fmt: skip


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """There is no result, and why.  unavailable: something is missing here."""

    reason: str
    unavailable: bool = False


Word = Said | Told | Failed
_decoder: Final = msgspec.json.Decoder(Word)


def run(request: Request, say: Callable[[str], None]) -> Told:
    """In a worker.  Raises TargetError, tracing.Unavailable."""
    with worker(MODULE, msgspec.json.encode(request)) as running:
        told: Word | None = None
        for line in running.words():
            word = _decoder.decode(line)
            if isinstance(word, Said):
                say(word.text)
            else:
                told = word
        status, complaints = running.status, running.complaints()
    match told:
        case Told():
            return told
        case Failed(reason=reason, unavailable=True):
            raise tracing.Unavailable(reason)
        case Failed(reason=reason):
            raise TargetError(reason)
    raise TargetError(f"the worker ended with code {status} and no result: {complaints}".strip())


# -- in the worker --------------------------------------------------------------------------------


def prepare(line: bytes) -> Callable[[Write], None]:
    """Raises msgspec.DecodeError (a ValueError), KeyError."""
    request = msgspec.json.decode(line, type=Request)
    target.load(request.target)

    def work(write: Write) -> None:
        def say(word: Word) -> None:
            write(msgspec.json.encode(word) + b"\n")

        try:
            say(_lived(request, lambda text: say(Said(text=text))))
        except tracing.Unavailable as error:
            say(Failed(reason=str(error), unavailable=True))
        except (TargetError, tracing.TracingError, RefusedError, OSError) as error:
            say(Failed(reason=str(error)))

    return work


def _lived(request: Request, say: Callable[[str], None]) -> Told:
    own, (name, _, architecture) = stores.of(request.target), request.target.partition(":")
    confirmed: list[confirm.Confirmed] = []

    def lines(scene: Scene) -> dict[int, str]:
        if own is None or SCENES[scene.name] != 1:
            return {}
        confirmed.append(confirm.confirm(scene, own, architecture))
        known = confirmed[-1].lines
        return {
            index: known[each.kind, path]
            for index, each in enumerate(scene.recording.operations)
            if (each.kind, path := each.path.removeprefix(f"{scene.spool}/")) in known
        }

    with networks.around(target.load(name)):
        live = Live(
            make=lambda: target.load(request.target), place=Path(request.place), seed=request.seed,
            say=say, scenes=request.scenes, most=request.most, samples=request.samples,
            only=request.state, lines=lines,
        )  # fmt: skip
        found = live.run()
    return Told(
        target=found.target, seed=found.seed, shown=found.shown, counts=dict(found.counts),
        operations=found.operations, passed=dict(found.passed), log=found.log,
        seconds=found.seconds,
        confirmed=confirmed[-1] if confirmed else None,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(serve(prepare))
