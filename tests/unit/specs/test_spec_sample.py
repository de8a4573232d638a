"""Sampled crash states are states that the models allow, and all kinds of loss are among them."""

import pytest

from specs.persistence.crash import crash_states
from specs.persistence.model_disk import ModelDisk
from specs.persistence.models import MODELS, P0, P2_ATOMIC
from specs.persistence.octets import FINE
from specs.persistence.sample import power_cut


class Choices:
    """Every sequence of answers that `choose` may give, one after the other."""

    def __init__(self):
        self.path = []  # [chosen, of how many]
        self.at = 0

    def choose(self, ways):
        if self.at == len(self.path):
            self.path.append([0, ways])
        chosen, known = self.path[self.at]
        assert known == ways
        self.at += 1
        return chosen

    def more(self):
        """Go to the next sequence; False if that was the last."""
        self.at = 0
        while self.path:
            self.path[-1][0] += 1
            if self.path[-1][0] < self.path[-1][1]:
                return True
            self.path.pop()
        return False


def written(disk):
    disk.write(disk.create("d/a"), b"12345678")


def renamed(disk):
    handle = disk.create("d/new")
    disk.write(handle, b"12345678")
    disk.sync(handle)
    disk.rename("d/new", "d/old")


def freed(disk):
    disk.unlink("d/old")


def cut_off(disk):
    handle = disk.open_append("d/old")
    disk.truncate(handle, 3)
    disk.sync_dir("d")


def linked(disk):
    disk.link("d/old", "e/aside")
    disk.sync_dir("e")
    disk.unlink("d/old")


def in_a_new_directory(disk):
    disk.mkdir("d/sub")
    handle = disk.create("d/sub/a")
    disk.write(handle, b"1234")
    disk.sync(handle)


def completed(disk):
    handle = disk.create("d/a")
    disk.write(handle, b"1234")
    disk.chmod(handle, 0o700)


def marked(disk):
    handle = disk.open_change("d/old")
    disk.overwrite(handle, b"XY", 2)


HISTORIES = [written, renamed, freed, cut_off, linked, in_a_new_directory, completed, marked]


def recorded(history):
    disk = ModelDisk.from_tree({"d/old": b"abcdefgh"}, ("d", "e"))
    initial = disk.snapshot()
    history(disk)
    return initial, disk.record


def contents_of(snapshot):
    return frozenset(snapshot.tree.items()), snapshot.directories, snapshot.modes


@pytest.mark.parametrize("history", HISTORIES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_what_is_sampled_is_enumerated_and_the_other_way_round(model, history):
    initial, record = recorded(history)
    choices, sampled = Choices(), set()
    while True:
        sampled.add(contents_of(power_cut(initial, record, model, choices.choose)))
        if not choices.more():
            break
    finely = {
        contents_of(each.snapshot) for each in crash_states(initial, record, model, tearing=FINE)
    }
    coarsely = {
        contents_of(each.snapshot)
        for each in crash_states(initial, record, model)
        if each.cut == len(record)
    }
    assert sampled <= finely
    assert coarsely <= sampled


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_first_choice_is_no_loss(model):
    initial, record = recorded(renamed)
    disk = ModelDisk(initial)
    renamed(disk)
    assert power_cut(initial, record, model, lambda ways: 0).tree == disk.snapshot().tree


def test_what_was_synced_cannot_be_chosen_away():
    initial, record = recorded(renamed)
    last = power_cut(initial, record, P2_ATOMIC, lambda ways: ways - 1)
    assert b"12345678" in last.contents
    assert power_cut(initial, record, P0, lambda ways: ways - 1).tree == {"d/old": b"12345678"}
