"""`hillhold-lab run`: conducts a campaign, keeps what comes, goes on where an earlier run of it came to, and makes the report."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from hillhold_bootsim.boards import board as find_board
from hillhold_bootsim.cli.attack import show_result
from hillhold_bootsim.cli.bench import WORLD, agree, virtual
from hillhold_bootsim.cli.report import lines_of, value_of
from hillhold_bootsim.lab.adapter import AdapterSpec
from hillhold_bootsim.lab.campaign import ItemOrder, Order, firmware_of, read_order
from hillhold_bootsim.lab.conduct import Step, Task, board_file, conduct, inputs, summed_up, works_of
from hillhold_bootsim.lab.errors import ReportRefused
from hillhold_bootsim.lab.journal import Head, Journal, opened
from hillhold_bootsim.lab.jsonform import to_json
from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.operations import Pools
from hillhold_bootsim.lab.planning import plan_lines
from hillhold_bootsim.lab.power import PoweredSpec
from hillhold_bootsim.lab.report.make import CAMPAIGN, check_free, report_files, write_report
from hillhold_bootsim.lab.report.manifest import NAME as MANIFEST
from hillhold_bootsim.lab.report.manifest import report_signer, verify
from hillhold_bootsim.lab.report.summary import Standing, summarise
from hillhold_bootsim.lab.runner import Firmware
from hillhold_bootsim.lab.serialport import SerialSpec
from hillhold_bootsim.lab.target import Spec
from hillhold_bootsim.powercut import pools
from hillhold_bootsim.powercut.runner import Runner
from hillhold_bootsim.stock import Stock
from hillhold_signer.cli.terminal import (
    FILE,
    OPERATIONAL,
    PATH,
    REFUSED,
    edge,
    emit,
    json_option,
    passphrase_option,
    secrets,
)
from hillhold_signer.keys import load_public, load_signer
from hillhold_signer.log.note import NoteSigner
from hillhold_signer.plain import plain
from hillhold_signer.storage import replacing
from hillhold_verifier.errors import OperationalError

REPORT: Final = "report"
PDF: Final = "reportlab"


class UnfinishedError(OperationalError):
    """A campaign did not come to its end; what was found is kept."""

    hint = "run it again, with the same folder: it goes on from there"


@click.command(
    "run",
    epilog="Example: hillhold-lab run pump.toml --out ./pump-campaign --key file:lab.pem",
    short_help="conduct a campaign, and make its report",
)
@click.argument("file", metavar="CAMPAIGN.toml", type=FILE)
@click.option("--out", "folder", type=PATH, metavar="DIR", help="Where all of it goes (default: the file's name).")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes for virtual boards (default: one each CPU).")
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster, for power cuts at flash operations.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="In place of the file's.")
@click.option("--yes", is_flag=True, help="Do not ask before a real board.")
@click.option("--key", "uri", metavar="URI", help="The laboratory's key, which signs the report; as of `report make`.")
@click.option("--public", type=FILE, help="Its public key, for keys in services that do not tell it.")
@passphrase_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    file: Path,
    folder: Path | None,
    workers: int | None,
    scheduler: str | None,
    seed: int | None,
    yes: bool,
    uri: str | None,
    public: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Conduct a campaign: attacks, lines, power cuts and soak on all items that its file names (docs/FORMAT.md, "Campaign file").

    Every result is kept in DIR as it comes. Run again with the same file and folder, a campaign that was interrupted goes on. At the end
    DIR holds campaign.json and, in `report`, the report. What virtual boards come to does not depend on the workers.

    Exit code 0: all that was tested passed, on each item; 1: a case failed, or the tool's validation of itself did, or the file is
    refused; 3: not decided: a case was inconclusive, on an item none could be tested, a board was lost, or the disk is full.
    """
    order = read_order(file)
    order = order if seed is None else replace(order, seed=seed)
    head = Head(
        order.seed, inputs(order), _versions()
    )  # before anything of it is used: at the end it has to be the same
    tasks = [_task(order, item) for item in order.items]
    signer = (
        report_signer(load_signer(uri, load_public(public) if public else None, secrets(passphrase_fd)))
        if uri
        else None
    )
    if any(not item.is_virtual for item in order.items):
        agree(plan_lines(order), yes=yes)
    folder = folder or Path(file.stem)
    count = workers or order.workers or os.cpu_count() or 1
    with opened(folder, head, edge().now()) as journal:
        is_there = _has_report(folder / REPORT, signer)  # known before a week is spent on it
        with _told(order, journal, quiet=as_json) as tell:
            ended = _conduct(order, tasks, journal, count, scheduler or order.scheduler, tell)
        found = _kept(folder, order, tasks, journal, ended)
        lines = [f"{folder / CAMPAIGN}: what was found"]
        if found.finished:
            lines += _report(folder / REPORT, found, signer, is_there=is_there)
    summary = summarise(found)
    value = {**value_of(found, summary), "finished": found.finished, "folder": str(folder)}
    emit(value, [*lines_of(found, summary), *lines], as_json=as_json)
    if summary.unfound or summary.standing is Standing.FAILED:
        context.exit(REFUSED)
    if not found.finished:
        raise UnfinishedError("; ".join(f"{name}: {why}" for name, why in ended.items()))
    if summary.standing is Standing.UNDECIDED:
        context.exit(OPERATIONAL)


