"""Adapters of real servers: what they tell from titles, lists and files, without a server."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from faultinject import target
from faultinject.ledger import FINDINGS
from faultinject.letters import compose, recognise
from faultinject.network import places, verdicts
from faultinject.peers import command, qmail
from faultinject.peers.aiosmtpd import PROGRAM, Aiosmtpd
from faultinject.peers.exim import Exim
from faultinject.peers.opensmtpd import Opensmtpd
from faultinject.peers.peer import Peer
from faultinject.peers.postfix import Postfix
from faultinject.peers.qmail import Qmail
from faultinject.peers.sendmail import Sendmail
from faultinject.processes import Process, Seen
from faultinject.reports import read_report
from faultinject.storm import DECEITFUL, Plan, Storm
from faultinject.target import Site, TargetError

ALL = (Postfix, Exim, Opensmtpd, Sendmail, Qmail, Aiosmtpd)
LETTER = compose("t", 1, 1, "ada@storm.example", ("r1@far.example", "r2@far.example"))
BODY = LETTER.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")


def with_main(peer: Peer, monkeypatch: pytest.MonkeyPatch, pid: int = 10) -> Peer:
    """As if it ran, with that main process."""
    peer._main = Process(pid, peer.main_role, born=1)
    monkeypatch.setattr(type(peer), "alive", lambda _: True)
    return peer


def site(directory: Path) -> Site:
    return Site(
        directory=directory, hostname="mx.storm.example", domain="storm.example",
        users=("ada", "bob"), next_hops={"far.example": 2601},
    )  # fmt: skip


# -- roles ----------------------------------------------------------------------------------------

TITLES = [
    (Postfix, "trivial-rewrite", "trivial-rewrite -n rewrite", "trivial-rewrite"),
    (Postfix, "postqueue", "postqueue -f", None),
    (Exim, "exim4", "/usr/sbin/exim4 -bd -q1s", "reception"),
    (Exim, "exim4", "/usr/sbin/exim4 -Mc 1xVJxN-000017-0G", "delivery"),
    (Exim, "exim4", "/usr/sbin/exim4 -q", "runner"),
    (Exim, "exim4", "/usr/sbin/exim4 -t -oem -oi -f <> -E1xVJxN-000017-0G", "agent"),
    (Opensmtpd, "smtpd", "smtpd: pony express", "pony"),
    (Opensmtpd, "smtpd", "smtpd: klondike", "ca"),
    (Opensmtpd, "mail.maildir", "mail.maildir", "delivery"),
    (Opensmtpd, "smtpctl", "smtpctl show queue", None),
    (Sendmail, "sendmail-mta", "sendmail: MTA: ./6AN2gZeZ000070 from queue", "delivery"),
    (Sendmail, "sendmail", "sendmail: MTA: ./6AN2gZeZ000070 [127.0.0.1]: client DATA", "delivery"),
    (Sendmail, "sendmail-mta", "sendmail: MTA: 6AN2gZeZ000070 localhost [127.0.0.1]: DATA",
     "session"),
    (Sendmail, "sendmail-mta", "sendmail: MTA: running queue: /var/spool/mqueue", "runner"),
    (Sendmail, "procmail", "procmail -Y -a  -d ada", "procmail"),
    (Qmail, "qmail-local", "qmail-local -- ada", "qmail-local"),
    (Aiosmtpd, "python3.11", f"/opt/aiosmtpd/bin/python {PROGRAM} 127.0.0.1", "server"),
    (Aiosmtpd, "python3.11", "/opt/aiosmtpd/bin/pip", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "program", "line", "role"), TITLES)
def test_a_process_has_the_role_that_it_is_at(kind, program, line, role, monkeypatch):
    peer = with_main(kind(), monkeypatch)
    told = peer.role_of(Seen(20, 10, 2, tuple(line.split(" "))), program)
    assert (told and told[0]) == role


@pytest.mark.parametrize("kind", [Exim, Opensmtpd, Sendmail])
def test_the_main_process_is_the_one_that_was_found_first(kind, monkeypatch):
    peer = with_main(kind(), monkeypatch)
    program = {"exim": "exim4", "opensmtpd": "smtpd", "sendmail": "sendmail-mta"}[peer.name]
    seen = Seen(10, 1, 1, ("/usr/sbin/" + program, "-bd", "-q1s"))
    assert peer.role_of(seen, program) == (peer.main_role, "")


@pytest.mark.parametrize("kind", ALL)
def test_what_forgets_is_named_by_role_and_the_main_role_is_hit(kind):
    peer = kind()
    assert peer.main_role in peer.roles
    assert {*peer.windows} <= {"mailbox", "next hop", "report"}
    assert all(reason for reason in peer.known_failures.values())
    with pytest.raises(KeyError):
        peer.compose("another")


# -- queues ---------------------------------------------------------------------------------------


def listed(peer: Peer, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> list[object]:
    """The queue that it finds where its tools answer so, by their arguments' beginning."""

    def run(_: Peer, *arguments: str, stdin: str = "") -> str:
        line = " ".join(arguments)
        return next(text for start, text in answers.items() if line.startswith(start))

    monkeypatch.setattr(type(peer), "run", run)
    return [(recognise(each.content), each.recipients) for each in peer.list_queue()]


