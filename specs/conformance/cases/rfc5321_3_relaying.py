"""RFC 5321 sections 3.6 and 7.9: source routes, and what a server must not relay.

Tricky
- `relay` is an address that this run says is not relayed to: to accept it, in whatever disguise, is
  an open relay.  Which refusal is used is less important: 550 should be.
- An address in disguise has a local domain, or none.  Where any name is accepted there, so is the
  disguise, and nothing is learned: then it is recorded only.
"""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("5321")

# -- 3.6.1: source routes; whether they are taken: rfc5321_4_1_1_2 and _3 --------------------------


@here.case(
    "3.6.1-route-not-in-return-path", level="SHOULD", clauses="5321-3.6.1-b", role="delivery",
    needs="rcpt maildir",
    requirement="A source route of the sender is not part of the Return-Path that is delivered",
    sent="MAIL FROM:<@one.example:{sender}> | RCPT | DATA | message",
    allowed={"mailbox alone": PASS, "route kept": NON_STRICT, "no Return-Path": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    reply = await talk.say(talk.fill("MAIL FROM:<@one.example:{sender}>"))
    if not reply.positive:
        raise NotApplicable("source routes")
    reply = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
    if not reply.positive:
        raise NotApplicable("source routes")
    await talk.must("DATA")
    await talk.content(talk.message())
    found = await talk.arrived()
    if not found:
        raise Refused("what arrives", Reply(kind="silent"))
    lines = [each for each in found[0].splitlines() if each.lower().startswith(b"return-path:")]
    if not lines:
        return "no Return-Path", ""
    return ("route kept" if b"one.example" in lines[0] else "mailbox alone"), repr(lines[0])


# -- 3.6.2, 7.9: an address elsewhere -------------------------------------------------------------

OPEN = "strangers can send mail anywhere through this server"
#: Before the recipient: what might make a server trust.
PRETENCES = (
    ("helo", ("HELO {hostname}", "MAIL FROM:<{sender}>")),
    ("null-sender", ("EHLO {hostname}", "MAIL FROM:<>")),
    ("ehlo-its-domain", ("EHLO {domain}", "MAIL FROM:<{sender}>")),
    ("ehlo-localhost", ("EHLO localhost", "MAIL FROM:<{sender}>")),
    ("ehlo-literal", ("EHLO [127.0.0.1]", "MAIL FROM:<{sender}>")),
    ("its-mailbox", ("EHLO {hostname}", "MAIL FROM:<{rcpt}>")),
    ("its-postmaster", ("EHLO {hostname}", "MAIL FROM:<postmaster@{domain}>")),
    ("localhost-sender", ("EHLO {hostname}", "MAIL FROM:<root@localhost>")),
    ("literal-sender", ("EHLO {hostname}", "MAIL FROM:<root@[127.0.0.1]>")),
    ("bare-sender", ("EHLO {hostname}", "MAIL FROM:<root>")),
    ("relay-domain-sender", ("EHLO {hostname}", "MAIL FROM:<{relay}>")),
    ("after-good-recipient", ("EHLO {hostname}", "MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>")),
    ("after-postmaster", ("EHLO {hostname}", "MAIL FROM:<{sender}>", "RCPT TO:<Postmaster>")),
)  # fmt: skip


here.probe(
    "3.6.2-relay", level="IMPLIED", clauses="5321-3.6.2-a 5321-7.9-a 5321-7.9-b", needs="relay",
    requirement="A recipient elsewhere that this server does not relay to is refused, with 550",
    sent=["RCPT TO:<{relay}>"], upto="mail", security=OPEN,
    allowed={"550": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT},
)  # fmt: skip


def _pretence(slug: str, before: tuple[str, ...]) -> None:
    @here.case(
        f"3.6.2-relay-{slug}", level="IMPLIED", clauses="5321-3.6.2-a 5321-7.9-b",
        needs="rcpt relay", security=OPEN,
        requirement="A recipient elsewhere that this server does not relay to is refused, whatever "
        "the client says before",
        sent=" | ".join([*before, "RCPT TO:<{relay}>"]),
        allowed={"5yz": PASS, "4yz": PASS, "not begun": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("greeting")
        for line in before:
            reply = await talk.say(talk.fill(line))
            if not reply.positive:  # the pretence alone is refused
                return "not begun", str(reply)
        return await talk.say(talk.fill("RCPT TO:<{relay}>"))


for _slug, _before in PRETENCES:
    _pretence(_slug, _before)

#: {r}: the relay address; {l}, {d}: its parts; {h}: this server's domain.  "end": what is last in
#: it is elsewhere, whatever is before; "local": it seems to be local.
DISGUISES = (
    ("route", "end", "@{h}:{r}"), ("route-two", "end", "@{h},@{d}:{r}"),
    ("route-literal", "end", "@[127.0.0.1]:{r}"), ("route-foreign", "end", "@{d}:{r}"),
    ("quoted-local-part", "end", '"{l}"@{d}'), ("capitals", "end", "{l}@{D}"),
    ("percent-elsewhere", "end", "{l}%{d}@{d}"), ("local-percent-elsewhere", "end", "{l}%{h}@{d}"),
    ("percent", "local", "{l}%{d}@{h}"), ("percent-literal", "local", "{l}%{d}@[127.0.0.1]"),
    ("percent-bare", "local", "{l}%{d}"), ("percent-twice", "local", "{l}%{d}%{d}@{h}"),
    ("percent-route", "local", "@{h}:{l}%{d}@{h}"), ("percent-quoted", "local", '"{l}%{d}"@{h}'),
    ("bang", "local", "{d}!{l}@{h}"), ("bang-bare", "local", "{d}!{l}"),
    ("bang-twice", "local", "{h}!{d}!{l}@{h}"), ("bang-literal", "local", "{d}!{l}@[127.0.0.1]"),
    ("quoted", "local", '"{r}"@{h}'), ("quoted-bare", "local", '"{r}"'),
    ("two-at", "local", "{r}@{h}"), ("quoted-literal", "local", '"{r}"@[127.0.0.1]'),
    ("escaped-at", "local", '"{l}\\@{d}"@{h}'),
    ("localhost", "local", "{l}%{d}@localhost"), ("double-bracket", "local", "<{r}>"),
)  # fmt: skip


def _disguise(slug: str, kind: str, form: str) -> None:
    @here.case(
        f"3.6.2-disguise-{slug}", level="IMPLIED", needs="rcpt relay", security=OPEN,
        clauses="5321-3.6.2-a 5321-7.9-b"
        + (" 5321-4.1.1.3-a 5321bis-4.1.2-a" if "route" in slug else ""),
        requirement="A recipient elsewhere is not relayed to because its address is written in "
        "another way",
        sent=f"MAIL | RCPT TO:<{form}>; l, d: its local part and domain, h: the server's domain",
        allowed={"refused": PASS, "4yz": PASS, "any name is accepted": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("mail")
        local, _, domain = talk.given.relay.rpartition("@")
        path = form
        for name, value in (
            ("{r}", talk.given.relay), ("{l}", local), ("{d}", domain), ("{D}", domain.upper()),
            ("{h}", talk.given.domain),
        ):  # fmt: skip
            path = path.replace(name, value)
        reply = await talk.say(f"RCPT TO:<{path}>")
        if not reply.positive:
            return ("refused" if reply.code[:1] == "5" else reply.label), str(reply)
        if kind == "local" and await _takes_any_name(talk, path):
            return "any name is accepted", str(reply)
        return "accepted", str(reply)


async def _takes_any_name(talk: Session, path: str) -> bool:
    """Whether a name that nobody has is a recipient here, too, where that path seems to lead."""
    _, at, domain = path.rpartition("@")
    named = at and not domain.endswith((">", '"'))
    other = talk.another()
    await other.upto("mail")
    for name in (talk.token, f'"{talk.token}"'):
        reply = await other.say(f"RCPT TO:<{name}@{domain}>" if named else f"RCPT TO:<{name}>")
        if reply.positive:
            return True
    return False


for _slug, _kind, _form in DISGUISES:
    _disguise(_slug, _kind, _form)

#: What once was a program or a file; each is an unknown user at a server's domain (3.3).
PLACES = (
    ("program", '"|/bin/true"'), ("program-bare", "|/bin/true"), ("file", '"/dev/null"'),
    ("file-bare", "/dev/null"), ("include", '":include:/dev/null"'), ("parent", '"../../x"'),
    ("shell", '"$(true)"'), ("backtick", '"`true`"'), ("option", "-oQ/dev/null"),
    ("macro", '"${run{/bin/true}}"'),
)  # fmt: skip


def _place(slug: str, local: str) -> None:
    @here.case(
        f"3.3-place-{slug}", level="SHOULD", clauses="5321-3.3-i", needs="rcpt unknown",
        requirement="A local part that looks like a program or a file is an unknown user",
        sent=f"MAIL | RCPT TO:<{local}@ the server's domain>",
        security="a program of the sender's choice is run, or a file written",
        allowed={"5yz": PASS, "4yz": INFO, "accepted": NON_STRICT, "any name is accepted": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | str:
        await talk.upto("mail")
        reply = await talk.say(f"RCPT TO:<{local}@{talk.given.domain}>")
        if not reply.positive:
            return reply
        path = f"{local}@{talk.given.domain}"
        return "any name is accepted" if await _takes_any_name(talk, path) else "accepted"


for _slug, _local in PLACES:
    _place(_slug, _local)

# -- header fields through the envelope -----------------------------------------------------------

INJECTED = b"X-Injected"
#: What is put into an argument, to come out as a line of the header.
BREAKS = (
    ("lf", b"\nX-Injected: yes\n "), ("cr", b"\rX-Injected: yes\r "),
    ("nel", b"\x85X-Injected: yes\x85 "), ("encoded", b"%0d%0aX-Injected:%20yes%0d%0a"),
    ("escaped", b"\\r\\nX-Injected: yes\\r\\n"), ("nul", b"\x00X-Injected: yes"),
)  # fmt: skip
#: Arguments that are delivered in a trace field: %s is the break.
COMMANDS = (
    ("ehlo", b"EHLO a%s.example"), ("helo", b"HELO a%s.example"),
    ("mail", b'MAIL FROM:<"a%s"@client.conform.example>'),
    ("mail-unquoted", b"MAIL FROM:<a%s@client.conform.example>"),
)  # fmt: skip


def _injection(verb: str, template: bytes, slug: str, inserted: bytes) -> None:
    line = template.replace(b"%s", inserted)

    @here.case(
        f"2.3.8-inject-{verb}-{slug}", level="IMPLIED", clauses="5321-2.3.8-a", role="delivery",
        needs="rcpt maildir", security="a sender writes header fields that seem to be the server's",
        requirement="The argument of a command cannot become a header field, nor put a bare CR "
        "into the header",
        sent=f"{repr(line)[2:-1]} CRLF, then a whole transaction",
        allowed={"no field": PASS, "refused": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("greeting" if verb in ("ehlo", "helo") else "ehlo")
        reply = await talk.say(line)
        if not reply.positive:
            return ("refused" if reply.kind in ("reply", "closed") else reply.label), str(reply)
        extra = await talk.unasked()
        if extra.kind != "silent":  # it was more than one line to the server
            return "refused", f"{reply} | {extra}"
        rest = ["MAIL FROM:<{sender}>"] if verb in ("ehlo", "helo") else []
        for each in (*rest, "RCPT TO:<{rcpt}>", "DATA"):
            reply = await talk.say(talk.fill(each))
            if not reply.positive:
                return "refused", f"{each}: {reply}"
        reply = await talk.content(talk.message())
        if not reply.positive:
            return "refused", str(reply)
        found = await talk.arrived()
        if not found:
            raise Refused("what arrives", Reply(kind="silent"))
        head = found[0].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
        if any(each.startswith(INJECTED) for each in head.split(b"\n")):
            return "a field of its own", repr(head[:400])
        return ("bare CR in the header" if b"\rX-" in head else "no field"), repr(head[:400])


for _verb, _template in COMMANDS:
    for _slug, _inserted in BREAKS:
        _injection(_verb, _template, _slug, _inserted)
