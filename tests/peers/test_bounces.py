"""The fetcher of real bounces."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from peers import bounces


def archive_of(place: Path, count: int) -> None:
    with tarfile.open(place / "flufl_bounce-6.0.0.tar.gz", "w:gz") as archive:
        names = [f"x/tests/data/{number:03}.txt" for number in range(count)]
        for name in (*names, "x/tests/data/__init__.py", "x/README.txt"):
            octets = name.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(octets)
            archive.addfile(entry, io.BytesIO(octets))


def test_there_are_as_many_as_stated(request: pytest.FixtureRequest) -> None:
    found = bounces.bounces(request.config.cache.mkdir("flufl-bounce"))
    assert len(dict(found)) == bounces.COUNT
    assert all(b":" in octets for _, octets in found)


def test_what_was_fetched_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounces, "fetch", None)
    archive_of(tmp_path, bounces.COUNT)
    found = bounces.bounces(tmp_path)
    assert found[0] == ("000.txt", b"x/tests/data/000.txt")


def test_a_smaller_corpus_is_an_error(tmp_path: Path) -> None:
    archive_of(tmp_path, bounces.COUNT - 1)
    with pytest.raises(AssertionError, match="116 bounces"):
        bounces.bounces(tmp_path)


def test_without_an_index_the_test_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_index(_requirement: str, _place: Path) -> None:
        raise AssertionError("can't be fetched:\nno such index")

    monkeypatch.setattr(bounces, "fetch", no_index)
    with pytest.raises(pytest.skip.Exception, match=r"unavailable: package-index \(no such index"):
        bounces.bounces(tmp_path)
