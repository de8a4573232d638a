"""Faults of the relay, each with the id of a case that must say what is named here.

Most of them are what real servers have done, or what somebody who reads the standard in haste would
write.  `find` runs one against its case; `Fault.says` is "fail" or "non-strict".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import dns.message
import dns.rcode
import trio

from specs.conformance.controls.relay import Answer, Later, Letter, Never, Relay, Wire, relaying
from specs.conformance.model import Result
from specs.conformance.registry import all_cases
from specs.conformance.run import Run

#: What a fault replaces of `Relay`.
Change = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """name: for people.  case: the id that must find it.  says: what the case must say."""

    name: str
    case: str
    change: Change
    says: Literal["fail", "non-strict"] = "fail"

    def relay(self) -> Relay:
        made: Relay = type("Faulty", (Relay,), dict(self.change))()
        return made


async def find(fault: Fault | None, cases: Iterable[str]) -> list[Result]:
    """What these cases say of that fault, or of the faultless relay."""
    wanted = {*cases}
    async with relaying(fault.relay() if fault else Relay()) as given:
        chosen = [each for each in all_cases() if each.id in wanted]
        return await Run(given=given, cases=chosen).run()


async def missed(faults: Sequence[Fault], *, jobs: int = 8) -> list[str]:
    """Those that their case did not find, each with what it said instead."""
    found: list[str] = []
    waiting = iter(faults)

    async def worker() -> None:
        for fault in waiting:
            results = await find(fault, [fault.case])
            said = str(results[0].verdict) if results else "no such case"
            if said != fault.says:
                seen = f"{results[0].observed} {results[0].saw}" if results else ""
                found.append(f"{fault.name}: {fault.case} says {said} ({seen.strip()})")

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(worker)
    return found


# -- pieces of faults ------------------------------------------------------------------------------


def _line(change: Callable[[str], str]) -> Callable[..., str]:
    """Another MAIL."""
    return lambda self, wire, letter: change(Relay.mail_line(self, wire, letter))


def _traced(change: Callable[[bytes], bytes]) -> Callable[..., bytes]:
    """Other content."""
    return lambda self, letter: change(Relay.traced(self, letter))


def _below(content: bytes) -> bytes:
    """The first field is moved behind the header's others."""
    trace, _, rest = content.partition(b"\r\n")
    head, empty, body = rest.partition(b"\r\n\r\n")
    return head + b"\r\n" + trace + empty + body


def _reordered(content: bytes) -> bytes:
    head, empty, body = content.partition(b"\r\n\r\n")
    first, *others = head.split(b"\r\n")
    return b"\r\n".join([first, *sorted(others)]) + empty + body


async def _no_wait(self: Relay, wire: Wire) -> None:
    await wire.send(f"EHLO {self.hostname}\r\n".encode())
    await self.reply(wire)
    await self.reply(wire)


async def _no_quit(self: Relay, wire: Wire) -> None:
    del self, wire


async def _hasty_quit(self: Relay, wire: Wire) -> None:
    del self
    await wire.send(b"QUIT\r\n")


async def _only_ehlo(self: Relay, wire: Wire) -> None:
    if (await self.say(wire, f"EHLO {self.hostname}")).code[0] != "2":
        raise Later("no EHLO")


async def _noop_first(self: Relay, wire: Wire) -> None:
    await self.say(wire, "NOOP")
    await Relay.hello(self, wire)


async def _without_hello(self: Relay, wire: Wire) -> None:
    """A refused EHLO is taken for good."""
    await self.say(wire, f"EHLO {self.hostname}")


def _all_for_ever(
    self: Relay, answer: Answer, rcpts: Sequence[str], failed: dict[str, Never]
) -> None:
    del self
    failed.update(dict.fromkeys(rcpts, Never(answer.code)))


def _never_for_ever(
    self: Relay, answer: Answer, rcpts: Sequence[str], failed: dict[str, Never]
) -> None:
    """What was refused counts as delivered, in silence: nobody waits for it any more."""
    del self, answer, rcpts, failed


