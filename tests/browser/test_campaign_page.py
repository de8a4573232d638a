"""A campaign's page in a real Chromium: it draws without errors or requests, filters, leads from a
cell to its evidence, and hands out case files that are replayed.

Control: a page with a broken picture, and one whose program was changed, are noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from browser.opened import DRAWN, NARROW, WIDE, Opened
from click.testing import CliRunner
from unit.faultinject.toy_campaign import campaign
from unit.faultinject.toy_entries import environment, register

from faultinject.campaign import command
from faultinject.campaign.records import Ended, Ran
from faultinject.page import page as pages

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(420)]

TARGETS = ("sound", "buggy", "known", "absent", "raising", "nasty")


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    return pages.html(campaign(tmp_path_factory.mktemp("toys"), *TARGETS))


@pytest.fixture
def opened(browser, html, tmp_path) -> Iterator[Opened]:
    opened = Opened(browser, html, tmp_path)
    opened.drawn()
    yield opened
    assert opened.complaints == []
    assert all(re.match("file:|data:", each) for each in opened.requests)
    assert len(opened.requests) == 1, opened.requests
    assert opened.page.title() == "Mail servers under fault injection"
    opened.page.close()


def cell(opened: Opened, target: str, harness: str):
    return opened.page.locator(f'#matrix [aria-label^="{target}, {harness}: "]')


def colours(opened: Opened, *selectors: str) -> list[str]:
    """The backgrounds of the first element of each."""
    told = "place => getComputedStyle(document.querySelector(place)).backgroundColor"
    return [opened.page.evaluate(told, each) for each in selectors]


def overlapping(opened: Opened) -> list[str]:
    """Words of a picture that lie on each other, and words that stick out of their cell."""
    return opened.page.evaluate(
        """() => {
          const found = [];
          for (const svg of document.querySelectorAll(".picture svg")) {
            const every = [...svg.querySelectorAll("text")];
            const words = every.filter((each) => each.textContent.trim());
            const boxes = words.map((each) => [each.textContent, each.getBoundingClientRect()]);
            boxes.forEach(([one, a], number) => {
              for (const [other, b] of boxes.slice(number + 1)) {
                const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (wide > 2 && high > 4) found.push(`${one} on ${other}`);
              }
            });
          }
          for (const each of document.querySelectorAll("#matrix a")) {
            const [wide, high] = [each.clientWidth + 1, each.clientHeight + 1];
            if (each.scrollWidth > wide || each.scrollHeight > high) found.push(each.textContent);
          }
          return found;
        }"""
    )


def test_the_matrix_is_drawn_with_each_cells_state(opened):
    labels = [each.get_attribute("aria-label") for each in opened.page.locator("#matrix a").all()]
    assert len(labels) == 12
    for target, state in zip(
        TARGETS, ("held", "found", "known", "unavailable", "broken", "found"), strict=True
    ):
        assert f"{target}, toys: {state}" in labels
    words = opened.page.locator("#matrix").inner_text()
    assert "lost 4" in words and "60 points" in words and "it is not installed" in words
    legend = opened.page.locator("#legend").inner_text()
    for each in ("held", "found", "known failure", "unavailable", "broken"):
        assert each in legend
    states = ("sound", "buggy", "known", "absent", "raising")
    shown = colours(opened, *(f'#matrix [aria-label^="{each}, toys"]' for each in states))
    assert len({*shown}) == len(states), "two states look the same"


def test_all_pictures_have_a_size(opened):
    for name in ("#found", "#tried", "#time"):
        box = opened.page.locator(f"{name} svg").bounding_box()
        assert box is not None and box["width"] > 300 and box["height"] > 100, name


def test_it_says_what_is_exhaustive_what_it_cannot_show_and_with_what_it_was_made(
    browser, tmp_path
):
    place = tmp_path / "toys"
    place.mkdir()
    first, *others = campaign(place, "sound", names=("toys", "kill"))
    first = msgspec.structs.replace(
        first, versions={"sound": "toyd 1.2-3 (Debian)"}, tool="refmta 9, commit abc",
        planned={"sound": {"toys": 100, "kill": 6}},
    )  # fmt: skip
    ended = Ended(why="the budget is spent", budget_s=60, at_s=60)
    opened = Opened(browser, pages.html([first, *others, ended]), tmp_path)
    words = opened.drawn().locator("body").inner_text()
    for each in (
        "toyd 1.2-3 (Debian)", "refmta 9, commit abc", "seed 5", "the budget is spent",
        "6 of 100 cases", "exhaustive for each script", "page cache live on", "It is no proof",
        "refmta-fault campaign --targets sound --harnesses toys,kill --budget 60s --seed 5",
    ):  # fmt: skip
        assert each in words, each
    assert opened.complaints == []


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")]
)
def test_it_is_legible_on_a_screen_and_on_a_telephone_in_the_light_and_in_the_dark(
    viewport, scheme, browser, html, tmp_path
):
    """Nothing is wider than the screen, no word lies on another, and text has its contrast."""
    opened = Opened(browser, html, tmp_path, viewport=viewport, color_scheme=scheme)
    page = opened.drawn()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert overlapping(opened) == []
    (paper,) = colours(opened, "body")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    fill = page.evaluate("getComputedStyle(document.querySelector('#time svg text')).fill")
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert fill == ink != paper, "a picture's words have the page's colour"
    assert opened.complaints == []


def test_the_control_of_it_words_on_words_are_noticed(opened):
    assert overlapping(opened) == []
    opened.page.evaluate(
        "document.querySelectorAll('#time text').forEach(e => e.setAttribute('transform', ''))"
    )
    assert overlapping(opened)


def test_a_long_reason_is_folded(browser, tmp_path):
    first, *others = campaign(tmp_path, "raising", names=("toys",))
    long = "it can't be opened; " * 40
    others = [
        msgspec.structs.replace(each, outcome=replace(each.outcome, reason=long))
        if isinstance(each, Ran)
        else msgspec.structs.replace(each, reason=long)
        for each in others
    ]
    opened = Opened(browser, pages.html([first, *others]), tmp_path)
    opened.drawn()
    assert len(cell(opened, "raising", "toys").inner_text()) < 120
    cell(opened, "raising", "toys").click()
    about = opened.page.locator("#about details")
    assert about.locator("pre").is_hidden()
    about.locator("summary").click()
    assert about.locator("pre").inner_text().strip() == long.strip()
    assert opened.complaints == []


def test_a_cell_leads_to_its_evidence(opened):
    cell(opened, "buggy", "toys").click()
    assert opened.page.url.endswith("#buggy/toys")
    assert {tuple(row[:2]) for row in opened.rows()} == {("buggy", "toys")}
    inside = opened.page.locator("tr.open")
    assert inside.count() == 1
    assert "finding: lost" in inside.inner_text() and "is nowhere" in inside.inner_text()
    assert inside.is_visible()
    box = inside.bounding_box()
    assert box is not None and 0 <= box["y"] < 900, "it is not in view"


def test_an_address_leads_to_a_cell(browser, html, tmp_path):
    opened = Opened(browser, html, tmp_path, "#known/more-toys")
    opened.drawn()
    opened.page.wait_for_selector("tr.open")
    assert {tuple(row[:2]) for row in opened.rows()} == {("known", "more-toys")}
    assert "it promises nothing" in opened.page.locator("tr.open").inner_text()
    assert opened.complaints == []


def test_the_filters_choose_and_are_reset(opened):
    everything = opened.rows()
    for name, place, value in (
        ("target", 0, "known"),
        ("harness", 1, "more-toys"),
        ("state", 3, "found"),
    ):
        opened.page.locator(f"select[name={name}]").select_option(value)
        expected = [row for row in everything if row[place] == value]
        assert opened.rows() == expected and 0 < len(expected) < len(everything)
        opened.page.get_by_role("button", name="show all").click()
        opened.page.wait_for_function(
            "count => document.querySelectorAll('tr.case').length === count", arg=len(everything)
        )
    opened.page.locator("input[name=text]").fill("MESSAGE 9 IS nowhere")
    assert {(row[0], row[2]) for row in opened.rows()} == {("buggy", "9"), ("known", "9")}
    opened.page.locator("input[name=text]").fill("nothing has this text")
    assert opened.rows() == []
    assert opened.page.locator("#count").inner_text().startswith("0 of ")


def test_evidence_that_would_break_a_page_is_shown_as_it_is(opened):
    cell(opened, "nasty", "toys").click()
    text = opened.page.locator("tr.open pre").first.inner_text()
    assert text.startswith('</script><script>document.title = "owned"</script><img src=x')
    assert opened.page.locator("img").count() == 0


def test_a_link_gives_a_case_that_is_replayed(opened, tmp_path, monkeypatch):
    """A click makes a file of it; the command runs it in processes of its own."""
    (tmp_path / "path").mkdir()
    path = register(tmp_path / "path")
    monkeypatch.syspath_prepend(path[0])
    monkeypatch.setenv("PYTHONPATH", environment(path)["PYTHONPATH"])
    card = opened.page.locator(".card", has_text="lost: buggy, toys")
    with opened.page.expect_download() as download:
        card.locator("a.replay").click()
    file = tmp_path / "downloaded.json"
    download.value.save_as(file)
    assert download.value.suggested_filename == "buggy-toys-lost.json"
    done = CliRunner().invoke(command.replay, [str(file)])
    assert done.exit_code == 1, done.output
    assert "finding: lost: message 5 is nowhere" in done.output


def test_many_rows_are_shown_in_steps(browser, tmp_path):
    html = pages.html(campaign(tmp_path, "buggy", names=("toys",), cases=300))
    opened = Opened(browser, html, tmp_path)
    opened.drawn()
    assert len(opened.rows()) == 100
    opened.page.get_by_role("button", name="show more").click()
    assert len(opened.rows()) == 200
    assert opened.complaints == []


# -- controls -------------------------------------------------------------------------------------


def test_a_program_that_was_changed_does_not_run(browser, html, tmp_path):
    changed = html.replace("const STEP = 100;", "const STEP = 101;")
    assert changed != html
    opened = Opened(browser, changed, tmp_path)
    assert any("Content Security Policy" in each for each in opened.complained())
    assert opened.page.locator(DRAWN).count() == 0


def test_a_picture_that_is_broken_is_noticed(browser, html, tmp_path):
    opened = Opened(browser, html.replace('"mark":', '"marc":'), tmp_path)
    assert opened.complained()
    assert opened.page.locator(DRAWN).count() == 0
