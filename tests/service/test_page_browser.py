"""The page in a real browser: accessible, on a phone, by keyboard, without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from browser import browser, violations
from pagehouse import House, infested, lived_in

pytestmark = pytest.mark.system

PAGES = (
    *("/", "/drafts/pump", "/drafts/targets", "/drafts/monitor", "/lines", "/lines/pump", "/lines/ventilator", "/keys"),
    *("/log", "/log?kind=refusal", "/log/entries/3", "/sign-in", "/drafts/none", "/log/entries/999"),
)
OVERFLOWS = """() => {
  const wide = document.documentElement.clientWidth + 1, found = [];
  for (const element of document.querySelectorAll("main *, header *, footer *")) {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    const hidden = element.closest(".unseen, .skip, thead") || style.visibility === "hidden" || box.width === 0;
    if (!hidden && (box.right > wide || box.left < -1)) found.push(`${element.tagName} ${element.className} ${box.left} ${box.right}`);
    const card = element.parentElement.closest("tbody tr, .card, td, pre, .change");
    if (!hidden && card && box.right > card.getBoundingClientRect().right + 1) found.push(`${element.tagName} out of ${card.tagName}`);
  }
  return found;
}"""
"""What reaches beyond the window, or out of its card."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module", params=[lived_in, infested])
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    with House(tmp_path_factory.mktemp("house")) as house, house.served() as url:
        request.param(house)
        yield house, url


class Visit:
    """A page in a window of its own, where Ada is signed in; `said` is what the browser complains of."""

    def __init__(self, chromium: Browser, house: House, url: str, **options: Any) -> None:
        self.url, self.said = url, list[str]()
        self.context = chromium.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url + "/keys")
        self.page.fill("#token", house.token("ada"))
        self.page.click("main button")
        assert self.page.url == url + "/keys"

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def go(self, path: str, *, opened: bool = True) -> Page:
        self.page.goto(self.url + path)
        if opened:
            for details in self.page.query_selector_all("details"):
                details.evaluate("element => element.open = true")
        return self.page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "status of 404" not in message.text:
            self.said.append(message.text)


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (320, "light"),
        (1280, "dark"),
        pytest.param(320, "dark", marks=pytest.mark.deep),
        pytest.param(1280, "light", marks=pytest.mark.deep),
    ],
)
def test_every_page_is_accessible_fits_and_breaks_no_rule(
    chromium: Browser, lived: tuple[House, str], width: int, scheme: Any
) -> None:
    options = {"viewport": {"width": width, "height": 720}, "color_scheme": scheme}
    with Visit(chromium, *lived, **options) as visit:
        for path in PAGES:
            page = visit.go(path)
            assert visit.said == [], path
            assert "broken out" not in page.title()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.evaluate(OVERFLOWS) == [], path
            assert violations(page) == [], path
            visit.said.clear()  # axe asks for what the policy forbids


def test_twice_the_size_of_letters_still_fits(chromium: Browser, lived: tuple[House, str]) -> None:
    # At 200 % a window of 1280 pixels has 640 of the page's, and letters twice the size do not help.
    with Visit(chromium, *lived, viewport={"width": 640, "height": 720}) as visit:
        for path in PAGES:
            page = visit.go(path)
            page.evaluate("document.documentElement.style.setProperty('font-size', '200%')")
            assert page.evaluate("document.documentElement.scrollWidth") <= 640, path
            assert page.evaluate(OVERFLOWS) == [], path


def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(chromium: Browser, lived: tuple[House, str]) -> None:
    with Visit(chromium, *lived, viewport={"width": 1280, "height": 720}) as visit:
        for path in ("/", "/drafts/pump", "/lines/pump", "/log/entries/3", "/keys"):
            page = visit.go(path, opened=False)
            wanted = page.evaluate(
                "[...document.querySelectorAll('a[href], button, summary, input:not([type=hidden]), select')]"
                ".filter(found => found.checkVisibility()).length"
            )
            seen = set()
            for _ in range(wanted + 20):
                page.keyboard.press("Tab")
                found = page.evaluate(
                    """() => { const found = document.activeElement, style = getComputedStyle(found);
                    return [[...document.querySelectorAll('*')].indexOf(found), found.tagName, style.outlineStyle]; }"""
                )
                if found[1] in ("A", "BUTTON", "SUMMARY", "INPUT", "SELECT"):
                    assert found[2] == "solid", (path, found)
                    seen.add(found[0])
            assert len(seen) == wanted, path


def test_one_can_skip_to_the_content_and_open_details_by_keyboard(chromium: Browser, lived: tuple[House, str]) -> None:
    with Visit(chromium, *lived) as visit:
        page = visit.go("/drafts/pump", opened=False)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.focus("summary")
        page.keyboard.press("Enter")
        assert page.get_by_text("Download the request file").is_visible()


def test_the_page_works_without_scripts_from_signing_in_to_signing_out(
    chromium: Browser, lived: tuple[House, str]
) -> None:
    with Visit(chromium, *lived, java_script_enabled=False) as visit:
        page = visit.page
        page.goto(visit.url + "/")
        page.click("text=pump version 6")
        assert page.get_by_role("heading", level=1).inner_text() == "Draft of pump, version 6"
        page.click("summary")
        with page.expect_download() as waited:
            page.click("text=Download the request file")
        assert waited.value.suggested_filename == "pump.request"
        page.click("text=Log")
        page.select_option("#kind", "refusal")
        page.click(".filter button")
        assert page.url.endswith("/log?kind=refusal")
        page.click("text=Sign out")
        assert page.url == visit.url + "/sign-in"
        page.goto(visit.url + "/keys")
        assert page.url.startswith(visit.url + "/sign-in?next=")


def test_whoever_listens_hears_tables_as_tables_on_a_phone_too(chromium: Browser, lived: tuple[House, str]) -> None:
    with Visit(chromium, *lived, viewport={"width": 320, "height": 720}) as visit:
        page = visit.go("/")
        table = page.get_by_role("table", name="What expires when")
        assert table.get_by_role("row").count() == 7
        assert [head.inner_text() for head in table.get_by_role("columnheader").all()] == [
            "Role",
            "Version",
            "Expires",
            "State",
        ]
        assert table.get_by_role("cell", name="In time").count() == 6


def test_another_sites_form_does_not_sign_anybody_out(
    chromium: Browser, lived: tuple[House, str], tmp_path: Path
) -> None:
    trap = tmp_path / "trap.html"
    with Visit(chromium, *lived) as visit:
        trap.write_text(f'<form action="{visit.url}/sign-out" method="post"><button>Win</button></form>')
        page = visit.page
        page.goto(trap.as_uri())
        page.click("button")
        assert "You may not see this" in page.inner_text("h1")
        assert visit.go("/keys").get_by_role("heading", level=1).inner_text() == "Keys and people"
