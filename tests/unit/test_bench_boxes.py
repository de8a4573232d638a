"""The bench counts what lies in a mailbox, in either form: no more, no less, and while it grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.architectures import shapes
from bench.boxes import Box, Maildir, Mbox
from bench.targets import COMPOSITIONS
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.stores import mbox
from refmta.stores.mailboxes import OWN_MBOX

CONTENT = b"Subject: x\r\n\r\nFrom me\r\n\r\nFrom you\r\n"


def append(home: Path, content: bytes = CONTENT) -> int:
    """As mail is appended here; the octets of the message."""
    octets = mbox.heading("x@example.net", "ada@example.org", 0) + mbox.stored(content) + b"\n"
    with (home / OWN_MBOX).open("ab") as file:
        file.write(octets)
    return len(octets)


def put(home: Path, number: int) -> int:
    (home / "Maildir" / "new").mkdir(parents=True, exist_ok=True)
    (home / "Maildir" / "new" / str(number)).write_bytes(CONTENT)
    return len(CONTENT)


@pytest.mark.parametrize(("form", "add"), [(Maildir, put), (Mbox, lambda home, _: append(home))])
def test_a_mailbox_is_counted_as_it_grows_and_again_when_it_was_emptied(
    form: type[Box], add, tmp_path: Path
):
    (tmp_path / "Maildir" / "new").mkdir(parents=True)
    box = form(tmp_path)
    for _ in range(2):
        assert (box.count(), box.sizes()) == (0, [])
        sizes = []
        for number in range(1, 4):
            sizes.append(add(tmp_path, number))
            assert box.count() == number
        assert sorted(box.sizes()) == sizes and box.count() == 3
        box.empty()


def test_a_message_that_has_half_begun_is_counted_once(tmp_path: Path):
    """Whoever looks while it is written."""
    append(tmp_path)
    whole = (tmp_path / OWN_MBOX).read_bytes()
    for cut in range(len(whole)):
        (tmp_path / OWN_MBOX).unlink()
        box = Mbox(tmp_path)
        with (tmp_path / OWN_MBOX).open("ab", buffering=0) as file:
            file.write(whole[:cut])
            assert box.count() == (b"\n" in whole[:cut])
            file.write(whole[cut:] + whole)
            assert box.count() == 2


def test_a_mailbox_that_was_cut_back_is_counted_anew(tmp_path: Path):
    for _ in range(3):
        size = append(tmp_path)
    box = Mbox(tmp_path)
    assert box.count() == 3
    with (tmp_path / OWN_MBOX).open("r+b") as file:
        file.truncate(size)
    assert box.count() == 1


def test_there_is_a_column_for_each_architecture_in_its_form():
    columns = {each.architecture: each for each in COMPOSITIONS}
    assert list(columns) == list(ARCHITECTURES)
    forms = {"maildir": Maildir, "mbox": Mbox}
    for name, each in columns.items():
        assert each.form is forms[ARCHITECTURES[name].mailbox]
        assert each.name == name
    assert all(shape.messages >= shape.clients for shape in shapes(quick=True))
