"""The options of a run, and what they become: of a command line, a program, or a file."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from specs.conformance.given import SMTP_PORT, Address, Given
from specs.conformance.names import place
from specs.conformance.testbed import networks

F = TypeVar("F", bound=Callable[..., Any])
#: Where the password may stand, since a command line is seen by everybody on the machine.
PASSWORD: Final = "REFMTA_CONFORM_PASSWORD"  # noqa: S105  a variable's name
_HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z|\[[0-9A-Za-z.:]+\]\Z")
_MAILBOX: Final = re.compile(r"[\x21-\x3d\x3f-\x7e]+@[\x21-\x3d\x3f-\x7e]+\Z")


def parse_address(text: str, port: int = 0) -> Address:
    """[HOST:]PORT, or HOST[:PORT] where a port is known; IPv6 in brackets.  Raises ValueError.

    Without a host it is "": the host of the server under test.
    """
    host, number, alone = text, str(port), text.isdigit()
    if alone and not port:
        host, number = "", text
    elif text.startswith("["):
        host, end, rest = text[1:].partition("]")
        host = host if end else ""
        number = rest.removeprefix(":") or number
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
    if (
        (alone and port)
        or not (host or alone)
        or not (number.isascii() and number.isdigit())
        or not 0 < int(number) < 65536
    ):
        raise ValueError(f"{text!r} is no HOST:PORT")
    return host, int(number)


def address_argument(text: str, port: int) -> Address:
    """The same.  Raises click.UsageError."""
    try:
        return parse_address(text, port)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> Address | None:
    try:
        return None if value is None else parse_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 < value <= 3600:  # nor is nan
        raise click.BadParameter(f"{value} is not between 0 and 3600 seconds", ctx, param)
    return value


def _mailbox(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    for each in value if isinstance(value, tuple) else (value,):
        if each and not _MAILBOX.match(each):
            raise click.BadParameter(f"{each!r} is no LOCAL-PART@DOMAIN", ctx, param)
    return value


def _hostname(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not _HOSTNAME.match(value):
        raise click.BadParameter(f"{value!r} is no host name", ctx, param)
    return value


def _directory(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    for each in value if isinstance(value, tuple) else (value,):
        if each is not None and not each.is_dir():
            raise click.BadParameter(f"{each} is no directory", ctx, param)
    return value


DOORS: Final[tuple[Callable[[F], F], ...]] = (
    click.option(
        "--submission", callback=_address, metavar="[HOST:]PORT", help="Its submission port."
    ),
    click.option("--lmtp", callback=_address, metavar="[HOST:]PORT", help="Where it speaks LMTP."),
    click.option("--tls", callback=_address, metavar="[HOST:]PORT", help="Where TLS comes first."),
    click.option(
        "--user",
        metavar="NAME[:PASSWORD]",
        help=f"For AUTH; without a password it is taken from {PASSWORD}.",
    ),
    click.option(
        "--names",
        metavar="IP[:PORT]",
        help="Where a scripted name server is to listen, which the server asks (cases of what it"
        " sends).",
    ),
    click.option(
        "--hops",
        default="127.77.0.0/16",
        show_default=True,
        metavar="NETWORK",
        help="Loopback addresses for scripted next hops (port 25).",
    ),
)
MAIL: Final[tuple[Callable[[F], F], ...]] = (
    click.option(
        "--rcpt",
        "rcpts",
        multiple=True,
        callback=_mailbox,
        metavar="ADDRESS",
        help="A mailbox of the server; twice for cases with two.",
    ),
    click.option(
        "--unknown-rcpt",
        "unknown",
        default="",
        callback=_mailbox,
        metavar="ADDRESS",
        help="A local address that does not exist.",
    ),
    click.option(
        "--relay-rcpt",
        "relay",
        default="",
        callback=_mailbox,
        metavar="ADDRESS",
        help="An address elsewhere, to which it must not relay for us.",
    ),
    click.option(
        "--maildir",
        "maildirs",
        multiple=True,
        type=click.Path(path_type=Path),
        callback=_directory,
        metavar="DIR",
        help="Where the mail of --rcpt arrives; as often as that.",
    ),
    click.option(
        "--sender",
        default="sender@client.conform.example",
        show_default=True,
        callback=_mailbox,
        metavar="ADDRESS",
        help="Who sends.",
    ),
    click.option(
        "--sender-maildir",
        "sender_maildir",
        type=click.Path(path_type=Path),
        callback=_directory,
        metavar="DIR",
        help="Where its reports arrive.",
    ),
    click.option(
        "--hostname",
        default="client.conform.example",
        show_default=True,
        callback=_hostname,
        help="What the client calls itself.",
    ),
)
TIMES: Final[tuple[Callable[[F], F], ...]] = (
    click.option(
        "--timeout",
        "timeout_s",
        type=float,
        callback=_seconds,
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="For one reply.",
    ),
    click.option(
        "--quiet",
        "quiet_s",
        type=float,
        callback=_seconds,
        default=0.5,
        show_default=True,
        metavar="SECONDS",
        help="After which no answer is none.",
    ),
    click.option(
        "--patience",
        "patience_s",
        type=float,
        callback=_seconds,
        default=20.0,
        show_default=True,
        metavar="SECONDS",
        help="Until accepted mail has arrived.",
    ),
    click.option("--seed", type=int, help="Of an earlier run; printed by each."),
)

PACE: Final[tuple[Callable[[F], F], ...]] = (
    click.option("--slow", is_flag=True, help="Also cases that take minutes."),
    click.option(
        "--jobs",
        type=click.IntRange(1, 200),
        default=16,
        show_default=True,
        help="Cases at a time.",
    ),
    click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0, 3600),
        default=0.0,
        metavar="SECONDS",
        help="Until the server listens: it may have been started just now.",
    ),
)


def run_options(command: F) -> F:
    """All of them."""
    for each in reversed((*MAIL, *DOORS, *TIMES)):
        command = each(command)
    return command


def pace_options(command: F) -> F:
    """How a run goes."""
    for each in reversed(PACE):
        command = each(command)
    return command


def given(smtp: Address, options: Mapping[str, Any]) -> Given:
    """What a run is given.  Raises click.UsageError."""
    told = dict(options)
    user, _, password = (told.pop("user") or "").partition(":")
    if user and not password:
        password = os.environ.get(PASSWORD, "")
        if not password:
            raise click.UsageError(f"--user: a password, please (NAME:PASSWORD, or {PASSWORD})")
    if told["maildirs"] and len(told["maildirs"]) > len(told["rcpts"]):
        raise click.UsageError("--maildir: there are more of them than --rcpt")
    for door in ("submission", "tls", "lmtp"):
        if told[door] is not None:
            told[door] = (told[door][0] or smtp[0], told[door][1])
    told["names"] = told["names"] or ""
    for option, check in (("names", place), ("hops", networks)):
        try:
            if told[option]:
                check(told[option])
        except ValueError as error:
            raise click.UsageError(f"--{option}: {told[option]!r}: {error}") from None
    if told["seed"] is None:
        told["seed"] = secrets.randbelow(1 << 31)
    return Given(smtp=smtp, user=user, password=password, **told)


@click.command(add_help_option=False)
@click.argument("address")
@run_options
def _given(address: str, **options: Any) -> None:
    """Nobody calls it: its parser is used."""


def from_values(address: str, values: Mapping[str, Any]) -> Given:
    """The same from values of a program or a file, named as the options are, without dashes in
    front: {"rcpt": ["ada@x.example"], "unknown-rcpt": "nobody@x.example", "timeout": 3}.  A list
    is an option given as often.  None, and "", are not given.

    Raises ValueError that names the option.
    """
    known = {each.opts[0].removeprefix("--") for each in _given.params if each.opts[0][:2] == "--"}
    words = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if option not in known:
            raise ValueError(f"{name}: there is no such option of a run")
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [] if each is None or each == "" else [f"--{option}", str(each)]
    try:
        smtp = parse_address(address, SMTP_PORT)
        told = _given.make_context("refmta-conform", [*words, "--", address]).params
        return given(smtp, {name: each for name, each in told.items() if name != "address"})
    except click.UsageError as error:
        raise ValueError(error.format_message()) from None


def as_words(told: Given) -> list[str]:
    """The other way: the command line with the same addresses, doors and user (not with the times,
    the seed, --hostname and --hops).
    """
    found = [_joined(told.smtp), "--sender", told.sender]
    for each in told.rcpts:
        found += ["--rcpt", each]
    for path in told.maildirs:
        found += ["--maildir", str(path)]
    for name, text in (
        ("unknown-rcpt", told.unknown), ("relay-rcpt", told.relay), ("names", told.names),
        ("sender-maildir", told.sender_maildir or ""),
    ):  # fmt: skip
        found += [f"--{name}", str(text)] if text else []
    for name, door in (("submission", told.submission), ("tls", told.tls), ("lmtp", told.lmtp)):
        found += [f"--{name}", _joined(door)] if door else []
    return found + (["--user", f"{told.user}:{told.password}"] if told.user else [])


def _joined(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
