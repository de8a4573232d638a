"""An evolution: what counts as an effect, what is told and drawn, and which exit code says so."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from refmta.architectures.catalogue import find
from refmta.architectures.evolution import EVOLUTION
from specs import registered
from specs.command import main
from specs.evolution import effects, exam, look, picture, steps, take
from specs.evolution.controls import controls
from specs.evolution.exam import BETTER, MIDDLE
from specs.evolution.inventory import KINDS
from specs.evolution.losses import losses
from specs.evolution.measured import Rates, Share, total
from specs.evolution.rates import Mailbox
from specs.evolution.show import Unreadable, as_json, read, rows
from specs.evolution.steps import Step
from specs.kernel.control import run_control
from specs.patterns.target import TargetError
from subjects import evolution as subject

# -- the judgement --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", exam.CHECKS)
def test_check(name):
    assert not exam.broken(effects, {name: exam.CHECKS[name]})


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name)
def test_control(control):
    result = run_control(control)
    assert result.counts, result.reason


def test_shares():
    assert (Share(0, 0).part, Share(1, 2).part) == (0, 0.5)
    assert [Share(have, 2).level for have in range(3)] == ["none", "some", "all"]
    assert total([Share(1, 2), Share(0, 3)]) == Share(1, 5)


def test_rates_are_compared_round_by_round():
    assert Rates(rounds=(10, 40, 30)).to(Rates(rounds=(10, 10, 10))) == (1, 3, 4)


# -- what is told ---------------------------------------------------------------------------------

STAGES = [MIDDLE, BETTER["users"], BETTER["users"]]


def test_rows_mark_what_changed():
    first, second, third = rows(STAGES)
    assert (first[3], second[3], third[3]) == ("3", "4 +", "4")


def test_json_is_read_back():
    told = json.dumps(as_json(STAGES)).encode()
    assert read(told) == STAGES
    assert json.loads(told)["effects"][1]["better"] == ["users"]


def test_what_is_no_evolution():
    with pytest.raises(Unreadable):
        read(b'{"stages": [{}]}')


def test_records():
    found = picture.records([replace(each, rates=None) for each in STAGES])
    users = [(each["value"], each["change"]) for each in found if each["row"] == "users"]
    assert users == [(3, "the start"), (4, "better"), (4, "unchanged")]
    cells = {each["row"]: each["level"] for each in found[: len(KINDS)]}
    assert (cells["queue"], cells["keys"], cells["mailboxes"]) == ("some", "all", "none")


def test_each_measure_but_the_files_has_a_row():
    drawn = {each["row"] for each in picture.records(STAGES)} - {*KINDS}
    assert drawn == {each.name for each in effects.MEASURES} - {"reach"}


def test_the_page_needs_no_network():
    pytest.importorskip("altair")
    page = picture.html(STAGES)
    assert "<script src" not in page
    assert "Middle" in page


# -- what is counted ------------------------------------------------------------------------------


def test_mail_in_a_directory(tmp_path):
    box = Mailbox(tmp_path / "new")
    assert box.count() == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "one").touch()
    assert box.count() == 1


def test_mail_in_a_file_that_grows(tmp_path):
    """Cut anywhere: a mark that is half there is counted when it is whole."""
    file = tmp_path / "mbox"
    box = Mailbox(file)
    octets = b"From a\nSubject: x\nX-Counted: once\n\nhello\n\n" * 3
    seen = []
    for end in range(len(octets) + 1):
        file.write_bytes(octets[:end])
        seen.append(box.count())
    assert seen == sorted(seen)
    assert seen[-1] == 3


def test_what_the_stores_of_the_monolith_and_ours_lose():
    line = subject.evolution()
    first, last = (losses(line.stores(step)) for step in (line.steps[0], line.steps[-1]))
    assert first["sendmail_qfdf"].have > 0
    assert first["mbox"].have == 0
    assert total(last.values()).have == 0


# -- ours -----------------------------------------------------------------------------------------


def test_the_line_is_the_architectures():
    line = subject.evolution()
    assert [each.architecture for each in line.steps] == [*EVOLUTION]
    for step in line.steps:
        find(step.weakened or step.architecture)
        assert line.stores(step)
    assert [bool(each.weakened) for each in line.steps] == [False] * 5 + [True] * 4


# -- the command ----------------------------------------------------------------------------------


class Line:
    """Two steps, the second of which does nothing."""

    steps = (Step(architecture="a"), Step(architecture="b", pattern="Nothing"))

    def observed(self):
        return SimpleNamespace(unavailable=lambda: None)

    shipped = observed

    def stores(self, step):
        return ()


@pytest.fixture
def evolve(monkeypatch):
    """Run the command on `Line`, with stages for its steps; None: it does not start."""

    def run(found, *arguments):
        def looked_at(_maker, name):
            if found.get(name) is None:
                raise TargetError("no room")
            return found[name].seen

        monkeypatch.setattr(take, "look", looked_at)
        monkeypatch.setattr(
            take, "rates", lambda *_: [Rates(rounds=(1.0, 1.0)), Rates(rounds=(1.01, 0.99))]
        )
        point = EntryPoint("toy", f"{__name__}:Line", steps.EVOLUTIONS)
        monkeypatch.setattr(registered, "entry_points", lambda group: [point])
        monkeypatch.setattr(EntryPoint, "load", lambda _: Line)
        return CliRunner().invoke(main, ["evolve", *arguments])

    return run


def test_a_step_that_does_nothing(evolve):
    done = evolve({"a": MIDDLE, "b": MIDDLE}, "toy")
    assert done.exit_code == 1
    assert "finding: b (Nothing): no effect on any measure" in done.output


def test_a_step_that_does_something(evolve):
    done = evolve({"a": MIDDLE, "b": BETTER["users"]}, "toy", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["findings"] == []


def test_a_step_that_does_not_start(evolve):
    done = evolve({"a": MIDDLE, "b": None}, "toy")
    assert done.exit_code == 3
    assert done.output.splitlines()[-1] == "b (Nothing): no room"


def test_no_such_evolution(evolve):
    done = evolve({}, "other")
    assert done.exit_code == 2
    assert "there are: toy" in done.output


def test_nobody_to_draw(evolve, monkeypatch):
    monkeypatch.setattr(picture, "NEEDED", ("altair", "no_such_module"))
    done = evolve({}, "toy", "--html", "page.html")
    assert done.exit_code == 3
    assert "no_such_module" in done.output


def test_shown_again(tmp_path):
    file = tmp_path / "told.json"
    file.write_text(json.dumps(as_json(STAGES[:2])))
    done = CliRunner(env={"COLUMNS": "170"}).invoke(main, ["evolve", "--read", str(file)])
    assert done.exit_code == 0
    assert "Middle" in done.output


def test_who_faces_the_network():
    """A connection counts, a socket that listens does not."""

    def process(**socket):
        descriptor = {"family": "inet", "remote": "", "listening": False, **socket}
        return SimpleNamespace(descriptors=[SimpleNamespace(**descriptor)])

    assert look._is_facing(process(remote="127.0.0.1:25"))
    assert not look._is_facing(process(remote="0.0.0.0:0", listening=True))
    assert not look._is_facing(process(family="unix", remote="x"))


def test_the_command_says_what_it_is_doing(evolve):
    assert "looked at: a (the start)" in evolve({"a": MIDDLE, "b": MIDDLE}, "toy").output
