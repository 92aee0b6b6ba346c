"""`hillhold-lab powercut`: cuts the power of an update at every flash operation, and says whether all of it holds."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click
from click._termui_impl import ProgressBar

from hillhold_bootsim.boards import DEFAULT
from hillhold_bootsim.boards import board as find_board
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.powercut import pools
from hillhold_bootsim.powercut.explore import parse_id
from hillhold_bootsim.powercut.machine import StuckError
from hillhold_bootsim.powercut.making import make_scenario
from hillhold_bootsim.powercut.minimise import minimise
from hillhold_bootsim.powercut.replay import Event, replay
from hillhold_bootsim.powercut.report import (
    EDGES,
    Findings,
    Smallest,
    as_data,
    coverage_table,
    drawing,
    levels_table,
    page,
)
from hillhold_bootsim.powercut.runner import Outcome, Plan, Report, Runner
from hillhold_bootsim.powercut.scenario import Scenario
from hillhold_signer.cli.terminal import PATH, REFUSED, json_option
from hillhold_signer.plain import plain
from hillhold_signer.storage import replacing
from hillhold_verifier.errors import OperationalError, Refused

SIZE = 256 * 1024
"""Bytes of firmware, where the board has room for it."""
FRAME = 2048
"""Bytes of an image beside its firmware, at most: header, hash, signature, counter."""
LEAST = 1024
INDENT = {"operation": 5, "cut": 2, "power": 2, "boot": 5, "verdict": 5}


@click.command(
    epilog="Example: hillhold-lab powercut nrf52840dk --depth 2 --sample 100000 --seed 1 --report ./cuts",
    short_help="cut the power of an update at every flash operation",
)
@click.argument("board", metavar="[BOARD]", default=DEFAULT)
@click.option("--depth", type=click.IntRange(1, 9), default=1, show_default=True, help="Cuts of a case, at most.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="From the second cut on take N cases, not all of them."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which cases a sample takes.")
@click.option(
    "--replay", "case", metavar="ID", help="Show what happens in one case, as 412-torn-3 or 412-torn-3/17-before."
)
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="Processes (default: one for each CPU).")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Use the workers of this Dask cluster instead: HOST:PORT of its scheduler."
)
@click.option(
    "--size",
    type=click.IntRange(min=LEAST),
    metavar="BYTES",
    help="Firmware in the images (default: 256 KiB, or what fits).",
)
@click.option("--patch", "patched", is_flag=True, help="Bring the first update as a patch.")
@click.option("--report", "folder", type=PATH, metavar="DIR", help="Where powercut.json, .html and .svg are written.")
@json_option
@click.pass_context
def powercut(
    context: click.Context,
    board: str,
    depth: int,
    sample: int | None,
    seed: int,
    case: str | None,
    workers: int | None,
    scheduler: str | None,
    size: int | None,
    patched: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Cut the power of an update at every flash operation, and judge what becomes of it.

    On BOARD (see `hillhold-lab boards`; or a TOML file) an update is installed and confirmed, then another one fails its test and is
    reverted. The power is cut before each operation, torn within it and after it, and with --depth again during the recovery. After each
    cut exactly one whole authentic image has to boot, nothing may go down, and the update has to come to its end. On a board of several
    components the first is updated.

    Exit code 0: all of that holds; 1: some case fails, and the report says which. What is found does not depend on the workers.
    """
    if workers is not None and scheduler is not None:
        raise click.UsageError("give either --workers N or --scheduler ADDRESS")
    if (folder is None) == (case is None):
        raise click.UsageError("give either --report DIR, or --replay ID")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise click.UsageError(f"--report {folder}: it is there, and no folder")
    layout, size = _layout(board, size)
    scenario = make_scenario(layout, size, patched=patched)
    try:
        runner = Runner(scenario, Plan(depth, sample, seed))
    except StuckError as error:
        raise Refused(f"{board}: {error}") from error
    way = ["--patch"] if patched else []
    command = shlex.join(["hillhold-lab", "powercut", board, "--size", str(size), *way, "--replay"])
    if case is not None or folder is None:
        _replay(context, scenario, runner, case or "", as_json=as_json)
        return
    with _pool(runner, workers, scheduler) as pool, _progress(runner, show=not as_json) as report:
        try:
            outcome = runner.run(pool, report)
        except KeyboardInterrupt:
            raise _interrupted(runner) from None
    found = Findings(scenario, size, runner.plan, runner.explorer.steps, outcome, _smallest(scenario, runner, command))
    _write(folder, found)
    measured = {"cpu_seconds": round(outcome.seconds, 3)}
    if as_json:
        click.echo(json.dumps({"found": as_data(found), "measured": measured, "report": str(folder)}, indent=2))
    else:
        for line in _lines(found, folder):
            click.echo(line)
    if outcome.failures:
        context.exit(REFUSED)


def _layout(name: str, size: int | None) -> tuple[Layout, int]:
    """The layout of a board's first component, and the bytes of firmware; raises `click.UsageError`."""
    board = find_board(name)
    room = board.image_sizes[0] - FRAME
    if (size or LEAST) > room:
        raise click.UsageError(f"--size {size or LEAST}: board {name} has room for {max(room, 0)} bytes of firmware")
    return replace(board.layout, slots=board.layout.slots[:1]), size or min(SIZE, room)


