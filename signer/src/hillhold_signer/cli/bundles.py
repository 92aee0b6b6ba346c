"""`hillhold bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.bundle import write_bundle
from hillhold_signer.cli.remote import HERE
from hillhold_signer.cli.terminal import PATH, edge, emit, json_option
from hillhold_verifier.times import show_time


@click.command(short_help="Write what devices need into one file.")
@click.argument("repo", type=HERE)
@click.argument("products", metavar="PRODUCT...", nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, required=True, metavar="NAME.hillhold", help="The file to write.")
@click.option("--hardware", multiple=True, metavar="ID", help="Only what runs on this hardware; repeat it.")
@click.option(
    "--from-root",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="The oldest root that a device may hold.",
)
@json_option
def bundle(
    repo: Path, products: tuple[str, ...], output: Path, hardware: tuple[str, ...], from_root: int, as_json: bool
) -> None:
    """Write what the devices of product lines need into one file, for a USB stick or a laptop without a network.

    \b
    Example:
      hillhold bundle REPO pump -o pump.hillhold
    """
    done = write_bundle(repo, products, output, hardware=hardware, from_root=from_root, now=edge().now())
    value = {
        "bundle": str(output),
        "size": done.size,
        "until": show_time(done.until),
        "files": [{"name": name, "size": size} for name, size in done.files.items()],
    }
    lines = [f"{size:>10}  {name}" for name, size in done.files.items()]
    lines.append(f"wrote {output}: {len(done.files)} files, {done.size} bytes; current until {show_time(done.until)}")
    emit(value, lines, as_json=as_json)
