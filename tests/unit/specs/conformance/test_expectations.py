"""Known failures: read, refused when wrong, judged, written."""

from __future__ import annotations

import pytest
from unit.specs.conformance.made import FAIL, NON_STRICT, PASS, result

from specs.conformance.expectations import ExpectationError, judge, read, written
from specs.conformance.model import Verdict

ID = "5321-4.1.1.10-quit"
GOOD = f'[[expect]]\ncase = "{ID}"\nreason = "issue 42"\n'


def expected(tmp_path, text=GOOD):
    file = tmp_path / "known.toml"
    file.write_text(text)
    return read(file, [ID])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "nothing else"),
        ("expect = 1", "nothing else"),
        ("[[expect]\n", "known.toml"),
        ('[[expect]]\ncase = "5321-9-none"\nreason = "x"', "there is no case '5321-9-none'"),
        (f'[[expect]]\ncase = "{ID}"', "has no reason"),
        (f'[[expect]]\ncase = "{ID}"\nreason = " "', "has no reason"),
        (f'[[expect]]\ncase = "{ID}"\nreason = 1', "texts"),
        (f'[[expect]]\ncase = "{ID}"\nreason = "x"\nverdict = "pass"', "is none of"),
        (f'[[expect]]\ncase = "{ID}"\nreason = "x"\nother = "y"', "nothing else"),
        (GOOD + GOOD, "twice"),
    ],
)
def test_a_wrong_file_is_refused_by_its_place(tmp_path, text, says):
    with pytest.raises(ExpectationError, match=says) as caught:
        expected(tmp_path, text)
    assert "known.toml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ExpectationError, match=r"none\.toml"):
        read(tmp_path / "none.toml", [ID])


@pytest.mark.parametrize(
    ("verdict", "strict", "fine"),
    [
        (FAIL, False, True), (Verdict.ERROR, False, False), (PASS, False, False),
        (NON_STRICT, False, False), (NON_STRICT, True, False),
        (Verdict.NOT_APPLICABLE, False, True),
    ],
)  # fmt: skip
def test_an_expected_failure(tmp_path, verdict, strict, fine):
    judged = judge([result(verdict=verdict)], expected(tmp_path), strict=strict)
    assert judged.fine is fine


@pytest.mark.parametrize(
    ("verdict", "strict", "fine"),
    [
        (FAIL, False, False), (Verdict.ERROR, False, False), (PASS, True, True),
        (NON_STRICT, False, True), (NON_STRICT, True, False), (Verdict.INFO, True, True),
    ],
)  # fmt: skip
def test_what_nobody_expects(verdict, strict, fine):
    assert judge([result(verdict=verdict)], {}, strict=strict).fine is fine


@pytest.mark.parametrize(
    ("verdict", "strict", "fine"),
    [
        (Verdict.UNAVAILABLE, False, False), (Verdict.NOT_APPLICABLE, True, True),
        (Verdict.INFO, False, True),
    ],
)  # fmt: skip
def test_nothing_tried_is_not_fine(verdict, strict, fine):
    assert judge([result(verdict=verdict)], {}, strict=strict).fine is fine


@pytest.mark.parametrize(
    ("verdict", "kept"),
    [(FAIL, True), (PASS, False), (Verdict.UNAVAILABLE, True), (Verdict.ERROR, False)],
)
def test_reasons_that_are_known_stay_when_the_file_is_written_anew(tmp_path, verdict, kept):
    text = written([result(verdict=verdict, saw="x")], expected(tmp_path))
    assert ('reason = "issue 42"' in text) is kept
    assert ("not explained yet" in text) is (verdict is Verdict.ERROR)


def test_an_entry_of_a_case_that_was_not_chosen_stays(tmp_path):
    assert read_again(tmp_path, written([], expected(tmp_path))) == expected(tmp_path)


def read_again(tmp_path, text):
    return expected(tmp_path, text)


def test_what_is_written_is_read_and_expected(tmp_path):
    results = [result(verdict=FAIL, saw='500 "q\\uote"\n\x7f\xe9')]
    known = expected(tmp_path, written(results))
    assert judge(results, known).fine and not judge(results, {}).fine
