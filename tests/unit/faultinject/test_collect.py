"""Every message that is found becomes one kind of entry."""

from __future__ import annotations

import os
import re

import pytest

from faultinject.books import Books
from faultinject.collect import (
    UNCLEAR,
    BookedHop,
    book_accepted,
    book_delivered,
    book_mailboxes,
    book_queue,
)
from faultinject.network.behaviours import BEHAVIOURS
from faultinject.network.next_hop import Accepted
from faultinject.sample import ADA, CYD, FAR, FARTHER, carried, copy_of, letter, report
from faultinject.target import Waiting

LETTER = letter(4, 1, CYD, (FARTHER,))


def accepted(behaviour="honest", *, replied=True, content=LETTER):
    return Accepted(
        token="", reverse_path="", recipients=(FAR, FARTHER), octets=0, sha256="", body_sha256="",
        replied=replied, behaviour=behaviour, connection=3, content=content,
    )  # fmt: skip


def test_what_a_deaf_host_takes_came_when_its_client_was_there() -> None:
    """Its kernel kept it; meanwhile the client has gone, and delivered the letter elsewhere."""
    for behaviour, came_s, slack_s in (("deaf-for-a-while-at-data", 5.0, 60.0), ("honest", 65, 0)):
        books = Books()
        book_accepted(books, accepted(behaviour), 65.0, 5.0)
        assert {(each.when_s, each.slack_s) for each in books.found} == {(came_s, slack_s)}


def test_mailboxes_are_read_file_by_file(tmp_path):
    (tmp_path / "a").mkdir()
    contents = {
        "1": carried(LETTER, ADA), "2": report("m", LETTER, CYD, FARTHER), "3": b"Subject: x\n\n",
    }  # fmt: skip
    for name, octets in contents.items():
        (tmp_path / "a" / name).write_bytes(octets)
        os.utime(tmp_path / "a" / name, (50, 50))
    books = Books()
    book_mailboxes(books, {ADA: tmp_path / "a", CYD: tmp_path / "never made"})
    (found,), (told,) = books.found, books.reported
    assert (found.copy, found.recipient, found.when_s) == (copy_of(4), ADA, 50)
    assert found.place == "mailbox" and found.answered and found.clean
    assert (told.copy, told.recipient, told.to) == (copy_of(4), FARTHER, ADA)
    assert books.strangers == [f"3 in the mailbox of {ADA}"]


def test_an_mbox_is_read_message_by_message(tmp_path):
    """Its times are whole seconds."""
    contents = (carried(LETTER, ADA), report("m", LETTER, CYD, FARTHER), b"Subject: x\n")
    line = b"From x@y.example Thu Jan  1 00:00:50 1970\n"
    quoted = (re.sub(rb"^(>*From )", rb">\1", each, flags=re.MULTILINE) for each in contents)
    (tmp_path / "mbox").write_bytes(b"".join(line + each + b"\n" for each in quoted))
    books = Books()
    book_mailboxes(books, {ADA: tmp_path / "mbox"})
    (found,), (told,) = books.found, books.reported
    assert (found.copy, found.when_s, found.slack_s, found.clean) == (copy_of(4), 50, 1, True)
    assert (told.copy, told.to, told.when_s, told.slack_s) == (copy_of(4), ADA, 50, 1)
    assert books.strangers == [f"3 in the mailbox of {ADA}"]


def test_a_delay_settles_nothing():
    books = Books()
    octets = report("m", LETTER, CYD, FARTHER).replace(b"Action: failed", b"Action: delayed")
    book_delivered(books, CYD, octets, 1.0, "file")
    assert books == Books()


def test_a_report_that_does_not_say_whose_is_a_stranger():
    books = Books()
    octets = report("m", LETTER, CYD, FARTHER).replace(b"X-Storm", b"X-Starm")
    book_delivered(books, CYD, octets, 1.0, "file")
    assert books.strangers and not books.reported


def test_a_next_hop_has_a_letter_for_each_of_its_recipients():
    books = Books()
    book_accepted(books, accepted(), 9.0)
    assert [(each.recipient, each.when_s, each.answered) for each in books.found] == [
        (FAR, 9.0, True),
        (FARTHER, 9.0, True),
    ]


@pytest.mark.parametrize(
    ("behaviour", "replied", "answered"),
    [
        ("honest", True, True),
        ("octet-by-octet", True, True),
        ("taken-and-close", False, False),
        ("endless-replies-at-final", True, False),  # a client may give up on it
        ("deaf-for-a-while-at-data", True, False),  # the client may be gone by then
    ],
)
def test_only_a_clear_250_was_said(behaviour, replied, answered):
    books = Books()
    book_accepted(books, accepted(behaviour, replied=replied), 9.0)
    assert {each.answered for each in books.found} == {answered}


def test_most_behaviours_are_clear_or_take_nothing():
    clear = set(BEHAVIOURS) - UNCLEAR
    assert {"honest", "no-pipelining", "octet-by-octet", "close-after-final"} <= clear
    assert {"taken-and-close", "451-at-final", "deaf-for-a-while-at-data"} & clear == set()


def test_a_stranger_at_the_next_hop():
    books = Books()
    book_accepted(books, accepted(content=b"Subject: x\r\n\r\nhello\r\n"), 9.0)
    assert books.strangers == ["at the next hop, connection 3"]


def test_the_hop_keeps_no_content():
    hop = BookedHop(keep_content=True, books=Books())
    hop.note(accepted())
    assert len(hop.books.found) == 2 and hop.accepted == []


def test_the_queue_holds_letters_and_reports():
    books = Books()
    told = report("m", LETTER, CYD, FARTHER).replace(b"\n", b"\r\n")
    book_queue(
        books,
        [
            Waiting(content=b"Received: x\r\n" + LETTER, recipients=(FAR,)),
            Waiting(content=told, recipients=(CYD,)),
            Waiting(content=b"Subject: x\r\n\r\n", recipients=(ADA,)),
        ],
    )
    assert [(each.copy, each.waiting) for each in books.queued] == [
        (copy_of(4), (FAR,)),
        (copy_of(4), (FARTHER,)),
    ]
    assert books.strangers == [f"in the queue, for {ADA}"]
