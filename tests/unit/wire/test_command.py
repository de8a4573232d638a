"""Commands as a table: line, value or reply."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.wire.address import Mailbox, parse_mailbox
from refmta.wire.command import (
    LINE_OCTETS,
    Command,
    CommandError,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Parameters,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
    parse_command,
)


def mail(text: str, *parameters: tuple[str, str | None]) -> Mail:
    return Mail(reverse_path=parse_mailbox(text) if text else None, parameters=parameters)


def rcpt(text: str, *parameters: tuple[str, str | None]) -> Rcpt:
    return Rcpt(forward_path=parse_mailbox(text), parameters=parameters)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"EHLO Client.Example.ORG", Ehlo(domain="Client.Example.ORG")),
        (b"ehlo [127.0.0.1]", Ehlo(domain="[127.0.0.1]")),
        (b"EHLO [IPv6:::1]", Ehlo(domain="[IPv6:::1]")),
        (b"HELO x", Helo(domain="x")),
        (b"HELO [127.0.0.1]", Helo(domain="[127.0.0.1]")),
        (b"MAIL FROM:<>", mail("")),
        (b"MAIL FROM:<a@b>", mail("a@b")),
        (b"mail from:<a@b>", mail("a@b")),
        (b"MAIL FROM:<@r:a@b>", mail("a@b")),
        (b'MAIL FROM:<"> SIZE=1"@b>', mail('"> SIZE=1"@b')),
        (
            b"MAIL FROM:<a@b> SIZE=10 body=8BITMIME X-y",
            mail("a@b", ("SIZE", "10"), ("BODY", "8BITMIME"), ("X-Y", None)),
        ),
        (b"MAIL FROM:<> RET=FULL", mail("", ("RET", "FULL"))),
        (b"RCPT TO:<a@b>", rcpt("a@b")),
        (b"RCPT TO:<a@b> NOTIFY=NEVER", rcpt("a@b", ("NOTIFY", "NEVER"))),
        (
            b"RCPT TO:<pOSTmaster>",
            Rcpt(forward_path=Mailbox(local="postmaster", domain=""), parameters=()),
        ),
        (b"RCPT TO:<Postmaster@b>", rcpt("Postmaster@b")),
        (b"DATA", Data()),
        (b"DATA \t ", Data()),
        (b"dAtA", Data()),
        (b"RSET", Rset()),
        (b"QUIT", Quit()),
        (b"NOOP", Noop(argument="")),
        (b"NOOP any <thing> goes", Noop(argument="any <thing> goes")),
        (b"HELP", Help(argument="")),
        (b"HELP MAIL FROM", Help(argument="MAIL FROM")),
        (b"VRFY <a@b>", Vrfy(argument="<a@b>")),
        (b"EXPN list", Expn(argument="list")),
    ],
)
def test_accepted(line: bytes, command: Command) -> None:
    assert parse_command(line) == command
    assert parse_command(line + b" \t ") == command


@pytest.mark.parametrize(
    ("reply", "lines"),
    [
        (
            (500, "5.5.2"),
            [
                *(
                    b"",
                    b" ",
                    b"FOO",
                    b" QUIT",
                    b"\tQUIT",
                    b"MAILFROM:<a@b>",
                    b"STARTTLS",
                    b"DATA\0",
                ),
                *(b"DATA\r", b"DATA\n", b"QUIT\r\nQUIT", b"NOOP\nNOOP", b"\xff\xf4\xff\xfd\x06"),
                b"GET / HTTP/1.1",
                b"NOOP " + b"x" * LINE_OCTETS,
            ],
        ),
        (
            (501, "5.5.2"),
            [
                *(b"NOOP \x80", b"NOOP \x7f", b"NOOP a\tb", b"NOOP \nNOOP", b"EHLO a\0b"),
                b"MAIL FROM:<\xc3\xa4@b>",
            ],
        ),
        (
            (501, "5.5.4"),
            [
                *(b"EHLO", b"HELO", b"EHLO  x", b"EHLO x y", b"EHLO x_y", b"EHLO x.", b"EHLO [x]"),
                *(b"EHLO 127.0.0.1:25", b"EHLO " + b"x" * 64, b"HELO <x>"),
                *(b"DATA x", b"RSET x", b"QUIT now", b"VRFY", b"EXPN "),
                *(
                    b"MAIL",
                    b"MAIL <a@b>",
                    b"MAIL  FROM:<a@b>",
                    b"MAIL FROM <a@b>",
                    b"MAIL FROM :<a@b>",
                ),
                *(b"RCPT", b"RCPT FROM:<a@b>", b"RCPT  TO:<a@b>", b"RCPT TO <a@b>"),
                *(b"MAIL FROM:<a@b>SIZE=1", b"MAIL FROM:<a@b>  SIZE=1", b"MAIL FROM:<a@b> SIZE="),
                *(b"MAIL FROM:<a@b> =1", b"MAIL FROM:<a@b> A=b=c", b"MAIL FROM:<a@b> -A=b"),
                *(b"MAIL FROM:<a@b> A_B=c", b"MAIL FROM:<a@b>>", b"MAIL FROM:<> x y x"),
                *(b"MAIL FROM:<a@b> SIZE=1 size=2", b"RCPT TO:<a@b> X X=1", b"RCPT TO:<a@b> A  B"),
            ],
        ),
        (
            (501, "5.1.7"),
            [
                *(b"MAIL FROM:", b"MAIL FROM: <a@b>", b"MAIL FROM:a@b", b"MAIL FROM:<a@b"),
                *(b"MAIL FROM:<a@b.>", b"MAIL FROM:< >", b"MAIL FROM:<postmaster>"),
                b"MAIL FROM:<" + b"a" * 65 + b"@b>",
            ],
        ),
        (
            (501, "5.1.3"),
            [
                *(b"RCPT TO:", b"RCPT TO:<>", b"RCPT TO: <a@b>", b"RCPT TO:a@b", b"RCPT TO:<a>"),
                *(b"RCPT TO:postmaster", b"RCPT TO:<a@b..c>", b"RCPT TO:<a@[1.2.3.4>"),
            ],
        ),
    ],
)
def test_refused(reply: tuple[int, str], lines: list[bytes]) -> None:
    for line in lines:
        with pytest.raises(CommandError) as error:
            parse_command(line)
        assert (error.value.reply.code, error.value.reply.enhanced) == reply, line


def test_the_longest_line() -> None:
    command = parse_command(b"NOOP " + b"x" * (LINE_OCTETS - 5))
    assert isinstance(command, Noop)
    parameters: Parameters = tuple((f"X{n}", "v" * 90) for n in range(10))
    words = b" ".join(f"{keyword}={value}".encode() for keyword, value in parameters)
    assert parse_command(b"MAIL FROM:<a@b> " + words) == mail("a@b", *parameters)


VERBS = st.sampled_from((b"EHLO ", b"MAIL FROM:", b"MAIL FROM:<", b"RCPT TO:<a@b> ", b"VRFY ", b""))


@settings(max_examples=1000, deadline=None)
@given(VERBS, st.binary(max_size=1100))
def test_any_octets_give_a_command_or_a_safe_reply(verb: bytes, octets: bytes) -> None:
    """Total: nothing but CommandError is raised, and its reply repeats nothing of the line."""
    try:
        parse_command(verb + octets)
    except CommandError as error:
        encoded = error.reply.encode()
        assert encoded[:3] in (b"500", b"501")
        assert encoded.count(b"\r\n") == 1
        assert encoded[:-2].isascii()


@pytest.mark.parametrize("text", [b"a", b"a.", b"-", b'"\\', b"@a,", b"[", b"A=b ", b"=", b" "])
def test_hostile_lines_come_to_an_end(text: bytes) -> None:
    """A pattern that tries every way to read them would not, within the time that a test has."""
    hostile = (text * 1000)[: LINE_OCTETS - 20] + b"\x21"
    for verb in (b"EHLO ", b"MAIL FROM:<", b"RCPT TO:<a@b> ", b'RCPT TO:<"', b"VRFY "):
        try:
            parse_command(verb + hostile)
        except CommandError:
            continue
