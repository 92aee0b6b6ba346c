"""`hillhold-lab line`: a port that leads to another one over a serial line with a speed, an adapter and faults, until it is interrupted."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click

from hillhold_bootsim.line import FTDI_PACKET, PORT_BUFFER, Direction, LineModel
from hillhold_bootsim.linefaults import MAX_BURST, Counts, LineFaults
from hillhold_bootsim.linefront import LineFront, Unplug
from hillhold_bootsim.uart import Line, PtyLine, TcpLine, parse_address
from hillhold_signer.cli.terminal import PATH, json_option
from hillhold_signer.plain import plain
from hillhold_verifier.errors import MisuseError
from hillhold_verifier.link import open_port

_RATE = click.FloatRange(0, 1)


def _unplugs(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[Unplug, ...]:
    try:
        return tuple(Unplug.parse(value) for value in values)
    except MisuseError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    short_help="a serial line with a speed and faults, in front of another port",
    epilog="Example: hillhold-lab line ./tty --link ./bad-tty --latency 2 --errors 1e-4 --unplug 20000:1.5 --seed 7",
)
@click.argument("far", metavar="FAR")
@click.option("--link", type=PATH, metavar="PATH", help="Serve on a pseudo-terminal, and link it here.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Serve on TCP instead (port 0: any); connect to socket://HOST:PORT."
)
@click.option(
    "--baud", type=click.IntRange(50, 12_000_000), default=115200, show_default=True, help="Bits per second, 10 a byte."
)
@click.option(
    "--latency",
    type=click.FloatRange(0, 1000),
    default=0.0,
    metavar="MS",
    help="Timer of a USB adapter, which holds bytes from FAR back until a packet is full (FTDI: 16, or 1 if set so). Default: no adapter.",
)
@click.option(
    "--packet",
    type=click.IntRange(1, 4096),
    default=FTDI_PACKET,
    show_default=True,
    metavar="BYTES",
    help="A full packet.",
)
@click.option("--errors", type=_RATE, default=0.0, metavar="RATE", help="Bytes of which one bit flips.")
@click.option("--drops", type=_RATE, default=0.0, metavar="RATE", help="Bytes that are lost.")
@click.option("--bursts", type=_RATE, default=0.0, metavar="RATE", help="Bytes with which a burst begins.")
@click.option(
    "--burst-length",
    type=click.IntRange(1, MAX_BURST),
    default=16,
    show_default=True,
    metavar="N",
    help="Bytes of a burst: all spoiled, or all lost.",
)
@click.option("--noise", type=_RATE, default=0.0, metavar="RATE", help="Bytes before which a random one is put in.")
@click.option(
    "--unplug",
    "unplugs",
    multiple=True,
    callback=_unplugs,
    metavar="AFTER_BYTES:SECONDS",
    help="Take the port away once, after so many bytes towards FAR, for so long. May be given again.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all faults: the same again with the same.")
@json_option
def line(
    far: str,
    link: Path | None,
    listen: str | None,
    baud: int,
    latency: float,
    packet: int,
    errors: float,
    drops: float,
    bursts: float,
    burst_length: int,
    noise: float,
    unplugs: tuple[Unplug, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Put a serial line between any program and FAR, until interrupted; then say what was done to the bytes.

    FAR is a serial port, a pseudo-terminal or socket://HOST:PORT; it may go away and come back. Rates are probabilities for each byte, such
    as 1e-4, the same in both directions. Faults hit bytes by their number in their direction: the same bytes and seed give the same faults.
    """
    if (link is None) == (listen is None):
        raise click.UsageError("give either --link PATH or --listen HOST:PORT")
    faults = LineFaults(errors, drops, bursts, burst_length, noise)
    model = LineModel(
        baud, to_board=faults, to_host=faults, latency=latency / 1000, packet=packet, queue=PORT_BUFFER, seed=seed
    )

    def say(text: str) -> None:
        click.echo(plain(text), err=as_json)
        (sys.stderr if as_json else sys.stdout).flush()

    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    front = LineFront(model, _near(link, listen or ""), lambda: open_port(far, baud), time.monotonic, unplugs, say)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        say(f"line from {front.name} to {far}; stop it with Ctrl-C")
        front.run(stop)
    finally:
        front.close()
    counts = {way: model.counts(way) for way in Direction}
    if as_json:
        data = {way.name.lower(): count.as_data() for way, count in counts.items()}
        click.echo(json.dumps({"baud": baud, "seed": seed, **data, "unplugged": front.unplugged, "lost": front.lost}))
        return
    for way, count in counts.items():
        click.echo(f"{way.value}: {_told(count)}")
    if front.unplugged:
        cleared = sum(count.cleared for count in counts.values())
        click.echo(f"unplugged: {front.unplugged} times, with {cleared} bytes under way")
    if front.lost:
        click.echo(f"lost with nobody to take them: {front.lost} bytes")


def _near(link: Path | None, listen: str) -> Callable[[], Line]:
    """What opens the near side, each time on the same port."""
    if link is not None:
        return lambda: PtyLine(link)
    address = parse_address(listen)

    def tcp() -> Line:
        nonlocal address
        near = TcpLine(*address)
        address = near.address
        return near

    return tcp


def _told(count: Counts) -> str:
    return (
        f"{count.received} bytes; {count.errors} with a flipped bit, {count.dropped} dropped, {count.noise} of noise, "
        f"{count.bursts} bursts ({count.burst_spoiled} spoiled, {count.burst_lost} lost)"
    )
