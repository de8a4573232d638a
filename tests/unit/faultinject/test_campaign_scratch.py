"""Directories of cases: what is abandoned goes, and who else removes it meanwhile is no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from faultinject import overlay
from faultinject.campaign import results as campaign


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Instead of /var/tmp."""
    monkeypatch.setattr(overlay, "SCRATCH", tmp_path)
    return tmp_path


def test_one_that_another_start_removes_meanwhile_is_no_error(place, monkeypatch):
    gone = place / "refmta-case-thatgoes"
    monkeypatch.setattr(Path, "glob", lambda *_: iter([gone]))
    overlay.remove_abandoned("refmta-case")


def test_only_what_is_abandoned_goes(place):
    """And is of this very name: that of another kind of work may begin with it."""
    for each in ("refmta-case-deadones", "refmta-case-ends-deadones"):
        (place / each).mkdir()
        (place / each / overlay.LOCK).touch()
    (place / "refmta-case-stranger").mkdir()
    (place / "refmta-case-results_").mkdir()
    (place / "refmta-case-results_" / campaign.LOCK).touch()  # of results, between two starts
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / overlay.LOCK).touch()
    (place / "refmta-case-thelinks").symlink_to(place / "elsewhere")
    with overlay.scratch("case") as (own, _):
        overlay.remove_abandoned("refmta-case")
        names = {each.name for each in place.iterdir()}
        assert names == {
            own.name, "refmta-case-stranger", "refmta-case-thelinks", "elsewhere",
            "refmta-case-ends-deadones", "refmta-case-results_",
        }  # fmt: skip
        assert (place / "elsewhere" / overlay.LOCK).exists()