def _by_text(self: Relay, answer: Answer, rcpts: Sequence[str], failed: dict[str, Never]) -> None:
    if "550" in answer.lines[0]:
        failed.update(dict.fromkeys(rcpts, Never(answer.code)))
    else:
        Relay.judge(self, answer, rcpts, failed)


def _good_text(self: Relay, answer: Answer) -> bool:
    return Relay.success(self, answer) and "rejected" not in answer.lines[0]


async def _known_replies(self: Relay, wire: Wire) -> Answer:
    answer = await Relay.reply(self, wire)
    known = ("220", "221", "250", "251", "252", "354")
    if answer.code[0] in "23" and answer.code not in known:
        raise Later("an odd code")
    return answer


async def _with_text(self: Relay, wire: Wire) -> Answer:
    answer = await Relay.reply(self, wire)
    if not answer.lines[-1]:
        raise Later("no text")
    return answer


async def _short_lines(self: Relay, wire: Wire) -> Answer:
    answer = await Relay.reply(self, wire)
    if len(answer.lines[-1]) > 500:
        raise Later("too long")
    return answer


async def _one_line(self: Relay, wire: Wire) -> Answer:
    """Each line is a reply; but for EHLO's."""
    del self
    line = (await wire.line()).decode()
    while line[3:4] == "-" and "hop.example" in line:
        line = (await wire.line()).decode()
    return Answer(line[:3], (line[4:],))


