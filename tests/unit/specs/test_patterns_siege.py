"""Claims on a siege: what a seized peer sends.  (The siege of a running system: tests/system.)

Controls: one attack with one thing wrong, each refused by the claim that was named before, and by
no other.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from specs.observe.files import File
from specs.observe.process import Capabilities, Descriptor, Process
from specs.patterns.claims import Claim
from specs.patterns.hostile_peer import Attack, Siege, _is_about, siege
from specs.patterns.lines import KINDS, plan
from specs.patterns.manifest import Compartment, Manifest, Owned
from specs.patterns.observation import Instant, Observation, Unavailable
from specs.patterns.trust_partitioning import CLAIMS, MAY_GROW, SIEGE

PARTS = ("face", "store", "above", "root")
#: (process, process): channels of a small system.
CHANNELS = (("face", "store"), ("face", "above"), ("store", "above"), ("above", "root"))


def process(name: str) -> Process:
    """With an end of each of its channels; inodes are the channels' numbers."""
    ends = []
    for number, pair in enumerate(CHANNELS):
        if name in pair:
            (other,) = set(pair) - {name}
            ends.append(
                Descriptor(
                    number=3 + number, kind="socket", target=f"socket:[{number}]", writable=True,
                    inode=10 * number + pair.index(name), family="unix",
                    peer=((PARTS.index(other), 3 + number),),
                )
            )  # fmt: skip
    return Process(
        pid=PARTS.index(name), parent=1, name=name, uids=(1,) * 4, gids=(1,) * 4, groups=(),
        capabilities=Capabilities(inheritable=0, permitted=0, effective=0, bounding=0, ambient=0),
        no_new_privs=True, seccomp=2, filters=1, dumpable=False, root="/jail", root_listing=(),
        cwd="/", namespaces={}, descriptors=tuple(ends), threads=1, started=1, limits={},
        environment=(),
    )  # fmt: skip


MANIFEST = Manifest(
    architecture="small",
    layers=(),
    compartments=(
        Compartment(name="face", parts=("face",), user=1, listener=True),
        *(Compartment(name=each, parts=(each,), user=2) for each in PARTS[1:]),
    ),
    starter="root",
    privileged=("root",),
    facts={"rests_on": frozenset({("above", "store")})},
    owned=(Owned(path="/spool", owner=0, group=0, mode=0o711),
           Owned(path="/spool/q", owner=5, group=6, mode=0o2770, below=True)),
)  # fmt: skip
PROCESSES = tuple(map(process, PARTS))
PLAN = plan(MANIFEST, PROCESSES)


def attack(sender: str = "face", receiver: str = "store", **changes: Any) -> Attack:
    values = {
        "kind": "garbage", "written": 64, "lived": True, "heard": True, "ended": True,
        "said": True, "kept": (), "grown": 4096, "mail": "",
    }  # fmt: skip
    return Attack(sender=sender, receiver=receiver, **{**values, **changes})


GOOD = Siege(tuple(attack(*direction, kind=kind) for direction, kind in PLAN))


def file(path: str, owner: int, group: int, mode: int) -> File:
    return File(
        path=path, kind="dir", owner=owner, group=group, mode=mode, size=0, inode=1, links=1
    )


FILES = (
    file("/spool", 0, 0, 0o711),
    file("/spool/q", 5, 6, 0o2770),
    file("/spool/q/a", 5, 6, 0o660),
)


def observation(siege: Siege = GOOD, files: tuple[File, ...] = FILES) -> Observation:
    return Observation(
        manifest=MANIFEST,
        instants=(Instant(label="loaded", processes=PROCESSES),),
        files=files,
        results={SIEGE: siege},
    )


def violated(seen: Observation) -> dict[str, tuple[str, ...]]:
    judged = {claim.name: claim.judge(seen) for claim in CLAIMS}
    return {name: found for name, found in judged.items() if found}


def judge(name: str, seen: Observation) -> tuple[str, ...]:
    claim: Claim = next(each for each in CLAIMS if each.name == name)
    return claim.judge(seen)


def test_the_twin_is_accepted():
    assert violated(observation()) == {}


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("receivers_survive", {"lived": False}),
        ("bad_frames_end_the_channel", {"ended": False}),
        ("refusals_are_logged", {"said": False}),
        ("no_descriptor_is_kept", {"kept": ("1 on /log",)}),
        ("memory_is_bounded", {"grown": MAY_GROW + 1}),
        ("mail_goes_on", {"mail": "waited in vain"}),
    ],
)
def test_one_wrong_attack_is_refused_by_its_claim_and_no_other(claim, changes):
    siege = Siege((*GOOD.attacks, attack(**changes)))
    found = violated(observation(siege))
    assert set(found) == {claim}
    assert found[claim][0].startswith("garbage from face to store: ")


