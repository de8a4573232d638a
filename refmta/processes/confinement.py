"""Confinement: a compartment puts its layers on, one by one, and proves each before the next.

It has no privilege when it begins, and everything it will need is loaded.  The order is that of
`patterns.defense_in_depth.LAYERS`: a jail needs the namespace that gives the right to enter it,
capabilities are dropped when nothing needs them any more, and the filter of system calls comes
last, since it refuses what the others are made of.

Each layer is proved when it is on and those after it are not: an attempt that a later layer would
stop, too, says nothing of this one.  If an attempt succeeds the compartment refuses to start
(`EX_CONFIG`), and with it the whole system: a guard that is thought to be there and is not is
worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

from refmta.journal import journal
from refmta.patterns import chroot_jail, least_privilege
from refmta.patterns.compartmentalization import GRANTED, foreign_descriptors
from refmta.processes.spawner import EX_CONFIG


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What is put on.

    layers: their names.  jail: the directory that will be "/", "" for none.  reads, changes: the
    directories that may be used, as they are called once the jail is entered.  network: whether
    the machine's is kept.  kinds: whose system calls are allowed (`patterns.system_calls`).
    """

    compartment: str
    layers: frozenset[str]
    jail: str = ""
    reads: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    network: bool = False
    kinds: tuple[str, ...] = ()
    #: The descriptors it was granted; None: those that follow one another from 0.
    granted: frozenset[int] | None = GRANTED


class NotTight(Exception):
    """An attempt that should have failed; the text names it and the layer."""


def confine(confinement: Confinement) -> None:
    """Put all layers on and prove them; the process ends with EX_CONFIG if one fails."""
    try:
        _count_descriptors(confinement)
        for name, layer in GUARDS.items():
            if name in confinement.layers:
                layer.put_on(confinement)
                prove(name, layer.attempts(confinement))
    except (OSError, NotTight) as error:
        refuse(confinement.compartment, error)


def prove(layer: str, attempts: Iterable[Callable[[], None]]) -> None:
    """Try what the layer should stop.  Raises NotTight."""
    for attempt in attempts:
        try:
            attempt()
        except OSError:
            continue
        raise NotTight(f"{layer}: {attempt.__name__.replace('_', ' ')}")


def _count_descriptors(confinement: Confinement) -> None:
    """Compartmentalization holds or not; there is nothing to be put on."""
    found = foreign_descriptors(confinement.granted or ())
    if confinement.granted is None:
        found = [each for place, each in enumerate(found) if each != place]
    if found:
        raise NotTight(f"descriptors: {', '.join(map(str, found))} were not granted")


def refuse(compartment: str, error: Exception) -> NoReturn:
    """Say why, and end."""
    what = "is not tight" if isinstance(error, NotTight) else "failed"
    journal(compartment, terminal=False).critical(f"confinement {what}", reason=str(error))
    raise SystemExit(EX_CONFIG)


# -- the layers: how each is put on, and what must fail then --------------------------------------


@dataclass(frozen=True, slots=True)
class Guard:
    """put_on raises OSError if the kernel refuses; attempts are made at once after it."""

    put_on: Callable[[Confinement], None]
    attempts: Callable[[Confinement], tuple[Callable[[], None], ...]]


def _enter_jail(confinement: Confinement) -> None:
    if confinement.jail:
        chroot_jail.enter(confinement.jail)


def _drop(_confinement: Confinement) -> None:
    least_privilege.gain_nothing()
    least_privilege.drop_capabilities()
    least_privilege.be_opaque()


def _restrict_files(confinement: Confinement) -> None:
    least_privilege.restrict_files(
        confinement.reads, confinement.changes, network=confinement.network
    )


def _against_landlock(confinement: Confinement) -> tuple[Callable[[], None], ...]:
    """Something that the user may do, and that this row does not say."""
    if confinement.changes:
        directory = confinement.changes[0]

        def make_a_socket() -> None:
            least_privilege.make_a_socket(directory)

        return (make_a_socket,)
    if confinement.reads:
        return (least_privilege.write_elsewhere,)
    return (least_privilege.read_the_root,)


GUARDS = {
    "users": Guard(lambda _: None, lambda _: (least_privilege.be_root,)),
    "namespace": Guard(
        lambda c: chroot_jail.own_user_namespace(network=c.network or "network" not in c.layers),
        lambda _: (),
    ),
    "network": Guard(lambda _: None, lambda c: () if c.network else (chroot_jail.use_the_network,)),
    "jail": Guard(
        _enter_jail,
        lambda c: (
            (chroot_jail.see_the_machine, chroot_jail.climb, chroot_jail.be_privileged_again)
            if c.jail
            else ()
        ),
    ),
    "capabilities": Guard(
        _drop,
        lambda _: (
            chroot_jail.jail_again,
            least_privilege.have_capabilities,
            least_privilege.be_looked_into,
        ),
    ),
    "landlock": Guard(_restrict_files, _against_landlock),
    "seccomp": Guard(
        lambda c: least_privilege.allow_calls(c.kinds),
        lambda _: (least_privilege.call_what_is_not_listed, least_privilege.run_a_program),
    ),
}
