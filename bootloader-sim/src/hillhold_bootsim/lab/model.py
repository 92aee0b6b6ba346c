"""What is tested and what came of it, as data: what a campaign writes down and a report is made of.

Everything here is plain and frozen, and goes to JSON and back without loss (`jsonform`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Verdict(Enum):
    """What a case showed."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    NOT_TESTED = "not tested"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Case:
    """One attack of the catalogue, or one other thing that is tested.

    Attributes:
        id: stable, lowercase words with hyphens; never given to something else.
        group: what it belongs to: "metadata", "image", "keys", "time", "trial", "line", "stock", "power", "soak".
        sentence: what is tried, for people.
        how: how it is done, in a few sentences.
        expected: what a right board does.
        sources: ids of clauses and literature (`clauses`).
        leaves: what it leaves behind on a board for good ("floors of timestamp and snapshot rise"), or "" for nothing.
        needs: what the board must be able to do, else the case is not tested: "metadata" (Hillhold's group), "smp", "reset", "read"
            (its running image can be read independently), "power", "clock" (its clock can be set), "trial" (it can be told how its
            trials end), "components" (more than one).
    """

    id: str
    group: str
    sentence: str
    how: str
    expected: str
    sources: tuple[str, ...]
    leaves: str = ""
    needs: tuple[str, ...] = ("metadata",)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows it: a decoded trace, the board's words, a state before or after.

    Attributes:
        kind: "trace", "words", "state", "flash" or "note".
        title: a few words.
        text: lines, as they are shown.
    """

    kind: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case on one board.

    Attributes:
        case: its id.
        verdict: what it showed.
        reason: one sentence: why it failed, was not tested, or what was seen.
        independent: the running image was read without the board's agent after a reset; otherwise the verdict rests on the board's words.
        evidence: in order.
        figures: by name, for tables and plots ("requests", "seconds on the line").
    """

    case: str
    verdict: Verdict
    reason: str
    independent: bool
    evidence: tuple[Evidence, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """What was tested.

    Attributes:
        name: what people call it.
        kind: "virtual", "serial" or "adapter".
        hardware, identity: as it states them; "" where it does not.
        serial_number: the laboratory's or the maker's number of the item.
        facts: more by name: flash geometry, bootloader mode, transport, versions and hashes of what ran on it.
    """

    name: str
    kind: str
    hardware: str = ""
    identity: str = ""
    serial_number: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tested:
    """One item with all that came of it, in the order in which it was done."""

    item: Item
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Paper:
    """What a laboratory writes on a report (ISO/IEC 17025, 7.8.2); all of it comes from the campaign's file.

    Attributes:
        deviations: from the method, additions and exclusions.
        signatories: names and functions.
    """

    laboratory: str = ""
    address: str = ""
    customer: str = ""
    number: str = ""
    received: str = ""
    deviations: tuple[str, ...] = ()
    signatories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the tool's validation of itself: a board with a planted fault, and which cases found it.

    Attributes:
        board: id of the broken board; "right" for the one without a fault.
        fault: in a sentence.
        expected: ids of cases of which at least one has to fail.
        found: ids of the cases that failed.
    """

    board: str
    fault: str
    expected: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def good(self) -> bool:
        """The fault was found and rightly named; the right board passed everything."""
        return bool(set(self.expected) & set(self.found)) if self.expected else not self.found


@dataclass(frozen=True, slots=True)
class Campaign:
    """All of a campaign: what a report is made of.

    Attributes:
        title: what it is called.
        paper: see there.
        began, ended: Unix seconds.
        seed: of all that is random.
        cases: those that were planned, tested or not.
        tested: by item.
        checks: the matrix of `selfcheck`; empty where it was not run.
        versions: of the tool, its parts, Python and the system, by name.
        hashes: SHA-256 of the campaign's file, the catalogue and the images that were used, by name.
        finished: all of it was done.
    """

    title: str
    paper: Paper
    began: int
    ended: int
    seed: int
    cases: tuple[Case, ...]
    tested: tuple[Tested, ...]
    checks: tuple[Check, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    finished: bool = True
