"""The configuration: what is right is read as it stands, what is wrong is named with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.architectures import configuration
from refmta.architectures.configuration import (
    ConfigurationError,
    explain,
    load,
    pool_rules,
    reserved_ids,
    routing_slice,
)
from refmta.architectures.sections import (
    Configuration,
    Limits,
    Pool,
    Relay,
    Remote,
    Reports,
    Retry,
    parse_listen,
)
from refmta.patterns.secure_preforking import Rules
from refmta.protocol.schedule import Schedule
from refmta.roles import resolve

FEW = """\
hostname = "mx.example.org"
postmaster = "ada@example.org"
listen = ["127.0.0.1:2525", "[::1]:2525"]
[domains."example.org"]
mailboxes = ["ada"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "refmta.toml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert all(each.startswith(f"{path}: ") for each in caught.value.problems)
    return [each.removeprefix(f"{path}: ") for each in caught.value.problems]


# -- right ----------------------------------------------------------------------------------------


def test_a_few_lines_are_enough_and_everything_else_has_a_default(tmp_path):
    settings = load(written(tmp_path, FEW))
    assert settings.configuration.limits == Limits()
    assert settings.configuration.smtpd == Pool()
    assert settings.configuration.relay == Relay()
    assert settings.configuration.relay.networks == settings.configuration.relay.domains == ()
    assert settings.addresses() == [("127.0.0.1", 2525), ("::1", 2525)]
    assert settings.spool == Path("/var/spool/refmta")
    assert settings.control_socket == Path("/var/spool/refmta/control")


def test_a_relative_path_is_relative_to_the_file_not_to_where_one_stands(tmp_path, monkeypatch):
    written(tmp_path, 'spool = "spool"\nmail_root = "boxes"\n' + FEW)
    monkeypatch.chdir(tmp_path)
    settings = load(Path("refmta.toml"))
    monkeypatch.chdir("/")
    assert settings.spool == tmp_path / "spool"
    assert settings.mail_root == tmp_path / "boxes"


def test_virtual_mailboxes_lie_in_the_spool_unless_told_otherwise(tmp_path):
    settings = load(written(tmp_path, 'spool = "spool"\n' + FEW))
    assert settings.mail_root == tmp_path / "spool" / "mail"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:25", ("::1", 25)),
        ("0.0.0.0:0", ("0.0.0.0", 0)), ("[::]:65535", ("::", 65535)),
    ],
)  # fmt: skip
def test_an_address_to_listen_on(text, address):
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "25", ":25", "localhost:25", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "::1:25",
        "127.0.0.1:65536", "127.0.0.1:99999", "127.0.0.256:25", "[127.0.0.1]:25x", "[::g]:25",
        "127.0.0.1:25\n", "[::1%lo]:25", "127.1:25", "127.0.0.1:-1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_listen(text)


def test_the_pools_rules_are_the_tables_keys():
    """A key that the pool doesn't know, or the other way round, would be silently ignored."""
    assert Pool.__struct_fields__ == Rules.__struct_fields__
    assert Remote.__struct_fields__ == Rules.__struct_fields__[:-1]  # it knows no stress
    chosen = Pool(max_workers=7, max_uses=8, max_age_s=9.0, max_idle_s=10.0, spare=1)
    expected = Rules(
        max_workers=7, max_uses=8, max_age_s=9.0, max_idle_s=10.0, spare=1, stress_command_s=10.0
    )
    assert pool_rules(chosen) == expected
    assert pool_rules(Pool()) == Rules(stress_command_s=10.0)
    assert pool_rules(Remote()) == Rules(max_uses=1, spare=0)


def _few(text: str = FEW) -> Configuration:
    return msgspec.convert(tomllib.loads(text), Configuration)


def test_the_routing_slice_survives_its_way_and_knows_our_literals():
    sliced = routing_slice(_few())
    assert sliced.literals == ("[127.0.0.1]", "[IPv6:::1]")
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(sliced), type=resolve.Slice)
    assert again == sliced
    assert resolve.table(again).hostname == "mx.example.org"


def test_no_system_user_and_no_compartment_may_receive():
    ranges = reserved_ids(_few())
    for uid in (0, 1, 33, 999, 60_000, 65_534, 65_535, 1_900_000_000, 1_900_000_999):
        assert any(low <= uid < high for low, high in ranges), uid
    for uid in (1000, 59_999, 65_536, 1_899_999_999, 1_900_001_000):
        assert not any(low <= uid < high for low, high in ranges), uid


