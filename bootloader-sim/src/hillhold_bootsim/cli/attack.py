"""`hillhold-lab attack`: does the attacks of the catalogue to a board, and says what came of each."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from hillhold_bootsim.cli.bench import ask, chosen, firmware_of, target_options, targets_of
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.model import Result, Tested, Verdict
from hillhold_bootsim.lab.runner import run
from hillhold_signer.cli.terminal import FILE, OPERATIONAL, REFUSED, json_option
from hillhold_signer.plain import plain

COLOURS = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.NOT_TESTED: "bright_black",
    Verdict.INCONCLUSIVE: "yellow",
}


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


@click.command(
    epilog="Example: hillhold-lab attack rollback-timestamp expired-root --board nrf52840dk",
    short_help="try to break boards, and say what held",
)
@click.argument("cases", nargs=-1, metavar="[CASE]…")
@target_options
@click.option("--list", "listing", is_flag=True, help="Print the cases and do nothing.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all keys and all noise.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Processes for virtual boards (default: one for each CPU)."
)
@click.option(
    "--firmware", type=FILE, help="Code that the lab's images consist of, for boards that run what they are sent."
)
@click.option(
    "--header", type=click.IntRange(32, 65535), default=32, show_default=True, help="Bytes of an image's header."
)
@click.option("--yes", is_flag=True, help="Do not ask before a real board.")
@json_option
@click.pass_context
def attack(
    context: click.Context,
    cases: tuple[str, ...],
    boards: tuple[str, ...],
    ports: tuple[str, ...],
    adapters: tuple[Path, ...],
    baud: int,
    dtr: bool,
    stock: str | None,
    listing: bool,
    seed: int,
    workers: int | None,
    firmware: Path | None,
    header: int,
    yes: bool,
    as_json: bool,
) -> None:
    """Do attacks to boards: all of the catalogue, or the CASEs that are named, by default to a small virtual board.

    After each the board is reset, and what runs then is read without asking its agent, where the board allows that. A real board has to
    trust the root of `hillhold-lab plan --provisioning DIR`, and is asked for before it is touched.

    Exit code 0: all that was tested passed, on each board; 1: a case failed; 3: a case was inconclusive, or on one of the boards none
    could be tested.
    """
    if listing:
        show_list(as_json=as_json)
        return
    todo, targets = chosen(cases), targets_of(boards, ports, adapters, baud, dtr, stock)
    code = firmware_of(firmware, header)
    ask(todo, targets, yes=yes)
    report = (lambda _name, _result: None) if as_json else show_result
    tested = run(todo, targets, seed, workers or os.cpu_count() or 1, report, code)
    if as_json:
        click.echo(json.dumps([as_values(one) for one in tested], indent=2))
    else:
        for one in tested:
            click.echo(f"{plain(one.item.name)}: {counts(one.results)}")
    verdicts = [{result.verdict for result in one.results} for one in tested]
    if any(Verdict.FAIL in found for found in verdicts):
        context.exit(REFUSED)
    # Each board for itself: what one passed says nothing of another, which may not even be there.
    if any(Verdict.INCONCLUSIVE in found or Verdict.PASS not in found for found in verdicts):
        context.exit(OPERATIONAL)