def test_who_rests_on_the_sender_may_die_with_it():
    siege = Siege((*GOOD.attacks, attack("above", "store", lived=False)))
    assert violated(observation(siege)) == {}
    siege = Siege((*GOOD.attacks, attack("store", "above", lived=False)))
    assert set(violated(observation(siege))) == {"receivers_survive"}


def test_what_the_sender_itself_was_refused_is_no_attack():
    silent = attack(written=-1, ended=False, heard=False, said=False)
    assert violated(observation(Siege((*GOOD.attacks, silent)))) == {}


def test_a_siege_that_attacked_nobody_proves_nothing():
    found = violated(observation(Siege(())))
    assert set(found) == {claim.name for claim in CLAIMS} - {"files_belong_as_said"}


def test_who_was_left_out_is_named():
    some = tuple(each for each in GOOD.attacks if each.receiver != "store")
    (name,) = violated(observation(Siege(some)))
    assert name == "every_channel_was_attacked"
    assert "face was not made to attack store" in judge(name, observation(Siege(some)))
    missed = replace(GOOD, missed=("garbage from face to store",))
    assert judge(name, observation(missed)) == ("not there any more: garbage from face to store",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_nobody_heard_is_named(kind):
    deaf = [replace(a, heard=False) if a.kind == kind else a for a in GOOD.attacks]
    assert f"nobody heard {kind}" in judge(
        "every_channel_was_attacked", observation(Siege(tuple(deaf)))
    )


def test_the_face_sends_all_kinds_and_nobody_is_attacked_by_who_started_it():
    assert {kind for (sender, _), kind in PLAN if sender == "face"} == set(KINDS)
    assert "root" not in {sender for (sender, _), _ in PLAN}
    directions = {direction for direction, _ in PLAN}
    assert directions == {
        (one, other) for pair in CHANNELS for one, other in (pair, pair[::-1]) if one != "root"
    }
    assert [sender for (sender, _), _ in PLAN][-1] == "above", "whoever costs most comes last"


def test_a_line_counts_if_it_is_the_receivers_refusal_or_tells_of_its_end():
    manifest = replace(MANIFEST, facts={"refusals": ("cut off",)})
    receiver = replace(process("store"), pid=70, parent=7)
    for event, lived, counts in [
        ({"pid": 70, "event": "cut off"}, True, True),
        ({"pid": 70, "event": "delivered"}, True, False),
        ({"pid": 71, "event": "cut off"}, True, False),
        ({"pid": 9, "event": "ended", "process": 70}, False, True),
        ({"pid": 7, "event": "cannot work"}, False, True),
        ({"pid": 7, "event": "cannot work"}, True, False),
    ]:
        assert _is_about(manifest, event, receiver, lived=lived) is counts, event


@pytest.mark.parametrize("facts", [{}, {"frames": {"garbage": (b"x", 0)}}])
def test_a_target_that_does_not_say_what_its_frames_look_like_can_t_be_besieged(facts):
    bench: Any = SimpleNamespace(manifest=replace(MANIFEST, facts=facts))
    with pytest.raises(Unavailable, match="frames"):
        siege(bench)


# -- whose files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (file("/spool", 1, 0, 0o711), "/spool belongs to 1:0, not 0:0"),
        (file("/spool", 0, 0, 0o777), "/spool has mode 777, not 711"),
        (file("/spool/q", 5, 5, 0o2770), "/spool/q belongs to 5:5, not 5:6"),
        (file("/spool/q/a", 6, 6, 0o660), "/spool/q/a belongs to 6:6, not 5:6"),
        (file("/spool/q/a", 5, 6, 0o664), "/spool/q/a has mode 664: everybody may use it"),
    ],
)
def test_a_file_that_is_not_as_said_is_named(wrong, words):
    files = tuple(wrong if each.path == wrong.path else each for each in FILES)
    assert violated(observation(files=files)) == {"files_belong_as_said": (words,)}


def test_a_file_that_is_not_there_is_named():
    assert judge("files_belong_as_said", observation(files=FILES[1:])) == ("/spool is not there",)
    without = replace(observation(), manifest=replace(MANIFEST, owned=()))
    with pytest.raises(Unavailable):
        judge("files_belong_as_said", without)