@contextmanager
def _pool(runner: Runner, workers: int | None, scheduler: str | None) -> Iterator[pools.Pool]:
    count = workers or os.cpu_count() or 1
    if scheduler is not None:
        with pools.cluster(scheduler) as remote:
            yield remote
    elif count == 1:
        yield pools.Here(runner.explorer)
    else:
        with pools.local(count, (__name__,)) as processes:
            yield processes


@contextmanager
def _progress(runner: Runner, *, show: bool) -> Iterator[Report]:
    """A bar on standard error for each level, where that is a terminal."""
    stream = sys.stderr
    with ExitStack() as stack:
        bars: dict[int, ProgressBar[int]] = {}

        def report(outcome: Outcome) -> None:
            level = outcome.levels[-1]
            if level.number not in bars:
                stack.close()
                hidden = not (show and stream.isatty())
                label = f"{level.number} cut{'s' if level.number > 1 else ''}"
                bar = click.progressbar(
                    length=runner.taken(level), label=label, file=stream, show_pos=True, hidden=hidden
                )
                bars[level.number] = stack.enter_context(bar)
            bars[level.number].update(level.cases - bars[level.number].pos)

        yield report


def _interrupted(runner: Runner) -> OperationalError:
    outcome = runner.outcome
    level = outcome.levels[-1]
    first = f", the first {outcome.first[0]}" if outcome.first else ""
    return OperationalError(
        f"interrupted at {level.number} cut{'s' if level.number > 1 else ''}, after {level.cases} of {runner.taken(level)} cases; "
        f"{outcome.states} distinct states, {outcome.failures} failures{first}; no report was written"
    )


def _smallest(scenario: Scenario, runner: Runner, command: str) -> Smallest | None:
    if runner.outcome.first is None:
        return None
    case, verdict = minimise(runner.explorer, parse_id(runner.outcome.first[0]))
    events, _ = replay(scenario, runner.explorer, case.path)
    return Smallest(case.id, verdict.problem or "", f"{command} {case.id}", tuple(map(_told, events)))


# --- what is shown ----------------------------------------------------------------------------------------------------


def _replay(context: click.Context, scenario: Scenario, runner: Runner, case: str, *, as_json: bool) -> None:
    try:
        events, problem = replay(scenario, runner.explorer, parse_id(case))
    except ValueError as error:
        raise click.UsageError(f"--replay: {error}") from error
    if as_json:
        told = [{"kind": event.kind, "text": event.text} for event in events]
        click.echo(json.dumps({"id": case, "problem": problem, "events": told}, indent=2))
    else:
        for event in events:
            click.echo(plain(_told(event)))
    if problem:
        context.exit(REFUSED)


def _told(event: Event) -> str:
    return " " * INDENT[event.kind] + event.text


def _lines(found: Findings, folder: Path) -> Iterator[str]:
    outcome, geometry = found.outcome, found.scenario.layout.geometry
    sectors = ", ".join(f"{count} x {size}" for count, size in geometry.runs)
    yield f"{found.title}: sectors {sectors}, unit {geometry.unit}, firmware {found.size} bytes, {len(found.steps)} operations"
    if found.plan.sample is not None and found.plan.depth > 1:
        yield f"sample of {found.plan.sample} cases with more than one cut, seed {found.plan.seed}"
    yield f"{'cuts':>6}{'cases':>14}{'of':>16}{'distinct states':>17}{'failures':>10}"
    for number, cases, total, states, failures in levels_table(found):
        yield f"{number:>6}{cases:>14}{total:>16}{states:>17}{failures:>10}"
    ways, rows = coverage_table(outcome)
    yield f"  {'cases by phase':<28}{'operation':<10}{'before':>10}{'torn':>12}{'after':>10}   torn in"
    for phase, kind, row in rows:
        count = {way: row.get(way, (0, 0))[0] for way in ways}
        torn = [way for way in ways if way not in EDGES and count[way]]
        yield (
            f"  {phase:<28}{kind:<10}{count['before']:>10}{sum(count[way] for way in torn):>12}{count['after']:>10}   {len(torn)} ways"
        )
    if smallest := found.smallest:
        yield f"first failing case: {outcome.first[0] if outcome.first else ''}; as small as it goes: {smallest.id}"
        yield f"  {plain(smallest.problem)}"
        yield f"  {smallest.command}"
        yield f"failing cases, the first {len(outcome.ids)}: {', '.join(outcome.ids)}"
    yield f"{f'{outcome.failures} states FAIL' if outcome.failures else 'all hold'}; report: {folder / 'powercut.html'}"


# --- the report -------------------------------------------------------------------------------------------------------


def _write(folder: Path, found: Findings) -> None:
    """Write all files, or none."""
    value = {"found": as_data(found), "measured": {"cpu_seconds": round(found.outcome.seconds, 3)}}
    files = {
        "powercut.svg": drawing(found),
        "powercut.html": page(found),
        "powercut.json": json.dumps(value, indent=1) + "\n",
    }
    with ExitStack() as stack:
        opened = [(stack.enter_context(replacing(folder / name)), text) for name, text in files.items()]
        for file, text in opened:
            file.write(text.encode())
        # What a full disk refuses, it refuses here, while nothing has taken its place yet.
        for file, _ in opened:
            file.flush()
            os.fsync(file.fileno())
