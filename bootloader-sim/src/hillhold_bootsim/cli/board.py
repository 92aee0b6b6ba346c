"""`hillhold-lab board`: a virtual board on a serial port, until it is interrupted."""

from __future__ import annotations

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
from hillhold_bootsim.boards import DEFAULT, NAME, Board
from hillhold_bootsim.boards import board as find_board
from hillhold_bootsim.flashfile import open_or_create
from hillhold_bootsim.station import Station, is_another, is_provisioned, make_board, provision_board
from hillhold_bootsim.stock import Stock, make_stock_board
from hillhold_bootsim.uart import Line, PtyLine, TcpLine, parse_address
from hillhold_signer.cli.terminal import FILE, PATH
from hillhold_signer.plain import plain
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.framing import Transport
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.select import Device

_LOOK = 0.1


def _name(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """A product or hardware as metadata can name it; a board of any other could never be updated."""
    if value is not None and not NAME.fullmatch(value):
        raise click.BadParameter(f"expected {NAME.pattern}, got {value!r}")
    return value


@click.command(
    epilog="Example: hillhold-lab board nrf52840dk --link ./tty --flash board.flash --boot-key image.pub --root 1.root.json "
    "--product pump"
)
@click.argument("name", metavar="[BOARD]", default=DEFAULT)
@click.option("--flash", type=PATH, required=True, metavar="FILE", help="The board's flash; made where there is none.")
@click.option("--link", type=PATH, metavar="PATH", help="Serve on a pseudo-terminal, and link it here.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Serve on TCP instead (port 0: any); connect to socket://HOST:PORT."
)
@click.option(
    "--boot-key",
    type=FILE,
    multiple=True,
    help="Public image key (PEM) that the bootloader holds, instead of those that the board's file names.",
)
@click.option("--root", type=FILE, help="New board: the root that it trusts from then on.")
@click.option("--product", callback=_name, help="New board: its product.")
@click.option("--hardware", callback=_name, help="New board: its hardware id, if not the one in the board's file.")
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
@click.option(
    "--stock",
    type=click.Choice([kind.value for kind in Stock]),
    help="A board without Hillhold: Zephyr's SMP server in the application, or MCUboot's serial recovery alone.",
)
def board(
    name: str,
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
    stock: str | None,
) -> None:
    """Run a virtual board until interrupted; its flash outlives it.

    BOARD is the name of one that ships (see `hillhold-lab boards`), or a TOML file that describes one. The first run makes the flash and
    provisions the board: give --root and --product. A --stock board is not provisioned; while it has no image, it waits in serial recovery.
    """
    if (link is None) == (listen is None):
        raise click.UsageError("give either --link PATH or --listen HOST:PORT")
    given = [name for name, value in (("--root", root), ("--product", product), ("--hardware", hardware)) if value]
    spec = find_board(name)
    if not (key_files := boot_key or spec.image_keys):
        raise click.UsageError(f"board {name} names no image keys: give --boot-key FILE")
    keys = [ImageKey.from_pem(path.read_bytes()) for path in key_files]
    script = SelfTest(Verdict(self_test), seconds=0.5, confirms=confirm == "auto")
    trusted = root.read_bytes() if root else b""
    if stock and given:
        raise click.UsageError(f"a stock board is not provisioned: leave {', '.join(given)} out")
    with ExitStack() as stack:
        if not stock and not flash.exists() and (root is None or product is None):
            raise click.UsageError(f"{flash}: a new board needs --root and --product")
        # The line first: a board whose line cannot be had is not provisioned.
        line: Line = PtyLine(link) if link is not None else TcpLine(*parse_address(listen or ""))
        stack.callback(line.close)
        chip = stack.enter_context(open_or_create(flash, spec.layout.geometry))
        if stock:
            if is_provisioned(chip, spec.layout):
                raise click.UsageError(f"{flash}: written by a board with Hillhold's agent; take a new file")
            transport = Transport.RAW if Transport.RAW in spec.transports else Transport.CONSOLE
            virtual = make_stock_board(chip, spec.layout, keys, Stock(stock), script, spec.buffer, transport)
            _run(virtual, spec, line)
            return
        if not is_provisioned(chip, spec.layout):
            if is_another(chip, spec.layout):
                raise click.UsageError(
                    f"{flash}: written by a board with other partitions than {name}; take a new file"
                )
            if root is None or product is None:
                raise click.UsageError(f"{flash}: a new board needs --root and --product")
            device = Device(product, hardware or spec.hardware, identity, spec.components)
            provision_board(chip, spec.layout, device, trusted)
        elif given:
            raise click.UsageError(
                f"{flash}: this board is provisioned already; leave {', '.join(given)} out, or take a new file"
            )
        made = make_board(chip, spec.layout, keys, script, spec.buffer, spec.buffers, spec.transports)
        _run(made, spec, line)


def _run(virtual: VirtualBoard, spec: Board, line: Line) -> None:
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    virtual.power_on()
    with Station(virtual, line, lambda: int(time.time())) as station:
        click.echo(f"board on {line.name}; stop it with Ctrl-C")
        shown = 0
        while not stop.wait(_LOOK) and station.failure is None:
            if virtual.boots != shown and virtual.info:
                shown = virtual.boots
                click.echo(_boot_line(virtual.info))
                sys.stdout.flush()
        traffic = station.traffic
    if station.failure is not None:
        raise OperationalError(f"the board stopped: {station.failure}") from station.failure
    line_time = f"{traffic.seconds(spec.baud):.1f} s at {spec.baud} baud"
    click.echo(f"off; {traffic.received} bytes received, {traffic.sent} sent: {line_time}")


def _boot_line(info: BoardInfo) -> str:
    booted = info.outcome.booted
    what = (
        f"{booted.image.version} from slot {booted.slot}{', on trial' if info.outcome.trial else ''}"
        if booted
        else "recovery"
    )
    events = "".join(f"\n   {plain(event)}" for event in info.outcome.events)
    return f"boot ({info.reason.value}): {what}{events}"
