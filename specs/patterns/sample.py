"""A sound system, made by hand: what a judge of confinement must accept, and what its negative
controls start from, each with one thing wrong.

It is a small mail server with two pools, a queue, agents and a user database, and of no real one:
names, numbers and paths are the least that all claims of confinement have something to look at.
`CHANNELS` says who talks to whom; peers, talks and allow-lists follow from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from specs.observe.files import File
from specs.observe.probes import PROBES, Outcome
from specs.observe.process import Capabilities, Descriptor, Kind, Process
from specs.patterns.attacks import ATTACKS
from specs.patterns.compartmentalization import Slices
from specs.patterns.layers import Layers, Revealed, Run
from specs.patterns.manifest import (
    Allowed,
    Asset,
    Compartment,
    Manifest,
    Marker,
    PoolRules,
    Talk,
)
from specs.patterns.observation import Instant, Observation

LAYERS: Final = (
    "users", "namespace", "network", "jail", "capabilities", "landlock", "seccomp",
)  # fmt: skip
SPOOL, EMPTY, QUEUE, MAIL = "/s", "/s/empty", "/s/chunks", "/home"
MESSAGE: Final = f"{QUEUE}/M1"
LOG: Final = "/var/log/mail"
THREE: Final = 1 << 5 | 1 << 6 | 1 << 7
RECIPIENTS: Final = {"ada": 2000, "bob": 2001}
RULES: Final = PoolRules(max_workers=4, max_uses=10, max_age_s=60, max_idle_s=60)

ROWS: Final = (
    Compartment(
        name="spawner", parts=("spawner",), user=0, capabilities=THREE, jail="none", root="/",
        network=True, reason="it makes users of processes",
    ),
    Compartment(name="supervisor", parts=("supervisor",), user=1000, root=EMPTY),
    Compartment(
        name="smtpd", parts=("smtpd", "smtpd template", "smtpd worker"), user=1001, root=EMPTY,
        listener=True, pool=RULES,
    ),
    Compartment(
        name="enqueue", parts=("enqueue",), user=1002, jail="spool", root=SPOOL, changes=(QUEUE,),
        reason="it writes the queue",
    ),
    Compartment(
        name="qmgr", parts=("qmgr",), user=1003, jail="spool", root=SPOOL, changes=(QUEUE,),
        reason="it reads the queue",
    ),
    Compartment(
        name="remote", parts=("remote", "remote template", "remote worker"), user=1004, root=EMPTY,
        network=True, faces=("network",), pool=RULES, reason="it connects to next hops",
    ),
    Compartment(
        name="local", parts=("local",), user=None, per_user=True, jail="home",
        reason="it writes mailboxes",
    ),
    Compartment(
        name="accounts", parts=("accounts",), user=1005, jail="none", root="/", reads=("/",),
        reason="the C library reads the user database",
    ),
)  # fmt: skip
#: (process name, recipient) of each process; its place makes its pid.
PROCESSES: Final = (
    *((part, "") for row in ROWS if not row.per_user for part in row.parts),
    *(("local", user) for user in RECIPIENTS),
)
#: Whom an attacker seizes.
VICTIMS: Final = {"session": "smtpd worker", "sender": "remote worker", "writer": "enqueue"}
CHANNELS: Final = (
    ("spawner", "supervisor"), ("supervisor", "smtpd"), ("supervisor", "enqueue"),
    ("supervisor", "qmgr"), ("supervisor", "remote"), ("supervisor", "local"),
    ("supervisor", "accounts"), ("smtpd", "smtpd template"), ("smtpd", "smtpd worker"),
    ("remote", "remote template"), ("remote", "remote worker"), ("smtpd worker", "enqueue"),
    ("enqueue", "qmgr"), ("qmgr", "local"), ("qmgr", "remote worker"), ("qmgr", "accounts"),
)  # fmt: skip
INET: Final = {
    "spawner": ("listening",), "supervisor": ("listening",), "smtpd": ("listening",),
    "smtpd worker": ("connected",), "remote worker": ("connected",),
}  # fmt: skip


def sample() -> Observation:
    """Every claim of confinement holds of it."""
    manifest = Manifest(
        architecture="sample",
        layers=LAYERS,
        victims=VICTIMS,
        compartments=tuple(replace(row, descriptors=_allowed(row)) for row in ROWS),
        talks=tuple(Talk(client=client, server=server) for client, server in CHANNELS),
        recipients=RECIPIENTS,
        assets=(
            Asset(name="queue", path=QUEUE, owners=("enqueue", "qmgr")),
            *(
                Asset(name=f"mail of {user}", path=f"{MAIL}/{user}", owners=("local",))
                for user in RECIPIENTS
            ),
        ),
        markers=(Marker(name="a next hop", text="h1", holders=("supervisor", "qmgr")),),
    )
    return Observation(
        manifest=manifest,
        instants=(Instant(label="loaded", processes=tuple(_processes())),),
        machine=_process("observer", "", pid=1),
        files=tuple(_files()),
        probes=_probes(),
        results={"slices": _slices(), "layers": _layers(), "landlock": _revealed()},
    )


# -- processes ------------------------------------------------------------------------------------


def row_of(part: str) -> Compartment:
    """Of a process name; the observer's is the spawner's."""
    return next((row for row in ROWS if part in row.parts), ROWS[0])


def _processes() -> Iterator[Process]:
    for place, (part, detail) in enumerate(PROCESSES):
        yield _process(part, detail, pid=100 + place)


def _process(part: str, detail: str, *, pid: int) -> Process:
    row = row_of(part)
    free = row.name == "spawner"
    user = RECIPIENTS[detail] if detail else row.user or 0
    bits = THREE if free else 0
    worker = part.endswith(" worker")
    own = 0 if free else 10 + user
    return Process(
        pid=pid,
        parent=1,
        name=part,
        detail=detail,
        uids=(user,) * 4,
        gids=(user,) * 4,
        groups=(),
        capabilities=Capabilities(
            inheritable=0, permitted=bits, effective=bits, bounding=bits, ambient=0
        ),
        no_new_privs=True,
        seccomp=2,
        filters=2 if worker else 1,
        dumpable=None if free else False,
        root=f"{MAIL}/{detail}" if detail else row.root,
        root_listing=() if row.jail == "empty" else ("x",),
        cwd=f"{MAIL}/{detail}" if detail else row.root,
        namespaces={"user": own, "net": 0 if row.network else own},
        descriptors=tuple(_descriptors(pid, part)) if pid >= 100 else (),
        threads=1,
        started=0,
        limits={"Max core file size": (0, 0)},
        environment=("HOME", "LANG", "PATH"),
    )


def _pids(part: str) -> list[int]:
    return [100 + place for place, (name, _) in enumerate(PROCESSES) if name == part]


def _descriptors(pid: int, part: str) -> Iterator[Descriptor]:
    for number in (0, 1):
        yield descriptor(number, "device", "/dev/null", writable=True)
    yield descriptor(2, "file", LOG, writable=True)
    number = 3
    for client, server in CHANNELS:
        if part in (client, server):
            for peer in _pids(server if part == client else client):
                inode = _inode(pid, peer)
                yield replace(
                    descriptor(number, "socket", f"socket:[{inode}]", writable=True),
                    family="unix", inode=inode, peer=((peer, 3),),
                )  # fmt: skip
                number += 1
    for kind in INET.get(part, ()):
        inode = 7 if kind == "listening" else pid * 10_000_000
        yield replace(
            descriptor(number, "socket", f"socket:[{inode}]", writable=True),
            family="inet", inode=inode, listening=kind == "listening",
        )  # fmt: skip
    if part == "remote worker":
        yield descriptor(number + 1, "file", MESSAGE)


def _inode(pid: int, peer: int) -> int:
    """Of this end: another one than that of the other end."""
    return pid * 1000 + peer


def descriptor(number: int, kind: Kind, target: str, *, writable: bool = False) -> Descriptor:
    """A descriptor as /proc shows it."""
    return Descriptor(number=number, kind=kind, target=target, writable=writable, inode=number)


def _allowed(row: Compartment) -> dict[str, tuple[Allowed, ...]]:
    return {part: tuple(_list(part)) for part in row.parts}


def _list(part: str) -> Iterator[Allowed]:
    yield Allowed(purpose="nothing", kind="device", target="/dev/null", least=2, most=2)
    yield Allowed(purpose="the log", kind="file", target=LOG, least=1)
    peers = {client if part == server else server for client, server in CHANNELS
             if part in (client, server)}  # fmt: skip
    yield Allowed(
        purpose="channels", kind="socket", family="unix", peers=tuple(sorted(peers)),
        most=sum(len(_pids(each)) for each in peers),
    )  # fmt: skip
    for kind in INET.get(part, ()):
        yield Allowed(purpose=kind, kind="socket", family="inet", listening=kind == "listening")
    if part == "remote worker":
        yield Allowed(purpose="its message", kind="file", target=f"{QUEUE}/.*", writable=False)


# -- files, attempts, experiments -----------------------------------------------------------------


def _files() -> Iterator[File]:
    yield file(SPOOL, "dir", 0, 0o711)
    yield file(EMPTY, "dir", 0, 0o555)
    yield file(QUEUE, "dir", 1002, 0o2770, group=1003)
    yield file(MESSAGE, "file", 1002, 0o640, group=1003)
    for user, uid in RECIPIENTS.items():
        yield file(f"{MAIL}/{user}", "dir", uid, 0o700)


def file(path: str, kind: str, owner: int, mode: int, group: int | None = None) -> File:
    """A name as the file system shows it."""
    return File(
        path=path, kind=kind, owner=owner, group=owner if group is None else group,  # type: ignore[arg-type]
        mode=mode, size=0, inode=1, links=1,
    )  # fmt: skip


def _probes() -> dict[tuple[str, str], Outcome]:
    found = _all(part for row in ROWS for part in row.parts)
    for part in ("enqueue", "qmgr"):
        found[part, "open_message"] = Outcome("done", MESSAGE)
        found[part, "open_queue"] = Outcome("done", QUEUE)
    found["accounts", "open_passwd"] = Outcome("done", "/etc/passwd")
    found["remote worker", "connect"] = Outcome("done")
    return found


def _all(parts: Iterable[str]) -> dict[tuple[str, str], Outcome]:
    return {(part, probe.name): Outcome("EPERM") for part in parts for probe in PROBES}


def _slices() -> Slices:
    holding = ("supervisor", "qmgr")
    return Slices({
        part: frozenset({"a next hop"} if part in holding else ())
        for row in ROWS for part in row.parts
    })  # fmt: skip


def _layers() -> Layers:
    tried = {(VICTIMS[attack.job], attack.probe): Outcome("EACCES") for attack in ATTACKS}
    runs = {
        layer: Run(layers=tuple(each for each in LAYERS if each != layer), tried=tried)
        for layer in LAYERS
    }
    bare = Run(layers=(), tried=dict.fromkeys(tried, Outcome("done")))
    return Layers(runs=runs, peeled=(bare,))


def _revealed() -> Revealed:
    parts = [part for row in ROWS if row.name != "spawner" for part in row.parts]
    return Revealed({part: Outcome("EACCES") for part in parts})
