"""A real browser without a screen, and a check of its page for accessibility.

with browser() as chromium:
    page = chromium.new_page()
    page.goto(url)
    assert violations(page) == []
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
"""It asks nobody but the page's own server for anything."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium, which the Makefile's `system` installs; each page of `new_page` or `new_context` knows nothing of others."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "Chromium is missing: make system"
    with sync_playwright() as driver:
        # Its sandbox does not work as root, and the pages are our own.
        started = driver.chromium.launch(executable_path=found, args=[*QUIET], chromium_sandbox=False)
        try:
            yield started
        finally:
            started.close()


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong with a page, a line each: rule, help, and the elements."""
    return [
        f"{found['id']}: {found['help']}: {[node['target'] for node in found['nodes']]}"
        for found in Axe().run(page).response["violations"]
    ]
