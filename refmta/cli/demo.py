"""`refmta demo`: the main job as a story, on a real system that it starts and breaks.

A server is started in a directory of its own, mail goes in over SMTP, processes are killed at the
worst moments, mail leaves for a second server, and at the end every message that was answered 250
is looked for in its mailbox and compared octet for octet.  Exit 1 if one is missing, altered or
there twice.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import smtplib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from refmta.architectures.configuration import load
from refmta.cli import ps
from refmta.cli.operator import ask
from refmta.cli.options import EX_FINDING, architecture_option, json_option
from refmta.cli.stage import (
    DOMAIN,
    FAR,
    PATIENCE_S,
    USERS,
    Stage,
    StoryFailedError,
    configuration,
    far_configuration,
    free_port,
)
from refmta.patterns.defense_in_depth import LAYERS
from refmta.wire.messages import Ask


@click.command()
@architecture_option
@click.option("--keep", is_flag=True, help="Leave the directory behind, to look at.")
@json_option
def demo(name: str, keep: bool, as_json: bool) -> None:
    """Start a mail server, move real mail, kill it in the middle, and count what is left."""
    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    directory = Path(tempfile.mkdtemp(prefix="refmta-demo-"))
    directory.chmod(0o755)
    stage = _stage(directory, name, console)
    failure = ""
    try:
        for chapter in CHAPTERS:
            chapter(stage)
    except StoryFailedError as error:
        failure = str(error)
        console.print(f"[bold red]FAILED[/] {escape(failure)}")
    finally:
        stage.end()
        if stage.far is not None:
            stage.far.end()
        if as_json:
            report = {
                "acknowledged": len(stage.kept) + stage.reported,
                "delivered": stage.delivered,
                "reported": stage.reported,
                "failure": failure,
            }
            click.echo(json.dumps(report))
        if keep:
            console.print(f"everything is in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(EX_FINDING if failure else 0)


def _stage(directory: Path, name: str, console: Console) -> Stage:
    """Two servers, each in a directory of its own; only the first one is the story's."""
    port = free_port()
    stage = Stage(directory, name, console, load(configuration(directory, port)))
    far_directory = directory / "far"
    far_directory.mkdir()
    far = load(far_configuration(far_directory, port))
    stage.far = Stage(far_directory, name, console, far)
    return stage


# -- the chapters ---------------------------------------------------------------------------------


def _start(stage: Stage) -> None:
    stage.say("[bold]1. A mail server made of small processes[/]")
    stage.start()
    found = ps.judged(stage.all_rows())
    found["processes"] = [row for row in found["processes"] if "/" not in row["compartment"]]
    ps.show(found, stage.settings, stage.console)
    if os.getuid() == 0:
        stage.say("   Only the spawner is root, and it never touches mail.")
    else:
        stage.say("   Without root all of them share your user; as root each has its own.")
    _confined(stage, found["missing"])


def _confined(stage: Stage, missing: dict[str, str]) -> None:
    """Which layers there are; the demo goes without those that the machine lacks."""
    there = [each for each in LAYERS if each not in missing]
    stage.say(f"   layers of confinement, each proved at every start: {', '.join(there)}")
    for layer, reason in missing.items():
        stage.say(f"   [yellow]not on this machine:[/] {layer}: {escape(reason)}")
    stage.say()


def _deliver(stage: Stage) -> None:
    stage.say("[bold]2. A letter goes in by SMTP[/]")
    token = stage.send("ada@demo.test", "Hello from afar")
    stage.wait_for("delivery", lambda: bool(stage.found(token)))
    (place,) = stage.found(token)
    stage.say(f"   in {place}, owned by user {place.stat().st_uid}:")
    for line in place.read_text().splitlines()[:4]:
        stage.say(f"   [dim]| {escape(line)}[/]")
    stage.say()


def _kill_enqueue(stage: Stage) -> None:
    stage.say("[bold]3. The process that writes the queue is killed in the middle of a message[/]")
    address, port = stage.settings.addresses()[0]
    victim = stage.pid("enqueue")
    with smtplib.SMTP(address, port, timeout=PATIENCE_S) as client:
        client.ehlo("client.example.org")
        client.mail("grace@example.org")
        client.rcpt("bob@demo.test")
        client.docmd("data")
        client.send(b"Subject: this letter will be cut off\r\n\r\n" + b"half a letter\r\n" * 40_000)
        chunks = stage.settings.spool / "chunks"
        stage.wait_for("half a message on disk", lambda: any(chunks.iterdir()))
        os.kill(victim, signal.SIGKILL)
        stage.say(f"   [red]SIGKILL[/] enqueue (pid {victim}), with half a message on disk")
        client.send(b"the end\r\n.\r\n")
        code, text = client.getreply()
    stage.say(f"   [cyan]server[/]  {code} {escape(text.decode())}")
    if code < 400:
        raise StoryFailedError("a message was acknowledged that nobody wrote")
    stage.say("   No promise was made, so the client tries again:")
    stage.wait_for("a new enqueue", lambda: stage.pid("enqueue") not in (0, victim))
    stage.send("bob@demo.test", "Second attempt")
    stage.wait_for("the half message set aside", lambda: any(_aside(stage)))
    (aside,) = _aside(stage)
    stage.say(f"   recovery found the half message and set it aside: {aside.name}\n")


