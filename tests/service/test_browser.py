"""The browser that tests of the page run in."""

from __future__ import annotations

import pytest

from browser import browser, violations
from web import Web

pytestmark = pytest.mark.system

PAGE = b'<!doctype html><html lang="en"><title>Lines</title><main><h1>Lines</h1><p id="a">none</p></main></html>'
POOR = b"<!doctype html><title>Lines</title><img src=x><input>"


def test_a_page_is_shown_and_what_is_wrong_with_it_is_found() -> None:
    tree = {"good.html": PAGE, "poor.html": POOR}
    with Web(tree) as web, browser() as chromium:
        page = chromium.new_page()
        page.goto(web.url + "good.html")
        assert page.inner_text("#a") == "none"
        assert violations(page) == []
        page.goto(web.url + "poor.html")
        assert {found.partition(":")[0] for found in violations(page)} >= {"html-has-lang", "image-alt", "label"}
        assert {asked.partition("?")[0] for asked in web.asked} <= {*tree, "x", "/favicon.ico"}
