"""`hillhold-lab demo`: the whole way, told as it happens."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import click

from hillhold_bootsim.demo import Demo, Figures
from hillhold_bootsim.firmware import LICENCE, ORIGIN, Firmware, default_cache, fetch
from hillhold_signer.cli.terminal import PATH, json_option
from hillhold_signer.plain import plain
from hillhold_verifier.conversation import Progress

_WIDTH = 28


class Screen:
    """Tells the story on a terminal, or line by line where there is none."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stdout.isatty()
        self._drawn = False
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """A new part begins."""
        self._chapter += 1
        heading = click.style(f"{self._chapter}. {title}", bold=True)
        self._line(f"\n{heading}")

    def fact(self, text: str) -> None:
        """Something that was done or seen."""
        if text.startswith("the board: "):
            text = f"the board says: {click.style(plain(text.removeprefix('the board: ')), fg='yellow')}"
        self._line(f"   {text}")

    def proved(self, text: str) -> None:
        """Something that was checked, and held."""
        self._line(f"   {click.style('✓', fg='green', bold=True)} {text}")

    def progress(self, step: Progress) -> None:
        """What the courier does: one line on a terminal, drawn again and again."""
        if not self._live or self._quiet:
            return
        text = plain(step.step)
        if step.total:
            full = _WIDTH * step.done // step.total
            text = f"{'█' * full}{'░' * (_WIDTH - full)} {100 * step.done // step.total:3d} % {text}"
        click.echo(f"\r\x1b[K     {text}", nl=False)
        self._drawn = True

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        if self._drawn:
            click.echo("\r\x1b[K", nl=False)
            self._drawn = False
        click.echo(text)


def summary(figures: Figures, seconds: float) -> list[str]:
    """Return the summary in lines."""
    lines = [
        "",
        click.style("Summary", bold=True),
        "",
        f"   {'transferred':44}{'payload':>10}{'on the line':>13}{f'at {figures.baud} baud':>16}",
    ]
    for what, payload, line in figures.transfers:
        lines.append(f"   {what:44}{payload:>10}{line:>13}{figures.seconds(line):>14.1f} s")
    lines += ["", "   refused, and the board's words:"]
    for what, words in figures.refusals:
        lines += [f"   - {plain(what)}", f"     {click.style(plain(words), fg='yellow')}"]
    cuts, reverts = figures.power_cuts, figures.reverts
    lines += [
        "",
        f"   {len(figures.refusals)} attempts refused, {cuts} power cut survived, {reverts} failed trial reverted; {seconds:.0f} s",
    ]
    return lines


@click.command(epilog="Example: hillhold-lab demo --keep ./demo")
@click.option("--keep", type=PATH, metavar="DIR", help="Keep the repositories that the demo makes in this new folder.")
@click.option(
    "--cache", type=PATH, metavar="DIR", help="Where downloaded firmware is kept (default: the user's cache)."
)
@json_option
def demo(keep: Path | None, cache: Path | None, as_json: bool) -> None:
    """The whole way on a virtual board: sign, push, patch, refuse, cut the power, revert.

    Downloads two versions of MicroPython for the BBC micro:bit as packages, once. The keys are examples, public on purpose.
    """
    if keep is not None and keep.exists():
        raise click.UsageError(f"--keep {keep}: it exists")
    firmware = fetch(cache or default_cache())
    screen = Screen(quiet=as_json)
    if not as_json:
        for line in _about(firmware):
            click.echo(line)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hillhold-demo-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = Demo(folder, firmware, screen, lambda: int(time.time())).run()
    seconds = time.monotonic() - began
    if as_json:
        click.echo(
            json.dumps({"transfers": figures.transfers, "refusals": figures.refusals, "power_cuts": figures.power_cuts})
        )
        return
    for line in summary(figures, seconds):
        click.echo(line)
    if keep:
        click.echo(f"\n   repositories kept in {keep}")


def _about(firmware: tuple[Firmware, ...]) -> list[str]:
    sizes = " and ".join(f"{item.version} ({len(item.data)} bytes)" for item in firmware)
    return [
        f"firmware: {ORIGIN} {sizes}",
        f"licence:  {LICENCE}",
        "keys:     examples, public on purpose; never use them for anything else",
    ]
