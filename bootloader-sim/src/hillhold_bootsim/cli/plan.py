"""`hillhold-lab plan`: what a test would do to a board, what it would leave there, and what the board has to trust for it."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_bootsim.cli.bench import WORLD, chosen, plan_lines, target_options, targets_of
from hillhold_bootsim.lab.bench import STOCK
from hillhold_bootsim.lab.campaign import read_order
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.planning import plan_lines as campaign_lines
from hillhold_bootsim.lab.planning import plan_value
from hillhold_signer.cli.terminal import PATH, emit, json_option
from hillhold_signer.storage import replacing


@click.command(epilog="Example: hillhold-lab plan --port /dev/ttyACM0 --provisioning ./for-the-board")
@click.argument("cases", nargs=-1, metavar="[CAMPAIGN.toml | CASE…]")
@target_options
@click.option("--seed", type=int, default=0, show_default=True, help="Of all keys: who knows it has them all.")
@click.option(
    "--provisioning",
    "folder",
    type=PATH,
    metavar="DIR",
    help="Write 1.root.json, which the board has to trust, and boot.pub, which its bootloader has to hold.",
)
@json_option
def plan(
    cases: tuple[str, ...],
    boards: tuple[str, ...],
    ports: tuple[str, ...],
    adapters: tuple[Path, ...],
    baud: int,
    dtr: bool,
    stock: str | None,
    seed: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """What `attack` with the same arguments would do, case by case, and what cannot be undone. Nothing is done to a board.

    With a CAMPAIGN.toml in the place of cases and boards: what `run` would do, to which board, and how long it takes.
    """
    if len(cases) == 1 and cases[0].endswith(".toml"):
        order = read_order(Path(cases[0]))
        written = _provision(folder, order.seed)
        value = {**plan_value(order), "written": written}
        emit(value, [*campaign_lines(order), *(f"written: {name}" for name in written)], as_json=as_json)
        return
    todo, targets = chosen(cases), targets_of(boards, ports, adapters, baud, dtr, stock)
    written = _provision(folder, seed)
    lines = [*plan_lines(todo, targets), "in this order:"]
    for attack in todo:
        case = attack.case
        lines.append(f"  {case.id}: {case.sentence} (needs {', '.join(case.needs)})")
    lines += [f"written: {name}" for name in written]
    rows = [
        {"id": a.case.id, "sentence": a.case.sentence, "leaves": a.case.leaves, "needs": a.case.needs} for a in todo
    ]
    boards_of = [{"board": spec.name, "kind": spec.kind} for spec in targets]
    emit({"boards": boards_of, "cases": rows, "written": written}, lines, as_json=as_json)


def _provision(folder: Path | None, seed: int) -> list[str]:
    """Write what a board has to trust; return the files' names."""
    written = []
    if folder is not None:
        house = House(seed, STOCK, WORLD.now())
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in (("1.root.json", house.first_root), ("boot.pub", house.boot_pem)):
            with replacing(folder / name) as file:
                file.write(data)
            written.append(str(folder / name))
    return written