def test_postfix_lists_its_queue_and_warnings_are_no_rows(monkeypatch):
    row = {"queue_id": "4F1", "recipients": [{"address": "r1@far.example", "delay_reason": "x"}]}
    found = listed(Postfix(), monkeypatch, {
        "postqueue": f"postqueue: warning: Mail system is down\n{json.dumps(row)}\n",
        "postcat -bhq 4F1": LETTER.decode(),
    })  # fmt: skip
    assert found == [(recognise(LETTER), ("r1@far.example",))]


def test_remains_of_killed_processes_are_no_messages(tmp_path):
    """Postfix: without its sign; Exim: a header file alone."""
    for kind, place, name in ((Postfix, "incoming", "A1"), (Exim, "input", "1x-1-1-H")):
        peer = kind()
        peer._site = site(tmp_path / peer.name)
        (peer.spool / place).mkdir(parents=True)
        (peer.spool / place / name).touch(0o600)
        assert peer.waiting() == 0


EXIM_LIST = """\
 3h  1.3K 1xVJxN-000017-0G <ada@storm.example>
          r1@far.example
        D r2@far.example

 1m  2.2K 1xVJxN-000018-0G <> *** frozen ***
          bob@storm.example

 1m  1.2K 1xVJxN-000019-0G <ada@storm.example>
        D r2@far.example
"""


def test_exim_lists_those_who_have_not_got_it(monkeypatch):
    answers = {"exim4 -bp": EXIM_LIST, "exim4 -Mvc": LETTER.decode()}
    found = listed(Exim(), monkeypatch, answers)
    assert [recipients for _, recipients in found] == [("r1@far.example",), ("bob@storm.example",)]
    assert listed(Exim(), monkeypatch, {"exim4 -bp": ""}) == []


def test_opensmtpd_lists_an_envelope_for_each_recipient(monkeypatch):
    row = "6729ca95c6c082e7|inet4|mta||ada@storm.example|x@dead.example|x@dead.example|1|2|0|1|p|r"
    answers = {"smtpctl show queue": row, "smtpctl show message": LETTER.decode()}
    found = listed(Opensmtpd(), monkeypatch, answers)
    assert found == [(recognise(LETTER), ("x@dead.example",))]


def test_sendmail_lists_what_its_files_say(tmp_path):
    peer = Sendmail()
    peer._site = site(tmp_path)
    peer.spool.mkdir()
    head = LETTER.partition(b"\r\n\r\n")[0].decode().replace("\r\n", "\n")
    fields = [f"H??{line}" if line[:1] != " " else line for line in head.split("\n")]
    envelope = ["V8", "T1", "S<ada@storm.example>", "rRFC822; r1@far.example"]
    control = [*envelope, "RPFD:<r1@far.example>", "H??Received: from x", "\tby y", *fields, "."]
    (peer.spool / "qf6AN2").write_text("\n".join(control) + "\n")
    (peer.spool / "df6AN2").write_bytes(BODY)
    (waiting,) = peer.list_queue()
    assert waiting.recipients == ("r1@far.example",)
    assert recognise(waiting.content) == recognise(LETTER)
    assert peer.waiting() == 1
    (peer.spool / "qfEMPTY").touch()  # of a session that was killed before it wrote a word
    assert peer.waiting() == 1 and len(list(peer.list_queue())) == 1


