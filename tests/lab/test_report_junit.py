"""Build servers read the verdicts: as a library of theirs does, and by what the schema of Jenkins (junit-10.xsd) allows."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.report.junit import junit
from hillhold_bootsim.lab.report.summary import summarise
from labdata import campaign, with_texts
from labtexts import HOSTILE

SECONDS = re.compile(r"[0-9]+\.[0-9]{3}")
ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "properties": set[str](),
    "property": {"name", "value"},
    "testcase": {"name", "time", "classname", "group"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"message"},
}


def made(found: Campaign) -> bytes:
    return junit(found, summarise(found))


def test_a_consumer_counts_what_the_report_counts() -> None:
    read = JUnitXml.fromstring(made(campaign()))
    assert (read.tests, read.failures, read.errors) == (12, 1, 1)
    assert [(suite.tests, suite.failures, suite.errors, suite.skipped) for suite in read] == [
        (6, 0, 0, 2),
        (6, 1, 1, 3),
    ]
    kinds = {(suite.name, case.name): [type(one) for one in case.result] for suite in read for case in suite}
    assert kinds["pump board A", "one-key-twice"] == []
    assert kinds["pump board B", "one-key-twice"] == [Failure]
    assert kinds["pump board B", "image-cut-short"] == [Error]
    assert kinds["pump board A", "clock-far-ahead"] == [Skipped]
    assert kinds["pump board A", "thousand-updates"] == [Skipped]
    assert len(kinds) == 12


def test_the_reason_and_the_time_come_with_a_case() -> None:
    read = {(suite.name, case.name): case for suite in JUnitXml.fromstring(made(campaign())) for case in suite}
    failed = read["pump board B", "one-key-twice"]
    assert failed.result[0].message.startswith("it took two signatures by one key")
    assert "expected: It counts the key once" in failed.result[0].text
    assert (
        read["pump board A", "clock-far-ahead"].result[0].message
        == "not tested: the board has no clock that can be set"
    )
    assert read["pump board A", "power-cut-in-a-swap"].time == 340.25
    assert failed.classname == "keys"


def test_a_virtual_board_is_marked() -> None:
    wanted = "testsuite/properties/property[@name='proves something about a product']"
    assert [one.get("value") for one in Xml.fromstring(made(campaign())).findall(wanted)] == ["no", "see the report"]


@pytest.mark.parametrize("name", ["good", *HOSTILE])
def test_it_is_well_formed_and_holds_what_the_schema_allows(name: str) -> None:
    counter = iter(range(10_000))
    hostile = with_texts(campaign(), lambda _: f"{next(counter)} {HOSTILE[name]}") if name in HOSTILE else campaign()
    root = Xml.fromstring(made(hostile))
    for element in root.iter():
        assert set(element.attrib) <= ALLOWED[element.tag]
        assert SECONDS.fullmatch(element.get("time", "0.000"))
    assert [case.get("name") for case in root[0].iter("testcase")] == [case.id for case in campaign().cases]
    assert root.get("failures") == "1"
