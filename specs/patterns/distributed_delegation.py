"""Distributed Delegation, judged: who has a risky face has no precious data, and whoever wants any
mail must seize two compartments at the least.

Theory.  A *face* is a compartment that hears the network: it takes connections, makes them, or was
seen with one.  An *asset* is a place (queue, mailboxes, keys) with its owners.  Three judgements,
each independent of the other two:
- tried: a seized process opens no asset that it does not own, and a face opens none;
- by modes: were there no jail, the users of faces still could not read a file of an asset;
- the fall: an attacker from outside owns a face first, and from there only those at the other end
  of a channel that the fallen one was seen to hold.  The shortest such way to a compartment that
  opens *any* mail is the smallest set that must fall together.  Who may become anyone, and who
  tells that one what to start, gives any mail, too.

A delivery agent works on the messages that it was handed: that is not any mail, as long as it has
one for each connection to its next hop, and can't change it.  The envelope of such a message lies
in the same file: what is judged is what a face opens, not what it was handed.

What the fall leaves out: octets that pass through a compartment which never parses them (a
message's body) are counted as no attack on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from specs.observe.files import File
from specs.observe.process import Descriptor, Process
from specs.patterns.chroot_jail import below
from specs.patterns.claims import Claim
from specs.patterns.manifest import Asset, Compartment
from specs.patterns.observation import Observation, Outcome
from specs.patterns.sightings import attempts, compartment_of, confined, judged, never

PATTERN = "distributed_delegation"
#: Attempts to open an asset, or the way to one.
ON_ASSETS = (
    "open_spool", "open_queue", "open_message", "write_message", "open_mailbox", "open_delivered",
    "open_configuration",
)  # fmt: skip
#: Those whose success is mail.
ON_MAIL = ("open_queue", "open_message", "write_message", "open_mailbox", "open_delivered")
#: How many compartments must fall, at the least.
TOGETHER = 2


# -- faces ----------------------------------------------------------------------------------------


def faces(observation: Observation) -> frozenset[str]:
    """The compartments that hear the network: by their row, or seen with a connection.  Not the
    one that starts the others, whose fall is counted by itself.
    """
    manifest = observation.manifest
    free = confined(manifest)
    said = {row.name for row in manifest.compartments if free(row) and row.hears}
    seen = {
        row.name
        for _, process in observation.sightings()
        if any(_connected(each) for each in process.descriptors)
        and (row := compartment_of(manifest, process.name)) is not None
    }
    return frozenset(said | seen)


def _connected(descriptor: Descriptor) -> bool:
    return descriptor.family in ("inet", "inet6") and not descriptor.listening


def no_face_owns_an_asset(observation: Observation) -> tuple[str, ...]:
    """Neither as the manifest has it, nor as a connection was seen."""
    risky = faces(observation)
    if not risky or not observation.manifest.assets:
        return ("there is no face, or nothing to be lost",)
    return tuple(
        f"{name}: it hears the network, and owns {asset.name}"
        for asset in observation.manifest.assets
        for name in sorted(risky & set(asset.owners))
    )


# -- tried ----------------------------------------------------------------------------------------


def no_face_opens_an_asset(observation: Observation) -> tuple[str, ...]:
    """No attempt of a seized face to open an asset succeeds, whatever the manifest allows."""
    risky = faces(observation)
    return attempts(observation, ON_ASSETS, may=lambda row, *_: row.name not in risky)


def only_owners_open_an_asset(observation: Observation) -> tuple[str, ...]:
    """What a seized process opened is an asset that its compartment owns.  It is never aimed at
    what is its own, so an agent that opens a mailbox opened somebody else's.
    """
    owned = {
        row.name: [a.path for a in observation.manifest.assets if row.name in a.owners]
        for row in observation.manifest.compartments
    }

    def may(row: Compartment, _probe: str, outcome: Outcome) -> bool:
        return not row.per_user and all(
            any(below(path, each) for each in owned[row.name])
            for path in outcome.detail.split(", ")
        )

    return attempts(observation, ON_ASSETS, may=may)


# -- by modes -------------------------------------------------------------------------------------


def modes_shut_faces_out(observation: Observation) -> tuple[str, ...]:
    """Were there no jail: no file or directory of an asset can be read by a face's user."""
    files = {each.path: each for each in observation.files}
    inside = [
        each
        for each in observation.files
        if any(below(each.path, asset.path) for asset in observation.manifest.assets)
    ]
    if not inside:
        return ("no file of an asset was looked at",)
    return tuple(
        f"{name}: user {uid} may read {each.path} (mode {each.mode & 0o7777:o})"
        for name, uid, gid in sorted(_users(observation))
        for each in inside
        if _may_read(files, each, uid, gid)
    )


def _users(observation: Observation) -> set[tuple[str, int, int]]:
    risky = faces(observation)
    return {
        (row.name, process.uids[0], process.gids[0])
        for _, process in observation.sightings()
        if (row := compartment_of(observation.manifest, process.name)) is not None
        and row.name in risky
    }


def _may_read(files: dict[str, File], file: File, uid: int, gid: int) -> bool:
    """Every directory on the way that was looked at lets the user through."""
    way = [
        each for each in files.values() if each.path != file.path and below(file.path, each.path)
    ]
    return _allows(file, uid, gid, 4) and all(_allows(each, uid, gid, 1) for each in way)


def _allows(file: File, uid: int, gid: int, bit: int) -> bool:
    shift = 6 if uid == file.owner else 3 if gid == file.group else 0
    return uid == 0 or bool(file.mode >> shift & bit)


# -- in hand --------------------------------------------------------------------------------------


