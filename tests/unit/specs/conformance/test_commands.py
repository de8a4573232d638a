"""The commands as programs: what they leave when they are interrupted, and several servers in one
page.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from click.testing import CliRunner

from specs.conformance.api import conform
from specs.conformance.commands.main import main
from specs.conformance.options import as_words, from_values

CASE = "5321-4.1.1.10-quit-lower"


class Server(StreamRequestHandler):
    """Says 250 to everything; to QUIT nothing where it stalls."""

    def handle(self) -> None:
        self.wfile.write(self.server.greeting)
        for line in self.rfile:
            if line[:4].upper() != b"QUIT":
                self.wfile.write(b"250 ok\r\n")
            elif self.server.stalls:
                self.server.met.set()
            else:
                self.wfile.write(b"221 bye\r\n")
                return


class Serving(ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    stalls = False
    greeting = b"220 mx.example ESMTP\r\n"


@pytest.fixture
def serving():
    with Serving(("127.0.0.1", 0), Server) as server:
        server.met = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def address(server: Serving) -> str:
    return f"127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_is_interrupted_leaves_what_was_done(serving, tmp_path, number, code):
    serving.stalls = True
    files = [tmp_path / "done.json", tmp_path / "done.xml", tmp_path / "new.toml"]
    words = [address(serving), "5321-4.1.1.10", "--timeout", "600", "--json", str(files[0])]
    words += ["--junit", str(files[1]), "--write-expect", str(files[2])]
    program = subprocess.Popen(
        [sys.executable, "-m", "specs.conformance.commands.main", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert serving.met.wait(60)
        time.sleep(0.2)  # SIGINT reaches a program that has other cases under way, too
        program.send_signal(number)
        out, err = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == code, out + err
    assert number.name in err and "Traceback" not in out + err
    told = json.loads(files[0].read_text())
    assert {each["saw"] for each in told["results"]} >= {f"not done: {number.name}"}
    assert b"<testsuite" in files[1].read_bytes()
    assert not files[2].exists()  # nobody expects what was not tried


@pytest.mark.parametrize(
    ("stdout", "encoding"), [("/dev/full", "utf-8"), ("/dev/null", "ascii")], ids=str
)
def test_results_are_kept_and_told_by_the_exit_code_though_nobody_can_read(
    serving, tmp_path, stdout, encoding
):
    serving.greeting = "220 mx \u2603 :a: ESMTP\r\n".encode()
    junit = tmp_path / "done.xml"
    words = [address(serving), CASE, "--junit", str(junit)]
    with open(stdout, "wb") as out:
        program = subprocess.run(
            [sys.executable, "-m", "specs.conformance.commands.main", *words], stdout=out,
            stderr=subprocess.PIPE, check=False, timeout=60,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
    assert (program.returncode, program.stderr) == (0, b"")
    assert b"<testsuite" in junit.read_bytes()


def run(*words: str):
    return CliRunner().invoke(main, list(words))


def test_no_case_that_could_be_tried_ends_with_2(serving):
    found = run(address(serving), "client")
    assert found.exit_code == 2 and "no case could be tried" in found.output


def test_several_servers_at_once(serving, tmp_path):
    page, listed = tmp_path / "page.html", tmp_path / "servers.toml"
    listed.write_text(
        f'[one]\naddress = "{address(serving)}"\nrcpt = ["ada@one.example"]\n'
        f'["two; 2"]\naddress = "{address(serving)}"\ntimeout = 3\n'
    )
    found = run("matrix", str(listed), "--section", CASE, "--html", str(page))
    assert found.exit_code == 0, found.output
    assert page.stat().st_size > 1000
    text = run("matrix", str(listed), "--section", CASE).output
    assert "one" in text and "two; 2" in text


def test_a_server_that_is_not_there_spoils_only_its_own_column(serving, tmp_path):
    listed = tmp_path / "servers.toml"
    listed.write_text(f'[there]\naddress = "{address(serving)}"\n[gone]\naddress = "127.0.0.1:1"\n')
    found = run("matrix", str(listed), "--section", CASE, "--markdown", str(tmp_path / "all.md"))
    assert found.exit_code == 3 and "gone: 127.0.0.1 port 1" in found.output
    assert "there" in (tmp_path / "all.md").read_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no table of a server"),
        ("[[one]\n", "servers.toml"),
        ("one = 1", "one: it is a table with an address"),
        ("[one]\nrcpt = 'x@y'", "one: it is a table with an address"),
        ("[one]\naddress = 'localhost:0'", "one: 'localhost:0'"),
        ("[one]\naddress = 'localhost'\nrcpts = ['a@b']", "one: rcpts: there is no such option"),
        ("[one]\naddress = 'localhost'\nrcpt = ['ada']", "'ada' is no LOCAL-PART@DOMAIN"),
        ("[one]\naddress = 'localhost'\nuser = 'ada'", "a password"),
    ],
)
def test_a_wrong_list_of_servers_is_refused_by_its_place(tmp_path: Path, text: str, says: str):
    listed = tmp_path / "servers.toml"
    listed.write_text(text)
    found = run("matrix", str(listed))
    assert found.exit_code == 2 and says in found.output, found.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rcpt": "a@b>\r\nRSET"}, "LOCAL-PART@DOMAIN"), ({"hostname": "a\r\nb"}, "no host name"),
        ({"patience": "nan"}, "patience"), ({"speed": 1}, "speed"), ({"tls": "x:y"}, "tls"),
        ({"rcpt": ["--security@x", "-v"]}, "'-v'"),
    ],
)  # fmt: skip
def test_wrong_values_of_the_function_are_told_by_their_names(options, says):
    with pytest.raises(ValueError, match=says.replace("(", ".")):
        conform("localhost", **options)


def test_what_is_given_is_written_as_it_is_read(tmp_path):
    words = {
        "rcpt": ["ada@x.example", "bob@x.example"], "unknown-rcpt": "nobody@x.example",
        "maildir": [str(tmp_path)], "submission": "587", "user": "ada:secret:word",
        "sender": "eve@y.example", "relay-rcpt": "z@z.example", "names": "127.0.0.1:53",
    }  # fmt: skip
    told = from_values("mx.example:26", {**words, "seed": 4})
    assert told.user == "ada" and told.password == "secret:word"
    line = as_words(told)
    again = dict(zip(line[1::2], line[2::2], strict=True))
    assert again["--submission"] == "mx.example:587" and line[0] == "mx.example:26"
    assert again["--maildir"] == str(tmp_path) and line.count("--rcpt") == 2
