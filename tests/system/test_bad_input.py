"""What is wrong is said in one clear line that names the place; mail waits, and is never lost.

Configuration mistakes, mailboxes that can't be written, and a spool with damaged chunks in it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from system.observe import (
    copies,
    events,
    is_delivery_of,
    letter,
    named,
    only,
    queued,
    send,
    set_aside,
    stopped,
    wait_delivered,
)
from system.server import Server, server

from refmta.architectures.catalogue import ARCHITECTURES
from refmta.cli.main import main
from refmta.wire.envelope import Envelope, encode_chunk, mark_record

# -- the configuration ----------------------------------------------------------------------------

RIGHT = """\
hostname = "mx.example.org"
postmaster = "ada@example.org"
listen = ["127.0.0.1:0"]
[domains."example.org"]
mailboxes = ["ada"]
"""

#: What is written in place of, or below, the right lines; what the answer must name.
MISTAKES = {
    "unknown key": (RIGHT.replace("listen", "lisen"), ["lisen: unknown key; did you mean listen?"]),
    "unknown key in a table": (
        RIGHT + "[limits]\nrecipient = 100\n",
        ["limits.recipient: unknown key; did you mean recipients?"],
    ),
    "unknown key, nothing like it": (
        RIGHT + "[smtpd]\ntls = true\n",
        ["smtpd.tls: unknown key; known here: max_age_s, max_idle_s, max_session_s, max_uses,",
         " max_workers, spare, stress_command_s"],
    ),
    "unknown key in a domain": (
        RIGHT + "system_user = true\n",
        ["system_user: unknown key; did you mean system_users?", "domains"],
    ),
    "missing key": (RIGHT.replace('hostname = "mx.example.org"\n', ""), ["hostname: missing"]),
    "missing key in a user": (
        RIGHT + '[users.ada]\nuid = 5000\ngid = 5000\n',
        ["users", "home: missing, and required"],
    ),
    "wrong type": (
        RIGHT.replace('["127.0.0.1:0"]', "25"), ["listen: ", "`array`", "`int`"],
    ),
    "wrong type in a table": (
        RIGHT + '[limits]\nerrors = "10"\n', ["limits.errors: ", "`int`", "`str`"],
    ),
    "below the bounds": (RIGHT + "[limits]\nrecipients = 5\n", ["limits.recipients: ", ">= 100"]),
    "above the bounds": (
        RIGHT + "[smtpd]\nmax_workers = 9999\n", ["smtpd.max_workers: ", "<= 2000"],
    ),
    "no domains": (RIGHT.partition("[")[0].replace("listen = ", "") + "domains = {}\n",
                   ["domains: at least one is needed"]),
    "no host name": (RIGHT.replace("mx.example.org", "mx ex"), ["hostname: not a domain name"]),
    "no domain name": (
        RIGHT.replace('"example.org"]', '"exa mple"]'), ["domains: not a domain name"],
    ),
    "bad address": (RIGHT.replace('"ada@example.org"', '"ada"'), ["postmaster: 'ada'"]),
    "bad listen": (RIGHT.replace("127.0.0.1:0", "localhost:25"), ["listen[0]: ", "127.0.0.1:25"]),
    "bad listen port": (RIGHT.replace("127.0.0.1:0", "127.0.0.1:99999"), ["listen[0]: "]),
    "bad listen address": (RIGHT.replace("127.0.0.1:0", "127.0.0.999:25"), ["listen[0]: "]),
    "bad trusted": ('trusted = ["10.0.0.0/8"]\n' + RIGHT, ["trusted: not an IP address"]),
    "alias loop": (
        RIGHT + 'aliases = { a = ["ada@example.org", "A@example.org"] }\n',
        ['domains."example.org".aliases."a": ', "loop", "a@example.org -> a@example.org"],
    ),
    "alias to nobody": (RIGHT + "aliases = { a = [] }\n", ["aliases.\"a\": leads to nobody"]),
    "alias to an unknown user": (
        RIGHT + 'aliases = { a = ["x@example.org"] }\n', ['aliases."a": ', "x@example.org"],
    ),
    "postmaster at another host": (
        RIGHT.replace("ada@example.org", "ada@example.com"), ["postmaster: ", "an alias of ours"],
    ),
    "alias to no host": (
        RIGHT + 'aliases = { a = ["x@[x400:c=us]"] }\n', ['aliases."a": ', "leads to no host"],
    ),
    "open relay": (
        RIGHT + '[relay]\nnetworks = ["0.0.0.0/0"]\n', ["relay.networks[0]: ", "an open relay"],
    ),
    "host bits in a network": (
        RIGHT + '[relay]\nnetworks = ["10.1.2.3/24"]\n', ["did you mean 10.1.2.0/24?"],
    ),
    "relaying for a domain of ours": (
        RIGHT + '[relay]\ndomains = ["example.org"]\n', ["relay.domains[0]: ", "is ours"],
    ),
    "next hop without brackets": (
        RIGHT + '[relay]\nsmarthost = "192.0.2.1"\n', ["relay.smarthost: ", "[192.0.2.1]"],
    ),
    "next hop is ourselves": (
        RIGHT.replace(":0", ":26") + '[relay]\nsmarthost = "[localhost]:26"\n',
        ["relay.smarthost: ", "in a circle"],
    ),
    "no such copy": (
        RIGHT + '[reports]\npostmaster = ["all"]\n', ["reports.postmaster", "double, failed"],
    ),
    "retries that never come": (
        RIGHT + "[retry]\nmaximum_s = 500000\n", ["retry.maximum_s: ", "limits.lifetime_s"],
    ),
    "postmaster is nobody": (RIGHT.replace("ada@example.org", "eve@example.org"), ["postmaster: "]),
    "catch-all loop": (RIGHT + 'catch_all = "eve@example.org"\n', ["catch_all: "]),
    "a compartment's user": (
        RIGHT + '[users.ada]\nuid = 1900000003\ngid = 5000\nhome = "/home/ada"\n',
        ["users.ada.uid: belongs to a compartment"],
    ),
    "relative home": (
        RIGHT + '[users.ada]\nuid = 5000\ngid = 5000\nhome = "ada"\n',
        ["users.ada.home: must be an absolute path"],
    ),
    "user 0": (
        RIGHT + '[users.ada]\nuid = 0\ngid = 0\nhome = "/root"\n', ["users", "uid: ", ">= 1"],
    ),
    "bad user name": (
        RIGHT + '[users."../x"]\nuid = 5000\ngid = 5000\nhome = "/x"\n', ["users: not a user name"],
    ),
    "the owner of virtual mailboxes": (
        RIGHT + '[users.virtual]\nuid = 5000\ngid = 5000\nhome = "/x"\n',
        ["users.virtual: ", "take another"],
    ),
    "not TOML": (RIGHT + "=\n", ["not TOML: ", "line 6"]),
    "not UTF-8": (RIGHT + "# \udcff\n", ["not TOML: "]),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["check", "serve", "queue list"])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_file_is_one_line_with_file_key_path_and_what_is_right(
    tmp_path, name, verb
):
    text, wanted = MISTAKES[name]
    path = tmp_path / "refmta.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = CliRunner().invoke(main, [*verb.split(), "-c", str(path)])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{path}: ")
    assert all(each in line for each in wanted), line
    assert not (tmp_path / "spool").exists()


def test_a_missing_file_is_named(tmp_path):
    done = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "none.toml")])
    assert done.exit_code == 2
    assert done.stderr == f"{tmp_path}/none.toml: No such file or directory\n"


def test_several_contradictions_are_all_named_a_line_each(tmp_path):
    path = tmp_path / "refmta.toml"
    path.write_text('trusted = ["x", "y"]\n' + RIGHT.replace("mx.example.org", "-"))
    done = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert done.exit_code == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "hostname", "trusted", "trusted",
    ]  # fmt: skip


def test_five_lines_are_enough(tmp_path):
    with server(tmp_path / "s", start=False) as prepared:  # its directories are open
        path = prepared.config
        path.write_text('spool = "spool"\n' + RIGHT)
        done = CliRunner().invoke(main, ["check", "-c", str(path)])
        assert done.exit_code == 0
        assert done.stdout.splitlines()[:2] == [
            f"{path}: fine", "relaying: no client may send to other hosts",
        ]  # fmt: skip


# -- the machine ----------------------------------------------------------------------------------


def refused_start(running: Server) -> str:
    """`serve` says why, in one line, exits 2, and leaves nothing running."""
    done = running.run("serve")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{running.config}: ")
    assert "Traceback" not in line
    assert not running.survivors()
    return line


def test_a_port_in_use_is_named(tmp_path):
    with server(tmp_path / "s", start=False) as prepared, socket.socket() as taken:
        taken.bind(("127.0.0.1", prepared.port))
        taken.listen()
        line = refused_start(prepared)
        assert f"listen[0]: 127.0.0.1:{prepared.port}: Address already in use" in line
        done = prepared.run("check", "--json")
        assert done.returncode == 1
        assert "Address already in use" in json.loads(done.stdout)["problems"][0]


@pytest.mark.needs("root")
def test_a_missing_home_is_named(tmp_path):
    with server(tmp_path / "s", start=False) as prepared:
        (prepared.directory / "home" / "bob").rmdir()
        assert f"users.bob.home: no such directory: {prepared.directory}/home/bob" in refused_start(
            prepared
        )


def test_a_spool_that_is_a_file_is_named(tmp_path):
    with server(tmp_path / "s", start=False) as prepared:
        prepared.spool.write_text("")
        assert f"{prepared.spool}: File exists" in refused_start(prepared)


def test_a_path_that_is_too_long_for_the_control_socket_is_named(tmp_path):
    directory = tmp_path / ("x" * 120)
    with server(directory, start=False) as prepared:
        line = refused_start(prepared)
        assert "too long" in line and str(prepared.spool / "control") in line


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    """A tmpfs for the time of the block."""
    path.mkdir(exist_ok=True, parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.needs("root")
def test_a_spool_on_a_read_only_file_system_is_named(tmp_path):
    with mounted(tmp_path / "s" / "spool", "ro,size=1m"), server(tmp_path / "s", start=False) as it:
        assert f"{it.spool}: Read-only file system" in refused_start(it)


@pytest.mark.needs("root")
def test_a_closed_directory_above_the_spool_is_named_with_the_cure(tmp_path):
    with server(tmp_path / "s", start=False) as prepared:
        prepared.directory.chmod(0o700)
        line = refused_start(prepared)
        assert f"can't enter {prepared.directory}" in line and "chmod o+x" in line
        prepared.directory.chmod(0o755)


def test_an_unknown_architecture_is_answered_with_the_known_ones(tmp_path):
    with server(tmp_path / "s", start=False) as prepared:
        done = prepared.run("serve", "--architecture", "monolith")
        assert done.returncode == 2
        known = ", ".join(ARCHITECTURES)
        assert done.stderr == f"no architecture 'monolith'; there are: {known}\n"


# -- mailboxes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    users = ("ada", "bob", "closed", "moved", "filed", "shut")
    with server(tmp_path_factory.mktemp("bad") / "s", users=users) as running:
        yield running


def show(running: Server, queue_id: str) -> dict:
    done = running.run("queue", "show", "--json", queue_id)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def close_home(home: Path) -> Callable[[], None]:
    maildir = home / "Maildir"
    maildir.mkdir(mode=0o500)
    os.chown(maildir, home.stat().st_uid, home.stat().st_gid)
    return lambda: maildir.chmod(0o700)


def move_home(home: Path) -> Callable[[], None]:
    away = home.with_name("away")
    home.rename(away)
    return lambda: away.rename(home) and None


def put_a_file_in_place(home: Path) -> Callable[[], None]:
    (home / "Maildir").write_text("my mail")
    return (home / "Maildir").unlink


def shut_home(home: Path) -> Callable[[], None]:
    home.chmod(0)
    return lambda: home.chmod(0o700)


#: user -> what happens to the mailbox, and the reason that must be given.
TROUBLES = {
    "closed": (close_home, "4.2.0", "Maildir: Permission denied"),
    "moved": (move_home, "4.3.5", "the user's home directory can't be entered"),
    "filed": (put_a_file_in_place, "4.2.0", "Maildir: Not a directory"),
    "shut": (shut_home, "4.3.5", "the user's home directory can't be entered"),
}


@pytest.mark.needs("root")
@pytest.mark.parametrize("user", TROUBLES)
def test_mail_that_cannot_be_delivered_waits_with_the_true_reason_and_arrives_later(running, user):
    happens, code, reason = TROUBLES[user]
    mend = happens(running.directory / "home" / user)
    try:
        answer, text = send(running, user, f"{user}@example.org")
        assert answer == 250
        queue_id = text.rpartition(" ")[2]
        running.wait_for(
            lambda: events(running, lambda e: e["event"] == "deferred"
                           and e["queue_id"] == queue_id), "it is deferred",
        )  # fmt: skip
        row = show(running, queue_id)
        (recipient,) = row["recipients"]
        assert row["state"] == "deferred"
        assert (recipient["code"], recipient["text"]) == (code, reason)
        assert recipient["attempts"] == 1
        # It comes back by itself.
        assert row["next_attempt_s"] > row["arrival_s"]
        assert reason in running.run("queue", "show", queue_id).stdout
        assert reason in running.run("queue", "list").stdout
    finally:
        mend()
    assert running.run("queue", "retry", queue_id).returncode == 0
    wait_delivered(running, user, user)
    running.wait_for(lambda: queue_id not in queued(running), "the chunk is freed")


@pytest.mark.needs("root")
def test_mail_for_others_goes_on_while_one_mailbox_is_in_trouble(running):
    mend = shut_home(running.directory / "home" / "shut")
    try:
        assert send(running, "waits", "shut@example.org")[0] == 250
        assert send(running, "goes-on", "bob@example.org")[0] == 250
        wait_delivered(running, "goes-on", "bob")
    finally:
        mend()
    running.wait_for(
        lambda: events(running, lambda e: e["event"] == "deferred"
                       and e["recipient"] == "shut@example.org"), "it is deferred",
    )  # fmt: skip
    assert running.run("queue", "retry").returncode == 0
    wait_delivered(running, "waits", "shut")


def test_a_chunk_damaged_while_it_waits_is_set_aside_and_not_delivered(running):
    """Between the check at the start and the delivery: the agent looks again."""
    assert send(running, "warm")[0] == 250
    wait_delivered(running, "warm")
    with stopped(running, only(running, "qmgr")):
        queue_id = send(running, "rotten")[1].rpartition(" ")[2]
        chunk = running.spool / "chunks" / queue_id
        octets = bytearray(chunk.read_bytes())
        octets[octets.index(b"hello")] ^= 0x20
        chunk.write_bytes(octets)
    running.wait_for(lambda: set_aside(running), "it is set aside")
    (name,) = set_aside(running)
    assert name == f"{queue_id}.damaged"
    assert (running.spool / "damaged" / name).read_bytes() == octets
    (event,) = said_aside(running, 1)
    assert event["queue_id"] == queue_id and "digest" in event["reason"]
    assert not copies(running, "ada", "rotten")
    listed = running.run("queue", "list")
    assert f"set aside: {name}" in listed.stdout
    (running.spool / "damaged" / name).unlink()


def said_aside(running: Server, count: int) -> list[dict[str, object]]:
    """The log's lines about what was set aside, which come after it."""

    def said() -> list[dict[str, object]]:
        return events(running, lambda e: e["event"] == "chunk set aside")

    running.wait_for(lambda: len(said()) >= count, f"{count} lines about what was set aside")
    return said()


