"""One Chromium for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser.opened import PATIENCE_MS
from playwright.sync_api import Browser, sync_playwright
from provision import tool


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # its sandbox needs another user than root; the page has a policy of its own
        chromium = playwright.chromium.launch(
            executable_path=tool("chromium"), args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        yield chromium
        chromium.close()
