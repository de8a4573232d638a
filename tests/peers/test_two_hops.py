"""Real mail over two hops: refmta to Postfix to refmta, refmta to Exim and back, by the DNS.

Every message of the corpus (90 files of real mail and worse, 117 real bounces) goes in at a.test by
SMTP. What a.test accepts must come out of the second hop once, equal octet for octet, below the
trace headers that each host puts on top. The peers are told to drop no header of their own accord;
the one thing that both mend is a header that ends without its empty line (`separated`).
"""

from __future__ import annotations

import difflib
import email
import re
from collections.abc import Iterator

import pytest
from flufl.bounce import scan_message
from peers.bounces import bounces
from peers.hops import Internet, Refmta, internet, wait_for
from system.corpus import SOURCES

from faultinject.overlay import scratch

pytestmark = [
    pytest.mark.needs("overlay", "postfix", "dnsmasq", "exim-package", "spamassassin-samples"),
    pytest.mark.timeout(1200),
]
SENDER = "sender@a.test"
ACCEPTED = 199  # of 207; the other eight hold bare CRs: see real_mail.toml
FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|[ \t]")
TRACE = re.compile(rb"(?:Received:.*\n(?:[ \t].*\n)*)+")


@pytest.fixture(scope="module")
def world() -> Iterator[Internet]:
    with scratch("hops") as (place, _), internet(place) as found:
        yield found


@pytest.fixture(scope="module")
def mails(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """Name -> octets on the wire; names are local parts."""
    assert request.config.cache is not None
    found: dict[str, bytes] = {}
    for source in SOURCES:
        cache = request.config.cache.mkdir(source.name)
        found |= {f"{source.name}-{n}": m.wire for n, m in enumerate(source.mails(cache))}
    real = bounces(request.config.cache.mkdir("flufl-bounce"))
    for number, (_, octets) in enumerate(real):
        lines = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        found[f"bounce-{number}"] = lines if lines.endswith(b"\r\n") else lines + b"\r\n"
    return found


def reports(of: Refmta) -> dict[str, str]:
    """Failed recipient -> status, from the reports that have come back to the sender.

    Two judges that others wrote must agree: Python's email package, and flufl.bounce.
    """
    found: dict[str, str] = {}
    for octets in of.delivered().get(SENDER, []):
        message = email.message_from_bytes(octets)
        assert message.get_content_type() == "multipart/report"
        assert not message.defects
        failed = {each.decode() for each in scan_message(message)}
        statuses = {}
        for part in message.walk():
            if part.get_content_type() == "message/delivery-status":
                for block in part.get_payload()[1:]:
                    statuses[block["Final-Recipient"].partition(";")[2].strip()] = block["Status"]
        assert failed == set(statuses)
        found |= statuses
    return found


def separated(message: bytes) -> bytes:
    """As both peers pass a message on: with an empty line where its header ends without one.

    (RFC 5322 2.1 has one there; what came without it is repaired by Postfix and by Exim.)
    """
    place = 0
    for line in message.splitlines(keepends=True):
        if not FIELD.match(line) or (place == 0 and line[:1] in b" \t"):
            return message[:place] + (b"" if line == b"\n" else b"\n") + message[place:]
        place += len(line)
    return message


def difference(sent: bytes, arrived: bytes) -> str:
    """The first lines that are not in both."""
    lines = difflib.ndiff(
        sent.decode("latin-1").splitlines(), arrived.decode("latin-1").splitlines()
    )
    trace = re.compile(r"\+ (Received:|\t(by|for) |\t\w{3}, )")
    changed = [each[:80] for each in lines if each[0] in "+-" and not trace.match(each)]
    return repr(changed[:4]) if changed else "equal, but listed, or only line ends differ"


def check(world: Internet, mails: dict[str, bytes], peer: str, via: str, end: Refmta) -> None:
    """All mails over one peer."""
    answers = world.send(mails, via, SENDER)
    accepted = {name for name, said in answers.items() if said.startswith("250")}
    for name in answers.keys() - accepted:
        assert answers[name].startswith("550 5.6.0"), name  # a bare CR or LF: see real_mail.toml
    assert len(accepted) == ACCEPTED
    wanted = {f"{name}@{end.domain}" for name in accepted}
    wait_for(lambda: wanted <= end.delivered().keys(), f"all has come back from {peer}", end.log)
    delivered = end.delivered()
    problems = []
    for name in sorted(accepted):
        (octets,) = delivered[f"{name}@{end.domain}"]  # once
        kept = separated(mails[name].replace(b"\r\n", b"\n"))
        trace = octets.removesuffix(kept)
        if trace == octets or not TRACE.fullmatch(trace):
            problems.append(f"{name}: {difference(kept, octets)}")
    assert not problems, "\n".join(problems)
    wait_for(lambda: not world.a.queued() and not world.b.queued(), "the queues are empty")


def test_refmta_to_postfix_to_refmta(world: Internet, mails: dict[str, bytes]) -> None:
    check(world, mails, "postfix", "hub.test", world.b)


def test_refmta_to_exim_and_back(world: Internet, mails: dict[str, bytes]) -> None:
    check(world, mails, "exim", "gate.test", world.a)


#: What becomes of mail to these, and the status in the report.
OUTCOMES = {
    "nowhere.test": "5.1.10",  # null MX, RFC 7505
    "nosuch.test": "5.1.2",  # no such domain
}


def test_what_cannot_be_delivered_is_reported(world: Internet) -> None:
    mail = b"From: <sender@a.test>\r\nSubject: to nobody\r\n\r\nhello\r\n"
    for domain in OUTCOMES:
        assert world.send({"nobody": mail}, domain, SENDER)["nobody"].startswith("250")
    wait_for(
        lambda: {f"nobody@{domain}" for domain in OUTCOMES} <= set(reports(world.a)),
        "the reports have come back", world.a.log,
    )  # fmt: skip
    found = reports(world.a)
    for domain, status in OUTCOMES.items():
        assert found[f"nobody@{domain}"] == status


def test_the_second_mx_takes_what_the_first_does_not(world: Internet) -> None:
    mail = b"Subject: to the second\r\n\r\nhello\r\n"
    answer = world.send({"later": mail}, "second.test", SENDER)["later"]
    assert answer.startswith("250")
    # b.test is no host for second.test: it relays for this network, finds itself in the list of
    # MX records behind the dead one, and must not send to itself or loop.
    wait_for(
        lambda: b'"later@second.test"' in world.b.log(), "b.test was given the message", world.a.log
    )
