"""What a run found, as data and as a page that stands alone. No part of `found` depends on when, where or by how many it was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import Any, Final

from hillhold_bootsim import torn
from hillhold_bootsim.powercut.explore import Step
from hillhold_bootsim.powercut.picture import picture
from hillhold_bootsim.powercut.runner import Outcome, Plan
from hillhold_bootsim.powercut.scenario import Scenario

FORMAT: Final = 1
REMEMBERED: Final = (
    "whether the image in a slot verifies, and its hash: by the sectors of the slot",
    "what a record of the agent's state says: by the sectors of its area",
    "the oracle's own hash of an image, the security counter and the floors: by the sectors that they are read from",
    "what a second boot does: by the whole flash and what the first started",
    "that a run ends well: by the whole flash, what goes on, and what may boot",
)
"""What follows from content alone, and is not done again for the same content; what reads unstably is never remembered."""
EDGES: Final = ("before", "after")


@dataclass(frozen=True, slots=True)
class Smallest:
    """A failing case that was made small: its id, what is wrong, the command that replays it, and what happens in it, line by line."""

    id: str
    problem: str
    command: str
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is reported."""

    scenario: Scenario
    size: int
    plan: Plan
    steps: Sequence[Step]
    outcome: Outcome
    smallest: Smallest | None = None

    @property
    def title(self) -> str:
        """What was done to which board."""
        layout = self.scenario.layout
        return f"Power cuts on {layout.name} ({layout.mode.value})"


def as_data(found: Findings) -> dict[str, Any]:
    """Return the part of the report that is the same whenever the same is explored."""
    scenario, outcome, geometry = found.scenario, found.outcome, found.scenario.layout.geometry
    return {
        "format": FORMAT,
        "board": scenario.layout.name,
        "boot": scenario.layout.mode.value,
        "sectors": [list(run) for run in geometry.runs],
        "unit": geometry.unit,
        "erased_value": geometry.erased_value,
        "size": found.size,
        "scenario": sha256(repr(scenario).encode()).hexdigest(),
        "images": [
            {
                "version": offer.version,
                "length": len(offer.image),
                "sha256": offer.sha256.hex(),
                "passes": offer.passes,
                "patch": len(offer.patch) or None,
            }
            for offer in scenario.offers
        ],
        "depth": found.plan.depth,
        "sample": found.plan.sample,
        "seed": found.plan.seed if found.plan.sample is not None else None,
        "operations": len(found.steps),
        "levels": [
            {
                "cuts": level.number,
                "total": level.total,
                "cases": level.cases,
                "states": level.states,
                "failures": level.failures,
            }
            for level in outcome.levels
        ],
        "coverage": [
            {
                "cuts": number,
                "phase": phase,
                "operation": kind,
                "how": how,
                "cases": count,
                "failures": outcome.failed[number, (phase, kind, how)],
            }
            for (number, (phase, kind, how)), count in sorted(outcome.coverage.items())
        ],
        "failures": outcome.failures,
        "failing": list(outcome.ids),
        "first": dict(zip(("id", "problem"), outcome.first, strict=True)) if outcome.first else None,
        "smallest": {"id": found.smallest.id, "problem": found.smallest.problem, "command": found.smallest.command}
        if found.smallest
        else None,
        "remembered": list(REMEMBERED),
        "torn": torn.__doc__,
    }


def coverage_table(outcome: Outcome) -> tuple[list[str], list[tuple[str, str, dict[str, tuple[int, int]]]]]:
    """Return the ways of cutting that there were; and by phase and operation how many cases were cut so, and how many states failed."""
    rows: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for (number, (phase, kind, how)), count in outcome.coverage.items():
        row = rows.setdefault((phase, kind), {})
        cases, failures = row.get(how, (0, 0))
        row[how] = cases + count, failures + outcome.failed[number, (phase, kind, how)]
    torn_ways = sorted({how for row in rows.values() for how in row} - set(EDGES))
    return ["before", *torn_ways, "after"], [(phase, kind, row) for (phase, kind), row in sorted(rows.items())]


def levels_table(found: Findings) -> list[tuple[str, ...]]:
    """Return a line for each level: cuts, cases, of how many, distinct states, failures."""
    return [
        (str(level.number), f"{level.cases:,}", f"{level.total:,}", f"{level.states:,}", f"{level.failures:,}")
        for level in found.outcome.levels
    ]


