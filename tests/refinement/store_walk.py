"""A store on a disk that is cut off at any change, killed and opened again; see test_store_machine.

`Store` knows crashes; its subclasses (queue_walk, mailbox_walk) know what a store does and must
keep. A rule that changes the disk draws a fuse: mostly none, else the number of changes after which
the power goes. Recovery has one as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from refinement.disks import Fused, PowerCut, Twin, empty
from refinement.machines import hold

from specs.persistence.model_disk import Snapshot
from specs.persistence.models import MODELS
from specs.persistence.sample import power_cut

#: Changes that a rule may still make before the power is cut; mostly it isn't.
FUSES = st.sampled_from([None, None, None, None, 0, 1, 2, 3, 4, 6, 8, 12])
BLOCKS = st.lists(st.sampled_from([b"", b"a", b"bc", b"def\r\n"]), min_size=1, max_size=3)
CUTS_IN_RECOVERY = 2


class Store(RuleBasedStateMachine):
    """A disk that is cut off, and messages by token. Subclasses know the store."""

    directories: tuple[str, ...] = ()
    module: Any = None
    most = 9  # messages that are kept
    parent: Path | None = None  # of real directories; None: the model alone

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.content: dict[str, bytes] = {}  # by token, all that were ever begun
        self.kept: set[str] = set()  # must be there
        self.drafts: dict[str, Any] = {}
        self.insert(empty(*self.directories))

    # -- the disk -----------------------------------------------------------------------------

    def insert(self, snapshot: Snapshot, fuse: int | None = None) -> None:
        """Start on this disk: recover, and judge what is there. Raises PowerCut."""
        self.drafts.clear()
        self.disk = Twin(snapshot, self.parent) if self.parent else Fused(snapshot)
        self.disk.fuse = fuse
        self.open()
        self.disk.fuse = None

    def open(self) -> None:
        raise NotImplementedError

    def attempt(self, data: Any, action: Any, fuse: int | None) -> bool:
        """Do something, with a fuse; False if it blew: then the machine has crashed and is back."""
        self.disk.fuse = fuse
        try:
            action()
        except PowerCut:
            self.lose_power(data)
            return False
        finally:
            self.disk.fuse = None
        return True

    def lose_power(self, data: Any) -> None:
        """Crash, and recover; recovery may be cut off as well."""
        for _ in range(CUTS_IN_RECOVERY):
            left = self.left_by_crash(data)
            fuse = data.draw(FUSES, label="changes until recovery is cut off")
            try:
                self.before_open(left)
                self.insert(left, fuse)
            except PowerCut:
                continue
            return
        left = self.left_by_crash(data)
        self.before_open(left)
        self.insert(left)

    def left_by_crash(self, data: Any) -> Snapshot:
        model = data.draw(st.sampled_from(MODELS), label="persistence model")
        self.disk.forget()
        return power_cut(
            self.disk.initial,
            self.disk.record,
            model,
            lambda ways: data.draw(st.integers(0, ways - 1)),
        )

    def before_open(self, left: Snapshot) -> None:
        """What recovery will find."""

    def token(self) -> str:
        self.number += 1
        return f"m{self.number}"

    def one_of(self, data: Any, tokens: Any) -> str:
        return data.draw(st.sampled_from(sorted(tokens)), label="message")

    def no_handle_left(self, *, but: int = 0) -> None:
        left = self.disk.open_handles()
        hold("nothing_left_over", len(left) <= but, left)

    def teardown(self) -> None:
        self.disk.forget()

    # -- crashes ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.kept) + len(self.drafts) >= min(self.most, 2))
    @rule(data=st.data())
    def power_is_cut(self, data: Any) -> None:
        self.lose_power(data)

    @precondition(lambda self: self.drafts)
    @rule()
    def process_is_killed(self) -> None:
        """And started anew: nothing is lost but what only it knew."""
        self.disk.forget()
        self.insert(self.disk.model.snapshot())
