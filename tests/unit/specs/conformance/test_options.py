"""The command line: what is wrong is told by its option, and ends with 2; nothing is sent."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from specs.conformance.commands.main import main
from specs.conformance.options import given, parse_address


def run(*words: str):
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "HOST[:PORT] is missing"),
        (("localhost:0",), "'localhost:0'"),
        (("2525", "5321"), "'2525'"),
        (("localhost:smtp",), "'localhost:smtp'"),
        (("[::1", "5321"), "[::1"),
        (("localhost", "9999"), "no case matches 9999"),
        (("localhost", "--rcpt", "ada"), "'ada'"),
        (("localhost", "--rcpt", "a b@x"), "'a b@x'"),
        (("localhost", "--rcpt", "a@x>\r\nRSET"), "LOCAL-PART@DOMAIN"),
        (("localhost", "--hostname", "a b"), "'a b'"),
        (("localhost", "--timeout", "nan"), "timeout"),
        (("localhost", "--timeout", "0"), "timeout"),
        (("localhost", "--quiet", "-1"), "quiet"),
        (("localhost", "--submission", "x:y"), "submission"),
        (("localhost", "--user", "ada"), "a password"),
        (("localhost", "--maildir", "/nowhere/at/all"), "no directory"),
        (("localhost", "--names", "nowhere"), "--names"),
        (("localhost", "--hops", "127.0.0.1/99"), "--hops"),
        (("localhost", "--expect", "/nowhere/at/all"), "/nowhere/at/all"),
        (("localhost", "--json", "/nowhere/at/all"), "/nowhere/at"),
        (("localhost", "--json", "-", "--junit", "-"), "only one"),
        (("--list", "no-such-section"), "no-such-section"),
        (("--list", "localhost:2525", "no-such-section"), "no-such-section"),
        (("localhost", "--wait", "-1"), "wait"),
    ],
)
def test_wrong_usage_ends_with_2(words: tuple[str, ...], says: str) -> None:
    found = run(*words)
    assert found.exit_code == 2, found.output
    assert says in found.output and "Traceback" not in found.output


def test_a_maildir_of_nobody_is_wrong(tmp_path):
    found = run("localhost", "--maildir", str(tmp_path))
    assert found.exit_code == 2 and "more of them than --rcpt" in found.output


@pytest.mark.parametrize(
    ("text", "port", "address"),
    [
        ("mx.example", 25, ("mx.example", 25)), ("mx.example:26", 25, ("mx.example", 26)),
        ("[2001:db8::1]", 25, ("2001:db8::1", 25)), ("[::1]:26", 25, ("::1", 26)),
        ("::1", 25, ("::1", 25)), ("587", 0, ("", 587)),
        ("10.0.0.1:1", 0, ("10.0.0.1", 1)),
    ],
)  # fmt: skip
def test_addresses(text: str, port: int, address: tuple[str, int]) -> None:
    assert parse_address(text, port) == address


def test_a_door_without_a_host_is_the_servers():
    doors = dict.fromkeys(("submission", "tls", "lmtp", "user", "names", "seed"))
    options = {**doors, "submission": ("", 587), "lmtp": ("x", 24), "hops": "", "maildirs": ()}
    told = given(("mx.example", 25), {**options, "rcpts": ()})
    assert (told.submission, told.tls, told.lmtp) == (("mx.example", 587), None, ("x", 24))


@pytest.mark.parametrize("host", ["a..\xfc", "x" * 70 + ".example"])
def test_a_host_that_can_not_be_is_unreachable(host):
    found = run(host, "5321-4.1.1.10", "--timeout", "1")
    assert found.exit_code == 3 and "Traceback" not in found.output


def test_what_needs_no_server():
    assert "5321-4.1.1.10-quit-lower  MUST" in run("--list", "5321-4.1.1.10").output
    assert "5321-4.1.1.10-quit-lower  MUST" in run("localhost:25", "--list", "5321-4.1.1.10").output
    found = run("--coverage")
    assert found.exit_code == 0 and "not observable" in found.output
    assert "5321-4.1.1.10-quit" in found.output


def test_nobody_there_ends_with_3():
    found = run("127.0.0.1:1", "5321-4.1.1.10", "--timeout", "1")
    assert found.exit_code == 3