def drawing(found: Findings) -> str:
    """Return the picture, as SVG."""
    return picture(found.scenario.layout, found.steps, found.outcome.operations, found.title)


STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--paper:#fff;--line:#d0d7de;--bad:#b3261e;--good:#116329}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9da7b3;--paper:#0d1117;--line:#3d444d;--bad:#ff8f86;--good:#56d364}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2rem}.dim{color:var(--dim)}.bad{color:var(--bad);font-weight:600}
.good{color:var(--good);font-weight:600}table{border-collapse:collapse;font-variant-numeric:tabular-nums}caption{text-align:left;
color:var(--dim);padding:.3rem 0}th,td{border-bottom:1px solid var(--line);padding:.2rem .6rem;text-align:right}th{font-weight:600}
th[scope=row]{text-align:left;font-weight:400;white-space:nowrap}.wide{overflow-x:auto}
pre{white-space:pre-wrap;border:1px solid var(--line);
padding:.6rem;font-size:13px}.missing{color:var(--dim)}
@media print{body{margin:0;max-width:none;font-size:11px}.wide{overflow:visible}h2{break-after:avoid}tr,svg,pre{break-inside:avoid}}
"""


def page(found: Findings) -> str:
    """Return the report as a page that needs nothing else."""
    return "".join(_page(found))


def _page(found: Findings) -> Iterator[str]:
    outcome, plan = found.outcome, found.plan
    geometry = found.scenario.layout.geometry
    sectors = ", ".join(f"{count} sectors of {size} bytes" for count, size in geometry.runs)
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    yield f"<title>{escape(found.title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(found.title)}</h1>"
    yield (
        f'<p class="dim">{sectors}, program unit {geometry.unit} bytes, erased value {geometry.erased_value:#04x}. '
        f"An update to 1.1.0 that is confirmed, then one to 1.2.0 that fails its test and is reverted; firmware of {found.size:,} bytes: "
        f"{len(found.steps):,} flash operations without a cut.</p>"
    )
    if outcome.failures:
        yield f'<p class="bad">{outcome.failures:,} of {outcome.states:,} distinct states fail.</p>'
    else:
        yield f'<p class="good">All of {outcome.states:,} distinct states hold.</p>'
    yield "<h2>Cases</h2>"
    sampled = (
        f" Of each level from the second on {plan.sample:,} cases were taken, seed {plan.seed}." if plan.sample else ""
    )
    yield f"<p>Of the cases that leave the flash in the same state, with the same expectations, the first is explored.{sampled}</p>"
    yield _table(
        "Cases by their number of cuts.", ("cuts", "cases", "of", "distinct states", "failures"), levels_table(found)
    )
    yield from _smallest(found)
    yield f"<h2>The flash over the update</h2>{drawing(found)}"
    yield "<h2>What was cut, and how</h2>"
    ways, rows = coverage_table(outcome)
    yield '<div class="wide" tabindex="0" role="region" aria-label="Coverage">'
    yield _table(
        "Cases by what was going on and how the operation was cut; failing states in brackets.",
        ("phase", "operation", *ways),
        [(phase, kind, *(_cell(row.get(way)) for way in ways)) for phase, kind, row in rows],
    )
    yield f"</div><h2>What a torn operation leaves</h2><pre>{escape((torn.__doc__ or '').strip())}</pre>"
    yield "<h2>What was remembered</h2><p>Followed once for the same content, and never where a sector reads unstably:</p><ul>"
    yield "".join(f"<li>{escape(text)}</li>" for text in REMEMBERED)
    yield "</ul></main></body></html>\n"


def _smallest(found: Findings) -> Iterator[str]:
    if found.smallest is None:
        return
    ids = ", ".join(map(escape, found.outcome.ids))
    yield f'<h2>The first case that fails</h2><p class="bad">{escape(found.smallest.id)}: {escape(found.smallest.problem)}</p>'
    told = "\n".join(found.smallest.told)
    yield f"<pre>{escape(found.smallest.command)}</pre><pre>{escape(told)}</pre>"
    yield f"<p>Failing cases, the first {len(found.outcome.ids)}: {ids}.</p>"


def _cell(found: tuple[int, int] | None) -> str:
    if found is None:
        return "–"
    return f"{found[0]:,} ({found[1]:,})" if found[1] else f"{found[0]:,}"


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
