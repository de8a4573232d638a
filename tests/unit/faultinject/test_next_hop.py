"""The scripted next hop, spoken to by hand: its books are what the ledger relies on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from faultinject.network.behaviours import BEHAVIOURS, DELIVERED, FEATURES, STAGES
from faultinject.network.next_hop import NextHop

LETTER = b"X-Token: t1\r\nSubject: x\r\n\r\n.dot\r\nbody\r\n"
STUFFED = LETTER.replace(b"\r\n.", b"\r\n..")


@asynccontextmanager
async def connected(hop: NextHop) -> AsyncIterator[trio.SocketStream]:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(hop.serve)
        with trio.fail_after(30):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                yield stream
        nursery.cancel_scope.cancel()


async def code(stream: trio.SocketStream) -> str:
    """The code of one reply; "" if there is none before the end."""
    octets = b""
    while not re.search(rb"(?:\A|\n)[0-9]{3}(?: [^\n]*)?\r?\n\Z", octets):
        try:
            more = await stream.receive_some()
        except trio.BrokenResourceError:
            return ""
        if not more:
            return ""
        octets += more
    return octets.splitlines()[-1][:3].decode()


async def talk(stream: trio.SocketStream, *lines: bytes) -> list[str]:
    codes = []
    for line in lines:
        await stream.send_all(line + b"\r\n")
        codes.append(await code(stream))
    return codes


ENVELOPE = (b"EHLO me", b"MAIL FROM:<a@b.example>", b"RCPT TO:<x@y.example>", b"DATA")


async def test_an_honest_session_is_recorded(tmp_path: Path) -> None:
    hop = NextHop(record=tmp_path / "record", keep_content=True)
    async with connected(hop) as stream:
        assert await code(stream) == "220"
        assert await talk(stream, *ENVELOPE) == ["250", "250", "250", "354"]
        assert await talk(stream, STUFFED + b".", b"QUIT") == ["250", "221"]
    (taken,) = hop.accepted
    assert taken.content == LETTER
    (line,) = (tmp_path / "record").read_text().splitlines()
    assert json.loads(line) == {
        "token": "t1", "reverse_path": "a@b.example", "recipients": ["x@y.example"],
        "octets": len(LETTER), "sha256": hashlib.sha256(LETTER).hexdigest(),
        "body_sha256": hashlib.sha256(b".dot\r\nbody\r\n").hexdigest(), "replied": True,
        "behaviour": "honest", "connection": 1,
    }  # fmt: skip


@pytest.mark.parametrize("split", [1, 2, 3, 5, 1000])
async def test_content_may_come_in_any_pieces(split: int) -> None:
    hop = NextHop(keep_content=True)
    async with connected(hop) as stream:
        await code(stream)
        await talk(stream, *ENVELOPE)
        octets = STUFFED + b".\r\n"
        for at in range(0, len(octets), split):
            await stream.send_all(octets[at : at + split])
            await trio.sleep(0)
        assert await code(stream) == "250"
    assert [each.content for each in hop.accepted] == [LETTER]


async def test_an_empty_message_and_one_more_on_the_same_connection() -> None:
    hop = NextHop(keep_content=True)
    async with connected(hop) as stream:
        await code(stream)
        await talk(stream, *ENVELOPE)
        assert await talk(stream, b".") == ["250"]
        assert await talk(stream, *ENVELOPE[1:]) == ["250", "250", "354"]
        assert await talk(stream, STUFFED + b".") == ["250"]
    assert [each.content for each in hop.accepted] == [b"", LETTER]


async def test_what_is_cut_off_or_refused_is_not_recorded() -> None:
    hop = NextHop()
    async with connected(hop) as stream:
        await code(stream)
        refused = (*ENVELOPE[:2], b"RCPT TO:<refused@y>", b"RCPT TO:<busy@y>", b"DATA")
        assert await talk(stream, *refused) == ["250", "250", "550", "450", "554"]
        await talk(stream, *ENVELOPE[1:])
        await stream.send_all(STUFFED + b".\r")
        await stream.aclose()
        await hop.wait_for(lambda: hop.open == 0)
    assert hop.accepted == []


async def test_taken_and_close_is_recorded_as_unanswered() -> None:
    hop = NextHop(behaviour="taken-and-close")
    async with connected(hop) as stream:
        await code(stream)
        await talk(stream, *ENVELOPE)
        assert await talk(stream, STUFFED + b".") == [""]
    (taken,) = hop.accepted
    assert not taken.replied


#: A client that waits for each reply, and takes what it gets; what it may find at the end.
ENDS = {
    "honest": "250", "5yz-at-final": "554", "4yz-at-final": "451", "close-at-final": "",
    "reset-at-final": "", "half-a-reply-at-final": "", "code-259-at-final": "259",
    "taken-and-4yz": "451", "octet-by-octet": "250", "no-text-everywhere": "250",
    "slow-at-final": "250",
    "multi-line-everywhere": "250", "extra-250-at-final": "250",
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
async def test_the_end_of_a_session(name: str) -> None:
    hop = NextHop(behaviour=name)
    async with connected(hop) as stream:
        await code(stream)
        assert (await talk(stream, *ENVELOPE))[-1] == "354"
        assert await talk(stream, STUFFED + b".") == [ENDS[name]]
        said = ENDS[name].startswith("2")
        taken = said or "taken" in name
        await hop.wait_for(lambda: bool(hop.accepted) if taken else hop.commands[-1] == b".")
    assert [each.replied for each in hop.accepted] == ([said] if taken else [])


async def test_mixed_is_chosen_by_the_seed_and_half_honest() -> None:
    def drawn(seed: int) -> list[str]:
        hop = NextHop(behaviour="mixed", seed=seed)
        names = []
        for number in range(200):
            hop._connections = number
            names.append(hop._draw())
        return names

    assert drawn(1) == drawn(1) != drawn(2)
    assert 60 < drawn(1).count("honest") < 140
    assert len(set(drawn(1))) > 40


def test_the_table_is_whole() -> None:
    """Every stage has its refusals, silence and closes; only rows that answer allow a delivery."""
    for stage in STAGES[:7]:
        for kind in (
            "4yz", "5yz", "421", "silence", "close", "reset", "half-open", "slow", "half-a-reply",
        ):  # fmt: skip
            assert f"{kind}-at-{stage}" in BEHAVIOURS
    for name, row in BEHAVIOURS.items():
        assert row.allows <= {"delivered", "deferred", "failed"} and row.allows, name
        assert not (row.takes and row.allows & DELIVERED), name
        assert set(row.acts) <= set(STAGES), name
    assert BEHAVIOURS["honest"].features == FEATURES


def test_an_unknown_behaviour_is_refused() -> None:
    with pytest.raises(ValueError, match="no such behaviour"):
        NextHop(behaviour="nice")


def test_as_a_process(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "faultinject.network.next_hop", "--behaviour", "close-at-greeting",
        "--record", str(tmp_path / "record"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(re.search(r":([0-9]+),", line)[1])  # type: ignore[index]

        async def session() -> str:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                if await code(stream) != "220":
                    return ""
                await talk(stream, *ENVELOPE)
                return (await talk(stream, STUFFED + b"."))[0]

        async def until_honest() -> None:
            with trio.fail_after(30):
                while await session() != "250":
                    await trio.sleep(0.01)

        assert trio.run(session) == ""
        os.kill(process.pid, signal.SIGUSR1)
        trio.run(until_honest)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
    assert json.loads((tmp_path / "record").read_text())["token"] == "t1"