# -- wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "document", "expected"),
    [
        (
            "Object contains unknown field `hostnam`", {},
            "hostnam: unknown key; did you mean hostname?",
        ),
        (
            "Object contains unknown field `error` - at `$.limits`", {},
            "limits.error: unknown key; did you mean errors?",
        ),
        (
            "Object contains unknown field `x` - at `$.domains[...]`", {},
            "domains[...].x: unknown key; known here: aliases, catch_all, mailboxes, system_users",
        ),
        ("Object missing required field `hostname`", {}, "hostname: missing, and required"),
        (
            "Object missing required field `uid` - at `$.users[...]`", {},
            "users[...].uid: missing, and required",
        ),
        ("Expected `str`, got `int` - at `$.hostname`", {}, "hostname: expected `str`, got `int`"),
        (
            "Expected `bool`, got `int` - at `$.domains[...].system_users`",
            {"domains": {"example.org": {}}},
            'domains."example.org".system_users: expected `bool`, got `int`',
        ),
        (
            "Expected `bool`, got `int` - at `$.domains[...].system_users`",
            {"domains": {"a.example": {}, "b.example": {}}},
            "domains[...].system_users: expected `bool`, got `int`",
        ),
        ("Expected `object`, got `int`", {}, "top level: expected `object`, got `int`"),
        (
            "Invalid enum value 'x' - at `$.reports.postmaster[0]`", {},
            "reports.postmaster[0]: invalid enum value 'x'; known here: double, failed",
        ),
        (
            "Expected `str`, got `int` - at `$.relay.next_hops[...]`",
            {"relay": {"next_hops": {"a.example": 1}}},
            'relay.next_hops."a.example": expected `str`, got `int`',
        ),
    ],
)  # fmt: skip
def test_explain_puts_the_key_path_first_and_says_what_would_be_right(message, document, expected):
    assert explain(message, document) == expected


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "": Configuration, "limits": Limits, "smtpd": Pool, "remote": Remote, "relay": Relay,
    "reports": Reports, "retry": Retry,
}  # fmt: skip
KEYS = [(table, key) for table, form in SECTIONS.items() for key in form.__struct_fields__]


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_a_slip_of_the_pen_in_any_key_names_the_right_one(tmp_path, table, key):
    slip = key[:-1] + ("z" if key[-1] != "z" else "y")
    text = f"{FEW}\n[{table}]\n{slip} = 1\n" if table else f"{slip} = 1\n{FEW}"
    (problem,) = problems(tmp_path, text)
    place = f"{table}.{slip}" if table else slip
    assert problem == f"{place}: unknown key; did you mean {key}?"


def _is_number(table: str, key: str) -> bool:
    return get_type_hints(SECTIONS[table])[key] in (int, float)


@pytest.mark.parametrize(("table", "key"), [row for row in KEYS if row[0] and _is_number(*row)])
def test_every_number_has_bounds_and_its_path_is_named_beyond_them(tmp_path, table, key):
    hint = get_type_hints(SECTIONS[table], include_extras=True)[key]
    meta = hint.__metadata__[0]
    lowest = meta.ge if meta.ge is not None else meta.gt
    for wrong in (lowest - 1, meta.le + 1, "true", '"1"'):
        (problem,) = problems(tmp_path, f"{FEW}\n[{table}]\n{key} = {wrong}\n")
        assert problem.startswith(f"{table}.{key}: expected "), problem


def test_every_mistake_of_one_kind_is_named_at_once(tmp_path):
    text = FEW.replace("mx.example.org", "-").replace('"ada@example.org"', '"@"')
    text = 'trusted = ["10.0.0.0/8"]\n' + text.replace("127.0.0.1:2525", "x")
    found = problems(tmp_path, text)
    assert [each.partition(":")[0] for each in found] == [
        "hostname", "postmaster", "listen[0]", "trusted",
    ]  # fmt: skip


