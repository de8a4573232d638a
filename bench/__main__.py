"""`python -m bench`: refmta beside Debian's Postfix, as shipped and tuned, in one run on one disk;
and its roles in each architecture, beside one another.

Needs root (overlay roots, mail for several users). Exit codes: 0 measured, 1 a server lost,
doubled or refused mail, 2 wrong usage, 3 nothing to measure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import (
    architectures,
    confinement,
    disk,
    large,
    memory,
    queued,
    relaying,
    report,
    syncs,
    throughput,
)
from bench.load import LoadError, Shape, run, settle
from bench.report import line, title
from bench.target import Target, TargetError
from bench.targets import COMPOSITIONS, TARGETS, Refmta, Unconfined
from faultinject.overlay import OverlayError, scratch

GROWTH_AIM_MB = 8
IDLE_AIM_MB = 200
QUEUED_AIM = 0.9  # "slow nothing down", as far as this noise can tell
QUEUED = 20_000
QUICK_QUEUED = 2_000


class Bench:
    """One run: its options, its running targets, and what was found."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.options = options
        self.place = place
        self.chance = random.Random(options.seed)  # noqa: S311
        self.targets: list[Target] = []
        self.found: dict[str, Any] = {}
        self.problems: list[str] = []

    @property
    def names(self) -> list[str]:
        return [target.name for target in self.targets]

    @property
    def references(self) -> list[str]:
        return [target.name for target in self.targets if target.reference]

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """A failed measurement is said and counted; the next one goes on."""
        try:
            yield
        except (LoadError, TargetError, OverlayError) as error:
            self.problems.append(str(error))
            print(f"  FAILED: {error}", flush=True)

    def disk(self) -> None:
        """The disk's own limit."""
        title("the disk alone: 4 KB commits", "in sequence", "in groups of 10")
        found = disk.limit(self.place, self.options.rounds, self.options.seed)
        line("create, write, sync, sync directory", *(f"{rate:.0f}/s" for rate in found.values()))
        self.found["disk"] = found

    def idle(self) -> None:
        """Memory of each system after one message."""
        title("idle, proportional set size", *self.names, "aim")
        totals = {}
        for target in self.targets:
            with self.reporting():
                run(target, Shape(clients=1, messages=1))
                settle(target)
                self.found.setdefault("idle", {})[target.name] = memory.pss_by_role(target)
                totals[target.name] = sum(self.found["idle"][target.name].values())
        own = [total for name, total in totals.items() if name not in self.references]
        aim = report.verdict(max(own) / report.MIB, IDLE_AIM_MB, at_least=False) if own else ""
        cells = [report.octets(totals[name]) if name in totals else "-" for name in self.names]
        line("all processes together", *cells, aim)
        with self.reporting():
            line("processes", *(str(len(target.processes())) for target in self.targets))

    def throughput(self) -> None:
        """Every shape of load."""
        title("4 KB messages, median of rounds", *self.names, "ratio", "aim")
        for shape in throughput.shapes(self.options.quick):
            if re.search(self.options.shapes, str(shape)):
                with self.reporting():
                    self.one_shape(shape)

    def one_shape(self, shape: Shape) -> None:
        """All rounds of one shape, and its rows."""
        delivered: dict[str, list[float]] = {name: [] for name in self.names}
        accepted: dict[str, list[float]] = {name: [] for name in self.names}
        rounds = throughput.measure(self.targets, shape, self.options.rounds, self.chance)
        for _, name, rates in rounds:
            delivered[name].append(rates.delivered)
            accepted[name].append(rates.accepted)
        aim = throughput.AIMS.get(shape.clients)
        report.rates_rows(str(shape), delivered, accepted, self.references, aim)
        row = {"shape": asdict(shape), "delivered": delivered, "accepted": accepted}
        self.found.setdefault("throughput", []).append(row)

    def syncs(self) -> None:
        """Syncs per message."""
        title("syncs per message (strace)", *self.names)
        for shape in syncs.shapes():
            found: dict[str, dict[str, float]] = {}
            for target in self.targets:
                with self.reporting():
                    found[target.name] = syncs.per_message(target, shape)
            for kind in syncs.KINDS:
                counts = [found.get(name, {}).get(kind) for name in self.names]
                cells = ["-" if count is None else f"{count:.2f}" for count in counts]
                line(f"{shape.clients:3} clients, {kind}", *cells)
            self.found.setdefault("syncs", []).append({"shape": asdict(shape), "found": found})

    def large(self) -> None:
        """One 100 MB message; as many times as there are rounds, at most three."""
        title("one 100 MB message", "took", "grew most", "small: before", "during", "slower by")
        for target in self.targets:
            with self.reporting():
                self.one_large(target)

    def one_large(self, target: Target) -> None:
        passages = [large.measure(target) for _ in range(min(3, self.options.rounds))]
        self.found.setdefault("large", {})[target.name] = [asdict(each) for each in passages]
        growth = max(max(each.growth.values()) for each in passages)
        before = [sample[1] for each in passages for sample in each.before]
        during = [sample[1] for each in passages for sample in each.during]
        line(
            target.name,
            f"{statistics.median(each.took_s for each in passages):.1f} s",
            report.octets(growth),
            f"{report.milliseconds(before)} ms",
            f"{report.milliseconds(during)} ms",
            f"{statistics.median(each.slow_down() for each in passages):.2f}",
        )
        if not target.reference:
            line("", "", report.verdict(growth / report.MIB, GROWTH_AIM_MB, at_least=False))

    def queued(self) -> None:
        """Throughput of others beside a long queue."""
        messages = QUICK_QUEUED if self.options.quick else QUEUED
        title(
            f"{messages} queued, {queued.CLIENTS} clients kept", "without", "with", "ratio", "aim"
        )
        for target in self.targets:
            if target.name in self.references[1:]:
                continue  # deferring takes the reference minutes: once is enough
            with self.reporting(), type(target)(self.place / f"{target.name}-queued") as loaded:
                queued.fill(loaded, messages)
                self.one_queued(target, loaded)

    def one_queued(self, target: Target, loaded: Target) -> None:
        rates: dict[bool, list[float]] = {False: [], True: []}
        for with_queue, found in queued.measure(
            target, loaded, self.options.rounds, self.options.quick, self.chance
        ):
            rates[with_queue].append(found.delivered)
        value = report.ratio(rates[True], rates[False])
        aim = "" if target.reference else report.verdict(value, QUEUED_AIM)
        medians = [f"{statistics.median(rates[each]):.0f}/s" for each in (False, True)]
        line(target.name, *medians, f"{value:.2f}", aim)
        row = {"without": rates[False], "with": rates[True]}
        self.found.setdefault("queued", {})[target.name] = row

    def relaying(self) -> None:
        """In by smtp-source, out to smtp-sink; and beside a long queue for a dead destination."""
        title("relayed to smtp-sink, 4 KB", *self.names, "ratio", "aim")
        with self.reporting(), ExitStack() as sinks:
            pairs = [(each, sinks.enter_context(relaying.sink(each))) for each in self.targets]
            for shape in relaying.shapes(self.options.quick):
                delivered: dict[str, list[float]] = {name: [] for name in self.names}
                accepted: dict[str, list[float]] = {name: [] for name in self.names}
                rounds = relaying.measure(pairs, shape, self.options.rounds, self.chance)
                for name, rates in rounds:
                    delivered[name].append(rates.delivered)
                    accepted[name].append(rates.accepted)
                report.rates_rows(str(shape), delivered, accepted, self.references, relaying.AIM)
                row = {"shape": asdict(shape), "relayed": delivered, "accepted": accepted}
                self.found.setdefault("relaying", []).append(row)
        messages = QUICK_QUEUED if self.options.quick else QUEUED
        title(f"{relaying.LIVE} beside {messages} for a dead destination", "without", "with",
              "ratio", "aim")  # fmt: skip
        for target in self.targets:
            if target.name not in self.references[1:]:
                with self.reporting(), type(target)(self.place / f"{target.name}-dead") as loaded:
                    self.one_beside_the_dead(target, loaded, messages)

    def one_beside_the_dead(self, target: Target, loaded: Target, messages: int) -> None:
        relaying.fill(loaded, messages)
        shape = Shape(clients=relaying.CLIENTS, messages=relaying.LIVE, kept=True)
        rates: dict[str, list[float]] = {}
        for key, server in (("without", target), ("with", loaded)):
            with relaying.sink(server) as taker:  # one at a time: both may share a network
                passages = range(self.options.rounds)
                rates[key] = [relaying.run(server, taker, shape).delivered for _ in passages]
        value = report.ratio(rates["with"], rates["without"])
        medians = [f"{statistics.median(each):.0f}/s" for each in rates.values()]
        aim = "" if target.reference else report.verdict(value, relaying.NOT_DELAYED_AIM)
        line(target.name, *medians, f"{value:.2f}", aim)
        self.found.setdefault("dead", {})[target.name] = rates

    def confinement(self) -> None:
        """What the layers cost: ours with and without them, in turn."""
        title("confined, and not", "refmta", "unconfined", "ratio", "aim")
        own = [target for target in self.targets if target.name == "refmta"]
        for target in own:
            with self.reporting(), Unconfined(self.place / Unconfined.name) as free:
                for shape in confinement.shapes(self.options.quick):
                    delivered: dict[str, list[float]] = {target.name: [], free.name: []}
                    rounds = max(confinement.ROUNDS, self.options.rounds)
                    for _, name, rates in throughput.measure(
                        [target, free], shape, rounds, self.chance
                    ):
                        delivered[name].append(rates.delivered)
                    value = report.ratio(*delivered.values())
                    medians = [f"{statistics.median(each):.0f}/s" for each in delivered.values()]
                    aim = report.verdict(value, confinement.AIM)
                    line(str(shape).rjust(38), *medians, f"{value:.2f}", aim)
                    row = {"shape": asdict(shape), "delivered": delivered}
                    self.found.setdefault("confinement", []).append(row)

    def architectures(self) -> None:
        """Ours, composed otherwise: a column for each."""
        with ExitStack() as running:
            columns = [each for each in self.targets if each.name == Refmta.name]
            for kind in COMPOSITIONS:
                if kind is not Refmta or not columns:
                    with self.reporting():
                        place = self.place / f"our-{kind.name}"
                        columns.append(running.enter_context(kind(place)))
            columns.sort(key=lambda each: [kind.name for kind in COMPOSITIONS].index(each.name))
            title(
                "our roles, in each architecture", *(each.name for each in columns), "ours", "aim"
            )
            self.found["architectures"] = {"throughput": []}
            self.standing(columns)
            for shape in architectures.shapes(self.options.quick):
                if re.search(self.options.shapes, str(shape)):
                    with self.reporting():
                        self.one_shape_everywhere(columns, shape)

    def one_shape_everywhere(self, columns: Sequence[Target], shape: Shape) -> None:
        """All rounds of one shape, and its rows; ours beside the fastest of the others."""
        delivered: dict[str, list[float]] = {each.name: [] for each in columns}
        accepted: dict[str, list[float]] = {each.name: [] for each in columns}
        for _, name, rates in throughput.measure(columns, shape, self.options.rounds, self.chance):
            delivered[name].append(rates.delivered)
            accepted[name].append(rates.accepted)
        others = [each.name for each in columns if each.name != Refmta.name]
        report.rates_rows(str(shape), delivered, accepted, others, architectures.AIM)
        row = {"shape": asdict(shape), "delivered": delivered, "accepted": accepted}
        self.found["architectures"]["throughput"].append(row)

    def standing(self, columns: Sequence[Target]) -> None:
        """What each of them is after one message, and what it asks of the disk for one."""
        found: dict[str, dict[str, float]] = {}
        for target in columns:
            with self.reporting():
                run(target, Shape(clients=1, messages=1))
                settle(target)
                found[target.name] = {
                    "processes": len(target.processes()),
                    "idle, octets in memory": sum(memory.pss_by_role(target).values()),
                    **{f"syncs per message, {kind}": number for kind, number in syncs.per_message(
                        target, architectures.SYNCS).items()},
                }  # fmt: skip
        for name in next(iter(found.values()), {}):
            told = [found.get(each.name, {}).get(name) for each in columns]
            form = report.octets if name.startswith("idle") else "{:.4g}".format
            line(name.rjust(38), *("-" if each is None else form(each) for each in told))
        self.found["architectures"]["standing"] = found