def a_face_holds_what_it_sends(observation: Observation) -> tuple[str, ...]:
    """Who takes connections has no file of an asset; who makes them one for each connection at the
    most, and none for writing.
    """
    risky = faces(observation)
    assets = observation.manifest.assets
    return judged(
        observation,
        lambda process, row: _in_hand(process, row, assets),
        lambda row: row.name in risky,
    )


def _in_hand(process: Process, row: Compartment, assets: tuple[Asset, ...]) -> Iterator[str]:
    held = [each for each in process.descriptors if _of(each, assets)]
    for each in held:
        if each.kind == "dir" or each.writable:
            yield f"descriptor {each.number}: {each.target}, a directory or for writing"
    most = 0 if row.listener else max(1, sum(map(_connected, process.descriptors)))
    if len(held) > most:
        yield f"it has {len(held)} files open of what is precious, at most {most}"


def _of(descriptor: Descriptor, assets: tuple[Asset, ...]) -> bool:
    """A file of an asset, a directory of one, or a directory above one."""
    path = descriptor.target.removesuffix(" (deleted)")
    if descriptor.kind not in ("file", "dir"):
        return False
    above = descriptor.kind == "dir"
    return any(below(path, e.path) or (above and below(e.path, path)) for e in assets)


# -- the fall -------------------------------------------------------------------------------------


def any_mail_takes_two(observation: Observation) -> tuple[str, ...]:
    """The smallest set of compartments whose fall gives any mail has two members at the least."""
    giving = gives_any_mail(observation)
    if not giving:
        return ("no compartment opens any mail: the attempts are blind",)
    way = smallest_fall(observation)
    if way and len(way) < TOGETHER:
        return (f"{way[0]} alone gives any mail: {giving[way[0]]}",)
    return ()


def smallest_fall(observation: Observation) -> tuple[str, ...]:
    """The compartments that fall one after the other, the outermost first; () if none leads there.
    Breadth first, so that no way is shorter.
    """
    giving, peers = gives_any_mail(observation), _peers(observation)
    ways: list[tuple[str, ...]] = [(each,) for each in sorted(faces(observation))]
    fallen: set[str] = set()
    while ways:
        for way in ways:
            if way[-1] in giving:
                return way
        fallen |= {way[-1] for way in ways}
        ways = [(*way, each) for way in ways for each in sorted(peers.get(way[-1], set()) - fallen)]
    return ()


def gives_any_mail(observation: Observation) -> dict[str, str]:
    """Compartment -> why its fall gives any mail."""
    giving: dict[str, str] = {}
    for name, why in (*_opened(observation), *_held(observation), *_commanding(observation)):
        giving.setdefault(name, why)
    return giving


def _opened(observation: Observation) -> Iterator[tuple[str, str]]:
    for (part, probe), outcome in observation.probes.items():
        row = compartment_of(observation.manifest, part)
        if row and outcome.done and probe in ON_MAIL:
            yield row.name, f"{probe} ({outcome.detail})"


def _held(observation: Observation) -> Iterator[tuple[str, str]]:
    """An agent's own home is not any mail."""
    for _, process in observation.sightings():
        row = compartment_of(observation.manifest, process.name)
        for each in process.descriptors:
            precious = each.kind == "dir" and _of(each, observation.manifest.assets)
            own = row is not None and row.per_user and below(each.target, process.root)
            if row and precious and not own:
                yield row.name, f"it holds the directory {each.target}"


def _commanding(observation: Observation) -> Iterator[tuple[str, str]]:
    privileged, peers = {*observation.manifest.privileged}, _peers(observation)
    for row in observation.manifest.compartments:
        if privileged & {*row.parts}:
            yield row.name, "it may become any user"
            for each in peers.get(row.name, ()):
                yield each, f"it tells {row.name} what to start"


def _peers(observation: Observation) -> dict[str, set[str]]:
    """Who was seen at the other end of whose channels, by compartment."""
    names = {each.pid: each.name for _, each in observation.sightings()}
    found: dict[str, set[str]] = {}
    for _, process in observation.sightings():
        row = compartment_of(observation.manifest, process.name)
        for pid, _ in (end for each in process.descriptors for end in each.peer):
            other = compartment_of(observation.manifest, names.get(pid, ""))
            if row is not None and other is not None and other.name != row.name:
                found.setdefault(row.name, set()).add(other.name)
    return found


def operators_are_elsewhere(observation: Observation) -> tuple[str, ...]:
    """The operator's socket gives orders to all: no compartment can connect to it."""
    return attempts(observation, ("connect_control",), may=never)


CLAIMS = (
    Claim(PATTERN, "no_face_owns_an_asset",
          "Who hears the network owns neither queue, mailbox nor key.", no_face_owns_an_asset),
    Claim(PATTERN, "no_face_opens_an_asset",
          "A seized process that hears the network opens no envelope, mailbox or key.",
          no_face_opens_an_asset),
    Claim(PATTERN, "only_owners_open_an_asset",
          "A seized process opens no asset but those of its own compartment.",
          only_owners_open_an_asset),
    Claim(PATTERN, "modes_shut_faces_out",
          "Owners and modes alone keep the users of faces from every file of an asset.",
          modes_shut_faces_out),
    Claim(PATTERN, "a_face_holds_what_it_sends",
          "Who takes mail holds no file of it; who sends it one per connection, and changes none.",
          a_face_holds_what_it_sends),
    Claim(PATTERN, "any_mail_takes_two",
          "The smallest set of compartments whose fall gives any mail has two members.",
          any_mail_takes_two),
    Claim(PATTERN, "operators_are_elsewhere",
          "No compartment gives orders as the operator does.", operators_are_elsewhere),
)  # fmt: skip
