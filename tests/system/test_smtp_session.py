"""SMTP over a real socket: what a client may say, in which pieces, and what it gets for it."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from system.observe import (
    Client,
    copies,
    is_delivery_of,
    letter,
    only,
    queued,
    send,
    stopped,
    wait_delivered,
)
from system.server import Server, server

EHLO = "EHLO client.example.net"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with server(tmp_path_factory.mktemp("session") / "s") as running:
        yield running


@pytest.fixture
def client(running):
    with Client(running) as client:
        assert client.code(EHLO) == 250
        yield client


# -- the end of data ------------------------------------------------------------------------------

SMUGGLED = (
    b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<ada@example.org>\r\nDATA\r\n"
    + letter("smuggled")
    + b".\r\nQUIT\r\n"
)


@pytest.mark.parametrize("how", ["at once", "octet by octet"])
@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\n.\rX", b"\r\n.\n", b"\r\n.\rX", b"\r.\n", b"\r.\r\n", b"\r.\rX"],
)
def test_a_wrong_end_of_data_closes_and_nothing_behind_it_is_executed(client, end, how):
    client.begin()
    if how == "at once":
        client.send(letter("carrier", b"x") + end + SMUGGLED)
    else:
        for octet in letter("carrier", b"x") + end:
            client.send(bytes((octet,)))
    code, text = client.reply()
    assert (code, text[:5]) == (550, "5.5.2")
    assert client.at_end()


def test_no_carrier_and_no_smuggled_message_ever_arrived(running):
    """After the above: a later message is delivered, they are not, and nothing waits."""
    assert send(running, "sentinel")[0] == 250
    wait_delivered(running, "sentinel")
    assert not copies(running, "ada", "carrier")
    assert not copies(running, "ada", "smuggled")
    running.wait_for(lambda: not queued(running), "the queue is empty")


@pytest.mark.parametrize("bare", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"a\n\r\n", b"\n.b\r\n"])
def test_a_bare_line_end_in_the_content_is_refused_for_good_and_the_session_goes_on(client, bare):
    client.begin()
    client.send(letter("bare", bare) + b".\r\n")
    code, text = client.reply()
    assert (code, text[:5]) == (550, "5.6.0")
    assert client.code("NOOP") == 250


def test_a_bare_lf_ends_no_command(client):
    """One line, one reply; nothing in it is executed (RFC 5321 2.3.8)."""
    client.send(b"MAIL FROM:<x@example.net>\nRSET\nNOOP\r\n")
    assert client.reply()[0] == 501
    assert client.code("RCPT TO:<ada@example.org>") == 503


# -- how octets arrive ----------------------------------------------------------------------------


def envelope(recipient: str = "ada@example.org") -> bytes:
    return f"MAIL FROM:<x@example.net>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()


def test_a_group_of_pipelined_commands_in_one_write_gets_its_replies_in_order(running, client):
    group = b"RSET\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<ada@example.org>\r\n"
    client.send(group + b"RCPT TO:<stranger@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    assert [client.reply()[0] for _ in range(6)] == [250, 250, 250, 550, 250, 354]
    client.send(letter("group") + b".\r\nQUIT\r\n")
    assert [client.reply()[0] for _ in range(2)] == [250, 221]
    assert client.at_end()
    for user in ("ada", "bob"):
        assert is_delivery_of(wait_delivered(running, "group", user), letter("group"))


def test_the_same_octet_by_octet(running, client):
    for octet in envelope():
        client.send(bytes((octet,)))
    assert [client.reply()[0] for _ in range(3)] == [250, 250, 354]
    sent = letter("octets", b"..\r\n.x\r\n")
    for octet in sent.replace(b"\r\n.", b"\r\n..") + b".\r\nQUIT\r\n":
        client.send(bytes((octet,)))
    assert [client.reply()[0] for _ in range(2)] == [250, 221]
    assert is_delivery_of(wait_delivered(running, "octets"), sent)


def test_a_command_is_the_same_wherever_it_is_split(client):
    command = b"MAIL FROM:<x@example.net> SIZE=100 BODY=8BITMIME\r\n"
    for place in range(1, len(command)):
        client.send(command[:place])
        client.send(command[place:])
        assert client.reply()[0] == 250, place
        assert client.code("RSET") == 250, place


@pytest.mark.parametrize("first", [EHLO, "HELO client.example.net"])
def test_what_stands_behind_a_greeting_in_one_write_is_not_executed(running, first):
    with Client(running) as client:
        client.send(first.encode() + b"\r\n" + envelope())
        code, text = client.reply()
        assert (code, text[:5]) == (554, "5.5.0")
        assert client.at_end()


def test_what_stands_behind_data_in_one_write_is_not_executed(client):
    client.send(envelope() + letter("behind") + b".\r\n")
    assert [client.reply()[0] for _ in range(3)] == [250, 250, 554]
    assert client.at_end()


def test_pipelining_after_helo_is_refused(running):
    with Client(running) as client:
        assert client.code("HELO client.example.net") == 250
        client.send(b"NOOP\r\nNOOP\r\n")
        assert client.reply()[0] == 554
        assert client.at_end()


def test_who_talks_before_the_greeting_is_sent_away(running):
    parent = only(running, "smtpd")
    with stopped(running, parent):
        client = Client(running, greeted=False)
        client.send(EHLO.encode() + b"\r\n")
    with client:
        assert client.reply()[0] == 554
        assert client.at_end()


def test_a_half_closed_client_gets_its_250(running, client):
    client.begin()
    client.send(letter("half") + b".\r\n")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.reply()[0] == 250
    assert client.at_end()
    assert is_delivery_of(wait_delivered(running, "half"), letter("half"))


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away_in_the_content_leaves_nothing(running, reset):
    before = set(queued(running))
    with Client(running) as client:
        client.ready_for_data()
        client.send(letter("gone") + b"x" * 600_000 + b"\r\n")
        running.wait_for(lambda: set(queued(running)) - before, "the chunk is being written")
        if reset:
            linger = struct.pack("ii", 1, 0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    running.wait_for(lambda: not queued(running), "the unfinished chunk is gone")
    assert not copies(running, "ada", "gone")


# -- content --------------------------------------------------------------------------------------

CONTENTS = {
    "8 bit": "Grüße, ñ, 日本\r\n".encode(),
    "not UTF-8": bytes(range(128, 256)) + b"\r\n",
    "NUL": b"a\0b\0\0\r\n\0\r\n",
    "controls": bytes(set(range(1, 32)) - {10, 13}) + b"\x7f\r\n",
    "dots": b".\r\n..\r\n...\r\n.x\r\nx.\r\n.\r\n",
    "only a dot": b".\r\n",
    "From_ line": b"From x@y Mon\r\n>From x\r\n",
    "long line": b"x" * 70_000 + b"\r\n",
    "no header end": b"",
    "many lines": b"\r\n" * 5000,
    "large": b"0123456789abcdef" * 64 * 1024 + b"\r\n" + b".\r\n" * 1000,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_arrives_as_it_was_sent(running, client, name):
    token = name.replace(" ", "-")
    sent = letter(token, CONTENTS[name])
    client.begin()
    client.send((b"\r\n" + sent).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
    assert client.reply()[0] == 250
    assert is_delivery_of(wait_delivered(running, token), sent)


def test_an_empty_message_is_a_message(running, client):
    client.begin("bob@example.org")
    before = len(running.delivered("bob"))
    client.send(b".\r\n")
    assert client.reply()[0] == 250
    running.wait_for(lambda: len(running.delivered("bob")) > before, "delivery")


def test_the_received_line_names_the_client_and_the_queue_id(running, client):
    client.begin()
    client.send(letter("trace") + b".\r\n")
    code, text = client.reply()
    queue_id = text.rpartition(" ")[2]
    message = wait_delivered(running, "trace").decode()
    assert code == 250 and len(queue_id) == 16
    assert message.startswith("Return-Path: <x@example.net>\nDelivered-To: ada@example.org\n")
    assert (
        "Received: from client.example.net ([127.0.0.1])\n\tby mx.example.org with ESMTP" in message
    )
    assert f" id {queue_id}\n\tfor <ada@example.org>;" in message


def test_with_two_recipients_the_received_line_names_none(running, client):
    client.send(
        b"MAIL FROM:<>\r\nRCPT TO:<ada@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
    )
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 250, 354]
    client.send(letter("two") + b".\r\n")
    assert client.reply()[0] == 250
    message = wait_delivered(running, "two", "bob").decode()
    assert message.startswith("Return-Path: <>\nDelivered-To: bob@example.org\n")
    assert "ada" not in message and "\tfor <" not in message


# -- commands -------------------------------------------------------------------------------------


def test_ehlo_offers_what_is_implemented(running):
    with Client(running) as client:
        code, text = client.say(EHLO)
        assert code == 250
        assert text.splitlines()[0] == "mx.example.org"
        assert set(text.splitlines()[1:]) == {
            "PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "HELP",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code", "enhanced"),
    [
        ("VRFY ada", 252, "2.0.0"),
        ("EXPN list", 502, "5.5.1"),
        ("HELP", 214, "2.0.0"),
        ("HELP MAIL", 214, "2.0.0"),
        ("NOOP anything at all", 250, "2.0.0"),
        ("RSET", 250, "2.0.0"),
        ("BREW coffee", 500, "5.5.2"),
        ("", 500, "5.5.2"),
        ("DATA", 503, "5.5.1"),
        ("RCPT TO:<ada@example.org>", 503, "5.5.1"),
        ("MAIL FROM: <x@example.net>", 501, "5.1.7"),
        ("MAIL FROM:x@example.net", 501, "5.1.7"),
        ("MAIL FROM:<x@example.net> SIZE=52428801", 552, "5.3.4"),
        ("MAIL FROM:<x@example.net> SIZE=x", 501, "5.5.4"),
        ("MAIL FROM:<x@example.net> SIZE=1 SIZE=2", 501, "5.5.4"),
        ("MAIL FROM:<x@example.net> AUTH=<>", 555, "5.5.4"),
    ],
)
def test_a_command_gets_its_reply(client, line, code, enhanced):
    answer, text = client.say(line)
    assert (answer, text[: len(enhanced)]) == (code, enhanced)
    assert client.code("NOOP") == 250


@pytest.mark.parametrize(
    ("recipient", "code", "enhanced"),
    [
        ("ada@example.org", 250, "2.1.5"),
        ("ADA@EXAMPLE.ORG", 250, "2.1.5"),
        ("ada+list@example.org", 250, "2.1.5"),
        ("postmaster", 250, "2.1.5"),
        ("PostMaster@example.org", 250, "2.1.5"),
        ("postmaster@mx.example.org", 250, "2.1.5"),
        ("@relay.example:ada@example.org", 250, "2.1.5"),
        ("stranger@example.org", 550, "5.1.1"),
        ("root@example.org", 550, "5.1.1"),
        ("x@example.com", 550, "5.7.1"),
        ("postmaster@example.com", 550, "5.7.1"),
        ("ada%example.com@example.org", 550, "5.1.1"),
        ("ada@[127.0.0.1]", 550, "5.1.1"),
        ("ada@[192.0.2.1]", 550, "5.7.1"),
        ("ada", 501, "5.1.3"),
        ("", 501, "5.1.3"),
        ("ada@example.org\x00", 501, "5.5.2"),
        ("ad\x7fa@example.org", 501, "5.5.2"),
        ("adä@example.org", 501, "5.5.2"),
    ],
)
def test_a_recipient_is_ours_or_refused(client, recipient, code, enhanced):
    assert client.code("MAIL FROM:<x@example.net>") == 250
    answer, text = client.say(f"RCPT TO:<{recipient}>")
    assert (answer, text[: len(enhanced)]) == (code, enhanced)


def test_mail_to_postmaster_without_a_domain_arrives(running, client):
    assert client.deliver("postmaster", "postmaster")[0] == 250
    wait_delivered(running, "postmaster")


def test_many_clients_at_once_are_all_served(running):
    """Sixty at one time, each with two messages."""
    results: list[int] = []
    ready = threading.Barrier(60, timeout=300)

    def talk(place: int) -> None:
        with Client(running) as client:
            assert client.code(EHLO) == 250
            ready.wait()
            results.extend(client.deliver(f"many-{place}-{n}")[0] for n in range(2))

    threads = [threading.Thread(target=talk, args=(place,)) for place in range(60)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == [250] * 120
    running.wait_for(lambda: not queued(running), "the queue is empty")
    arrived = b"".join(running.delivered("ada"))
    for place in range(60):
        for n in range(2):
            assert arrived.count(f"<many-{place}-{n}@".encode()) == 1


def test_every_refusal_is_one_line_of_the_log_and_nothing_in_it_is_unescaped(running: Server):
    """After all of the above."""
    raw = running.log.read_bytes()
    assert raw.isascii()
    assert not set(raw) & (set(range(32)) - {10})
    assert b"\x7f" not in raw
    assert [event for event in running.events() if event["event"] == "refused"]
    assert not [event for event in running.events() if event.get("level") == "critical"]
