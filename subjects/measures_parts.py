"""What a server is made of: how many programs work on a message, who of them is root, how much code
the largest has, what one configuration file holds.
"""

from __future__ import annotations

import re
import secrets
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from faultinject.network.next_hop import NextHop
from refmta.architectures.architecture import ROOT
from refmta.architectures.catalogue import find
from specs.claims.instruments import NotHere
from specs.claims.verdict import Reading
from subjects import modules
from subjects.measures_calls import Watch, Worker, workers
from subjects.measures_places import (
    COMPOSITION,
    DOMAIN,
    SERVER,
    Place,
    await_delivered,
    await_empty,
    need_root,
    ours,
    place,
)

#: Messages in which the roots are looked for.
MESSAGES: Final = 20
#: Who may be root in qmail: what starts all, and what becomes each recipient.
MAY_BE_ROOT: Final = frozenset({"spawner", "lspawn", "qmail-start", "qmail-lspawn"})
SPAWNER: Final = "spawner"
FAR: Final = "far.test"


# -- the way of a message -------------------------------------------------------------------------


def processes(subject: str, part: str) -> Reading:
    """Different programs that work on a message between port 25 and the mailbox."""
    found = on_a_message(subject)
    programs = sorted({each.program for each in found})
    return Reading(len(programs), f"{', '.join(programs)}; {len(found)} processes")


def privileged(subject: str, part: str) -> Reading:
    """Processes with user 0 among them."""
    found = on_a_message(subject)
    roots = sorted(each.program for each in found if each.is_root)
    return Reading(len(roots), f"{', '.join(roots) or 'none'}; of {len(found)} processes")


_SEEN: Final[dict[str, list[Worker]]] = {}


def on_a_message(subject: str) -> list[Worker]:
    """Who works on one message; looked at once."""
    need_root()
    if subject not in _SEEN:
        with place(subject) as found:
            _SEEN[subject] = watched(found)
    return _SEEN[subject]


def watched(found: Place) -> list[Worker]:
    """Who works on one message that comes by SMTP; the second one, so that all have started."""
    user = found.users[0]
    send(found, f"first{secrets.token_hex(6)}")
    await_delivered(found, user, 1)
    words = [f"word{secrets.token_hex(8)}", f"{user}@{found.domain}"]

    def act() -> None:
        words.extend(_names(send(found, words[0])))
        await_delivered(found, user, 2)
        await_empty(found)

    return workers(found, words, act)


#: What the reply to a message's end calls it: the only long word with digits in it.
_NAME = re.compile(r"\b(?=[0-9A-Za-z]*[0-9])[0-9A-Za-z]{10,}\b")


def _names(reply: str) -> list[str]:
    """The message's name in the queue."""
    return _NAME.findall(reply)


def send(found: Place, word: str, recipient: str = "") -> str:
    """A message with this word in its sender, its header and its body; the reply to its end."""
    to = recipient or f"{found.users[0]}@{found.domain}"
    text = f"Subject: {word}\r\nFrom: <{word}@{found.domain}>\r\n\r\n{word}\r\n"

    def deliver() -> str:
        with smtplib.SMTP(*found.address, local_hostname="client.test", timeout=60) as client:
            client.ehlo()
            replies = [client.mail(f"{word}@{found.domain}"), client.rcpt(to), client.data(text)]
        wrong = [each for each in replies if each[0] >= 300]
        if wrong:
            raise RuntimeError(f"{found.address}: {wrong[0]}")
        return replies[-1][1].decode("ascii", errors="replace")

    return found.within(deliver)


# -- who is root ----------------------------------------------------------------------------------


def roots(subject: str, part: str) -> Reading:
    """The most processes with user 0 at one instant, while mail flows.

    part: "all", or "unexpected": besides those that qmail has.
    """
    need_root()
    with place(subject) as found, Watch(found).watching() as watch:
        for number in range(MESSAGES):
            send(found, f"root{number}x{secrets.token_hex(4)}")
        await_delivered(found, found.users[0], MESSAGES)
    return most_roots(watch.roots, MAY_BE_ROOT if part == "unexpected" else frozenset())


def most_roots(instants: list[dict[str, int]], but: frozenset[str]) -> Reading:
    """The instant with the most of them, without those."""
    counted = [
        {name: count for name, count in each.items() if name not in but} for each in instants
    ]
    most = max(counted, key=lambda each: sum(each.values()), default={})
    others = sorted({name for each in instants for name in each} & but)
    told = ", ".join(f"{count} {name}" for name, count in sorted(most.items())) or "none"
    beside = f" besides {', '.join(others)}" if others else ""
    return Reading(sum(most.values()), f"{told}{beside}; {len(instants)} looks")


