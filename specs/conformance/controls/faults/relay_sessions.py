"""Faults of the relay against RFC 5321 2 to 4: what it says to a next hop, and hears."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from specs.conformance.controls.planting import (
    line,
    relayed,
)
from specs.conformance.controls.relay import HopReply, Letter, Relay, Wire
from specs.conformance.controls.routes import Later, Never
from specs.conformance.model import NON_STRICT


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
    self: Relay, answer: HopReply, rcpts: Sequence[str], failed: dict[str, Never]
) -> None:
    del self
    failed.update(dict.fromkeys(rcpts, Never(answer.code)))


def _never_for_ever(
    self: Relay, answer: HopReply, rcpts: Sequence[str], failed: dict[str, Never]
) -> None:
    """What was refused counts as delivered, in silence: nobody waits for it any more."""
    del self, answer, rcpts, failed


def _by_text(self: Relay, answer: HopReply, rcpts: Sequence[str], failed: dict[str, Never]) -> None:
    if "550" in answer.lines[0]:
        failed.update(dict.fromkeys(rcpts, Never(answer.code)))
    else:
        Relay.judge(self, answer, rcpts, failed)


def _good_text(self: Relay, answer: HopReply) -> bool:
    return Relay.success(self, answer) and "rejected" not in answer.lines[0]


async def _known_replies(self: Relay, wire: Wire) -> HopReply:
    answer = await Relay.reply(self, wire)
    known = ("220", "221", "250", "251", "252", "354")
    if answer.code[0] in "23" and answer.code not in known:
        raise Later("an odd code")
    return answer


async def _with_text(self: Relay, wire: Wire) -> HopReply:
    answer = await Relay.reply(self, wire)
    if not answer.lines[-1]:
        raise Later("no text")
    return answer


async def _short_lines(self: Relay, wire: Wire) -> HopReply:
    answer = await Relay.reply(self, wire)
    if len(answer.lines[-1]) > 500:
        raise Later("too long")
    return answer


async def _one_line(self: Relay, wire: Wire) -> HopReply:
    """Each line is a reply, once EHLO's has been read."""
    if not wire.keywords:
        return await Relay.reply(self, wire)
    line = (await wire.line()).decode()
    return HopReply(line[:3], (line[4:],))


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


def _all_refused(
    self: Relay, rcpts: Sequence[str], answers: Sequence[HopReply], failed: dict[str, Never]
) -> None:
    """One bad recipient spoils all."""
    for each in answers:
        self.judge(each, rcpts, failed)


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


def _noting_refusal(self: Any, letter: Letter, failed: Mapping[str, Never]) -> None:
    self.refused = letter.sender
    Relay.report(self, letter, failed)


async def _begrudging(
    self: Any, letter: Letter, domain: str, waiting: set[str], failed: dict[str, Never]
) -> None:
    if letter.sender and getattr(self, "refused", "") == letter.sender:
        failed.update(dict.fromkeys(waiting, Never("550 you again")))
    else:
        await Relay.attempt(self, letter, domain, waiting, failed)


