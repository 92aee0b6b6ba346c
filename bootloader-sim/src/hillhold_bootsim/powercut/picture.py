"""A picture of an update: the flash over the operations of the clean run, and where it was cut, as SVG.

Left to right the operations, top to bottom the sectors by partition: what each erased and programmed. Below, how many distinct states
cuts in each operation led to; above, what was going on. Its size is bounded, whatever the flash and the update: operations share
columns and sectors share rows where there are too many. Readable in light and dark, and without colours by its texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Final

from hillhold_bootsim.layout import Layout
from hillhold_bootsim.powercut.explore import Step
from hillhold_bootsim.powercut.places import Place, Places
from hillhold_bootsim.powercut.runner import Operations

LEFT, PLOT, RIGHT = 150, 930, 20
MAX_COLUMNS: Final = 2 * PLOT
MAX_ROWS: Final = 240
BANDS: Final = 420
"""Height of all rows together, about."""
STRIP: Final = 72
GAP: Final = 8
LETTER: Final = 6.2
"""Width of a letter, about."""
STYLE: Final = """
.hh-flash{--ink:#1b1f24;--dim:#57606a;--paper:#fff;--band:#f1f3f5;--line:#d0d7de;--erase:#b35900;--program:#0969da;--both:#5b3fa8;
--torn:#a0307a;--edge:#6e7781;--bad:#cf222e;font:11px system-ui,sans-serif}
@media (prefers-color-scheme:dark){.hh-flash{--ink:#e6edf3;--dim:#9da7b3;--paper:#0d1117;--band:#1b222b;--line:#3d444d;--erase:#f0a04b;
--program:#58a6ff;--both:#b8a1ff;--torn:#f778ba;--edge:#8b949e;--bad:#ff7b72}}
.hh-flash .paper{fill:var(--paper)}.hh-flash .band{fill:var(--band)}.hh-flash text{fill:var(--ink)}.hh-flash .dim{fill:var(--dim)}
.hh-flash .erase{fill:var(--erase)}.hh-flash .program{fill:var(--program)}.hh-flash .both{fill:var(--both)}.hh-flash .torn{fill:var(--torn)}
.hh-flash .edge{fill:var(--edge)}.hh-flash .bad{fill:var(--bad)}.hh-flash .line{stroke:var(--line);fill:none}
"""


@dataclass(frozen=True, slots=True)
class _Band:
    """A partition as it is drawn: its sectors that are touched, and those before them, in rows from `top` on."""

    place: Place
    top: float
    rows: int
    sectors: int

    def row(self, sector: int) -> int:
        return (sector - self.place.first) * self.rows // self.sectors


def picture(layout: Layout, steps: Sequence[Step], found: Operations, title: str) -> str:
    """Return the SVG.

    Args:
        layout: of the board.
        steps: the clean run.
        found: what cuts in its operations led to.
        title: what it is a picture of.
    """
    drawn = _Picture(layout, steps, found)
    return "".join(drawn.svg(title))


class _Picture:
    def __init__(self, layout: Layout, steps: Sequence[Step], found: Operations) -> None:
        self._layout, self._steps, self._found = layout, steps, found
        self._columns = min(len(steps), MAX_COLUMNS)
        self._width = PLOT / self._columns
        touched = sorted({step.operation.sector for step in steps})
        used = [
            (place, max(inside) - place.first + 1)
            for place in Places(layout).all
            if (inside := [sector for sector in touched if place.first <= sector < place.end])
        ]
        rows = min(MAX_ROWS, sum(count for _, count in used))
        self._height = max(1.5, min(12.0, BANDS / rows))
        total = sum(count for _, count in used)
        self._bands: list[_Band] = []
        top = 56.0
        for place, count in used:
            shown = max(1, count * rows // total)
            self._bands.append(_Band(place, top, shown, count))
            top += max(shown * self._height, 12.0) + GAP
        self._bottom = top

    def svg(self, title: str) -> Iterator[str]:
        """The picture, piece by piece."""
        width, height = LEFT + PLOT + RIGHT, self._bottom + STRIP + 76
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="hh-flash" viewBox="0 0 {width} {height:.0f}" width="{width}" '
            f'style="max-width:100%;height:auto" role="img" aria-labelledby="hh-flash-title hh-flash-desc">'
            f'<title id="hh-flash-title">{escape(title)}</title><desc id="hh-flash-desc">{escape(self._description())}</desc>'
            f"<style>{STYLE}</style>" + _rect("paper", 0, 0, width, height)
        )
        yield from self._phases()
        for band in self._bands:
            yield from self._band(band)
        yield from self._strip()
        yield from self._legend(height - 12)
        yield "</svg>\n"

    def _description(self) -> str:
        found, count = self._found, len(self._steps)
        erased = sum(step.operation.kind == "erase" for step in self._steps)
        failed = [str(number) for number, bad in enumerate(found.failed) if bad]
        bad = f"{len(failed)} operations in which a cut fails: {', '.join(failed[:20])}" if failed else "no cut fails"
        return (
            f"{count} operations, {erased} erases and {count - erased} programs, on "
            f"{', '.join(band.place.name for band in self._bands)}. Cuts in them lead to {sum(found.edge)} states before and after, "
            f"and to {sum(found.torn)} torn within an operation; {bad}."
        )

    def _column(self, number: int) -> int:
        return number * self._columns // len(self._steps)

    def _x(self, column: float) -> float:
        return LEFT + column * self._width

    def _phases(self) -> Iterator[str]:
        yield _text(LEFT, 16, "what goes on", "dim")
        at = 0
        for number, (phase, steps) in enumerate(groupby(step.phase for step in self._steps)):
            count = len(list(steps))
            left, right = self._x(self._column(at)), self._x(self._column(at + count - 1) + 1)
            name = escape(f"{phase}: operations {at} to {at + count - 1}")
            yield f"<g><title>{name}</title>"
            yield _rect("edge" if number % 2 else "band", left, 24, max(right - left, 0.5), 6)
            if len(phase) * LETTER < right - left:
                yield _text(left + 2, 42, phase, "dim")
            yield "</g>"
            at += count

    def _band(self, band: _Band) -> Iterator[str]:
        height = max(band.rows * self._height, 12.0)
        place, geometry = band.place, self._layout.geometry
        yield _rect("band", LEFT, band.top, PLOT, height)
        size = geometry.sizes[place.first]
        shown = (
            f"{band.sectors} of {place.end - place.first} sectors" if place.end - place.first > 1 else f"{size} bytes"
        )
        yield f"<g><title>{escape(f'{place.name}, from {geometry.starts[place.first]:#x}: {shown} are touched')}</title>"
        yield _text(LEFT - 6, band.top + 10, place.name, end=True)
        if height >= 24:
            yield _text(LEFT - 6, band.top + 22, f"{shown}", "dim", end=True)
        yield "</g>"
        cells: dict[tuple[int, int], set[str]] = defaultdict(set)
        for number, step in enumerate(self._steps):
            sector = step.operation.sector
            if place.first <= sector < place.end:
                cells[band.row(sector), self._column(number)].add(step.operation.kind)
        by_row: dict[tuple[int, str], list[int]] = defaultdict(list)
        for (row, column), kinds in cells.items():
            by_row[row, "both" if len(kinds) > 1 else next(iter(kinds))].append(column)
        tall = height / band.rows
        for (row, kind), columns in sorted(by_row.items()):
            for first, last in _runs(sorted(columns)):
                yield _rect(kind, self._x(first), band.top + row * tall, (last - first + 1) * self._width, tall)

    def _strip(self) -> Iterator[str]:
        """States by operation: torn on edge; and marks where a cut fails."""
        edge, torn, bad = [0] * self._columns, [0] * self._columns, set()
        for number in range(len(self._steps)):
            column = self._column(number)
            edge[column] += self._found.edge[number]
            torn[column] += self._found.torn[number]
            if self._found.failed[number]:
                bad.add(column)
        top, floor = self._bottom + 6, self._bottom + 6 + STRIP
        most = max(1, *(first + second for first, second in zip(edge, torn, strict=True)))
        per = (
            ""
            if self._columns == len(self._steps)
            else f" (columns of {len(self._steps) / self._columns:.1f} operations)"
        )
        yield _text(LEFT - 6, top + 10, "distinct states", end=True)
        yield _text(LEFT - 6, top + 22, f"up to {most}", "dim", end=True)
        for column, (first, second) in enumerate(zip(edge, torn, strict=True)):
            low, high = first / most * STRIP, second / most * STRIP
            yield _rect("edge", self._x(column), floor - low, self._width, low) if low else ""
            yield _rect("torn", self._x(column), floor - low - high, self._width, high) if high else ""
        for first, last in _runs(sorted(bad)):
            yield _rect("bad", self._x(first), top - 5, (last - first + 1) * self._width, 4)
            middle = self._x((first + last + 1) / 2)
            yield f'<path class="bad" d="M{middle - 4:.1f} {top - 11:.1f}h8l-4 6z"/>'
        yield f'<path class="line" d="M{LEFT} {floor:.1f}h{PLOT}"/>'
        step = next(
            n for power in range(9) for n in (10**power, 2 * 10**power, 5 * 10**power) if len(self._steps) / n <= 12
        )
        for number in range(0, len(self._steps), step):
            yield f'<path class="line" d="M{self._x(self._column(number)):.1f} {floor:.1f}v4"/>'
            yield _text(self._x(self._column(number)) - 3, floor + 15, str(number), "dim")
        yield _text(LEFT + PLOT, floor + 28, f"operation{per}", "dim", end=True)

    def _legend(self, y: float) -> Iterator[str]:
        kinds: list[tuple[str, str]] = [("erase", "erased"), ("program", "programmed"), ("both", "both")]
        kinds += [("edge", "states before and after"), ("torn", "states torn within"), ("bad", "a cut fails here")]
        x = float(LEFT)
        for kind, text in kinds:
            yield _rect(kind, x, y - 9, 10, 10)
            yield _text(x + 14, y, text)
            x += 34 + len(text) * LETTER


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of what follows one another."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str = "", *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(text)}</text>'
