"""docs/architectures is what `refmta architectures --pages` makes of the data, and a change of the
data is a change of a page.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from refmta.architectures.architecture import Architecture
from refmta.architectures.catalogue import ARCHITECTURES, find
from refmta.architectures.departures import COMMON, DEPARTURES
from refmta.architectures.evolution import STEPS
from refmta.architectures.page import INDEX, index, page
from refmta.architectures.refmta import REFMTA
from refmta.cli.main import main

PAGES = Path(__file__).parents[3] / "docs" / "architectures"
AGAIN = "refmta architectures --pages docs/architectures"
every = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)


def test_the_pages_are_up_to_date():
    written = {each.name: each.read_text(encoding="utf-8") for each in PAGES.iterdir()}
    made = {f"{name}.md": page(each) for name, each in ARCHITECTURES.items()}
    made[f"{INDEX}.md"] = index(ARCHITECTURES.values())
    assert set(written) == set(made)
    for name, text in made.items():
        assert written[name] == text, f"{name} is not what the data say; {AGAIN}"


@every
def test_a_page_tells_every_row(architecture: Architecture):
    text = page(architecture)
    for row in architecture.compartments:
        assert f"| **{row.name}** | {', '.join(row.roles)} |" in text
        assert row.reason in text
    for talk in architecture.talks:
        client, server = f"{talk.client}.{talk.client_role}", f"{talk.server}.{talk.server_role}"
        assert f"| {client} | {server} |" in text
    for each in architecture.directories:
        assert f"| `{each.path}/` | {each.owner} | {each.group} | {each.mode:04o} |" in text
    assert f"`refmta/stores/{architecture.store}.py`" in text
    assert (PAGES.parents[1] / "refmta" / "stores" / f"{architecture.store}.py").is_file()


@every
def test_the_diagram_has_every_compartment_and_joins_what_talks(architecture: Architecture):
    (drawing,) = re.findall(r"```mermaid\n(.*?)```", page(architecture), re.DOTALL)
    nodes = set(re.findall(r"^ {4}(\w+)\(?\[", drawing, re.MULTILINE))
    assert nodes >= {row.name for row in architecture.compartments}
    lines = set(re.findall(r"^ {4}(\w+) (?:-->|-\.->) (\w+)$", drawing, re.MULTILINE))
    talks = {(each.client, each.server) for each in architecture.talks}
    assert lines == {(one, other) for one, other in talks if one != other}
    # A keyword of Mermaid's as a node would spoil the drawing.
    assert not nodes & {"end", "graph", "subgraph", "class", "click", "style"}


@every
def test_each_cell_of_a_table_is_one_cell(architecture: Architecture):
    for text in (page(architecture), index(ARCHITECTURES.values())):
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_each_original_is_told_apart_from_ours():
    assert set(DEPARTURES) == set(ARCHITECTURES)
    for name, rows in DEPARTURES.items():
        text = page(find(name))
        assert ("## Where it departs from its model" in text) == bool(rows) == (name != "refmta")
        assert all(f"| {row.there} | {row.here} |" in text for row in rows)
    assert all(f"| {row.there} | {row.here} |" in index(ARCHITECTURES.values()) for row in COMMON)


def test_the_index_leads_to_each_page_and_tells_each_step():
    text = index(ARCHITECTURES.values())
    for name in ARCHITECTURES:
        assert f"[{name}]({name}.md)" in text
    for number, step in enumerate(STEPS, 1):
        assert f"| {number} | {step.pattern} | {step.text} |" in text


def test_a_change_of_the_data_changes_the_page():
    """Control: a row, a channel, a directory, a layer."""
    row = replace(REFMTA.row("resolve"), network=True)
    changes = (
        {"compartments": (row, *REFMTA.compartments[1:])}, {"talks": REFMTA.talks[1:]},
        {"directories": REFMTA.directories[1:]}, {"layers": REFMTA.layers[1:]},
        {"store": "qmail_todo"}, {"scan_s": 7.0},
    )  # fmt: skip
    texts = {page(replace(REFMTA, **each)) for each in changes}
    assert len(texts | {page(REFMTA)}) == len(changes) + 1


@pytest.mark.parametrize("name", ["evolved-0", "evolved-3", "refmta-landlock", "postfix-users"])
def test_what_has_no_page_of_its_own_can_have_one(name: str, tmp_path: Path):
    done = CliRunner().invoke(main, ["architectures", name, "--pages", str(tmp_path)])
    assert done.exit_code == 0
    assert [each.name for each in tmp_path.iterdir()] == [f"{name}.md"]
    assert (tmp_path / f"{name}.md").read_text().splitlines()[2] == f"# {name}"


def test_all_pages_are_written_with_their_index(tmp_path: Path):
    done = CliRunner().invoke(main, ["architectures", "--pages", str(tmp_path / "new")])
    assert done.exit_code == 0
    made = {each.name: each.read_text() for each in (tmp_path / "new").iterdir()}
    assert made == {each.name: each.read_text() for each in PAGES.iterdir()}


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, ["architectures", "--pages", str(tmp_path / "file" / "x")])
    assert done.exit_code == 1 and "Not a directory" in done.stderr
