"""refmta as a target: what the adapter makes of processes and of a queue, without a server."""

from __future__ import annotations

import json
import os
import tomllib

import pytest

from faultinject import target
from faultinject.processes import Seen
from faultinject.target import Site
from refmta.architectures.catalogue import find
from refmta.architectures.configuration import load
from subjects.target import MARK, Refmta, _role, refmta

SITE = {
    "hostname": "mx.storm.example",
    "domain": "storm.example",
    "users": ("ada", "bob"),
    "next_hops": {"far.example": 2526},
}


def family(*rows):
    """(pid, parent, compartment or "")."""
    return {
        pid: Seen(pid, parent, 0, ("python", "-m", MARK, "refmta", name) if name else ("python",))
        for pid, parent, name in rows
    }


@pytest.mark.parametrize(
    ("pid", "role", "part"),
    [
        (1, "spawner", ""),
        (2, "qmgr", ""),
        (3, "smtpd", ""),
        (4, "smtpd", "template"),
        (5, "smtpd", "worker"),
    ],
)
def test_a_process_is_known_by_its_command_line_and_its_place(pid, role, part):
    seen = family((1, 0, ""), (2, 1, "qmgr"), (3, 1, "smtpd"), (4, 3, "smtpd"), (5, 4, "smtpd"))
    assert _role(seen[pid], seen) == (role, part)


def test_it_is_registered():
    assert "refmta" in target.names()
    assert isinstance(target.load("refmta"), Refmta)
    with pytest.raises(KeyError):
        target.load("nonesuch")


@pytest.mark.parametrize("relays", [True, False])
def test_its_configuration_is_right(tmp_path, relays):
    server = Refmta(relays=relays)
    (tmp_path / "s").mkdir()
    server.configure(Site(directory=tmp_path / "s", **SITE))
    settings = load(tmp_path / "s" / "refmta.toml")
    text = tomllib.loads((tmp_path / "s" / "refmta.toml").read_text())
    assert ("relay" in text) is relays
    assert settings.addresses() == [server.address]
    assert set(server.mailboxes()) == {"ada@storm.example", "bob@storm.example"}


ARCHITECTURES = ("refmta", "sendmail", "qmail", "postfix", "postfix-unjailed", "sendmailx")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_whichever_architecture_it_is_told(architecture, tmp_path):
    server = target.load(f"refmta:{architecture}")
    assert server.name == f"refmta:{architecture}"
    compartments = {row.name for row in find(architecture).compartments}
    seldom = {row.name for row in find(architecture).compartments if row.roles == ("accounts",)}
    assert set(server.roles) == compartments - seldom | {"spawner", "supervisor"}
    for place, window in server.windows.items():
        assert window.roles <= set(server.roles) and len(window.roles) > 2, place
    server.configure(Site(directory=tmp_path, **SITE))
    names = {path.name for path in server.mailboxes().values()}
    mbox = {"mbox"} if os.geteuid() == 0 else {*SITE["users"]}
    assert names == (mbox if architecture == "sendmail" else {"new"})


def test_there_are_no_other_architectures():
    with pytest.raises(KeyError, match="exim"):
        target.load("refmta:exim")


def test_what_it_is_depends_on_what_it_can():
    assert refmta().capabilities == {"remote", "reports", "trace", "wary"}
    assert {"remote", "bounce"} <= set(refmta().roles)
    assert Refmta(relays=False, traces=False).capabilities == frozenset()
    assert "remote" not in Refmta(relays=False).roles


def test_only_roles_that_it_has_open_windows():
    server = refmta()
    assert set(server.windows) == {"mailbox", "next hop", "report"}
    for window in server.windows.values():
        assert window.roles <= set(server.roles) | {"enqueue"}
        assert "smtpd" not in window.roles and "resolve" not in window.roles


def test_it_is_not_alive_before_it_was_started():
    server = refmta()
    assert not server.alive() and server.processes() == []
    server.dispose()


def test_the_log_tells_of_defects(tmp_path):
    server = Refmta()
    server.configure(Site(directory=tmp_path, **SITE))
    lines = [
        {"role": "pool", "event": "cannot work", "level": "critical", "reason": "killed"},
        {"role": "qmgr", "event": "defect", "level": "critical", "reason": "KeyError('x')"},
    ]
    text = "\n".join(map(json.dumps, lines))
    server.log.write_text(text + "\n\nTraceback (most recent call last):\n")
    assert server.defects() == ("qmgr: KeyError('x')", "Traceback (most recent call last):")


def test_the_queue_is_told_with_who_still_waits(tmp_path, monkeypatch):
    from refmta.wire.envelope import encode_chunk
    from subjects.tokens import envelope_of, queue_id_of

    server = Refmta()
    server.configure(Site(directory=tmp_path, **SITE))
    chunks = server.spool / "chunks"
    chunks.mkdir(parents=True)
    name = queue_id_of("one")
    (chunks / name).write_bytes(encode_chunk(envelope_of("one"), [b"Subject: x\r\n", b"\r\n"]))
    (chunks / "junk").write_bytes(b"")
    rows = [
        {"address": "a@x", "status": "delivered"},
        {"address": "b@x", "status": "deferred"},
        {"address": "c@x", "status": "failed"},
    ]
    listing = {"messages": [{"queue_id": name, "recipients": rows}]}
    monkeypatch.setattr(Refmta, "_operate", lambda *_: json.dumps(listing))
    assert server.waiting() == 1
    (waiting,) = server.queued()
    assert waiting.content == b"Subject: x\r\n\r\n" and waiting.recipients == ("b@x", "c@x")
