"""The page in a real browser: it asks for nothing, runs nothing, is accessible, fits a phone, and prints with everything open."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

from browser import browser, violations
from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.report.content import VIRTUAL, blocks
from hillhold_bootsim.lab.report.page import page as html
from labdata import campaign, with_texts
from labtexts import HOSTILE

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


class Visit:
    """A page that was opened from its file, and what the browser asked for and said meanwhile."""

    def __init__(self, chromium: Browser, folder: Path, found: Campaign, **options: Any) -> None:
        self.page: Page = chromium.new_context(**options).new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        path = folder / "report.html"
        path.write_text(html(blocks(found), found.title), encoding="utf-8")
        self.page.goto(path.as_uri())
        assert self.asked == [path.as_uri()]


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1280, "dark")])
def test_it_is_accessible_and_fits(chromium: Browser, tmp_path: Path, width: int, scheme: Any) -> None:
    visit = Visit(chromium, tmp_path, campaign(), viewport={"width": width, "height": 720}, color_scheme=scheme)
    assert visit.said == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    for fold in visit.page.locator("details").all():
        fold.evaluate("found => { found.open = true }")
    assert violations(visit.page) == []


def test_page_one_is_seen_first(chromium: Browser, tmp_path: Path) -> None:
    visit = Visit(chromium, tmp_path, campaign(), viewport={"width": 1280, "height": 720})
    for words in (VIRTUAL, "FAILED: 1 of 6 tested cases failed"):
        box = visit.page.get_by_text(words).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 720


def test_hostile_texts_run_nothing_and_ask_for_nothing(chromium: Browser, tmp_path: Path) -> None:
    texts = [text for text in HOSTILE.values() if len(text) < 1_000]
    counter = iter(range(10_000))
    hostile = with_texts(campaign(), lambda _: f"{(number := next(counter))} {texts[number % len(texts)]}")
    visit = Visit(chromium, tmp_path, hostile, viewport={"width": 1280, "height": 720})
    visit.page.wait_for_timeout(200)
    assert len(visit.asked) == 1
    assert visit.said == []


def test_on_paper_everything_is_open_and_pages_are_numbered(chromium: Browser, tmp_path: Path) -> None:
    visit = Visit(chromium, tmp_path, campaign())
    found = PdfReader(BytesIO(visit.page.pdf(prefer_css_page_size=True)))
    text = "\n".join(page.extract_text() for page in found.pages)
    assert f"page 1 of {len(found.pages)}" in text
    assert "rc 7: expected a version above 7, got 6" in text, "evidence that is folded on a screen"
    assert VIRTUAL in found.pages[0].extract_text().replace("\n", " ")
