"""A browser that shows the page, where one is installed: Playwright, and a Chromium that it drives.

`pip install 'headway[browser]'` brings the first, `apt-get install chromium` or `playwright install
chromium` the second. Without either, what needs them is skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 15
"""That anything on the page may take at most, on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one module: while Playwright is there, no test can run an event loop."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra headway[browser]")
    with api.sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("needs Chromium: see tests/server/page/conftest.py")
        # Chromium's sandbox refuses root, as which containers run tests.
        sandboxed = os.getuid() != 0
        started = playwright.chromium.launch(executable_path=program, chromium_sandbox=sandboxed)
        yield started
        started.close()


@pytest.fixture
def browser_page(browser: Browser) -> Iterator[Page]:
    """An empty page of its own; the test fails for errors of its scripts and of its policy."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        yield page
    # The browser notes every refusal of a server as an error, too.
    assert [each for each in errors if "Failed to load resource" not in each] == []
