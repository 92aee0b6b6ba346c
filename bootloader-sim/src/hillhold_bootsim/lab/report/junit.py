"""The verdicts as JUnit XML, for build servers: an item is a suite, its cases are test cases.

Failed is `failure`, inconclusive `error`; not tested and not reached are `skipped`, with the reason. `time` is what a case took on the
line, in seconds, where that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as Xml

from hillhold_bootsim.lab.model import Campaign, Tested
from hillhold_bootsim.lab.report.summary import Line, Outcome, Summary
from hillhold_bootsim.lab.report.text import lines, one_line

SECONDS: Final = "seconds"


def junit(campaign: Campaign, summary: Summary) -> bytes:
    """Return the XML, UTF-8."""
    root = Xml.Element("testsuites", {"name": one_line(campaign.title), **_counts(summary.lines)})
    del root.attrib["skipped"]  # Jenkins' schema (junit-10.xsd) has it for a suite alone
    for tested in campaign.tested:
        own = [line for line in summary.lines if line.tested is tested]
        root.append(_suite(campaign, tested, own))
    Xml.indent(root, " ")
    return bytes(Xml.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def _suite(campaign: Campaign, tested: Tested, own: Sequence[Line]) -> Xml.Element:
    began = datetime.fromtimestamp(campaign.began, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = Xml.Element("testsuite", {"name": one_line(tested.item.name), "timestamp": began, **_counts(own)})
    properties = Xml.SubElement(suite, "properties")
    told = {
        "kind": tested.item.kind,
        "proves something about a product": "no" if tested.item.kind == "virtual" else "see the report",
        "report number": campaign.paper.number,
        "seed": str(campaign.seed),
    }
    for name, value in told.items():
        Xml.SubElement(properties, "property", name=name, value=one_line(value))
    for line in own:
        suite.append(_case(line))
    return suite


def _case(line: Line) -> Xml.Element:
    case = Xml.Element("testcase", classname=one_line(line.case.group), name=line.case.id, time=f"{_seconds(line):.3f}")
    reason = one_line(line.reason)
    if line.outcome is Outcome.FAIL:
        failure = Xml.SubElement(case, "failure", message=reason, type="fail")
        failure.text = "\n".join(lines(f"{line.case.sentence}\nexpected: {line.case.expected}\nseen: {line.reason}"))
    elif line.outcome is Outcome.INCONCLUSIVE:
        Xml.SubElement(case, "error", message=reason, type="inconclusive")
    elif line.outcome is not Outcome.PASS:
        Xml.SubElement(case, "skipped", message=f"{line.outcome.value}: {reason}")
    return case


def _counts(own: Sequence[Line]) -> dict[str, str]:
    outcomes = [line.outcome for line in own]
    skipped = outcomes.count(Outcome.NOT_TESTED) + outcomes.count(Outcome.NOT_REACHED)
    return {
        "tests": str(len(own)),
        "failures": str(outcomes.count(Outcome.FAIL)),
        "errors": str(outcomes.count(Outcome.INCONCLUSIVE)),
        "skipped": str(skipped),
        "time": f"{sum(map(_seconds, own)):.3f}",
    }


def _seconds(line: Line) -> float:
    figures = line.result.figures if line.result else {}
    return max(0.0, next((value for name, value in sorted(figures.items()) if name.startswith(SECONDS)), 0.0))
