"""What the ledger's own code must do, as named checks on its modules: for its controls and tests.

Each check makes its values with the module that it examines, since a mutant's classes are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any, Final

from specs.claims.instruments import Instruments, NotHere
from specs.claims.ledger import Trial, convert
from specs.claims.record import read
from specs.claims.verdict import Broken, Reading, judge

#: A claim about two architectures: both decide, one has a condition, one is beside.
SAMPLE: Final = """
[measures]
damage = "what a seized process reaches"
{more}
[claims.C01]
section = "2"
claim = "it holds"
architectures = ["qmail", "postfix"]
trials = [
    {{ on = "composition:qmail", {rest} }},
    {{ on = "composition:postfix", {rest} }},
    {{ on = "server:qmail", condition = "at night", {failing}, {rest} }},
    {{ on = "composition:refmta", {rest} }},
]
"""
REST: Final = (
    'observation = "how many", comparison = "==", threshold = 0, unit = "assets",'
    ' taken = {{ by = "measure", name = "{measure}" }}'
)
FAILING: Final = 'expected = "fails", reason = "it is dark"'


def sample(rest: str = "", failing: str = FAILING, more: str = "", measure: str = "damage") -> str:
    """A ledger of one claim, as text: right, but that C02 to C26 are not there."""
    return SAMPLE.format(rest=rest or REST.format(measure=measure), failing=failing, more=more)


# -- verdicts -------------------------------------------------------------------------------------


def _judged(module: Any, values: Iterable[object]) -> Any:
    """The sample's verdict: per trial a number, or None if it is missing, or "broken"."""
    from_text = module.ledger_of(sample())
    claim = from_text.claims["C01"]
    outcomes = [
        module.judge(claim, trial, _taking(module, value))
        for trial, value in zip(claim.trials, values, strict=True)
    ]
    return module.conclude("C01", claim, outcomes)


def _taking(module: Any, value: object) -> Any:
    if value is None:
        return module.Missing(("an eye",))
    if value == "broken":
        return module.Broken("OSError: gone")
    return module.Reading(value)


def _verdict(module: Any, *values: object) -> str:
    return str(_judged(module, values).verdict)


def _found(module: Any, *values: object) -> int:
    return len(_judged(module, values).findings)


#: name -> does the module keep it?  The sample's trials: decides, decides, condition, beside.
VERDICTS: Final[MappingProxyType[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "no_verdict_without_a_number": lambda m: (
            _verdict(m, 0, 0, 0, 0) == "holds"
            and _verdict(m, 0, None, 0, 0) == "pending"
            and _verdict(m, 0, 0, None, 0) == "pending"
            and _verdict(m, 0, "broken", 0, 0) == "pending"
        ),
        "what_is_missing_is_told": lambda m: (
            _judged(m, (0, None, 0, 0)).missing == ("an eye",)
            and _judged(m, (0, 0, 0, 0)).missing == ()
        ),
        "one_counterexample_decides": lambda m: (
            _verdict(m, 1, 0, 0, 0) == "fails" and _verdict(m, 1, None, None, 0) == "fails"
        ),
        "a_condition_is_told": lambda m: (
            _verdict(m, 0, 0, 1, 0) == "holds with a condition"
            and _judged(m, (0, 0, 1, 0)).conditions == ("at night",)
        ),
        "what_is_beside_never_decides": lambda m: (
            _verdict(m, 0, 0, 0, 1) == "holds"
            and _verdict(m, 0, 0, 0, None) == "holds"
            and _verdict(m, None, None, None, 0) == "pending"
        ),
        "a_missed_prediction_is_found": lambda m: (
            _found(m, 0, 0, 1, 0) == 0
            and _found(m, 1, 0, 1, 0) == 1
            and _found(m, 0, 0, 0, 0) == 1  # the night was to be dark
            and _found(m, 0, 0, 1, 1) == 1  # beside, too
        ),
        "a_broken_measure_is_found": lambda m: _found(m, "broken", 0, 1, 0) == 1,
    }
)


# -- the ledger -----------------------------------------------------------------------------------


def _problems(module: Any, text: str) -> str:
    try:
        module.parse(text)
    except module.LedgerError as error:
        return str(error)
    return ""


def _digest(module: Any, text: str) -> str:
    return str(module.ledger_of(text).claims["C01"].digest)


