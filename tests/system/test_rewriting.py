"""Envelope addresses rewritten on real mail: as it comes in, is routed, leaves, and returns.

The letters below are followed from MAIL and RCPT to a mailbox or to a next hop that keeps books of
what it is told.  Nothing of a message itself is ever changed.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator

import pytest
from system.hops import NextHop, next_hop
from system.lines import whole_lines
from system.observe import (
    Client,
    copies,
    empty,
    events,
    is_delivery_of,
    letter,
    named,
    queued,
    send,
    wait_delivered,
)
from system.server import Server, server

MAPS = """
[domains."old.example"]
[domains."lan.example"]
[relay]
networks = ["127.0.0.1"]
next_hops = {{ "away.example" = "[127.0.0.1]:{port}" }}
[retry]
minimum_s = 1
maximum_s = 1
[rewrite.canonical]
"@old.example" = "@example.org"
"ada.l@example.org" = "ada@example.org"
"intern" = "ada@lan.example"
"private@away.example" = "bob@example.org"
[rewrite.virtual]
"ada@lan.example" = ["ada@example.org"]
"team@example.org" = ["ada@example.org", "bob@example.org", "eve@away.example"]
"gone@example.org" = ["gone@away.example"]
"@sales.example" = ["bob@example.org"]
[rewrite.generic]
"ada@lan.example" = "ada@isp.example"
"@example.org" = "@public.example"
"eve@away.example" = "Eve.X@away.example"
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Server, NextHop]]:
    directory = tmp_path_factory.mktemp("rewriting")
    with (
        next_hop(directory) as hop,
        server(directory / "s", extra=MAPS.format(port=hop.port)) as running,
    ):
        yield running, hop


def mail(running: Server, token: str, sender: str, *recipients: str) -> bytes:
    """One message, accepted; its content."""
    sent = f"X-Token: {token}\r\nFrom: {sender}\r\nTo: {', '.join(recipients)}\r\n".encode()
    sent += letter(token)
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        assert client.code(f"MAIL FROM:<{sender}>") == 250
        for each in recipients:
            assert client.code(f"RCPT TO:<{each}>") == 250
        assert client.code("DATA") == 354
        client.send(sent + b".\r\n")
        assert client.reply()[0] == 250
    return sent


def relayed(running: Server, hop: NextHop, token: str) -> tuple[str, list[str]]:
    """The envelope that the next hop took."""

    def lines():
        with contextlib.suppress(FileNotFoundError):
            every = map(json.loads, whole_lines(hop.record))
            return [each for each in every if each["token"] == token]
        return []

    running.wait_for(lines, f"{token} is relayed")
    (line,) = lines()
    return line["reverse_path"].strip("<>"), [each.strip("<>") for each in line["recipients"]]


def head(message: bytes, name: str) -> str:
    """A line that local delivery has put on top."""
    return re.search(rf"^{name}: <?(.*?)>?$".encode(), message, re.MULTILINE)[1].decode()


# -- what comes in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("ada@old.example", "ada@example.org"),
        ("Ada@OLD.example", "Ada@example.org"),
        ("ada.l@example.org", "ada@example.org"),
        ("ada.l+lists@example.org", "ada+lists@example.org"),
        ("ada.l@old.example", "ada@example.org"),
        ("intern@mx.example.org", "ada@lan.example"),
        ("intern@[127.0.0.1]", "ada@lan.example"),
    ],
)
def test_a_recipient_is_rewritten_before_it_is_looked_for(world, said, means):
    running, _ = world
    token = re.sub(r"\W", "-", f"in-{said}")
    sent = mail(running, token, "x@example.net", said)
    message = wait_delivered(running, token)
    assert head(message, "Delivered-To") == means
    assert is_delivery_of(message, sent)  # its To is what it was


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("ada.l@example.org", "ada@example.org"),
        ("ADA.L+Lists@example.org", "ada+Lists@example.org"),
        ("x@old.example", "x@example.org"),
        ("x@example.net", "x@example.net"),
        ("private@away.example", "bob@example.org"),
    ],
)
def test_a_reverse_path_is_rewritten_and_the_header_is_not(world, said, kept):
    running, _ = world
    token = re.sub(r"\W", "-", f"from-{said}")
    sent = mail(running, token, said, "bob@example.org")
    message = wait_delivered(running, token, "bob")
    assert head(message, "Return-Path") == kept
    assert f"\nFrom: {said}\n".encode() in message and is_delivery_of(message, sent)


