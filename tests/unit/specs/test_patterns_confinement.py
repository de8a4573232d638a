"""The claims of confinement on systems made by hand: a sound one, and each with one thing wrong;
and how memories are searched, and processes at rest told from busy ones.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from specs.kernel.control import run_control
from specs.observe import memory
from specs.observe.probes import PROBES, Outcome
from specs.observe.rest import await_rest
from specs.patterns import (
    chroot_jail,
    compartmentalization,
    defense_in_depth,
    distributed_delegation,
    least_privilege,
    sample,
)
from specs.patterns.attacks import ATTACKS, layer_of
from specs.patterns.claims import claims
from specs.patterns.manifest import Allowed
from specs.patterns.observation import Observation, Unavailable
from subjects.confinement_controls import PATTERNS, controls, judge, process, tried
from subjects.confinement_mutants import TREES

CONTROLS = controls()
CLAIMS = {each.key: each for each in claims(PATTERNS)}
DEADLINE_S = 20.0


# -- every claim, and what it must refuse ---------------------------------------------------------


def test_a_sound_system_is_accepted_by_all():
    assert judge(sample.sample()).violated == frozenset()


@pytest.mark.parametrize("control", CONTROLS, ids=lambda each: each.name)
def test_one_thing_wrong_is_refused_by_the_claim_that_names_it(control):
    result = run_control(control)
    assert result.counts, result.reason


def test_every_claim_has_a_control():
    assert {each.invariant for each in CONTROLS} == set(CLAIMS)
    assert len({each.name for each in CONTROLS}) == len(CONTROLS)


def test_every_mutant_names_a_claim():
    named = {each.claim for mutants in TREES.values() for each in mutants}
    assert len(named) >= 5 and named <= set(CLAIMS)


def test_every_probe_that_a_claim_names_is_made():
    named = {
        *chroot_jail.WAYS_BACK, *chroot_jail.WITHOUT_A_JAIL, *least_privilege.WAYS_UP,
        *compartmentalization.ON_OTHERS, *compartmentalization.ON_NETWORK,
        *compartmentalization.ON_PORTS, *distributed_delegation.ON_ASSETS,
        *(each.probe for each in ATTACKS),
    }  # fmt: skip
    assert named <= {each.name for each in PROBES}


def test_nothing_is_judged_where_nobody_was_seen():
    sound = sample.sample()
    empty = replace(sound, instants=(replace(sound.instants[0], processes=()),))
    silent = {
        key
        for key, claim in CLAIMS.items()
        if not key.startswith("defense_in_depth") and not claim.judge(empty)
    }
    # These judge what was tried from inside, or what the manifest says.
    assert silent == {
        "compartmentalization.an_end_has_one_holder",
        "compartmentalization.no_other_process_is_reached",
        "compartmentalization.slices_hold_no_more",
        "distributed_delegation.no_face_owns_an_asset",
        "distributed_delegation.no_face_opens_an_asset",
        "distributed_delegation.only_owners_open_an_asset",
        "distributed_delegation.modes_shut_faces_out",
        "distributed_delegation.any_mail_takes_two",
        "distributed_delegation.operators_are_elsewhere",
        "chroot_jail.no_way_back",
        "chroot_jail.no_jail_has_a_reason",
        "least_privilege.a_seized_spawner_gains_little",
        "least_privilege.no_way_up",
    }


def test_without_seized_processes_the_attempts_are_unavailable():
    with pytest.raises(Unavailable):
        chroot_jail.no_way_back(replace(sample.sample(), probes={}))


# -- descriptors ----------------------------------------------------------------------------------


def allowing(*rows: Allowed) -> Observation:
    """The sample, accounts' allow-list replaced; it has /dev/null twice, the log, and channels."""
    sound = sample.sample()
    changed = tuple(
        replace(row, descriptors={"accounts": rows}) if row.name == "accounts" else row
        for row in sound.manifest.compartments
    )
    return replace(sound, manifest=replace(sound.manifest, compartments=changed))


CHANNELS = Allowed(purpose="channels", kind="socket", most=None)


def test_a_wide_row_makes_room_for_who_fits_nowhere_else():
    """The log fits the wide row only; the devices, which come first, must not take it."""
    wide = Allowed(purpose="anything", kind="device", most=1)
    narrow = Allowed(purpose="null", kind="device", target="/dev/null", most=1)
    log = Allowed(purpose="log", kind="file")
    judged = compartmentalization.descriptors_are_those_allowed
    assert judged(allowing(wide, narrow, log, CHANNELS)) == ()
    assert judged(allowing(narrow, wide, log, CHANNELS)) == ()
    (text,) = judged(allowing(narrow, log, CHANNELS))
    assert "more than 1 (null)" in text


