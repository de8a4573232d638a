"""Files that a run goes on with: what a kill tore is cut off, and nobody else's file is touched."""

from __future__ import annotations

import pytest

from faultinject.campaign.results import FILE, ResultsError
from faultinject.campaign.results import Results as CampaignResults
from faultinject.kill.points import Record, ResumeError
from faultinject.power.results import Results as PowerResults
from faultinject.power.results import ResultsError as PowerError

FOREIGN = (b"precious one-line", b'{"precious": 1}', b"precious\n", b"[]\ntorn", b"\xff")


def of_kill(path):
    Record(path).open("toy")


def of_power(path):
    PowerResults.open(path).close()


def of_campaign(path):
    with CampaignResults(path.parent):
        pass


WAYS = {
    "kill": (of_kill, ResumeError, b'{"target":"toy","version":1}\n'),
    "power": (of_power, PowerError, b'{"case":{"harness":"power"'),
    "campaign": (of_campaign, ResultsError, b'{"type":"campaign","seed":1'),
}


@pytest.mark.parametrize("octets", FOREIGN)
@pytest.mark.parametrize("way", WAYS)
def test_somebody_elses_file_is_refused_and_left_as_it_is(way, octets, tmp_path):
    read, error, _ = WAYS[way]
    (tmp_path / FILE).write_bytes(octets)
    with pytest.raises(error, match=FILE):
        read(tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == octets


@pytest.mark.parametrize("way", WAYS)
def test_a_first_line_that_was_torn_anywhere_is_cut_off(way, tmp_path):
    read, _, line = WAYS[way]
    for length in range(len(line.rstrip())):
        (tmp_path / FILE).write_bytes(line[:length])
        read(tmp_path / FILE)
        assert (tmp_path / FILE).read_bytes() in (b"", WAYS["kill"][2])


def test_two_runs_do_not_write_one_record(tmp_path):
    first, second = Record(tmp_path / "record"), Record(tmp_path / "record")
    first.open("toy")
    with pytest.raises(ResumeError, match="another run"):
        second.open("toy")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"null", "Object|object"),
        (b'{"point":{"script":"five","fault":"kill","kind":"","number":1},"hit":true}', "five"),
    ],
)
def test_a_row_that_is_none_is_named(row, said, tmp_path):
    (tmp_path / "record").write_bytes(WAYS["kill"][2] + row + b"\n")
    with pytest.raises(ResumeError, match=said):
        Record(tmp_path / "record").open("toy")