def test_the_null_reverse_path_stays_null(world):
    running, hop = world
    mail(running, "null-1", "", "intern@example.org", "eve@away.example")
    assert head(wait_delivered(running, "null-1"), "Return-Path") == ""
    assert relayed(running, hop, "null-1") == ("", ["Eve.X@away.example"])


def test_each_transaction_of_a_session_is_rewritten_by_itself(world):
    running, _ = world
    with Client(running) as client:
        client.code("EHLO client.example.net")
        for number, sender in enumerate(("ada.l@example.org", "x@example.net", "x@old.example")):
            client.code(f"MAIL FROM:<{sender}>")
            client.code("RCPT TO:<stranger@old.example>")  # refused: it tells nothing
            client.code("RCPT TO:<ada.l@old.example>")
            client.code("RSET")
            client.code(f"MAIL FROM:<{sender}>")
            client.code("RCPT TO:<intern@example.org>")
            assert client.code("DATA") == 354
            client.send(letter(f"each-{number}") + b".\r\n")
            assert client.reply()[0] == 250
    paths = [head(wait_delivered(running, f"each-{number}"), "Return-Path") for number in range(3)]
    assert paths == ["ada@example.org", "x@example.net", "x@example.org"]


@pytest.mark.parametrize(
    ("recipient", "answer"),
    [
        ("stranger@old.example", (550, "5.1.1")),
        ("ada@old.example", (250, "2.1.5")),
        ("gone@example.org", (250, "2.1.5")),  # an operator's row leads away, whoever sends
        ("private@away.example", (550, "5.7.1")),  # a row is no permission to relay
        ("bob@sales.example", (550, "5.7.1")),
    ],
)
def test_permission_is_a_matter_of_the_address_that_was_said(world, recipient, answer):
    running, _ = world
    with Client(running, "127.0.0.2") as client:  # no network of ours
        client.code("EHLO client.example.net")
        client.code("MAIL FROM:<x@example.net>")
        code, text = client.say(f"RCPT TO:<{recipient}>")
        assert (code, text.split(" ")[0]) == answer


# -- what is routed -------------------------------------------------------------------------------


def test_a_virtual_row_is_expanded_each_once(world):
    running, hop = world
    mail(running, "team-1", "x@example.net", "team@example.org", "ada@example.org")
    assert head(wait_delivered(running, "team-1"), "Delivered-To") == "ada@example.org"
    wait_delivered(running, "team-1", "bob")
    assert relayed(running, hop, "team-1") == ("x@example.net", ["Eve.X@away.example"])
    running.wait_for(lambda: empty(running), "all is delivered")
    assert [len(copies(running, who, "team-1")) for who in ("ada", "bob")] == [1, 1]


def test_a_domain_that_is_not_ours_is_routed_by_its_row(world):
    running, _ = world
    mail(running, "sales-1", "x@example.net", "anyone@sales.example")
    assert head(wait_delivered(running, "sales-1", "bob"), "Delivered-To") == "anyone@sales.example"


# -- what leaves ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "said"),
    [
        ("intern@example.org", "ada@isp.example"),  # canonical, and then generic
        ("ada@lan.example", "ada@isp.example"),
        ("bob@example.org", "bob@public.example"),
        ("Bob+x@old.example", "Bob+x@public.example"),
        ("x@example.net", "x@example.net"),
    ],
)
def test_a_reverse_path_is_called_otherwise_elsewhere(world, sender, said):
    running, hop = world
    token = re.sub(r"\W", "-", f"out-{sender}")
    mail(running, token, sender, "bob@example.org", "zoe@away.example", "eve@away.example")
    path, recipients = relayed(running, hop, token)
    assert (path, sorted(recipients)) == (said, ["Eve.X@away.example", "zoe@away.example"])
    local = head(wait_delivered(running, token, "bob"), "Return-Path")
    assert local != said or sender == "x@example.net"  # at home it keeps its name


# -- after a restart, and in a report -------------------------------------------------------------


