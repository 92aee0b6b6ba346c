"""The page needs nothing else and runs nothing, whatever a campaign's texts try; it shows the same as the PDF, in light and dark."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.report.charts import Box, Word, bars, stacked
from hillhold_bootsim.lab.report.content import VIRTUAL, blocks
from hillhold_bootsim.lab.report.page import POLICY, STYLE, page
from labdata import campaign, with_texts
from labtexts import HOSTILE

TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "strong",
        "dl",
        "dt",
        "dd",
        "pre",
        "a",
    ),
    *("table", "caption", "colgroup", "col", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("figure", "figcaption", "svg", "desc", "rect", "text"),
}
VOID = {"meta", "col"}
ATTRIBUTES = {
    "charset",
    "http-equiv",
    "content",
    "name",
    "lang",
    "id",
    "class",
    "role",
    "tabindex",
    "aria-label",
    "style",
    "scope",
}
ATTRIBUTES |= {"href", "open", "xmlns", "viewbox", "width", "height", "x", "y", "text-anchor"}


class Reader(HTMLParser):
    """Reads a page as a browser does, and keeps what could do harm."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def made(found: Campaign) -> str:
    return page(blocks(found), found.title)


def check_harmless(text: str) -> Reader:
    read = Reader(text)
    assert read.tags <= TAGS
    assert read.attributes.keys() <= ATTRIBUTES
    assert read.open == [], "every element is closed"
    assert all(re.fullmatch("#[a-z0-9-]+", link) for link in read.attributes["href"])
    assert {link[1:] for link in read.attributes["href"]} <= set(read.ids)
    assert len(set(read.ids)) == len(read.ids)
    assert all(re.fullmatch(r"width:[0-9.]+%", style) for style in read.attributes["style"])
    shown = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    text.encode()
    return read


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    read = check_harmless(made(campaign()))
    assert POLICY in read.attributes["content"]
    assert POLICY.startswith("default-src 'none'")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_is_markup(name: str) -> None:
    read = check_harmless(made(with_texts(campaign(), Numbered(HOSTILE[name]))))
    shown = "".join(read.text)
    if name in ("script", "attribute", "closing", "link", "cdata", "paragraph", "pdf"):
        assert HOSTILE[name] in shown, "it shows as it is"


class Numbered:
    """A hostile text after a number, so that names which have to differ do."""

    def __init__(self, text: str) -> None:
        self.text, self.count = text, 0

    def __call__(self, _: str) -> str:
        self.count += 1
        return f"{self.count} {self.text}"


def test_a_title_cannot_push_the_notice_or_the_verdict_away() -> None:
    shown = made(with_texts(campaign(), Numbered("x" * 20_000)))
    body = shown[shown.index("<body>") :]
    assert VIRTUAL in body[:500]
    assert "FAILED: 1 of 6" in body[:2_500]


def test_what_cannot_be_seen_shows_as_an_escape() -> None:
    shown = made(with_texts(campaign(), Numbered("a\u202eb\x1b[0m")))
    assert "a\\u202eb\\x1b[0m" in shown


def test_the_same_campaign_gives_the_same_page() -> None:
    assert made(campaign()) == made(campaign())


def test_failures_and_what_is_unclear_are_open_and_the_rest_is_folded() -> None:
    shown = made(campaign())
    found = re.findall(r"<details( open)?><summary[^>]*>([^<]*)", shown)
    assert {opened for opened, title in found if title.endswith(("FAIL", "inconclusive"))} == {" open"}
    assert {opened for opened, title in found if title.endswith("pass")} == {""}


def test_plots_say_the_same_in_words() -> None:
    shown = made(campaign())
    assert "<desc>metadata: 2 pass; keys: 1 pass, 1 fail;" in shown
    assert "power-cut-in-a-swap · pump board A: 340.25 s" in shown


def test_one_long_bar_does_not_dwarf_the_others_and_the_plot_says_how() -> None:
    rows = [(f"case {number}", float(number)) for number in range(1, 60)]
    plain, dwarfed = bars("Seconds", rows, "s"), bars("Seconds", [*rows, ("slow", 40_000.0)], "s")
    assert plain.title == "Seconds (the longest 40 of 59)"
    assert dwarfed.title == "Seconds (the longest 40 of 60, logarithmic scale)"
    widths = [shape.width for shape in dwarfed.shapes if isinstance(shape, Box)]
    assert widths == sorted(widths, reverse=True)
    assert widths[1] > widths[0] / 10
    assert [shape.text for shape in dwarfed.shapes if isinstance(shape, Word)][1] == "40,000 s"


def test_a_plot_of_nothing_and_of_zeros_is_drawn() -> None:
    for rows in ([], [("a", 0.0)], [("a", -1.0), ("b", 0.0)]):
        assert all(shape.width >= 0 for shape in bars("Seconds", rows, "s").shapes if isinstance(shape, Box))
    assert stacked("Cases", {}, {"pass": "good"}).height > 0