# --- inside -----------------------------------------------------------------------------------------------------------


def _task(order: Order, item: ItemOrder) -> Task:
    firmware = Firmware(firmware_of(order, item), item.header)
    if item.is_virtual:
        path = board_file(order, item)
        name = str(path.absolute()) if path else item.board
        return Task(item, virtual(name, Stock(item.stock) if item.stock else None), firmware, find_board(name))
    spec: Spec = (
        SerialSpec(item.port, WORLD, item.baud, item.dtr)
        if item.port
        else AdapterSpec(order.folder / item.adapter, WORLD)
    )
    return Task(item, PoweredSpec(spec, item.power) if item.power else spec, firmware)


def _versions() -> dict[str, str]:
    packages = ("hillhold-bootsim", "hillhold-signer", "hillhold-verifier", "cryptography", "pyserial")
    found = {name: version(name) for name in packages}
    return {**found, "Python": platform.python_version(), "system": platform.platform()}


def _conduct(
    order: Order, tasks: list[Task], journal: Journal, workers: int, scheduler: str, tell: _Tell
) -> dict[str, str]:
    """Do it; where it is interrupted, return that as the reason for all items."""
    try:
        return conduct(order, tasks, journal, workers, _pools(workers, scheduler), tell)
    except KeyboardInterrupt:
        return {task.order.name: "interrupted" for task in tasks}
    except OperationalError as error:
        # A full disk, a lost worker: what there is goes into campaign.json, if that can be written.
        return {task.order.name: str(error) for task in tasks}


def _kept(folder: Path, order: Order, tasks: list[Task], journal: Journal, ended: dict[str, str]) -> Campaign:
    """Write campaign.json, finished or not."""
    versions, now = _versions(), edge().now()
    found = summed_up(order, tasks, journal, versions, ended, now)
    if found.finished:
        found = replace(found, ended=journal.end(now))
    with replacing(folder / CAMPAIGN) as file:
        file.write(to_json(found))
    return found


def _has_report(folder: Path, signer: NoteSigner | None) -> bool:
    """Say whether the campaign's report is there.

    Raises:
        ReportRefused: it is something else, or a key is given and it is not as that key signed it.
        StorageError: it cannot be read.
    """
    try:
        check_free(folder)
    except ReportRefused:
        if not (folder / MANIFEST).is_file():
            raise
    else:
        return False
    if signer:
        again = f"the report is never written over: `hillhold-lab report make {folder.parent / CAMPAIGN} --out DIR --key URI` makes another"
        try:
            good = verify(folder, signer.verifier).good
        except ReportRefused as error:
            raise ReportRefused(f"--key, where a report is there already: {error}", hint=again) from error
        if not good:
            raise ReportRefused(f"{folder}", expected="the report as --key signed it", got="a changed one", hint=again)
    return True


def _report(folder: Path, campaign: Campaign, signer: NoteSigner | None, *, is_there: bool) -> list[str]:
    """Make the report, unless it is there."""
    if is_there:
        return [f"{folder}: the report is there already, and was left as it is"]
    with_pdf = find_spec(PDF) is not None
    files = report_files(campaign, signer, with_pdf=with_pdf)
    write_report(folder, files)
    signed = f"signed by {signer.verifier.vkey}" if signer else "not signed (--key)"
    missing = [] if with_pdf else ["no PDF: pip install 'hillhold-bootsim[report]'"]
    return [f"{folder}: {', '.join(sorted(files))}; {signed}", *missing]


def _pools(workers: int, scheduler: str) -> Pools:
    @contextmanager
    def started(runner: Runner) -> Iterator[pools.Pool]:
        if scheduler:
            with pools.cluster(scheduler) as remote:
                yield remote
        elif workers == 1:
            yield pools.Here(runner.explorer)
        else:
            with pools.local(workers, (__name__,)) as found:
                yield found

    return started


class _Tell:
    """Shows results as they come, and on a terminal how far a long case is."""

    def __init__(self, total: int, done: int, *, quiet: bool) -> None:
        self._total, self._done, self._quiet = total, done, quiet
        self._lock = threading.Lock()
        self._shows = sys.stderr.isatty() and not quiet

    def __call__(self, step: Step) -> None:
        with self._lock:
            if step.result is None:
                self._say(f"{step.item}  {step.case}: {step.done} done")
                return
            self._done += 1
            self._say("")
            if not self._quiet:
                show_result(step.item, step.result)
            self._say(f"{self._done} of {self._total} cases")

    def _say(self, text: str) -> None:
        if self._shows:
            click.echo(f"\r\x1b[K{plain(text)}", nl=False, err=True)


@contextmanager
def _told(order: Order, journal: Journal, *, quiet: bool) -> Iterator[_Tell]:
    total, done = len(works_of(order)) * len(order.items), len(journal.results)
    if done and not quiet:
        click.echo(f"going on: {done} of {total} cases are done")
    tell = _Tell(total, done, quiet=quiet)
    try:
        yield tell
    finally:
        if sys.stderr.isatty() and not quiet:
            click.echo("\r\x1b[K", nl=False, err=True)
