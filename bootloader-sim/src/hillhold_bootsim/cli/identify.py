"""`hillhold-lab identify`: what a board is, and what a test of it could do; nothing is written to it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from hillhold_bootsim.cli.bench import target_options, targets_of
from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.target import CAN
from hillhold_signer.cli.terminal import emit, json_option
from hillhold_signer.plain import plain


@click.command(epilog="Example: hillhold-lab identify --port /dev/ttyACM0")
@target_options
@json_option
def identify(
    boards: tuple[str, ...],
    ports: tuple[str, ...],
    adapters: tuple[Path, ...],
    baud: int,
    dtr: bool,
    stock: str | None,
    as_json: bool,
) -> None:
    """What boards are and run, and what a test of them could do. Nothing is written to them."""
    values, lines = [], []
    for spec in targets_of(boards, ports, adapters, baud, dtr, stock):
        with closing(Bench(spec.make(0), 0)) as bench:
            said, item, lacks = bench.look().said, bench.item, bench.target.lacks
        can = {name: lacks.get(name, "") for name in CAN}
        running = [f"{image.version} {image.sha256[:16]}" for image in said.running]
        facts = {
            "hardware": item.hardware,
            "identity": item.identity,
            **{name: value for name, value in item.facts.items() if name.removeprefix("no ") not in lacks},
            "running": ", ".join(running) or "nothing",
        }
        values.append({"board": item.name, "kind": item.kind, "facts": facts, "lacks": dict(lacks)})
        lines.append(f"{plain(item.name)} ({item.kind})")
        lines += [f"  {name:<18} {plain(value)}" for name, value in facts.items() if value]
        lines += [f"  {name:<18} {'no: ' + why if why else 'yes'}" for name, why in can.items()]
    emit({"boards": values}, lines, as_json=as_json)
