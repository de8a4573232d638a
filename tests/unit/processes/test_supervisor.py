"""The supervisor: whom it starts, with what, when anew, in which order."""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
import subprocess
import sys

import msgspec
import pytest
import trio
from unit.processes.world import BOOT, of, plan, world

from refmta.patterns.trust_partitioning import ChannelBroken, border
from refmta.processes.calls import TRACE
from refmta.processes.channels import SocketChannel, local_channels
from refmta.processes.supervisor import FUTILE
from refmta.trace import Trace
from refmta.wire.messages import (
    AgentRefused,
    AgentWanted,
    Answer,
    Arrived,
    Ask,
    Configure,
    Drain,
    Link,
    Ready,
)

# -- starting -------------------------------------------------------------------------------------


async def test_each_compartment_gets_its_own_slice_and_its_links_and_no_others():
    async with world() as it:
        await it.boot()
        for name in BOOT:
            assert of(it.living(name), Configure) == [Configure(role=name, slice=name.encode())]
        ports = {name: sorted(each.port for each in of(it.living(name), Link)) for name in BOOT}
        assert ports == {"resolve": ["qmgr"], "enqueue": ["qmgr"], "qmgr": ["enqueue", "resolve"]}
        assert [e["event"] for e in it.events()].count("serving") == 1


async def test_the_two_ends_of_a_link_belong_together():
    async with world() as it:
        await it.boot()
        (one,) = it.living("enqueue").links[("qmgr", "")]
        (other,) = it.living("qmgr").links[("enqueue", "")]
        near = SocketChannel(socket.socket(fileno=os.dup(one)), border("enqueue", "qmgr"))
        far = SocketChannel(socket.socket(fileno=os.dup(other)), border("qmgr", "enqueue"))
        arrived = Arrived(queue_ids=("06H06TY2DFR20W5S",))
        near.post(arrived)
        await near.flush()
        assert [each.message for each in await far.receive()] == [arrived]
        near.close()
        far.close()


async def test_with_a_trace_everybody_gets_it_first_and_every_end_is_written():
    async with world() as it:
        trace = os.memfd_create("trace")
        it.supervisor.trace, it.supervisor.traced = Trace(trace), trace
        await it.boot()
        for name in BOOT:
            assert it.living(name).heard[0] == Link(role=name, port=TRACE)
        dead = it.living("resolve")
        await it.ends(dead)
        assert it.living("resolve").heard[0] == Link(role="resolve", port=TRACE)
        lines = os.pread(trace, 10_000, 0).splitlines()
        assert [json.loads(line) for line in lines] == [
            {"pid": os.getpid(), "sequence": 1, "action": "supervisor.started"},
            {
                "pid": os.getpid(), "sequence": 2, "action": "resolve.ended",
                "process": str(100 + dead.token), "status": "-9",
            },
        ]  # fmt: skip
        os.close(trace)


# -- what dies is started anew --------------------------------------------------------------------


async def test_who_dies_is_started_anew_and_linked_with_its_peers_again():
    async with world() as it:
        await it.boot()
        await it.ends(it.living("enqueue"))
        assert it.seen == ["start enqueue"]
        assert len(it.living("qmgr").links[("enqueue", "")]) == 2
        assert len(it.living("enqueue").links[("qmgr", "")]) == 1
        assert of(it.living("enqueue"), Configure)


async def test_who_dies_again_and_again_is_started_with_growing_pauses(autojump_clock):
    async with world() as it:
        await it.boot()
        starts = []
        for _ in range(6):
            await it.ends(it.living("resolve"), status=1 << 8)
            with trio.fail_after(60):
                while "start resolve" not in it.seen:
                    await trio.sleep(0.05)
                    await it.look()
            it.seen.clear()
            starts.append(trio.current_time())
        pauses = [b - a for a, b in itertools.pairwise(starts)]
        assert pauses == sorted(pauses) and pauses[-1] > 1
        assert [e["event"] for e in it.events()].count("throttled") >= 4