async def _content_anyway(
    self: Relay, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    """Whatever DATA was answered."""
    await self.say(wire, self.mail_line(wire, letter))
    for each in letter.rcpts:
        await self.say(wire, self.rcpt_line(wire, each, letter))
    await self.say(wire, "DATA")
    await self.content(wire, self.stuffed(letter.content))
    waiting.clear()


async def _as_if_offered(self: Relay, wire: Wire) -> None:
    await Relay.hello(self, wire)
    wire.keywords |= {"PIPELINING": "", "SIZE": "", "8BITMIME": ""}


async def _remembers(self: Relay, wire: Wire) -> None:
    """What was offered before TLS is kept."""
    before = dict(wire.keywords)
    await Relay.secure(self, wire)
    await self.say(wire, f"EHLO {self.hostname}")
    wire.keywords = before


async def _hello_once(self: Relay, wire: Wire) -> None:
    if not wire.tls:
        await Relay.hello(self, wire)


async def _keeps_input(self: Relay, wire: Wire) -> None:
    left = wire.input
    await Relay.secure(self, wire)
    wire.input = left


async def _secure_and_silent(self: Relay, wire: Wire) -> None:
    await Relay.secure(self, wire)
    await self.say(wire, "NOOP")


async def _twice_tls(self: Relay, wire: Wire) -> None:
    await Relay.secure(self, wire)
    await self.say(wire, f"EHLO {self.hostname}")
    await self.say(wire, "STARTTLS")


async def _early_hello(self: Relay, wire: Wire, line: str) -> Answer:
    """The handshake is not waited for."""
    if line == "STARTTLS":
        await wire.send(b"STARTTLS\r\nEHLO too.soon.example\r\n")
        return await self.reply(wire)
    return await Relay.say(self, wire, line)


async def _records_or_none(self: Relay, host: str) -> list[str]:
    try:
        return await Relay.dane(self, host)
    except Later:
        return []


async def _records_anyway(self: Relay, host: str) -> list[str]:
    self.validated.add(host)
    return await Relay.dane(self, host)


async def _address_first(self: Relay, domain: str) -> list[str]:
    return await self.addresses(domain) or await Relay.hosts(self, domain)


async def _address_last(self: Relay, domain: str) -> list[str]:
    """If the MX records lead nowhere."""
    try:
        return [*await Relay.hosts(self, domain), *await self.addresses(domain)]
    except (Never, Later):
        return await self.addresses(domain, need=True)


async def _one_host(self: Relay, domain: str) -> list[str]:
    return (await Relay.hosts(self, domain))[:1]


async def _no_implicit(self: Relay, domain: str) -> list[str]:
    if not (await self.lookup(domain, "MX"))[1]:
        raise Never("no MX")
    return await Relay.hosts(self, domain)


async def _null_falls_back(self: Relay, domain: str) -> list[str]:
    try:
        return await Relay.hosts(self, domain)
    except Never as never:
        if never.status == "5.1.10":
            return await self.addresses(domain, need=True)
        raise


def _alphabetical(self: Relay, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    del self
    return sorted(rows, key=lambda row: str(row[0]))


def _highest(self: Relay, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    del self
    return sorted(rows, reverse=True)


def _by_name(self: Relay, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    del self
    return sorted(rows)


def _not_oneself(self: Relay, rows: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [row for row in rows if row[1].lower() != self.hostname]


def _failure_is_absence(
    self: Relay, answer: dns.message.Message, name: str, kind: str
) -> tuple[str, list[str]]:
    """SERVFAIL as if there were no such records."""
    answer.set_rcode(dns.rcode.NOERROR)
    return Relay.understood(self, answer, name, kind)


def _failure_is_final(
    self: Relay, answer: dns.message.Message, name: str, kind: str
) -> tuple[str, list[str]]:
    try:
        return Relay.understood(self, answer, name, kind)
    except Later:
        raise Never("no such domain") from None


def _no_aliases(
    self: Relay, answer: dns.message.Message, name: str, kind: str
) -> tuple[str, list[str]]:
    if any(str(each).startswith("target.") for s in answer.answer for each in s):
        return name, []
    return Relay.understood(self, answer, name, kind)


def _report_to(who: Callable[[Letter], str]) -> Callable[..., None]:
    def bounce(self: Relay, letter: Letter, content: bytes) -> None:
        self.send(Letter(sender="", rcpts=(who(letter),), content=content))

    return bounce


def _report_from(self: Relay, letter: Letter, content: bytes) -> None:
    sender = f"postmaster@{letter.sender.rpartition('@')[2]}"
    self.send(Letter(sender=sender, rcpts=(letter.sender,), content=content))


def _report_always(self: Relay, letter: Letter, failed: Mapping[str, Never]) -> None:
    """For an empty sender, to whom Return-Path names."""
    found = re.search(rb"^Return-Path: <(.+)>", letter.content, re.MULTILINE)
    if not letter.sender and found:
        self.bounce(Letter(sender=found[1].decode(), rcpts=(), content=b""),
                    self.written(letter, failed))  # fmt: skip
    Relay.report(self, letter, failed)


def _report_all(self: Relay, letter: Letter, failed: Mapping[str, Never]) -> None:
    """Also who was delivered."""
    one = next(iter(failed.values()))
    Relay.report(self, letter, dict.fromkeys(letter.rcpts, one))


def _silent(self: Relay, letter: Letter, failed: Mapping[str, Never]) -> None:
    del self, letter, failed


def _plain_report(
    self: Relay, letter: Letter, failed: Mapping[str, Never], action: str = ""
) -> bytes:
    del action
    return (
        f"From: <postmaster@{self.hostname}>\r\nTo: <{letter.sender}>\r\nSubject: failed\r\n\r\n"
        f"{', '.join(failed)}\r\n"
    ).encode()


def _copies(self: Relay, letter: Letter) -> None:
    for each in letter.rcpts:
        Relay.send(self, Letter(sender=letter.sender, rcpts=(each,), content=letter.content,
                                mail=letter.mail, rcpt=letter.rcpt))  # fmt: skip


def _rerouted(self: Relay, letter: Letter) -> None:
    """user%host@domain is for user@host."""
    rcpts = tuple(
        "@".join(each.rpartition("@")[0].strip('"').rsplit("%", 1)) if "%" in each else each
        for each in letter.rcpts
    )
    Relay.send(self, Letter(sender=letter.sender, rcpts=rcpts, content=letter.content))


def _no_check(
    self: Relay, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    del self, wire, letter, waiting, failed


def _limit_zero(
    self: Relay, wire: Wire, letter: Letter, waiting: set[str], failed: dict[str, Never]
) -> None:
    if wire.keywords.get("SIZE") == "0":
        failed.update(dict.fromkeys(waiting, Never("too large")))
    Relay.check(self, wire, letter, waiting, failed)


def _all_refused(
    self: Relay, rcpts: Sequence[str], answers: Sequence[Answer], failed: dict[str, Never]
) -> None:
    """One bad recipient spoils all."""
    for each in answers:
        self.judge(each, rcpts, failed)


def _shifted(
    self: Relay, rcpts: Sequence[str], answers: Sequence[Answer], failed: dict[str, Never]
) -> None:
    """Replies of a group are out of step by one."""
    Relay.refuse(self, rcpts, [answers[-1], *answers[:-1]], failed)


def _dsn_always(self: Relay, wire: Wire, rcpt: str, letter: Letter) -> str:
    del wire
    words = [f"{n}={v}" for n, v in letter.rcpt.items()]
    return " ".join([f"RCPT TO:<{self.shortest(rcpt)}>", *words])


def _no_dsn(self: Relay, wire: Wire, rcpt: str, letter: Letter) -> str:
    del wire, letter
    return f"RCPT TO:<{self.shortest(rcpt)}>"


def _no_relayed(self: Relay, wire: Wire, letter: Letter, taken: Sequence[str]) -> None:
    del self, wire, letter, taken


def _lower_rcpt(self: Relay, wire: Wire, rcpt: str, letter: Letter) -> str:
    return Relay.rcpt_line(self, wire, rcpt.lower(), letter)


def _quoted_rcpt(self: Relay, path: str) -> str:
    del self
    local, at, domain = path.rpartition("@")
    return path if local.startswith('"') else f'"{local}"{at}{domain}'


def _first_dot_only(self: Relay, content: bytes) -> bytes:
    del self
    return content.replace(b"\r\n.\r\n", b"\r\n..\r\n")


def _by_blocks(self: Relay, content: bytes) -> bytes:
    """A line's begin is not seen behind a boundary of blocks."""
    del self
    blocks = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    return b"".join(each.replace(b"\r\n.", b"\r\n..") for each in blocks)


def _never_bare(self: Relay, content: bytes) -> bool:
    del self, content
    return False


FAULTS: Final[tuple[Fault, ...]] = (
    # commands
    Fault("uses what was not offered", "5321-2.2.2-only-offered-none", {"hello": _as_if_offered}),
    Fault("pipelines without being asked", "5321-4.3.1-one-by-one", {"hello": _as_if_offered}),
    Fault("a nickname", "5321-2.3.5-qualified", {"hostname": "relay"}),
    Fault("an odd name", "5321-4.1.1.1-name", {"hostname": "my_relay.example"}, "non-strict"),
    Fault("something before EHLO", "5321-4.1.1.1-first", {"hello": _noop_first}),
    Fault("begins with HELO", "5321-3.2-ehlo", {"verb": "HELO"}, "non-strict"),
    Fault("knows no HELO", "5321-3.2-fallback-502", {"hello": _only_ehlo}, "non-strict"),
    Fault("MAIL after a refused EHLO", "5321-4.1.4-after-500", {"hello": _without_hello}),
    Fault(
        "a blank behind the colon",
        "5321-3.3-no-blank",
        {"mail_line": _line(lambda line: line.replace(":<", ": <"))},
    ),
    Fault(
        "a blank at the end",
        "5321-4.1.1-no-trailing-space",
        {"mail_line": _line(lambda line: line + " ")},
        "non-strict",
    ),
    Fault(
        "content whatever DATA says", "5321-3.3-content-after-503", {"transact": _content_anyway}
    ),
    Fault("leaves without QUIT", "5321-4.1.1.10-quit-delivered", {"leave": _no_quit}),
    Fault(
        "does not wait for 221",
        "5321-4.1.1.10-quit-delivered",
        {"leave": _hasty_quit},
        "non-strict",
    ),
    Fault(
        "does not wait for the greeting", "5321-4.3.1-greeting", {"greet": _no_wait}, "non-strict"
    ),
    # replies
    Fault("knows its codes only", "5321-4.2-unknown-259-rcpt", {"reply": _known_replies}),
    Fault(
        "knows its codes only, at the end", "5321-4.2-unknown-259-end", {"reply": _known_replies}
    ),
    Fault("goes by the text at the end", "5321-4.2-misleading-end", {"success": _good_text}),
    Fault("needs a text", "5321-4.2-no-text-mail", {"reply": _with_text}),
    Fault("goes by the text", "5321-4.2-misleading-451-rcpt", {"judge": _by_text}),
    Fault("one line is a reply", "5321-4.2.1-lines-mail", {"reply": _one_line}),
    Fault("one line is a reply, in groups", "2920-3.1-replies-lines", {"reply": _one_line}),
    Fault("reads 500 octets", "5321-4.5.3.1.5-512-rcpt", {"reply": _short_lines}),
    Fault("gives up at 4yz", "5321-4.2.1-451-rcpt", {"judge": _all_for_ever}),
    Fault("gives up at an unknown 4yz", "5321-4.2-unknown-459-mail", {"judge": _all_for_ever}),
    Fault("tries again after 5yz", "5321-4.2.1-550-rcpt", {"judge": _never_for_ever}, "non-strict"),
    Fault("one refused recipient spoils all", "5321-4.2.1-one-of-two", {"refuse": _all_refused}),
    Fault("a copy for each", "5321-4.5.4.1-one-copy", {"send": _copies}, "non-strict"),
    Fault("impatient", "5321-4.5.3.2-each", {"reply_s": 1.0}),
    # content and addresses
    Fault("no dots are doubled", "5321-4.5.2-body-dots", {"stuffed": lambda self, c: c}),
    Fault("some dots are doubled", "5321-4.5.2-body-dots", {"stuffed": _first_dot_only}),
    Fault(
        "dots at boundaries are not doubled",
        "5321-4.5.2-body-dots-at-boundaries",
        {"stuffed": _by_blocks},
    ),
    Fault(
        "From is escaped",
        "5321-3.6.3-body-from",
        {"traced": _traced(lambda c: c.replace(b"\r\nFrom ", b"\r\n>From "))},
    ),
    Fault(
        "blanks are trimmed",
        "5321-3.6.3-body-blanks",
        {"traced": _traced(lambda c: re.sub(rb"[ \t]+\r\n", b"\r\n", c))},
    ),
    Fault("fields are sorted", "5321-3.6.3-header-order", {"traced": _traced(_reordered)}),
    Fault(
        "fields are unfolded",
        "5321-3.6.3-header-folding",
        {"traced": _traced(lambda c: re.sub(rb"\r\n[ \t]+", b" ", c))},
    ),
    Fault("fields are moved around blocks", "5322-3.6.7-order", {"traced": _traced(_reordered)}),
    Fault(
        "old trace is removed",
        "5321-4.4-received-kept",
        {"traced": _traced(lambda c: re.sub(rb"\r\n[Rr]eceived: .*", b"", c))},
    ),
    Fault("trace at the bottom", "5321-3.7.2-on-top", {"traced": _traced(_below)}),
    Fault(
        "Return-Path on the way",
        "5321-4.4-no-return-path",
        {"traced": _traced(lambda c: b"Return-Path: <x@y.example>\r\n" + c)},
        "non-strict",
    ),
    Fault(
        "blind recipients are shown",
        "5321-7.2-blind",
        {
            "traced": lambda self, letter: (
                f"X-Envelope-To: {', '.join(letter.rcpts)}\r\n".encode()
                + Relay.traced(self, letter)
            )
        },
        "non-strict",
    ),
    Fault("bare LF goes out", "5321-2.3.8-lf-dot-lf", {"bare": _never_bare}),
    Fault("bare CR goes out", "5321-2.3.8-bare-cr", {"bare": _never_bare}),
    Fault("local parts in lower case", "5321-2.3.11-rcpt-mixed-case", {"rcpt_line": _lower_rcpt}),
    Fault("needless quotes", "5321-4.1.2-shortest", {"shortest": _quoted_rcpt}, "non-strict"),
    Fault("routes by percent", "5321-2.3.11-no-route-percent", {"send": _rerouted}),
    Fault(
        "routes are kept",
        "5321-4.1.1.3-reverse-path",
        {"mail_line": _line(lambda line: line.replace(":<", ":<@relay.control.example:"))},
    ),
    # reports
    Fault("no reports", "5321-3.6.3-report", {"report": _silent}),
    Fault("a report has a sender", "5321-3.6.3-null-path", {"bounce": _report_from}),
    Fault("a report in free form", "5321-3.6.3-form", {"written": _plain_report}, "non-strict"),
    Fault(
        "a report to the wrong one",
        "5321-6.1-recipient",
        {"bounce": _report_to(lambda letter: letter.sender.lower())},
    ),
    Fault(
        "a report for an empty sender", "5321-4.5.5-null-not-reported", {"report": _report_always}
    ),
    Fault("a report of reports", "5321-6.1-no-report-of-report", {"bounce": _report_from}),
    Fault("a report of all", "5321-3.6.3-names-recipient", {"report": _report_all}),
    # names
    Fault("the address first", "5321-5.1-mx-first", {"hosts": _address_first}),
    Fault("no implicit MX", "5321-5.1-implicit-mx", {"hosts": _no_implicit}),
    Fault("preferences as text", "5321-5.1-order-numeric", {"ordered": _alphabetical}),
    Fault("the highest first", "5321-5.1-order-two", {"ordered": _highest}),
    Fault("no chance among equals", "5321-5.1-equal", {"ordered": _by_name}),
    Fault("aliases are not followed", "5321-5.1-cname", {"understood": _no_aliases}),
    Fault("the address at last", "5321-5.1-unusable-no-such-host", {"hosts": _address_last}),
    Fault(
        "the address at last, after refusals", "5321-5.1-unusable-refuses", {"hosts": _address_last}
    ),
    Fault(
        "the address for want of an answer",
        "5321-5.1-mx-servfail",
        {"understood": _failure_is_absence},
    ),
    Fault("SERVFAIL is for ever", "5321-5.1-servfail", {"understood": _failure_is_final}),
    Fault("does not know itself", "5321-5.1-self-first", {"before_oneself": _not_oneself}),
    Fault("a null MX is passed over", "7505-3-address-unused", {"hosts": _null_falls_back}),
    # extensions
    Fault(
        "SIZE is not looked at",
        "1870-6.2-too-large",
        {
            "check": _no_check,
            "mail_line": _line(lambda line: re.sub(" SIZE=[0-9]+", "", line)),
        },
        "non-strict",
    ),
    Fault("SIZE 0 is a limit", "1870-3-limit-zero", {"check": _limit_zero}),
    Fault("just eight bits", "6152-3-not-offered", {"check": _no_check}),
    Fault(
        "eight bits are not declared",
        "6152-3-declared",
        {"mail_line": _line(lambda line: line.replace(" BODY=8BITMIME", ""))},
        "non-strict",
    ),
    Fault("replies out of step", "2920-3.1-each-status", {"refuse": _shifted}),
    Fault("DSN is dropped", "3461-5.2.1-notify-never", {"rcpt_line": _no_dsn}),
    Fault("DSN is not asked for", "3461-4-not-offered", {"rcpt_line": _dsn_always}),
    Fault("relayed in silence", "3461-5.2.2-relayed", {"relayed": _no_relayed}),
    Fault("does not wait for 220", "3207-4-waits", {"say": _early_hello}),
    Fault("no EHLO in TLS", "3207-4.2-ehlo-again", {"secure": _secure_and_silent}, "non-strict"),
    Fault("remembers in TLS", "3207-4.2-forgets", {"secure": _remembers, "hello": _hello_once}),
    Fault("STARTTLS in TLS", "3207-4.2-not-again", {"secure": _twice_tls}),
    Fault("any certificate", "7672-2.2-mismatch", {"compare": lambda self, c, records: None}),
    Fault("plain for want of TLS", "7672-2.2-no-starttls", {"unprotected": lambda self: None}),
    Fault("no DANE for want of an answer", "7672-2.1.2-servfail", {"dane": _records_or_none}),
    Fault("what was not validated", "7672-2.1-not-secure", {"dane": _records_anyway}),
    Fault(
        "all records are usable",
        "7672-2.2-unusable-unknown-type",
        {"usable": lambda self, records: list(records)},
        "non-strict",
    ),
    Fault("believes what came before TLS", "3207-6-injection", {"secure": _keeps_input}),
)
