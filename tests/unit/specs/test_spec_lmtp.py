"""The LMTP specs: both machines within their bounds, mutants by the names of invariants, and the
judges on conversations that were written by hand.
"""

from __future__ import annotations

import pytest

from specs.kernel.control import run_control
from specs.kernel.explore import explore
from specs.lmtp import client, server
from specs.lmtp.client import Bounds, client_spec
from specs.lmtp.server import Content, Happens, Line, Mailbox, Said, Stored, server_spec
from specs.smtp_client.transcript import Asked, Claim, Claimed, Received, Sent
from subjects.lmtp import MUTANTS, SERVER, Machine, Mailboxes, controls


@pytest.mark.parametrize("recipients", [(2, 1), (3, 1), (1, 1, 1)])
def test_no_server_within_bounds_makes_the_client_say_what_it_may_not(recipients: tuple[int, ...]):
    assert explore(client_spec(Machine(), Bounds(recipients=recipients))).findings() == []


def test_no_client_within_bounds_makes_the_server_say_what_it_may_not():
    assert explore(server_spec(Mailboxes())).findings() == []


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.name)
def test_a_mutant_is_refused_by_its_name(control):
    assert run_control(control).reason == f"refused by {control.invariant}"


@pytest.mark.parametrize("side", [client, server])
def test_every_invariant_has_a_mutant(side):
    of_server = side is server
    found = {invariant for module, _, invariant, *_ in MUTANTS if (module == SERVER) is of_server}
    assert found == {*side.INVARIANTS, "never_raises"}


# -- the client's judge ---------------------------------------------------------------------------

JOB = Bounds(recipients=(3,)).job(0)
HELLO = (
    Received(b"220 mx LMTP\r\n"), Sent(b"LHLO c\r\n"),
    Received(b"250-mx\r\n250 PIPELINING\r\n"), Asked(JOB),
)  # fmt: skip
GROUP = (
    b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<r0@example.net>\r\nRCPT TO:<r1@example.net>\r\n"
    b"RCPT TO:<r2@example.net>\r\nDATA\r\n"
)
#: The second recipient is refused: the replies are for the first and the third.
SENT = (*HELLO, Sent(GROUP), Received(b"250 a\r\n250 b\r\n550 c\r\n250 d\r\n354 e\r\n"),
        Sent(b"Subject: x\r\n\r\n.\r\n"))  # fmt: skip
GOT, LATER, NEVER = (
    Claim("delivered", "2.0.0"),
    Claim("deferred", "4.0.0"),
    Claim("failed", "5.0.0"),
)


@pytest.mark.parametrize(
    ("replies", "claims", "blamed"),
    [
        (b"250 x\r\n250 y\r\n", (GOT, NEVER, GOT), set()),
        (b"250 x\r\n450 y\r\n", (GOT, NEVER, LATER), set()),
        (b"550 x\r\n250 y\r\n", (NEVER, NEVER, GOT), set()),
        (b"250 x\r\n", (GOT, NEVER, LATER), set()),
        (b"", (LATER, NEVER, LATER), set()),
        (b"250 x\r\n", (GOT, NEVER, GOT), {"delivered_only_by_its_own_reply"}),
        (
            b"250 x\r\n550 y\r\n", (NEVER, NEVER, GOT),
            {"delivered_only_by_its_own_reply", "failed_only_when_refused_for_good",
             "taken_is_not_sent_again"},
        ),
        (b"250 x\r\n250 y\r\n", (GOT, GOT, GOT), {"delivered_only_by_its_own_reply"}),
        (
            b"250 x\r\n250 y\r\n", (LATER, NEVER, GOT),
            {"taken_is_not_sent_again", "refused_for_good_is_reported"},
        ),
        (b"", (LATER, LATER, LATER), {"refused_for_good_is_reported"}),
        (b"", (LATER, NEVER), {"no_recipient_forgotten"}),
        (
            b"", (Claim("deferred", "4.0.0", elsewhere=True), NEVER, LATER),
            {"again_only_before_the_end"},
        ),
    ],
)  # fmt: skip
def test_whose_final_reply_it_is(replies: bytes, claims: tuple[Claim, ...], blamed: set[str]):
    judge = client.Judge()
    for entry in (*SENT, Received(replies), Claimed(claims)):
        judge = judge.see(entry)
    assert judge.names == blamed


# -- the server's judge ---------------------------------------------------------------------------

RECIPIENT = [(Line(b"RCPT TO:<c@d>"), ("asks",)), (Mailbox(True), (Said(250),))]
MESSAGE = [
    (Happens("connected"), (Said(220),)),
    (Line(b"LHLO c"), (Said(250),)),
    (Line(b"MAIL FROM:<a@b>"), (Said(250),)),
    *RECIPIENT, *RECIPIENT,
    (Line(b"DATA"), ("opens", Said(354))),
]  # fmt: skip
WHOLE = [*MESSAGE, (Content("whole"), ("commits",))]


@pytest.mark.parametrize(
    ("story", "blamed"),
    [
        ([*WHOLE, (Stored((True, False)), (Said(250), Said(451)))], set()),
        ([*WHOLE, (Happens("silence"), (Said(421), "closes"))], set()),
        ([*MESSAGE, (Content("bare"), ("drops", Said(550), Said(550)))], set()),
        ([*MESSAGE, (Content("smuggled"), ("drops", Said(550), "closes"))], set()),
        ([*WHOLE, (Stored((True, True)), (Said(250),))], {"a_reply_for_each_recipient"}),
        (
            [*WHOLE, (Stored((True, False)), (Said(451), Said(250)))],
            {"delivered_only_when_stored", "stored_is_said"},
        ),
        (
            [*MESSAGE, (Content("whole"), ("commits", Said(250), Said(250)))],
            {"no_reply_before_the_disk"},
        ),
        ([*MESSAGE, (Content("bare"), ("drops", Said(550)))], {"a_reply_for_each_recipient"}),
        (
            [*MESSAGE, (Content("bare"), ("drops", Said(250), Said(250)))],
            {"delivered_only_when_stored"},
        ),
        ([*MESSAGE, (Happens("gone"), ("closes",))], {"opened_is_committed_or_dropped_once"}),
        ([*MESSAGE[:3], (Line(b"DATA"), (Said(554),))], {"data_needs_a_recipient"}),
        ([*MESSAGE[:3], (Line(b"DATA"), ("opens", Said(354)))], {"data_needs_a_recipient"}),
        ([*MESSAGE[:1], (Line(b"HELO c"), (Said(250),))], {"lhlo_and_nothing_else"}),
        ([*MESSAGE[:1], (Line(b"MAIL FROM:<a@b>"), (Said(250),))], {"lhlo_before_mail"}),
        ([*MESSAGE[:2], (Line(b"NOOP"), ())], {"one_reply_to_a_command"}),
        ([*MESSAGE[:2], (Line(b"QUIT"), (Said(421),))], {"closed_is_the_end"}),
    ],
)
def test_what_a_server_may_answer(story: list, blamed: set[str]):
    judge = server.Judge()
    for stimulus, acts in story:
        assert not judge.violated
        judge = judge.see(stimulus, acts)
    assert judge.names == blamed
