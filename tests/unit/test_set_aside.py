"""A foreign file in the queue is set aside, also the second of the same name."""

from refmta.stores import chunks
from refmta.stores.disk import PosixDisk


def test_a_second_foreign_file_does_not_take_the_place_of_the_first(tmp_path):
    for directory in (chunks.CHUNKS, chunks.DAMAGED):
        (tmp_path / directory).mkdir()
    disk = PosixDisk(tmp_path)
    for text in ("first", "second", "third"):
        (tmp_path / chunks.CHUNKS / "core").write_text(text)
        list(chunks.recover(disk))
    aside = {each.name: each.read_text() for each in (tmp_path / chunks.DAMAGED).iterdir()}
    assert aside == {"core.damaged": "first", "core.damaged.1": "second", "core.damaged.2": "third"}
    assert chunks.names(disk) == []
