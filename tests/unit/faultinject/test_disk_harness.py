"""What a sweep says of its case, which cases are smaller, and how it is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import trio
from rich.console import Console

from faultinject import cases
from faultinject.cases import Case, Outcome
from faultinject.disk import show
from faultinject.disk.faults import FAULTS
from faultinject.disk.harness import SettingsError, harness, outcome, settings_of
from faultinject.disk.room import RoomError
from faultinject.disk.steps import Limits, Made, Step, Swept
from faultinject.disk.sweep import Sweep
from faultinject.ledger import Account, Finding


def case(**settings) -> Case:
    return Case(harness="disk", target="refmta", seed=1, settings=settings)


LIE = Finding(name="trusted_failed_sync", text="250 for disk-3/1 after a failed sync of /spool/a")


def swept(*findings: Finding, hits: int = 1, planned: int = 1) -> Swept:
    step = Step(role="qmgr", call="fsync", number=2)
    made = Made(
        step=step, letter=3, expected=True, hits=hits,
        answers=Counter({"deferred": 1} if hits else {"acknowledged": 1}),
        findings=list(findings),
    )  # fmt: skip
    return Swept(
        fault=FAULTS["eio"], planned=planned, steps=[made] if planned else [], account=Account(),
        findings=list(findings),
    )  # fmt: skip


def test_verdicts():
    wanted = case(fault="eio")
    assert outcome(wanted, swept(), {}).verdict == "held"
    assert outcome(wanted, swept(LIE), {}).verdict == "found"
    assert outcome(wanted, swept(LIE), {LIE.name: "it is known to"}).verdict == "held"
    assert outcome(wanted, swept(hits=0), {}).verdict == "broken"
    nothing = outcome(wanted, swept(planned=0), {})
    assert nothing.verdict == "held" and "no call" in nothing.reason


def test_a_finding_brings_the_case_of_its_step():
    found = outcome(case(fault="eio", sample=4), swept(LIE), {})
    again = cases.decode(found.evidence["case-trusted_failed_sync.json"].encode(), "evidence")
    assert again.settings == {
        "fault": "eio", "role": "qmgr", "call": "fsync", "first": 2, "last": 2,
    }  # fmt: skip
    assert settings_of(again).limits.allow(Step(role="qmgr", call="fsync", number=2))
    assert "qmgr fsync 2: hits 1; 1 deferred" in found.evidence["steps.txt"]


def test_a_plan_has_each_fault_once_and_each_case_reads_back():
    planned = list(harness().plan("refmta", 5))
    assert [each.settings["fault"] for each in planned] == list(FAULTS)
    for each in planned:
        assert cases.decode(cases.encode(each), "here") == each
        assert settings_of(each).fault in FAULTS


@pytest.mark.parametrize("fault", ["eio", "full-disk"])
def test_smaller_ones_end_and_shrink(fault):
    current, depth = case(fault=fault, sample=3), 0
    while following := list(harness().smaller(current)):
        assert current not in following and len({each.key for each in following}) > 1
        current, depth = following[1], depth + 1
        assert depth < 10
    settings = settings_of(current)
    assert settings.first == settings.last and not settings.sample
    assert bool(settings.call) == bool(settings.role) == (fault == "eio")


@pytest.mark.parametrize(
    "settings", [{}, {"fault": "flood"}, {"fault": "eio", "first": "1"}, {"fault": "eio", "x": 1}]
)
def test_wrong_settings_are_told(settings):
    with pytest.raises(SettingsError):
        settings_of(case(**settings))


def test_an_outcome_for_people_and_for_programs():
    outcomes = [
        outcome(case(fault="eio"), swept(LIE), {}),
        Outcome(case=case(fault="quota"), verdict="unavailable", reason="there is no mkfs.btrfs"),
    ]
    assert "found" in show.row(outcomes[0]) and "1 deferred" in show.row(outcomes[0])
    assert "there is no mkfs.btrfs" in show.row(outcomes[1])
    console = Console(width=500, record=True, file=open("/dev/null", "w"))
    show.findings(outcomes, {}, console)
    show.faults(console)
    text = console.export_text()
    assert "trusted_failed_sync: 1 (250 after a failed sync" in text and "1 finding(s)" in text
    assert all(f" {name} " in text or f"\n{name} " in text for name in FAULTS)
    told = msgspec.json.decode(msgspec.json.encode(show.as_json(outcomes, {}, "refmta", 1)))
    assert [each["unknown"] for each in told["faults"]] == [1, 0]


def test_a_queue_on_another_file_system_is_said(tmp_path):
    """Taking away a room that nobody uses would show nothing."""
    disposed = []
    server = SimpleNamespace(
        name="elsewhere", install=lambda: None, configure=lambda _: None, start=lambda: None,
        spool=Path("/proc"), dispose=lambda: disposed.append(True),
    )  # fmt: skip
    room = SimpleNamespace(mail=tmp_path, lend=lambda *_: None)
    sweep = Sweep(server, FAULTS["full-disk"], Limits(), 1, tmp_path, print, room=room)
    with pytest.raises(RoomError, match="the queue of elsewhere is not at SITE/spool"):
        trio.run(sweep.run)
    assert disposed