# -- a spool with damaged chunks ------------------------------------------------------------------


def queue_id(number: int) -> str:
    return f"06H06TY2DFR20{number:03}"


def chunk(number: int, token: str, *, name: str = "") -> bytes:
    envelope = Envelope(
        queue_id=name or queue_id(number), arrival_s=1_700_000_000,
        reverse_path="x@example.net", recipients=("ada@example.org",),
        client="127.0.0.1", helo="h", protocol="ESMTP",
    )  # fmt: skip
    return encode_chunk(envelope, [letter(token)])


def flipped(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :]


_TORN_MARK = mark_record(b"\x93\x01\x02\x03")[:-3]
#: name in the queue -> content; these are delivered.
WHOLE = {
    queue_id(1): chunk(1, "whole-1"),
    queue_id(2): chunk(2, "torn-mark") + _TORN_MARK,
    queue_id(3): chunk(3, "zeros-behind") + bytes(4096),
    queue_id(4): chunk(4, "whole-4"),
}
#: These are set aside, with such a suffix.
DAMAGED = {
    queue_id(10): (b"", "torn"),
    queue_id(11): (chunk(11, "cut")[:-1], "torn"),
    queue_id(12): (chunk(12, "cut-early")[:40], "torn"),
    queue_id(13): (flipped(chunk(13, "content"), -60), "damaged"),
    queue_id(14): (chunk(14, "envelope").replace(b"ada@", b"bob@"), "damaged"),
    queue_id(15): (flipped(chunk(15, "version"), 5), "damaged"),
    queue_id(16): (chunk(1, "under-another-name"), "damaged"),
    queue_id(17): (bytes(5000), "damaged"),
    queue_id(18): (chunk(18, "mark-of-another-make") + mark_record(b"\x01"), "damaged"),
    "core": (b"\x7fELF", "damaged"),
    ".nfs0001": (chunk(5, "hidden"), "damaged"),
    queue_id(19).lower(): (chunk(19, "lower-case"), "damaged"),
    "n\udcffame": (b"not UTF-8", "damaged"),
    "esc\x1b[2J": (b"a name that clears the screen", "damaged"),
}


