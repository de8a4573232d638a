"""Expected violations: what the rows say, and that each difference from them is heard of."""

import pytest

from specs.kernel.control import Control, Verdict, run_control
from specs.persistence.enumerate import INVARIANTS, examine
from specs.persistence.expected import (
    ExpectedError,
    compare,
    expected,
    read_expected,
    strangers,
)
from specs.persistence.models import MODELS, P1_ATOMIC, P3_ATOMIC, P3_SPLIT
from specs.persistence.references import CERTIFIED, POSTFIX, QMAIL, REFERENCES
from specs.persistence.workloads import ONE, REMAINS

ROW = """
[[expected]]
store = "postfix-like"
models = ["P3"]
invariants = ["acknowledged_present"]
reason = "no directory is synced"
"""


def findings(store, rows, models=(P3_ATOMIC,)):
    reports = [examine(store, model, each) for model in models for each in (ONE, REMAINS)]
    return [(each.kind, each.model, each.invariant) for each in compare(reports, rows)]


def test_a_row_stands_for_both_kinds_of_renames_and_each_invariant():
    rows = read_expected(ROW.replace('"P3"', '"P1 split", "P3"').replace(
        '["acknowledged_present"]', '["acknowledged_present", "nothing_left_over"]'))  # fmt: skip
    assert sorted(rows) == [
        ("postfix-like", model, invariant)
        for model in ("P1 split", "P3 atomic", "P3 split")
        for invariant in ("acknowledged_present", "nothing_left_over")
    ]
    assert set(rows.values()) == {"no directory is synced"}
    assert read_expected("") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[expected]", "line 1"),
        ("[[expect]]", "not expect"),
        (ROW.replace("reason", "because"), "row 1: it must have exactly"),
        (ROW.replace('"no directory is synced"', '" "'), "not empty"),
        (ROW.replace('"postfix-like"', "7"), "not empty"),
        (ROW.replace("P3", "P9"), "row 1: models: one or more of P0"),
        (ROW.replace('["P3"]', "[]"), "models"),
        (ROW.replace('["P3"]', '"P3"'), "models"),
        (ROW.replace("acknowledged_present", "acknowledged"), "row 1: invariants: one or more"),
        (ROW + ROW, "row 2: postfix-like, P3 atomic, acknowledged_present is expected already"),
    ],
)
def test_a_row_that_means_nothing_is_refused(text, says):
    with pytest.raises(ExpectedError) as caught:
        read_expected(text)
    assert says in str(caught.value)


def test_what_is_expected_and_comes_is_no_finding():
    assert findings(POSTFIX, read_expected(ROW), (P3_ATOMIC, P3_SPLIT)) == []


def test_a_missing_row_is_a_violation_by_name():
    assert findings(POSTFIX, {}) == [("violation", "P3 atomic", "acknowledged_present")]


def test_a_wrong_row_is_an_unexpected_pass_by_name():
    rows = read_expected(ROW.replace("P3", "P1"))
    assert findings(POSTFIX, rows, (P1_ATOMIC,)) == [
        ("unexpected pass", "P1 atomic", "acknowledged_present")
    ]
    [finding] = compare([examine(POSTFIX, P1_ATOMIC, ONE)], rows)
    assert str(finding) == (
        "postfix-like, P1 atomic: unexpected pass of acknowledged_present:"
        " it was expected, because: no directory is synced"
    )


def test_one_workload_that_violates_it_is_enough():
    reports = [examine(store, P3_ATOMIC, ONE) for store in (CERTIFIED, POSTFIX)]
    mixed = [
        type(each)(**{
            **{name: getattr(each, name) for name in each.__dataclass_fields__},
            "store": "postfix-like",
        })
        for each in reports
    ]  # fmt: skip
    assert compare(mixed, read_expected(ROW)) == []


def test_rows_of_a_store_that_nobody_knows():
    assert strangers(["certified"], read_expected(ROW)) == ["postfix-like"]
    assert strangers(["postfix-like"], read_expected(ROW)) == []


def test_the_rows_that_there_are():
    rows = expected()
    for store in REFERENCES:
        mine = {key: reason for key, reason in rows.items() if key[0] == store.name}
        assert findings(store, mine, MODELS) == []
    clean = {"chunks", "maildir", "mbox", "sendmailx_ibdb", CERTIFIED.name}
    assert not {store for store, _, _ in rows} & clean
    assert {invariant for _, _, invariant in rows} <= set(INVARIANTS)
    assert {model for store, model, _ in rows if store == "postfix_modebit"} == {
        "P3 atomic", "P3 split",
    }  # fmt: skip


# -- controls -------------------------------------------------------------------------------------


def verdict(store, rows, *, ran=False):
    found = findings(store, rows)
    return Verdict(violated=frozenset(kind for kind, _, _ in found), mutated_line_ran=ran)


@pytest.mark.parametrize(
    ("named", "store", "rows"),
    [
        ("violation", QMAIL, read_expected(ROW)),
        ("unexpected pass", CERTIFIED, read_expected(ROW.replace("postfix-like", "certified"))),
    ],
)
def test_control(named, store, rows):
    control = Control(
        name=named,
        spec="persistence/expected",
        invariant=named,
        twin=lambda: verdict(POSTFIX, read_expected(ROW)),
        mutant=lambda: verdict(store, rows, ran=True),
    )
    result = run_control(control)
    assert result.counts, result.reason
