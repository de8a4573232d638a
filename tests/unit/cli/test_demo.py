"""The demo's account: a message that is missing, altered or there twice is found in either form of
mailbox, and is the exit code.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from refmta.architectures.catalogue import ARCHITECTURES, find
from refmta.architectures.configuration import load
from refmta.architectures.evolution import EVOLUTION
from refmta.cli import demo as story
from refmta.cli.main import main
from refmta.cli.stage import Stage, StoryFailedError, configuration
from refmta.stores import mbox

ADDRESS = "ada@demo.test"
LETTER = b"Message-ID: <hello-1@example.org>\r\nSubject: x\r\n\r\nFrom me\r\n>From you\r\n.\r\n"
HEAD = b"Return-Path: <grace@example.org>\n"


@pytest.fixture(params=["refmta", "sendmail"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Of a server that does not run, with a promised letter."""
    monkeypatch.setattr("os.getuid", lambda: 1000)  # mailboxes that need no accounts
    settings = load(configuration(tmp_path, 2525))
    made = Stage(tmp_path, find(request.param), Console(quiet=True), settings)
    made.kept["hello-1"], made.addresses["hello-1"] = LETTER, ADDRESS
    return made


def deliver(stage: Stage, content: bytes) -> None:
    """As the architecture's own mailboxes do."""
    place = stage.mailbox(ADDRESS)
    if stage.chosen.mailbox == "maildir":
        (place / "new").mkdir(parents=True, exist_ok=True)
        number = len(list((place / "new").iterdir()))
        (place / "new" / str(number)).write_bytes(HEAD + content.replace(b"\r\n", b"\n"))
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("ab") as file:
        file.write(mbox.heading("grace@example.org", ADDRESS, 0) + mbox.stored(content) + b"\n")


def failure(stage: Stage) -> str:
    with pytest.raises(StoryFailedError) as caught:
        stage.judge()
    return str(caught.value)


def test_a_letter_that_is_there_once_and_equal_is_delivered(stage: Stage):
    deliver(stage, LETTER)
    deliver(stage, LETTER.replace(b"hello-1", b"other-1"))  # somebody else's does not count
    stage.judge()
    assert stage.delivered == 1 and len(stage.mail_of(ADDRESS)) == 2


def test_a_letter_that_is_not_there_is_missing(stage: Stage):
    assert failure(stage) == "message hello-1 is there 0 times"
    deliver(stage, LETTER.replace(b"hello-1", b"other-1"))
    assert failure(stage) == "message hello-1 is there 0 times"


def test_a_letter_that_is_there_twice_is_found(stage: Stage):
    deliver(stage, LETTER)
    deliver(stage, LETTER)
    assert failure(stage) == "message hello-1 is there 2 times"


@pytest.mark.parametrize(
    "altered",
    [
        LETTER.replace(b"you", b"them"), LETTER[:-3], LETTER + b"more\r\n",
        LETTER.replace(b">From", b"From"), LETTER.replace(b"From me", b">From me"),
    ],
)  # fmt: skip
def test_a_letter_that_was_altered_is_found(stage: Stage, altered: bytes):
    deliver(stage, altered)
    assert failure(stage) == "message hello-1 was altered"


@pytest.mark.parametrize("name", [*ARCHITECTURES, *EVOLUTION])
def test_somebody_can_be_killed_and_somebody_held_in_each_architecture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The chapters find their victims by what they do: one that writes the queue, one that keeps
    it, and whoever stands between a promise and a mailbox, who is not the one that promises.
    """
    monkeypatch.setattr("os.getuid", lambda: 1000)
    chosen = find(name)
    stage = Stage(tmp_path, chosen, Console(quiet=True), load(configuration(tmp_path, 2525)))
    rows: list[dict[str, object]] = []
    for number, row in enumerate(chosen.compartments, 1000):
        rows.append({"compartment": row.name, "pid": number, "state": "ready"})
        if row.pooled:
            worker = {"compartment": f"{row.name}/worker", "pid": number + 1000, "busy": True}
            rows.append(worker)
    held: list[int] = []
    monkeypatch.setattr(Stage, "all_rows", lambda _: rows)
    monkeypatch.setattr(Stage, "queued", lambda _: 0)
    monkeypatch.setattr("os.kill", lambda pid, _: held.append(pid))
    keeper = chosen.row(stage.keeper())
    assert "qmgr" in keeper.roles and not keeper.pooled
    pid, writer = stage.writer()
    assert pid and "enqueue" in chosen.row(writer).roles
    stage.hold_delivery()
    names = {row["compartment"] for row in rows if row["pid"] in held}
    assert names and writer not in names, "whoever promises would not promise any more"


def ended(monkeypatch: pytest.MonkeyPatch, *chapters: object) -> tuple[int, dict[str, object]]:
    """The command with these chapters: exit code, and its account."""
    monkeypatch.setattr(story, "CHAPTERS", chapters)
    done = CliRunner().invoke(main, ["demo", "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_a_story_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch):
    def lost(stage: Stage) -> None:
        stage.kept["hello-1"], stage.addresses["hello-1"] = LETTER, ADDRESS
        stage.judge()

    account = {"acknowledged": 1, "delivered": 0, "reported": 0}
    said = "message hello-1 is there 0 times"
    assert ended(monkeypatch, lost) == (1, {**account, "failure": said})
    nothing = {"acknowledged": 0, "delivered": 0, "reported": 0, "failure": ""}
    assert ended(monkeypatch) == (0, nothing)  # the twin
