"""What the documents say of the tree and of the configuration is so."""

import json
import re
import tomllib
from pathlib import Path

import msgspec

from refmta.architectures.configuration import contradictions
from refmta.architectures.sections import (
    Configuration,
    Limits,
    Pool,
    Relay,
    Remote,
    Reports,
    Retry,
    Rewrite,
    Sendmail,
)

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
SETUP, TESTS = (
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/refmta demo",
    "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox",
)


def test_the_first_minute():
    first, second, empty = README.splitlines()[:3]
    assert (first, second, empty) == (f"    {SETUP}", f"    {TESTS}", "")
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == TESTS


def packages(place):
    return {each.name for each in place.iterdir() if each.is_dir() and any(each.glob("*.py"))}


def test_the_map_shows_the_house():
    drawn = re.findall(r"^(  )?([a-z_]+)/ ", README, re.MULTILINE)
    inner = {name for indent, name in drawn if indent}
    assert inner == set().union(
        *map(packages, [ROOT / n for n in ("refmta", "specs", "faultinject")])
    )
    outer = {name for indent, name in drawn if not indent}
    assert outer == {"refmta", "specs", "faultinject", "subjects", "tests", "bench", "docs"}


def test_each_configuration_shown_is_right():
    pages = [
        (ROOT / "docs" / name).read_text()
        for name in ("getting-started.md", "relaying.md", "rewriting.md")
    ]
    for document in (README, *pages):
        (text,) = re.findall(r"```toml\n(.*?)```", document, re.DOTALL)
        configuration = msgspec.convert(tomllib.loads(text), Configuration, strict=True)
        assert contradictions(configuration) == []


def shown(default):
    """A default as the tables of the manual write it."""
    if isinstance(default, bool):
        return f"`{json.dumps(default)}`"
    return f"{default:g}" if isinstance(default, int | float) else f"`{json.dumps(default)}`"


def test_every_key_and_default_is_told():
    for key in Configuration.__struct_fields__:
        assert f"`{key}`" in OPERATING or f"`[{key}" in OPERATING, key
    for key, default in msgspec.structs.asdict(Limits()).items():
        assert re.search(rf"`{key}`[^|]*\| {default:g}\b", OPERATING) or re.search(
            rf"`{key}`[^|]*\| {int(default)}\b", OPERATING
        ), (key, default)
    for section in (Pool(), Remote(), Retry()):
        for key, default in msgspec.structs.asdict(section).items():
            assert f"`{key}` ({default:g})" in OPERATING, (section, key, default)
    for section in (Relay(), Reports(), Rewrite(), Sendmail()):
        for key, default in msgspec.to_builtins(section).items():
            assert f"| `{key}` | {shown(default)} |" in OPERATING, (key, default)


def test_links_lead_somewhere():
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"(?<!\\)\]\(([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), (document.name, target)
