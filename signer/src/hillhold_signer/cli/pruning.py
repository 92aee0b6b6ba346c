"""`hillhold prune`."""

from __future__ import annotations

import click

from hillhold_signer.cli.remote import REPOSITORY, OnRepository, service_of
from hillhold_signer.cli.terminal import edge, emit, json_option
from hillhold_signer.places import Place
from hillhold_signer.prune import KEEP, prune_files, prune_releases
from hillhold_signer.repository import Repository


@click.command(cls=OnRepository, short_help="Remove what no client needs any more.")
@click.argument("repo", type=REPOSITORY)
@click.argument("products", nargs=-1, metavar="[PRODUCT]...")
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", help="Releases that stay for each component and hardware."
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@json_option
def prune(repo: Place, products: tuple[str, ...], keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove published files that no client needs any more; with PRODUCT and --keep, draft the line without its oldest releases.

    \b
    Examples:
      hillhold prune REPO --dry-run
      hillhold prune REPO pump --keep 5
    """
    if bool(products) is not (keep is not None):
        raise click.UsageError("PRODUCT and --keep N go together; without both, only files are removed")
    if keep is None and service_of(repo) is not None:
        raise click.UsageError(
            "the files of a service are pruned on its own computer; PRODUCT and --keep N draft a line"
        )
    repository, now = Repository(repo), edge().now()
    if keep is not None:
        gone = {name: prune_releases(repository, name, keep, now, dry_run=dry_run) for name in products}
        lines = [f"- {path}" for paths in gone.values() for path in paths] or ["nothing to prune"]
        drafted = [name for name, paths in gone.items() if paths and not dry_run]
        lines += [f"drafted: {name} without them; its keys sign it (`hillhold sign`)" for name in drafted]
        lines += ["dry run: nothing was changed"] if dry_run else []
        emit({"releases": gone, "dry_run": dry_run}, lines, as_json=as_json)
        return
    done = prune_files(repository, now, dry_run=dry_run)
    names = list(done.files)
    would = "would remove" if dry_run else "removed"
    lines = [f"- {name}" for name in names]
    lines.append(f"{would} {len(names)} files, {done.size} bytes; what the last {KEEP} snapshots lead to stays")
    emit({"files": names, "size": done.size, "dry_run": dry_run}, lines, as_json=as_json)
