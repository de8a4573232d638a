"""The ledger of claims: what it refuses, how numbers become verdicts, and what the command says."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from specs.claims import command, exam, ledger, record, running, take, verdict
from specs.claims.command import claims
from specs.claims.controls import controls, examined
from specs.claims.installed import installed
from specs.claims.instruments import PATIENCE, Instruments, NotHere, is_long, needs
from specs.claims.ledger import IDS, Claim, CrashStates, Matrix, Measure, Proofs, Trial, load
from specs.claims.record import Record, RecordError
from specs.claims.running import judged
from specs.claims.take import Taker, crash_states, of_matrix, ratio
from specs.claims.verdict import Broken, Missing, Reading, judge
from specs.kernel.control import run_control
from specs.kernel.mutant import mutate
from specs.kernel.proofs import Proof, ProofRun
from specs.patterns.claims import Claim as PatternClaim
from specs.patterns.observation import Unavailable
from specs.persistence.references import CERTIFIED, QMAIL

ROOT = Path(__file__).parents[3]
LEDGER = load()
TRIALS = [(name, trial) for name, claim in LEDGER.claims.items() for trial in claim.trials]


# -- the ledger in the tree -----------------------------------------------------------------------


def test_it_has_every_claim_of_the_paper() -> None:
    assert tuple(LEDGER.claims) == IDS
    sections = {claim.section for claim in LEDGER.claims.values()}
    assert sections == {"abstract", "1", "2", "3", "4", "5", "6"}


def test_what_is_tried_on_ours_is_asked_of_patterns_that_there_are() -> None:
    patterns = {path.stem for path in (ROOT / "refmta" / "patterns").glob("[a-z]*.py")}
    asked = {
        pattern
        for _, trial in TRIALS
        if isinstance(trial.taken, Matrix)
        for pattern in trial.taken.patterns
    }
    assert asked <= patterns
    ours = [trial for _, trial in TRIALS if trial.on == "composition:refmta"]
    assert {type(trial.taken) for trial in ours} == {CrashStates, Matrix, Measure, Proofs}


def test_each_measure_that_there_is_is_asked_for_and_each_composition_is_there() -> None:
    from subjects import measures

    asked = {trial.taken.name for _, trial in TRIALS if isinstance(trial.taken, Measure)}
    assert set(measures.MEASURES) <= asked
    architectures = {trial.architecture for _, trial in TRIALS if trial.on.startswith("comp")}
    assert architectures <= set(measures.compositions())


def test_crash_states_are_asked_of_models_and_stores_that_there_are() -> None:
    from specs.persistence.models import MODELS

    for name, trial in TRIALS:
        if isinstance(trial.taken, CrashStates):
            assert set(trial.taken.models) <= set(map(str, MODELS)), name
            assert set(trial.taken.stores) <= set(installed().stores), name


# -- what a ledger may not say --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('section = "2"', 'section = "7"', "section"),
        ('"qmail", "postfix"]', '"qmail", "exim"]', "unknown architecture exim"),
        ('"qmail", "postfix"]', "]", "is about no architecture"),
        ('claim = "it holds"', 'claim = " "', "C01: has no text"),
        ("composition:qmail", "composition:exim", "on 'composition:exim'"),
        ("composition:qmail", "qmail", "on 'qmail'"),
        ('on = "composition:qmail"', 'on = "composition:qmail", against = "x"', "against 'x'"),
        ('on = "composition:qmail"', 'on = "composition:qmail", needs = ["x"]', "need 'x'"),
        ('on = "composition:qmail"', 'on = "composition:qmail", needs = ["fault:a.b"]', "need"),
        ('on = "composition:qmail"', 'on = "composition:postfix"', "the same number"),
        ('on = "composition:refmta"', 'on = "composition:refmta", condition = "x"', "not about"),
        ('comparison = "=="', 'comparison = "="', "comparison"),
        ('unit = "assets"', 'unit = ""', "has no unit"),
        ('observation = "how many"', 'observation = ""', "has no observation"),
        ("threshold = 0", 'threshold = "0"', "threshold"),
        ('by = "measure"', 'by = "guess"', "guess"),
        ("[measures]", "[measures", "line"),
    ],
)
def test_a_wrong_ledger_is_refused_with_the_place(old: str, new: str, problem: str) -> None:
    text = exam.sample()
    assert old in text
    with pytest.raises(ledger.LedgerError, match=re.escape(problem)):
        ledger.parse(text.replace(old, new))


def test_only_the_other_claims_are_missing_from_the_sample() -> None:
    with pytest.raises(ledger.LedgerError) as refused:
        ledger.parse(exam.sample())
    assert len(str(refused.value).splitlines()) == 1


def test_a_ratio_is_only_of_measures() -> None:
    matrix = 'taken = { by = "matrix", patterns = ["chroot_jail"] }, against = "server:qmail"'
    rest = re.sub(r"taken = .*", matrix, exam.REST)
    with pytest.raises(ledger.LedgerError, match="only a measure"):
        ledger.parse(exam.sample(rest))


# -- its own code ---------------------------------------------------------------------------------


def test_the_ledgers_code_passes_its_exam() -> None:
    assert exam.broken(exam.VERDICTS, examined(mutate(verdict.__name__, []))) == frozenset()
    assert exam.broken(exam.LEDGER, examined(mutate(ledger.__name__, []))) == frozenset()
    assert exam.broken(exam.RECORD, record) == frozenset()
    assert exam.broken(exam.TAKING, take) == frozenset()


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.name)
def test_each_control_counts(control: Any) -> None:
    found = run_control(control)
    assert found.counts, found.reason


def test_each_check_of_the_exam_has_its_control() -> None:
    named = {*exam.VERDICTS, *exam.LEDGER, *exam.RECORD, *exam.TAKING}
    assert named <= {control.invariant for control in controls()}


# -- what is needed, and taking it ----------------------------------------------------------------


def trial(taken: Any, on: str = "composition:refmta", **other: Any) -> Trial:
    return Trial(
        on=on, observation="how many", comparison="==", threshold=0, unit="things", taken=taken,
        **other,
    )  # fmt: skip


def claim(*trials: Trial, about: tuple[str, ...] = ("refmta",)) -> Claim:
    return Claim(section="2", claim="it holds", architectures=about, trials=trials)


@pytest.mark.parametrize(
    ("one", "needed"),
    [
        (trial(Measure(name="damage")), ["composition:refmta", "measure:damage"]),
        (
            trial(Measure(name="rate"), "server:qmail", against="server:sendmail"),
            ["server:qmail", "server:sendmail", "measure:rate"],
        ),
        (
            trial(Matrix(patterns=("a", "b"))),
            ["composition:refmta", "machine:root", "pattern:a", "pattern:b"],
        ),
        (trial(CrashStates(stores=("x",), models=("P0",)), "protocol:qmail"), ["store:x"]),
        (trial(Proofs(proofs=("wire",)), needs=("fault:kill",)), ["proof:wire", "fault:kill"]),
    ],
)
def test_what_a_trial_needs(one: Trial, needed: list[str]) -> None:
    assert needs(one) == needed


def test_nothing_is_there_and_each_thing_is_named() -> None:
    nothing = Instruments()
    for name, one in TRIALS:
        assert nothing.missing(one), name
    power = trial(Measure(name="power"), needs=("fault:no_such",))
    assert nothing.missing(power) == (
        "the composition refmta", "the measure power", "the fault injection no_such",
    )  # fmt: skip


def test_a_measure_is_taken_once_for_all_its_trials() -> None:
    asked = []

    def measure(subject: str, part: str) -> Reading:
        asked.append((subject, part))
        return Reading(len(asked) - 1)

    instruments = Instruments(
        measures={"m": lambda: measure}, compositions=frozenset({"refmta", "qmail"})
    )
    taker = Taker(instruments)
    one, other = trial(Measure(name="m")), trial(Measure(name="m", part="big"))
    assert taker.take(one) == taker.take(replace_observation(one)) == Reading(0)
    assert taker.take(other) == Reading(1)
    assert asked == [("composition:refmta", ""), ("composition:refmta", "big")]
    against = trial(Measure(name="m"), against="composition:qmail")
    assert isinstance(found := taker.take(against), Reading)
    assert found.value == 2 / 3


def replace_observation(one: Trial) -> Trial:
    return Trial(**({key: getattr(one, key) for key in one.__struct_fields__} | {"unit": "u"}))


def test_nothing_against_nothing_is_the_same() -> None:
    assert ratio(Reading(0), Reading(0)).value == 1
    assert math.isinf(ratio(Reading(2), Reading(0)).value)
    assert ratio(Reading(3), Reading(2)).value == 1.5


def test_a_measure_that_raises_is_a_finding_and_what_it_cannot_do_is_missing() -> None:
    def cannot(subject: str, part: str) -> Reading:
        raise NotHere("a second processor")

    def fails(subject: str, part: str) -> Reading:
        raise OSError("no more files")

    taker = Taker(
        Instruments(
            measures={"cannot": lambda: cannot, "fails": lambda: fails},
            compositions=frozenset({"refmta"}),
        )
    )
    of = {name: trial(Measure(name=name)) for name in ("cannot", "fails")}
    (found,) = taker.judge_all({"C01": claim(*of.values())})
    assert found.verdict == "pending"
    assert found.missing == ("a second processor", "a measure that works")
    assert found.findings == ["composition:refmta: the measure broke: OSError: no more files"]


def test_the_matrix_of_an_architecture_runs_once_for_all_that_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    runs = []

    def run(architecture: str, patterns: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        runs.append((architecture, patterns))
        return {"a.one": (), "a.two": ("pid 7 holds it",), "b.one": ()}

    taker = Taker(
        Instruments(patterns=frozenset("abc"), compositions=frozenset({"refmta"}), run_matrix=run)
    )
    of = {name: claim(trial(Matrix(patterns=(name,)))) for name in "abcd"}
    found = {each.name: each for each in taker.judge_all(of)}
    assert runs == [("refmta", ("a", "b", "c"))]
    assert [found[name].verdict for name in "abcd"] == ["fails", "holds", "pending", "pending"]
    assert "a.two: pid 7 holds it" in found["a"].outcomes[0].taking.detail  # type: ignore[union-attr]
    assert found["c"].findings == [  # a pattern whose claims were not judged is no success
        "composition:refmta: the measure broke: LookupError: the matrix judged no claim of c"
    ]
    assert found["d"].missing == ("the spec of the pattern d",)


def test_a_claim_that_cannot_be_judged_is_missing_and_one_that_breaks_does_not_hold() -> None:
    def cannot(_: Any) -> tuple[str, ...]:
        raise Unavailable("no ptrace")

    def breaks(_: Any) -> tuple[str, ...]:
        raise LookupError("no worker")

    made = {
        name: PatternClaim("a", name, "It holds.", judge)
        for name, judge in {"cannot": cannot, "breaks": breaks, "holds": lambda _: ()}.items()
    }
    seen: Any = None
    assert judged(made["holds"], seen) == ()
    assert judged(made["breaks"], seen) == ("could not be judged: LookupError: no worker",)
    answer = judged(made["cannot"], seen)
    assert isinstance(answer, NotHere)
    assert str(answer) == "a.cannot: no ptrace"
    with pytest.raises(NotHere):
        of_matrix({"a.cannot": answer, "a.holds": ()}, ["a"])
    assert of_matrix({"b.cannot": answer, "a.holds": ()}, ["a"]) == Reading(0, "1 claims")


def test_without_a_target_there_is_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "TARGET", "no such target")
    with pytest.raises(NotHere, match="the target no such target"):
        running.run_matrix("refmta", ())


def test_crash_states_tell_protocols_apart() -> None:
    assert crash_states([CERTIFIED], ["P0", "P3 split"]).value == 0
    found = crash_states([QMAIL], ["P1 atomic"])
    assert found.value > 0
    assert "m1 was acknowledged and is not there" in found.detail


def test_proofs_count_what_is_refuted() -> None:
    def proof(function: str, verdict: str) -> Proof:
        return Proof(module="m", function=function, line=1, verdict=verdict, detail="so")

    run = ProofRun(
        name="wire", module="m", seconds=1.0,
        proofs=(proof("a", "proved"), proof("b", "searched"), proof("c", "refuted")),
    )  # fmt: skip
    taker = Taker(Instruments(proofs={"wire": "m"}, run_proofs=lambda name, module: run))
    found = taker.take(trial(Proofs(proofs=("wire",))))
    assert found == Reading(1, "1 of 3 proved, 1 searched; c: refuted: so")


@pytest.mark.parametrize(
    ("comparison", "held"),
    [("==", "010"), ("<=", "110"), ("<", "100"), (">=", "011"), (">", "001")],
)
def test_each_comparison_at_around_and_on_its_threshold(comparison: Any, held: str) -> None:
    one = trial(Measure(name="m"))
    values = {key: getattr(one, key) for key in one.__struct_fields__}
    one = Trial(**(values | {"comparison": comparison, "threshold": 2.0}))
    verdicts = [judge(claim(one), one, Reading(value)).verdict for value in (1, 2, 3)]
    assert verdicts == ["holds" if each == "1" else "fails" for each in held]
    assert judge(claim(one), one, Missing(("it",))).verdict == "pending"
    assert judge(claim(one), one, Broken("it")).verdict == "pending"


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> Instruments:
    found = Instruments()

    def made(*, patient: bool) -> Instruments:
        found.patient = patient
        return found

    monkeypatch.setattr(command, "installed", made)
    monkeypatch.setattr(record, "load", lambda: Record({}))
    return found


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(claims, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_where_nothing_can_be_measured_everything_is_pending(instruments: Instruments) -> None:
    code, out, _ = run()
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("C")] == [
        [name, "PENDING"] for name in IDS
    ]
    assert f"26 claim(s): 26 pending; 0 of {len(TRIALS)} trials run, 0 finding(s)" in out
    assert "trial(s) wait for: the measure damage" in out


def test_a_verdict_is_shown_with_its_measurement(instruments: Instruments) -> None:
    instruments.stores = installed().stores
    code, out, _ = run("C08")
    assert code == 0
    assert f"[3; qmail; held to {LEDGER.claims['C08'].digest}]" in out
    assert "+ holds  composition:refmta: invariants of queue and Maildir" in out
    assert "0, to be == 0 violations" in out
    assert "condition: the file system makes a link durable before the call returns" in out
    assert "as expected: qmail-queue's commit is a link" in out
    assert "pending (2 of 6 trials): the composition qmail; the measure kills" in out


def test_a_missed_prediction_is_exit_1(instruments: Instruments) -> None:
    instruments.stores = dict(installed().stores) | {"chunks": lambda: QMAIL}
    code, out, _ = run("C08")
    assert code == 1
    assert "finding: composition:refmta: fails, expected: holds" in out


def test_json_has_what_each_verdict_was_held_to(instruments: Instruments) -> None:
    instruments.compositions = frozenset({"refmta"})
    instruments.measures = {"session_cost": lambda: lambda subject, part: Reading(math.inf, "x")}
    code, out, _ = run("--json", "C16", "C01")
    assert code == 0
    first, second = json.loads(out)["claims"]
    assert (first["id"], first["verdict"], second["id"]) == ("C16", "pending", "C01")
    assert re.fullmatch("[0-9a-f]{12}", first["criterion"])
    beside = first["trials"][2]
    assert (beside["role"], beside["verdict"], beside["threshold"]) == ("beside", "holds", 1.5)
    assert beside["measurement"] is None  # JSON has no infinity
    assert first["trials"][0]["missing"] == ["the composition postfix"]


def test_what_takes_long_is_asked_for_or_read(
    instruments: Instruments, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One rate is measured and written down; the next run reads it, and judges it as its own."""
    file = tmp_path / "measured.toml"
    monkeypatch.setattr(record, "load", lambda: load_record(file))
    monkeypatch.setattr(command, "FILE", file)
    rates = {"server:postfix": 300.0, "server:sendmail": 75.0}
    instruments.servers = frozenset({"postfix", "sendmail"})
    instruments.measures = {"rate": lambda: lambda subject, part: Reading(rates[subject], '"/s"')}
    code, out, _ = run("C19")
    assert code == 0
    assert f"{PATIENCE}" in out
    code, out, _ = run("C19", "--peers", "--record")
    assert code == 0
    assert "4, against server:sendmail, to be >= 1.2 times" in out
    assert "from the record" not in out
    rates["server:postfix"] = 1.0
    code, out, _ = run("C19")
    assert code == 0
    assert "4, against server:sendmail, to be >= 1.2 times" in out
    assert "1 of 3 trials run (1 from the record)" in out
    _, out, _ = run("C19", "--json")
    assert "processors" in json.loads(out)["claims"][0]["trials"][1]["recorded"]
    code, out, _ = run("C19", "--peers")
    assert code == 1  # what is measured counts, whatever was written down


