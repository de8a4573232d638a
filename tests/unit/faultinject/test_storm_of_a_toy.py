"""The whole storm, against a mail server of sixty lines: what it finds, by name, and what not."""

from __future__ import annotations

import json

import pytest
import trio
from click.testing import CliRunner
from unit.faultinject.toy_target import Toy

from faultinject import command, show, target
from faultinject.storm import Plan, Storm
from faultinject.target import TargetError

PLAN = Plan(messages=80, seconds=2.5, seed=1, clients=4, hits=2, drain_s=20)


async def storm(how, directory, plan=PLAN):
    with trio.fail_after(100):
        return await Storm(Toy(how), plan, directory, lambda _: None).run()


async def test_a_sound_server_survives(tmp_path):
    result = await storm("sound", tmp_path)
    assert result.findings == []
    assert result.account.acknowledged == PLAN.messages
    assert result.hits["toy"] >= 2 and result.restarts >= 2


@pytest.mark.parametrize(
    ("how", "name"), [("forgetful", "lost"), ("garbling", "altered"), ("doubling", "duplicate")]
)
async def test_each_way_to_be_wrong_is_found_by_its_name(how, name, tmp_path):
    result = await storm(how, tmp_path)
    assert {finding.name for finding in result.findings} == {name}


async def test_a_storm_that_killed_too_little_says_so(tmp_path):
    plan = Plan(messages=5, seconds=0.2, seed=1, clients=1, hits=50, drain_s=20)
    result = await storm("sound", tmp_path, plan)
    assert "too_calm" in {finding.name for finding in result.findings}


async def test_a_server_that_does_not_start_is_no_finding_but_an_error(tmp_path):
    with pytest.raises(TargetError):
        await storm("no such way", tmp_path / "not there")


def test_the_seed_decides_the_letters():
    from faultinject.storm import letters

    once, again = (list(letters(PLAN, remote=True)) for _ in range(2))
    other = list(letters(Plan(messages=80, seconds=1, seed=2), remote=True))
    assert once == again != other
    assert all(letter.recipients for letter in once)
    assert all(letter.sender or "storm.example" in letter.recipients[0] for letter in once)


# -- the command ----------------------------------------------------------------------------------


def run(monkeypatch, how, *arguments):
    monkeypatch.setattr(target, "load", lambda _: Toy(how))
    options = ("--messages", "40", "--seconds", "1.2", "--hits", "1", "--seed", "5")
    return CliRunner().invoke(command.main, ["storm", "--target", "toy", *options, *arguments])


def test_the_command_reports_and_ends_with_0(monkeypatch):
    done = run(monkeypatch, "sound", "--json", "-")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["acknowledged"] == 40 and report["lost"] == 0 and report["seed"] == 5


def test_a_finding_ends_with_1_and_is_named(monkeypatch, tmp_path):
    done = run(monkeypatch, "doubling", "--json", str(tmp_path / "report"))
    assert done.exit_code == 1
    assert "finding: duplicate" in done.stdout and "seed 5" in done.stdout
    assert json.loads((tmp_path / "report").read_text())["duplicate"] > 0


def test_a_known_failure_is_told_and_no_finding(monkeypatch):
    monkeypatch.setattr(Toy, "known_failures", {"duplicate": "it is only a toy"})
    done = run(monkeypatch, "doubling")
    assert done.exit_code == 0
    assert "it is only a toy" in done.stdout and "0 finding(s)" in done.stdout


def test_what_the_log_says_is_a_finding(monkeypatch):
    monkeypatch.setattr(Toy, "complaints", ("panic: no more bricks",))
    done = run(monkeypatch, "sound")
    assert done.exit_code == 1 and "no more bricks" in done.stdout


def test_no_such_target_ends_with_2():
    done = CliRunner().invoke(command.main, ["storm", "--target", "nonesuch"])
    assert done.exit_code == 2 and "nonesuch" in done.stderr


def test_a_target_that_cannot_run_here_ends_with_3(monkeypatch):
    monkeypatch.setattr(Toy, "unavailable", lambda _: "no toys here")
    assert run(monkeypatch, "sound").exit_code == 3


def test_the_known_are_not_counted():
    from faultinject.ledger import Account, Finding
    from faultinject.storm import Result

    findings = [Finding(name="lost", text="x"), Finding(name="altered", text="y")]
    result = Result(target="t", plan=PLAN, account=Account(), findings=findings)
    assert [each.name for each in show.unknown(result, {"lost": "why"})] == ["altered"]