async def test_agents_of_a_dead_qmgr_are_ended_and_reaped_before_the_next_one_starts():
    """An orphan could deliver what its successor delivers, too."""
    async with world() as it:
        await it.boot()
        for user in ("ada", "bob"):
            await it.living("qmgr").say(AgentWanted(user=user))
            await it.look()
            await it.living("local", user).say(Ready())
        ada, bob = it.living("local", "ada"), it.living("local", "bob")
        it.seen.clear()
        await it.ends(it.living("qmgr"))
        assert sorted(it.seen) == sorted([f"kill {ada.token} 9", f"kill {bob.token} 9"])
        await it.ends(ada)
        assert "start qmgr" not in it.seen  # bob's may still be delivering
        await it.ends(bob)
        assert it.seen[-1] == "start qmgr"
        assert it.seen.count("start qmgr") == 1


async def test_an_agent_still_starting_when_qmgr_dies_is_ended_too():
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        ada = it.living("local", "ada")
        it.seen.clear()
        await it.ends(it.living("qmgr"))
        assert it.seen == [f"kill {ada.token} 9"]
        await it.ends(ada)
        assert it.seen[1:] == ["start qmgr"]


# -- agents ---------------------------------------------------------------------------------------


async def test_an_agent_is_started_once_however_often_it_is_wanted():
    async with world() as it:
        await it.boot()
        for _ in range(3):
            await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        assert it.seen == ["start local:ada"]
        assert ("local", "ada") in it.living("qmgr").links
        assert ("qmgr", "") in it.living("local", "ada").links


async def test_there_are_never_more_agents_than_allowed_and_the_others_have_their_turn():
    async with world(max_agents=2) as it:
        await it.boot()
        for user in ("ada", "bob", "eve", "kim"):
            await it.living("qmgr").say(AgentWanted(user=user))
        await it.look()
        assert it.seen == ["start local:ada", "start local:bob"]
        await it.living("local", "ada").say(Ready())
        await it.ends(it.living("local", "ada"), status=0)
        assert it.seen[2:] == ["start local:eve"]
        await it.ends(it.living("local", "bob"))
        assert it.seen[3:] == ["start local:kim"]


async def test_qmgr_is_told_why_there_is_no_agent():
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="root"))
        await it.look()
        await it.refuse(it.living("local", "root"), "a system user receives no mail")
        refusal = AgentRefused(user="root", text="a system user receives no mail")
        assert of(it.living("qmgr"), AgentRefused) == [refusal]
        assert it.seen == ["start local:root"]


@pytest.mark.parametrize(("code", "text"), [(73, "home directory"), (77, "may not run")])
async def test_an_agent_that_cannot_become_its_user_is_hopeless_at_once(code, text):
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        await it.ends(it.living("local", "ada"), status=code << 8)
        (refusal,) = of(it.living("qmgr"), AgentRefused)
        assert refusal.user == "ada" and text in refusal.text


async def test_an_agent_that_never_becomes_ready_is_given_up_after_some_times():
    async with world() as it:
        await it.boot()
        for number in range(FUTILE):
            assert len(of(it.living("qmgr"), AgentRefused)) == 0, number
            await it.living("qmgr").say(AgentWanted(user="ada"))
            await it.look()
            await it.ends(it.living("local", "ada"))
        (refusal,) = of(it.living("qmgr"), AgentRefused)
        assert refusal == AgentRefused(user="ada", text="the delivery agent does not start")


async def test_who_asked_for_an_agent_is_told_that_there_is_none_whoever_it_is():
    """Not the one with whom agents end: here, that is another compartment."""
    made = plan()
    compartments = [
        msgspec.structs.replace(each, ends_with="enqueue") if each.per_user else each
        for each in made.compartments
    ]
    async with world(compartments=tuple(compartments)) as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="root"))
        await it.look()
        await it.refuse(it.living("local", "root"), "a system user receives no mail")
        assert [each.user for each in of(it.living("qmgr"), AgentRefused)] == ["root"]
        assert not of(it.living("enqueue"), AgentRefused)


# -- stopping, and the operator -------------------------------------------------------------------


async def test_draining_goes_compartment_by_compartment_in_the_order_of_the_plan():
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        done = trio.Event()

        async def drain() -> None:
            await it.supervisor.drain()
            done.set()

        it.nursery.start_soon(drain)
        for name, user in (("enqueue", ""), ("qmgr", ""), ("local", "ada")):
            await it.look()
            drained = {c.name for c in it.children if of(c, Drain)}
            assert name in drained and not done.is_set()
            assert not drained - {"enqueue", "qmgr", "local"}
            await it.ends(it.living(name, user), status=0)
        await done.wait()
        assert "start qmgr" not in it.seen and "start enqueue" not in it.seen
        assert not of(it.living("resolve"), Drain)


