"""The document of a campaign of power cuts."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner
from unit.faultinject.power_rows import row

from faultinject.power import images, summary
from faultinject.power.injector import case
from faultinject.power.records import Settings
from faultinject.power.results import Results


def campaign(path, *rows):
    results = Results.open(path)
    for each in rows:
        results.add(each)
    results.close()
    return CliRunner().invoke(
        summary.main, [str(path), "--commit", "0123abc", "--out", str(path.parent / "d" / "x")]
    )


def counted(fs, seed, **more):
    made = row(fs, seed)
    return msgspec.structs.replace(made, counts={**made.counts, "promised": 40, **more})


def test_a_campaign_becomes_a_document(tmp_path):
    done = campaign(
        tmp_path / "r", counted("ext4", 1, acknowledged=9), counted("ext4", 2, acknowledged=8),
        counted("btrfs", 1, acknowledged=7),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "d" / "x.json").read_text())
    assert document["commit"] == "0123abc" and document["seed"] == 1
    ext4 = document["file_systems"]["ext4"]
    assert (ext4["cuts"], ext4["rounds"], ext4["acknowledged"], ext4["seconds"]) == (10, 2, 17, 4)
    assert ext4["findings"]["lost"] == ext4["findings"]["altered"] == 0
    assert document["not_shown"] == list(images.BLIND)
    text = (tmp_path / "d" / "x.md").read_text()
    assert done.stdout == text and text.startswith("# 15 power cuts: toy on ext4, btrfs\n")
    assert "| messages acknowledged under the loads | 17 | 7 |" in text
    assert (
        "| **lost** (promised, and neither delivered, nor reported, nor queued) | **0** |" in text
    )
    assert all(f"- {each}" in text for each in images.BLIND)


def test_a_document_tells_what_was_found_and_what_was_not_recorded(tmp_path):
    lossy = msgspec.structs.replace(
        counted("ext4", 2, acknowledged=8, lost=3), findings=[("lost", "xfs, cut 1: p1-3/1")]
    )
    done = campaign(tmp_path / "r", counted("ext4", 1), lossy)
    assert "| messages acknowledged under the loads | not recorded |" in done.stdout
    assert "| **3** |" in done.stdout and "- lost: xfs, cut 1: p1-3/1" in done.stdout


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "there are no results"),
        ((row("ext4", 1),
          msgspec.structs.replace(row("xfs", 1), case=case("other", 1, Settings()))),
         "of several targets or loads"),
        ((row("ext4", 1),
          msgspec.structs.replace(row("xfs", 1), case=case("toy", 1, Settings(clients=3)))),
         "of several targets or loads"),
    ],
)  # fmt: skip
def test_rows_that_are_no_campaign_make_no_document(rows, said, tmp_path):
    done = campaign(tmp_path / "r", *rows)
    assert done.exit_code == 2 and said in done.stderr and not (tmp_path / "d").exists()


def test_a_document_needs_its_results_and_its_commit(tmp_path):
    missing = CliRunner().invoke(summary.main, [str(tmp_path / "no"), "--commit", "0123abc"])
    assert missing.exit_code == 2 and "No such file" in missing.stderr
    wrong = CliRunner().invoke(summary.main, [str(tmp_path), "--commit", "main"])
    assert wrong.exit_code == 2
