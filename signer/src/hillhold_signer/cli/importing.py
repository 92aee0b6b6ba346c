"""`hillhold import`: all images of an existing product into its line's draft."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hillhold_signer.cli.remote import REPOSITORY, OnRepository
from hillhold_signer.cli.terminal import FILE, FOLDER, REFUSED, edge, emit, json_option
from hillhold_signer.errors import ImportRefused
from hillhold_signer.importing import Report, import_releases
from hillhold_signer.places import Place
from hillhold_signer.plain import plain
from hillhold_signer.repository import Repository
from hillhold_signer.storage import read_file
from hillhold_signer.table import MAX_TABLE

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar


@click.command("import", cls=OnRepository, short_help="Put an existing product's releases into a draft.")
@click.argument("repo", type=REPOSITORY)
@click.argument("product")
@click.argument("folder", type=FOLDER)
@click.option("--csv", "table", type=FILE, required=True, help="The table; columns in its first line.")
@click.option("--dry-run", is_flag=True, help="Check every row, and write nothing.")
@json_option
@click.pass_context
def import_command(
    context: click.Context, repo: Place, product: str, folder: Path, table: Path, dry_run: bool, as_json: bool
) -> None:
    """Put the releases of an existing product into the draft of PRODUCT's line: images in FOLDER, as a table names them.

    \b
    Columns: file and version, which are required; security_counter, name,
    hardware (ids with spaces between), component, kind, withdrawn (a reason).
    What a cell leaves empty is as `hillhold add` takes it. The image has the
    last word: version and counter must be those that it states.

    Nothing is written unless every row is right. Run it again after an interruption: what was copied is not copied again.

    \b
    Example:
      hillhold import REPO pump builds/ --csv releases.csv --dry-run
    """
    data = read_file(table, MAX_TABLE)
    try:
        with _progress(show=not as_json) as report:
            done = import_releases(
                Repository(repo), product, folder, data, edge().now(), dry_run=dry_run, report=report
            )
    except ImportRefused as refused:
        rows = [{"line": line, "reason": why} for line, why in refused.rows]
        if as_json:
            click.echo(json.dumps({"error": str(refused), "hint": refused.hint, "exit": REFUSED, "rows": rows}))
            context.exit(REFUSED)
        for line, why in refused.rows:
            click.echo(plain(f"{table.name}:{line}: {why}"), err=True)
        raise
    value = {
        "product": product,
        "added": [{"path": entry.path, "sha256": entry.hashes["sha256"]} for entry in done.added],
        "kept": done.kept,
        "draft": done.version,
        "dry_run": dry_run,
    }
    what = "would add" if dry_run else "added"
    lines = [f"{what} {len(done.added)} releases of {product}; {done.kept} were there already"]
    if done.added and not dry_run:
        lines.append(f"next: the line's keys sign version {done.version} of {product} (`hillhold sign`)")
    emit(value, lines, as_json=as_json)


@contextmanager
def _progress(*, show: bool) -> Iterator[Report]:
    """Show a bar on standard error for each step, where that is a terminal."""
    stream = sys.stderr
    with ExitStack() as stack:
        bars: dict[str, ProgressBar[int]] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in bars:
                stack.close()
                hidden = not (show and stream.isatty())
                bar = click.progressbar(length=total, label=step, file=stream, show_pos=True, hidden=hidden)
                bars[step] = stack.enter_context(bar)
            bars[step].update(done - bars[step].pos)

        yield report