def load_record(file: Path) -> Record:
    return record.read(file.read_text(encoding="utf-8")) if file.exists() else Record({})


def test_a_record_is_written_by_those_who_measure(instruments: Instruments) -> None:
    code, _, err = run("--record")
    assert (code, err) == (2, "--record goes with --peers\n")


@pytest.mark.parametrize("text", ["measured = 1", "[[measured]]\nasked = 'x'", "[", "x = 1"])
def test_a_wrong_record_is_refused(
    text: str, instruments: Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordError):
        record.read(text)
    monkeypatch.setattr(record, "load", lambda: record.read(text))
    code, _, err = run("C19")
    assert code == 2
    assert "the ledger of claims: " in err


def test_every_number_in_the_record_is_one_that_a_trial_asks_for() -> None:
    asked = {one.asked: one for _, one in TRIALS}
    for row in record.load().rows.values():
        one = asked[row.asked]
        assert is_long(one)
        assert isinstance(one.taken, Measure)
        assert (row.on, row.against, row.measure, row.part) == (
            one.on, one.against, one.taken.name, one.taken.part,
        )  # fmt: skip


def test_which_trials_take_long() -> None:
    long = {(one.on, one.taken.name) for _, one in TRIALS if is_long(one)}
    assert {("server:postfix", "pool_caps"), ("composition:qmail", "rate")} <= long
    assert ("composition:sendmail", "processes") not in long


def test_no_such_claim_is_exit_2(instruments: Instruments) -> None:
    code, out, err = run("C27", "C01")
    assert (code, out) == (2, "")
    assert "no such claim: C27 (there are: C01 to C26)" in err


def test_a_wrong_ledger_is_exit_2(
    instruments: Instruments, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = tmp_path / "claims.toml"
    wrong.write_text(exam.sample())
    monkeypatch.setattr(command, "load", lambda: load(wrong))
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "the ledger of claims: claims: must be C01 to C26" in err


def test_what_comes_from_a_server_moves_no_cursor(instruments: Instruments) -> None:
    instruments.compositions = frozenset({"refmta"})
    text = "\x1b[2J" + "x" * 1000
    instruments.measures = {"session_cost": lambda: lambda subject, part: Reading(2, text)}
    _, out, _ = run("C16")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) < 600


def test_readings_are_values() -> None:
    with pytest.raises(AttributeError):
        Reading(1).value = 2  # type: ignore[misc]
    assert replace(Reading(1), value=2).value == 2
