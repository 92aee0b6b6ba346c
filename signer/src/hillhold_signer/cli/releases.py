"""`hillhold add`: put an image into its line's draft."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.adding import add_release
from hillhold_signer.cli.terminal import FILE, FOLDER, edge, emit, json_option
from hillhold_signer.releases import KINDS, MAX_IMAGE, Wish
from hillhold_signer.repository import Repository
from hillhold_signer.storage import read_file
from hillhold_verifier.release import DEFAULT_COMPONENT


@click.command()
@click.argument("repo", type=FOLDER)
@click.argument("product")
@click.argument("image", type=FILE)
@click.option("--file-name", help="Name in the repository; by default the file's own, in lower case.")
@click.option("--kind", type=click.Choice(KINDS), default="feature", show_default=True, help="What the release is for.")
@click.option(
    "--hardware", multiple=True, metavar="ID", help="Who may run it; repeat it. By default the line's only one."
)
@click.option("--component", default=DEFAULT_COMPONENT, show_default=True, help="Which of the device's images it is.")
@click.option(
    "--patch-from", type=click.Choice(["auto", "none"]), default="auto", show_default=True, help="Make patches?"
)
@click.option("--allow-lower", is_flag=True, help="Make a downgrade, to show that devices refuse it.")
@json_option
def add(
    repo: Path,
    product: str,
    image: Path,
    file_name: str | None,
    kind: str,
    hardware: tuple[str, ...],
    component: str,
    patch_from: str,
    allow_lower: bool,
    as_json: bool,
) -> None:
    """Add a signed MCUboot IMAGE to the draft of PRODUCT's line. Version and counter are read from it.

    \b
    Example:
      hillhold add REPO pump app.bin --kind security
    """
    data = read_file(image, MAX_IMAGE)
    wish = Wish(file_name or image.name.lower(), kind, hardware, component, allow_lower)
    added = add_release(Repository(repo), product, data, wish, edge().now(), patches=patch_from == "auto")
    target = added.target
    custom = target.custom["hillhold"]
    value = {
        "product": product,
        "path": target.path,
        "length": target.length,
        "sha256": target.hashes["sha256"],
        "custom": custom,
        "patches": [{"path": item.path, "length": item.length} for item in added.patches],
        "draft": added.version,
    }
    lines = [
        f"added {target.path}: {target.length} bytes, security counter {custom['security_counter']}",
        f"  sha256 {target.hashes['sha256']}",
        f"  for {', '.join(custom['hardware'])}",
        *(f"  patch of {item.length} bytes: {item.path}" for item in added.patches),
        f"next: the line's keys sign version {added.version} of {product} (`hillhold sign`)",
    ]
    emit(value, lines, as_json=as_json)
