"""What a report says, in its order: page one, what was tested and what was not, figures, cases with their evidence, clauses, origins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from hillhold_bootsim.lab.model import Campaign, Item
from hillhold_bootsim.lab.report.cases import case_blocks, outcome_cell
from hillhold_bootsim.lab.report.charts import bars, stacked
from hillhold_bootsim.lab.report.document import (
    Block,
    Cell,
    Facts,
    Heading,
    Notice,
    Para,
    Plot,
    Table,
    Tone,
)
from hillhold_bootsim.lab.report.mapping import clause_blocks
from hillhold_bootsim.lab.report.summary import Basis, Outcome, Standing, Summary, summarise

VIRTUAL: Final = "VIRTUAL BOARD: THIS REPORT PROVES NOTHING ABOUT A PRODUCT"
"""What page one says before anything else of a simulated board."""
MAX_TITLE: Final = 160
"""Characters of a title above page one, so that none pushes the verdict off it."""
MAX_NAMED: Final = 400
"""Characters of a list of names on page one."""
MAX_DEVIATIONS: Final = 3
"""Deviations that page one has room for; all are in the section on them."""
MAX_COLUMNS: Final = 5
"""Figures beside each other in a table."""
MAX_HEAD: Final = 40
"""Characters of a figure's name above its column."""
PLOTTED: Final = "seconds"
"""What the names of figures begin with that are plotted by case."""
FILLS: Final = {
    Outcome.PASS.value: "good",
    Outcome.FAIL.value: "bad",
    Outcome.INCONCLUSIVE.value: "warn",
    Outcome.NOT_TESTED.value: "dim",
    Outcome.NOT_REACHED.value: "faint",
}
RESTS: Final = {
    Basis.WORDS: "the board's own words: its image could not be read independently",
    Basis.VERSION: "the version of what ran, read independently of the board's agent: the bytes of its image could not be read",
    Basis.SEEN: "a crash of the board, or on its silence: there was no image to read",
}
"""What verdicts rest on that are not by the bytes of an image."""
TONES: Final = {Standing.PASSED: Tone.GOOD, Standing.FAILED: Tone.BAD, Standing.UNDECIDED: Tone.WARN}


def blocks(campaign: Campaign) -> list[Block]:
    """Return the report."""
    summary = summarise(campaign)
    return [
        *_page_one(campaign, summary),
        *_tested(campaign),
        *_not_tested(summary),
        *_figures(summary),
        *case_blocks(campaign, summary),
        *clause_blocks(campaign, summary),
        *_validation(campaign),
        *_origins(campaign),
        *_about(campaign),
    ]


def dated(seconds: int) -> str:
    """Return Unix seconds as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short(text: str, limit: int) -> str:
    """Return text of at most that many characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


# --- page one ---------------------------------------------------------------------------------------------------------


def _page_one(campaign: Campaign, summary: Summary) -> Iterator[Block]:
    yield Heading(1, short(campaign.title, MAX_TITLE) or "Report")
    if summary.virtual:
        yield Notice(VIRTUAL, _virtual(campaign, summary), Tone.BAD)
    yield Notice(summary.headline, _verdict_text(campaign, summary), TONES[summary.standing])
    yield _counts(campaign, summary)
    paper = campaign.paper
    yield Facts(
        [
            ("Report number", _stated(paper.number)),
            ("Laboratory", _stated(", ".join(filter(None, (paper.laboratory, paper.address))))),
            ("Customer", _stated(paper.customer)),
            ("Items", short("; ".join(_named(tested.item) for tested in campaign.tested), MAX_NAMED) or "none"),
            ("Items received", _stated(paper.received)),
            ("Tests performed", f"{dated(campaign.began)} to {dated(campaign.ended)}"),
            ("Report issued", _stated(paper.issued)),
            ("Method", f"the catalogue of hillhold-lab, seed {campaign.seed}; versions and hashes under “Origins”"),
            ("Deviations", _deviations(campaign)),
            ("Authorised by", short("; ".join(paper.signatories), MAX_NAMED) or "not stated"),
        ]
    )
    yield Para(
        "The results relate only to the items tested, as they were received. This report is not to be reproduced except in full. "
        "A passed case shows that this attack, done in this way, did not succeed on this item; it is no proof that none would.",
        Tone.DIM,
    )


def _virtual(campaign: Campaign, summary: Summary) -> str:
    if len(summary.virtual) == len(campaign.tested):
        return (
            "What was tested is a simulation, whose firmware is never executed. The report shows what the method finds and how; "
            "no statement in it is about any real board, product or device."
        )
    names = short(", ".join(summary.virtual), MAX_NAMED)
    return f"These items are simulations, whose firmware is never executed: {names}. No result on them is about any real board or product."


