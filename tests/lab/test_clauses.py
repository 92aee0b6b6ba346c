"""Rows of standards and literature: in a known form, honest about what was checked, and never more than a sentence of our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hillhold_bootsim.lab.clauses as package
from hillhold_bootsim.lab.clauses import UNCHECKED, parse, rows, sources
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
    named = {name for case in campaign().cases for name in case.sources}
    assert named
    assert named <= rows().keys()


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
