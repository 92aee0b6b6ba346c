"""`hillhold-device verify SOURCE --root FILE`: an independent verdict, offline, for who trusts nothing but a root file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Final

from hillhold_verifier.audit import Level, audit
from hillhold_verifier.cli.show import Progress, Result
from hillhold_verifier.cli.verdict import report_lines, report_values
from hillhold_verifier.errors import MetadataError, OperationalError
from hillhold_verifier.metadata import ROOT, max_bytes, parse_time
from hillhold_verifier.sources import open_source

TEXT: Final = "judge a repository without a device: every role, release, patch and file, from one root file"
_CODES: Final = {Level.GOOD: 0, Level.WARNING: 0, Level.REFUSED: 1, Level.UNREAD: 3}


def add_verify(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the parser's `commands`."""
    example = "example: hillhold-device verify repo --root 1.root.json"
    found = commands.add_parser("verify", help=TEXT, description=TEXT, epilog=example)
    found.add_argument(
        "source", metavar="SOURCE", help="a published repository: its folder, a bundle of it, or its URL"
    )
    found.add_argument("--root", type=Path, required=True, metavar="FILE", help="the root that is trusted")
    found.add_argument(
        "--product",
        action="append",
        default=[],
        metavar="NAME",
        help="this line only; may be given again (default: all)",
    )
    found.add_argument("--at", type=_moment, metavar="DATE", help="judge at YYYY-MM-DDTHH:MM:SSZ (default: now)")
    found.add_argument("--no-files", action="store_true", help="judge metadata only")
    found.add_argument("--json", action="store_true", help="print one JSON object")
    found.set_defaults(run=_verify)


def _moment(text: str) -> int:
    try:
        return parse_time(text)
    except MetadataError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _verify(options: argparse.Namespace) -> Result:
    try:
        with options.root.open("rb") as file:
            root = file.read(max_bytes(ROOT) + 1)
    except OSError as error:
        raise OperationalError(f"root {options.root}: {error.strerror}") from None
    source = open_source(options.source)
    at = int(time.time()) if options.at is None else options.at
    with Progress(sys.stderr, quiet=options.json) as progress:
        report = audit(source, root, at, products=options.product, files=not options.no_files, report=progress)
    return report_values(report), report_lines(report), _CODES[report.verdict]
