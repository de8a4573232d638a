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
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from refmta.architectures.architecture import ROOT
from refmta.architectures.configuration import ConfigurationError, load
from refmta.architectures.launch import architecture
from refmta.cli import ps
from refmta.cli.operator import ask
from refmta.cli.options import EX_FINDING, architecture_option, fail, json_option
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
from refmta.wire.messages import Ask

#: How qmgr says in the journal that a recipient will be tried again.
DEFERRED = b'"event":"deferred"'


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
    try:
        chosen = architecture(name)
    except ConfigurationError as error:
        fail(error)
    stage = Stage(directory, chosen, console, load(configuration(directory, port)))
    far_directory = directory / "far"
    far_directory.mkdir()
    far = load(far_configuration(far_directory, port))
    stage.far = Stage(far_directory, chosen, console, far)
    return stage


# -- the chapters ---------------------------------------------------------------------------------


def _start(stage: Stage) -> None:
    stage.say(f"[bold]1. A mail server: {stage.chosen.summary}[/]")
    stage.start()
    found = ps.judged(stage.all_rows())
    found["processes"] = [row for row in found["processes"] if "/" not in row["compartment"]]
    ps.show(found, stage.settings, stage.console)
    if os.getuid() == 0:
        roots = [row.name for row in stage.chosen.compartments if row.user == ROOT]
        if roots:
            stage.say(f"   Besides the spawner these run as root: [red]{', '.join(roots)}[/]")
        else:
            stage.say("   Only the spawner is root, and it never touches mail.")
    else:
        stage.say("   Without root all of them share your user; as root each has its own.")
    _confined(stage, found["missing"])


def _confined(stage: Stage, missing: dict[str, str]) -> None:
    """Which layers there are; the demo goes without those that the machine lacks."""
    wanted = stage.chosen.layers
    there = [each for each in wanted if each not in missing]
    if there:
        stage.say(f"   layers of confinement, each proved at every start: {', '.join(there)}")
    else:
        stage.say("   layers of confinement: [red]none[/]")
    for layer, reason in missing.items():
        if layer not in wanted:
            continue
        stage.say(f"   [yellow]not on this machine:[/] {layer}: {escape(reason)}")
    stage.say()


def _deliver(stage: Stage) -> None:
    stage.say("[bold]2. A letter goes in by SMTP[/]")
    token = stage.send("ada@demo.test", "Hello from afar")
    stage.wait_for("delivery", lambda: bool(stage.found(token)))
    (copy,) = stage.found(token)
    stage.say(f"   in {copy.place}, owned by user {copy.place.stat().st_uid}:")
    for line in copy.octets.decode().splitlines()[:4]:
        stage.say(f"   [dim]| {escape(line)}[/]")
    stage.say()


def _kill_enqueue(stage: Stage) -> None:
    stage.say("[bold]3. The process that writes the queue is killed in the middle of a message[/]")
    address, port = stage.settings.addresses()[0]
    before = set(stage.queue_files())
    with smtplib.SMTP(address, port, timeout=PATIENCE_S) as client:
        client.ehlo("client.example.org")
        client.mail("grace@example.org")
        client.rcpt("bob@demo.test")
        client.docmd("data")
        client.send(b"Subject: this letter will be cut off\r\n\r\n" + b"half a letter\r\n" * 40_000)
        stage.wait_for("half a message on disk", lambda: bool(set(stage.queue_files()) - before))
        half = min(set(stage.queue_files()) - before)
        victim, name = stage.writer()
        os.kill(victim, signal.SIGKILL)
        stage.say(f"   [red]SIGKILL[/] {name} (pid {victim}), with half a message on disk")
        code, text = _end_of_message(client)
    stage.say(f"   [cyan]server[/]  {code or ''} {escape(text)}")
    if 0 < code < 400:
        raise StoryFailedError("a message was acknowledged that nobody wrote")
    stage.say("   No promise was made, so the client tries again:")
    stage.wait_for("a server that takes it", lambda: stage.writer()[0] != victim)
    stage.wait_for("all parts", stage.serving)
    stage.send("bob@demo.test", "Second attempt")
    _half_message(stage, half)


def _end_of_message(client: smtplib.SMTP) -> tuple[int, str]:
    """What the server says of it; 0 if it is gone (one process did all)."""
    try:
        client.send(b"the end\r\n.\r\n")
        code, text = client.getreply()
    except (OSError, smtplib.SMTPServerDisconnected):
        return 0, "the connection is lost, with the process"
    return code, text.decode()


def _half_message(stage: Stage, half: Path) -> None:
    """What recovery makes of it."""
    place = stage.settings.spool / half
    if stage.chosen.keeper == "enqueue":
        stage.wait_for("the half message set aside", lambda: not place.exists())
        (aside,) = (stage.settings.spool / "damaged").iterdir()
        stage.say(f"   recovery found the half message and set it aside: {aside.name}\n")
    else:
        stage.say(f"   {half} is nobody's: the keeper of the queue removes it in time\n")


def _kill_qmgr(stage: Stage) -> None:
    stage.say("[bold]4. The queue manager is killed after the 250, before delivery[/]")
    name = stage.keeper()
    victim = stage.pid(name)
    stage.hold_delivery()
    token = stage.send("ada@demo.test", "Promised and not delivered")
    os.kill(victim, signal.SIGKILL)
    stage.say(f"   [red]SIGKILL[/] {name} (pid {victim}), and its delivery agents with it")
    stage.wait_for("delivery by the next one", lambda: bool(stage.found(token)))
    stage.say(f"   the next one (pid {stage.pid(name)}) found it in the queue and delivered it\n")


def _kill_all(stage: Stage) -> None:
    stage.say("[bold]5. Everything is killed at once, with promised mail in the queue[/]")
    stage.hold_delivery()
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
    (copy,) = stage.found(token)
    for line in copy.octets.decode().splitlines()[:8]:
        stage.say(f"   [dim]| {escape(line)}[/]")
    _report(stage)
    far.end()
    stage.say("   [red]SIGKILL[/] the other server; a letter for it is promised all the same")
    before = stage.log.read_bytes().count(DEFERRED)
    waiting = stage.send(f"carol@{FAR}", "Waiting for the other one")
    stage.wait_for("an attempt in vain", lambda: stage.log.read_bytes().count(DEFERRED) > before)
    far.start()
    ask(stage.settings, Ask(reference=1, verb="retry"))
    stage.wait_for("delivery when it is back", lambda: bool(stage.found(waiting)))
    stage.say("   it is back: delivered\n")


def _report(stage: Stage) -> None:
    """A recipient whom the other server refuses: the sender is told."""
    token = stage.send(f"nobody@{FAR}", "To nobody at all", sender=f"ada@{DOMAIN}")
    del stage.kept[token]  # it is not to be delivered, but reported
    address = f"ada@{DOMAIN}"

    def reports() -> list[str]:
        texts = [copy.octets.decode() for copy in stage.mail_of(address)]
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
