"""A page in a real Chromium, and all that it complains of or asks for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

PATIENCE_MS = 90_000
#: What a wide screen and a telephone show.
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
DRAWN = "body[data-drawn=yes]"


class Opened:
    """A page, and all that it complained of or asked for."""

    def __init__(
        self, browser: Browser, html: str, place: Path, mark: str = "", **options: Any
    ) -> None:
        file = place / "report.html"
        file.write_text(html)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(**{"viewport": WIDE, **options})
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append("dialog") or dialog.dismiss())
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"file://{file}{mark}")

    def drawn(self) -> Page:
        self.page.wait_for_selector(DRAWN)
        return self.page

    def complained(self) -> list[str]:
        """What it complained of, once it has."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.complaints:
            assert time.monotonic() < deadline, "it complains of nothing"
            self.page.wait_for_timeout(20)
        return self.complaints

    def rows(self) -> list[list[str]]:
        """server, faults, seed, state of what is listed."""
        every = self.page.locator("tr.case").all()
        return [each.locator("td").all_inner_texts()[:4] for each in every]