# -- code -----------------------------------------------------------------------------------------


def largest_part(subject: str, part: str) -> Reading:
    """Lines of ours in the largest process.  part: "root": of those that hold root."""
    if not subject.startswith(COMPOSITION):
        raise NotHere(f"the sources of {subject}")
    architecture = find(subject.removeprefix(COMPOSITION))
    names = [SPAWNER, *(row.name for row in architecture.compartments)]
    if part == "root":
        names = [
            SPAWNER, *(each.name for each in architecture.compartments if each.user == ROOT)
        ]  # fmt: skip
    sizes = {name: _own_lines(name, architecture.name) for name in names}
    largest = max(sizes, key=lambda name: sizes[name])
    told = ", ".join(f"{name} {size}" for name, size in sorted(sizes.items()))
    return Reading(sizes[largest], f"lines of {largest}; {told}")


def _own_lines(name: str, architecture: str) -> int:
    return sum(each.lines for each in modules.loaded(name, architecture) if each.own)


# -- configuration --------------------------------------------------------------------------------

#: What each server is configured with, where Debian puts it.
FILES: Final = {
    "sendmail": ("/etc/mail/sendmail.cf.debian",),
    "postfix": ("/etc/postfix/main.cf", "/etc/postfix/master.cf"),
}


def configuration(subject: str, part: str) -> Reading:
    """part: "mailers" and "lines" of a real server's files; "transports" that ours uses."""
    if part == "transports":
        return transports(subject)
    name = subject.removeprefix(SERVER)
    if not subject.startswith(SERVER) or name not in FILES:
        raise NotHere(f"the files of {subject}")
    if subject not in _TEXTS:
        with place(subject) as found:
            texts = [_inside(found, file).read_text(encoding="utf-8") for file in FILES[name]]
        _TEXTS[subject] = "\n".join(texts)
    return counted_configuration(_TEXTS[subject].splitlines(), part)


#: Read once: a real server takes minutes to be there.
_TEXTS: Final[dict[str, str]] = {}


def _inside(found: Place, file: str) -> Path:
    (pid, *_) = [each.pid for each in found.processes()]
    return Path(f"/proc/{pid}/root{file}")


def counted_configuration(lines: list[str], part: str) -> Reading:
    """Mailers (sendmail's M lines), or the lines that say something."""
    said = [each for each in lines if each.strip() and not each.lstrip().startswith("#")]
    if part == "mailers":
        names = [each[1:].partition(",")[0] for each in said if each.startswith("M")]
        return Reading(len(names), ", ".join(names))
    return Reading(len(said), f"of {len(lines)}")


def transports(subject: str) -> Reading:
    """One configuration, a message for each way out: those by which it arrives."""
    name = subject.removeprefix(COMPOSITION)
    if not subject.startswith(COMPOSITION):
        raise NotHere(f"this measure of {subject}")
    with next_hop() as hop, ours(name, next_hops={FAR: hop.port}) as found:
        send(found, f"near{secrets.token_hex(4)}", f"{found.users[0]}@{DOMAIN}")
        await_delivered(found, found.users[0], 1)
        send(found, f"far{secrets.token_hex(4)}", f"somebody@{FAR}")
        used = ["a mailbox", *(["SMTP"] if hop.await_one() else [])]
    return Reading(len(used), ", ".join(used))


class Hop:
    """An honest next hop, in a thread of its own."""

    #: How long the message may take.
    PATIENCE_S: Final = 60.0

    def __init__(self) -> None:
        self.server = NextHop()
        self.port = 0
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope: trio.CancelScope | None = None

    def run(self) -> None:
        trio.run(self._run)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            self.port = await nursery.start(self.server.serve)
            self._ready.set()

    def await_ready(self) -> None:
        self._ready.wait(self.PATIENCE_S)

    def await_one(self) -> bool:
        """Whether a message came."""
        over = threading.Event()
        for _ in range(int(self.PATIENCE_S / 0.05)):
            if self.server.accepted:
                return True
            over.wait(0.05)
        return False

    def end(self) -> None:
        if self._token is not None and self._scope is not None:
            self._token.run_sync_soon(self._scope.cancel)


@contextmanager
def next_hop() -> Iterator[Hop]:
    """It serves."""
    hop = Hop()
    thread = threading.Thread(target=hop.run)
    thread.start()
    hop.await_ready()
    try:
        yield hop
    finally:
        hop.end()
        thread.join()


#: Measures of this file, by name.
PARTS: Final[dict[str, Callable[[str, str], Reading]]] = {
    "processes": processes,
    "privileged": privileged,
    "roots": roots,
    "largest_part": largest_part,
    "configuration": configuration,
}
