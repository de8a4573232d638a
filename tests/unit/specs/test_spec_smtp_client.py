"""The oracle over transcripts: what it allows, what it refuses and by which name; and refmta's own
client against every scripted server within small bounds (refmta-spec searches larger ones).
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.protocol import smtp_client
from specs.kernel.control import Control, run_control
from specs.kernel.explore import explore
from specs.smtp_client.judge import INVARIANTS, Judge, judge
from specs.smtp_client.replies import Answer, Offers, Replies, offers
from specs.smtp_client.spec import ACTIONS, INVARIANT_NAMES, Bounds, client_spec
from specs.smtp_client.transcript import (
    Asked,
    Claim,
    Claimed,
    Closed,
    Connected,
    ContentFlows,
    Entry,
    Gone,
    Hurry,
    Job,
    Received,
    Sent,
    Stimulus,
    WantsContent,
)
from subjects.smtp_client import HOSTNAME, Machine, client, controls

JOB = Job(reverse_path="a@me.example", recipients=("b@x.example", "c@x.example"), content=b".\r\n")
ONE = Job(reverse_path="", recipients=("b@x.example",), content=b"hi\r\n")
BITS = Job(reverse_path="", recipients=("b@x.example",), content=b"\xe9\r\n")

HELLO = "S 220 hi|C EHLO me|S 250 hi"
GROUPS = "S 220 hi|C EHLO me|S 250-hi~250 PIPELINING"
TO_B = "RCPT TO:<b@x.example>"
DATA = f"C MAIL FROM:<>|S 250|C {TO_B}|S 250|C DATA"
GROUP = "C MAIL FROM:<a@me.example>~RCPT TO:<b@x.example>~RCPT TO:<c@x.example>~DATA"
SINGLE = f"{DATA}|S 354|C hi~."
UNCLEAN = f"{GROUPS}|{GROUP}|S 250~250~250~451|= WW+|asked"
DELIVERED, DEFERRED, FAILED, RETURNED = (
    Claim("delivered", "2.0.0"), Claim("deferred", "4.0.0"), Claim("failed", "5.0.0"),
    Claim("returned"),
)  # fmt: skip
ELSEWHERE = Claim("deferred", "4.0.0", elsewhere=True)
WORDS = {"D": DELIVERED, "W": DEFERRED, "F": FAILED, "R": RETURNED, "E": ELSEWHERE}


def entries(job: Job, story: str) -> list[Entry]:
    """S: the server, C: the client; "~" is CRLF within; =: claims, "+" means usable."""
    found: list[Entry] = [Asked(job)]
    for step in story.split("|"):
        kind, _, text = step.partition(" ")
        octets = text.replace("~", "\r\n").encode("latin-1") + b"\r\n"
        match kind:
            case "S":
                found.append(Received(octets))
            case "C":
                found.append(Sent(octets))
            case "=":
                claims = tuple(WORDS[each] for each in text if each != "+")
                found.append(Claimed(claims, usable="+" in text))
            case "gone":
                found.append(Gone())
            case "asked":
                found.append(Asked(ONE))
            case "closed":
                found.append(Closed())
    return found


ALLOWED: list[tuple[Job, str]] = [
    (ONE, f"{HELLO}|{SINGLE}|S 250|= D+|C QUIT|S 221|closed"),
    (JOB, f"{GROUPS}|{GROUP}|S 250~250~550 no~354|C ..~.|S 250|= DF+|closed"),
    (JOB, f"{GROUPS}|{GROUP}|S 250~450~552 many~354|C .|S 250|= WW+|closed"),
    (JOB, f"{GROUPS}|{GROUP}|S 550~503~503~503|= FF+|closed"),
    (
        JOB,
        f"{GROUPS}|{GROUP}|S 250~250~250~451|= WW+|asked|C RSET~MAIL FROM:<>|S 250~250|= E|closed",
    ),
    (JOB, f"{GROUPS}|{GROUP}|S 250~421 bye|= EE|closed"),
    (JOB, f"{GROUPS}|{GROUP}|S 250~550|= FR|closed"),
    (ONE, f"{HELLO}|{SINGLE}|gone|= W|closed"),
    (ONE, f"{HELLO}|{SINGLE}|S 421|= W|closed"),
    (ONE, f"{HELLO}|{SINGLE}|S 554|= F+|closed"),
    (ONE, f"{HELLO}|{SINGLE}|S 250~250|= D|closed"),
    (
        ONE,
        f"{HELLO}|{DATA}|S 354~552|= F|closed",
    ),
    (
        ONE,
        f"{HELLO}|{DATA}|S 354~250|= E|closed",
    ),
    (ONE, "S 554 no|= E|C QUIT|S 221|closed"),
    (ONE, "S 220|C EHLO me|S 502|C HELO me|S 250|C MAIL FROM:<>|S 550|= F+|closed"),
    (ONE, "S 220|C EHLO me|S 250-hi~250 SIZE 3|= F+|closed"),
    (ONE, "S 220|C EHLO me|S 250-hi~250 SIZE 4|C MAIL FROM:<> SIZE=4|gone|= E|closed"),
    (BITS, f"{HELLO}|= F+|closed"),
    (BITS, "S 220|C EHLO me|S 250-hi~250 8BITMIME|C MAIL FROM:<> BODY=8BITMIME|gone|= E|closed"),
    (ONE, "gone|= E|closed"),
    (ONE, "= R|closed"),
]

REFUSED: list[tuple[str, Job, str]] = [
    ("delivered_only_by_the_final_reply", ONE, f"{HELLO}|{SINGLE}|= D"),
    ("delivered_only_by_the_final_reply", ONE, f"{HELLO}|{SINGLE}|S 451|= D"),
    ("delivered_only_by_the_final_reply", ONE, f"{HELLO}|{SINGLE}|gone|= D"),
    ("delivered_only_by_the_final_reply", ONE, f"{HELLO}|{SINGLE}|S 354|= D"),
    ("delivered_only_by_the_final_reply", ONE, f"{HELLO}|{SINGLE}|S what|S 250|= D"),
    ("delivered_only_by_the_final_reply", JOB,
     f"{GROUPS}|{GROUP}|S 250~250~550~354|C ..~.|S 250|= DD"),
    ("delivered_only_by_the_final_reply", JOB,
     f"{GROUPS}|{GROUP}|S 250~250~250~250~354|C ..~.|S 250|= DD"),
    ("delivered_only_by_the_final_reply", JOB, f"{GROUPS}|{GROUP}|S 250~250~250~354~250|= DD"),
    ("taken_is_not_sent_again", ONE, f"{HELLO}|{SINGLE}|S 250|= W"),
    ("taken_is_not_sent_again", ONE, f"{HELLO}|{SINGLE}|S 250|= F"),
    ("failed_only_when_refused_for_good", ONE, f"{HELLO}|{SINGLE}|gone|= F"),
    ("failed_only_when_refused_for_good", ONE, "S 554 no|= F"),
    ("failed_only_when_refused_for_good", JOB, f"{GROUPS}|{GROUP}|S 250~552~250|= FE"),
    ("refused_for_good_is_reported", ONE, f"{HELLO}|C MAIL FROM:<>|S 550|= W"),
    ("returned_only_before_the_end", ONE, f"{HELLO}|{SINGLE}|= R"),
    ("elsewhere_only_before_the_end", ONE, f"{HELLO}|{SINGLE}|gone|= E"),
    ("no_recipient_forgotten", JOB, "gone|= E"),
    ("no_recipient_forgotten", ONE, "gone|closed"),
    ("no_recipient_forgotten", ONE, "gone|= E|= E"),
    ("no_recipient_forgotten", ONE, "asked"),
    ("replies_awaited", ONE, "C EHLO me"),
    ("replies_awaited", ONE, f"{HELLO}|C MAIL FROM:<>~RCPT TO:<b@x.example>"),
    ("replies_awaited", ONE, f"{GROUPS}|C MAIL FROM:<>~RCPT TO:<b@x.example>~DATA~RSET"),
    ("silent_after_421", ONE, f"{HELLO}|C MAIL FROM:<>|S 421|C RCPT TO:<b@x.example>"),
    ("silent_when_out_of_step", ONE, f"{HELLO}|S 250|C MAIL FROM:<>"),
    ("silent_when_out_of_step", ONE, "S 220|C EHLO me|S 354|C HELO me"),
    ("silent_when_out_of_step", ONE, "S 220|gone|C EHLO me"),
    ("content_only_after_354", JOB, f"{GROUPS}|{GROUP}|C .."),
    ("content_is_the_message", JOB, f"{GROUPS}|{GROUP}|S 250~250~250~354|C .~."),
    ("content_is_the_message", JOB, f"{GROUPS}|{GROUP}|S 250~250~250~354|C ."),
    ("content_is_the_message", JOB, f"{GROUPS}|{GROUP}|S 250~550~550~354|C ..~."),
    ("says_what_was_asked", ONE, f"{HELLO}|C MAIL FROM:<>|S 250|C RCPT TO:<d@x.example>"),
    ("says_what_was_asked", JOB, f"{HELLO}|C MAIL FROM:<>"),
    ("parameters_as_offered", ONE, f"{HELLO}|C MAIL FROM:<> SIZE=4"),
    ("parameters_as_offered", ONE, "S 220|C EHLO me|S 250-hi~250 SIZE 9|C MAIL FROM:<> SIZE=5"),
    ("parameters_as_offered", ONE, "S 220|C EHLO me|S 250-hi~250 SIZE 3|C MAIL FROM:<> SIZE=4"),
    ("parameters_as_offered", BITS, f"{HELLO}|C MAIL FROM:<>"),
    ("parameters_as_offered", BITS, "S 220|C EHLO me|S 250-hi~250 8BITMIME|C MAIL FROM:<>"),
    ("clean_before_mail", JOB, f"{UNCLEAN}|C MAIL FROM:<>"),
    ("hello_before_mail", ONE, "S 220|C MAIL FROM:<>"),
    ("hello_before_mail", ONE, "S 220|C EHLO me|S 500|C MAIL FROM:<>"),
    ("usable_only_in_step", JOB, f"{GROUPS}|{GROUP}|S 550|= FF+"),
    ("usable_only_in_step", ONE, f"{HELLO}|{SINGLE}|S 250~250|= D+"),
]  # fmt: skip


@pytest.mark.parametrize(("job", "story"), ALLOWED)
def test_allowed(job: Job, story: str) -> None:
    assert judge(entries(job, story)).violated == ()


@pytest.mark.parametrize(("name", "job", "story"), REFUSED)
def test_refused(name: str, job: Job, story: str) -> None:
    assert name in judge(entries(job, story)).names


def test_a_class_of_its_own_for_each_kind() -> None:
    wrong = [Asked(ONE), Gone(), Claimed((Claim("deferred", "5.0.0"),))]
    assert judge(wrong).names == {"enhanced_code_fits"}


def test_every_invariant_is_refused_here() -> None:
    assert {row[0] for row in REFUSED} | {"enhanced_code_fits"} == set(INVARIANTS)


def octet_by_octet(transcript: Iterable[Entry]) -> list[Entry]:
    return [
        type(entry)(bytes([octet])) if isinstance(entry, Sent | Received) else entry
        for entry in transcript
        for octet in (entry.octets if isinstance(entry, Sent | Received) else b" ")
    ]


@pytest.mark.parametrize(("job", "story"), ALLOWED + [row[1:] for row in REFUSED])
def test_the_judge_does_not_mind_where_octets_are_cut(job: Job, story: str) -> None:
    whole = entries(job, story)
    assert judge(octet_by_octet(whole)).names == judge(whole).names


# -- replies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "answers"),
    [
        (b"250 ok\r\n", [Answer(250, (b"ok",))]),
        (b"250\r\n421 \r\n", [Answer(250, (b"",)), Answer(421, (b"",))]),
        (b"250-a\r\n250-\r\n250 c\r\n25", [Answer(250, (b"a", b"", b"c"))]),
        (b"250-a\r\n251 b\r\n", [Answer(0)]),
        (b"2500 a\r\n250 b\r\n", [Answer(0)]),
        (b"250 a\n\r\n", [Answer(0)]),
        (b"199 a\r\n", [Answer(0)]),
        (b"260 a\r\n", [Answer(0)]),
        (b"\r\n", [Answer(0)]),
    ],
)
def test_replies(octets: bytes, answers: list[Answer]) -> None:
    assert list(Replies().read(octets)[1]) == answers


def test_offers() -> None:
    assert offers([b"pipelining", b"8BITMIME x", b"SIZE"]) == Offers(True, True, 0)
    assert offers([b"SIZE ten", b"XPIPELINING", b"", b"8BITMIME=1"]).size is None


# -- refmta's client ------------------------------------------------------------------------------

SMALL = [
    Bounds(recipients=(2, 1)),
    Bounds(recipients=(1, 2)),
    Bounds(recipients=(1, 1), eight_bit=True),
]


@pytest.mark.parametrize("bounds", SMALL, ids=str)
def test_it_holds_and_every_reply_is_given_to_every_command(bounds: Bounds) -> None:
    found = explore(client_spec(client(), bounds))
    assert found.findings() == []
    assert set(found.fired) == ACTIONS


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.name)
def test_control(control: Control) -> None:
    result = run_control(control)
    assert result.counts, result.reason


def test_every_invariant_has_a_control() -> None:
    assert {control.invariant for control in controls()} == set(INVARIANT_NAMES)


REPLY = st.one_of(
    st.sampled_from((b"250 ok\r\n", b"250\r\n", b"354 go\r\n", b"550 5.1.1 no\r\n", b"421\r\n")),
    st.sampled_from((b"250 ok\r\n", b"250-a\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 99\r\n")),
    st.builds(b"%d%s\r\n".__mod__, st.tuples(st.integers(200, 559), st.sampled_from((b"", b" x")))),
)
STIMULUS = st.one_of(
    REPLY, REPLY, REPLY, st.binary(max_size=6), st.sampled_from((Gone(), Hurry(), None))
)
JOBS = st.lists(
    st.builds(
        lambda count, content: Job(
            reverse_path="",
            recipients=tuple(f"r{place}@x.example" for place in range(count)),
            content=content.replace(b"\r", b".").replace(b"\n", b"\r\n") + b"\r\n",
        ),
        st.integers(1, 6),
        st.binary(max_size=90),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(JOBS, st.lists(STIMULUS, max_size=60))
def test_any_server_any_job(jobs: list[Job], stimuli: list[bytes | Stimulus | None]) -> None:
    """Longer than the search: several recipients, any code, any octets; a job whenever one may."""
    machine, conversation = Machine(), Judge()
    state = machine.start()
    todo = list(jobs)
    flows: list[bytes | Stimulus | None] = [Connected(), b"220 hi\r\n", *stimuli, Gone()]
    while flows:
        stimulus: Stimulus | None
        if conversation.job is None and todo:
            stimulus = Asked(todo.pop())
        else:
            octets = flows.pop(0)
            stimulus = Received(octets) if isinstance(octets, bytes) else octets
            if isinstance(octets, bytes) and not octets.endswith(b"\r\n"):
                stimulus = Received(octets + b"\r\n")  # a whole line; what it is, is open
        if stimulus is None:
            continue
        state, acts = machine.feed(state, stimulus)
        if isinstance(stimulus, Asked | Received | Gone):
            conversation = conversation.see(stimulus)
        for act in acts:
            if isinstance(act, WantsContent):
                flows.insert(0, ContentFlows())
            elif isinstance(act, Closed):
                assert conversation.see(act).violated == ()
                return
            else:
                conversation = conversation.see(act)
        assert conversation.violated == ()


def test_the_adapter_says_its_name_and_refuses_foreign_states() -> None:
    assert Machine().options == smtp_client.ClientOptions(hostname=HOSTNAME)
    with pytest.raises(TypeError, match="not a state"):
        Machine().feed("nonsense", Connected())
