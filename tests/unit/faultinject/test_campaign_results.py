"""Results that survive: torn lines, a second owner, strangers; and what they come to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faultinject import cases
from faultinject.campaign import records as r
from faultinject.campaign.results import FILE, Results, ResultsError, read
from faultinject.campaign.summary import as_json, summarised
from faultinject.cases import VERSION, Case, CaseError, Outcome
from faultinject.ledger import Finding

CASE = Case(harness="toys", target="buggy", seed=3, settings={"faults": [3, 7]})
FOUND = Outcome(
    case=CASE, verdict="found", findings=(Finding(name="lost", text="m1"),), counts={"points": 7},
    evidence={"log": "..."}, seconds=1.5,
)  # fmt: skip
FIRST = r.Campaign(
    seed=3, targets=("buggy", "sound"), harnesses=("toys",),
    known={"sound": {"toys": {"lost": "why"}}}, began="now",
)  # fmt: skip
RECORDS = [
    FIRST,
    r.Ran(outcome=FOUND, at_s=2.0, where="here", lost=1),
    r.Ran(outcome=FOUND, of=CASE.key, again=1, at_s=3.0),
    r.Smallest(case=CASE, finding="lost", of=CASE.key, tries=4, ending="minimal", file="f.json"),
    r.Closed(target="sound", harness="toys", why="unavailable", reason="no root", at_s=9.0),
]


# -- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", RECORDS, ids=lambda each: type(each).__name__)
def test_a_record_is_a_line_and_comes_back(record):
    line = r.encode(record)
    assert b"\n" not in line and b"\r" not in line
    assert r.decode(line) == record


@given(st.text(st.characters(codec=None), max_size=50), st.text(max_size=20))
def test_any_text_comes_back_as_text(text, name):
    outcome = replace(FOUND, evidence={name: text}, reason=text)
    again = r.decode_outcome(r.encode_outcome(outcome))
    assert again.reason == text.encode("utf-8", "backslashreplace").decode()
    assert b"\n" not in r.encode(r.Ran(outcome=again))


def test_evidence_is_cut_at_its_beginning():
    outcome = r.bounded(replace(FOUND, evidence={"log": "a" * 10**6 + "end"}))
    assert outcome.evidence["log"].endswith("aend") and outcome.evidence["log"].startswith(r.CUT)
    many = r.bounded(replace(FOUND, findings=FOUND.findings * 1000))
    assert len(many.findings) == r.MOST_FINDINGS


@pytest.mark.parametrize(
    ("line", "said"),
    [(b"{}", "type"), (b"[", "object"), (b"\xff", "malformed"), (b'{"type":"campaign"}', "seed")],
)
def test_what_is_no_record_is_refused(line, said):
    with pytest.raises(r.RecordError, match=f"(?i){said}"):
        r.decode(line)


def test_records_of_another_version_are_refused():
    document = json.loads(r.encode(FIRST)) | {"version": 99}
    with pytest.raises(r.RecordError, match="of version 99, not 1"):
        r.decode(json.dumps(document).encode())


# -- case files -----------------------------------------------------------------------------------


def test_a_case_file_comes_back():
    assert cases.decode(cases.encode(CASE), "f") == CASE


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b'{"version": 2, "what": "is new"}', "of version 2, not 1"),
        (b'{"harness": "x", "target": "y"}', "without a version"),
        (b'{"version": 1, "harness": "x"}', "target"),
        (b'{"version": 1, "harness": "x", "target": "y", "sed": 1}', "sed"),
        (b"", "truncated"),
        (b"\xff\xfe", "malformed|text|utf"),
        (b'"' + b"x" * (1 << 20) + b'"', "longer than"),
        (b'{"version": "1"}', "int"),
    ],
)
def test_a_wrong_case_file_is_named_with_what_is_wrong(octets, said):
    with pytest.raises(CaseError, match=f"^file.json: .*({said})"):
        cases.decode(octets, "file.json")
    assert VERSION == 1


# -- the directory --------------------------------------------------------------------------------


def fill(directory):
    with Results(directory) as results:
        for each in RECORDS:
            results.add(each)
    return directory / FILE


def test_what_was_added_is_there(tmp_path):
    fill(tmp_path / "a" / "b")
    assert read(tmp_path / "a" / "b") == RECORDS
    with Results(tmp_path / "a" / "b") as again:
        assert again.records == RECORDS


def test_a_torn_line_is_cut_off_wherever_it_was_torn(tmp_path):
    file = fill(tmp_path)
    whole = file.read_bytes()
    ends = [n + 1 for n, octet in enumerate(whole) if octet == 10]
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        kept = sum(end <= length for end in ends)
        assert read(tmp_path) == RECORDS[:kept]
        with Results(tmp_path) as results:
            assert results.records == RECORDS[:kept]
            results.add(RECORDS[-1 if kept else 0])
        assert read(tmp_path) == [*RECORDS[:kept], RECORDS[-1 if kept else 0]]


def test_a_wrong_line_before_the_last_is_named_and_nothing_is_changed(tmp_path):
    file = fill(tmp_path)
    wrong = file.read_bytes().replace(b'"why":"unavailable"', b'"why":"tired"') + b"torn"
    file.write_bytes(wrong)
    with pytest.raises(ResultsError, match=rf"{FILE}:5: .*tired"), Results(tmp_path):
        pass
    assert file.read_bytes() == wrong
    with pytest.raises(ResultsError):  # and nobody holds its lock
        Results(tmp_path).__enter__()


def test_two_campaigns_do_not_share_a_directory(tmp_path):
    with Results(tmp_path) as one:
        with pytest.raises(ResultsError, match="another campaign runs there"), Results(tmp_path):
            pass
        one.add(FIRST)
    with Results(tmp_path) as two:
        assert two.records == [FIRST]


def test_a_directory_with_other_things_is_somebody_elses(tmp_path):
    (tmp_path / "thesis.txt").write_text("...")
    with pytest.raises(ResultsError, match="not empty"), Results(tmp_path):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_a_directory_is_named(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(ResultsError, match="f: "), Results(tmp_path / "f"):
        pass


def test_a_file_beside_is_replaced_at_once(tmp_path):
    with Results(tmp_path) as results:
        assert results.write("cases/a.json", b"1") == results.write("cases/a.json", b"2")
    assert [each.read_bytes() for each in (tmp_path / "cases").iterdir()] == [b"2"]


# -- what they come to ----------------------------------------------------------------------------


def test_the_summary_counts_what_was_planned_and_not_what_shrank_it():
    summary = summarised(RECORDS)
    cell = summary.cells["buggy", "toys"]
    assert (cell.state, dict(cell.findings), dict(cell.counts)) == (
        "found",
        {"lost": 1},
        {"points": 7},
    )
    assert (summary.shrinking, summary.lost, summary.clock_s) == (1, 1, 9.0)
    assert cell.trials == "7 points"
    assert as_json(summary)["cells"][0]["smallest"][0]["file"] == "f.json"


def ran(verdict, target="sound", seed=0, findings=()):
    case = replace_case(target, seed)
    return r.Ran(outcome=Outcome(case=case, verdict=verdict, findings=findings, reason="because"))


def replace_case(target, seed):
    return Case(harness="toys", target=target, seed=seed)


LOST = (Finding(name="lost", text="m"),)


@pytest.mark.parametrize(
    ("runs", "state"),
    [
        ([], "not run"),
        ([ran("held")], "held"),
        ([ran("held", findings=LOST)], "known"),
        ([ran("found", findings=LOST)], "known"),  # the target is known for it
        ([ran("found", findings=(Finding(name="altered", text="m"),))], "found"),
        ([ran("unavailable")], "unavailable"),
        ([ran("held"), ran("broken", seed=1)], "broken"),
        ([ran("broken"), ran("held")], "held"),  # the same case, run again
        ([ran("held"), ran("unavailable", seed=1)], "held"),
    ],
)
def test_the_state_of_a_cell_is_the_worst_that_it_has(runs, state):
    assert summarised([FIRST, *runs]).cells["sound", "toys"].state == state


def test_a_plan_that_failed_is_no_green_cell():
    closed = r.Closed(target="sound", harness="toys", why="broken", reason="its plan: OSError")
    cell = summarised([FIRST, ran("held"), closed]).cells["sound", "toys"]
    assert (cell.state, cell.reason) == ("broken", "its plan: OSError")
    complete = r.Closed(target="sound", harness="toys", why="complete")
    cell = summarised([FIRST, ran("held"), closed, complete]).cells["sound", "toys"]
    assert (cell.state, cell.reason) == ("held", "")


def test_a_case_that_had_nothing_to_try_is_no_verdict():
    def with_hits(hits, seed):
        case = replace_case("sound", seed)
        counts = {"points": hits, "hit": hits, "messages": 3}
        return r.Ran(outcome=Outcome(case=case, verdict="held", counts=counts))

    assert summarised([FIRST, with_hits(0, 1)]).cells["sound", "toys"].state == "not run"
    cell = summarised([FIRST, with_hits(0, 1), with_hits(2, 2)]).cells["sound", "toys"]
    assert (cell.state, cell.trials, cell.messages) == ("held", "2 kills at a call", 6)


def test_what_the_end_has_cut_off_is_said_until_it_was_run():
    cut = r.Cut(case=replace_case("sound", 7), after_s=12.3)
    ended = r.Ended(
        why="the budget is spent", budget_s=60, cut=(cut,), unfinished=(("buggy", "toys"),)
    )
    summary = summarised([FIRST, ran("held"), ended])
    assert "one cut off after 12 s" in summary.cells["sound", "toys"].reach
    cells = {each["target"]: each for each in as_json(summary)["cells"]}
    assert json.loads(cells["sound"]["cut_off"][0])["seed"] == 7
    assert cells["buggy"]["unfinished"] and not cells["sound"]["unfinished"]
    again = summarised([FIRST, ran("held"), ended, ran("held", seed=7), r.Ended(why="complete")])
    assert "cut off" not in again.cells["sound", "toys"].reach


def test_exhaustive_is_only_what_says_so():
    first = r.Campaign(
        seed=1, targets=("sound",), harnesses=("toys",), planned={"sound": {"toys": 2}}
    )
    cell = summarised([first, ran("held")]).cells["sound", "toys"]
    assert cell.reach == "1 of 2 cases"
    cell = summarised([first, ran("held"), ran("held", seed=1)]).cells["sound", "toys"]
    assert cell.reach == "2 of 2 cases, all that are planned"
    sample = Case(harness="toys", target="sound", settings={"sample": 3})
    both = [ran("held"), r.Ran(outcome=Outcome(case=sample, verdict="held"))]
    assert summarised([first, *both]).cells["sound", "toys"].reach == (
        "2 of 2 cases, 1 of them samples"
    )


def test_without_records_there_is_no_summary():
    with pytest.raises(ValueError, match="no records"):
        summarised([])