def _aside(stage: Stage) -> Iterator[Path]:
    return (stage.settings.spool / "damaged").iterdir()


def _kill_qmgr(stage: Stage) -> None:
    stage.say("[bold]4. The queue manager is killed after the 250, before delivery[/]")
    victim = stage.pid("qmgr")
    os.kill(victim, signal.SIGSTOP)
    token = stage.send("ada@demo.test", "Promised and not delivered")
    os.kill(victim, signal.SIGKILL)
    stage.say(f"   [red]SIGKILL[/] qmgr (pid {victim}); its delivery agents are ended, too")
    stage.wait_for("delivery by the next qmgr", lambda: bool(stage.found(token)))
    stage.say(f"   the next one (pid {stage.pid('qmgr')}) found it in the queue and delivered it\n")


def _kill_all(stage: Stage) -> None:
    stage.say("[bold]5. Everything is killed at once, with promised mail in the queue[/]")
    os.kill(stage.pid("qmgr"), signal.SIGSTOP)
    tokens = [stage.send(f"{who}@demo.test", "Kept over the crash") for who in (*USERS, *USERS)]
    process = stage.process
    if process is None:
        raise StoryFailedError("no server")
    process.kill()
    process.wait()
    stage.say("   [red]SIGKILL[/] the spawner: all processes die with it.  Starting again.")
    stage.start()
    stage.wait_for("delivery", lambda: all(map(stage.found, tokens)))
    stage.say(f"   {len(tokens)} of {len(tokens)} were in the queue and are delivered now\n")


def _relay(stage: Stage) -> None:
    stage.say("[bold]6. Another server, and mail that leaves[/]")
    far = stage.far
    if far is None:
        raise StoryFailedError("no other server")
    far.start()
    token = stage.send(f"carol@{FAR}", "From server to server")
    stage.wait_for("delivery at the other server", lambda: bool(stage.found(token)))
    (place,) = stage.found(token)
    for line in place.read_text().splitlines()[:8]:
        stage.say(f"   [dim]| {escape(line)}[/]")
    _report(stage)
    far.end()
    stage.say("   [red]SIGKILL[/] the other server; a letter for it is promised all the same")
    waiting = stage.send(f"carol@{FAR}", "Waiting for the other one")
    stage.wait_for("an attempt in vain", lambda: b"4.4.1" in stage.log.read_bytes())
    far.start()
    ask(stage.settings, Ask(reference=1, verb="retry"))
    stage.wait_for("delivery when it is back", lambda: bool(stage.found(waiting)))
    stage.say("   it is back: delivered\n")


def _report(stage: Stage) -> None:
    """A recipient whom the other server refuses: the sender is told."""
    token = stage.send(f"nobody@{FAR}", "To nobody at all", sender=f"ada@{DOMAIN}")
    del stage.kept[token]  # it is not to be delivered, but reported
    box = stage.mailbox(f"ada@{DOMAIN}")

    def reports() -> list[str]:
        texts = [each.read_text() for each in box.iterdir()]
        return [text for text in texts if "report-type=delivery-status" in text and token in text]

    stage.wait_for("the report to its sender", lambda: bool(reports()))
    (text,) = reports()
    stage.reported += 1
    stage.say("   The other server refuses the recipient, so the sender gets a report:")
    for line in text.splitlines():
        if line.startswith(("Final-Recipient:", "Action:", "Status:", "Diagnostic-Code:")):
            stage.say(f"   [dim]| {escape(line)}[/]")


def _judge(stage: Stage) -> None:
    stage.say("[bold]7. The account[/]")
    stage.judge()
    count = len(stage.kept)
    promised = count + stage.reported
    stage.say(f"   {promised} messages were answered 250: [green]{count} delivered once each,[/]")
    stage.say(f"   [green]equal octet for octet; {stage.reported} reported to its sender;[/]")
    stage.say("   [green]none lost, none altered.[/]\n")


def _stop(stage: Stage) -> None:
    process = stage.process
    if process is None:
        raise StoryFailedError("no server")
    process.terminate()
    if process.wait(PATIENCE_S) != 0:
        raise StoryFailedError(f"the server did not stop in order:\n{stage.log.read_text()}")
    stage.say("[bold]8. Stopped:[/] it finished what was begun, and ended with 0.")


CHAPTERS = (_start, _deliver, _kill_enqueue, _kill_qmgr, _kill_all, _relay, _judge, _stop)
