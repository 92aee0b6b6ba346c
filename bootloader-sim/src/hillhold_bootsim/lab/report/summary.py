"""What a campaign comes to: counts, and the verdict in one sentence.

A case counts once for each item that it was planned for. What was planned and has no result was not reached, and says so: silence is
never taken for a pass, and an item on which nothing was decided is not covered by what others passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hillhold_bootsim.lab.judge import BESIDE, VERSION, WORDS
from hillhold_bootsim.lab.model import Campaign, Case, Result, Tested

MAX_NAME: Final = 60
"""Characters of an item's name in the verdict's sentence."""


class Outcome(Enum):
    """What became of a planned case on an item: its verdict, or that it was not reached."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTED = "not tested"
    NOT_REACHED = "not reached"


class Basis(Enum):
    """What a verdict rests on."""

    IMAGE = "image"
    """The bytes of the running image, read without the board's agent."""
    VERSION = "version"
    """Its version alone, read without the board's agent."""
    SEEN = "seen"
    """A crash, or silence."""
    WORDS = "words"
    """What the board said."""


class Standing(Enum):
    """What the whole comes to."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Line:
    """A planned case on an item. `result` is None where it was not reached."""

    tested: Tested
    case: Case
    result: Result | None

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        return Outcome(self.result.verdict.value) if self.result else Outcome.NOT_REACHED

    @property
    def basis(self) -> Basis | None:
        """What its verdict rests on; None without one."""
        if self.result is None or self.outcome not in (Outcome.PASS, Outcome.FAIL):
            return None
        if self.result.independent:
            return Basis.VERSION if self.reason.endswith(VERSION) else Basis.IMAGE
        # A board that can be read, and was not: it crashed, or is silent, and nobody had to take its word for that.
        seen = self.outcome is Outcome.FAIL and not self.reason.endswith((WORDS, BESIDE))
        return Basis.SEEN if seen else Basis.WORDS

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        return self.result.reason if self.result else "planned, but the campaign ended before it"


@dataclass(frozen=True, slots=True)
class Summary:
    """A campaign in short.

    Attributes:
        lines: in the order in which it was done, then what was not reached, by item.
        standing: what the whole comes to.
        headline: the verdict in a sentence.
        counts: by outcome.
        bases: decided cases by what the verdict rests on.
        virtual: names of the items that are virtual boards.
        unfound: boards of the tool's validation on which it did not find what it should, or found what is not there.
    """

    lines: tuple[Line, ...]
    standing: Standing
    headline: str
    counts: Counter[Outcome]
    bases: Counter[Basis]
    virtual: tuple[str, ...]
    unfound: tuple[str, ...]

    def of(self, case: str) -> list[Line]:
        """Return the lines of a case."""
        return [line for line in self.lines if line.case.id == case]


def summarise(campaign: Campaign) -> Summary:
    """Return what a campaign comes to."""
    lines = tuple(_lines(campaign))
    counts = Counter(line.outcome for line in lines)
    unfound = tuple(check.board for check in campaign.checks if not check.good)
    standing, headline = _verdict(campaign, lines, unfound)
    bases = Counter(line.basis for line in lines if line.basis)
    virtual = tuple(tested.item.name for tested in campaign.tested if tested.item.kind == "virtual")
    return Summary(lines, standing, headline, counts, bases, virtual, unfound)


def _lines(campaign: Campaign) -> Iterator[Line]:
    cases = {case.id: case for case in campaign.cases}
    for tested in campaign.tested:
        done = {result.case for result in tested.results}
        for result in tested.results:
            yield Line(tested, cases[result.case], result)
        for case in campaign.cases:
            if case.id not in done:
                yield Line(tested, case, None)


def _verdict(campaign: Campaign, lines: Sequence[Line], unfound: Sequence[str]) -> tuple[Standing, str]:
    counts = Counter(line.outcome for line in lines)
    passed, failed = counts[Outcome.PASS], counts[Outcome.FAIL]
    if failed:
        return Standing.FAILED, f"FAILED: {failed} of {passed + failed} tested cases failed"
    if not passed:
        return Standing.UNDECIDED, "NOT DECIDED: nothing was tested to an end"
    open_ends = []
    if counts[Outcome.INCONCLUSIVE]:
        open_ends.append(f"{counts[Outcome.INCONCLUSIVE]} inconclusive")
    if counts[Outcome.NOT_REACHED] or not campaign.finished:
        open_ends.append(f"the campaign was not finished ({counts[Outcome.NOT_REACHED]} not reached)")
    decided = {line.tested.item.name for line in lines if line.outcome is Outcome.PASS}
    if untested := [tested.item.name for tested in campaign.tested if tested.item.name not in decided]:
        more = f" and {len(untested) - 1} more" if len(untested) > 1 else ""
        open_ends.append(f"nothing was tested to an end on {untested[0][:MAX_NAME]}{more}")
    if unfound:
        open_ends.append("the tool's own validation failed")
    if open_ends:
        return Standing.UNDECIDED, f"NOT DECIDED: {passed} cases passed, but {', '.join(open_ends)}"
    left = (
        f", {counts[Outcome.NOT_TESTED]} of {len(lines)} planned were not tested" if counts[Outcome.NOT_TESTED] else ""
    )
    return Standing.PASSED, f"PASSED: all {passed} tested cases passed{left}"
