"""Loss of power, in its pure parts: what a cut may have taken, what is sent, what is kept of it,
and the command's answers to bad input.
"""

from __future__ import annotations

import math
from random import Random

import msgspec
import pytest
from unit.faultinject.power_rows import CASE, WORDS, Silent, row

from faultinject.books import Answer, Books, Found, Sending
from faultinject.cases import Case
from faultinject.ledger import judge
from faultinject.letters import Copy, compose, digest, recognise
from faultinject.power import images, records
from faultinject.power.injector import outcome
from faultinject.power.records import (
    WINDOWS,
    Failed,
    Settings,
    answers,
    books_of,
    cut_of,
    decode,
    encode,
    standing,
)
from faultinject.power.results import Results, ResultsError, Row, first_cuts
from faultinject.power.round import tally

A = Answer
#: As the cut began, as it was over -> what the ledger may hold against the server.
STANDINGS = [
    (None, A.UNSENT, A.UNSENT),
    (None, A.UNANSWERED, A.UNANSWERED),
    (None, A.ACKNOWLEDGED, A.UNANSWERED),  # sent and answered while it was cut: no promise
    (A.UNSENT, A.UNSENT, A.UNSENT),
    (A.UNSENT, A.ACKNOWLEDGED, A.UNANSWERED),
    (A.UNANSWERED, A.UNANSWERED, A.UNANSWERED),
    (A.UNANSWERED, A.ACKNOWLEDGED, A.UNANSWERED),  # the 250 came too late to be a promise
    (A.UNANSWERED, A.REFUSED, A.UNANSWERED),  # it may have been kept, and refused later
    (A.ACKNOWLEDGED, A.ACKNOWLEDGED, A.ACKNOWLEDGED),
    (A.DEFERRED, A.DEFERRED, A.DEFERRED),
    (A.REFUSED, A.REFUSED, A.REFUSED),
]


@pytest.mark.parametrize(("before", "after", "held"), STANDINGS)
def test_what_is_held_against_the_server(before, after, held):
    assert standing(before, after) is held


def test_every_answer_has_a_standing():
    for before in (None, *Answer):
        for after in Answer:
            assert standing(before, after) in Answer


# -- a cut, through to the ledger -----------------------------------------------------------------

ADA, BOB = "ada@power.example", "bob@power.example"


def book(*answered: Answer) -> Books:
    books = Books()
    for number, answer in enumerate(answered):
        books.sendings[Copy(f"p1-{number}", 1)] = Sending(
            sender=BOB, recipients=(ADA,), digest=b"d" * 16, answer=answer, answered_s=9.0
        )
    return books


def found(number: int, when_s: float, octets: bytes = b"d" * 16) -> Found:
    return Found(
        copy=Copy(f"p1-{number}", 1), recipient=ADA, digest=octets, when_s=when_s, place="mailbox"
    )


def cut(before: Books, after: Books):
    written = msgspec.json.encode(cut_of(0, after, answers(before), 10.0, 10.1))
    return msgspec.json.decode(written, type=records.Cut)


#: What lies there afterwards -> the finding.
CASES = [
    ("promised, and gone", A.ACKNOWLEDGED, A.ACKNOWLEDGED, [], ["lost"]),
    ("promised, and there", A.ACKNOWLEDGED, A.ACKNOWLEDGED, [found(0, 5)], []),
    ("promised too late, and gone", A.UNANSWERED, A.ACKNOWLEDGED, [], []),
    ("promised too late, and there", A.UNANSWERED, A.ACKNOWLEDGED, [found(0, 5)], []),
    ("never sent to its end, but there", A.UNSENT, A.UNSENT, [found(0, 5)], ["invented"]),
    ("torn", A.ACKNOWLEDGED, A.ACKNOWLEDGED, [found(0, 5, b"e" * 16)], ["altered"]),
    ("again, after the cut", A.ACKNOWLEDGED, A.ACKNOWLEDGED, [found(0, 5), found(0, 20)], []),
    ("twice before", A.ACKNOWLEDGED, A.ACKNOWLEDGED, [found(0, 5), found(0, 6)], ["duplicate"]),
]