FAULTS: Final = (
    # -- commands ----------------------------------------------------------------------------------
    relayed("Uses what was not offered", "5321-2.2.2-only-offered-none", hello=_as_if_offered),
    relayed("Pipelines without being asked", "5321-4.3.1-one-by-one", hello=_as_if_offered),
    relayed("A nickname", "5321-2.3.5-qualified", hostname="relay"),
    relayed("An odd name", "5321-4.1.1.1-name", verdict=NON_STRICT, hostname="my_relay.example"),
    relayed("Something before EHLO", "5321-4.1.1.1-first", hello=_noop_first),
    relayed("Begins with HELO", "5321-3.2-ehlo", verdict=NON_STRICT, verb="HELO"),
    relayed("Knows no HELO", "5321-3.2-fallback-502", verdict=NON_STRICT, hello=_only_ehlo),
    relayed("MAIL after a refused EHLO", "5321-4.1.4-after-500", hello=_without_hello),
    relayed(
        "A blank behind the colon",
        "5321-3.3-no-blank",
        mail_line=line(lambda line: line.replace(":<", ": <")),
    ),
    relayed(
        "A blank at the end",
        "5321-4.1.1-no-trailing-space",
        verdict=NON_STRICT,
        mail_line=line(lambda line: line + " "),
    ),
    relayed("Content whatever DATA says", "5321-3.3-content-after-503", transact=_content_anyway),
    relayed(
        "Leaves without QUIT", "5321-4.1.1.10-quit-delivered", observed="closed", leave=_no_quit
    ),
    relayed(
        "Does not wait for 221",
        "5321-4.1.1.10-quit-delivered",
        verdict=NON_STRICT,
        leave=_hasty_quit,
    ),
    relayed(
        "Does not wait for the greeting", "5321-4.3.1-greeting", verdict=NON_STRICT, greet=_no_wait
    ),
    # -- replies -----------------------------------------------------------------------------------
    relayed("Knows its codes only", "5321-4.2-unknown-259-rcpt", reply=_known_replies),
    relayed("Knows its codes only, at the end", "5321-4.2-unknown-259-end", reply=_known_replies),
    relayed("Goes by the text at the end", "5321-4.2-misleading-end", success=_good_text),
    relayed("Needs a text", "5321-4.2-no-text-mail", reply=_with_text),
    relayed("Goes by the text", "5321-4.2-misleading-451-rcpt", judge=_by_text),
    relayed("One line is a reply", "5321-4.2.1-lines-mail", reply=_one_line),
    relayed("One line is a reply, in groups", "2920-3.1-replies-lines", reply=_one_line),
    relayed("Reads 500 octets", "5321-4.5.3.1.5-512-rcpt", reply=_short_lines),
    relayed("Gives up at 4yz", "5321-4.2.1-451-rcpt", judge=_all_for_ever),
    relayed("Gives up at an unknown 4yz", "5321-4.2-unknown-459-mail", judge=_all_for_ever),
    relayed(
        "Tries again after 5yz", "5321-4.2.1-550-rcpt", verdict=NON_STRICT, judge=_never_for_ever
    ),
    relayed("One refused recipient spoils all", "5321-4.2.1-one-of-two", refuse=_all_refused),
    relayed("A copy for each", "5321-4.5.4.1-one-copy", verdict=NON_STRICT, send=_copies),
    relayed("Impatient", "5321-4.5.3.2-each", reply_s=1.0),
    # -- content and addresses ---------------------------------------------------------------------
    relayed("No dots are doubled", "5321-4.5.2-body-dots", stuffed=lambda self, c: c),
    relayed("Some dots are doubled", "5321-4.5.2-body-dots", stuffed=_first_dot_only),
    relayed(
        "Dots at boundaries are not doubled",
        "5321-4.5.2-body-dots-at-boundaries",
        stuffed=_by_blocks,
    ),
    relayed(
        "From is escaped",
        "5321-3.6.3-body-from",
        traced=_traced(lambda c: c.replace(b"\r\nFrom ", b"\r\n>From ")),
    ),
    relayed(
        "Blanks are trimmed",
        "5321-3.6.3-body-blanks",
        traced=_traced(lambda c: re.sub(rb"[ \t]+\r\n", b"\r\n", c)),
    ),
    relayed("Fields are sorted", "5321-3.6.3-header-order", traced=_traced(_reordered)),
    relayed(
        "Fields are unfolded",
        "5321-3.6.3-header-folding",
        traced=_traced(lambda c: re.sub(rb"\r\n[ \t]+", b" ", c)),
    ),
    relayed("Fields are moved around blocks", "5322-3.6.7-order", traced=_traced(_reordered)),
    relayed(
        "Old trace is removed",
        "5321-4.4-received-kept",
        traced=_traced(lambda c: re.sub(rb"\r\n[Rr]eceived: .*", b"", c)),
    ),
    relayed("Trace at the bottom", "5321-3.7.2-on-top", traced=_traced(_below)),
    relayed(
        "Return-Path on the way",
        "5321-4.4-no-return-path",
        verdict=NON_STRICT,
        traced=_traced(lambda c: b"Return-Path: <x@y.example>\r\n" + c),
    ),
    relayed(
        "Blind recipients are shown",
        "5321-7.2-blind",
        verdict=NON_STRICT,
        traced=lambda self, letter: (
            f"X-Envelope-To: {', '.join(letter.rcpts)}\r\n".encode() + Relay.traced(self, letter)
        ),
    ),
    relayed("Bare LF goes out", "5321-2.3.8-lf-dot-lf", bare=_never_bare),
    relayed("Bare CR goes out", "5321-2.3.8-bare-cr", bare=_never_bare),
    relayed("Local parts in lower case", "5321-2.3.11-rcpt-mixed-case", rcpt_line=_lower_rcpt),
    relayed("Needless quotes", "5321-4.1.2-shortest", verdict=NON_STRICT, shortest=_quoted_rcpt),
    relayed("Routes by percent", "5321-2.3.11-no-route-percent", send=_rerouted),
    relayed(
        "Routes are kept",
        "5321-4.1.1.3-reverse-path",
        mail_line=line(lambda line: line.replace(":<", ":<@relay.control.example:")),
    ),
    relayed(
        "Holds a refused MAIL against its sender",
        "5321-4.5.4.1-not-remembered",
        report=_noting_refusal,
        attempt=_begrudging,
    ),
    relayed("EHLO in UTF-8", "6531-3.7.1-ehlo", hostname="r\u00e9lay.control.example"),
)
