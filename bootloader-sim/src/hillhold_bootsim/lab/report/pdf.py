"""The report as PDF, by ReportLab (BSD), which the extra `report` brings: vector plots, page x of y, the same bytes for the same campaign.

Nothing of a campaign's texts is markup: they are escaped, and letters that the embedded font lacks are written as escapes (the page has
them as they are). The document has no scripts, forms or links to anywhere else. Its date is the campaign's end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from hillhold_bootsim.lab.report.charts import WIDTH, Box, Chart
from hillhold_bootsim.lab.report.document import (
    Block,
    Cell,
    Facts,
    Fold,
    Heading,
    Notice,
    Para,
    Plot,
    Pre,
    Table,
    Tone,
)
from hillhold_bootsim.lab.report.text import lines, one_line
from hillhold_signer.errors import ToolError

MAX_CELL: Final = 1_500
"""Characters of a cell: a row of a table has to fit on a page. The page has the rest, and says so here."""
TALL: Final = 400
"""Characters of a cell from which on a row may be taller than a page, and is split."""
MAX_PARA: Final = 20_000
MAX_LINES: Final = 400
"""Lines of one piece of evidence; the page has all."""
COLUMNS: Final = 96
"""Letters of a line of evidence; longer ones go on in the next line."""
MARGIN: Final = 42.0
"""Points."""
PADDING: Final = 6.0
"""Of ReportLab's frame, points."""
FOOT: Final = 90
"""Characters of a title or number at the foot of a page."""
INK: Final = {
    Tone.PLAIN: "#111418",
    Tone.GOOD: "#0c5a22",
    Tone.BAD: "#a01010",
    Tone.WARN: "#6b4300",
    Tone.DIM: "#50585f",
}
SOFT: Final = {Tone.GOOD: "#e7f4ea", Tone.BAD: "#fdecea", Tone.WARN: "#fdf3dc"}
FILLS: Final = {
    "good": "#1d7a38",
    "bad": "#b3261e",
    "warn": "#c48a00",
    "dim": "#6b747c",
    "faint": "#c4ccd4",
    "mark": "#3f6fb5",
}
_REPLACED: Final = {"→": "->", "←": "<-", "≥": ">=", "≤": "<=", "−": "-"}
_SANS, _BOLD, _MONO = "HillholdSans", "HillholdSans-Bold", "Courier"


def pdf(blocks: Iterable[Block], title: str, number: str, ended: int) -> bytes:
    """Return the document.

    Args:
        title, number: of the report, for the foot of each page.
        ended: of the campaign, Unix seconds: the document's date.

    Raises:
        ToolError: ReportLab is not installed.
    """
    try:
        from reportlab.lib.pagesizes import A4
        from reportlab.platypus import SimpleDocTemplate
    except ImportError as error:
        hint = "pip install 'hillhold-bootsim[report]', or leave the PDF out with --no-pdf"
        raise ToolError(f"the PDF needs a library that is not installed: {error}", hint=hint) from error
    _fonts()
    out = BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN + 12,
        title=_sans(title)[:FOOT],
        subject=_sans(number)[:FOOT],
        author="",
        creator="hillhold-lab",
        lang="en",
        initialFontName=_SANS,
    )
    flow = [flowable for block in blocks for flowable in _flow(block, document.width - 2 * PADDING)]
    document.build(flow, canvasmaker=_canvas(_sans(title)[:FOOT], _sans(number)[:FOOT], ended))
    return out.getvalue()


# --- pages ------------------------------------------------------------------------------------------------------------


def _canvas(title: str, number: str, ended: int) -> Any:
    """The class of a canvas that keeps all pages until it knows how many there are, and takes no date from the clock."""
    from reportlab.lib.colors import HexColor
    from reportlab.pdfgen.canvas import Canvas

    class Numbered(Canvas):  # type: ignore[misc]  # ReportLab has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "invariant": 1, "pageCompression": 1})
            # Even "invariant" takes SOURCE_DATE_EPOCH from the environment, and its date and identifier with it.
            when = datetime.fromtimestamp(ended, UTC)
            stamp = self._doc._timeStamp
            stamp.t, stamp.lt, stamp.YMDhms, stamp.dhh, stamp.dmm = (
                float(ended),
                when.timetuple(),
                when.timetuple()[:6],
                0,
                0,
            )
            self._doc.signature = hashlib.md5(usedforsecurity=False)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802 - ReportLab's name
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for place, page in enumerate(self._pages, 1):
                self.__dict__.update(page)
                self.setFont(_SANS, 7.5)
                self.setFillColor(HexColor(INK[Tone.DIM]))
                self.drawString(MARGIN + PADDING, 26, f"{number or 'no report number'} · {title}")
                self.drawRightString(self._pagesize[0] - MARGIN - PADDING, 26, f"page {place} of {len(self._pages)}")
                self._doc.updateSignature("\n".join(self._code))  # the document's identifier follows from its content
                super().showPage()
            super().save()

    return Numbered


