"""What a name server of ours answers about a domain: a table of ways to fail, and to lie.

A row is a domain.  The truth about a domain D is the same for all of them:

    D    MX 10 mx.D          mx.D    A {good}          nothing else

and a row says for some questions what is answered instead, in turn; the last answer is repeated.

Rules a reader may rely on
- A question is "TYPE LABEL": LABEL is "@" for the domain, else what stands before it; "*" stands
  for any.  The most specific line counts.
- A record is "OWNER TYPE DATA", OWNER "@" for the name that was asked for.  {d} is the domain,
  {good} the address where its mail is taken; {closed} one where nobody listens; {bad} the address
  of an impostor: no answer that a client may believe leads there, so mail that comes there was sent
  on the word of a stranger; {itself} is the name of the server under test.
- `allows` is the oracle, as in `behaviours`: what a client may report while the row is in force.

RFC 1034 3.6.2 (aliases), RFC 1035 4.1.1 (codes), 4.2.1 (truncation), RFC 2181 5.4.1 and RFC 5452
9.1 (which answers count), RFC 5321 5.1 (MX, none, failed), RFC 6891 7 (servers without EDNS),
RFC 7505 (null MX).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from faultinject.network.behaviours import DEFERRED, DELIVERED, FAILED, GIVEN_UP

#: How an answer goes out.
#:   "plain": as it is, truncated if it is too long for a datagram
#:   "silence": not at all
#:   "cut": over UDP always truncated; over TCP as it is
#:   "cut-and-closed", "cut-and-silent": the same, and over TCP nobody answers
#:   "no-edns": FORMERR to a question that has EDNS
#: and with a forged answer, which has the records of `forged`, and is not to be believed:
#:   "wrong-id", "wrong-question", "no-response": sent first, before the true one
#:   "stranger": the same, from another port
#:   "only-wrong-id", "only-wrong-question", "only-no-response": no true one follows
#: and with octets that are no message: "garbage-first", "garbage", "half", "empty".
Way = Literal[
    "plain", "silence", "cut", "cut-and-closed", "cut-and-silent", "no-edns", "wrong-id",
    "wrong-question", "no-response", "stranger", "only-wrong-id", "only-wrong-question",
    "only-no-response", "garbage-first", "garbage", "half", "empty",
]  # fmt: skip
Code = Literal["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """records: of the answer section.  pause_s: before it is sent.  authority: whether an answer
    without records says by an SOA that there are none.
    """

    records: tuple[str, ...] = ()
    code: Code = "NOERROR"
    way: Way = "plain"
    forged: tuple[str, ...] = ()
    pause_s: float = 0.0
    authority: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """replies: question -> what is answered, in turn."""

    replies: Mapping[str, tuple[Reply, ...]]
    allows: frozenset[str]


NOTHING: Final = Reply()
NO_NAME: Final = Reply(code="NXDOMAIN")
SILENCE: Final = Reply(way="silence")
MX, A = Reply(records=("@ MX 10 mx.{d}.",)), Reply(records=("@ A {good}",))
TO_BAD: Final = Reply(records=("@ A {bad}",))
#: Of every domain.
TRUTH: Final[Mapping[str, tuple[Reply, ...]]] = {
    "MX @": (MX,), "* @": (NOTHING,), "A mx": (A,), "* mx": (NOTHING,), "* *": (NO_NAME,),
}  # fmt: skip


def _row(allows: frozenset[str], /, **replies: Reply | tuple[Reply, ...]) -> Row:
    """`MX_at=..`: of the domain; `A_mx`, `all_mx`, `all_at`, `all_all` likewise."""
    found = {}
    for name, each in replies.items():
        kind, _, label = name.partition("_")
        question = f"{'*' if kind == 'all' else kind} {_LABELS.get(label, label)}"
        found[question] = each if isinstance(each, tuple) else (each,)
    return Row(replies=found, allows=allows)


_LABELS: Final = {"at": "@", "all": "*"}


def _mx(*records: str, **how: object) -> Reply:
    return Reply(records=tuple(f"@ MX {each}" for each in records), **how)  # type: ignore[arg-type]


def _how(reply: Reply, way: Way, **how: object) -> Reply:
    return Reply(records=reply.records, way=way, **how)  # type: ignore[arg-type]


def _everyday() -> dict[str, Row]:
    """Seldom, and allowed: mail comes through."""
    many = tuple(f"10 a-host-of-many-number-{number}.{{d}}." for number in range(60))
    late = DEFERRED | DELIVERED
    return {
        "honest": _row(DELIVERED),
        "no-mx": _row(DELIVERED, MX_at=NOTHING, A_at=A),
        "alias": _row(
            DELIVERED,
            MX_at=Reply(records=("@ CNAME real.{d}.", "real.{d}. MX 10 mx.{d}.")),
            all_at=Reply(records=("@ CNAME real.{d}.",)), all_real=NOTHING, MX_real=MX,
        ),
        "exchanger-is-an-alias": _row(
            DELIVERED,
            A_mx=Reply(records=("@ CNAME real.{d}.", "real.{d}. A {good}")),
            all_mx=Reply(records=("@ CNAME real.{d}.",)), A_real=A, all_real=NOTHING,
        ),
        "many-exchangers": _row(DELIVERED, MX_at=_mx(*many), A_all=A, all_all=NOTHING),
        "truncated": _row(DELIVERED, MX_at=_how(MX, "cut"), A_mx=_how(A, "cut")),
        "slow": _row(
            DELIVERED, MX_at=_how(MX, "plain", pause_s=0.5), A_mx=_how(A, "plain", pause_s=0.5)
        ),
        "no-edns": _row(DELIVERED, MX_at=_how(MX, "no-edns"), A_mx=_how(A, "no-edns")),
        "silent-once": _row(late, MX_at=(SILENCE, MX), A_mx=(SILENCE, A)),
        "fails-once": _row(late, MX_at=(Reply(code="SERVFAIL"), MX)),
        "first-exchanger-is-no-name": _row(DELIVERED, MX_at=_mx("10 dead.{d}.", "20 mx.{d}.")),
        "first-exchanger-is-closed": _row(
            DELIVERED, MX_at=_mx("10 dead.{d}.", "20 mx.{d}."),
            A_dead=Reply(records=("@ A {closed}",)), all_dead=NOTHING,
        ),
        "first-exchanger-fails": _row(
            late, MX_at=_mx("10 dead.{d}.", "20 mx.{d}."), all_dead=Reply(code="SERVFAIL")
        ),
        "ipv6-fails": _row(late, AAAA_mx=Reply(code="SERVFAIL")),
        "ipv6-is-silent": _row(late, AAAA_mx=SILENCE),
    }  # fmt: skip


def _failing() -> dict[str, Row]:
    """No answer, or that there is nothing: temporary and final."""
    failed, loop = Reply(code="SERVFAIL"), "@ CNAME b.{d}."
    return {
        "silent": _row(DEFERRED, all_all=SILENCE, all_at=SILENCE, all_mx=SILENCE),
        "silent-about-addresses": _row(DEFERRED, all_mx=SILENCE),
        "servfail": _row(DEFERRED, all_all=failed, all_at=failed, all_mx=failed),
        # RFC 5321 5.1: a failure is no absence; the address of the domain is not for its mail.
        "servfail-about-mx": _row(DEFERRED, MX_at=failed, A_at=TO_BAD),
        "servfail-about-addresses": _row(DEFERRED, all_mx=failed),
        "silent-about-mx": _row(DEFERRED, MX_at=SILENCE, A_at=TO_BAD),
        "refused": _row(DEFERRED, all_at=Reply(code="REFUSED"), all_mx=Reply(code="REFUSED")),
        "not-implemented": _row(DEFERRED, all_at=Reply(code="NOTIMP"), all_mx=Reply(code="NOTIMP")),
        "formerr": _row(GIVEN_UP, all_at=Reply(code="FORMERR"), all_mx=Reply(code="FORMERR")),
        "truncated-and-closed": _row(DEFERRED, all_at=_how(MX, "cut-and-closed")),
        "truncated-and-silent": _row(DEFERRED, all_at=_how(MX, "cut-and-silent")),
        "nxdomain": _row(FAILED, all_at=NO_NAME, all_mx=NO_NAME),
        "nodata": _row(FAILED, all_at=NOTHING),
        "nodata-without-authority": _row(FAILED, all_at=Reply(authority=False)),
        "null-mx": _row(FAILED, MX_at=_mx("0 ."), A_at=TO_BAD),
        "exchanger-is-no-name": _row(GIVEN_UP, MX_at=_mx("10 dead.{d}."), A_at=TO_BAD),
        "exchanger-has-no-address": _row(GIVEN_UP, A_mx=NOTHING, A_at=TO_BAD),
        "cname-loop": _row(
            GIVEN_UP, all_at=Reply(records=(loop, "b.{d}. CNAME {d}.")),
            all_b=Reply(records=("@ CNAME {d}.", "{d}. CNAME b.{d}.")),
        ),
        "cname-loop-by-steps": _row(
            GIVEN_UP, all_at=Reply(records=(loop,)), all_b=Reply(records=("@ CNAME {d}.",))
        ),
        "cname-to-itself": _row(GIVEN_UP, all_at=Reply(records=("@ CNAME {d}.",))),
        "exchanger-in-a-loop": _row(
            GIVEN_UP, all_mx=Reply(records=(loop,)), all_b=Reply(records=("@ CNAME mx.{d}.",))
        ),
    }  # fmt: skip


def _lying() -> dict[str, Row]:
    """Answers that are none, are another's, or are not true."""
    late, bad_mx, bad_a = DEFERRED | DELIVERED, ("@ MX 5 bad.{d}.",), ("@ A {bad}",)

    def forged(way: Way, allows: frozenset[str]) -> Row:
        return _row(
            allows, MX_at=_how(MX, way, forged=bad_mx), A_mx=_how(A, way, forged=bad_a),
            A_bad=TO_BAD,
        )  # fmt: skip

    def broken(way: Way, allows: frozenset[str] = DEFERRED) -> Row:
        return _row(allows, all_at=_how(MX, way), A_mx=_how(A, way))

    return {
        "wrong-id-first": forged("wrong-id", late),
        "wrong-id": forged("only-wrong-id", DEFERRED),
        "wrong-question-first": forged("wrong-question", late),
        "wrong-question": forged("only-wrong-question", GIVEN_UP),
        "no-response-first": forged("no-response", late),
        "no-response": forged("only-no-response", DEFERRED),
        "stranger-first": forged("stranger", late),
        "garbage-first": broken("garbage-first", late),
        "garbage": broken("garbage"),
        "half-a-message": broken("half"),
        "empty": broken("empty"),
        # RFC 2181 5.4.1: what nobody asked for does not answer.
        "another-name": _row(
            GIVEN_UP, MX_at=Reply(records=("elsewhere.{d}. MX 5 bad.{d}.",)), A_bad=TO_BAD
        ),
        "another-name-has-the-address": _row(
            GIVEN_UP, A_mx=Reply(records=("elsewhere.{d}. A {bad}",))
        ),
        "another-type": _row(GIVEN_UP, MX_at=TO_BAD),
        # RFC 5321 5.1: mail for others is not sent to oneself.
        "it-is-you": _row(GIVEN_UP, MX_at=_mx("10 {itself}.")),
        "it-is-localhost": _row(GIVEN_UP, A_mx=Reply(records=("@ A 127.0.0.1",))),
        "it-is-nowhere": _row(GIVEN_UP, A_mx=Reply(records=("@ A 0.0.0.0",))),
        "names-that-are-none": _row(GIVEN_UP, MX_at=_mx(r"10 \000\255\(.{d}.", r"10 a\032b.{d}.")),
        "an-address-that-is-none": _row(GIVEN_UP, MX_at=_mx("10 127.66.6.6.")),
    }


EVERYDAY, FAILING, LYING = _everyday(), _failing(), _lying()
#: name -> row
ROWS: Final[Mapping[str, Row]] = {**EVERYDAY, **FAILING, **LYING}