def _verdict_text(campaign: Campaign, summary: Summary) -> str:
    counts = summary.counts
    told = [
        f"{len(campaign.cases)} cases planned on {len(campaign.tested)} item{'s' if len(campaign.tested) != 1 else ''}: "
        + ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)
        + "."
    ]
    if counts[Outcome.NOT_TESTED] or counts[Outcome.NOT_REACHED]:
        told.append("What was not tested, and why, has a section of its own.")
    decided = counts[Outcome.PASS] + counts[Outcome.FAIL]
    for basis, words in RESTS.items():
        if count := summary.bases[basis]:
            told.append(f"{count} of {decided} verdicts rest on {words}.")
    if not campaign.finished:
        told.append("The campaign was not finished.")
    told.append(_validated(campaign, summary))
    return " ".join(told)


def _validated(campaign: Campaign, summary: Summary) -> str:
    if not campaign.checks:
        return "The tool's validation of itself was not run for this report."
    if summary.unfound:
        names = short(", ".join(summary.unfound), MAX_NAMED)
        return f"The tool's validation of itself FAILED ({names}): its verdicts are not to be relied upon."
    return f"The tool's validation of itself passed on {len(campaign.checks)} boards."


def _counts(campaign: Campaign, summary: Summary) -> Table:
    rows = []
    for tested in campaign.tested:
        lines = [line for line in summary.lines if line.tested is tested]
        counts = Counter(line.outcome for line in lines)
        numbers = [Cell(str(counts[outcome]), _count_tone(outcome, counts[outcome])) for outcome in Outcome]
        read = sum(line.basis is Basis.IMAGE for line in lines)
        rows.append([Cell(short(tested.item.name, MAX_TITLE)), Cell(tested.item.kind), *numbers, Cell(str(read))])
    heads = ("item", "kind", *(outcome.value for outcome in Outcome), "image read")
    return Table("Cases by item and what became of them.", heads, rows, (26, 10, 8, 8, 13, 12, 13, 10))


def _count_tone(outcome: Outcome, count: int) -> Tone:
    if not count:
        return Tone.DIM
    return {Outcome.FAIL: Tone.BAD, Outcome.PASS: Tone.GOOD, Outcome.INCONCLUSIVE: Tone.WARN}.get(outcome, Tone.PLAIN)


def _named(item: Item) -> str:
    serial = f", serial number {item.serial_number}" if item.serial_number else ", no serial number"
    return f"{item.name} ({item.kind}{serial})"


def _deviations(campaign: Campaign) -> str:
    found = campaign.paper.deviations
    if not found:
        return "none stated"
    if len(found) > MAX_DEVIATIONS or sum(map(len, found)) > MAX_NAMED:
        return f"{len(found)}, listed under “About this report”"
    return " ".join(found)


def _stated(text: str) -> str:
    return short(text, MAX_NAMED) or "not stated"


# --- sections ---------------------------------------------------------------------------------------------------------


def _tested(campaign: Campaign) -> Iterator[Block]:
    yield Heading(2, "What was tested", "tested", fresh=True)
    for tested in campaign.tested:
        item = tested.item
        yield Heading(3, short(item.name, MAX_TITLE))
        if item.kind == "virtual":
            yield Para("A virtual board: a simulation, which proves nothing about a product.", Tone.BAD)
        facts = [
            ("kind", item.kind),
            ("hardware, as it states it", item.hardware or "not stated"),
            ("identity, as it states it", item.identity or "not stated"),
            ("serial number", item.serial_number or "not stated"),
        ]
        yield Facts([*facts, *sorted(item.facts.items())])
    if not campaign.tested:
        yield Para("Nothing.", Tone.WARN)


def _not_tested(summary: Summary) -> Iterator[Block]:
    yield Heading(2, "What was not tested, and why", "not-tested")
    rows = [
        [
            Cell(line.case.id, to=f"case-{line.case.id}"),
            Cell(short(line.tested.item.name, MAX_TITLE)),
            outcome_cell(line.outcome),
            Cell(line.reason),
        ]
        for line in summary.lines
        if line.outcome not in (Outcome.PASS, Outcome.FAIL)
    ]
    if rows:
        yield Table(
            "Planned cases without a verdict.", ("case", "item", "what became of it", "why"), rows, (24, 18, 14, 44)
        )
    else:
        yield Para("Every planned case came to a verdict on every item.")
    yield Para(
        "Outside the method altogether: the code of the board itself, its physical protection, fault injection and side channels, "
        "read-out protection, the maker's processes and the secrecy of its keys.",
        Tone.DIM,
    )


