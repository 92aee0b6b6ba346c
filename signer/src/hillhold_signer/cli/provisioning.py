"""`hillhold provisioning`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hillhold_signer.cli.remote import HERE
from hillhold_signer.cli.terminal import PATH, edge, emit, json_option
from hillhold_signer.provisioning import write_provisioning
from hillhold_signer.verify import published_tree


@click.command(short_help="Write what is put into each new device.")
@click.argument("repo", type=HERE)
@click.argument("product")
@click.option("--hardware", required=True, metavar="ID", help="The hardware of these devices.")
@click.option(
    "--version",
    "versions",
    multiple=True,
    metavar="COMPONENT=VERSION",
    help="Another version than the newest; repeat it.",
)
@click.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="The folder to make.")
@json_option
def provisioning(
    repo: Path, product: str, hardware: str, versions: tuple[str, ...], output: Path, as_json: bool
) -> None:
    """Write what a production line puts into each device of PRODUCT: root, identity, factory images.

    \b
    Example:
      hillhold provisioning REPO pump --hardware nrf52-a -o factory
    """
    pairs = [text.partition("=") for text in versions]
    if any(not separator for _, separator, _ in pairs):
        raise click.UsageError("--version: expected COMPONENT=VERSION, such as app=1.2.0")
    wanted = {component: version for component, _, version in pairs}
    done = write_provisioning(published_tree(repo), product, hardware, output, edge().now(), wanted)
    words = ["hillhold-device", "provision", "--root", str(output / "root.json"), "--product", product]
    words += ["--hardware", hardware, "--id", "SERIAL-NUMBER"]
    for release, file in done.factory.values():
        words += ["--factory", f"{release.path}={file}"]
    command = shlex.join(words)
    lines = [f"wrote {output}: root version {done.root_version}, sha256 {done.root_sha256}"]
    lines += [
        f"  {component}: {release.version}, security counter {release.security_counter}, {file.name}"
        for component, (release, file) in done.factory.items()
    ]
    lines.append(f"each device: {command}")
    value = {
        "folder": str(output),
        "root": {"version": done.root_version, "sha256": done.root_sha256},
        "factory": {component: release.path for component, (release, _) in done.factory.items()},
        "command": words,
    }
    emit(value, lines, as_json=as_json)