async def test_who_does_not_drain_is_killed_after_its_time(autojump_clock):
    async with world() as it:
        await it.boot()
        token = it.living("enqueue").token

        async def drain() -> None:
            await it.supervisor.drain()

        it.nursery.start_soon(drain)
        with trio.fail_after(100):
            while f"kill {token} 9" not in it.seen:
                await trio.sleep(1)
                await it.look()
        assert "did not drain" in [e["event"] for e in it.events()]


async def test_an_operators_question_is_passed_to_qmgr_and_its_parts_come_back():
    async with world() as it:
        await it.boot()
        answers: list[Answer] = []

        class Operator:
            def post(self, answer: Answer) -> None:
                answers.append(answer)

            async def flush(self) -> None:
                await trio.lowlevel.checkpoint()

        ask = Ask(reference=9, verb="list")
        it.nursery.start_soon(it.supervisor.operators.obey, Operator(), ask)
        await trio.testing.wait_all_tasks_blocked()
        (question,) = of(it.living("qmgr"), Ask)
        assert question.verb == "list"
        for more in (True, False):
            part = Answer(reference=question.reference, error="", document=b"[]", more=more)
            await it.living("qmgr").say(part)
        assert [(each.reference, each.more) for each in answers] == [(9, True), (9, False)]


@pytest.mark.parametrize("parts", [0, 1])
async def test_an_operator_is_told_so_when_qmgr_dies_over_the_question(parts: int):
    """A part of an answer is none."""
    async with world() as it:
        await it.boot()
        ask = Ask(reference=9, verb="list")
        server, operator = local_channels(border("supervisor", "operator"))
        it.nursery.start_soon(it.supervisor.operators._serve_operator, server)
        operator.post(ask)
        await operator.flush()
        await trio.testing.wait_all_tasks_blocked()
        qmgr = it.living("qmgr")
        (question,) = of(qmgr, Ask)
        for _ in range(parts):
            part = Answer(reference=question.reference, error="", document=b"[]", more=True)
            await qmgr.say(part)
        await it.ends(qmgr)
        with trio.fail_after(20):
            (item,) = await operator.receive()
        assert isinstance(item.message, Answer)
        assert item.message.reference == 9 and "starting anew" in item.message.error
        operator.close()
        server.close()


async def test_without_a_spawner_the_supervisor_ends():
    with pytest.RaisesGroup(ChannelBroken, flatten_subgroups=True):
        async with world() as it:
            await it.boot()
            it.end.close()
            await trio.sleep_forever()


# -- the end of the spawner -----------------------------------------------------------------------

MAIN = """
import os, socket, sys
import refmta.processes.no_helpers
from refmta.processes import supervisor
spawner, plan = map(int, sys.argv[1:])
control = socket.socket(socket.AF_UNIX); control.bind(""); control.listen()
high = [os.dup2(each, 100 + n) for n, each in enumerate((spawner, plan, control.fileno()))]
for n, each in enumerate(high):
    os.dup2(each, 3 + n)
os.closerange(6, 200)
supervisor.main()
"""


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (b"", "the spawner is gone"),
        (b"nonsense", "the spawner: report cut short"),
        (struct.pack("!cQi", b"X", 1, 78 << 8), "enqueue"),
    ],
    ids=["gone", "nonsense", "not confined"],
)
def test_a_supervisor_that_ends_says_why_in_a_line_and_without_a_traceback(last, reason):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan_file = os.memfd_create("plan")
    os.write(plan_file, msgspec.msgpack.encode(plan(lazy=("resolve",))))
    with ours, theirs, subprocess.Popen(
        [sys.executable, "-c", MAIN, str(theirs.fileno()), str(plan_file)],
        pass_fds=[theirs.fileno(), plan_file], stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        theirs.close()
        assert ours.recv(4096)  # it has begun to start compartments
        if last:
            ours.send(last)
        else:
            ours.close()
        _, said = process.communicate(timeout=60)
    os.close(plan_file)
    assert process.returncode == (78 if reason == "enqueue" else 1)
    assert "Traceback" not in said, said
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["reason"] for line in lines if "reason" in line][-1] == reason
