"""What a report is made of, before it is HTML or PDF: blocks of plain text, which each of the two escapes in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from hillhold_bootsim.lab.report.charts import Chart


class Tone(Enum):
    """How something is meant. Never by colour alone: the words say it, too."""

    PLAIN = ""
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    DIM = "dim"


@dataclass(frozen=True, slots=True)
class Cell:
    """Text in a table. `to`: the anchor of a heading that it leads to, or ""."""

    text: str
    tone: Tone = Tone.PLAIN
    to: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading. `level`: 1 to 3; `anchor`: to be led to, or ""; `fresh`: it begins a page."""

    level: int
    text: str
    anchor: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Para:
    """A paragraph."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Notice:
    """A box that is not overlooked."""

    title: str
    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they are."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `shares`: of the width, by column."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Pre:
    """Lines as they are, under a title."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing."""

    chart: Chart


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that a reader opens; on paper they are open."""

    title: Cell
    blocks: Sequence[Block]
    open: bool = field(default=False)


Block = Heading | Para | Notice | Facts | Table | Pre | Plot | Fold
