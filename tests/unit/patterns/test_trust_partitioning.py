"""The table of borders: every message has its place, and no direction hears what it should not."""

from __future__ import annotations

import pytest

from refmta.architectures.catalogue import ARCHITECTURES
from refmta.patterns.trust_partitioning import BORDERS, Border, border
from refmta.wire import messages
from refmta.wire.frame import FrameError
from refmta.wire.messages import Message, Vocabulary, encode_message

#: All that can be said; a Target is a part of Routed.
ALL = [
    each
    for each in vars(messages).values()
    if isinstance(each, type)
    and issubclass(each, Message)
    and each not in (Message, messages.Target)
]


def directions() -> list[tuple[str, str, Vocabulary]]:
    """(speaker, hearer, what may be said), both ways of each row."""
    rows = [(one, other, side.says) for (one, other), side in BORDERS.items()]
    return rows + [(other, one, side.hears) for (one, other), side in BORDERS.items()]


@pytest.mark.parametrize(("one", "other"), BORDERS)
def test_both_ends_of_a_border_agree(one: str, other: str):
    here, there = border(one, other), border(other, one)
    assert here.hears is there.says and here.says is there.hears
    assert here.turned().turned() == here


def test_who_does_not_talk_has_no_border():
    for pair in (
        ("smtpd", "qmgr"), ("local", "enqueue"), ("resolve", "local"), ("smtpd", "local"),
        ("smtpd", "remote"), ("remote", "enqueue"), ("remote", "resolve"), ("bounce", "remote"),
    ):  # fmt: skip
        with pytest.raises(KeyError):
            border(*pair)


def test_every_message_is_said_somewhere_and_most_in_one_place_only():
    said = {each: [row[:2] for row in directions() if each in row[2].types] for each in ALL}
    assert all(said.values())
    shared = {each.__name__ for each, places in said.items() if len(places) > 1}
    assert shared == {*POOLS, "Ask", "Answer", *SUBMISSION, *DELIVERY}


#: A pool's parent passes on what the supervisor gives it, and its workers what others do.
POOLS = ("Configure", "Link", "Attach", "Line")
#: bounce submits its reports as smtpd submits its clients' mail.
SUBMISSION = ("Submit", "Finish", "Abandon", "Kept", "Refused")
#: Local mail goes to an agent, or to the one who speaks LMTP with agents.
DELIVERY = ("Deliver", "Outcome")


def test_octets_go_to_enqueue_and_by_lmtp_and_nowhere_else():
    senders = [row[:2] for row in directions() if row[2].octets]
    assert senders == [
        ("smtpd", "enqueue"), ("lmtpc", "lmtpd"), ("bounce", "enqueue"), ("lmtpd", "lmtpc"),
    ]  # fmt: skip


def test_lmtp_is_octets_and_nothing_else():
    side = border("lmtpc", "lmtpd")
    assert side.hears.types == side.says.types == ()


def test_descriptors_travel_with_these_messages_and_no_others():
    """A delivery agent can give nobody anything; neither can smtpd."""
    carried = {
        (speaker, hearer): {each.__name__ for each in words.descriptors}
        for speaker, hearer, words in directions()
        if words.descriptors
    }
    assert carried == {
        ("qmgr", "local"): {"Deliver"},
        ("qmgr", "lmtpc"): {"Deliver"},
        ("qmgr", "remote"): {"Relay"},
        ("qmgr", "bounce"): {"Report"},
        ("pool", "server"): {"Attach", "Line"},
        ("caller", "pool"): {"Attach", "Line"},
        ("pool", "worker"): {"Session", "Link"},
        ("supervisor", "compartment"): {"Link"},
    }
    for _, _, words in directions():
        assert words.descriptors <= set(words.types)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_talk_of_an_architecture_has_its_border(name: str):
    for row in ARCHITECTURES[name].talks:
        assert isinstance(border(row.client_role, row.server_role), Border)


@pytest.mark.parametrize(("one", "other"), BORDERS)
def test_a_vocabulary_decodes_its_own_words_and_no_others(one: str, other: str):
    samples = {type(each): each for each in SAMPLES}
    assert set(samples) == set(ALL)
    for words in (border(one, other).hears, border(one, other).says):
        for kind, sample in samples.items():
            payload = encode_message(sample)
            if kind in words.types:
                assert words.decode(payload) == sample
                assert words.brings(sample) == (kind in words.descriptors)
            else:
                with pytest.raises(FrameError):
                    words.decode(payload)


_ID = "06H06TY2DFR20W5S"
SAMPLES = [
    messages.Configure(role="qmgr", slice=b"x"),
    messages.Link(role="qmgr", port="local"),
    messages.Drain(),
    messages.Ready(),
    messages.AgentWanted(user="ada"),
    messages.AgentRefused(user="ada", text="no"),
    messages.Ask(reference=1, verb="ps"),
    messages.Answer(reference=1, error="", document=b"[]"),
    messages.Session(client="192.0.2.1", port=25),
    messages.Idle(),
    messages.Stress(on=True),
    messages.Attach(),
    messages.Line(),
    messages.Busy(client="192.0.2.1"),
    messages.Verify(recipient="a@b"),
    messages.Verified(code=250, enhanced="2.1.5", text=""),
    messages.Submit(reverse_path="", recipients=("a@b",), client="c", helo="h", protocol="SMTP"),
    messages.Finish(octets=1),
    messages.Abandon(),
    messages.Kept(queue_id=_ID),
    messages.Refused(code=452, enhanced="4.3.1", text="full"),
    messages.Arrived(queue_ids=(_ID,)),
    messages.Register(queue_id=_ID, head=b"x"),
    messages.Registered(queue_id=_ID),
    messages.Tried(queue_id=_ID),
    messages.Cleanse(reference=1, queue_id=_ID),
    messages.Cleansed(reference=1, done=True),
    messages.Route(reference=1, recipient="a@b"),
    messages.Routed(reference=1, code=250, enhanced="", text=""),
    messages.Lookup(reference=1, name="ada"),
    messages.Account(reference=1, exists="yes"),
    messages.Deliver(reference=1, queue_id=_ID, index=0, mailbox="M", recipient="a@b"),
    messages.Outcome(reference=1, kind="delivered", enhanced="2.0.0", text=""),
    messages.Relay(
        reference=1, queue_id=_ID, destination="[192.0.2.7]:25",
        recipients=(messages.RelayRecipient(index=0, address="a@b"),),
    ),
    messages.Hurry(),
    messages.Relayed(
        reference=1, destination="alive",
        outcomes=(messages.RelayOutcome(index=0, kind="delivered", enhanced="2.0.0", text="ok"),),
    ),
    messages.Report(
        reference=1, queue_id=_ID, kind="failed", to="a@b",
        rows=(messages.ReportRow(address="c@d", enhanced="5.1.1", text="no", when_s=1),),
    ),
    messages.Reported(reference=1, queue_id=_ID, text=""),
]  # fmt: skip
