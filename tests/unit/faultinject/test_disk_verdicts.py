"""What is judged of a step, by the calls and by the ledger."""

from __future__ import annotations

import pytest

from faultinject.books import Answer, Books, Sending, Window
from faultinject.disk import aside, verdicts
from faultinject.disk.faults import FAULTS
from faultinject.disk.grounds import Grounds
from faultinject.disk.steps import Made, Step
from faultinject.disk.trust import TRUSTED, Answered
from faultinject.ledger import Finding
from faultinject.letters import Copy
from faultinject.tracing import Call, parse

GROUNDS = Grounds(mail=("/spool", "/box"), boxes=("/box",))
FAILS = "= -1 EIO (Input/output error) (INJECTED)"


def made(letter: int = 3) -> Made:
    return Made(step=Step(role="qmgr", call="fsync", number=2), letter=letter, expected=True)


def judged(lines: list[str], step: Made, fault: str = "eio"):
    rows = (f"7 {100 + place}.0 {line} <0.5>" for place, line in enumerate(lines))
    seen = [each for each in parse(rows) if isinstance(each, Call)]
    answers = [Answered(what="disk-3/1", begun_s=99.0, answered_s=200.0)]
    return verdicts.judge_step(step, FAULTS[fault], seen, answers, GROUNDS, settled=True)


def test_a_failed_call_excuses_at_its_end_and_is_counted_where_it_lies():
    step = made()
    kills = judged([f"write(5</spool/a>) {FAILS}", f"write(6</log>) {FAILS}"], step)
    assert [each.when_s for each in kills] == [100.5, 101.5]
    assert {each.role for each in kills} == {verdicts.DISK}
    assert step.elsewhere == 1 and step.findings == []


def test_a_real_error_counts_by_its_name():
    step = made()
    lines = ["write(5</spool/a>) = -1 ENOSPC (x)", "write(5</spool/a>) = -1 EIO (x)"]
    assert len(judged(lines, step, "full-disk")) == 1
    assert len(judged(lines, step, "slow-sync")) == 0


def test_a_failed_sync_that_was_trusted_is_the_steps_finding():
    step = made()
    judged(
        ['openat(3</spool>, "a", O_RDWR|O_CREAT|O_EXCL, 0600) = 5</spool/a>',
         f"fsync(5</spool/a>) {FAILS}", "fsync(5</spool/a>) = 0"],
        step,
    )  # fmt: skip
    assert [each.name for each in step.findings] == [TRUSTED]


def test_attempts_are_counted_by_their_answers():
    books = Books()
    for attempt, answer in enumerate((Answer.DEFERRED, Answer.ACKNOWLEDGED), 2):
        copy = Copy("disk-3", attempt)
        books.sendings[copy] = Sending(sender="", recipients=("a",), digest=b"", answer=answer)
    found = verdicts.answers_of([Copy("disk-3", number) for number in (1, 2, 3)], books)
    assert found == {verdicts.TURNED_AWAY: 1, "deferred": 1, "acknowledged": 1}


def test_findings_go_to_the_step_whose_letter_they_name():
    steps = [made(3), made(4)]
    ours = Finding(name="lost", text="disk-4/1 for ada@disk.example")
    others = [Finding(name="lost", text=text) for text in ("disk-44/1 for ada", "a stranger")]
    assert verdicts.assign([ours, *others], steps) == others
    assert steps[0].findings == [] and steps[1].findings == [ours]
    told = verdicts.all_findings(others, steps)
    assert [each.text for each in told][-1] == "qmgr fsync 2: disk-4/1 for ada@disk.example"


def test_what_is_lost_is_told_apart_from_what_is_put_aside(tmp_path):
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "4F").write_bytes(
        b"N\x30Received: by mxN\x26X-Storm: run=disk; letter=4; attempt=1N\x00"
    )
    (tmp_path / "active").write_bytes(b"X-Storm: run=disk; letter=5; attempt=12\n")
    sizes = {Copy("disk-4", 1): 30, Copy("disk-5", 12): 30}
    files = aside.kept(tmp_path, sizes)
    assert files == {Copy("disk-4", 1): "corrupt/4F", Copy("disk-5", 12): "active"}
    assert aside.kept(tmp_path, {Copy("disk-4", 1): 3000}) == {}  # a part of it, at most
    texts = ("disk-4/1 for ada", "disk-4/2 for ada", "disk-5/1 for ada", "disk-5/12 for ada")
    found = aside.told_apart([Finding(name="lost", text=text) for text in texts], files)
    assert [each.name for each in found] == ["set_aside", "lost", "lost", "set_aside"]
    assert found[0].text == "disk-4/1 for ada, in corrupt/4F"
    others = [Finding(name="duplicate", text="disk-4/1 for ada")]
    assert aside.told_apart(others, files) == others


def test_what_failed_elsewhere_too_is_no_finding_but_for_what_is_untrue():
    names = ["refused", "lost", "defect", TRUSTED]
    for fault, elsewhere, left in (("eio", 1, ["lost", TRUSTED]), ("eio", 0, names),
                                   ("emfile", 1, names)):  # fmt: skip
        step = made()
        step.elsewhere, step.findings = elsewhere, [Finding(name=name, text="") for name in names]
        verdicts.clear(step, FAULTS[fault])
        assert [each.name for each in step.findings] == left
        assert [*left, *step.blurred] == sorted(names, key=[*left, *names].index)


def test_windows_are_wider_by_the_fault_alone():
    window = Window(roles=frozenset({"local"}), before_s=1.0, after_s=2.0)
    (found,) = verdicts.widened({"mailbox": window}).values()
    assert found.roles == {"local", verdicts.DISK}
    assert (found.before_s, found.after_s) == (1.0, 2.0)


@pytest.mark.parametrize("name", verdicts.FINDINGS)
def test_each_finding_is_explained(name):
    assert verdicts.FINDINGS[name]