def owned_by_enqueue(spool: Path, path: Path) -> None:
    """As enqueue makes them."""
    if os.geteuid() == 0:
        where = (spool / "chunks").stat()
        os.chown(path, where.st_uid, where.st_gid, follow_symlinks=False)
        path.chmod(0o660)


@contextmanager
def spool_with(directory: Path, put: Callable[[Path], None]) -> Iterator[Server]:
    """A server whose queue was tampered with while it was stopped."""
    with server(directory) as running:
        assert running.stop() == 0
        put(running.spool / "chunks")
        running.start()
        yield running


def test_damaged_chunks_are_set_aside_with_a_reason_and_all_others_delivered(tmp_path):
    def put(chunks: Path) -> None:
        rows = {**WHOLE, **{name: octets for name, (octets, _) in DAMAGED.items()}}
        for name, octets in rows.items():
            (chunks / name).write_bytes(octets)
            owned_by_enqueue(chunks.parent, chunks / name)

    with spool_with(tmp_path / "s", put) as running:
        for token in ("whole-1", "torn-mark", "zeros-behind", "whole-4"):
            assert is_delivery_of(wait_delivered(running, token), letter(token))
        running.wait_for(lambda: not queued(running), "the queue is empty")
        assert len(running.delivered("ada")) == len(WHOLE)
        assert not running.delivered("bob")
        found = {each.name: each.read_bytes() for each in (running.spool / "damaged").iterdir()}
        assert found == {f"{name}.{why}": octets for name, (octets, why) in DAMAGED.items()}
        said = said_aside(running, len(DAMAGED))
        assert len(said) == len(DAMAGED)
        assert all(event["reason"] for event in said)
        assert running.log.read_bytes().isascii() and b"\x1b" not in running.log.read_bytes()
        listed = running.run("queue", "list")
        assert listed.returncode == 0
        assert "\x1b" not in listed.stdout
        assert len(json.loads(running.run("queue", "list", "--json").stdout)["set_aside"]) == len(
            DAMAGED
        )
        # And service goes on.
        assert send(running, "after")[0] == 250
        wait_delivered(running, "after")