def test_a_row_that_must_be_used_and_is_not():
    null = Allowed(purpose="null", kind="device", most=2, least=3)
    log = Allowed(purpose="log", kind="file")
    (text,) = compartmentalization.descriptors_are_those_allowed(allowing(null, log, CHANNELS))
    assert text.endswith("null: 2 descriptors, at least 3")


def test_a_peer_that_is_not_in_the_row():
    to_qmgr = replace(CHANNELS, peers=("qmgr",))
    null = Allowed(purpose="null", kind="device", most=2)
    log = Allowed(purpose="log", kind="file")
    (text,) = compartmentalization.descriptors_are_those_allowed(allowing(null, log, to_qmgr))
    assert "to supervisor is not allowed" in text


# -- the fall -------------------------------------------------------------------------------------


def test_the_smallest_fall_goes_by_channels():
    assert distributed_delegation.smallest_fall(sample.sample()) == ("remote", "qmgr")


def test_one_who_hears_the_network_and_opens_the_queue_falls_alone():
    spoiled = tried("smtpd worker", "open_queue", "done", sample.QUEUE)(sample.sample())
    assert distributed_delegation.smallest_fall(spoiled) == ("smtpd",)


def test_without_channels_nothing_falls_behind_a_face():
    spoiled = sample.sample()
    for part, detail in sample.PROCESSES:
        spoiled = process(part, lambda each: replace(each, descriptors=()), detail)(spoiled)
    assert distributed_delegation.smallest_fall(spoiled) == ()


# -- who answered ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "result", "layers", "answer"),
    [
        ("open_message", "EPERM", ("jail", "seccomp"), "seccomp"),
        ("open_message", "EPERM", ("jail",), "the kernel"),
        ("open_message", "ENOENT", ("jail", "seccomp"), "jail"),
        ("open_message", "EACCES", ("users", "landlock"), "users or landlock"),
        ("open_message", "EACCES", ("users",), "users"),
        ("connect", "EACCES", ("users", "landlock"), "landlock"),
        ("connect", "ENETUNREACH", ("network",), "network"),
        ("become_root", "EINVAL", ("namespace",), "namespace"),
    ],
)
def test_the_error_tells_which_layer(probe, result, layers, answer):
    assert layer_of(probe, Outcome(result), layers) == answer


def test_the_table_has_a_row_for_each_attack_and_a_column_for_each_layer():
    head, *rows = defense_in_depth.table(sample.sample())
    assert head == (
        "attack", "with all", *(f"without {each}" for each in sample.LAYERS), "succeeds"
    )  # fmt: skip
    assert [row[0] for row in rows] == [each.name for each in ATTACKS]
    assert {len(row) for row in rows} == {len(head)}
    assert rows[0][1] == "EPERM (seccomp)" and rows[0][-1] == "with no layer left"


# -- memories -------------------------------------------------------------------------------------


def test_a_text_is_found_where_it_is_and_nowhere_else():
    ours = b"held-" + os.urandom(8).hex().encode()
    other = b"other-" + os.urandom(8).hex().encode()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; t = sys.stdin.readline(); print(flush=True);"
         " sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        child.stdin.write(other + b"\n")
        child.stdin.flush()
        child.stdout.readline()
        assert memory.held(child.pid, [ours, other]) == {other}
        child.stdin.close()
    assert memory.held(os.getpid(), [ours]) == {ours}


def test_a_text_across_two_pieces_is_found(monkeypatch, tmp_path):
    """Wherever it lies; without the overlap it is cut in two somewhere."""
    monkeypatch.setattr(memory, "PIECE", 16)
    text, file = b"needle", tmp_path / "memory"
    missed = []
    for place in range(48):
        file.write_bytes(bytes(place) + text + bytes(64))
        with file.open("rb") as opened:
            for overlap in (len(text) - 1, 0):
                found = memory._pieces(opened.fileno(), 0, 64, overlap)
                if not any(text in piece for piece in found):
                    missed.append(overlap)
    assert set(missed) == {0}


# -- at rest --------------------------------------------------------------------------------------


def test_who_is_gone_is_not_waited_for():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    await_rest([child.pid], patience_s=3600)


def test_who_is_busy_is_waited_for_until_it_rests():
    spin = (
        "import signal\nbusy = [1]\nsignal.signal(10, lambda *_: busy.clear())\n"
        "print(flush=True)\nwhile busy: pass\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            waiter = threading.Thread(target=await_rest, args=([child.pid], 3600), daemon=True)
            waiter.start()
            begun, deadline = ticks(child.pid), time.monotonic() + DEADLINE_S
            while ticks(child.pid) < begun + 30 and time.monotonic() < deadline:
                assert waiter.is_alive()
            os.kill(child.pid, signal.SIGUSR1)
            waiter.join(DEADLINE_S)
            assert not waiter.is_alive()
        finally:
            child.kill()


def ticks(pid: int) -> int:
    """Processor time used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
