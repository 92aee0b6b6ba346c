"""The PDF says what the page says, on numbered pages, with the campaign's date alone, and is no program."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO

import pytest
from pypdf import PdfReader
from pypdf.generic import IndirectObject, NameObject

from hillhold_bootsim.lab.model import Campaign, Evidence
from hillhold_bootsim.lab.report.content import VIRTUAL, blocks
from hillhold_bootsim.lab.report.pdf import MAX_LINES, pdf
from labdata import BEGAN, campaign, with_texts
from labtexts import HOSTILE

ACTIVE = {
    "/JavaScript",
    "/JS",
    "/OpenAction",
    "/AA",
    "/A",
    "/Launch",
    "/URI",
    "/AcroForm",
    "/EmbeddedFile",
    "/RichMedia",
    "/XFA",
}


def names(read: PdfReader) -> set[str]:
    """Every name in the document's objects: keys of dictionaries, and values that are names."""
    seen: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                seen.add(str(key))
                collect(one)
        elif isinstance(value, list):
            for one in value:
                collect(one)
        elif isinstance(value, NameObject):
            seen.add(str(value))

    for generation, objects in read.xref.items():
        for number in objects:
            collect(read.get_object(IndirectObject(number, generation, read)))
    return seen


def made(found: Campaign) -> bytes:
    return pdf(blocks(found), found.title, found.paper.number, found.ended)


def pages(data: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(BytesIO(data), strict=True).pages]


def test_page_one_has_the_notice_the_verdict_and_whose_report_it_is() -> None:
    first = pages(made(campaign()))[0]
    assert first.index("Update mechanism") < first.index(VIRTUAL) < first.index("FAILED: 1 of 6 tested cases failed")
    for wanted in (
        "Example Laboratory",
        "EX-2026-0042",
        "SN 0001",
        "The results relate only to the items tested",
        "Ada (head",
    ):
        assert wanted in first


def test_every_page_says_which_of_how_many_and_of_which_report() -> None:
    found = pages(made(campaign()))
    for number, text in enumerate(found, 1):
        assert f"page {number} of {len(found)}" in text
        assert "EX-2026-0042 · Update mechanism of the example pump" in text
    assert "End of the report." in found[-1]


def test_all_evidence_and_all_reasons_are_in() -> None:
    text = re.sub(r"\s+", " ", " ".join(pages(made(campaign()))))
    for tested in campaign().tested:
        for result in tested.results:
            assert result.reason in text
            for evidence in result.evidence:
                for line in evidence.text.splitlines():
                    assert re.sub(r"\s+", " ", line).strip() in text


def test_its_date_is_the_campaigns_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(campaign())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert made(campaign()) == first
    information = PdfReader(BytesIO(first)).metadata
    assert information is not None
    assert {str(information[name]) for name in ("/CreationDate", "/ModDate")} == {"D:20260528215640+00'00'"}
    later = made(replace(campaign(), ended=BEGAN + 9_999))
    assert later != first


def test_names_that_make_a_document_active_would_be_found() -> None:
    found = names(PdfReader(BytesIO(made(campaign()))))
    assert {"/Font", "/Page", "/Link", "/Dest"} <= found


def test_two_campaigns_have_two_identifiers() -> None:
    one, other = (PdfReader(BytesIO(made(found))).trailer["/ID"] for found in (campaign(), campaign("serial")))
    assert one != other


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_is_markup_or_a_program(name: str) -> None:
    counter = iter(range(10_000))
    data = made(with_texts(campaign(), lambda _: f"{next(counter)} {HOSTILE[name]}"))
    found = PdfReader(BytesIO(data), strict=True)
    assert not names(found) & ACTIVE
    for page in found.pages:
        for mark in page.get("/Annots") or []:
            link = mark.get_object()
            assert link["/Subtype"] == "/Link"
            assert "/Dest" in link, "links lead within the document alone"
    first = found.pages[0].extract_text()
    assert VIRTUAL in first
    assert "FAILED: 1 of 6" in first


def test_letters_that_the_font_lacks_are_written_as_escapes() -> None:
    found = campaign()
    paper = replace(found.paper, customer="Łódź Ж 試験")
    first = pages(made(replace(found, paper=paper)))[0]
    assert "Łód\\u017a \\u0416 \\u8a66\\u9a13" in first.replace("\n", "")


def test_long_evidence_ends_with_how_much_more_there_is() -> None:
    found = campaign()
    long = Evidence("trace", "long", "".join(f"line {number}\n" for number in range(1_000)))
    result = replace(found.tested[0].results[0], evidence=(long,))
    shown = replace(found, tested=(replace(found.tested[0], results=(result,)),))
    text = "\n".join(pages(made(shown)))
    assert f"line {MAX_LINES - 1}\n" in text
    assert f"line {MAX_LINES}\n" not in text
    assert f"({1_000 - MAX_LINES} more lines are in report.html)" in text
