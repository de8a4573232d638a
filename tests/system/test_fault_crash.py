"""refmta-fault crash: refmta's stores state by state, the server itself on the telling ones, and
servers made wrong, which those states must tell; a harness that is killed leaves nothing.

With REFMTA_FAULTS=all in the environment every state of both scenes is tried, else of one.
"""

import itertools
import json
import os
import signal
from functools import partial

import msgspec
import pytest
from click.testing import CliRunner
from system.harness_killed import leaves_nothing

from faultinject import overlay, target
from faultinject.cases import Case
from faultinject.crash import confirm, harness, stores
from faultinject.crash.command import crash
from faultinject.crash.live import Live, Shown
from faultinject.namespaces import in_turn
from specs.persistence.workloads import empty, message
from subjects.crash import RefmtaStores
from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

ALL = os.environ.get("REFMTA_FAULTS") == "all"
pytestmark = pytest.mark.timeout(1800 if ALL else 600)
PATIENCE_S = 500.0
SCENES = ("one", "two") if ALL else ("one",)
SAMPLES = 10 if ALL else 2

#: The group is promised before the directory was synced, and it never is.
UNSYNCED = ("stores/chunks.py", [('    plan.append(Op("sync_dir", CHUNKS))\n', "")])
#: The reply goes out on the directory's sync alone.
UNWRITTEN = ("stores/chunks.py", [('    plan += [Op("sync", path) for path in paths]\n', "")])


@pytest.fixture
def place():
    with overlay.scratch("crash-test") as (found, _):
        yield found


def test_all_states_of_the_stores_of_refmta():
    """None of thousands of distinct disks is without promised mail.  How many are seen in a second
    is the machine's to say, and told.
    """
    done = CliRunner().invoke(
        crash, ["--target", "refmta", "--part", "stores", "--seed", "1", "--json", "-"]
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["findings"] == []
    assert report["counts"]["disks recovered"] > 11_000
    assert all(row["exhaustive"] and not row["counts"] for row in report["stores"])
    assert {row["model"] for row in report["stores"]} == {str(each) for each in stores.WEAK}
    rate = report["counts"]["disks per second"]
    print(f"{rate} distinct disks per second")
    assert isinstance(rate, int) and rate > 0


@pytest.mark.parametrize("architecture", ["qmail", "postfix", "sendmail", "sendmailx"])
def test_the_other_architectures_lose_what_is_expected_of_them(architecture):
    found = stores.enumerated(RefmtaStores().stores(architecture))
    assert [str(each) for each in found.findings] == []
    known = {key[1:] for key in found.expected}
    seen = {(report.model, invariant) for report, invariant, _ in found.stories()}
    assert seen <= known


@pytest.mark.parametrize(
    ("architecture", "file"),
    [("refmta", "chunks"), ("qmail", "qmail_todo"), ("postfix", "postfix_modebit"),
     ("sendmail", "sendmail_qfdf")],
)  # fmt: skip
def test_each_step_of_a_plan_has_the_line_that_takes_it(architecture, file):
    """Which a finding on the server shows beside the system call."""
    known = RefmtaStores()
    store = known.stores(architecture)[0]
    disk = empty(store)
    before = disk.snapshot()
    plan = store.plan([message("m1", 3)])
    disk.execute(itertools.takewhile(lambda step: step.kind != "reply", plan))
    *steps, reply = known.planned(architecture, before, disk.snapshot())
    assert len(steps) >= 4 and reply.kind == "reply"
    files = {each.line.partition(":")[0] for each in steps}
    assert f"refmta/stores/{file}.py" in files <= {
        f"refmta/stores/{file}.py", "refmta/stores/raw_draft.py"
    }  # fmt: skip
    assert all(int(each.line.partition(":")[2]) > 1 for each in steps)


@pytest.mark.needs("root", "strace")
@pytest.mark.parametrize("scene", SCENES)
def test_the_server_on_minimal_states_and_its_plan(place, scene):
    settings = {"part": "live", "scene": scene, "samples": SAMPLES}
    outcome = harness().run(
        Case(harness="crash", target="refmta", seed=1, settings=settings), place
    )
    assert outcome.verdict == "held", (outcome.reason, outcome.findings, outcome.evidence)
    assert outcome.counts["minimal states tried"] == outcome.counts["minimal states"] >= 3
    assert outcome.counts["sampled states tried"] == SAMPLES
    operations = outcome.evidence[f"operations-{scene}.txt"].splitlines()
    if scene == "one":
        assert [each.split()[0] for each in operations[:5]] == [
            "create", "write", "sync", "sync_dir", "reply",
        ]  # fmt: skip


def shown(python, place):
    """What the states of a refmta show (one letter, the first minimal states), and what strace saw
    in its plan's place.
    """

    def work(write) -> None:
        confirmed = []

        def lines(scene):
            confirmed.append(confirm.confirm(scene, RefmtaStores(), ""))
            return {}

        found = Live(
            make=partial(Refmta, python=python), place=place, seed=1, say=lambda _: None,
            samples=0, scenes=("one",), most=6, lines=lines,
        ).run()  # fmt: skip
        write(msgspec.json.encode((found.shown, confirmed[0].difference)))

    (ended,) = in_turn([work], 1, PATIENCE_S)
    assert not ended.late and ended.status == 0, ended
    return msgspec.json.decode(ended.output, type=tuple[dict[str, Shown], str])


@pytest.mark.needs("root", "strace")
@pytest.mark.parametrize(
    ("file", "replacements", "model", "lost"),
    [(*UNSYNCED, "P3", "create spool/chunks/"), (*UNWRITTEN, "P1", "write spool/chunks/")],
    ids=["no sync of the directory", "no sync of the file"],
)
def test_control_a_dropped_sync_is_found(place, file, replacements, model, lost):
    """By the ledger, with the operation that was lost; and strace has seen another plan.  Its twin
    is refmta as it is: the test above.
    """
    place.chmod(0o755)
    python = mutant_tree(place / "python", file, replacements)
    (place / "live").mkdir()
    (place / "live").chmod(0o711)
    found, difference = shown(python, place / "live")
    story = found[f"lost under {model}"].story
    assert story[0].startswith("crash after: reply")
    assert lost in story[1] and "enqueue" in story[1]
    assert any(each in story[1] for each in ("openat", "write"))
    assert "is planned as sync" in difference


@pytest.mark.needs("root", "strace")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_harness_that_is_killed_leaves_nothing(number, tmp_path):
    arguments = ["--target", "refmta", "--part", "live", "--scene", "one", "--seed", "1"]
    leaves_nothing("crash", arguments, number, tmp_path / "said")


def test_a_target_without_code_of_its_own_is_tried_from_outside_only(monkeypatch):
    monkeypatch.setattr(target, "load", lambda _: Refmta())
    assert stores.of("postfix") is None
    done = CliRunner().invoke(crash, ["--target", "postfix", "--part", "stores"])
    assert done.exit_code == 3
    assert "unavailable" in done.output