def _figures(summary: Summary) -> Iterator[Block]:
    yield Heading(2, "Figures", "figures", fresh=True)
    groups: dict[str, Counter[str]] = {}
    for line in summary.lines:
        groups.setdefault(line.case.group, Counter())[line.outcome.value] += 1
    if groups:
        yield Plot(stacked("Cases by group and what became of them, over all items", groups, FILLS))
    many = len({line.tested.item.name for line in summary.lines}) > 1
    taken: dict[str, list[tuple[str, float]]] = {}
    for line in summary.lines:
        for name, value in sorted(line.result.figures.items()) if line.result else ():
            if name.startswith(PLOTTED):
                label = f"{line.case.id} · {line.tested.item.name}" if many else line.case.id
                taken.setdefault(name, []).append((label, value))
    for name, found in sorted(taken.items()):
        yield Plot(bars(f"{short(name, MAX_HEAD).capitalize()}, by case", found, "s"))
    yield from _figure_tables(summary)


def _figure_tables(summary: Summary) -> Iterator[Block]:
    """A row for each case on an item, and a column for each figure, as many as fit beside each other."""
    taken = [(line, line.result.figures) for line in summary.lines if line.result and line.result.figures]
    names = sorted({name for _, figures in taken for name in figures})
    if not names:
        yield Para("No figures were taken.")
    for at in range(0, len(names), MAX_COLUMNS):
        columns = names[at : at + MAX_COLUMNS]
        rows = [
            [
                Cell(line.case.id),
                Cell(short(line.tested.item.name, MAX_TITLE)),
                *(Cell(f"{figures[name]:,.6g}" if name in figures else "–") for name in columns),
            ]
            for line, figures in taken
            if any(name in figures for name in columns)
        ]
        shares = (30, 20, *(50 / len(columns) for _ in columns))
        yield Table("All figures.", ("case", "item", *(short(name, MAX_HEAD) for name in columns)), rows, shares)


def _validation(campaign: Campaign) -> Iterator[Block]:
    yield Heading(2, "The tool's validation of itself", "validation", fresh=True)
    if not campaign.checks:
        yield Para("Not run for this report (“hillhold-lab selfcheck”).", Tone.WARN)
        return
    yield Para(
        "The catalogue is run against boards with a planted fault each, which it has to find and to name, and against a right board, on "
        "which nothing may fail."
    )
    rows = [
        [
            Cell(check.board),
            Cell(check.fault or "none: the right board"),
            Cell(", ".join(check.expected) or "nothing"),
            Cell(", ".join(check.found) or "nothing"),
            Cell("as expected", Tone.GOOD) if check.good else Cell("NOT AS EXPECTED", Tone.BAD),
        ]
        for check in campaign.checks
    ]
    heads = ("board", "planted fault", "one of these has to fail", "failed", "outcome")
    yield Table("Broken boards, and the cases that found them.", heads, rows, (16, 28, 21, 21, 14))


def _origins(campaign: Campaign) -> Iterator[Block]:
    yield Heading(2, "Origins: versions and hashes", "origins")
    tables = (
        ("Versions of the tool, its parts and the system", "version", campaign.versions),
        ("SHA-256 of what went in", "SHA-256", campaign.hashes),
    )
    for caption, head, values in tables:
        if values:
            rows = [[Cell(name), Cell(value)] for name, value in sorted(values.items())]
            yield Table(f"{caption}.", ("what", head), rows, (30, 70))
        else:
            yield Para(f"{caption}: not stated.", Tone.WARN)


def _about(campaign: Campaign) -> Iterator[Block]:
    paper = campaign.paper
    yield Heading(2, "About this report", "about")
    yield Facts(
        [
            ("Title", campaign.title),
            ("Report number", paper.number or "not stated"),
            ("Laboratory", paper.laboratory or "not stated"),
            ("Address", paper.address or "not stated"),
            ("Customer", paper.customer or "not stated"),
            *((f"Deviation {number}", text) for number, text in enumerate(paper.deviations, 1)),
            *((f"Authorised by, {number}", text) for number, text in enumerate(paper.signatories, 1)),
        ]
    )
    yield Para(
        "Beside this page lie the same report as PDF, campaign.json (all data that it is made of), junit.xml, and manifest.txt with the "
        "SHA-256 of each file; where the laboratory signed it, “hillhold-lab report verify” checks all of them without a network."
    )
    yield Para("End of the report.", Tone.DIM)
