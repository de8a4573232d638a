"""refmta-spec crash-table: what it counts, how it says it, its exit codes, and its controls."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from specs.command import main
from specs.kernel.control import Control, Verdict, run_control
from specs.persistence import command, table
from specs.persistence.expected import ExpectedError, read_expected
from specs.persistence.models import MODELS, P1_ATOMIC, P3_ATOMIC
from specs.persistence.references import CERTIFIED, MAILBOAT, POSTFIX, QMAIL

ROWS = """
[[expected]]
store = "postfix-like"
models = ["P3"]
invariants = ["acknowledged_present"]
reason = "no directory is synced"
"""


@pytest.fixture
def few(monkeypatch):
    """Two protocols, and rows for them."""
    found = {"stores": (CERTIFIED, POSTFIX), "unavailable": (), "rows": ROWS}
    monkeypatch.setattr(
        table,
        "protocols",
        lambda: table.Protocols(stores=found["stores"], unavailable=found["unavailable"]),
    )
    monkeypatch.setattr(command, "expected", lambda: read_expected(found["rows"]))
    return found


def run(*arguments):
    result = CliRunner().invoke(main, ["crash-table", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_line_for_each_protocol_and_model(few):
    code, out, _ = run()
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "protocol | model | states | lost | torn | left over | recovery | verdict"
    assert len([line for line in lines if line.count(" | ") == 7]) == 1 + 2 * len(MODELS)
    assert "postfix-like | P3 atomic | 490 | 4 | - | - | - | as expected" in lines
    assert "expected of postfix-like: no directory is synced" in lines
    assert all(" | clean" in line for line in lines if line.startswith("certified"))
    assert lines[-1].endswith("0 finding(s)")


def test_json(few):
    code, out, _ = run("--json", "postfix-like")
    assert code == 0
    report = json.loads(out)
    assert report["findings"] == []
    assert [row["model"] for row in report["rows"]] == [str(model) for model in MODELS]
    last = report["rows"][-1]
    assert last["lost"] == 4 and last["left_over"] == 0 and last["exhaustive"]
    assert (last["verdict"], last["reasons"]) == ("as expected", ["no directory is synced"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": ""}, "finding: postfix-like, P3 atomic: violation of acknowledged_present"),
        (
            {"rows": ROWS.replace('"P3"', '"P1", "P3"')},
            "finding: postfix-like, P1 split: unexpected pass of acknowledged_present",
        ),
        (
            {"rows": ROWS + ROWS.replace("postfix", "sendmail")},
            "finding: sendmail-like: expected violations of a store that nobody knows",
        ),
        ({"unavailable": ("group x: RuntimeError: y",)}, "finding: group x: RuntimeError: y"),
    ],
)
def test_what_is_not_as_expected_is_exit_1(few, change, says):
    few.update(change)
    code, out, _ = run()
    assert code == 1
    assert says in out
    assert not out.splitlines()[-1].endswith(" 0 finding(s)")


def test_only_what_is_named_runs(few):
    code, out, _ = run("certified")
    assert code == 0
    assert "postfix-like" not in out


def test_wrong_usage_is_exit_2(few, monkeypatch):
    code, out, err = run("exim")
    assert (code, out) == (2, "")
    assert "no such protocol: exim (there are: certified, postfix-like)" in err

    def broken():
        raise ExpectedError("row 7")

    monkeypatch.setattr(command, "expected", broken)
    assert run() == (2, "", "the expected violations: row 7\n")


def test_a_registered_store_that_cannot_be_made_is_a_finding(monkeypatch):
    def make(group, name):
        raise RuntimeError("no such table")

    monkeypatch.setattr(table.registered, "names", lambda group: ("broken",))
    monkeypatch.setattr(table.registered, "make", make)
    found = table.protocols()
    assert found.unavailable == ("refmta.specs.stores broken: RuntimeError: no such table",)
    assert CERTIFIED.name in found.names


def test_names_are_unique():
    """A name is what a row of expected.toml, and an argument, means."""
    found = table.protocols().names
    assert len(found) == len(set(found))


def test_the_columns_count_every_invariant_once():
    counted = [name for names in table.COLUMNS.values() for name in names]
    assert sorted(counted) == sorted(set(counted)) == sorted(table.INVARIANTS)


def test_torn_mail_is_told_from_lost_mail():
    [row] = table.rows([MAILBOAT], {}, models=[P1_ATOMIC])
    assert row.counts["lost"] and row.counts["torn"]
    [row] = table.rows([QMAIL], {}, models=[P1_ATOMIC])
    assert row.counts["lost"] and not row.counts["torn"]


# -- controls: a mutant of a protocol, and of the rows --------------------------------------------


def verdict(store, rows, *, ran=False):
    made = list(table.rows([store], rows, models=[P1_ATOMIC, P3_ATOMIC]))
    names = [f"{each.kind} of {each.invariant}" for row in made for each in row.findings]
    return Verdict(violated=frozenset(names), mutated_line_ran=ran)


def without_sync(message):
    return [op for op in POSTFIX.plan([message]) if op.kind != "sync"]


def with_directory_sync(message):
    plan = POSTFIX.plan([message])
    synced = next(number for number, op in enumerate(plan) if op.kind == "sync")
    more = replace(plan[synced], kind="sync_dir", path="incoming")
    return [*plan[: synced + 1], more, *plan[-2:-1]]


KNOWN = read_expected(ROWS)


@pytest.mark.parametrize(
    ("named", "store", "rows"),
    [
        ("violation of acknowledged_present", POSTFIX, {}),
        ("violation of acknowledged_present", replace(POSTFIX, one=without_sync), KNOWN),
        (
            "unexpected pass of acknowledged_present",
            replace(POSTFIX, one=with_directory_sync),
            KNOWN,
        ),
    ],
    ids=["a missing row", "a worse protocol", "a better protocol"],
)
def test_control(named, store, rows):
    control = Control(
        name=named,
        spec="persistence/table",
        invariant=named,
        twin=lambda: verdict(POSTFIX, KNOWN),
        mutant=lambda: verdict(store, rows, ran=True),
    )
    result = run_control(control)
    assert result.counts, result.reason
