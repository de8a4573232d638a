"""refmta under the conformance suite, in a network of its own: everything that applies passes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from faultinject import networks
from specs.conformance.commands.main import main
from specs.conformance.model import Verdict
from specs.conformance.options import as_words
from specs.conformance.registry import all_cases
from specs.conformance.selection import chosen
from subjects.conformance.__main__ import measure
from subjects.conformance.refmta import LACKS, Refmta

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.timeout(580)]


#: Not applicable, and no keyword: what refmta does not do, or does.
IT_DOES_NOT = frozenset({
    "251 and 551",
    "Authentication-Results",
    "Received-SPF",
    "SIZE from 10000 to 12000000",
    "SIZE of 16 MiB at most",
    "a client that begins TLS",
    "a client that uses BDAT",
    "a client that uses DANE, and trusts its resolver",
    "a server without 8BITMIME",
    "a server without SIZE",
    "a signature (DKIM)",
    "a verification by VRFY",
    "an alias to the mailbox that is looked at",
    "an expansion by EXPN",
    "mail that is accepted and returned later, from a source route",
    "spf in Authentication-Results",
})  # fmt: skip
#: What can't be asked of it, or of this machine.
LACKING = frozenset({*LACKS.values(), "an IPv6 network in --hops"})


@pytest.fixture
def ready(tmp_path):
    place = tmp_path / "site"
    place.mkdir()
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o711)
    with networks.own(), Refmta().up(place) as ready:
        yield ready


def test_refmta_passes_everything_that_applies(ready):
    record = measure("refmta", ready, chosen(all_cases(), ()), seed=1, jobs=12)
    bad = [each for each in record.results if each.verdict in (Verdict.FAIL, Verdict.ERROR)]
    assert [(each.case.id, each.observed, each.saw) for each in bad] == []
    offered = {keyword for each in record.offered.values() for keyword in each}
    absent = {each.saw for each in record.results if each.verdict is Verdict.NOT_APPLICABLE}
    keywords = {each for each in absent if each.split()[0].isupper()} - IT_DOES_NOT
    assert absent - keywords == IT_DOES_NOT
    assert {each.split()[0] for each in keywords}.isdisjoint(offered)
    lacking = {each.saw for each in record.results if each.verdict is Verdict.UNAVAILABLE}
    assert lacking == LACKING
    assert record.counts["pass"] > 1500


def words_of(ready) -> list[str]:
    """Of a stranger, who asks nothing that must be relayed."""
    return as_words(replace(ready.given, names=""))


def run(ready, *arguments: str):
    return CliRunner().invoke(main, [*words_of(ready), *arguments])


def test_the_scenarios_of_appendix_d_pass(ready):
    address, *rest = words_of(ready)
    words = ["replay", "--appendix-d", "--to", address, *rest]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.output
    assert found.output.count("as written") == 4


def test_a_dialogue_that_goes_otherwise_is_shown(ready, tmp_path):
    dialogue = tmp_path / "wrong.txt"
    dialogue.write_text("S: 220\nC: NOOP\nS: 354\n")
    address, *rest = words_of(ready)
    found = CliRunner().invoke(main, ["replay", str(dialogue), "--to", address, *rest])
    assert found.exit_code == 1
    assert "line 3: expected 354, got 250" in found.output


SCRATCH = """
def test_my_server(refmta_conform):
    outcome = refmta_conform("{address}", "5321-4.1.1", rcpt="{rcpt}", unknown_rcpt="{unknown}")
    outcome.check()
    assert outcome.record.counts["pass"] > 20


def test_what_it_does_not_do(refmta_conform):
    refmta_conform("{address}", "{wrong}", expect="known.toml").check()
"""


def test_the_plugin_and_junit_in_a_project_of_somebody_elses(ready, tmp_path):
    """Outside the tree; pytest finds the plugin by its entry point."""
    project = tmp_path / "project"
    project.mkdir()
    address = "{}:{}".format(*ready.given.smtp)
    text = SCRATCH.format(
        address=address, rcpt=ready.given.rcpt, unknown=ready.given.unknown,
        wrong="5321-4.1.1.10-quit-lower",
    )  # fmt: skip
    (project / "test_mine.py").write_text(text)
    (project / "known.toml").write_text(
        '[[expect]]\ncase = "5321-4.1.1.10-quit-lower"\nreason = "it passes: an unexpected pass"\n'
    )
    line, inherited = networks.command(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=mine.xml"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        line, cwd=project, env=environment, capture_output=True, text=True, check=False,
        pass_fds=inherited, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "UNEXPECTED PASS" in done.stdout.upper()
    junit = project / "suite.xml"
    found = run(ready, "5321-4.1.1.10", "--junit", str(junit))
    assert found.exit_code == 0, found.output
    names = [each.get("name") for each in ET.parse(junit).iter("testcase")]  # noqa: S314
    assert any(name.startswith("5321-4.1.1.10-quit-lower: ") for name in names)
