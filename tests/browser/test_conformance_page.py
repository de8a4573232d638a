"""A conformance matrix in a real Chromium: it draws without errors or requests, filters, searches,
and a cell opens what was said; nothing that a server said is markup.

Control: a page whose program was changed is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.opened import NARROW, Opened
from unit.specs.conformance.made import FAIL, INFO, PASS, result

from specs.conformance import records
from specs.conformance.model import Line, Verdict
from specs.conformance.page import page as pages

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(420)]

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
QUIT, SIZE, SMUGGLED, HELP = (
    "5321-4.1.1.10-quit", "1870-6.1-size", "5321-4.1.1.4-lf-dot-lf", "5321-4.1.1.8-help",
)  # fmt: skip


def said(text: str) -> tuple[Line, ...]:
    return (
        Line(at_s=0.0, who="C", octets=b"QUIT\r\n"),
        Line(at_s=0.1, who="S", octets=text.encode() + b"\r\n"),
    )


def record(name: str, *rows: records.Result) -> records.Record:
    return records.Record(
        name=name, seed=1, results=rows, greeting=f"{name} ESMTP", version=f"{name}d 1.2",
        configuration=f"# of {name}\n{HOSTILE}\n", offered={"smtp": {"SIZE": "100"}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def html() -> str:
    good = record(
        "good", result(QUIT, PASS, observed="221"), result(SIZE, PASS, observed="250"),
        result(SMUGGLED, PASS, observed="one", security="mail is smuggled in"),
        result(HELP, INFO, observed="214"),
    )  # fmt: skip
    bad = record(
        "bad", result(QUIT, FAIL, observed="500", saw=HOSTILE, transcript=said(HOSTILE)),
        result(SIZE, Verdict.NOT_APPLICABLE, observed="", saw="SIZE"),
        result(SMUGGLED, FAIL, observed="two", security="mail is smuggled in"),
        result(HELP, INFO, observed="502"),
    )  # fmt: skip
    return pages.page([good, bad])


@pytest.fixture
def opened(browser, html: str, tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(browser, html, tmp_path)
    opened.drawn()
    yield opened
    assert opened.complaints == []
    assert len(opened.requests) == 1, opened.requests
    opened.page.close()


def shown(opened: Opened) -> list[str]:
    rows = opened.page.locator("#matrix tr[data-case]").all()
    return [each.get_attribute("data-case") for each in rows]


def test_all_cases_and_servers_are_there(opened):
    assert shown(opened) == [QUIT, SIZE, SMUGGLED, HELP]
    assert opened.page.locator("#matrix thead th").all_inner_texts() == ["case", "good", "bad"]
    assert "4 of 4 cases" in opened.page.locator("#count").inner_text()
    assert "2" in opened.page.locator("#sums").inner_text()


@pytest.mark.parametrize(
    ("fill", "found"),
    [
        (lambda form: form.locator("[name=text]").fill("smuggled"), [SMUGGLED]),
        (lambda form: form.locator("[name=text]").fill("four two"), []),
        (lambda form: form.locator("[name=rfc]").select_option("1870"), [SIZE]),
        (lambda form: form.locator("[name=section]").select_option("4.1.1.8"), [HELP]),
        (lambda form: form.locator("[name=verdict]").select_option("fail"), [QUIT, SMUGGLED]),
        (lambda form: form.locator("[name=differ]").check(), [QUIT, SMUGGLED, HELP]),
        (lambda form: form.locator("[name=security]").check(), [SMUGGLED]),
    ],
)
def test_it_filters_and_shows_all_again(opened, fill, found):
    form = opened.page.locator("#filter")
    fill(form)
    assert shown(opened) == found
    form.locator("button[type=reset]").click()
    opened.page.locator("tr[data-case]").nth(3).wait_for()


def cell(opened: Opened, case: str, server: int):
    return opened.page.locator(f'tr[data-case="{case}"] td').nth(1 + server).locator("button")


def test_a_cell_opens_what_was_said_and_it_is_text(opened):
    cell(opened, QUIT, 1).click()
    opened.page.wait_for_selector("dialog[open]")
    words = opened.page.locator("dialog").inner_text()
    assert "QUIT is answered 221" in words and HOSTILE in words and "C: QUIT\\r\\n" in words
    assert opened.page.url.endswith(f"#{QUIT}/1")
    assert opened.page.locator("dialog img").count() == 0
    opened.page.keyboard.press("Escape")
    opened.page.wait_for_selector("dialog:not([open])", state="attached")


def test_a_servers_name_opens_its_configuration(opened):
    opened.page.locator("#matrix thead button").nth(1).click()
    words = opened.page.locator("dialog").inner_text()
    assert "badd 1.2" in words and "# of bad" in words and HOSTILE in words


def test_a_link_leads_to_a_cell(browser, html, tmp_path):
    opened = Opened(browser, html, tmp_path, mark=f"#{SMUGGLED}/1")
    opened.drawn()
    assert SMUGGLED in opened.page.locator("dialog[open] h2").inner_text()
    assert opened.complaints == []
    opened.page.close()


def test_a_telephone_needs_no_scrolling_aside(browser, html, tmp_path):
    opened = Opened(browser, html, tmp_path, viewport=NARROW)
    opened.drawn()
    wide = opened.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= NARROW["width"] + 1
    opened.page.close()


def test_a_program_that_was_changed_does_not_run(browser, html, tmp_path):
    """The control: the page's policy knows its own program's digest."""
    changed = html.replace("function start(", "alert(1); function start(", 1)
    assert changed != html
    opened = Opened(browser, changed, tmp_path)
    assert any("Content Security Policy" in each for each in opened.complained())
    assert opened.page.locator("body[data-drawn=yes]").count() == 0
    opened.page.close()
