"""What a trial says: books as a trial leaves them, and the same with one thing wrong, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from faultinject.books import Answer, Books, Found, Reported, Sending
from faultinject.ledger import Finding, judge
from faultinject.letters import Copy
from faultinject.network import places, verdicts
from faultinject.network.hosts import Hosts
from faultinject.network.next_hop import Visit
from faultinject.network.session import Accepted
from faultinject.network.trial import Plan, Seen

SENDER = "ada@network.example"
BAD = (
    "smtp-honest", "smtp-4yz-at-mail", "smtp-5yz-at-mail", "smtp-final-250-with-the-354",
    "dns-null-mx", "tcp-black-hole",
)  # fmt: skip
BEGAN, MENDED = 1000.0, 1010.0


def copy_at(name: str) -> Copy:
    return Copy(token=f"n-{BAD.index(name)}", attempt=1)


def recipient(name: str) -> str:
    return f"r@{places.domain(name)}"


def found(name: str, when_s: float) -> Found:
    return Found(
        copy=copy_at(name), recipient=recipient(name), digest=b"d", when_s=when_s, place="next hop"
    )


def reported(name: str, made_s: float) -> Reported:
    return Reported(
        copy=copy_at(name), recipient=recipient(name), to=SENDER, message_id=name, when_s=made_s,
        made_s=made_s,
    )  # fmt: skip


def seen(**changes: object) -> Seen:
    """All is well: what can be is delivered, what must be is reported, the rest comes later."""
    books = Books()
    for name in BAD:
        books.sendings[copy_at(name)] = Sending(
            sender=SENDER, recipients=(recipient(name),), digest=b"d",
            answer=Answer.ACKNOWLEDGED, answered_s=BEGAN,
        )  # fmt: skip
    books.found += [
        found("smtp-honest", BEGAN + 1), found("smtp-4yz-at-mail", MENDED + 1),
        found("smtp-final-250-with-the-354", MENDED + 1), found("tcp-black-hole", MENDED + 2),
    ]  # fmt: skip
    books.reported += [reported("smtp-5yz-at-mail", BEGAN + 1), reported("dns-null-mx", BEGAN + 2)]
    plan = Plan(bad=BAD, isolates=True, paces=True)
    hosts = Hosts(bad=BAD, books=books, itself="mx.network.example")
    hosts.hops["smtp-4yz-at-mail"] = hosts._hop("4yz-at-mail")
    hosts.hops["smtp-4yz-at-mail"].attempts = [
        Visit(at, "4yz-at-mail", at + 0.1) for at in (BEGAN, BEGAN + 1.2, BEGAN + 3.4, BEGAN + 7.6)
    ]
    made = Seen(
        plan=plan, hosts=hosts, books=books, began_s=BEGAN, mended_s=MENDED, alone_s=0.5,
        beside_s=0.6, live_tokens=frozenset({"n-90", "n-91"}), arrived=2,
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def findings(made: Seen) -> set[str]:
    made.account = judge(made.books, {})
    return {verdicts.kind(each.name) for each in verdicts.all_findings(made, "refmta")}


def test_all_is_well() -> None:
    made = seen()
    assert findings(made) == set()
    outcomes = {each.destination: each.outcome for each in verdicts.fates(made)}
    assert outcomes == {
        "smtp-honest": "delivered", "smtp-4yz-at-mail": "deferred", "smtp-5yz-at-mail": "failed",
        "smtp-final-250-with-the-354": "deferred", "dns-null-mx": "failed",
        "tcp-black-hole": "deferred",
    }  # fmt: skip


def gone(name: str) -> Callable[[Seen], None]:
    def tamper(made: Seen) -> None:
        made.books.found = [each for each in made.books.found if each.copy != copy_at(name)]
        made.books.reported = [each for each in made.books.reported if each.copy != copy_at(name)]

    return tamper


def instead(name: str, entry: Found | Reported) -> Callable[[Seen], None]:
    def tamper(made: Seen) -> None:
        gone(name)(made)
        (made.books.found if isinstance(entry, Found) else made.books.reported).append(entry)  # type: ignore[arg-type]

    return tamper


def fool(made: Seen) -> None:
    made.hosts.impostor.fooled.append(
        Accepted(
            token="", reverse_path=SENDER, recipients=("x@y.example",), octets=1, sha256="",
            body_sha256="", replied=True, behaviour="honest", connection=1,
        )
    )  # fmt: skip


def hammer(made: Seen) -> None:
    visits = made.hosts.hops["smtp-4yz-at-mail"].attempts
    made.hosts.hops["smtp-4yz-at-mail"].attempts = [*visits, Visit(BEGAN + 7.8, "x", BEGAN + 7.9)]


def forget(made: Seen) -> None:
    del made.hosts.hops["smtp-4yz-at-mail"].attempts[1:]


WRONG = {
    "lost where nobody lied": ("lost", gone("smtp-4yz-at-mail")),
    "lost where 250 was said": ("deceived", gone("smtp-final-250-with-the-354")),
    "reported, though it may pass": (
        "given_up", instead("smtp-4yz-at-mail", reported("smtp-4yz-at-mail", BEGAN + 1)),
    ),
    "a black hole is no refusal": (
        "given_up", instead("tcp-black-hole", reported("tcp-black-hole", BEGAN + 1)),
    ),
    "refused, and kept until it was mended": (
        "not_given_up", instead("smtp-5yz-at-mail", found("smtp-5yz-at-mail", MENDED + 1)),
    ),
    "reported far too late": (
        "not_given_up", instead("dns-null-mx", reported("dns-null-mx", MENDED + 5)),
    ),
    "nothing was wrong, and it waited": (
        "not_delivered", instead("smtp-honest", found("smtp-honest", MENDED + 1)),
    ),
    "taken by an impostor": ("impostor", fool),
    "others were late": ("delayed", lambda made: setattr(made, "beside_s", 3.1)),
    "others did not arrive": ("delayed", lambda made: setattr(made, "beside_s", 0.0)),
    "others waited for each that hung": ("delayed", lambda made: setattr(made, "meanwhile", 0)),
    "tried again at once": ("retried_too_soon", hammer),
    "tried once": ("retried_too_late", forget),
    "nobody came": ("unmet", lambda made: setattr(made, "unmet", ("dns-null-mx",))),
    "what the trial itself noticed": (
        "died", lambda made: made.oddities.append(Finding(name="died", text="by itself")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_one_thing_wrong_is_found_by_its_name(what: str) -> None:
    name, tamper = WRONG[what]
    made = seen()
    tamper(made)
    assert name in findings(made)
    assert name in verdicts.MEANINGS


def test_what_is_known_at_one_destination_is_not_known_at_another() -> None:
    made = seen()
    for name in ("smtp-4yz-at-mail", "tcp-black-hole"):
        instead(name, reported(name, BEGAN + 1))(made)
    made.account = judge(made.books, {})
    names = {each.name for each in verdicts.all_findings(made, "refmta")}
    assert names == {"given_up at smtp-4yz-at-mail", "given_up at tcp-black-hole"}


def test_isolation_and_schedule_are_judged_only_where_they_are_asked_for() -> None:
    made = seen(beside_s=0.0, plan=Plan(bad=BAD))
    hammer(made)
    assert findings(made) == set()


def test_two_copies_of_a_letter_are_not_one_that_is_tried_too_soon() -> None:
    made = seen()
    hammer(made)
    first = copy_at("smtp-4yz-at-mail")
    made.books.sendings[replace(first, attempt=first.attempt + 1)] = made.books.sendings[first]
    assert not findings(made) & {"retried_too_soon", "retried_too_late"}


def test_a_slow_machine_is_no_finding() -> None:
    made = seen(alone_s=2.0, beside_s=9.9)
    assert findings(made) == set()


def test_a_letter_without_its_250_is_nobodys_promise() -> None:
    made = seen()
    sending = made.books.sendings[copy_at("smtp-honest")]
    sending.answer, sending.answered_s = Answer.DEFERRED, 0.0
    gone("smtp-honest")(made)
    assert findings(made) == set()


def test_where_many_hang_only_what_is_wrong_for_ever_is_found() -> None:
    made = seen(plan=Plan(bad=BAD, prompt=False), unmet=("dns-null-mx",))
    for name in ("smtp-honest", "smtp-5yz-at-mail"):
        instead(name, found(name, MENDED + 1))(made)
    assert findings(made) == set()
    instead("smtp-4yz-at-mail", reported("smtp-4yz-at-mail", BEGAN + 1))(made)
    assert findings(made) == {"given_up"}


def test_a_report_may_wait_for_the_other_recipients_of_its_letter() -> None:
    made = seen()
    instead("dns-null-mx", reported("dns-null-mx", MENDED + 5))(made)
    sending = made.books.sendings[copy_at("dns-null-mx")]
    made.books.found.append(replace(found("dns-null-mx", BEGAN), recipient="b@d0.live.example"))
    assert findings(made) >= {"not_given_up"}
    sending.recipients = (*sending.recipients, "b@d0.live.example")
    assert findings(made) == set()
