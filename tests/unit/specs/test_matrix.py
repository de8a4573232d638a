"""The matrix: what is expected is read strictly, and an unexpected pass is no better than an
unexpected failure.
"""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from refmta.architectures.catalogue import ARCHITECTURES, find
from specs.command import main
from specs.matrix import command
from specs.matrix.expected import ExpectationError, Expected, load, match
from specs.matrix.judge import judge
from specs.patterns import claims as registry
from specs.patterns import target as targets
from specs.patterns.claims import Claim
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Failed, Observation, Unavailable
from specs.patterns.target import NoSuchArchitecture, TargetError

# -- expectations ---------------------------------------------------------------------------------

ROW = '[[claim]]\nname = "a.b"\nexpected = "holds"\nreason = "because"\n'


def loaded(directory, text):
    (directory / "some.toml").write_text(text)
    return load("some", "some", directory)


def test_rows(tmp_path):
    assert loaded(tmp_path, ROW) == {"a.b": Expected("holds", "because")}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (ROW.replace("holds", "perhaps"), "a.b: expected"),
        (ROW.replace("because", " "), "a reason"),
        (ROW.replace('name = "a.b"\n', ""), "a row without a name"),
        (ROW.replace("name", "nome"), "unknown key: nome"),
        (ROW + ROW, "a.b: twice"),
        ("[other]\n" + ROW, "unknown key: other"),
        (ROW + 'fails_without = "landlock"\n', "a reason"),
        (ROW + 'fails_without = {landlock = ""}\n', "a reason"),
        ("[[claim]", "not TOML"),
    ],
)
def test_a_wrong_table_is_named(tmp_path, text, complaint):
    with pytest.raises(ExpectationError, match=complaint):
        loaded(tmp_path, text)


def test_no_table(tmp_path):
    with pytest.raises(ExpectationError, match="No such file"):
        load("none", "none", tmp_path)


def test_a_layer_that_is_missing():
    row = Expected("holds", "because", {"landlock": "nothing else"})
    assert row.among(("landlock", "seccomp")) == row
    assert row.among(("seccomp",)) == Expected("fails", "without landlock: nothing else")


def test_each_claim_its_row_and_each_row_its_claim():
    match(["a.b"], ["a.b"])
    with pytest.raises(ExpectationError, match=r"no row for the claim a\.c"):
        match(["a.b", "a.c"], ["a.b"])
    with pytest.raises(ExpectationError, match=r"no claim for the row a\.d"):
        match(["a.b"], ["a.b", "a.d"])


DIFFERENCES = {
    "other": ROW.replace("holds", "fails").replace("because", "it lacks it"),
    "other-less": ROW.replace("because", "for another reason"),
    "third": 'like = "other"\n' + ROW.replace("a.b", "a.c").replace("because", "of itself"),
}


def in_another(directory, architecture, **differences):
    (directory / "some.toml").write_text(ROW + ROW.replace("a.b", "a.c"))
    (directory / "some").mkdir()
    for name, text in {**DIFFERENCES, **differences}.items():
        (directory / "some" / f"{name}.toml").write_text(text)
    return load("some", architecture, directory)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("some", Expected("holds", "because")),
        ("some-landlock", Expected("holds", "because")),
        ("other", Expected("fails", "it lacks it")),
        ("other-landlock", Expected("fails", "it lacks it")),
        ("other-less", Expected("holds", "for another reason")),
        ("other-less-jail", Expected("holds", "for another reason")),
    ],
)
def test_what_differs_in_another_architecture(tmp_path, architecture, expected):
    assert in_another(tmp_path, architecture) == {
        "a.b": expected,
        "a.c": Expected("holds", "because"),
    }


@pytest.mark.parametrize(
    ("architecture", "text", "complaint"),
    [
        ("nonesuch", "", "nothing is expected of some:nonesuch, but of: some, other"),
        ("other", ROW, "a.b: says what is said of some"),
        ("third", 'like = "other"\n' + DIFFERENCES["other"], "says what is said of other"),
        ("third", 'like = "nobody"\n', "nothing is expected of some:nobody"),
        ("other", ROW.replace("a.b", "a.d"), "a.d: some.toml has no such row"),
    ],
)
def test_a_difference_that_is_none_is_named(tmp_path, architecture, text, complaint):
    with pytest.raises(ExpectationError, match=complaint):
        in_another(tmp_path, architecture, **({architecture: text} if text else {}))


