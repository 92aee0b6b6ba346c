"""The report as one page that needs nothing else: no scripts, nothing from a network, light and dark, and on paper with everything open.

A policy in the page forbids a browser to load anything, whatever a campaign's texts try.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

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

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--paper:#fff;--line:#d0d7de;--soft:#f4f6f8;--bad:#b3261e;--good:#116329;
--warn:#7d4e00;--mark:#3f6fb5;--faint:#c4ccd4;--badsoft:#fdecea;--goodsoft:#e7f4ea;--warnsoft:#fdf3dc}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9da7b3;--paper:#0d1117;--line:#3d444d;--soft:#161b22;--bad:#ff8f86;
--good:#56d364;--warn:#e3b341;--mark:#6ea0e6;--faint:#4a535d;--badsoft:#3a1613;--goodsoft:#12261a;--warnsoft:#2e2410}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1100px;
margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}h1{font-size:1.7rem;line-height:1.2;margin:0 0 1rem}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;border-bottom:2px solid var(--line)}h3{font-size:1rem;margin:1.6rem 0 .3rem}p{margin:.4rem 0}
.dim{color:var(--dim)}.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}.warn{color:var(--warn);font-weight:600}
.notice{border:2px solid var(--line);border-left-width:10px;padding:.7rem 1rem;margin:.8rem 0;background:var(--soft)}
.notice strong{display:block;font-size:1.15rem}.notice.bad,.notice.good,.notice.warn{font-weight:400;color:var(--ink)}
.notice.bad{border-color:var(--bad);background:var(--badsoft)}.notice.bad strong{color:var(--bad)}
.notice.good{border-color:var(--good);background:var(--goodsoft)}.notice.good strong{color:var(--good)}
.notice.warn{border-color:var(--warn);background:var(--warnsoft)}.notice.warn strong{color:var(--warn)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92em}
caption{text-align:left;color:var(--dim);padding:.4rem 0 .2rem}th,td{border-bottom:1px solid var(--line);padding:.25rem .5rem;
text-align:left;vertical-align:top}thead th{overflow-wrap:normal;border-bottom:2px solid var(--line)}td.bad,td.good,td.warn{font-weight:600}
dl{display:grid;grid-template-columns:minmax(9rem,14rem) 1fr;margin:.6rem 0;border-top:1px solid var(--line)}
dt,dd{margin:0;padding:.25rem .5rem;border-bottom:1px solid var(--line)}dt{color:var(--dim)}
details{border:1px solid var(--line);margin:.4rem 0;padding:0 .8rem}summary{cursor:pointer;padding:.35rem 0}
pre{margin:.2rem 0;white-space:pre-wrap;background:var(--soft);border:1px solid var(--line);padding:.6rem;font-size:12.5px;line-height:1.4}
a{color:inherit}svg{max-width:100%;height:auto;display:block;margin:.3rem 0}svg text{font:11px system-ui,sans-serif;fill:var(--ink)}
.f-good{fill:var(--good)}.f-bad{fill:var(--bad)}.f-warn{fill:var(--warn)}.f-dim{fill:var(--dim)}.f-faint{fill:var(--faint)}
.f-mark{fill:var(--mark)}figure{margin:.6rem 0}figcaption{color:var(--dim)}
@media screen and (max-width:700px){table{min-width:44rem}dl{grid-template-columns:1fr}dt{border:0;padding-bottom:0}}
@page{size:A4;margin:16mm 14mm;@bottom-right{content:"page " counter(page) " of " counter(pages);font:9px sans-serif}}
@media print{:root{color-scheme:light;--ink:#000;--dim:#444;--paper:#fff;--line:#bbb;--soft:#f6f6f6;--bad:#a01010;--good:#0c5a22;
--warn:#6b4300;--mark:#3f6fb5;--faint:#c4ccd4;--badsoft:#fff;--goodsoft:#fff;--warnsoft:#fff}
body{margin:0;max-width:none;font-size:10.5px;padding:0}.wide{overflow:visible}h2,h3,summary,caption{break-after:avoid}
h2.fresh{break-before:page;margin-top:0}tr,svg,dt,dd,.notice{break-inside:avoid}pre{font-size:8.5px}
details::details-content{content-visibility:visible;block-size:auto}thead{display:table-header-group}}
"""


def page(blocks: Iterable[Block], title: str) -> str:
    """Return the page."""
    return "".join(_page(blocks, title))


def _page(blocks: Iterable[Block], title: str) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    yield '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
    yield f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
    for block in blocks:
        yield from _block(block)
    yield "</main></body></html>\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading():
            anchor = f' id="{escape(block.anchor)}"' if block.anchor else ""
            fresh = ' class="fresh"' if block.fresh else ""
            yield f"<h{block.level}{anchor}{fresh}>{_text(block.text)}</h{block.level}>\n"
        case Para():
            yield f"<p{_class(block.tone)}>{_text(block.text)}</p>\n"
        case Notice():
            yield f'<div class="notice {block.tone.value}" role="note"><strong>{_text(block.title)}</strong>{_text(block.text)}</div>\n'
        case Facts():
            pairs = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in block.rows)
            yield f"<dl>{pairs}</dl>\n"
        case Table():
            yield from _table(block)
        case Pre():
            told = "\n".join(map(escape, lines(block.text)))
            yield f"<figure><figcaption>{_text(block.title)}</figcaption><pre>{told}</pre></figure>\n"
        case Plot():
            yield from _plot(block.chart)
        case Fold():
            opened = " open" if block.open else ""
            yield f"<details{opened}><summary{_class(block.title.tone)}>{_text(block.title.text)}</summary>\n"
            for inner in block.blocks:
                yield from _block(inner)
            yield "</details>\n"


def _table(table: Table) -> Iterator[str]:
    label = escape(one_line(table.caption))
    yield f'<div class="wide" tabindex="0" role="group" aria-label="{label}"><table><caption>{label}</caption>'
    total = sum(table.shares)
    widths = "".join(f'<col style="width:{share / total * 100:.1f}%">' for share in table.shares)
    yield f"<colgroup>{widths}</colgroup>"
    heads = "".join(f'<th scope="col">{_text(head)}</th>' for head in table.heads)
    yield f"<thead><tr>{heads}</tr></thead><tbody>\n"
    for row in table.rows:
        yield f"<tr>{''.join(f'<td{_class(cell.tone)}>{_cell(cell)}</td>' for cell in row)}</tr>\n"
    yield "</tbody></table></div>\n"


def _cell(cell: Cell) -> str:
    return f'<a href="#{escape(cell.to)}">{_text(cell.text)}</a>' if cell.to else _text(cell.text)


def _plot(chart: Chart) -> Iterator[str]:
    yield f"<figure><figcaption>{_text(chart.title)}</figcaption>"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {chart.height:.0f}" width="{WIDTH * 1.3:.0f}" role="img">'
        f"<title>{_text(chart.title)}</title><desc>{_text(chart.told)}</desc>"
    )
    for shape in chart.shapes:
        if isinstance(shape, Box):
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
            yield f'<rect class="f-{shape.fill}" {place}/>'
        else:
            end = ' text-anchor="end"' if shape.end else ""
            yield f'<text x="{shape.x:.1f}" y="{shape.y:.1f}"{end}>{_text(shape.text)}</text>'
    yield "</svg></figure>\n"


def _class(tone: Tone) -> str:
    return f' class="{tone.value}"' if tone.value else ""


def _text(text: str) -> str:
    return escape(one_line(text))
