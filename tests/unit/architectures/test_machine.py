"""Trials of layers, with guards of ours in place of the real ones: what each outcome means."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

import pytest

from refmta.architectures import machine
from refmta.architectures.catalogue import find
from refmta.architectures.machine import BY_NAME, NO_ROOT, TRIED, Missing, fit, lacking, trial
from refmta.architectures.refmta import REFMTA
from refmta.patterns import least_privilege
from refmta.patterns.defense_in_depth import LAYERS
from refmta.processes import confinement
from refmta.processes.confinement import Guard


def fine(_: Any) -> None:
    """Nothing to put on."""


def unsupported(_: Any) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def without_library(_: Any) -> None:
    raise ImportError("no library\nof that name")


def deadly(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSYS)


def silent(_: Any) -> None:
    os._exit(1)


def leaving(_: Any) -> None:
    raise SystemExit(0)


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> dict[str, Guard]:
    """All go on, as whoever runs this."""
    made = {layer: Guard(fine, lambda _: ()) for layer in LAYERS}
    monkeypatch.setattr(machine, "GUARDS", made)
    monkeypatch.setattr(machine, "_become", fine)
    return made


@pytest.mark.parametrize(
    ("put_on", "number", "text"),
    [
        (unsupported, errno.ENOSYS, "Function not implemented"),
        (without_library, 0, "ImportError: no library\nof that name"),
        (deadly, 0, "the trial was ended by signal 31"),
        (silent, 0, "it failed without a word"),
        (leaving, 0, "SystemExit: 0"),
    ],
)
def test_a_layer_that_does_not_go_on_is_missing_and_says_why(
    guards: dict[str, Guard], put_on: Any, number: int, text: str
):
    assert trial("landlock", None) is None  # the twin
    guards["landlock"] = Guard(put_on, lambda _: ())
    assert trial("landlock", None) == Missing("landlock", number, text)


def test_each_layer_is_tried_on_those_that_it_rests_on(guards: dict[str, Guard]):
    guards["namespace"] = Guard(unsupported, lambda _: ())
    assert [each.layer for each in lacking(LAYERS, 1)] == ["namespace"]
    for layer in ("network", "jail"):
        assert trial(layer, None) is not None
    assert lacking(["users", "landlock"], 1) == []


def test_a_trial_leaves_nothing_behind(guards: dict[str, Guard]):
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        trial("landlock", None)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("root", [True, False])
def test_what_may_be_missing_and_is_is_taken_away(
    guards: dict[str, Guard], monkeypatch: pytest.MonkeyPatch, root: bool
):
    monkeypatch.setattr(machine.os, "getuid", lambda: 0 if root else 1000)
    by_nature = () if root else ("users",)
    whole = fit(REFMTA, ["landlock"])
    assert whole.architecture.name == "-".join(["refmta", *by_nature])
    assert tuple(whole.missing) == by_nature and not whole.problems  # nothing to take away
    guards["landlock"] = Guard(unsupported, lambda _: ())
    fitting = fit(REFMTA, ["landlock"])
    assert fitting.problems == ()
    assert fitting.architecture.name == "-".join(["refmta", *by_nature, "landlock"])
    assert fitting.architecture == find(fitting.architecture.name)
    said = f"{TRIED['landlock']}: Function not implemented (ENOSYS)"
    assert fitting.missing == {**dict.fromkeys(by_nature, NO_ROOT), "landlock": said}
    (problem,) = fit(REFMTA, ["seccomp"]).problems
    assert said in problem and problem.endswith("--allow-missing landlock")


def test_what_rests_on_a_missing_layer_says_so(guards: dict[str, Guard]):
    guards["namespace"] = Guard(unsupported, lambda _: ())
    fitting = fit(find("refmta-users"), ["namespace"])
    assert fitting.missing["network"] == fitting.missing["jail"] == "rests on namespace"
    assert "ENOSYS" in fitting.missing["namespace"]
    assert not {"namespace", "network", "jail"} & {*fitting.architecture.layers}


def test_what_the_name_takes_away_is_not_tried_and_still_said(
    guards: dict[str, Guard], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine.os, "getuid", lambda: 0)
    guards["landlock"] = Guard(deadly, lambda _: ())
    fitting = fit(find("refmta-landlock"), [])
    assert (fitting.problems, fitting.missing) == ((), {"landlock": BY_NAME})


def test_a_machine_without_libseccomp_lacks_that_layer_only(monkeypatch: pytest.MonkeyPatch):
    """The real guards."""
    monkeypatch.setattr(least_privilege, "pyseccomp", None)
    said = Missing("seccomp", errno.ENOSYS, "libseccomp is not installed")
    assert trial("seccomp", None) == said
    assert trial("landlock", None) != said


def test_every_layer_has_its_words():
    assert {*TRIED} == {*LAYERS} == {*confinement.GUARDS}
