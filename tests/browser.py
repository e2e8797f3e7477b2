"""A real Chromium with a microphone that hears a file, for tests of pages."""

from __future__ import annotations

import contextlib
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MICROPHONE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
PATIENCE_MS = int(1000 * PATIENCE / 2)
"""ms that a busy machine may take for anything on a page."""
SETTLED_MS = 2000
"""ms without a request after which a page has loaded all of its parts."""


def chromium() -> str:
    """Chromium's place; the test is skipped where it, or Playwright, is missing."""
    pytest.importorskip("playwright", reason="pip install playwright")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium: apt-get install chromium")


def microphone(heard: Path) -> tuple[str, ...]:
    """Flags for a microphone that may be used, and hears a file once."""
    return (*MICROPHONE, f"--use-file-for-fake-audio-capture={heard}%noloop")


@contextlib.contextmanager
def browser_page(base: str, heard: Path | None = None, **options: Any) -> Iterator[Any]:
    """A page of the app; its microphone hears the file `heard` once, from when it is opened.

    `page.elsewhere` lists what it asked of other machines.
    """
    place = chromium()
    from playwright.sync_api import sync_playwright

    flags = [*FLAGS, *(microphone(heard) if heard else MICROPHONE)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=flags)
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 1000}} | options)
        page.set_default_timeout(PATIENCE_MS)
        page.elsewhere = []
        own = urllib.parse.urlsplit(base).netloc

        def note(request: Any) -> None:
            address = urllib.parse.urlsplit(request.url)
            if address.scheme not in ("data", "blob") and address.netloc != own:
                page.elsewhere.append(request.url)

        page.on("request", note)
        page.goto(base)
        page.wait_for_selector("#single-audio")
        yield page
        browser.close()


def wait_until_loaded(page: Any) -> None:
    """Wait until the page asks for nothing more: what records a stream is loaded late."""
    page.wait_for_function(
        """(quiet) => {
          const ends = performance.getEntriesByType("resource").map((item) => item.responseEnd);
          return performance.now() - Math.max(...ends) > quiet;
        }""",
        arg=SETTLED_MS,
    )


def upload(page: Any, path: Path) -> None:
    """Choose a file on the page for one recording."""
    if not page.locator("#single-audio input[type=file]").count():
        page.click("#single-audio button[aria-label='Upload file']")
    page.set_input_files("#single-audio input[type=file]", path)


def open_tab(page: Any, name: str) -> None:
    """Go to one of the pages."""
    page.get_by_role("tab", name=name, exact=True).click()
    page.wait_for_function(
        "(name) => document.querySelector('[role=tab][aria-selected=true]').innerText === name",
        arg=name,
    )


def shown_digit(page: Any) -> str:
    """The large digit, once it is there."""
    return page.locator("#single-answer .digit").inner_text()