COUNTED = [
    (Postfix, ("incoming", "active/9"), ("A1", "B2"), 4),
    (Exim, ("input",), ("1x-1-1-H", "1x-1-1-D", "1x-1-1-J"), 1),
    (Opensmtpd, ("queue/01/01234567",), ("0123456789abcdef", "message"), 1),
]


@pytest.mark.parametrize(("kind", "places", "names", "count"), COUNTED)
def test_a_queue_that_changes_meanwhile_is_counted(kind, places, names, count, tmp_path):
    """Directories come and go under whoever looks."""
    peer = kind()
    peer._site = site(tmp_path)
    assert peer.waiting() == 0
    for place in places:
        (peer.spool / place).mkdir(parents=True)
        for name in names:
            (peer.spool / place / name).touch(0o700)
    assert peer.waiting() == count
    stopped, failed = threading.Event(), list[Exception]()

    def look() -> None:
        while not stopped.is_set():
            try:
                peer.waiting()
            except Exception as error:  # told below
                failed.append(error)
                return

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(200):
        for place in places:
            shutil.rmtree(peer.spool / place)
            (peer.spool / place).mkdir(parents=True)
            (peer.spool / place / names[0]).touch()
    stopped.set()
    thread.join()
    assert failed == []


def test_qmail_lists_its_queue():
    text = (
        "23 Nov 2026 02:41:11 GMT  #1444  1335  <ada@storm.example> \n"
        "  done\tremote\tr0@far.example\n\tremote\tr1@far.example\n\tlocal\tbob@storm.example\n"
        "23 Nov 2026 02:41:12 GMT  #1445  99  <> \n\tlocal\tada@storm.example\n"
    )
    assert list(qmail.read_queue(text)) == [
        ("1444", ("r1@far.example", "bob@storm.example")), ("1445", ("ada@storm.example",)),
    ]  # fmt: skip
    assert list(qmail.read_queue("")) == []


def test_a_qmail_queue_is_copied_without_its_mail(tmp_path):
    import os

    queue = tmp_path / "queue"
    for place in ("mess/3", "lock", "todo"):
        (queue / place).mkdir(parents=True)
    (queue / "mess/3/1444").write_bytes(b"somebody's mail")
    (queue / "lock/tcpto").write_bytes(b"state")
    os.mkfifo(queue / "lock/trigger", 0o622)
    (tmp_path / "copy").mkdir()
    qmail.copy_queue(queue, tmp_path / "copy")
    copied = {str(each.relative_to(tmp_path / "copy")) for each in (tmp_path / "copy").rglob("*")}
    assert copied == {"mess", "mess/3", "lock", "todo", "lock/tcpto", "lock/trigger"}
    assert (tmp_path / "copy/lock/trigger").is_fifo()


# -- what is not there ----------------------------------------------------------------------------


def test_before_it_is_configured_there_is_nothing(tmp_path):
    peer = Postfix()
    assert peer.processes() == [] and not peer.alive()
    peer.dispose()
    for ask in (lambda: peer.spool, lambda: peer.overlay, peer.mailboxes, peer.queued):
        with pytest.raises(TargetError):
            ask()
    assert peer.defects() == () and peer.log_end() == ""


def test_outside_of_a_network_of_its_own_it_is_not_configured(tmp_path):
    with pytest.raises(TargetError, match="network of its own"):
        Postfix().configure(site(tmp_path))


def test_qmail_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(qmail, "HOME", tmp_path)
    assert "bin/qmail-start" in str(Qmail().unavailable())


# -- known failures -------------------------------------------------------------------------------


def test_a_failure_may_be_known_to_one_harness_only():
    known = {harness: target.known(Aiosmtpd(), harness) for harness in ("storm", "power")}
    assert "lost" in known["power"] and "lost" not in known["storm"]
    assert "half_lost" in known["power"] and "half_lost" in known["storm"]


@pytest.mark.parametrize(
    ("kind", "harness", "finding"),
    [
        (Postfix, "crash", "lost under P1"),
        (Opensmtpd, "crash", "stranger under P1"),
        (Sendmail, "network", "given_up at smtp-552-at-rcpt"),
        (Sendmail, "kill", "altered"),
    ],
)
def test_known_failures_are_named_as_harnesses_name_what_they_find(kind, harness, finding):
    assert finding in target.known(kind(), harness)
    assert finding not in target.known(kind(), "campaign")