@pytest.mark.parametrize(
    ("before", "after", "there", "names"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_the_ledger_after_a_cut(before, after, there, names):
    books = books_of(cut(book(before), book(after)), (10.0,))
    books.found += there
    assert [each.name for each in judge(books, WINDOWS).findings] == names


def test_a_second_cut_excuses_a_second_repetition():
    promised = book(A.ACKNOWLEDGED)
    for deaths, names in (((10.0, 30.0), []), ((10.0,), ["duplicate"])):
        books = books_of(cut(promised, promised), deaths)
        books.found += [found(0, 5), found(0, 25), found(0, 40)]
        assert [each.name for each in judge(books, WINDOWS).findings] == names


# -- what is sent ---------------------------------------------------------------------------------


def test_sizes_cover_the_range_evenly():
    settings = Settings()
    random = Random(1)
    sizes = [records.letter(settings, random, number).octets for number in range(3000)]
    assert 1_000 <= min(sizes) < 1_100 and 180_000 < max(sizes) <= 200_000
    below = sum(size < math.sqrt(1_000 * 200_000) for size in sizes)
    assert 0.45 < below / 3000 < 0.55


def test_a_letter_has_the_wanted_size_and_is_recognised():
    for octets in (1, 1_000, 77_777, 200_000):
        content = compose("p1", 3, 1, BOB, (ADA,), octets)
        body = content.partition(b"\r\n\r\n")[2]
        assert len(body) >= octets
        known = recognise(content)
        assert known is not None and known.digest == digest(content) and known.clean
    assert compose("p1", 3, 1, BOB, (ADA,)) == compose("p1", 3, 1, BOB, (ADA,), 0)


def test_recipients_are_bounded_and_distinct():
    random = Random(2)
    for most in (1, 2, 4, 9):
        settings = Settings(recipients=most)
        for number in range(200):
            sent = records.letter(settings, random, number)
            assert (
                1
                <= len(set(sent.recipients))
                == len(sent.recipients)
                <= min(most, len(records.USERS))
            )


def test_the_seed_decides_letters_and_pauses():
    once, again, other = (
        [records.letter(Settings(), Random(seed), 0), *records.pauses(Settings(), Random(seed))]
        for seed in (1, 1, 2)
    )
    assert once == again != other


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fs": "fat"}, "no such file system: fat (there are: ext4, xfs, btrfs)"),
        ({"cuts": 0}, "cuts must be 1 or more"),
        ({"clients": 0}, "clients must be 1 or more"),
        ({"recipients": 0}, "recipients must be 1 or more"),
        ({"at_once": -1}, "at_once must be 1 or more"),
        ({"pause_s": -1.0}, "pause_s and drain_s must be from 0 to a day"),
        ({"most_octets": 1}, "again_one_in must not be negative, nor most_octets below"),
    ],
)
def test_settings_that_no_round_can_have(changes, said):
    assert Settings().wrong() is None
    assert (Settings(**changes).wrong() or "").startswith(said)


# -- what is told and kept ------------------------------------------------------------------------


def test_words_go_through_a_pipe():
    for word in (*WORDS, Failed(reason="no disk")):
        assert decode(encode(word)) == word
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"type":"hearsay"}')


def test_a_round_is_summed():
    assert tally(WORDS) == {
        "acknowledged": 9, "cuts": 2, "cuts during recovery": 1, "promised": 7, "fresh": 1,
        "lost": 7,
    }  # fmt: skip


def test_a_finding_decides_the_verdict_unless_it_is_known():
    got = outcome(CASE, Silent(), WORDS, "")
    assert got.verdict == "found" and got.counts["lost"] == 7
    assert [each.text for each in got.findings] == [
        "xfs, cut 1, cut again while it recovered: p1-3/1 for ada"
    ]
    assert got.evidence["log"] == "cut 1:\nthe end"
    lossy = Silent()
    lossy.known_failures = {"power/lost": "it never syncs"}
    assert outcome(CASE, lossy, WORDS, "").verdict == "held"


@pytest.mark.parametrize("words", [[], WORDS[:1], [*WORDS[:2], Failed(reason="no disk")]])
def test_a_clone_without_a_verdict_is_no_success(words):
    assert outcome(CASE, Silent(), words, "said").verdict == "broken"


def test_as_many_clones_as_were_asked_for():
    for clones in range(1, 200):
        for every in (0, 1, 2, 4, 7):
            first = first_cuts(clones, every)
            made = first + (first // every if every else 0)
            assert first >= 1 and made <= max(clones, 2)
            assert clones - made <= 1
            assert every or made == clones


def test_a_campaign_goes_on_where_it_was(tmp_path):
    path = tmp_path / "results.jsonl"
    first = Results.open(path)
    first.add(row("ext4", 1))
    first.add(row("xfs", 1, findings=[("lost", "all")]))
    first.close()
    with path.open("ab") as file:
        file.write(b'{"case":{"harness":"pow')  # somebody was killed
    second = Results.open(path)
    assert second.cuts("ext4") == second.cuts("xfs") == 5 and second.cuts("btrfs") == 0
    assert second.next_seed("ext4", 1) == 2 and second.next_seed("btrfs", 1) == 1
    assert second.findings() == [("lost", "all")] and second.seed() == 1
    second.add(row("ext4", 2))
    second.close()
    third = Results.open(path)
    assert third.cuts("ext4") == 10 and third.sums("ext4")["milliseconds"] == 4000
    third.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense\n", "results:1: "),
        (b"\xff\n", "results:1: "),
        (msgspec.json.encode({**msgspec.to_builtins(row("xfs", 1)), "version": 9}) + b"\n",
         "of version 9"),
        (msgspec.json.encode(Row(case=Case(harness="power", target="t"), seed=1, verdict="held"))
         + b"\n", "names no file system"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_ours_is_left_as_it_is(line, said, tmp_path):
    path = tmp_path / "results"
    path.write_bytes(line + b"cut short")
    with pytest.raises(ResultsError, match=said):
        Results.open(path)
    assert path.read_bytes() == line + b"cut short"


def test_two_campaigns_do_not_share_a_file(tmp_path):
    first = Results.open(tmp_path / "results")
    with pytest.raises(ResultsError, match="another campaign"):
        Results.open(tmp_path / "results")
    first.close()
    Results.open(tmp_path / "results").close()


def test_memory_is_read():
    assert images.spare_octets("MemTotal: 9 kB\nMemAvailable:   22 kB\n") == 22 * 1024
    assert images.spare_octets("") == 0