def test_what_waits_is_rewritten_the_same_way_after_a_restart(tmp_path):
    """The next hop is away when the mail comes in, the server is killed, and then it is there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with server(tmp_path / "s", extra=MAPS.format(port=port)) as running:
            mail(running, "wait-1", "intern@example.org", "team@example.org", "zoe@away.example")
            wait_delivered(running, "wait-1")
            wait_delivered(running, "wait-1", "bob")
            running.wait_for(
                lambda: len(events(running, lambda e: e["event"] == "deferred")) >= 2, "deferred"
            )
            # The mailbox has it before the queue says so: killed in between, it is written twice.
            running.wait_for(lambda: statuses(running).count("delivered") == 2, "both are marked")
            running.kill()
            bound.listen()
            taken: list[bytes] = []
            hop = threading.Thread(target=take_all, args=(bound, taken), daemon=True)
            hop.start()
            running.start()
            running.wait_for(lambda: empty(running), "all is delivered")
            counts = [len(copies(running, who, "wait-1")) for who in ("ada", "bob")]
    said = [each for each in taken if each.startswith((b"MAIL", b"RCPT"))]
    assert {each.split(b" SIZE")[0].split(b" BODY")[0].strip() for each in said} == {
        b"MAIL FROM:<ada@isp.example>",
        b"RCPT TO:<Eve.X@away.example>",
        b"RCPT TO:<zoe@away.example>",
    }
    assert counts == [1, 1]


def statuses(running: Server) -> list[str]:
    """Of the recipients of the only message, as it lies on the disk."""
    (queue_id,) = queued(running)
    shown = running.run("queue", "show", "--json", queue_id)
    return [each["status"] for each in json.loads(shown.stdout)["recipients"]]


def take_all(listening: socket.socket, heard: list[bytes]) -> None:
    """A next hop that takes everything, until its listening socket is closed."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with connection, connection.makefile("rwb", buffering=0) as stream:
                stream.write(b"220 hop\r\n")
                content = False
                for line in stream:
                    heard.append(line)
                    if content:
                        content = line != b".\r\n"
                        if content:
                            continue
                        stream.write(b"250 2.0.0 taken\r\n")
                    elif line.startswith(b"DATA"):
                        content = True
                        stream.write(b"354 go\r\n")
                    else:
                        stream.write(b"250 2.0.0 fine\r\n")


def test_a_report_comes_back_to_the_name_that_it_has_here(tmp_path):
    """What could not be delivered elsewhere returns to the local name, not the one said there."""
    with (
        next_hop(tmp_path, "5yz-at-rcpt") as hop,
        server(tmp_path / "s", extra=MAPS.format(port=hop.port)) as running,
    ):
        mail(running, "bad-1", "intern@example.org", "eve@away.example")
        running.wait_for(lambda: running.delivered("ada"), "the report is delivered")
        (report,) = running.delivered("ada")
        assert head(report, "Return-Path") == ""
        assert head(report, "Delivered-To") == "ada@lan.example"
        assert b"eve@away.example" in report


# -- a resident service ---------------------------------------------------------------------------


def test_no_process_is_made_for_an_address(world):
    """A thousand addresses are rewritten, and the one that does it is the one that did before."""
    running, _ = world
    send(running, "resident-0")
    (before,) = named(running, "resolve")
    with Client(running) as client:
        client.code("EHLO client.example.net")
        client.code("MAIL FROM:<ada.l@example.org>")
        lines = [f"RCPT TO:<ada+{number}@old.example>\r\n".encode() for number in range(1000)]
        client.send(b"".join(lines))
        assert {client.reply()[0] for _ in lines} == {250}
    (after,) = named(running, "resolve")
    assert after == before


def test_at_its_end_the_service_says_what_it_did(tmp_path):
    with server(tmp_path / "s", extra=MAPS.format(port=1)) as running:
        mail(running, "books-1", "intern@example.org", "ada@old.example", "intern@example.org")
        wait_delivered(running, "books-1")
        running.wait_for(lambda: empty(running), "all is delivered")
        assert running.stop() == 0
        (line,) = events(running, lambda e: e["event"] == "answered")
    assert line["role"] == "resolve" and line["answers"] >= 4 and line["rewritten"] == 6
    assert line["per_answer_us"] > 0
    print(f"resolve: {line['answers']} answers, {line['per_answer_us']} us each")