@lru_cache(maxsize=1)
def _fonts() -> frozenset[int]:
    """Register the fonts that ReportLab ships, by their paths, and return the letters that they have."""
    import reportlab
    from reportlab.pdfbase.pdfmetrics import registerFont, registerFontFamily
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(reportlab.__file__).parent / "fonts"
    regular = TTFont(_SANS, str(folder / "Vera.ttf"))
    registerFont(regular)
    registerFont(TTFont(_BOLD, str(folder / "VeraBd.ttf")))
    registerFontFamily(_SANS, normal=_SANS, bold=_BOLD, italic=_SANS, boldItalic=_BOLD)
    return frozenset(regular.face.charToGlyph)


def _sans(text: str) -> str:
    """A line in letters that the font has."""
    found = _fonts()
    return "".join(char if ord(char) in found else _instead(char) for char in one_line(text))


def _mono(text: str) -> list[str]:
    """A line of evidence in letters that the fixed font has, in pieces that fit."""
    told = "".join(char if _in_courier(char) else _instead(char) for char in text)
    return [told[at : at + COLUMNS] for at in range(0, len(told), COLUMNS)] or [""]


def _in_courier(char: str) -> bool:
    try:
        char.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _instead(char: str) -> str:
    return _REPLACED.get(char) or char.encode("unicode_escape").decode()


# --- blocks -----------------------------------------------------------------------------------------------------------


def _flow(block: Block, width: float) -> list[Any]:
    from reportlab.platypus import CondPageBreak, PageBreak, Spacer

    match block:
        case Heading():
            size = {1: 17.0, 2: 13.0, 3: 10.0}[block.level]
            before = [PageBreak()] if block.fresh else [Spacer(1, size * 0.6), CondPageBreak(90)]
            name = f'<a name="{escape(block.anchor)}"/>' if block.anchor else ""
            heading = _paragraph(block.text, size=size, bold=True, prefix=name)
            heading.style.spaceAfter, heading.keepWithNext = size * 0.35, True
            return [*(before if block.level > 1 else []), heading]
        case Para():
            return [_paragraph(block.text, tone=block.tone, after=4)]
        case Notice():
            return [_notice(block, width), Spacer(1, 6)]
        case Facts():
            return [_facts(block, width), Spacer(1, 6)] if block.rows else []
        case Table():
            caption = _paragraph(block.caption, tone=Tone.DIM, after=2)
            return [CondPageBreak(70), caption, _table(block, width), Spacer(1, 8)]
        case Pre():
            title = _paragraph(block.title, tone=Tone.DIM, after=1)
            title.keepWithNext = True
            return [title, _pre(block.text), Spacer(1, 5)]
        case Plot():
            return [_paragraph(block.chart.title, tone=Tone.DIM, after=3), _drawing(block.chart, width), Spacer(1, 10)]
        case Fold():
            title = _paragraph(block.title.text, tone=block.title.tone, bold=True, after=2)
            title.keepWithNext = True
            return [Spacer(1, 5), title, *(flowable for inner in block.blocks for flowable in _flow(inner, width))]


def _paragraph(
    text: str,
    *,
    tone: Tone = Tone.PLAIN,
    size: float = 8.5,
    bold: bool = False,
    after: float = 0,
    prefix: str = "",
    to: str = "",
) -> Any:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    told = escape(_sans(_within(text, MAX_PARA)))
    if to:
        told = f'<a href="#{escape(to)}">{told}</a>'
    style = ParagraphStyle(
        "hillhold",
        fontName=_BOLD if bold else _SANS,
        fontSize=size,
        leading=size * 1.35,
        textColor=HexColor(INK[tone]),
        spaceAfter=after,
        wordWrap="CJK" if max(map(len, told.split(" "))) > 60 else None,  # breaks within words, where one is very long
    )
    return Paragraph(prefix + told, style)


