"""A round: a new file system, one load on it with its cuts, and every clone judged.

    process 1 of a namespace: the store
      |- a child: image, server, load, cuts        -> clones, and what was sent by each cut
      |- children, some at once: a clone each      -> verdicts, in turn
      '- children again: clones of the recovery

Each child has mounts, processes and a network of its own (`namespaces`, `networks.own`), with its
image at the same path, so that the server can't tell it from the machine that lost its power, and
two clones may be judged beside each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from faultinject import networks
from faultinject.namespaces import Ended, Write, in_turn, run
from faultinject.power import check, images
from faultinject.power.images import ImageError, Kind, Store
from faultinject.power.load import Load
from faultinject.power.records import Cut, Failed, Judged, Loaded, Settings, Word, decode, encode
from faultinject.target import Target, TargetError

#: How long a load may take beyond its pauses, and a check beyond its drain: what hangs has to end,
#: what is slow has not.
LOAD_S, CHECK_S = 600.0, 300.0
_cuts: Final = msgspec.json.Decoder(Cut)


@dataclass(slots=True, kw_only=True)
class Round:
    """One round.  place: an empty directory; the target is not yet configured."""

    target: Target
    settings: Settings
    seed: int
    place: Path

    @property
    def kind(self) -> Kind:
        """The file system."""
        return images.KINDS[self.settings.fs]

    @property
    def disk(self) -> Path:
        """Where the image of each child is mounted."""
        return self.place / "disk"

    def run(self) -> Iterator[Word]:
        """Verdicts as they come; to be called in a mount namespace of its own."""
        try:
            with images.store(self.place) as store:
                yield from self._run(store)
        except ImageError as error:
            yield Failed(reason=str(error))

    def _run(self, store: Store) -> Iterator[Word]:
        self.target.install()
        store.make(self.kind)
        loaded = self._only(self._load(store), LOAD_S + 2 * self.settings.cuts * self._pause_s)
        yield loaded
        if not isinstance(loaded, Loaded):
            return
        first = [self._check(store, number) for number in range(loaded.cuts)]
        yield from self._judge(first)
        made = sorted(store.directory.glob("cut-*-again"))
        numbers = [int(each.name.split("-")[1]) for each in made]
        yield from self._judge([self._check(store, number, again=True) for number in numbers])

    @property
    def _pause_s(self) -> float:
        return self.settings.pause_s + 1.0

    # -- the load ---------------------------------------------------------------------------------

    def _only(self, function: Callable[[Write], None], patience_s: float) -> Word:
        return next(iter(self._words([function], 1, patience_s)))

    def _load(self, store: Store) -> Callable[[Write], None]:
        def work(write: Write) -> None:
            with _told(write), ExitStack() as stack:
                image = store.directory / "load"
                stack.enter_context(images.attached(self.kind, image, self.disk))
                stack.enter_context(networks.own())
                write(encode(self._under_load(store, image)))

        return work

    def _under_load(self, store: Store, image: Path) -> Loaded:
        def keep(cut: Cut) -> None:
            octets = msgspec.json.encode(cut)
            (store.directory / f"cut-{cut.number}.json").write_bytes(octets)

        began_s = time.monotonic()
        try:
            self.target.configure(check.site_in(self.disk))
            self.target.start()
            run("sync", "-f", str(self.disk))  # what was there before the first message is kept
            load = Load(
                settings=self.settings, seed=self.seed, address=self.target.address, keep=keep,
                cut=lambda number: images.clone(image, store.directory / f"cut-{number}"),
            )  # fmt: skip
            acknowledged = trio.run(load.run)
            log = self.target.log_end()
        finally:
            self.target.dispose()
        return Loaded(
            cuts=self.settings.cuts, acknowledged=acknowledged, in_memory=store.in_memory,
            seconds=time.monotonic() - began_s, longest_cut_s=load.longest_cut_s, log=log,
        )  # fmt: skip

    # -- the clones -------------------------------------------------------------------------------

    def _judge(self, checks: Sequence[Callable[[Write], None]]) -> Iterator[Word]:
        yield from self._words(checks, self.settings.at_once, CHECK_S + self.settings.drain_s)

    def _check(
        self, store: Store, number: int, *, again: bool = False
    ) -> Callable[[Write], None]:  # fmt: skip
        name = f"cut-{number}-again" if again else f"cut-{number}"
        image, written = store.directory / name, store.directory / f"cut-{number}.json"
        when = store.directory / f"cut-{number}.when"
        every = self.settings.again_one_in
        second = None
        if every and number % every == every - 1 and not again:
            target = store.directory / f"cut-{number}-again"
            second = check.SecondCut(source=image, target=target, seed=f"{self.seed} {number}")

        def work(write: Write) -> None:
            with _told(write), ExitStack() as stack:
                cut = _cuts.decode(written.read_bytes())
                deaths = (cut.begun_s, *((float(when.read_text()),) if again else ()))
                clock = check.Clock()
                stack.enter_context(images.attached(self.kind, image, self.disk))
                stack.enter_context(networks.own())
                clock.note("mount")
                judged, when_s = check.examine(
                    self.target, check.site_in(self.disk), cut, deaths, self.settings, second, clock
                )
                if second is not None:
                    when.write_text(repr(when_s))
                image.unlink()
                write(encode(judged))

        return work

    def _words(
        self, functions: Sequence[Callable[[Write], None]], at_once: int, patience_s: float
    ) -> Iterator[Word]:
        for ended in in_turn(functions, at_once, patience_s):
            yield _word(ended)


@contextmanager
def _told(write: Write) -> Iterator[None]:
    """What is nobody's finding is told, and ends the function."""
    try:
        yield
    except (TargetError, ImageError, OSError) as error:
        write(encode(Failed(reason=str(error))))


def _word(ended: Ended) -> Word:
    """What a child has said, or that it could not."""
    if ended.late:
        return Failed(reason="a clone's server, or the load, did not end in time, and was killed")
    try:
        return decode(ended.output)
    except msgspec.DecodeError:
        return Failed(reason=f"a child ended with code {ended.status} and without a verdict")


def tally(words: Iterable[Word]) -> dict[str, int]:
    """The sums of a round: what the load was promised; cuts, what was promised by each, findings
    by name.
    """
    sums: dict[str, int] = {}
    for word in words:
        if isinstance(word, Loaded):
            sums["acknowledged"] = sums.get("acknowledged", 0) + word.acknowledged
        elif isinstance(word, Judged):
            more = {"cuts": 1, "cuts during recovery": int(word.again), **word.counts, **word.found}
            for name, count in more.items():
                sums[name] = sums.get(name, 0) + count
    return sums
