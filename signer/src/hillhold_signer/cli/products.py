"""`hillhold product`: product lines and their hardware."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.ceremony import NamedKey, Team
from hillhold_signer.cli.terminal import FOLDER, Duration, edge, emit, json_option
from hillhold_signer.keys import load_public
from hillhold_signer.lines import add_hardware, add_product
from hillhold_signer.products import DEFAULT_MAX_COUNTER, MAX_COUNTER, Caps, Product
from hillhold_signer.repository import Repository


@click.group()
def product() -> None:
    """Product lines and their hardware."""


@product.command("add")
@click.argument("repo", type=FOLDER)
@click.argument("name")
@click.option(
    "--hardware", multiple=True, required=True, metavar="ID", help="Hardware that the line may name; repeat it."
)
@click.option(
    "--key", "keys", multiple=True, required=True, metavar="[NAME=]PUB", help="A person's public key; repeat it."
)
@click.option("--threshold", type=click.IntRange(min=1), required=True, help="How many of them must sign a release.")
@click.option(
    "--max-security-counter",
    type=click.IntRange(0, MAX_COUNTER),
    default=DEFAULT_MAX_COUNTER,
    show_default=True,
    help="The highest security counter that a release may carry.",
)
@click.option(
    "--max-offline-grace",
    type=Duration(),
    default="0s",
    show_default=True,
    help="How long devices may accept an expired timestamp or snapshot, such as 30d.",
)
@json_option
def add(
    repo: Path,
    name: str,
    hardware: tuple[str, ...],
    keys: tuple[str, ...],
    threshold: int,
    max_security_counter: int,
    max_offline_grace: int,
    as_json: bool,
) -> None:
    """Draft the product line NAME; the targets' quorum signs it.

    \b
    Example:
      hillhold product add REPO pump --hardware nrf52-a --threshold 2
        --key Ada=ada.pub --key Grace=grace.pub
    """
    team = Team(tuple(_named(item) for item in keys), threshold)
    wanted = Product(name, team, Caps(tuple(sorted(set(hardware))), max_security_counter, max_offline_grace))
    add_product(Repository(repo), wanted, edge().now())
    people = ", ".join(item.name for item in team.keys)
    lines = [
        f"drafted product line {name}: {threshold} of {people}, for {', '.join(wanted.caps.hardware)}",
        "next: the targets' keys sign the line, its own keys sign its first, empty list of releases (`hillhold status`)",
    ]
    value = {"product": name, "hardware": list(wanted.caps.hardware), "threshold": threshold}
    emit(value, lines, as_json=as_json)


@product.command("hardware")
@click.argument("repo", type=FOLDER)
@click.argument("name")
@click.argument("ids", nargs=-1, required=True)
@json_option
def hardware(repo: Path, name: str, ids: tuple[str, ...], as_json: bool) -> None:
    """Draft that the line NAME may also name the hardware IDS; the targets' quorum signs it.

    \b
    Example:
      hillhold product hardware REPO pump nrf52-b
    """
    add_hardware(Repository(repo), name, ids, edge().now())
    lines = [f"drafted: product line {name} may also name {', '.join(ids)}", "next: the targets' keys sign it"]
    emit({"product": name, "added": list(ids)}, lines, as_json=as_json)


def _named(text: str) -> NamedKey:
    """NAME=FILE, or FILE, whose stem is then the name."""
    name, separator, file = text.partition("=")
    path = Path(file if separator else text)
    return NamedKey(name if separator else path.stem, load_public(path))
