"""What a run was given: the server's doors, addresses that it knows, and places to look at.

| need         | given by                | what for                                               |
|--------------|-------------------------|--------------------------------------------------------|
| rcpt         | --rcpt                  | a mailbox of this server: mail for it is accepted      |
| rcpt2        | --rcpt, a second time   | another one                                            |
| unknown      | --unknown-rcpt          | a local address that does not exist                    |
| relay        | --relay-rcpt            | an address elsewhere that it must not relay to         |
| maildir      | --maildir               | where the mail of `rcpt` arrives                       |
| maildir2     | --maildir, once more    | the same of `rcpt2`                                    |
| sendermail   | --sender, --sender-maildir | whose reports are looked at                         |
| user         | --user                  | a name and a password                                  |
| submission   | --submission            | the door for submission                                |
| tls          | --tls                   | the door where TLS comes first                         |
| lmtp         | --lmtp                  | the door of LMTP                                       |
| hops         | --names, --hops         | a scripted name server and scripted next hops          |

--hops may be several networks with commas between, and a port: "127.77.0.0/16,fd77::/64:2525".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specs.conformance.model import Case, Door

NEEDS: Final[Mapping[str, str]] = {
    "rcpt": "--rcpt", "rcpt2": "a second --rcpt", "unknown": "--unknown-rcpt",
    "relay": "--relay-rcpt", "maildir": "--maildir", "maildir2": "a second --maildir",
    "sendermail": "--sender and --sender-maildir", "user": "--user",
    "submission": "--submission", "tls": "--tls", "lmtp": "--lmtp", "hops": "--names",
}  # fmt: skip

#: What may stand in braces in a line that is said, and what it needs; "" if nothing.
PLACES: Final[Mapping[str, str]] = {
    "rcpt": "rcpt", "rcpt2": "rcpt2", "unknown": "unknown", "relay": "relay", "domain": "rcpt",
    "sender": "", "hostname": "", "token": "",
}  # fmt: skip

Address = tuple[str, int]
SMTP_PORT: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """See above.  hostname: what the client calls itself.  sender: of all mail.  timeout_s: for one
    reply.  quiet_s: after which a server that says nothing is taken not to answer yet.
    patience_s: until what was accepted has arrived.  seed: of all that is chosen by chance.
    """

    smtp: Address
    hostname: str = "client.conform.example"
    sender: str = "sender@client.conform.example"
    rcpts: tuple[str, ...] = ()
    unknown: str = ""
    relay: str = ""
    maildirs: tuple[Path, ...] = ()
    sender_maildir: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    submission: Address | None = None
    tls: Address | None = None
    lmtp: Address | None = None
    names: str = ""
    hops: str = "127.77.0.0/16"
    timeout_s: float = 10.0
    quiet_s: float = 0.5
    patience_s: float = 20.0
    seed: int = 0

    @property
    def rcpt(self) -> str:
        return self.rcpts[0] if self.rcpts else ""

    @property
    def rcpt2(self) -> str:
        return self.rcpts[1] if len(self.rcpts) > 1 else ""

    @property
    def domain(self) -> str:
        """Of the first mailbox."""
        return self.rcpt.rpartition("@")[2]

    def fill(self, line: str, token: str) -> str:
        """With each of PLACES filled in."""
        for place in PLACES:
            value = token if place == "token" else str(getattr(self, place))
            line = line.replace(f"{{{place}}}", value)
        return line

    def has(self, need: str) -> bool:
        """One of NEEDS.  Raises KeyError for another."""
        return {
            "rcpt": bool(self.rcpts), "rcpt2": len(self.rcpts) > 1, "unknown": bool(self.unknown),
            "relay": bool(self.relay), "maildir": bool(self.maildirs),
            "maildir2": len(self.maildirs) > 1, "sendermail": self.sender_maildir is not None,
            "user": bool(self.user), "submission": self.submission is not None,
            "tls": self.tls is not None, "lmtp": self.lmtp is not None, "hops": bool(self.names),
        }[need]  # fmt: skip

    def address(self, door: Door) -> Address | None:
        """Where to connect for it; None if that was not given."""
        where = {
            "smtp": self.smtp, "starttls": self.smtp, "tls": self.tls, "lmtp": self.lmtp,
            "submission": self.submission, "submission-starttls": self.submission,
        }  # fmt: skip
        return where[door]

    def missing(self, case: Case) -> str:
        """The first option that this case needs, and this run was not given; "" if none."""
        doors = {"tls": "tls", "lmtp": "lmtp"}
        needs = set(case.needs) | ({doors[case.door]} if case.door in doors else set())
        needs |= {"submission"} if case.door.startswith("submission") else set()
        for need in NEEDS:
            if need in needs and not self.has(need):
                return NEEDS[need]
        return ""
