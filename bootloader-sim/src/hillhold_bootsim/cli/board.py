"""`hillhold-lab board`: a virtual board on a serial port, until it is interrupted."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click

from hillhold_bootsim.application import SelfTest, Verdict
from hillhold_bootsim.board import BoardInfo, VirtualBoard
from hillhold_bootsim.flashfile import open_or_create
from hillhold_bootsim.layout import DEFAULT_LAYOUT
from hillhold_bootsim.station import Station, is_provisioned, make_board, provision_board
from hillhold_bootsim.uart import Line, PtyLine, TcpLine, parse_address
from hillhold_signer.cli.terminal import FILE, PATH
from hillhold_signer.plain import plain
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.select import Device

_LOOK = 0.1
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")


def _name(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """A product or hardware as metadata can name it; a board of any other could never be updated."""
    if value is not None and not _NAME.fullmatch(value):
        raise click.BadParameter(f"expected {_NAME.pattern}, got {value!r}")
    return value


@click.command(
    epilog="Example: hillhold-lab board --link ./tty --flash board.flash --boot-key image.pub --root 1.root.json "
    "--product pump --hardware nrf52840-a"
)
@click.option("--flash", type=PATH, required=True, metavar="FILE", help="The board's flash; made where there is none.")
@click.option("--link", type=PATH, metavar="PATH", help="Serve on a pseudo-terminal, and link it here.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Serve on TCP instead (port 0: any); connect to socket://HOST:PORT."
)
@click.option(
    "--boot-key", type=FILE, multiple=True, required=True, help="Public image key (PEM) that the bootloader holds."
)
@click.option("--root", type=FILE, help="New board: the root that it trusts from then on.")
@click.option("--product", callback=_name, help="New board: its product.")
@click.option("--hardware", callback=_name, help="New board: its hardware id.")
@click.option("--id", "identity", default="virtual-1", show_default=True, help="New board: its device id.")
@click.option(
    "--self-test",
    type=click.Choice([verdict.value for verdict in Verdict]),
    default=Verdict.PASS.value,
    show_default=True,
    help="How the self-test of an image on trial ends (firmware is not executed).",
)
@click.option(
    "--confirm",
    type=click.Choice(["auto", "wire"]),
    default="auto",
    show_default=True,
    help="Who confirms after it passed.",
)
def board(
    flash: Path,
    link: Path | None,
    listen: str | None,
    boot_key: tuple[Path, ...],
    root: Path | None,
    product: str | None,
    hardware: str | None,
    identity: str,
    self_test: str,
    confirm: str,
) -> None:
    """Run a virtual board until interrupted; its flash outlives it.

    The first run makes the flash and provisions the board: give --root, --product and --hardware.
    """
    if (link is None) == (listen is None):
        raise click.UsageError("give either --link PATH or --listen HOST:PORT")
    given = [name for name, value in (("--root", root), ("--product", product), ("--hardware", hardware)) if value]
    keys = [ImageKey.from_pem(path.read_bytes()) for path in boot_key]
    script = SelfTest(Verdict(self_test), seconds=0.5, confirms=confirm == "auto")
    trusted = root.read_bytes() if root else b""
    with ExitStack() as stack:
        if not flash.exists() and len(given) < 3:
            raise click.UsageError(f"{flash}: a new board needs --root, --product and --hardware")
        # The line first: a board whose line cannot be had is not provisioned.
        line: Line = PtyLine(link) if link is not None else TcpLine(*parse_address(listen or ""))
        stack.callback(line.close)
        chip = stack.enter_context(open_or_create(flash, DEFAULT_LAYOUT.geometry))
        if not is_provisioned(chip, DEFAULT_LAYOUT):
            if root is None or product is None or hardware is None:
                raise click.UsageError(f"{flash}: a new board needs --root, --product and --hardware")
            provision_board(chip, DEFAULT_LAYOUT, Device(product, hardware, identity), trusted)
        elif given:
            raise click.UsageError(
                f"{flash}: this board is provisioned already; leave {', '.join(given)} out, or take a new file"
            )
        _run(make_board(chip, DEFAULT_LAYOUT, keys, script), line, str(link or _url(line)))


def _url(line: Line) -> str:
    host, port = line.address if isinstance(line, TcpLine) else ("", 0)
    return f"socket://[{host}]:{port}" if ":" in host else f"socket://{host}:{port}"


def _run(virtual: VirtualBoard, line: Line, port: str) -> None:
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    virtual.power_on()
    with Station(virtual, line, lambda: int(time.time())) as station:
        click.echo(f"board on {port}; stop it with Ctrl-C")
        shown = 0
        while not stop.wait(_LOOK) and station.failure is None:
            if virtual.boots != shown and virtual.info:
                shown = virtual.boots
                click.echo(_boot_line(virtual.info))
                sys.stdout.flush()
        traffic = station.traffic
    if station.failure is not None:
        raise OperationalError(f"the board stopped: {station.failure}") from station.failure
    click.echo(f"off; {traffic.received} bytes received, {traffic.sent} sent: {traffic.seconds():.1f} s at 115200 baud")


def _boot_line(info: BoardInfo) -> str:
    booted = info.outcome.booted
    what = (
        f"{booted.image.version} from slot {booted.slot}{', on trial' if info.outcome.trial else ''}"
        if booted
        else "recovery"
    )
    events = "".join(f"\n   {plain(event)}" for event in info.outcome.events)
    return f"boot ({info.reason.value}): {what}{events}"
