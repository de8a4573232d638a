"""Received (RFC 5321 4.4), taken apart, and the date-times in it (RFC 5322 3.3).

The grammar of Received is read as real servers write it: a comment may stand between any two words,
keywords are in any case.  What is odd in it is said in `Stamp.odd`; nothing of this raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

KEYWORDS: Final = ("from", "by", "via", "with", "id", "for")
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DATE: Final = re.compile(
    r"(?:(?P<weekday>[A-Za-z]{3}),\s*)?(?P<day>[0-9]{1,2})\s+(?P<month>[A-Za-z]{3})\s+"
    r"(?P<year>[0-9]{4,})\s+(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?\s+"
    r"(?P<zone>[+-][0-9]{4}|[A-Za-z]{1,5})\Z"
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A Received field.  clauses: the word behind each keyword.  comments: what stands in comments
    behind a keyword's word.  date: what follows the last semicolon, without comments.
    """

    clauses: dict[str, str] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    date: str = ""
    odd: tuple[str, ...] = ()


def stamp(value: str) -> Stamp:
    """A Received field's value, unfolded."""
    words, odd = _words(value)
    if ";" not in [word for word, _ in words]:
        odd = [*odd, "no semicolon"]
        behind: list[tuple[str, bool]] = []
    else:
        last = max(at for at, (word, _) in enumerate(words) if word == ";")
        words, behind = words[:last], words[last + 1 :]
    clauses: dict[str, str] = {}
    comments: dict[str, str] = {}
    keyword = ""
    waiting = False
    for word, is_comment in words:
        low = word.casefold()
        if is_comment:
            comments[keyword] = f"{comments.get(keyword, '')} {word}".strip()
        elif waiting:
            clauses[keyword], waiting = word, False
        elif low in clauses:
            odd = [*odd, f"{low} twice"]
            keyword, waiting = f"{low} again", True
        elif low in KEYWORDS or re.fullmatch(r"[a-z][a-z0-9-]*", low):
            keyword, waiting = low, True
        else:
            odd = [*odd, f"{word[:40]!r} is out of place"]
    if waiting:
        odd = [*odd, f"nothing behind {keyword}"]
    date = "".join(word for word, is_comment in behind if not is_comment)
    return Stamp(clauses, comments, date, tuple(odd))


def _words(value: str) -> tuple[list[tuple[str, bool]], list[str]]:
    """(word, whether it is a comment).  In front of the last semicolon: what stands between white
    space; behind it: a comment, or the text between two, in one piece.
    """
    found: list[tuple[str, bool]] = []
    odd: list[str] = []
    at, word = 0, ""
    dated = False

    def end() -> None:
        nonlocal word
        if word.strip():
            found.append((word.strip(), False))
        word = ""

    while at < len(value):
        char = value[at]
        if char == "(":
            close = _closing(value, at)
            if close < 0:
                odd.append("a comment that does not end")
                close = len(value)
            end()
            found.append((value[at : close + 1], True))
            at = close + 1
            continue
        if char == ")":
            odd.append("a comment that does not begin")
        if char in '"<[':
            close = _closing(value, at)
            if close < 0:
                odd.append(f"{char} that does not end")
            else:
                word += value[at : close + 1]
                at = close + 1
                continue
        if char == ";":
            end()
            found.append((";", False))
            dated = True
        elif char in " \t" and not dated:
            end()
        else:
            word += char
        at += 1
    end()
    return found, odd


def _closing(value: str, at: int) -> int:
    """Where what is opened there ends; -1 if it does not."""
    opened = value[at]
    closed = {"(": ")", '"': '"', "<": ">", "[": "]"}[opened]
    depth, quoted = 0, False
    while at < len(value):
        char = value[at]
        if char == "\\":
            at += 1
        elif char == '"' and opened == "<":
            quoted = not quoted
        elif not quoted and char == opened and (opened != '"' or depth == 0):
            depth += 1
        elif not quoted and char == closed:
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return -1


def date_faults(text: str) -> list[str]:
    """What is wrong in a date-time (RFC 5322 3.3) that has no comments: grammar, then sense."""
    found = DATE.match(" ".join(text.split()))
    if found is None:
        return ["no date-time"]
    wrong: list[str] = []
    month, day, year = found["month"].title(), int(found["day"]), int(found["year"])
    if month not in MONTHS:
        return ["no month"]
    at = MONTHS.index(month)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= (28 if at == 1 and not leap else MONTH_DAYS[at]):
        wrong.append("no day of that month")
    if int(found["hour"]) > 23 or int(found["minute"]) > 59 or int(found["second"] or 0) > 60:
        wrong.append("no time of day")
    if found["weekday"] and not wrong:
        weekday = found["weekday"].title()
        if weekday != DAYS[_weekday(year, at + 1, day)]:
            wrong.append("another day of the week")
    zone = found["zone"]
    if zone[0] not in "+-":
        wrong.append("a zone by name")
    elif int(zone[3:]) > 59:
        wrong.append("no zone")
    return wrong


def zone_of(text: str) -> str:
    """Of a date-time; "" if it is none."""
    found = DATE.match(" ".join(text.split()))
    return found["zone"] if found else ""


def _weekday(year: int, month: int, day: int) -> int:
    """0 for Monday, in the Gregorian calendar (Zeller)."""
    if month < 3:
        month, year = month + 12, year - 1
    century, rest = divmod(year, 100)
    return (day + 13 * (month + 1) // 5 + rest + rest // 4 + century // 4 + 5 * century + 5) % 7
