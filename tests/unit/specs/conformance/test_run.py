"""Targets that close, stall, flood, answer garbage, or are not SMTP at all: a verdict for every
case or "unreachable", never a traceback, never a hang.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from unit.specs.conformance.made import PASS, case

from specs.conformance.given import Given
from specs.conformance.model import Case, Observed, Reply, Result, Verdict
from specs.conformance.run import NoTestbed, Run, Unreachable
from specs.conformance.session import NotApplicable, Session, Unavailable

Handler = Callable[[trio.SocketStream], Awaitable[None]]
BANNER = b"220 mx.example ESMTP\r\n"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    async def safely(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await handler(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, safely, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def plain(stream: trio.SocketStream, answer: bytes = b"250 ok\r\n") -> None:
    """Says 250 to everything."""
    await stream.send_all(BANNER)
    async for octets in stream:
        await stream.send_all(answer * octets.count(b"\n"))


async def quit_(talk: Session) -> Observed:
    await talk.upto("ehlo")
    return await talk.say("QUIT")


def asking(script: Callable[[Session], Awaitable[Observed]] = quit_, **more: object) -> Case:
    name = str(more.pop("id", "5321-4.1.1.10-quit"))
    return case(name, **{"script": script, "allowed": {"250": PASS}, **more})


async def results_of(handler: Handler, *cases: Case, **given: object) -> list[Result]:
    fields: dict[str, object] = {"timeout_s": 0.3, "quiet_s": 0.1, "patience_s": 0.3, **given}
    with trio.fail_after(60):
        async with serving(handler) as port:
            run = Run(given=Given(smtp=("127.0.0.1", port), **fields), cases=cases)  # type: ignore[arg-type]
            try:
                return await run.run()
            except Unreachable as error:
                unreachable = error
    raise unreachable


async def test_a_server_that_answers():
    (found,) = await results_of(plain, asking())
    assert found.verdict is Verdict.PASS
    assert [each.octets for each in found.transcript if each.who == "C"] == [
        b"EHLO client.conform.example\r\n", b"QUIT\r\n",
    ]  # fmt: skip


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep(math.inf)


async def closing(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def web(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def flooding(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"220-" + b"x" * 4000 + b"\r\n")


async def noise(stream: trio.SocketStream) -> None:
    await stream.send_all(bytes(range(256)) * 1000)


@pytest.mark.parametrize("handler", [silent, closing, web, flooding, noise])
async def test_what_is_no_server_is_unreachable(handler):
    with pytest.raises(Unreachable):
        await results_of(handler, asking())


async def test_a_closed_port_is_unreachable():
    async with serving(plain) as port:
        pass
    with pytest.raises(Unreachable):
        await Run(given=Given(smtp=("127.0.0.1", port)), cases=[asking()]).run()


async def test_a_door_that_was_given_and_is_closed_ends_the_run_before_it_begins():
    async with serving(plain) as closed:
        pass
    began = []

    async def noting(talk: Session) -> Observed:
        began.append(1)
        return "250"

    with pytest.raises(Unreachable, match=f"port {closed}"):
        await results_of(
            plain, asking(noting), asking(noting, id="2033-4-a", door="lmtp"),
            lmtp=("127.0.0.1", closed),
        )  # fmt: skip
    assert not began


async def test_a_name_server_that_can_not_listen_ends_the_run():
    async with serving(plain) as port:
        given = Given(smtp=("127.0.0.1", port), names="203.0.113.1:5353", timeout_s=1)
        with pytest.raises(NoTestbed, match=r"203\.0\.113\.1"):
            await Run(given=given, cases=[asking()]).run()


async def test_a_server_that_is_started_late_is_waited_for():
    async with serving(plain) as port:
        pass
    run = Run(given=Given(smtp=("127.0.0.1", port)), cases=[asking()], wait_s=30)
    found: list[Result] = []

    async def measured() -> None:
        found.extend(await run.run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(measured)
        await trio.sleep(0.5)
        async with trio.open_nursery() as servers:
            servers.start_soon(trio.serve_tcp, plain, port)
            while not found:
                await trio.sleep(0.05)
            servers.cancel_scope.cancel()
    assert found[0].verdict is Verdict.PASS


async def test_a_run_that_is_stopped_has_a_result_for_every_case():
    async def forever(talk: Session) -> Observed:
        run.stop("SIGTERM")
        await trio.sleep(math.inf)
        return "250"

    cases = [asking(), asking(forever, id="5321-4.1.1.9-noop"), asking(id="5321-9-late")]
    async with serving(plain) as port:
        run = Run(given=Given(smtp=("127.0.0.1", port)), cases=cases, jobs=1)
        with trio.fail_after(60):
            found = await run.run()
    assert [each.verdict for each in found] == [Verdict.PASS, Verdict.ERROR, Verdict.ERROR]
    assert found[1].saw == found[2].saw == "not done: SIGTERM"


def later(after: bytes, then: Handler) -> Handler:
    """Answers well until this is said; then it turns nasty."""

    async def handler(stream: trio.SocketStream) -> None:
        await stream.send_all(BANNER)
        async for octets in stream:
            if after in octets:
                await then(stream)
                return
            await stream.send_all(b"250 ok\r\n" * octets.count(b"\n"))

    return handler


@pytest.mark.parametrize(
    ("then", "observed"),
    [
        (silent, "silent"), (closing, "closed"), (noise, "garbage"), (flooding, "flood"),
    ],
)  # fmt: skip
async def test_what_turns_nasty_fails_its_case_and_no_other(then, observed):
    async def noop(talk: Session) -> Observed:
        await talk.upto("ehlo")
        return await talk.say("NOOP")

    bad, good = await results_of(
        later(b"QUIT", then), asking(), asking(noop, id="5321-4.1.1.9-noop")
    )
    assert (bad.verdict, bad.observed) == (Verdict.FAIL, observed)
    assert good.verdict is Verdict.PASS


async def test_a_step_before_the_question_that_is_refused_is_an_error():
    async def handler(stream: trio.SocketStream) -> None:
        await stream.send_all(BANNER)
        async for octets in stream:
            await stream.send_all(b"250 ok\r\n" if b"EHLO" in octets else b"451 later\r\n")

    async def mail(talk: Session) -> Observed:
        await talk.upto("mail")
        return await talk.say("QUIT")

    (found,) = await results_of(handler, asking(mail))
    assert found.verdict is Verdict.ERROR and "MAIL FROM" in found.saw and "451" in found.saw


async def test_421_is_no_answer_to_the_question_unless_it_is_allowed():
    async def handler(stream: trio.SocketStream) -> None:
        await stream.send_all(BANNER)
        async for octets in stream:
            await stream.send_all(b"250 ok\r\n" if b"EHLO" in octets else b"421 busy\r\n")

    shy, open_ = await results_of(handler, asking(), asking(id="5321-3.8-x", allowed={"421": PASS}))
    assert (shy.verdict, open_.verdict) == (Verdict.ERROR, Verdict.PASS)


async def raising(talk: Session) -> Observed:
    raise RuntimeError("a mistake")


async def needing(talk: Session) -> Observed:
    raise Unavailable("a reason")


async def lacking(talk: Session) -> Observed:
    raise NotApplicable("DSN")


@pytest.mark.parametrize(
    ("script", "verdict", "saw"),
    [
        (raising, Verdict.ERROR, "a mistake"), (needing, Verdict.UNAVAILABLE, "a reason"),
        (lacking, Verdict.NOT_APPLICABLE, "DSN"),
    ],
)  # fmt: skip
async def test_a_case_can_not_stop_the_run(script, verdict, saw):
    first, second = await results_of(plain, asking(script), asking(id="5321-4.1.1.9-noop"))
    assert first.verdict is verdict and saw in first.saw
    assert second.verdict is Verdict.PASS


async def test_what_was_not_given_and_not_offered_is_not_tried():
    found = await results_of(
        plain,
        asking(id="5321-3.3-a", needs=frozenset({"rcpt"})),
        asking(id="1870-3-a", keywords=("SIZE",)),
        asking(id="3207-4-a", door="starttls"),
        asking(id="2033-4-a", door="lmtp"),
    )
    assert [(each.verdict, each.saw) for each in found] == [
        (Verdict.UNAVAILABLE, "--rcpt was not given"), (Verdict.NOT_APPLICABLE, "SIZE"),
        (Verdict.NOT_APPLICABLE, "STARTTLS"), (Verdict.UNAVAILABLE, "--lmtp was not given"),
    ]  # fmt: skip
    assert all(not each.transcript for each in found)


async def test_a_case_has_a_connection_of_its_own_and_results_are_in_order():
    connections = 0

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await plain(stream)

    cases = [asking(id=f"5321-4.1-c{number}") for number in range(40)]
    found = await results_of(handler, *cases, timeout_s=5)
    assert [each.case for each in found] == cases
    assert {each.verdict for each in found} == {Verdict.PASS}
    assert connections == 41  # and one that asked what is offered


async def test_who_must_be_alone_is():
    here = most = 0

    async def counting(talk: Session) -> Observed:
        nonlocal here, most
        here += 1
        most = max(most, here)
        await trio.sleep(0.02)
        here -= 1
        return Reply(code="250")

    alone = [asking(counting, id=f"5321-4.1-a{number}", alone=True) for number in range(5)]
    await results_of(plain, *alone)
    assert most == 1