RELAY_PROBLEMS = [
    ('networks = ["0.0.0.0/0"]', "relay.networks[0]: '0.0.0.0/0': so much of the internet"),
    ('networks = ["10.0.0.0/8", "::/0"]', "relay.networks[1]: '::/0': so much of the internet"),
    ('networks = ["10.0.0.1/8"]', "relay.networks[0]: '10.0.0.1/8': bits are set"),
    ('networks = ["all"]', "relay.networks[0]: 'all': should look like"),
    ('nameservers = ["localhost"]', "relay.nameservers[0]: 'localhost': should look like"),
    ('nameservers = ["::1"]', "relay.nameservers[0]: '::1': should look like"),
    ('domains = ["a_b"]', "relay.domains[0]: not a domain name: 'a_b'"),
    ('domains = ["b.example", "Example.ORG"]', "relay.domains[1]: Example.ORG is ours"),
    ('domains = ["mx.example.org"]', "relay.domains[0]: mx.example.org is ours"),
    ('domains = ["localhost"]', "relay.domains[0]: localhost is ours"),
    ('next_hops = { "*" = "s.example" }', 'relay.next_hops."*": for everything else there is'),
    ('next_hops = { "example.org" = "s.example" }', 'relay.next_hops."example.org": exam'),
    ('next_hops = { "-" = "s.example" }', "relay.next_hops.\"-\": not a domain name: '-'"),
    ('next_hops = { "a.example" = "" }', 'relay.next_hops."a.example": \'\': should look like'),
    ('next_hops = { "a.example" = "b c" }', "relay.next_hops.\"a.example\": 'b c': not a host"),
    ('smarthost = "192.0.2.1"', "relay.smarthost: '192.0.2.1': an address stands in brackets"),
    *(
        (f'smarthost = "{hop}"\nport = {port}', f"relay.smarthost: '{hop}' is this server")
        for hop, port in [
            ("[127.0.0.1]:2525", 25), ("[127.0.0.1]", 2525), ("[::1]:2525", 25),
            ("[IPv6:0:0::1]:2525", 25), ("[::ffff:127.0.0.1]:2525", 25), ("[0.0.0.0]:2525", 25),
            ("[MX.example.org]:2525", 25), ("[localhost]", 2525), ("mx.example.org", 25),
            ("example.org:26", 25), ("localhost", 25),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), RELAY_PROBLEMS)
def test_a_contradiction_in_relaying_is_named_with_its_place(tmp_path, lines, expected):
    (problem,) = problems(tmp_path, f"{FEW}\n[relay]\n{lines}\n")
    assert problem.startswith(expected), problem


@pytest.mark.parametrize(
    "lines",
    [
        'networks = ["127.0.0.0/8", "::1", "10.0.0.0/255.0.0.0", "fc00::/7"]',
        'nameservers = ["127.0.0.1", "127.0.0.1:5353", "[::1]", "[::1]:53"]',
        'domains = ["b.example", "sub.example.org", "org"]',
        # Another server at our address or of our name, at another port.
        'next_hops = { "a.example" = "[127.0.0.1]:2526", "b.example" = "[mx.example.org]:2526" }',
        'smarthost = "[192.0.2.1]:2525"',
        'smarthost = "[0.0.0.0]:2526"',
    ],
)
def test_what_is_no_contradiction_in_relaying(tmp_path, lines):
    load(written(tmp_path, f"{FEW}\n[relay]\n{lines}\n"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("minimum_s = 4001", "retry.minimum_s: 4001 is more than retry.maximum_s"),
        ("maximum_s = 432000", "retry.maximum_s: 432000 is not less than limits.lifetime_s"),
        ("minimum_s = 1\nmaximum_s = 1", ""),
    ],
)
def test_the_retry_schedule_must_be_one(tmp_path, lines, expected):
    text = f"{FEW}\n[retry]\n{lines}\n"
    if expected:
        assert problems(tmp_path, text) == [expected]
    else:
        load(written(tmp_path, text))


def test_every_schedule_that_is_let_through_can_be_made(tmp_path):
    retry = load(written(tmp_path, f"{FEW}[limits]\nlifetime_s = 4001\n")).configuration.retry
    Schedule(minimum_s=retry.minimum_s, maximum_s=retry.maximum_s, lifetime_s=4001)


def test_a_wildcard_is_the_loopback_address_too():
    sliced = routing_slice(_few(FEW.replace("127.0.0.1:2525", "0.0.0.0:25")))
    assert sliced.literals == ("[0.0.0.0]", "[127.0.0.1]", "[IPv6:::1]")


def test_an_alias_may_lead_to_another_host_but_the_postmaster_may_not_be_there(tmp_path):
    load(written(tmp_path, FEW + 'aliases = { eve = ["eve@example.com"] }\n'))
    found = problems(tmp_path, FEW.replace('"ada@example.org"', '"ada@example.com"'))
    assert found == [
        "postmaster: ada@example.com: at another host; name a mailbox or an alias of ours"
    ]


def test_a_loop_of_aliases_is_named_with_its_way(tmp_path):
    text = FEW + 'aliases = { a = ["b@example.org"], b = ["a@example.org"] }\n'
    found = problems(tmp_path, text)
    assert found[0].startswith('domains."example.org".aliases."a": ')
    assert "a@example.org -> b@example.org -> a@example.org" in found[0]


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_is_a_configuration_or_a_named_problem(text):
    path = Path("/tmp/never-written.toml")
    octets = text.encode()

    class Fake(type(path)):  # type: ignore[misc]
        def read_bytes(self) -> bytes:
            return octets

    with pytest.raises(ConfigurationError) as caught:
        load(Fake(path))
    assert all("\n" not in each and each.startswith(str(path)) for each in caught.value.problems)


@given(
    st.dictionaries(
        st.sampled_from(Configuration.__struct_fields__),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.text(max_size=5), inner, max_size=2)
            ),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_any_document_is_a_configuration_or_explained_in_one_line(document: dict[str, Any]):
    try:
        converted = msgspec.convert(document, Configuration, strict=True)
    except msgspec.ValidationError as error:
        assert ": " in explain(str(error), document)
    else:
        assert isinstance(configuration.contradictions(converted), list)
