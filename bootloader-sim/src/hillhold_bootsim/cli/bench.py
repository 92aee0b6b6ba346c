"""What the lab's commands share: which boards, which cases, which keys, and how a person is asked before a real board is touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from hillhold_bootsim.boards import board as find_board
from hillhold_bootsim.lab.adapter import AdapterSpec
from hillhold_bootsim.lab.catalogue import BY_ID, CATALOGUE
from hillhold_bootsim.lab.judge import Attack
from hillhold_bootsim.lab.runner import Firmware
from hillhold_bootsim.lab.serialport import SerialSpec
from hillhold_bootsim.lab.target import Spec, Time
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_bootsim.stock import Stock
from hillhold_signer.cli.terminal import FILE

F = TypeVar("F", bound=Callable[..., Any])
WORLD = Time(lambda: int(time.time()), time.monotonic, time.sleep)
MAX_FIRMWARE = 16 * 1024 * 1024

_OPTIONS = (
    click.option(
        "--board", "boards", multiple=True, metavar="NAME", help="A virtual board, by name or file; repeatable."
    ),
    click.option("--port", "ports", multiple=True, metavar="PORT", help="A real board on a serial port; repeatable."),
    click.option(
        "--adapter", "adapters", type=FILE, multiple=True, help="A board behind a device adapter; repeatable."
    ),
    click.option("--baud", type=click.IntRange(300), default=115200, show_default=True, help="Of the ports."),
    click.option("--dtr", is_flag=True, help="The ports' DTR is wired to the boards' reset."),
    click.option(
        "--stock", type=click.Choice([kind.value for kind in Stock]), help="The virtual boards are stock boards."
    ),
)


def target_options(command: F) -> F:
    """Options that name boards."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def targets_of(
    boards: Sequence[str], ports: Sequence[str], adapters: Sequence[Path], baud: int, dtr: bool, stock: str | None
) -> list[Spec]:
    """The boards that options name; a small virtual one where they name none.

    Raises:
        click.UsageError: one is named twice.
        As `boards.board`.
    """
    kind = Stock(stock) if stock else None
    found: list[Spec] = [virtual(name, kind) for name in boards]
    found += [SerialSpec(port, WORLD, baud, dtr) for port in ports]
    found += [AdapterSpec(path, WORLD) for path in adapters]
    names = [spec.name for spec in found]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise click.UsageError(f"{', '.join(doubled)}: named twice")
    return found or [VirtualSpec(stock=kind)]


def virtual(name: str, stock: Stock | None = None) -> VirtualSpec:
    """The virtual board of that name; raises as `boards.board`."""
    found = find_board(name)
    return VirtualSpec(
        found.name,
        found.layout,
        found.components,
        found.hardware,
        buffer=found.buffer,
        buffers=found.buffers,
        transports=found.transports,
        stock=stock,
    )


def chosen(ids: Sequence[str]) -> tuple[Attack, ...]:
    """The cases of these ids, in the catalogue's order; all of them without ids.

    Raises:
        click.UsageError: there is no such case.
    """
    if unknown := [name for name in ids if name not in BY_ID]:
        raise click.UsageError(f"no case {', '.join(unknown)}: `hillhold-lab attack --list` names them")
    return tuple(attack for attack in CATALOGUE if not ids or attack.case.id in ids)


def firmware_of(path: Path | None, header: int) -> Firmware:
    """What the lab's images consist of.

    Raises:
        click.UsageError: more than any slot holds.
    """
    data = path.read_bytes() if path else b""
    if len(data) > MAX_FIRMWARE:
        raise click.UsageError(f"--firmware {path}: expected at most {MAX_FIRMWARE} bytes, got {len(data)}")
    return Firmware(data, header)


def plan_lines(cases: Sequence[Attack], targets: Sequence[Spec]) -> Iterator[str]:
    """What will be done, and what stays of it, in words."""
    yield f"{len(cases)} attack{'s' if len(cases) != 1 else ''} on {', '.join(f'{spec.name} ({spec.kind})' for spec in targets)}"
    yield "before each, an honest release of the lab is installed and confirmed; after each, the board is reset and another one follows"
    yield "what stays on a board that is not virtual, and cannot be undone:"
    yield "  the image that ran before is gone from both slots, and the lab's releases take its place"
    yield "  floors rise with every release; the security counter is at least 1"
    for leaves in dict.fromkeys(attack.case.leaves for attack in cases if attack.case.leaves):
        yield f"  {leaves}"


def ask(cases: Sequence[Attack], targets: Sequence[Spec], *, yes: bool) -> None:
    """Ask a person before anything is done to a board that is not virtual; raises `click.UsageError` where they decline."""
    real = [spec for spec in targets if not spec.alone]
    if not real or yes:
        return
    for line in plan_lines(cases, real):
        click.echo(line, err=True)
    try:
        agreed = click.confirm("do that?", err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise click.UsageError("nothing was done: a real board needs a yes, or --yes")
