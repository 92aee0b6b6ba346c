"""`hillhold-lab attack`: does the attacks of the catalogue to a board, and says what came of each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

import click

from hillhold_bootsim.boards import board as find_board
from hillhold_bootsim.lab.catalogue import BY_ID, CATALOGUE
from hillhold_bootsim.lab.judge import Attack
from hillhold_bootsim.lab.model import Result, Tested, Verdict
from hillhold_bootsim.lab.runner import run
from hillhold_bootsim.lab.target import Spec, Time
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_signer.cli.terminal import REFUSED, json_option
from hillhold_signer.plain import plain

COLOURS = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.NOT_TESTED: "bright_black",
    Verdict.INCONCLUSIVE: "yellow",
}
WORLD = Time(lambda: int(time.time()), time.monotonic, time.sleep)


def chosen(ids: Sequence[str]) -> tuple[Attack, ...]:
    """The cases of these ids, in the catalogue's order; all of them without ids.

    Raises:
        click.UsageError: there is no such case.
    """
    if unknown := [name for name in ids if name not in BY_ID]:
        raise click.UsageError(f"no case {', '.join(unknown)}: `hillhold-lab attack --list` names them")
    return tuple(attack for attack in CATALOGUE if not ids or attack.case.id in ids)


def virtual(name: str) -> VirtualSpec:
    """The virtual board of that name; raises as `boards.board`."""
    found = find_board(name)
    return VirtualSpec(
        found.name, found.layout, found.components, found.hardware, buffer=found.buffer, buffers=found.buffers,
        transports=found.transports,
    )  # fmt: skip


def counts(results: Sequence[Result]) -> str:
    """How many of each verdict, in words."""
    found = [(verdict, sum(result.verdict is verdict for result in results)) for verdict in Verdict]
    return ", ".join(f"{count} {verdict.value}" for verdict, count in found if count)


def as_values(tested: Tested) -> dict[str, object]:
    """What came of one board, for JSON."""
    rows = [
        {
            "case": result.case,
            "verdict": result.verdict.value,
            "reason": result.reason,
            "independent": result.independent,
            "figures": dict(result.figures),
            "evidence": [{"kind": one.kind, "title": one.title, "text": one.text} for one in result.evidence],
        }
        for result in tested.results
    ]
    return {"board": tested.item.name, "kind": tested.item.kind, "facts": dict(tested.item.facts), "results": rows}


def show_list(*, as_json: bool) -> None:
    """Print the catalogue."""
    if as_json:
        names = ("id", "group", "sentence", "how", "expected", "sources", "leaves", "needs")
        click.echo(json.dumps([{name: getattr(one.case, name) for name in names} for one in CATALOGUE], indent=2))
        return
    for attack in CATALOGUE:
        click.echo(f"{attack.case.id:32} {attack.case.sentence}")


def show_result(name: str, result: Result) -> None:
    """Print one verdict with its sentence."""
    verdict = click.style(f"{result.verdict.value.upper():12}", fg=COLOURS[result.verdict])
    click.echo(f"{verdict} {plain(name)}  {result.case}: {plain(result.reason)}")


@click.command(epilog="Example: hillhold-lab attack rollback-timestamp expired-root --board nrf52840dk")
@click.argument("cases", nargs=-1, metavar="[CASE]…")
@click.option("--board", "boards", multiple=True, metavar="NAME", help="A virtual board, by name or file; repeatable.")
@click.option("--list", "listing", is_flag=True, help="Print the cases and do nothing.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all keys and all noise.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Processes for virtual boards (default: one for each CPU)."
)
@json_option
@click.pass_context
def attack(
    context: click.Context,
    cases: tuple[str, ...],
    boards: tuple[str, ...],
    listing: bool,
    seed: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Do attacks to a board: all of the catalogue, or the CASEs that are named, by default to a small virtual board.

    After each the board is reset, and what runs then is read without asking its agent, where the board allows that. Exit code 0: no case
    failed; 1: some did.
    """
    if listing:
        show_list(as_json=as_json)
        return
    targets: list[Spec] = [virtual(name) for name in boards] or [VirtualSpec()]
    tested = run(
        chosen(cases),
        targets,
        seed,
        workers or os.cpu_count() or 1,
        (lambda _name, _result: None) if as_json else show_result,
    )
    if as_json:
        click.echo(json.dumps([as_values(one) for one in tested], indent=2))
    else:
        for one in tested:
            click.echo(f"{one.item.name}: {counts(one.results)}")
    if any(result.verdict is Verdict.FAIL for one in tested for result in one.results):
        context.exit(REFUSED)
