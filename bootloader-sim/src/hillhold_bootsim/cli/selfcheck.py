"""`hillhold-lab selfcheck`: shows that the attacks find what they are for, on boards that are broken on purpose."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

import click

from hillhold_bootsim.lab.broken import BOARDS, BY_ID
from hillhold_bootsim.lab.broken.plant import Fault
from hillhold_bootsim.lab.model import Check
from hillhold_bootsim.lab.selfcheck import IDS, cases_for, selfcheck
from hillhold_signer.cli.terminal import REFUSED, json_option

SHOWN = 6
"""Further cases that a row names."""


def chosen(ids: Sequence[str]) -> tuple[Fault, ...]:
    """The boards of these ids, in their order; all of them without ids.

    Raises:
        click.UsageError: there is no such board.
    """
    if unknown := [name for name in ids if name not in BY_ID]:
        raise click.UsageError(f"no board {', '.join(unknown)}: `hillhold-lab selfcheck --list` names them")
    return tuple(board for board in BOARDS if not ids or board.id in ids)


def outcome(check: Check) -> str:
    """What a row comes to, in words."""
    named = [case for case in check.found if case in check.expected]
    others = [case for case in check.found if case not in check.expected]
    if not check.expected:
        return f"failed, undecided or left out: {_some(others)}" if others else "passed everything"
    more = f"; also {_some(others)}" if others else ""
    if named:
        return f"found by {', '.join(named)}{more}"
    if others:
        return f"NAMED WRONGLY, by {_some(others)}; right would be {' or '.join(check.expected)}"
    return f"NOT FOUND; expected {' or '.join(check.expected)} to fail"


def _some(cases: Sequence[str]) -> str:
    return ", ".join(cases[:SHOWN]) + (f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else "")


def show_list(boards: Sequence[Fault], *, as_json: bool) -> None:
    """Print the boards."""
    if as_json:
        click.echo(json.dumps([{"id": b.id, "fault": b.sentence, "expected": b.finds} for b in boards], indent=2))
        return
    for board in boards:
        click.echo(f"{board.id:40} {board.sentence}")


def show(check: Check) -> None:
    """Print one row."""
    word, colour = ("good", "green") if check.good else ("OFF", "red")
    click.echo(f"{click.style(f'{word:5}', fg=colour)} {check.board:40} {outcome(check)}")


@click.command(
    name="selfcheck", epilog="Example: hillhold-lab selfcheck ignores-expiry-timestamp counts-signatures --full"
)
@click.argument("boards", nargs=-1, metavar="[BOARD]…")
@click.option(
    "--full", is_flag=True, help="Do the whole catalogue to each board, not just the cases that should find it."
)
@click.option("--list", "listing", is_flag=True, help="Print the boards with their faults and do nothing.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all keys and all noise.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes (default: one for each CPU).")
@json_option
@click.pass_context
def command(
    context: click.Context,
    boards: tuple[str, ...],
    full: bool,
    listing: bool,
    seed: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Validate the lab itself: attack boards that are broken on purpose, and boards that are not, or the BOARDs that are named.

    Each broken board has one known fault. At least one of the attacks that are a right name for it has to succeed, and on the right boards
    none. Exit code 0: so it is; 1: some fault was not found, or named wrongly, or a right board was blamed.
    """
    picked = chosen(boards)
    if listing:
        show_list(picked, as_json=as_json)
        return
    began = time.monotonic()
    checks = selfcheck(
        picked,
        seed,
        workers or os.cpu_count() or 1,
        full=full,
        report=(lambda _check: None) if as_json else show,
    )
    off = sum(not check.good for check in checks)
    if as_json:
        rows = [
            {"board": c.board, "fault": c.fault, "expected": c.expected, "found": c.found, "good": c.good}
            for c in checks
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        tried = sum(len(cases_for(board, full=full)) for board in picked)
        click.echo(
            f"{len(checks)} boards, {len(checks) - off} as they should be, {off} off; {tried} attacks, of {len(IDS)} kinds, "
            f"in {time.monotonic() - began:.1f} s"
        )
    if off:
        context.exit(REFUSED)
