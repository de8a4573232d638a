"""The claims of Secure Pre-forking: they accept a sound system, and each refuses, by its name, one
that differs in what the claim is about.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from specs.observe.memory import held, overwrite
from specs.observe.process import Descriptor, Process
from specs.patterns import secure_preforking
from specs.patterns.observation import Failed, Observation, Unavailable
from specs.patterns.pool_sessions import Captured, Overloaded, Planted, Pool, connections, server_of
from specs.patterns.sample import RULES, sample

CLAIMS = {each.name: each for each in secure_preforking.CLAIMS}
PLANTED = Planted(
    victim=1, places=3, own=True, heard=((2, False),), remembered=(), uses={1: 10, 2: 1}
)
CAPTURED = Captured(sessions=1000, served=1000, taken=0, tries=50, lived=True)
OVERLOADED = Overloaded(
    clients=20, looks=9, most=RULES.max_workers, double=(), dismissed=4, recovered=True
)


def sound() -> Observation:
    """A system of which all claims hold."""
    results = {
        "planted_state": PLANTED, "captured_sessions": CAPTURED, "overload": OVERLOADED,
    }  # fmt: skip
    seen = replace(sample(), results=results)
    for pool in ("smtpd", "remote"):
        (template,) = seen.instants[0].named(f"{pool} template")
        seen = changed(seen, f"{pool} worker", partial(replace, parent=template.pid))
    return seen


def changed(
    seen: Observation, name: str, change: Callable[[Process], Process | None]
) -> Observation:
    """With all processes of that name changed, or taken away."""
    instants = []
    for instant in seen.instants:
        now = [change(each) if each.name == name else each for each in instant.processes]
        instants.append(replace(instant, processes=tuple(each for each in now if each)))
    return replace(seen, instants=tuple(instants))


def more(**fields: Any) -> Callable[[Process], Process]:
    """A process with one descriptor more: a socket."""
    one = Descriptor(
        number=99, kind="socket", target="socket:[9999]", writable=True, inode=9999,
        family="inet", **fields,
    )  # fmt: skip
    return lambda process: replace(process, descriptors=(*process.descriptors, one))


def result(name: str, value: object, **fields: Any) -> Observation:
    """With one measurement that came out otherwise."""
    seen = sound()
    return replace(seen, results={**seen.results, name: replace(value, **fields)})  # type: ignore[type-var]


def crowd(seen: Observation) -> Observation:
    """More workers than there may be."""
    (instant, *rest) = seen.instants
    (worker, *_) = instant.named("smtpd worker")
    clones = [replace(worker, pid=9000 + n) for n in range(RULES.max_workers + 1)]
    return replace(
        seen, instants=(replace(instant, processes=(*instant.processes, *clones)), *rest)
    )


def without_workers(seen: Observation) -> Observation:
    """Nobody to be judged."""
    seen = changed(seen, "smtpd worker", lambda _: None)
    return changed(seen, "remote worker", lambda _: None)


CLIENT = {"local": "127.0.0.1:25", "remote": "192.0.2.1:4000"}
WRONG: list[tuple[str, str, Callable[[], Observation]]] = [
    ("within_max_workers", "a worker too many", lambda: crowd(sound())),
    ("within_max_workers", "nobody to be seen", lambda: without_workers(sound())),
    (
        "one_session_at_a_time", "two clients",
        lambda: changed(
            changed(sound(), "smtpd worker", more(**CLIENT)), "smtpd worker", more(**CLIENT)
        ),
    ),
    (
        "no_worker_listens", "a worker has the listening socket",
        lambda: changed(sound(), "smtpd worker", more(listening=True, local="0.0.0.0:25")),
    ),
    (
        "no_worker_listens", "the template has it",
        lambda: changed(sound(), "smtpd template", more(listening=True, local="0.0.0.0:25")),
    ),
    (
        "forked_from_one_that_served_nobody", "forked by another worker",
        lambda: changed(sound(), "smtpd worker", lambda each: replace(each, parent=each.pid)),
    ),
    (
        "forked_from_one_that_served_nobody", "the template serves",
        lambda: changed(sound(), "smtpd template", more(**CLIENT)),
    ),
    (
        "planted_state_ends_with_its_worker", "the next one says it",
        lambda: result("planted_state", PLANTED, heard=((2, True),)),
    ),
    (
        "planted_state_ends_with_its_worker", "the next one has it",
        lambda: result("planted_state", PLANTED, remembered=(2,)),
    ),
    (
        "planted_state_ends_with_its_worker", "nothing was planted",
        lambda: result("planted_state", PLANTED, own=False),
    ),
    (
        "planted_state_ends_with_its_worker", "nobody was born",
        lambda: result("planted_state", PLANTED, heard=()),
    ),
    (
        "no_worker_beyond_max_uses", "one session too many",
        lambda: result("planted_state", PLANTED, uses={1: RULES.max_uses + 1}),
    ),
    (
        "used_up_it_captures_nothing", "one is taken",
        lambda: result("captured_sessions", CAPTURED, taken=1),
    ),
    (
        "used_up_it_captures_nothing", "one is not served",
        lambda: result("captured_sessions", CAPTURED, served=999),
    ),
    (
        "used_up_it_captures_nothing", "it never tried",
        lambda: result("captured_sessions", CAPTURED, lived=False),
    ),
    (
        "overload_stays_within_the_cap", "a worker too many",
        lambda: result("overload", OVERLOADED, most=RULES.max_workers + 1),
    ),
    (
        "overload_stays_within_the_cap", "no overload",
        lambda: result("overload", OVERLOADED, most=RULES.max_workers - 1),
    ),
    (
        "overload_stays_within_the_cap", "a worker is shared",
        lambda: result("overload", OVERLOADED, double=(7,)),
    ),
    (
        "overload_shortens_patience", "nobody is sent away",
        lambda: result("overload", OVERLOADED, dismissed=0),
    ),
    (
        "overload_shortens_patience", "nobody is served afterwards",
        lambda: result("overload", OVERLOADED, recovered=False),
    ),
]  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_sound_system_is_accepted(name: str):
    assert CLAIMS[name].judge(sound()) == ()


@pytest.mark.parametrize(("name", "what", "seen"), WRONG)
def test_a_wrong_one_is_refused_by_the_named_claim_and_by_no_other(
    name: str, what: str, seen: Callable[[], Observation]
):
    refusing = {each.name for each in CLAIMS.values() if each.judge(seen())}
    needs_workers = {"one_session_at_a_time", "no_worker_listens"}
    assert name in refusing, what
    assert refusing <= {name} | (needs_workers if what == "nobody to be seen" else set()), what


def test_every_claim_has_a_control():
    assert {name for name, _, _ in WRONG} == set(CLAIMS)


def test_what_could_not_be_measured_is_no_verdict():
    missing = {"captured_sessions": Unavailable("no ptrace")}
    with pytest.raises(Unavailable):
        CLAIMS["used_up_it_captures_nothing"].judge(replace(sound(), results=missing))
    broken = {"captured_sessions": Failed("it broke down")}
    with pytest.raises(RuntimeError):
        CLAIMS["used_up_it_captures_nothing"].judge(replace(sound(), results=broken))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_system_without_pools_has_nothing_that_bounds_a_worker(name):
    seen = sound()
    rows = tuple(replace(each, pool=None) for each in seen.manifest.compartments)
    bare = replace(seen, manifest=replace(seen.manifest, compartments=rows))
    assert CLAIMS[name].judge(bare) == ("there is no pool",)


# -- the instruments ------------------------------------------------------------------------------

SECRET, OTHER = b"a text that only one has", b"A TEXT THAT ONLY ONE HAS"
CHILD = """
import sys
text = "a text that " + "only one has"
for line in sys.stdin:
    print(text, flush=True)
"""


@contextmanager
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that says its text when asked."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("say\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


@pytest.mark.needs("root")
def test_what_is_written_over_a_text_is_what_the_process_says_and_has():
    with child() as process:
        assert asked(process) == SECRET.decode()
        assert overwrite(process.pid, SECRET, OTHER) > 0
        assert asked(process) == OTHER.decode()
        assert held(process.pid, [OTHER]) == {OTHER}
    with pytest.raises(ValueError):
        overwrite(os.getpid(), b"one", b"other")


def test_who_has_a_connection_is_seen():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        pool = Pool(address=address, workers=lambda: [os.getpid()], max_workers=1, max_uses=1)
        assert connections(pool) == {os.getpid(): 0}
        with socket.create_connection(address) as client, listener.accept()[0]:
            assert server_of(pool, client.getsockname()[1]) == os.getpid()
            assert connections(pool) == {os.getpid(): 1}