PARTS: dict[str, Callable[[Bench], None]] = {
    "disk": Bench.disk,
    "idle": Bench.idle,
    "throughput": Bench.throughput,
    "architectures": Bench.architectures,
    "confinement": Bench.confinement,
    "syncs": Bench.syncs,
    "large": Bench.large,
    "queued": Bench.queued,
    "relaying": Bench.relaying,
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer clients, messages and rounds")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="may be repeated")
    parser.add_argument("--targets", default=",".join(TARGETS), help="default: %(default)s")
    parser.add_argument("--shapes", default="", metavar="REGEX", help='e.g. " 20 .*kept.* 1 rcpt"')
    parser.add_argument("--seed", type=int, default=1, help="of the order of the runs")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    unknown = set(options.targets.split(",")) - set(TARGETS)
    if unknown:
        parser.error(f"unknown target {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    return options


def start(bench: Bench, running: ExitStack) -> None:
    """Start every target that can run here; name those that can't."""
    for name in bench.options.targets.split(","):
        reason = TARGETS[name].unavailable()
        if reason:
            print(f"{name}: unavailable: {reason}")
            continue
        with bench.reporting():
            bench.targets.append(running.enter_context(TARGETS[name](bench.place / name)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    with scratch("bench") as (place, _), ExitStack() as running:
        bench = Bench(options, place)
        machine = {
            "processors": os.cpu_count(),
            "kernel": platform.release(),
            "load": os.getloadavg(),
        }
        bench.found |= {"seed": options.seed, "rounds": options.rounds, "machine": machine}
        print(f"{options.rounds} rounds, seed {options.seed}, {machine}")
        start(bench, running)
        if not bench.targets:
            return 1 if bench.problems else 3
        for name in options.only or PARTS:
            PARTS[name](bench)
        if options.json:
            options.json.write_text(json.dumps(bench.found, indent=1) + "\n", encoding="utf-8")
    for problem in bench.problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if bench.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # everything is cleaned up by now
        sys.exit("interrupted")
