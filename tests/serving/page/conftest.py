"""A browser for the page, and a real server of tiny runs behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

TIMEOUT = 60_000  # milliseconds; only a machine with much else to do comes near it
DEBIAN = Path("/usr/bin/chromium")
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, else Playwright's own.

    Playwright keeps an event loop running, beside which other tests cannot run theirs: so it ends with the
    module.
    """
    with sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=DEBIAN if DEBIAN.exists() else None)
        except Error as error:
            pytest.skip(f"no browser to show the page in: {error.message.splitlines()[0]}")
        expect.set_options(timeout=TIMEOUT)
        yield found
        found.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens the page as a new visitor. Nothing may go to another host, and no script may fail."""
    with ExitStack() as stack:
        asked: list[str] = []
        broken: list[str] = []

        def opened(address: str, **settings: object) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})  # type: ignore[arg-type]
            stack.callback(context.close)
            context.set_default_timeout(TIMEOUT)
            context.on("request", lambda request: asked.append(request.url))
            page = context.new_page()
            page.on("pageerror", lambda error: broken.append(str(error)))
            page.on("dialog", lambda dialog: broken.append(dialog.message))
            page.goto(address)
            return page

        yield opened
        hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("blob:", "data:"))}
        assert asked and hosts == {"127.0.0.1"}
        assert not broken