_ONE_KEY_MORE: Final = REST.format(measure="damage") + ', weight = "none"'
_NO_NUMBER: Final = REST.format(measure="damage").replace("= 0", "= nan")
_ANOTHER: Final = REST.format(measure="damage").replace("= 0", "= 1")

LEDGER: Final[MappingProxyType[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "every_claim_is_there": lambda m: "C02" in _problems(m, sample()),
        "no_unknown_key": lambda m: "weight" in _problems(m, sample(_ONE_KEY_MORE)),
        "a_threshold_is_a_number": lambda m: "threshold" in _problems(m, sample(_NO_NUMBER)),
        "a_failure_has_its_reason": lambda m: (
            "reason" in _problems(m, sample(failing='expected = "fails"'))
            and "reason" in _problems(m, sample(failing='reason = "dark"'))
            and "reason" not in _problems(m, sample())
        ),
        "each_architecture_is_decided": lambda m: (
            "no trial on it decides" in _problems(m, sample().replace('"postfix"]', '"sendmail"]'))
            and "no trial on it decides" not in _problems(m, sample())
        ),
        "each_measure_is_described": lambda m: (
            "described nowhere" in _problems(m, sample(measure="harm"))
            and "used by no trial" in _problems(m, sample(more='harm = "much"'))
        ),
        "the_digest_covers_the_threshold": lambda m: (
            _digest(m, sample()) == _digest(m, sample()) != _digest(m, sample(_ANOTHER))
        ),
    }
)


def broken(checks: MappingProxyType[str, Callable[[Any], bool]], module: Any) -> frozenset[str]:
    """The names of the checks that the module does not keep."""
    return frozenset(name for name, keeps in checks.items() if not keeps(module))


# -- the record -----------------------------------------------------------------------------------

_ROW: Final = """
[[measured]]
asked = "{asked}"
on = "composition:qmail"
measure = "damage"
value = 3.0
detail = "so"
date = "2026-01-01"
machine = "one processor"
versions = "some"
"""


def _trials() -> tuple[Trial, Trial]:
    """Two trials of the sample, of two subjects."""
    one, other, *_ = convert(sample()).claims["C01"].trials
    return one, other


def _recorded(module: Any) -> tuple[Any, Any]:
    """What a record of the first trial says of each of the two."""
    one, other = _trials()
    record = module.read(_ROW.format(asked=one.asked))
    return record.of(one), record.of(other)


def _two_rows(module: Any) -> bool:
    """Whether two numbers of one trial are refused."""
    try:
        module.read(_ROW.format(asked="a") * 2)
    except module.RecordError:
        return True
    return False


def _written(module: Any) -> list[float]:
    """The values of a reading that is new, and of one that was read."""
    one, other = _trials()
    claim = convert(sample()).claims["C01"]
    readings = (one, Reading(1.0)), (other, Reading(2.0, recorded="long ago"))
    found = module.rows([judge(claim, trial, reading) for trial, reading in readings], "today")
    return [row.value for row in found.values()]


RECORD: Final[MappingProxyType[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "a_record_is_of_its_trial": lambda m: (
            [each is None for each in _recorded(m)] == [False, True]
        ),
        "a_record_says_so": lambda m: "one processor" in _recorded(m)[0].recorded,
        "one_number_per_trial": _two_rows,
        "only_what_is_new_is_written": lambda m: _written(m) == [1.0],
    }
)


def _taken(module: Any, measure: Callable[[str, str], Reading]) -> Any:
    """The first trial's taking, with a record of 3."""
    one, _ = _trials()
    instruments = Instruments(
        measures={"damage": lambda: measure}, compositions=frozenset({"qmail", "postfix"})
    )
    record = read(_ROW.format(asked=one.asked))
    return module.Taker(instruments, record=record).take(one)


def _breaks(subject: str, part: str) -> Reading:
    raise OSError("gone")


def _is_not_here(subject: str, part: str) -> Reading:
    raise NotHere("an eye")


TAKING: Final[MappingProxyType[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "a_broken_measure_has_no_record": lambda m: (
            isinstance(_taken(m, _breaks), Broken)
            and _taken(m, _is_not_here).value == 3
            and _taken(m, lambda subject, part: Reading(4.0)).value == 4
        ),
    }
)
