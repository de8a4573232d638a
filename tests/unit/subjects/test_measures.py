"""What the measures make of what they have seen: without a server."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from faultinject.ledger import Account, Finding
from faultinject.storm import Plan, Result
from refmta.architectures.evolution import STEPS
from specs.claims.instruments import NotHere
from subjects import measures, stores_qmail_postfix
from subjects.measures_calls import changed_users, worker_of
from subjects.measures_generations import SECTIONS, gained, idle, surprises
from subjects.measures_kills import counted
from subjects.measures_parts import counted_configuration, largest_part, most_roots
from subjects.measures_places import Counted, with_setting, without
from subjects.measures_pools import (
    IDLE_S,
    LATE_S,
    USED,
    WORKERS,
    Staff,
    exceeded,
    has_pool,
    rewritten_in,
)
from subjects.measures_speed import as_reading
from subjects.measures_trade import ALONE, NO_SYNC, Side, Unsynced, smallest, violations

ROOT = Path(__file__).parents[3]
WORD = "word1234"

# -- who works on a message -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], None),
        (['read(3, "other", 5) = 5'], None),
        ([f'read(3, "{WORD}", 8) = 8'], ("smtpd", (7, 7, 7))),
        (
            ['execve("/usr/bin/procmail", ["procmail"], 0x1) = 0', f'read(0, "{WORD}", 8) = 8'],
            ("procmail", (7, 7, 7)),
        ),
        (
            ['execve("/usr/bin/x", ["x"], 0x1) = -1 ENOENT (No such file)', f'read(0, "{WORD}")'],
            ("smtpd", (7, 7, 7)),
        ),
        (["setresuid(-1, 9, -1) = 0", f'write(4, "a{WORD}b", 10) = 10'], ("smtpd", (7, 9, 7))),
        (["setuid(9) = 0", f'sendmsg(4, "{WORD}") = 8'], ("smtpd", (9, 9, 9))),
        (["setuid(9) = -1 EPERM", f'sendmsg(4, "{WORD}") = 8'], ("smtpd", (7, 7, 7))),
        ([f'recvmsg(4, "{WORD}") = 8', "setuid(0) = 0"], ("smtpd", (7, 7, 7))),
    ],
)
def test_who_works_on_a_message_is_what_it_was_then(
    lines: list[str], found: tuple[str, tuple[int, ...]] | None
) -> None:
    worker = worker_of(5, lines, [WORD], "smtpd", (7, 7, 7))
    assert (worker and (worker.program, worker.users)) == found


def test_a_process_is_root_if_any_of_its_users_is() -> None:
    assert changed_users("setreuid", "-1, 5", (0, 0, 0)) == (0, 5, 5)
    kept = worker_of(1, [f"read({WORD}"], [WORD], "local", (0, 5, 0))
    dropped = worker_of(1, ["setuid(5) = 0", f"read({WORD}"], [WORD], "local", (0, 0, 0))
    assert kept is not None
    assert kept.is_root
    assert dropped is not None
    assert not dropped.is_root


def test_the_most_roots_at_one_instant_are_counted() -> None:
    instants = [{"spawner": 1}, {"spawner": 1, "lspawn": 3}, {"spawner": 1, "odd": 1}, {}]
    assert most_roots(instants, frozenset()).value == 4
    found = most_roots(instants, frozenset({"spawner", "lspawn"}))
    assert found.value == 1
    assert found.detail == "1 odd besides lspawn, spawner; 4 looks"
    assert most_roots([], frozenset()).value == 0


# -- code and configuration -----------------------------------------------------------------------


def test_lines_of_a_configuration_are_those_that_say_something() -> None:
    lines = ["# no", "", "  # no", "Mlocal, P=x", "  continued", "O MaxHops=1", "Mesmtp, P=[IPC]"]
    assert counted_configuration(lines, "lines").value == 4
    found = counted_configuration(lines, "mailers")
    assert (found.value, found.detail) == (2, "local, esmtp")


def test_nobody_has_the_sources_of_a_real_server() -> None:
    with pytest.raises(NotHere, match="the sources of server:qmail"):
        largest_part("server:qmail", "root")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = 1\n", "a = 1\n[smtpd]\nmax_uses = 5\n"),
        ("[smtpd]\nspare = 1\n[x]\nmax_uses = 7\n", "[smtpd]\nmax_uses = 5\nspare = 1\n[x]\n"),
        ("[smtpd]\nmax_uses = 20\n", "[smtpd]\nmax_uses = 5\n"),
    ],
)
def test_a_setting_is_put_into_its_section(before: str, after: str) -> None:
    found = with_setting(before, "smtpd", "max_uses", "5")
    assert found.startswith(after)
    assert "max_uses = 20" not in found
    assert without(found, "smtpd", "max_uses").count("max_uses") == before.count("max_uses = 7")


# -- mailboxes ------------------------------------------------------------------------------------


def test_an_mbox_is_counted_as_it_grows(tmp_path: Path) -> None:
    box, mbox = Counted(tmp_path / "mbox"), tmp_path / "mbox"
    assert box.count() == 0
    message = b"From a Thu Jan  1 00:00:00 2026\nSubject: x\n\n>From here\n\n"
    with mbox.open("ab") as file:
        for number in range(1, 4):
            file.write(message[:10])
            file.flush()
            box.count()
            file.write(message[10:])
            file.flush()
            assert box.count() == number
    mbox.write_bytes(message)  # cut back
    assert box.count() == 1


def test_a_maildir_is_counted_though_its_user_reads(tmp_path: Path) -> None:
    box = Counted(tmp_path)
    (tmp_path / "1").touch()
    assert box.count() == 1
    (tmp_path / "1").unlink()
    (tmp_path / "2").touch()
    assert box.count() == 2


def test_addresses_count_where_they_were_rewritten(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"Return-Path: <ada@x.test>\nSubject: 1\n\nada@x.test\n")
    (tmp_path / "2").write_bytes(b"Return-Path: <old@x.test>\n\nReturn-Path: <ada@x.test>\n")
    assert rewritten_in(tmp_path, "ada@x.test") == 3


# -- pools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "uses", "late_s", "over"),
    [
        (WORKERS, USED, IDLE_S, 0),
        (WORKERS + 1, USED, IDLE_S, 1),
        (WORKERS, USED + 1, IDLE_S + LATE_S + 1, 2),
        (0, 0, -5.0, 0),
    ],
)
def test_each_cap_is_held_to_its_number(most: int, uses: int, late_s: float, over: int) -> None:
    staff = Staff(served=Counter({1: uses}), most=most, quiet_s=100.0, last_s={1: 100.0 + late_s})
    found = exceeded(staff)
    assert found.value == over
    assert found.detail.count("exceeded") == over


def test_which_servers_have_workers_to_use_again() -> None:
    assert has_pool("composition:refmta")
    assert has_pool("composition:postfix")
    assert has_pool("server:postfix")
    assert not has_pool("composition:sendmailx")
    assert not has_pool("server:sendmail")


# -- rates, kills, trades -------------------------------------------------------------------------


def test_a_rate_is_a_median_beside_the_cost_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subjects.measures_speed.process_cost", lambda: "much")
    found = as_reading([1.0, 9.0, 5.0])
    assert found.value == 5
    assert found.detail == "/s, 20 clients, 3 rounds: 1 to 9; much"


def _result(hits: int = 3, **found: int) -> Result:
    account = Account(acknowledged=10)
    for name, count in found.items():
        account.findings += [Finding(name=name, text="x")] * count
    account.duplicates["killed between delivery and mark: mailbox"] = 2
    account.duplicates["sent again: no reply to its end"] = 5
    plan = Plan(messages=10, seconds=1, seed=1)
    return Result(target="t", plan=plan, account=account, hits=Counter({"qmgr": hits}))


def test_harm_is_what_was_promised_and_is_not_there_whole() -> None:
    assert counted(_result(), "harmed").value == 0
    assert counted(_result(lost=2, altered=1), "harmed").value == 3
    assert counted(_result(lost=1, duplicate=1), "harmed_or_doubled").value == 1 + 1 + 2


def test_kills_that_hit_nobody_prove_nothing() -> None:
    with pytest.raises(RuntimeError, match="nobody was killed"):
        counted(_result(hits=0), "harmed")
    stuck = _result()
    stuck.findings.append(Finding(name="unanswered", text="7 letters had no 250"))
    with pytest.raises(RuntimeError, match="7 letters"):
        counted(stuck, "harmed")


def test_the_knob_that_is_the_least_of_a_trade_decides() -> None:
    found = smallest({"uses": Side(2.0, 4.0, "a"), "jail": Side(0.5, 1.0, "b")}, "a process costs")
    assert found.value == 0.5
    assert found.detail == "uses: a; jail: b; a process costs"


def test_without_its_syncs_a_store_loses_more() -> None:
    store = stores_qmail_postfix.postfix_store()
    assert violations(Unsynced(store)) > violations(store)


@pytest.mark.parametrize("knob", [NO_SYNC, ALONE])
def test_what_a_knob_changes_is_there_once(knob: tuple[str, ...]) -> None:
    for at in range(0, len(knob), 3):
        file, old, _ = knob[at : at + 3]
        assert (ROOT / "refmta" / file).read_text(encoding="utf-8").count(old) == 1


# -- entry points ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(measures.MEASURES))
def test_a_part_that_a_measure_does_not_have_is_said(name: str) -> None:
    with pytest.raises(NotHere, match="'x' of this measure of server:postfix"):
        measures.MEASURES[name]("server:postfix", "x")


def test_without_root_nobody_is_traced_or_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name, part in {"processes": "", "roots": "all", "kills": "harmed", "rate": ""}.items():
        with pytest.raises(NotHere, match="root"):
            measures.MEASURES[name](measures.OURS, part)


# -- what patterns bring --------------------------------------------------------------------------

LESS, MORE = {"a": ("no",), "b": (), "c": ("no",)}, {"a": (), "b": (), "c": ("no", "nor that")}


def test_a_claim_is_gained_that_failed_and_holds() -> None:
    lacks = NotHere("a way to tell")
    assert gained(LESS, MORE) == ["a"]
    assert gained(MORE, LESS) == [] == gained(LESS, LESS)
    assert gained({"a": lacks}, MORE) == []
    assert gained(LESS, {"a": lacks, "b": (), "c": ()}) == ["c"]


def test_a_step_that_gains_no_claim_is_idle() -> None:
    found = idle([("One", LESS, MORE), ("None", MORE, MORE)])
    assert (found.value, found.detail) == (1, "claims gained: One: 1, None: 0")


def test_a_claim_that_holds_where_it_must_not_is_a_surprise() -> None:
    assert surprises(LESS, ["a", "c"]).value == 0
    assert surprises(MORE, ["a", "c"]).value == 1
    with pytest.raises(LookupError):
        surprises({"a": NotHere("a way to tell")}, ["a"])


def test_each_step_of_the_line_is_named_by_one_section() -> None:
    assert [each for row in SECTIONS.values() for each in row] == [each.pattern for each in STEPS]