def test_what_differs_from_another_that_differs(tmp_path):
    assert in_another(tmp_path, "third") == {
        "a.b": Expected("fails", "it lacks it"),
        "a.c": Expected("holds", "of itself"),
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_tables_that_are_there(architecture):
    """All claims have rows, and all rows claims."""
    match([each.key for each in registry.claims()], load("refmta", architecture))


def test_each_architecture_fails_what_it_is_known_for():
    """The paper's point, as the tables have it: each pattern is lacking somewhere, and refmta
    lacks none that another has."""
    fails = {
        architecture: {
            name
            for name, row in load("refmta", architecture).items()
            if row.among(find(architecture).layers).verdict == "fails"
        }
        for architecture in ARCHITECTURES
    }
    assert "distributed_delegation.any_mail_takes_two" in fails["sendmail"]
    assert "chroot_jail.root_is_the_jail" in fails["qmail"]
    assert "compartmentalization.each_is_its_own_user" in fails["postfix"]
    assert "secure_preforking.used_up_it_captures_nothing" in fails["postfix"]
    assert "chroot_jail.root_is_the_jail" in fails["postfix-unjailed"] - fails["postfix"]
    assert "secure_preforking.within_max_workers" in fails["sendmailx"]
    assert fails["refmta"] == {"least_privilege.a_seized_spawner_gains_little"}
    assert all(fails["refmta"] < each for name, each in fails.items() if name != "refmta")


# -- verdicts -------------------------------------------------------------------------------------

NOTHING = Observation(
    manifest=Manifest(architecture="some", layers=("users",), compartments=()), instants=()
)


def unavailable(_):
    raise Unavailable("no such kernel")


def broken(_):
    raise ValueError("oops")


@pytest.mark.parametrize(
    ("predicate", "expected", "verdict", "as_expected"),
    [
        (lambda _: (), "holds", "holds", True),
        (lambda _: ("x",), "fails", "fails", True),
        (lambda _: ("x",), "holds", "fails", False),
        (lambda _: (), "fails", "holds", False),
        (unavailable, "holds", "unavailable", False),
        (unavailable, "fails", "unavailable", False),
        (broken, "holds", "broken", False),
        (broken, "fails", "broken", False),
    ],
)
def test_verdicts(predicate, expected, verdict, as_expected):
    claim = Claim("a", "b", "A holds.", predicate)
    (found,) = judge(NOTHING, [claim], {"a.b": Expected(expected, "because")})
    assert (found.verdict, found.as_expected) == (verdict, as_expected)
    assert bool(found.counterexamples) == (verdict != "holds")


def test_results_of_experiments():
    observation = Observation(
        manifest=NOTHING.manifest,
        instants=(),
        results={"good": 7, "gone": Unavailable("no"), "bad": Failed("oops")},
    )
    assert observation.result("good", int) == 7
    with pytest.raises(Unavailable):
        observation.result("gone", int)
    for name in ("bad", "never made", "good"):
        with pytest.raises(RuntimeError, match=name):
            observation.result(name, str)


# -- the registry ---------------------------------------------------------------------------------


def test_every_claim_is_a_sentence_of_its_pattern():
    for each in registry.claims():
        assert each.pattern in registry.patterns()
        assert len(each.text) > 20
        assert each.name.replace("_", "").isalnum()
        assert each.name.islower()


def test_experiments_have_names_of_their_own_and_what_destroys_comes_last():
    found = registry.experiments()
    assert len({each.name for each in found}) == len(found)
    assert sorted(found, key=lambda each: each.destructive) == list(found)


def test_a_claim_in_another_patterns_module(monkeypatch):
    module = type("Module", (), {"CLAIMS": (Claim("other", "b", "B.", lambda _: ()),)})
    monkeypatch.setattr(registry, "_modules", lambda _only=(): [("this", module)])
    with pytest.raises(ValueError, match=r"other\.b"):
        registry.claims()


# -- the command ----------------------------------------------------------------------------------


class Known:
    """A target that is there, or says why not."""

    def __init__(self, missing=None):
        self.missing = missing

    def unavailable(self):
        return self.missing


@pytest.fixture
def run(monkeypatch):
    """`run(arguments, observed, claims)`: what is printed, and the exit code."""

    def go(*arguments, observed=NOTHING, claims=(), missing=None):
        def gather(*_):
            if isinstance(observed, Exception):
                raise observed
            return observed

        rows = {each.key: Expected("holds", "because") for each in claims}
        monkeypatch.setattr(targets, "names", lambda: ("some",))
        monkeypatch.setattr(targets, "load", lambda _: Known(missing))
        monkeypatch.setattr(command, "load", lambda *_: rows)
        monkeypatch.setattr(command, "gather", gather)
        monkeypatch.setattr(registry, "claims", lambda _=(): tuple(claims))
        return CliRunner().invoke(main, ["matrix", *arguments])

    return go


GOOD = Claim("a", "good", "Good.", lambda _: ())
BAD = Claim("a", "bad", "Bad.", lambda _: ("one", "two", "three", "four"))
TARGET = ("--target", "some:arch")


def test_exit_codes(run):
    assert run(*TARGET, claims=[GOOD]).exit_code == 0
    assert run(*TARGET, claims=[GOOD, BAD]).exit_code == 1
    assert run(claims=[GOOD]).exit_code == 2
    assert run("--target", "some", claims=[GOOD]).exit_code == 2
    assert run("--target", "other:arch", claims=[GOOD]).exit_code == 2
    assert run(*TARGET, "--only", "nothing", claims=[GOOD]).exit_code == 2
    assert run(*TARGET, observed=NoSuchArchitecture("x"), claims=[GOOD]).exit_code == 2
    assert run(*TARGET, observed=TargetError("x"), claims=[GOOD]).exit_code == 3
    assert run(*TARGET, observed=Unavailable("x"), claims=[GOOD]).exit_code == 3
    assert run(*TARGET, missing="root", claims=[GOOD]).exit_code == 3


def test_what_is_said(run):
    said = run(*TARGET, claims=[GOOD, BAD]).output
    assert "a.good | holds | holds | because" in said
    assert "a.bad | FAILS (not expected) | holds | because" in said
    assert "a.bad: one" in said
    assert "four" not in said
    assert "and 1 more" in said
    assert "2 claim(s), 1 not as expected" in said


def test_json(run):
    report = json.loads(run(*TARGET, "--json", claims=[GOOD, BAD]).stdout)
    assert report["as_expected"] is False
    assert report["architecture"] == "arch"
    assert report["claims"][1]["counterexamples"] == ["one", "two", "three", "four"]


def test_list(run):
    assert "a.good: Good." in run("--list", claims=[GOOD]).output
