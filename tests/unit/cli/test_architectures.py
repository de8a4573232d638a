"""`refmta architectures`: every row of the data is a decision, and a difference is shown alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from refmta.architectures.catalogue import ARCHITECTURES, find
from refmta.architectures.decisions import decisions, differing
from refmta.architectures.refmta import REFMTA
from refmta.cli.main import main
from refmta.patterns.defense_in_depth import LAYERS


def ran(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["architectures", *arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_row_is_shown(name: str):
    code, out, _ = ran("--json", name)
    shown = json.loads(out)
    architecture = find(name)
    assert code == 0
    for row in architecture.rows:
        assert f"{row.name}: user" in shown and f"{row.name}: root" in shown
    assert len([each for each in shown if each.startswith("channel ")]) == len(architecture.talks)
    assert {each for each in shown if each.startswith("layer ")} == {f"layer {x}" for x in LAYERS}
    assert all({*answers} == {name} for answers in shown.values())


def test_the_difference_of_a_layer_is_that_layer():
    _, out, _ = ran("--json", "--diff", "refmta", "refmta-landlock")
    (decision, answers), *rest = json.loads(out).items()
    assert (decision, rest) == ("layer landlock", [])
    assert answers == {"refmta": LAYERS["landlock"], "refmta-landlock": "-"}


def test_what_rests_on_a_layer_goes_with_it():
    _, out, _ = ran("--json", "--diff", "refmta", "refmta-namespace")
    gone = json.loads(out)
    assert {f"layer {each}" for each in ("namespace", "network", "jail")} <= set(gone)
    assert "layer users" not in gone and gone["smtpd: root"]["refmta-namespace"] == "/"


def test_nothing_differs_from_itself_and_it_is_said():
    assert ran("--diff", "refmta", "refmta")[:2] == (0, "no decision differs\n")


@pytest.mark.parametrize(
    ("column", "value", "decision"),
    [
        ("jail", "none", "resolve: root"), ("network", True, "resolve: network"),
        ("user", "shared", "resolve: user"), ("lazy", False, "resolve: process"),
        ("reads", ("/",), "resolve: files"), ("ends_with", "qmgr", "resolve: ends with"),
        ("roles", ("bounce",), "resolve: roles"),
    ],
)  # fmt: skip
def test_each_column_of_a_row_is_a_decision(column: str, value: object, decision: str):
    """Control: what changes in the data changes what is shown."""
    rows = tuple(
        replace(row, **{column: value}) if row.name == "resolve" else row
        for row in REFMTA.compartments
    )
    other = replace(REFMTA, compartments=rows)
    assert decision in differing(decisions(REFMTA), decisions(other))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["monolith"], "no architecture 'monolith'; there are: refmta"),
        (["refmta-moat"], "no layer 'moat'; there are: users"),
        (["--diff", "refmta", "x"], "no architecture 'x'"),
        (["--diff", "refmta"], "requires 2 arguments"),
        (["refmta", "--diff", "refmta", "refmta"], "either names or --diff"),
    ],
)
def test_what_there_is_not_is_said(arguments: list[str], said: str):
    code, out, err = ran(*arguments)
    assert (code, out) == (2, "") and said in err


def test_the_table_names_its_columns():
    _, out, _ = ran("refmta", "refmta-landlock")
    head, *rows = out.splitlines()
    assert head.split() == ["decision", "refmta", "refmta-landlock"]
    assert len(rows) >= len(REFMTA.rows) * 4
