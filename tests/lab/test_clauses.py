"""Rows of standards and literature: in a known form, honest about what was checked, and never more than a sentence of our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hillhold_bootsim.lab.clauses as package
from campaigns import SMALL, order
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.clauses import UNCHECKED, parse, rows, sources
from hillhold_bootsim.lab.conduct import works_of
from hillhold_bootsim.lab.model import Case
from hillhold_verifier.errors import MisuseError
from labdata import campaign

WANTED = (
    *(
        "iec81001-5-1",
        "iec62443-4-1",
        "iec62443-4-2",
        "iec-tr-60601-4-5",
        "fda-premarket",
        "en303645",
        "nist-sp-800-193",
        "eu-cra",
    ),
    "",
)
SILENT = {
    "iec62443-4-1:SVV-5": "Who tests, and for whom, is for the laboratory to say.",
    "iec62443-4-1:SUM-1": "What an update repairs, and breaks, is for tests of the product.",
    "iec62443-4-1:SUM-2": "Documentation is read, not attacked.",
    "iec62443-4-1:SUM-3": "Documentation is read, not attacked.",
    "iec62443-4-1:SUM-5": "A policy is read, not attacked.",
    "iec81001-5-1:5.7.5": "Who tests, and for whom, is for the laboratory to say.",
    "fda-premarket:appendix-1.C-device-keys": "No case takes a board apart for the keys in it.",
    "fda-premarket:appendix-1.H-separate": "How a maker divides releases is no property of a board.",
    "en303645:5.3-3": "How simple an update is for a user, a machine cannot say.",
    "nist-sp-800-193:4.2.2": "No case reads the bootloader's own bytes, before and after.",
    "nist-sp-800-193:4.2.3": "No case has code of its own run on a board.",
    "eu-cra:II-2": "How soon a maker repairs, and in which releases, is no property of a board.",
}
"""Rows that no case can speak to, and why."""
OLD = {"nist-sp-800-193:4.2.1.3", "fda-premarket:appendix-1.C-downgrade"}
SIGNED = {
    *("nist-sp-800-193:4.2.1.1", "nist-sp-800-193:4.3.1"),
    *("iec62443-4-2:EDR-3.10-RE-1", "iec62443-4-2:EDR-3.14-RE-1", "iec62443-4-2:CR-3.4-RE-1"),
    *("fda-premarket:appendix-1.A-updates", "en303645:5.3-9", "en303645:5.7-1"),
}
GOOD = """
version = 1
key = "std"
title = "A standard"
edition = "2026"
[[row]]
id = "std:1.2"
clause = "1.2"
says = "Something is asked."
"""


def test_every_standard_that_the_report_maps_has_a_file() -> None:
    assert {source.key for source in sources()} == set(WANTED)
    assert len(list(Path(str(package.__file__)).parent.glob("*.toml"))) == len(WANTED)
    assert not sources()[-1].standard, "literature comes last"


@pytest.mark.parametrize("row", rows().values(), ids=rows())
def test_a_row_is_one_or_two_short_sentences(row: package.Row) -> None:
    assert 20 <= len(row.says) <= 180
    assert row.says.endswith(".")
    assert row.checked is (row.against != UNCHECKED)
    assert not re.search(r"\b(shall|shalt)\b", row.says), "a standard's word, not ours"


def test_standards_that_nobody_here_has_read_are_marked_so() -> None:
    """These are sold, not published: nothing of them may claim to be checked before somebody has read it."""
    for source in sources():
        if source.key.startswith("iec"):
            assert not [row.id for row in source.rows if row.checked]


def test_every_source_that_a_case_names_exists() -> None:
    missing = sorted({name for case in (*all_cases(), *campaign().cases) for name in case.sources} - rows().keys())
    assert not missing, missing


def test_every_clause_has_a_case_but_those_that_no_case_can_speak_to() -> None:
    """A row without a case looks, in a report, as if the board had not been tested for it."""
    spoken = {name for case in all_cases() for name in case.sources}
    silent = {row.id for source in sources() if source.standard for row in source.rows} - spoken
    assert silent == SILENT.keys()
    assert all(reason.endswith(".") for reason in SILENT.values())


def test_a_case_names_a_clause_once() -> None:
    for case in all_cases():
        assert len(set(case.sources)) == len(case.sources), case.id


def test_what_is_old_and_authentic_is_no_evidence_for_the_check_of_signatures() -> None:
    for attack in CATALOGUE:
        names = set(attack.case.sources)
        assert not (names & OLD and names & SIGNED), attack.case.id


@pytest.mark.parametrize("start", ["rollback-timestamp", "rollback-line", "rollback-root", "image-older", "lower-"])
def test_rollback_speaks_to_the_clause_on_rollback(start: str) -> None:
    found = [attack.case for attack in CATALOGUE if attack.case.id.startswith(start)]
    assert found
    assert all("nist-sp-800-193:4.2.1.3" in case.sources for case in found)


def all_cases() -> list[Case]:
    """Every case that a campaign can have."""
    whole = order(SMALL.replace("spread = 3", "spread = 3\ndepth = 1"))
    return [attack.case for attack in CATALOGUE] + [work.case for work in works_of(whole)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('says = "Something is asked."', ""),
        ('clause = "1.2"', 'clause = "1.2"\nnote = "x"'),
        ('id = "std:1.2"', 'id = "other:1.2"'),
        ('id = "std:1.2"', 'id = "std:1 2"'),
        ('clause = "1.2"', 'clause = "1.2"\nchecked = true'),
        ('clause = "1.2"', 'clause = "1.2"\nagainst = "the text"'),
        ("[[row]]", '[[row]]\nid = "std:1.2"\nclause = "x"\nsays = "y"\n[[row]]'),
    ],
)
def test_a_file_that_is_not_quite_one_is_refused(old: str, new: str) -> None:
    assert parse("std.toml", GOOD).rows[0].id == "std:1.2"
    with pytest.raises(MisuseError):
        parse("std.toml", GOOD.replace(old, new))
