"""A trial's own decisions: who has letters when, and what it still waits for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from faultinject.books import Answer, Found, Sending
from faultinject.letters import Copy, compose, digest, token_of
from faultinject.network import places
from faultinject.network.trial import USERS, Plan, Trial
from faultinject.sample import report

SENDER = "ada@network.example"


class Boxes:
    """A target that has mailboxes, and nothing else."""

    def __init__(self, directory: Path) -> None:
        self.box = directory / "new"
        self.box.mkdir()

    def mailboxes(self) -> Mapping[str, Path]:
        return {SENDER: self.box}


def trial(directory: Path, *bad: str, **settings: int) -> Trial:
    return Trial(Boxes(directory), Plan(bad=bad, **settings), directory, lambda _: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wave", [0, 1, 24, 1000])
def test_every_destination_is_in_one_wave(wave: int, tmp_path: Path) -> None:
    every = tuple(places.ALLOWED)
    waves = list(trial(tmp_path, *every, wave=wave)._waves())
    assert tuple(name for each in waves for name in each) == every
    assert max(map(len, waves)) == min(wave or len(every), len(every))


def test_letters_are_for_each_destination_and_some_for_two(tmp_path: Path) -> None:
    bad = ("smtp-honest", "dns-null-mx")
    letters = trial(tmp_path, *bad, burst=2)._bad_letters(bad)
    assert [len(each.recipients) for each in letters] == [1, 1, 1, 1, 4]
    assert {places.destination(each) for each in letters[-1].recipients} == {*bad, ""}
    assert f"{USERS[1]}@network.example" in letters[-1].recipients


@pytest.mark.parametrize(
    ("name", "due"),
    [("smtp-honest", True), ("smtp-5yz-at-mail", True), ("smtp-4yz-at-mail", False)],
)
def test_it_waits_for_what_must_come_at_once(name: str, due: bool, tmp_path: Path) -> None:
    """A delivery, or a report; nothing where later is right."""
    made, recipient = trial(tmp_path, name), f"r@{places.domain(name)}"
    octets = compose("n7", 1, 1, SENDER, (recipient,))
    copy = Copy(token_of("n7", 1), 1)
    sending = Sending(sender=SENDER, recipients=(recipient,), digest=digest(octets))
    made.books.sendings[copy] = sending
    assert not made._is_due()  # it was never promised
    sending.answer, sending.answered_s = Answer.ACKNOWLEDGED, 1.0
    assert made._is_due() == due
    if name == "smtp-5yz-at-mail":
        box = made.target.mailboxes()[SENDER]
        (box / "1").write_bytes(report("m", octets, SENDER, recipient))
    else:
        made.books.found.append(
            Found(copy=copy, recipient=recipient, digest=b"", when_s=2.0, place="next hop")
        )
    assert not made._is_due()
