"""Trust Partitioning: what comes from another compartment is checked at the border.

Judged on a siege of the running system (`hostile_peer`): every channel that there is, attacked by
the process at its other end, which was seized for it; and on the owners and modes of every file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, cast

from specs.observe.files import File
from specs.patterns.claims import Claim, Experiment
from specs.patterns.hostile_peer import Attack, Siege, siege
from specs.patterns.lines import KINDS, directions
from specs.patterns.manifest import Owned
from specs.patterns.observation import Observation, Unavailable

PATTERN: Final = "trust_partitioning"
SIEGE: Final = "trust_partitioning.siege"
#: Octets of memory that one attack may cost its receiver: a frame at its cap, and some.
MAY_GROW: Final = 4 << 20


# -- the siege ------------------------------------------------------------------------------------


def _each(wrong: Callable[[Observation, Attack], str]) -> Callable[[Observation], tuple[str, ...]]:
    """A claim about each attack that reached its receiver."""

    def judge(observation: Observation) -> tuple[str, ...]:
        found = observation.result(SIEGE, Siege)
        sent = [each for each in found.attacks if each.written >= 0]
        if not sent:
            return ("no attack was made",)
        return tuple(f"{each}: {text}" for each in sent if (text := wrong(observation, each)))

    return judge


def _survives(observation: Observation, attack: Attack) -> str:
    if attack.lived:
        return ""
    rests_on = cast(frozenset[tuple[str, str]], observation.manifest.facts.get("rests_on", ()))
    allowed = (attack.sender, attack.receiver) in rests_on
    return "" if allowed else "the receiver died, and nothing says that it may"


def _ends(_: Observation, attack: Attack) -> str:
    return (
        "" if attack.ended or not attack.heard else "the receiver read it and has the channel still"
    )


def _says(_: Observation, attack: Attack) -> str:
    return "" if attack.said or not attack.heard else "the log has no line of it"


def _keeps_nothing(_: Observation, attack: Attack) -> str:
    return f"the receiver kept {', '.join(attack.kept)}" if attack.kept else ""


def _does_not_grow(_: Observation, attack: Attack) -> str:
    return f"the receiver grew by {attack.grown} octets" if attack.grown > MAY_GROW else ""


def _mail_goes_on(_: Observation, attack: Attack) -> str:
    return f"no mail afterwards: {attack.mail}" if attack.mail else ""


def _complete(observation: Observation) -> tuple[str, ...]:
    """Every direction that was seen was attacked, everybody attacked and was attacked, and with
    every kind somebody was.
    """
    found = observation.result(SIEGE, Siege)
    tried = {(each.sender, each.receiver) for each in found.attacks}
    kinds = {each.kind for each in found.attacks if each.heard and each.written >= 0}
    lacking = [f"nobody heard {kind}" for kind in KINDS if kind not in kinds]
    for sender, receiver in sorted(_seen(observation) - tried):
        lacking.append(f"{sender} was not made to attack {receiver}")
    lacking += [f"{each} took no part" for each in sorted(_parts(observation) - _names(tried))]
    return (*lacking, *(f"not there any more: {each}" for each in found.missed))


def _seen(observation: Observation) -> set[tuple[str, str]]:
    """Directions at all instants, without those of who is above all others (see `hostile_peer`)."""
    manifest = observation.manifest
    seen = {
        direction
        for instant in observation.instants
        for direction in directions(manifest, instant.processes)
    }
    above = {sender for sender, receiver in seen if receiver == manifest.starter}
    return {(sender, receiver) for sender, receiver in seen if sender not in above}


def _parts(observation: Observation) -> set[str]:
    return {part for each in observation.manifest.compartments for part in each.parts}


def _names(directions: set[tuple[str, str]]) -> set[str]:
    return {name for direction in directions for name in direction}


# -- whose files ----------------------------------------------------------------------------------


def _files_are_owned(observation: Observation) -> tuple[str, ...]:
    """Owners, groups and modes are the manifest's."""
    rows = observation.manifest.owned
    if not rows:
        raise Unavailable("the manifest says nothing about files")
    by_path = {each.path: each for each in observation.files}
    wrong = [f"{row.path} is not there" for row in rows if row.path not in by_path]
    for row in rows:
        if row.path in by_path:
            wrong += _wrong_place(row, by_path[row.path])
        if row.below:
            inside = (each for path, each in by_path.items() if path.startswith(f"{row.path}/"))
            wrong += [text for each in inside for text in _wrong_below(row, each)]
    return tuple(wrong)


def _wrong_place(row: Owned, there: File) -> Iterator[str]:
    yield from _wrong_owner(row, there)
    if there.mode & 0o7777 != row.mode:
        yield f"{there.path} has mode {there.mode & 0o7777:o}, not {row.mode:o}"


def _wrong_below(row: Owned, there: File) -> Iterator[str]:
    yield from _wrong_owner(row, there)
    if there.mode & 0o007:
        yield f"{there.path} has mode {there.mode & 0o7777:o}: everybody may use it"


def _wrong_owner(row: Owned, there: File) -> Iterator[str]:
    if (there.owner, there.group) != (row.owner, row.group):
        yield f"{there.path} belongs to {there.owner}:{there.group}, not {row.owner}:{row.group}"


EXPERIMENTS: Final = (Experiment(SIEGE, siege, destructive=True),)
CLAIMS: Final = (
    Claim(
        PATTERN, "receivers_survive",
        "Whatever a seized peer sends, who hears it lives on, or rests on the sender and is started"
        " anew.", _each(_survives),
    ),
    Claim(
        PATTERN, "bad_frames_end_the_channel",
        "A frame that is not allowed on a channel ends that channel.", _each(_ends),
    ),
    Claim(PATTERN, "refusals_are_logged", "Each refusal is a line of the log.", _each(_says)),
    Claim(
        PATTERN, "no_descriptor_is_kept",
        "Nobody keeps a descriptor that no allowed message brought.", _each(_keeps_nothing),
    ),
    Claim(
        PATTERN, "memory_is_bounded", "A frame costs its receiver no more memory than its cap.",
        _each(_does_not_grow),
    ),
    Claim(
        PATTERN, "mail_goes_on",
        "After each attack, when the seized process is ended, a new mail is delivered.",
        _each(_mail_goes_on),
    ),
    Claim(
        PATTERN, "every_channel_was_attacked", "No channel was left out, and no kind of attack.",
        _complete,
    ),
    Claim(
        PATTERN, "files_belong_as_said",
        "Each file of queue and mailboxes has the owner, group and mode that was said.",
        _files_are_owned,
    ),
)  # fmt: skip