#: What is no file at all, or not ours to read, under the name of a chunk.
ODD = {
    "fifo": os.mkfifo,
    "directory": lambda path: path.mkdir(),
    "symbolic link": lambda path: path.symlink_to("/etc/passwd"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "unreadable file of another": lambda path: (path.write_bytes(b"x"), path.chmod(0)),
}


def test_odd_things_in_the_queue_are_set_aside_and_hold_up_nothing(tmp_path):
    """Whoever can write there can stop nothing by it."""

    def put(chunks: Path) -> None:
        for number, make in enumerate(ODD.values()):
            make(chunks / queue_id(number + 20))
        (chunks / queue_id(1)).write_bytes(chunk(1, "behind"))
        (chunks / queue_id(90)).write_bytes(chunk(90, "before"))
        for number in (1, 90):
            owned_by_enqueue(chunks.parent, chunks / queue_id(number))

    names = {each: queue_id(number + 20) for number, each in enumerate(ODD)}
    # A directory of another's can't even be moved: it stays, and is named.
    staying = {names["directory"]} if os.geteuid() == 0 else set()
    with spool_with(tmp_path / "s", put) as running:
        for token in ("behind", "before"):
            wait_delivered(running, token)
        running.wait_for(lambda: set(queued(running)) == staying, "all others have gone")
        said = said_aside(running, len(ODD))
        assert {event["queue_id"] for event in said} == set(names.values())
        assert {name.partition(".")[0] for name in set_aside(running)} == (
            set(names.values()) - staying
        )
        assert ["it stays where it is" in event["reason"] for event in said].count(True) == len(
            staying
        )
        assert not events(running, lambda e: e["event"] == "ended")
        # What appears while the server runs is none of the next qmgr's business, either.
        (running.spool / "chunks" / "foreign").write_bytes(b"x")
        qmgr = only(running, "qmgr")
        os.kill(qmgr.pid, 9)
        running.wait_for(lambda: not qmgr.alive(), "qmgr is gone")
        for token in ("after", "after-that"):
            assert send(running, token)[0] == 250
            wait_delivered(running, token)
        (running.spool / "chunks" / "foreign").unlink()
        for name in staying:
            (running.spool / "chunks" / name).rmdir()
        for name in set_aside(running):  # pytest can't remove what it can't read
            path = running.spool / "damaged" / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def test_a_file_of_root_in_the_queue_is_set_aside(tmp_path):
    """A restored backup, perhaps: enqueue may not link what it does not own."""

    def put(chunks: Path) -> None:
        (chunks / "lost+found.txt").write_bytes(b"x")
        (chunks / queue_id(1)).write_bytes(chunk(1, "mine"))
        owned_by_enqueue(chunks.parent, chunks / queue_id(1))

    with spool_with(tmp_path / "s", put) as running:
        wait_delivered(running, "mine")
        running.wait_for(lambda: not queued(running), "the queue is empty")
        assert set_aside(running) == ["lost+found.txt.damaged"]
        assert named(running, "enqueue")
