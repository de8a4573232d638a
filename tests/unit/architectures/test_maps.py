"""[rewrite]: what is right reaches resolve, and nobody else; what is wrong is named by its row."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from refmta.architectures import catalogue
from refmta.architectures.assemble import assemble
from refmta.architectures.configuration import ConfigurationError, Settings, load
from refmta.roles import qmgr, resolve, smtpd

FEW = """\
hostname = "mx.example.org"
postmaster = "ada@example.org"
listen = ["127.0.0.1:2525"]
[domains."example.org"]
mailboxes = ["ada", "bob"]
aliases = { team = ["ada@example.org", "bob@example.org"] }
"""
FULL = """
[rewrite.canonical]
"@secret-old.example" = "@example.org"
[rewrite.virtual]
"secret-list" = ["ada@example.org", "eve@example.net"]
[rewrite.generic]
"@example.org" = "@secret-public.example"
"""


def loaded(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "refmta.toml"
    path.write_text(FEW + text)
    return load(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, text)
    return [each.partition(": ")[2] for each in caught.value.problems]


def slices(settings: Settings) -> dict[str, bytes]:
    plan = assemble(catalogue.find("refmta"), settings, root=False).plan
    return {role: octets for each in plan.compartments for role, octets in each.slices.items()}


def test_the_maps_reach_resolve_and_nobody_else(tmp_path: Path):
    parts = slices(loaded(tmp_path, FULL))
    table = resolve.table(msgspec.msgpack.decode(parts["resolve"], type=resolve.Slice))
    assert [len(table.rewriting.rows(kind)) for kind in ("canonical", "virtual", "generic")] == [
        1, 1, 1,
    ]  # fmt: skip
    assert [role for role, octets in parts.items() if b"secret" in octets] == ["resolve"]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("", (False, False)),
        ('[rewrite.virtual]\nlist = ["ada@example.org"]\n', (False, False)),
        ('[rewrite.canonical]\nold = "ada@example.org"\n', (True, False)),
        ('[rewrite.generic]\nada = "ada@example.net"\n', (False, True)),
        (FULL, (True, True)),
    ],
)
def test_who_has_to_ask_more_is_told_so(tmp_path: Path, text: str, asks: tuple[bool, bool]):
    """Without a map, not an octet more is said to resolve."""
    parts = slices(loaded(tmp_path, text))
    told = (
        msgspec.msgpack.decode(parts["smtpd"], type=smtpd.Slice).rewrites,
        msgspec.msgpack.decode(parts["qmgr"], type=qmgr.Slice).rewrites,
    )
    assert told == asks


#: lines of the file: the problems that are named
WRONG = [
    ('[rewrite.canonical]\n"a b" = "ada@example.org"\n',
     ['rewrite.canonical."a b": not an address of RFC 5321 4.1.2']),
    ('[rewrite.generic]\nada = "ada"\n',
     ["rewrite.generic.\"ada\": 'ada': not an address of RFC 5321 4.1.2"]),
    ('[rewrite.generic]\n"@example.org" = "@-"\n',
     ["rewrite.generic.\"@example.org\": '@-': bad domain"]),
    (f'[rewrite.generic]\n"@example.org" = "@{"x." * 95}org"\n',
     [f"rewrite.generic.\"@example.org\": '@{'x.' * 95}org': domain is longer than 189 octets"]),
    ('[rewrite.virtual]\nlist = []\n', ['rewrite.virtual."list": leads to nobody']),
    (f'[rewrite.virtual]\nlist = {["ada@example.org"] * 1001}\n',
     ['rewrite.virtual."list": leads to 1001 addresses; 1000 at the most']),
    ('[rewrite.canonical]\nAda = "bob@example.org"\nada = "bob@example.org"\n',
     ['rewrite.canonical."ada": the same as "Ada"; keys are compared in lower case']),
    ('[rewrite.canonical]\n"ada@localhost" = "bob@example.org"\n',
     ['rewrite.canonical."ada@localhost": never found: with us it is ada@mx.example.org']),
    ('[rewrite.canonical]\n"ada@[127.0.0.1]" = "bob@example.org"\n',
     ['rewrite.canonical."ada@[127.0.0.1]": never found: with us it is ada@mx.example.org']),
    ('[rewrite.canonical]\nada = "bob@example.org"\nbob = "ada@example.org"\n',
     ['rewrite.canonical."ada": is a loop: ada@example.org -> bob@example.org -> ada@example.org',
      'rewrite.canonical."bob": is a loop: bob@example.org -> ada@example.org -> bob@example.org']),
    ('[rewrite.virtual]\nteam = ["ada@example.org"]\n',
     ['domains."example.org".aliases."team": never reached: a row of rewrite.virtual comes first']),
    ('[rewrite.virtual]\nlist = ["nobody@example.org"]\n',
     ['rewrite.virtual."list": leads to an unknown user: rewritten list@example.org -> '
      'nobody@example.org']),
    ('[rewrite.virtual]\nlist = ["list@example.org", "ada@example.org"]\n',
     ['rewrite.virtual."list": is a loop: rewritten list@example.org -> '
      'rewritten list@example.org']),
    ('[rewrite]\nvirtuel = {}\n', ["rewrite.virtuel: unknown key; did you mean virtual?"]),
    ('[rewrite.virtual]\nlist = "ada@example.org"\n', ["rewrite.virtual"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, text: str, expected: list[str]):
    found = problems(tmp_path, text)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        FULL,
        '[rewrite.canonical]\nada = "ada@example.org"\n"@example.org" = "@x.example"\n',
        '[rewrite.virtual]\n"@far.example" = ["@example.org"]\n',  # whoever may be there
        '[rewrite.virtual]\n"@example.org" = ["ada@example.org"]\n"bob" = ["bob@example.org"]\n'
        '"ada" = ["ada@example.org"]\n"team" = ["team@example.org"]\n',
    ],
)
def test_what_is_right(tmp_path: Path, text: str):
    loaded(tmp_path, text)
