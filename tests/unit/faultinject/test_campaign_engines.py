"""Engines, without processes: by which name, and what dask's answers are taken for."""

from __future__ import annotations

import pytest
import trio

from faultinject.campaign import engines
from faultinject.campaign.records import encode_outcome
from faultinject.cases import Case, Outcome

CASE = Case(harness="toys", target="sound")
HELD = Outcome(case=CASE, verdict="held")


@pytest.mark.parametrize(
    "name",
    ["", "dask", "dask://", "dask://host", "dask://:1", "dask://h:x", "dask://h:1/p", "Local"],
)
def test_names_of_no_engine(name):
    with pytest.raises(ValueError, match="neither local nor dask://HOST:PORT"):
        engines.engine_of(name)


def test_names_of_engines():
    assert engines.engine_of("local", 3).width == 3
    assert engines.engine_of("local").width >= 1
    dask = engines.engine_of("dask://[::1]:8786")
    assert isinstance(dask, engines.Dask) and dask.address == "tcp://[::1]:8786"


def test_without_dask_it_is_unavailable_and_said(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(engines.EngineError, match="needs: distributed"):
        engines.engine_of("dask://h:1")


class Future:
    """One that has its answer."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def result(self, timeout):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def taken(answer, begun=1):
    dask = engines.Dask("tcp://h:1")
    for _ in range(begun):
        dask._hear((0.0, {"key": "k"}))
    return trio.run(dask._taken, CASE, "k", Future(answer))


def test_an_outcome_comes_back_with_how_many_runs_were_lost():
    assert taken((encode_outcome(HELD), "w1")) == engines.Run(outcome=HELD, where="w1")
    assert taken((encode_outcome(HELD), "w1"), begun=3).lost == 2
    assert taken((encode_outcome(HELD), "w1"), begun=0).lost == 0


def test_a_case_that_workers_die_of_is_broken_and_says_so():
    import distributed

    run = taken(distributed.KilledWorker("k", "tcp://w2", 3))
    assert run.outcome.verdict == "broken" and run.lost == engines.LOST
    assert run.outcome.reason == "4 workers have died of it, the last one tcp://w2"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RuntimeError("no refmta here"), "on the worker: RuntimeError: no refmta here"),
        ((b"{", "w1"), "its outcome can't be read"),
    ],
)
def test_what_is_no_outcome_is_a_broken_case(answer, said):
    run = taken(answer)
    assert run.outcome.verdict == "broken" and said in run.outcome.reason


def test_a_lost_scheduler_ends_the_engine_not_the_case():
    import distributed

    with pytest.raises(engines.EngineError, match="the scheduler is gone"):
        taken(distributed.CancelledError("k"))
