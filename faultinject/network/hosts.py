"""The hosts of a trial: a next hop for each bad destination, the honest ones, and an impostor.

Rules a reader may rely on
- All of them listen before the server under test starts, except where nobody is to listen.
- `mend`: every host is honest from then on, and heard; what it has promised itself by then, on
  connections that are open, it does to the end.
- What any of them takes goes into the ledger's books; what the impostor takes is kept apart, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from faultinject.books import Books
from faultinject.collect import BookedHop
from faultinject.network import places
from faultinject.network.name_rows import ROWS, Row
from faultinject.network.name_server import Domain, NameServer
from faultinject.network.session import Accepted
from faultinject.network.vanishing import appear, vanish

HONEST_ROW = ROWS["honest"]


@dataclass(slots=True, kw_only=True)
class Impostor(BookedHop):
    """Nobody may send it anything."""

    fooled: list[Accepted] = field(default_factory=list)

    def note(self, accepted: Accepted) -> None:
        """Mail that is not its."""
        self.fooled.append(accepted)
        BookedHop.note(self, accepted)


@dataclass(slots=True, kw_only=True)
class Hosts:
    """bad: names of `places.ALLOWED`.  itself: the name of the server under test."""

    bad: tuple[str, ...]
    books: Books
    itself: str
    hops: dict[str, BookedHop] = field(default_factory=dict)
    live: dict[str, BookedHop] = field(default_factory=dict)
    honest: BookedHop = field(init=False)
    impostor: Impostor = field(init=False)
    names: NameServer = field(init=False)
    _mended: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.honest, self.impostor = self._hop(), Impostor(keep_content=True, books=self.books)
        self.names = NameServer(domains=dict(self._domains()))

    def _hop(self, behaviour: str = "honest") -> BookedHop:
        return BookedHop(behaviour=behaviour, keep_content=True, books=self.books)

    def _domains(self) -> Iterator[tuple[str, Domain]]:
        for number, name in enumerate(places.LIVE_ONES):
            yield name, self._domain(HONEST_ROW, places.live_address(number))
        for number, name in enumerate(self.bad):
            if name.startswith(places.DNS):
                row, address = ROWS[name.removeprefix(places.DNS)], places.HONEST_HOST
            else:
                row, address = HONEST_ROW, places.address(number)
            yield places.domain(name), self._domain(row, address)

    def _domain(self, row: Row, good: str) -> Domain:
        others = {"bad": places.IMPOSTOR, "closed": places.CLOSED, "itself": self.itself}
        return Domain(row=row, places={"good": good, **others})

    async def open(self, nursery: trio.Nursery) -> None:
        """Until the nursery ends.  Raises OSError."""
        await nursery.start(self.names.serve, places.NAME_SERVER, places.DNS_PORT)
        for number, name in enumerate(places.LIVE_ONES):
            self.live[name] = self._hop()
            await self._listen(nursery, self.live[name], places.live_address(number))
        await self._listen(nursery, self.honest, places.HONEST_HOST)
        await self._listen(nursery, self.impostor, places.IMPOSTOR)
        for number, name in enumerate(self.bad):
            if name.startswith(places.SMTP):
                self.hops[name] = self._hop(name.removeprefix(places.SMTP))
                await self._listen(nursery, self.hops[name], places.address(number))
            elif name.startswith(places.TCP):
                self.hops[name] = self._hop()
                await nursery.start(self._unheard, name, places.address(number))

    @staticmethod
    async def _listen(nursery: trio.Nursery, hop: BookedHop, address: str) -> None:
        await nursery.start(hop.serve, places.SMTP_PORT, address)

    async def _unheard(
        self,
        name: str,
        address: str,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """No conversation until everything is mended."""
        if name == f"{places.TCP}refused":
            task_status.started()
            await self._mended.wait()
            await self.hops[name].serve(places.SMTP_PORT, address)
        listeners = await trio.open_tcp_listeners(places.SMTP_PORT, host=address, backlog=512)
        if name == f"{places.TCP}black-hole":
            for each in listeners:
                vanish(each.socket)
        task_status.started()
        await self._mended.wait()
        if name == f"{places.TCP}black-hole":
            for each in listeners:
                appear(each.socket)
        await self.hops[name].serve_at(listeners)

    def mend(self) -> None:
        """All is well from now on."""
        self.names.mend()
        for hop in self.hops.values():
            hop.become("honest")
        self._mended.set()

    # -- what they have seen ----------------------------------------------------------------------

    def met(self, name: str) -> bool:
        """Whether the server has come as far as that destination; where that can't be seen, yes."""
        if name.startswith(places.DNS):
            return any(domain == places.domain(name) for domain, _ in self.names.asked)
        return name.startswith(places.TCP) or bool(self.hops[name].visits)

    async def wait_for_visit(self, name: str) -> None:
        """The next connection there; none is to come where there is no conversation."""
        if name.startswith(places.SMTP):
            hop = self.hops[name]
            before = len(hop.visits)
            await hop.wait_for(lambda: len(hop.visits) > before)

    def open_at(self, name: str) -> int:
        """Connections that are open there now."""
        return self.hops[name].open if name in self.hops else 0
