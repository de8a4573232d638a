"""Who may send to other hosts through us, over real sockets: 127.0.0.1 lies in the networks that
may, 127.0.0.2 does not.  The next hop is a port that nobody listens at, so that what was taken for
it stays in the queue, where it is looked at.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from system.observe import Client, content_of, copies, events, letter, queued, send, wait_delivered
from system.server import Server, server

INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"
EHLO = "EHLO client.example.net"
CONFIGURATION = """
[domains."alias.example"]
aliases = {{ away = ["eve@away.example"], both = ["ada@example.org", "eve@away.example"] }}
[relay]
networks = ["127.0.0.1", "::1"]
domains = ["backup.example"]
smarthost = "[127.0.0.1]:{port}"
next_hops = {{ "late.example" = "[127.0.0.1]:{other}" }}
"""


@contextlib.contextmanager
def nobody_listens() -> Iterator[int]:
    """A port that is taken, and refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        port, other = (stack.enter_context(nobody_listens()) for _ in range(2))
        extra = CONFIGURATION.format(port=port, other=other)
        directory = tmp_path_factory.mktemp("relaying") / "s"
        yield stack.enter_context(server(directory, extra=extra))


def verdict(running: Server, source: str, recipient: str, sender: str = "x@example.net"):
    """(code, enhanced code) of RCPT."""
    with Client(running, source) as client:
        assert client.code(EHLO) == 250
        assert client.code(f"MAIL FROM:<{sender}>") == 250
        code, text = client.say(f"RCPT TO:<{recipient}>")
        return code, text.split(" ")[0]


#: recipient: what a client inside gets, what one outside gets
TAKEN, RELAYING, UNKNOWN, NOWHERE = (250, "2.1.5"), (550, "5.7.1"), (550, "5.1.1"), (550, "5.1.2")
VERDICTS = {
    "ada@example.org": (TAKEN, TAKEN),
    "stranger@example.org": (UNKNOWN, UNKNOWN),
    "eve@away.example": (TAKEN, RELAYING),
    "EVE@Away.Example": (TAKEN, RELAYING),
    "postmaster@away.example": (TAKEN, RELAYING),
    "anyone@backup.example": (TAKEN, TAKEN),
    "anyone@sub.backup.example": (TAKEN, RELAYING),
    "anyone@notbackup.example": (TAKEN, RELAYING),
    "away@alias.example": (TAKEN, TAKEN),
    "both@alias.example": (TAKEN, TAKEN),
    "eve@sub.example.org": (TAKEN, RELAYING),
    "eve@[192.0.2.1]": (TAKEN, RELAYING),
    "eve@[IPv6:2001:db8::1]": (TAKEN, RELAYING),
    "eve@[x400:c=us]": (NOWHERE, RELAYING),
    "postmaster@[127.0.0.1]": (TAKEN, TAKEN),
    "eve@[127.0.0.1]": (UNKNOWN, UNKNOWN),
    "eve@[127.000.000.001]": (UNKNOWN, UNKNOWN),
    "eve@[IPv6:::ffff:127.0.0.1]": (UNKNOWN, UNKNOWN),
    "eve@localhost": (UNKNOWN, UNKNOWN),
    "postmaster": (TAKEN, TAKEN),
    # Ways around that once worked on other servers.
    "eve%away.example@example.org": (UNKNOWN, UNKNOWN),
    '"eve@away.example"@example.org': (UNKNOWN, UNKNOWN),
    "away.example!eve@example.org": (UNKNOWN, UNKNOWN),
    "@example.org:eve@away.example": (TAKEN, RELAYING),
    "@away.example:ada@example.org": (TAKEN, TAKEN),
}


@pytest.mark.parametrize("recipient", VERDICTS)
@pytest.mark.parametrize("source", [INSIDE, OUTSIDE])
def test_who_may_send_where(running, source, recipient):
    assert verdict(running, source, recipient) == VERDICTS[recipient][source == OUTSIDE]


@pytest.mark.parametrize(
    "sender", ["", "ada@example.org", "postmaster@example.org", "x@[127.0.0.1]"]
)
@pytest.mark.parametrize("helo", ["mx.example.org", "localhost", "[127.0.0.1]"])
def test_what_a_client_says_of_itself_counts_for_nothing(running, sender, helo):
    with Client(running, OUTSIDE) as client:
        assert client.code(f"EHLO {helo}") == 250
        assert client.code(f"MAIL FROM:<{sender}>") == 250
        assert client.say("RCPT TO:<eve@away.example>") == (550, "5.7.1 relaying denied")


def test_a_refused_recipient_does_not_spoil_the_others(running):
    """The transaction goes on, and the one who was refused is not in its envelope."""
    with Client(running, OUTSIDE) as client:
        assert client.code(EHLO) == 250
        assert client.code("MAIL FROM:<x@example.net>") == 250
        assert client.code("RCPT TO:<eve@away.example>") == 550
        assert client.code("RCPT TO:<ada@example.org>") == 250
        assert client.code("DATA") == 354
        client.send(letter("mixed") + b".\r\n")
        code, text = client.reply()
        assert code == 250
    queue_id = text.rpartition(" ")[2]
    wait_delivered(running, "mixed")
    running.wait_for(lambda: queue_id not in queued(running), "it is not kept for anybody else")


def kept(running: Server, token: str, recipient: str, source: str = INSIDE) -> str:
    """Hand in a message; the id under which it stays in the queue."""
    with Client(running, source) as client:
        assert client.code(EHLO) == 250
        code, text = client.deliver(token, recipient)
    assert code == 250
    return text.rpartition(" ")[2]


@pytest.mark.parametrize("source", [INSIDE, OUTSIDE])
def test_an_alias_takes_mail_from_everybody_to_another_host(running, source):
    """One copy is delivered here; the other waits for the next hop."""
    token = f"both-{source}"
    queue_id = kept(running, token, "both@alias.example", source)
    wait_delivered(running, token, "ada")
    assert len(copies(running, "ada", token)) == 1
    assert queue_id in queued(running)


def test_relayed_mail_is_kept_as_it_came_until_its_next_hop_is_there(running):
    queue_id = kept(running, "relayed", "Eve@late.example")
    chunk, content = content_of(running, queue_id)
    assert chunk.envelope.recipients == ("Eve@late.example",)
    assert content.endswith(letter("relayed"))
    running.wait_for(
        lambda: [each["state"] for each in running.queue() if each["queue_id"] == queue_id]
        == ["deferred"], "it is tried, in vain",
    )  # fmt: skip
    (tried,) = events(running, lambda each: each.get("recipient") == "Eve@late.example")
    assert (tried["event"], tried["queue_id"]) == ("deferred", queue_id)


def test_without_a_section_nobody_relays(tmp_path):
    with server(tmp_path / "s") as plain:
        for source in (INSIDE, OUTSIDE):
            assert verdict(plain, source, "eve@away.example") == RELAYING
            assert verdict(plain, source, "ada@example.org") == TAKEN
        assert send(plain, "plain")[0] == 250
        wait_delivered(plain, "plain")
