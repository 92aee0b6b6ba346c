"""The cases of a report: a table of all, then each with how it was done, what came of it on each item, and the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hillhold_bootsim.lab.model import Campaign, Case
from hillhold_bootsim.lab.report.document import Block, Cell, Facts, Fold, Heading, Para, Pre, Table, Tone
from hillhold_bootsim.lab.report.summary import Basis, Line, Outcome, Summary

TONES: Final = {
    Outcome.PASS: Tone.GOOD,
    Outcome.FAIL: Tone.BAD,
    Outcome.INCONCLUSIVE: Tone.WARN,
    Outcome.NOT_TESTED: Tone.DIM,
    Outcome.NOT_REACHED: Tone.DIM,
}
RESTS: Final = {
    Basis.IMAGE: ("What ran was read independently of the board's agent, by its bytes.", Tone.DIM),
    Basis.VERSION: (
        "This verdict rests on the version of what ran, read independently of the board's agent; its bytes could not be read.",
        Tone.WARN,
    ),
    Basis.SEEN: (
        "This verdict rests on what was seen of the board, a crash or its silence: no running image was read.",
        Tone.DIM,
    ),
    Basis.WORDS: (
        "This verdict rests on the board's own words: its running image could not be read independently.",
        Tone.WARN,
    ),
}
KINDS: Final = {
    "trace": "decoded trace",
    "words": "the board's words",
    "state": "state",
    "flash": "flash",
    "note": "note",
}


def outcome_cell(outcome: Outcome) -> Cell:
    """Return what became of a case; a failure in capitals."""
    text = outcome.value.upper() if outcome is Outcome.FAIL else outcome.value
    return Cell(text, TONES[outcome])


def case_blocks(campaign: Campaign, summary: Summary) -> Iterator[Block]:
    """The sections on cases."""
    yield Heading(2, "All cases", "cases", fresh=True)
    order = {case.id: number for number, case in enumerate(campaign.cases)}
    rows = [
        [
            Cell(line.case.id, to=f"case-{line.case.id}"),
            Cell(line.case.group),
            Cell(line.case.sentence),
            Cell(line.tested.item.name),
            outcome_cell(line.outcome),
        ]
        for line in sorted(summary.lines, key=lambda line: order[line.case.id])
    ]
    yield Table(
        "Each leads to its evidence.", ("case", "group", "what is tried", "item", "verdict"), rows, (22, 10, 38, 18, 12)
    )
    yield Heading(2, "Cases and evidence", "evidence", fresh=True)
    for case in campaign.cases:
        yield from _case(case, summary.of(case.id))
    if not campaign.cases:
        yield Para("No cases were planned.", Tone.WARN)


def _case(case: Case, lines: list[Line]) -> Iterator[Block]:
    yield Heading(3, case.id, f"case-{case.id}")
    yield Para(case.sentence)
    yield Facts(
        [
            ("How it is done", case.how),
            ("What a right board does", case.expected),
            ("It leaves behind", case.leaves or "nothing"),
            ("It needs", ", ".join(case.needs) or "nothing"),
            ("Sources", ", ".join(case.sources) or "none"),
        ]
    )
    for line in lines:
        yield Fold(_title(line), list(_result(line)), open=line.outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE))


def _title(line: Line) -> Cell:
    cell = outcome_cell(line.outcome)
    return Cell(f"{line.tested.item.name}: {cell.text}", cell.tone)


def _result(line: Line) -> Iterator[Block]:
    yield Para(line.reason)
    if line.result is None:
        return
    if line.basis:
        yield Para(*RESTS[line.basis])
    if line.result.figures:
        yield Facts([(name, f"{value:,.6g}") for name, value in sorted(line.result.figures.items())])
    for evidence in line.result.evidence:
        yield Pre(f"{KINDS[evidence.kind]}: {evidence.title}", evidence.text)
    if not line.result.evidence:
        yield Para("No evidence was kept.", Tone.DIM)
