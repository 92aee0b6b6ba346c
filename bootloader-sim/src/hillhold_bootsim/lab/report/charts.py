"""Plots as shapes, which HTML draws as SVG and PDF as vectors: bars of cases by group, and bars of a figure by case.

What a bar shows also stands beside it as a number, so that nothing depends on colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Final

WIDTH: Final = 700.0
LEFT: Final = 250.0
"""Where bars begin."""
RIGHT: Final = 540.0
"""Where the longest bar ends; its numbers follow."""
ROW: Final = 18.0
BAR: Final = 12.0
MAX_ROWS: Final = 40
DWARFED: Final = 20.0
"""How many times the median the longest bar may be on a linear scale."""
LETTERS: Final = 44
"""Of a name that is longer, the rest is left out; tables have it whole."""


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle. `fill`: "good", "bad", "warn", "dim", "faint" or "mark"."""

    x: float
    y: float
    width: float
    height: float
    fill: str


@dataclass(frozen=True, slots=True)
class Word:
    """A line of text, whose baseline is at `y`. `end`: it ends at `x`, and does not begin there."""

    x: float
    y: float
    text: str
    end: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, `WIDTH` wide, with y from the top down.

    Attributes:
        title: what it shows.
        told: the same in words, for whoever cannot see it.
    """

    title: str
    told: str
    height: float
    shapes: tuple[Box | Word, ...]


def stacked(title: str, rows: Mapping[str, Mapping[str, int]], fills: Mapping[str, str]) -> Chart:
    """Return a bar for each row, made of parts.

    Args:
        rows: by name, the counts by part.
        fills: of each part, in order.
    """
    most = max((sum(parts.values()) for parts in rows.values()), default=1) or 1
    shapes: list[Box | Word] = []
    told = []
    x = LEFT
    for part, fill in fills.items():
        shapes += [Box(x, 2, 9, 9, fill), Word(x + 13, 10, part)]
        x += 28 + 6.0 * len(part)
    for number, (name, parts) in enumerate(rows.items()):
        top = 26 + number * ROW
        shapes.append(Word(LEFT - 8, top + 10, _short(name), end=True))
        x = LEFT
        for part, fill in fills.items():
            width = parts.get(part, 0) / most * (RIGHT - LEFT)
            if width:
                shapes.append(Box(x, top, width, BAR, fill))
                x += width
        counts = ", ".join(f"{parts[part]} {part}" for part in fills if parts.get(part))
        shapes.append(Word(x + 6, top + 10, counts))
        told.append(f"{name}: {counts}")
    return Chart(title, "; ".join(told), 30 + len(rows) * ROW, tuple(shapes))


def bars(title: str, rows: Sequence[tuple[str, float]], unit: str) -> Chart:
    """Return a bar for each row, the longest first, at most `MAX_ROWS` of them; on a logarithmic scale where one would dwarf the others.

    Args:
        rows: name and value, 0 or more.
        unit: of the values.
    """
    shown = sorted(rows, key=lambda row: (-row[1], row[0]))[:MAX_ROWS]
    positive = [value for _, value in shown if value > 0]
    most = max(positive, default=1.0)
    dwarfed = bool(positive) and most > DWARFED * median(positive)
    low = min(positive, default=1.0) / 2
    notes = [f"the longest {MAX_ROWS} of {len(rows)}"] if len(rows) > len(shown) else []
    notes += ["logarithmic scale"] if dwarfed else []
    shapes: list[Box | Word] = []
    for number, (name, value) in enumerate(shown):
        top = 4 + number * ROW
        part = (log(value / low) / log(most / low) if dwarfed else value / most) if value > 0 else 0.0
        width = part * (RIGHT - LEFT)
        shapes.append(Word(LEFT - 8, top + 10, _short(name), end=True))
        shapes.append(Box(LEFT, top, max(width, 0.5), BAR, "mark"))
        shapes.append(Word(LEFT + width + 6, top + 10, f"{value:,.6g} {unit}"))
    told = f"{title} ({', '.join(notes)})" if notes else title
    return Chart(told, "; ".join(_told(shown, unit)), 8 + len(shown) * ROW, tuple(shapes))


def _told(rows: Sequence[tuple[str, float]], unit: str) -> Iterator[str]:
    for name, value in rows:
        yield f"{name}: {value:,.6g} {unit}"


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