#: Findings of harnesses that have no table of their names.
OTHERS = {"stop", "unrecovered", "set_aside", "still_queued", "refused"}


@pytest.mark.parametrize("kind", ALL)
def test_what_is_known_is_something_that_a_harness_can_find(kind):
    """A key with a slip of the pen would be known for ever, and excuse nothing."""
    models, names = {"P1", "P2", "P3"}, {*FINDINGS, *verdicts.NAMES, *OTHERS}
    for key, why in kind().known_failures.items():
        harness, slash, finding = key.partition("/")
        name, at, destination = (finding if slash else key).partition(" at ")
        name, under, model = name.partition(" under ")
        assert name in names and why, key
        assert not slash or harness in ("storm", "kill", "crash", "power", "disk", "network"), key
        assert not at or (harness == "network" and destination in places.ALLOWED), key
        assert bool(under) == (harness == "crash") and (not under or model in models), key


@pytest.mark.parametrize(("wary", "met"), [(True, set(DECEITFUL)), (False, set())])
def test_only_who_is_wary_meets_next_hops_that_lie(wary, met, tmp_path):
    peer = Postfix()
    peer.capabilities = peer.capabilities | ({"wary"} if wary else set())
    storm = Storm(peer, Plan(messages=1, seconds=1, seed=1), tmp_path, lambda _: None)
    for hop in storm._hops().values():
        assert {*hop.among} & DECEITFUL == met and {"honest", "taken-and-close"} <= {*hop.among}
    assert {"final-250-with-the-354", "bare-lf-at-final"} <= DECEITFUL


# -- reports --------------------------------------------------------------------------------------

OPENSMTPD_REPORT = (
    b"""\
Subject: Delivery status notification: failed
Content-Type: multipart/mixed;boundary="1072/mx.storm.example"
Message-ID: <5651@mx.storm.example>
Date: Mon, 23 Nov 2026 02:40:24 +0000 (UTC)

--1072/mx.storm.example
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.storm.example

Final-Recipient: rfc822; r1@far.example
Action: failed
Status: 5.0.0

--1072/mx.storm.example
Content-Type: text/rfc822-headers

"""
    + LETTER.replace(b"\r\n", b"\n")
    + b"--1072/mx.storm.example--\n"
)


def test_delivery_statuses_in_a_multipart_mixed_are_a_report():
    (told,) = read_report(OPENSMTPD_REPORT)
    assert (told.recipient, told.action, str(told.copy)) == ("r1@far.example", "failed", "t-1/1")
    plain = OPENSMTPD_REPORT.replace(b"message/delivery-status", b"text/plain")
    assert read_report(plain) == ()


# -- the commands ---------------------------------------------------------------------------------


class Here:
    """A target that can be had."""

    name = "here"
    capabilities = frozenset({"remote"})
    roles = ("one",)
    known_failures = {"altered": "it writes in red"}  # noqa: RUF012
    installed = False

    def unavailable(self) -> str | None:
        return None

    def install(self) -> None:
        Here.installed = True


class Gone(Here):
    def unavailable(self) -> str | None:
        return "no such thing here"


class Broken(Here):
    def install(self) -> None:
        raise TargetError("the index is on fire")


KINDS = {"here": Here, "gone": Gone, "broken": Broken}


@pytest.fixture(autouse=True)
def _kinds(monkeypatch):
    monkeypatch.setattr(target, "names", lambda: tuple(KINDS))
    monkeypatch.setattr(target, "load", lambda name: KINDS[name]())


def test_targets_says_what_each_can_and_cannot():
    done = CliRunner().invoke(command.targets)
    assert done.exit_code == 0
    for said in ("relays", "no such thing here", "here: known failure: altered: it writes in red"):
        assert said in done.stdout
    rows = json.loads(CliRunner().invoke(command.targets, ["--json", "-"]).stdout)["targets"]
    assert [each["target"] for each in rows] == list(KINDS)
    assert rows[1]["unavailable"] == "no such thing here"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("here", 0, "here: installed"), ("gone", 3, "no such thing"), ("broken", 3, "on fire"),
     ("nonesuch", 2, "there are: here, gone, broken")],
)  # fmt: skip
def test_provision_installs_or_says_why_not(name, code, said):
    done = CliRunner().invoke(command.provision, [name])
    assert done.exit_code == code and said in done.output
    assert len(done.output.splitlines()) == 1