def _within(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters are in report.html)"


def _notice(notice: Notice, width: float) -> Any:
    from reportlab.lib.colors import HexColor
    from reportlab.platypus import Table as Grid

    ink = HexColor(INK[notice.tone])
    title = _paragraph(_within(notice.title, MAX_CELL), tone=notice.tone, size=12, bold=True, after=3)
    grid = Grid([["", [title, _paragraph(_within(notice.text, MAX_CELL))]]], colWidths=[7, width - 7])
    grid.setStyle(
        [
            ("BACKGROUND", (1, 0), (1, 0), HexColor(SOFT.get(notice.tone, "#f4f6f8"))),
            ("BACKGROUND", (0, 0), (0, 0), ink),
            ("BOX", (0, 0), (-1, -1), 1, ink),
            ("TOPPADDING", (0, 0), (-1, -1), 6),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 7),
        ]
    )
    return grid


def _facts(facts: Facts, width: float) -> Any:
    rows = [
        [_paragraph(_within(name, MAX_CELL), tone=Tone.DIM), _paragraph(_within(value, MAX_CELL))]
        for name, value in facts.rows
    ]
    tall = any(len(text) > TALL for row in facts.rows for text in row)
    return _grid(rows, [width * 0.22, width * 0.78], heads=False, tall=tall)


def _table(table: Table, width: float) -> Any:
    total = sum(table.shares)
    heads = [_paragraph(head, bold=True, size=7.5) for head in table.heads]
    rows = [[_in_cell(cell) for cell in row] for row in table.rows]
    tall = any(len(cell.text) > TALL for row in table.rows for cell in row)
    return _grid([heads, *rows], [share / total * width for share in table.shares], heads=True, tall=tall)


def _in_cell(cell: Cell) -> Any:
    bold = cell.tone in (Tone.GOOD, Tone.BAD, Tone.WARN)
    return _paragraph(_within(cell.text, MAX_CELL), tone=cell.tone, size=7.5, bold=bold, to=cell.to)


def _grid(rows: list[list[Any]], widths: Sequence[float], *, heads: bool, tall: bool) -> Any:
    from reportlab.lib.colors import HexColor
    from reportlab.platypus import LongTable

    grid = LongTable(rows, colWidths=widths, repeatRows=1 if heads else 0, splitInRow=int(tall))
    line = HexColor("#c3c9d0")
    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, line),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ]
    if heads:
        style.append(("LINEBELOW", (0, 0), (-1, 0), 1, HexColor("#6b747c")))
    else:
        style.append(("LINEABOVE", (0, 0), (-1, 0), 0.4, line))
    grid.setStyle(style)
    return grid


def _pre(text: str) -> Any:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Preformatted

    told = [piece for line in lines(text) for piece in _mono(line)]
    if len(told) > MAX_LINES:
        told = [*told[:MAX_LINES], f"({len(told) - MAX_LINES} more lines are in report.html)"]
    style = ParagraphStyle(
        "hillhold-pre",
        fontName=_MONO,
        fontSize=7.4,
        leading=9,
        backColor=HexColor("#f4f6f8"),
        borderPadding=3,
        leftIndent=4,
    )
    return Preformatted("\n".join(told), style)


def _drawing(chart: Chart, width: float) -> Any:
    from reportlab.graphics.shapes import Drawing, Rect, String
    from reportlab.lib.colors import HexColor

    scale = width / WIDTH
    drawing = Drawing(width, chart.height * scale)
    for shape in chart.shapes:
        if isinstance(shape, Box):
            y = (chart.height - shape.y - shape.height) * scale
            fill = HexColor(FILLS[shape.fill])
            drawing.add(
                Rect(shape.x * scale, y, shape.width * scale, shape.height * scale, fillColor=fill, strokeColor=None)
            )
        else:
            y = (chart.height - shape.y) * scale
            anchor = "end" if shape.end else "start"
            drawing.add(String(shape.x * scale, y, _sans(shape.text), fontName=_SANS, fontSize=7, textAnchor=anchor))
    return drawing
