"""Every compartment has a budget, and keeps it if it does one job; measured by running its entry
point.

(The same numbers, of what runs: `refmta-spec matrix`.  Controls: tests/unit/specs.)
"""

from __future__ import annotations

from itertools import chain

import pytest

from refmta.architectures.catalogue import ARCHITECTURES
from refmta.patterns.small_modules import BUDGETS, PRIVILEGED, budget
from specs.patterns.small_modules import measure
from subjects.architecture_manifest import budgets
from subjects.modules import NotLoaded, loaded

OURS = (PRIVILEGED, *(row.name for row in ARCHITECTURES["refmta"].rows))
#: Of the other architectures those that do several jobs, and those whose job refmta has not.
THEIRS = (
    ("sendmail", "runner"), ("qmail", "smtpd"), ("qmail", "queue"), ("qmail", "send"),
    ("qmail", "clean"), ("sendmailx", "smtps"), ("sendmailx", "qmgr"), ("sendmailx", "smtpc"),
    ("sendmailx", "local"),
)  # fmt: skip
#: Those that exceed it, in lines of ours.
SEVERAL_JOBS = {
    ("sendmail", "runner"), ("qmail", "smtpd"), ("qmail", "send"), ("sendmailx", "smtps"),
}  # fmt: skip


def test_each_role_has_a_budget_and_no_other():
    rows = chain.from_iterable(each.rows for each in ARCHITECTURES.values())
    roles = {role for row in rows for role in row.roles}
    assert {PRIVILEGED, "supervisor", *roles} == set(BUDGETS)


@pytest.mark.parametrize(("architecture", "name"), [*(("refmta", name) for name in OURS), *THEIRS])
def test_who_does_one_job_keeps_its_budget(architecture, name):
    allowed = budgets(ARCHITECTURES[architecture])[name]
    found = measure(loaded(name, architecture))
    assert (found.own_lines > allowed.own_lines) == ((architecture, name) in SEVERAL_JOBS)
    assert found.own_lines > allowed.own_lines // 2, "a budget that says nothing"
    if (architecture, name) not in SEVERAL_JOBS:
        assert found.lines <= allowed.lines
        assert found.modules <= allowed.modules


def test_two_jobs_get_the_room_of_one():
    plain = {"pooled": False, "store": "chunks", "mailbox": "maildir", "carriers": ["frames"]}
    assert budget(["enqueue", "qmgr"], **plain) == budget(["qmgr"], **plain) == BUDGETS["qmgr"]


def test_what_an_architecture_asks_comes_on_top():
    plain = {"pooled": False, "store": "chunks", "mailbox": "maildir", "carriers": ["frames"]}
    for role, more in (
        ("enqueue", {"store": "qmail_todo"}),
        ("enqueue", {"pooled": True}),
        ("enqueue", {"carriers": ["frames", "qmail", "qmail"]}),
        ("local", {"mailbox": "mbox"}),
    ):
        wider = budget([role], **{**plain, **more})
        assert wider.own_lines > BUDGETS[role].own_lines
        assert wider.modules > BUDGETS[role].modules
    assert budget(["smtpd"], **{**plain, "store": "qmail_todo"}) == BUDGETS["smtpd"]


def test_the_privileged_code_is_the_spawner_and_the_children_it_has():
    own = {each.name for each in loaded(PRIVILEGED, "refmta") if each.own}
    assert own >= {"refmta.processes.spawner", "refmta.processes.children"}
    for each in own:
        inside = each.startswith(("refmta.processes", "refmta.patterns"))
        assert inside or each in ("refmta", "refmta.stores", "refmta.stores.recipients"), each


def test_a_process_loads_its_own_architecture_and_no_other():
    names = {each.name for each in loaded("clean", "qmail")}
    others = {f"refmta.architectures.{e}" for e in (*ARCHITECTURES, "evolution", "catalogue")}
    assert names & others == {"refmta.architectures.qmail"}


def test_the_parts_of_a_pool_are_one_program():
    assert loaded("smtpd worker", "refmta") == loaded("smtpd", "refmta")


def test_an_entry_point_that_does_not_come_to_its_own_code_is_no_measure():
    with pytest.raises(NotLoaded, match="did not load"):
        loaded("nobody", "refmta")
