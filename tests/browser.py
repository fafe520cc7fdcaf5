"""A browser for tests of pages: Chromium, steered by Playwright. An error in its console fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.lacking import lacking

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE_S = 30


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start the browser, and end it."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        lacking("no Chromium on this machine: make browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("Playwright is not installed: make venv")
    # Chromium refuses to run as root in its sandbox. It opens nothing but pages of this test run.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(context: BrowserContext, patience_s: float = _PATIENCE_S) -> Iterator[Page]:
    """
    Open an empty page, and check in the end that nothing went wrong in it.

    :param patience_s: how long to wait for what is expected of the page.
    """
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # The browser itself reports an answer such as 404, which the page of a run expects before plan has ended.
        is_refusal = "Failed to load resource" in message.text and "/api/" in message.location["url"]
        if message.type in {"error", "warning"} and not is_refusal:
            problems.append(message.text)

    page = context.new_page()
    page.set_default_timeout(1000 * patience_s)
    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    try:
        yield page
    finally:
        page.close()
    assert problems == []
