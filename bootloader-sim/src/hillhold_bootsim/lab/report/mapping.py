"""The map from clauses to cases: which speak to each, what came of them, and whether the row was checked against the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from hillhold_bootsim.lab.clauses import Row, rows, sources
from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.report.document import Block, Cell, Heading, Para, Table, Tone
from hillhold_bootsim.lab.report.summary import Outcome, Summary

SHARES: Final = (18, 35, 21, 14, 12)


def clause_blocks(campaign: Campaign, summary: Summary) -> Iterator[Block]:
    """The section on clauses."""
    yield Heading(2, "Clauses, and the cases that speak to them", "clauses", fresh=True)
    yield Para(
        "A passed case is evidence for a clause, never conformity by itself: that is for an assessor to judge, over all a clause asks. "
        "Clauses are in our words, not the standard's. “To be checked” means that the row was written without the text at hand."
    )
    speaking: dict[str, list[str]] = {}
    for case in campaign.cases:
        for name in case.sources:
            speaking.setdefault(name, []).append(case.id)
    for source in sources():
        shown = [row for row in source.rows if source.standard or row.id in speaking]
        if shown:
            yield Heading(3, source.title)
            texts = {row.against for row in shown if row.checked}
            common = texts.pop() if len(texts) == 1 else ""
            told = f" Checked against {common}." if common else ""
            table = [_row(row, speaking.get(row.id, []), summary, common) for row in shown]
            heads = ("clause", "in our words", "cases", "verdicts", "checked")
            yield Table(f"Edition: {source.edition}. Data file version {source.version}.{told}", heads, table, SHARES)
    unknown = sorted(set(speaking) - rows().keys())
    if unknown:
        yield Heading(3, "Sources that this version does not know")
        table = [[Cell(name), Cell(", ".join(speaking[name]))] for name in unknown]
        yield Table("Named by cases, in no data file.", ("source", "cases"), table, (50, 50))


def _row(row: Row, cases: list[str], summary: Summary, common: str) -> list[Cell]:
    counts = Counter(line.outcome for case in cases for line in summary.of(case))
    tone = Tone.BAD if counts[Outcome.FAIL] else Tone.PLAIN if cases else Tone.DIM
    told = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
    checked = Cell("checked" if row.against == common else row.against, Tone.PLAIN if row.checked else Tone.WARN)
    return [
        Cell(row.clause),
        Cell(row.says),
        Cell(", ".join(cases) or "no case", Tone.PLAIN if cases else Tone.DIM),
        Cell(told or "–", tone),
        checked,
    ]
