"""An independent verdict on a repository, for somebody who trusts nothing but a root: all of it, and everything that is wrong.

`audit` judges the chain by the very steps that a fresh device takes, so that both agree; it goes on after a refusal wherever something is
left to judge, and looks at every product line and every target file. It reads no clock, and of a source no more than the limits of
metadata and the signed lengths allow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hillhold_verifier.audit.chain import Chain
from hillhold_verifier.audit.files import TargetFiles
from hillhold_verifier.audit.line import Lines
from hillhold_verifier.audit.report import Finding, Level, LineReport, Report
from hillhold_verifier.conversation import Progress
from hillhold_verifier.sources import Source

__all__ = ["Finding", "Level", "LineReport", "Report", "audit"]


def audit(
    source: Source,
    root: bytes,
    at: int,
    *,
    products: Sequence[str] = (),
    files: bool = True,
    report: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Judge what a source holds.

    Args:
        root: the bytes of the one root that is trusted.
        at: the moment to judge at, in Unix seconds.
        products: only these lines; all, where none is named.
        files: look at target files, too.
        report: is told of each step.

    Raises:
        MetadataError: `root` is malformed. What is wrong with the source is in the report.
    """
    chain = Chain(source, root, at, report)
    lines = Lines(chain, products, TargetFiles(source, report) if files else None)
    judged = tuple(lines.judge(product) for product in lines.products)
    chain.stale(within_grace=any(line.accepted for line in judged))
    timestamp, snapshot, targets = (entry.report() for entry in chain.entries)
    issued = chain.timestamp.signed.issued if chain.timestamp else 0
    roots = tuple(entry.report() for entry in chain.roots)
    return Report(at, chain.now, issued, roots, timestamp, snapshot, targets, judged, files)
