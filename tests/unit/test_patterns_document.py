"""docs/patterns.md says of patterns, claims and controls what is in the tree."""

import ast
import re
from pathlib import Path

import pytest

from specs.claims.ledger import IDS, load
from specs.patterns.claims import claims, patterns
from subjects import confinement_controls, controls

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "patterns.md").read_text()
PARTS = ("Mechanism", "Claims", "Observed", "Controls", "Price")
#: What stands in refmta/patterns and is part of another one's mechanism.
PART_OF = {"system_calls": "least_privilege"}
#: Specs of refmta's own whose controls are a pattern's, too.
ALSO = {
    "unique_atomic_chunks": ("persistence/chunks", "persistence/maildir", "queue"),
}
CONTROLS = [*confinement_controls.controls(), *controls.controls()]
MECHANISMS = {
    path.stem for path in (ROOT / "refmta" / "patterns").glob("*.py") if path.stem != "__init__"
}


TEST_FILES = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
FUNCTIONS = {
    node.name
    for path in TEST_FILES.values()
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
}
TEXTS = {
    node.value
    for path in (ROOT / "subjects").glob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


def sections():
    """Pattern -> its text: of each section whose mechanism is a file of refmta/patterns."""
    found = {}
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        mechanism = re.search(r"\*\*Mechanism\*\*: \[([a-z_]+)\.py\]", text)
        if mechanism:
            found[mechanism[1]] = text
    return found


SECTIONS = sections()


def paragraph(pattern, part):
    """What stands behind **Part**, up to the next one; on one line."""
    text = SECTIONS[pattern].partition(f"**{part}**:")[2]
    return " ".join(re.split(r"\n\n\*\*|\n## ", text)[0].split())


def test_each_pattern_has_its_section_and_each_section_its_pattern():
    assert set(SECTIONS) == MECHANISMS - set(PART_OF)
    assert set(patterns()) <= set(SECTIONS)
    for file, pattern in PART_OF.items():
        assert f"(../refmta/patterns/{file}.py)" in SECTIONS[pattern]


@pytest.mark.parametrize("pattern", SECTIONS)
def test_a_section_has_all_its_parts_in_order(pattern):
    assert tuple(re.findall(r"^\*\*(\w+)\*\*:", SECTIONS[pattern], re.MULTILINE)) == PARTS
    assert all(paragraph(pattern, part) for part in PARTS)


@pytest.mark.parametrize("pattern", SECTIONS)
def test_the_claims_are_quoted_as_they_are(pattern):
    there = [f"- `{each.name}`: {each.text}" for each in claims((pattern,))]
    said = [" ".join(row.split()) for row in _rows(SECTIONS[pattern])]
    assert there, f"specs/patterns has no claim of {pattern}"
    assert said == there


def _rows(section):
    text = section.partition("**Claims**:")[2].partition("\n\n")[0]
    return re.split(r"\n(?=- )", text.strip())


@pytest.mark.parametrize("pattern", SECTIONS)
def test_the_controls_that_are_named_are_there(pattern):
    """A name in quotes is a control's of that pattern, a text of subjects/, or a test's."""
    own = {
        each.name.removeprefix(f"{pattern}: ")
        for each in CONTROLS
        if each.spec in (f"patterns/{pattern}", *ALSO.get(pattern, ()))
    }
    named = re.findall(r"`([^`]+)`", paragraph(pattern, "Controls"))
    assert named, f"{pattern}: no control is named"
    for each in named:
        assert each in own | TEXTS | FUNCTIONS | set(TEST_FILES), each


def test_each_file_that_is_named_is_there():
    named = re.findall(r"`((?:refmta|specs|subjects|tests)/[a-z_/.]+)`", PAGE)
    assert len(named) > 10
    for each in named:
        assert (ROOT / each).exists(), each


def test_the_ledger_is_told_as_it_is():
    (count,) = re.findall(r"`specs/claims.toml` is the ledger: (\d+) claims", PAGE)
    assert int(count) == len(IDS) == len(load().claims)
