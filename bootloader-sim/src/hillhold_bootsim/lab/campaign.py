"""CAMPAIGN.toml: what a laboratory orders, read strictly (docs/FORMAT.md, "Campaign file").

format = 1
title = "Update mechanism of the pump's controller"
seed = 1                                # optional, like all that follows but the items
selfcheck = true                        # first, the tool's validation of itself

[paper]
laboratory = "…"                        # address, customer, number, received, issued, deviations, signatories

[[item]]
name = "virtual"
board = "nrf52840dk"                    # or a board file

[[item]]
name = "unit 7"
port = "/dev/ttyACM0"                   # or adapter = "mine.py"
serial_number = "0042"
firmware = "app.bin"                    # what its images consist of
power = { hub = "1-1", port = 2 }       # or { on = […], off = […] }, or { relay = "/dev/ttyUSB1", on = "a0…", off = "a0…" }

[attacks]
cases = ["all"]                         # groups, or ids
exclude = [{ case = "…", reason = "…" }]

[[line]]
name = "noisy"
baud = 115200
errors = 1e-4
updates = 3

[power_cuts]
spread = 100                            # cuts in time, spread over an update
depth = 1                               # cuts at every flash operation of a virtual board

[soak]
updates = 1000
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from hillhold_bootsim.boards import BAUDS
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.errors import CampaignRefused
from hillhold_bootsim.lab.model import Paper
from hillhold_bootsim.lab.power import Command, Hub, Relay, Switching
from hillhold_bootsim.line import FTDI_PACKET, LineModel
from hillhold_bootsim.linefaults import MAX_BURST, LineFaults
from hillhold_bootsim.stock import Stock
from hillhold_bootsim.tables import Table
from hillhold_signer.storage import read_file
from hillhold_verifier.mcuboot import HEADER_SIZE

FORMAT: Final = 1
MAX_FILE: Final = 256 * 1024
"""Bytes of a campaign's file."""
MAX_ITEMS: Final = 64
MAX_LINES: Final = 64
MAX_LIST: Final = 200
MAX_WORKERS: Final = 1024
MAX_CUTS: Final = 100_000
MAX_SOAK: Final = 500_000
"""Updates of which the journal has room."""
MAX_TEXT: Final = 2000
MAX_FIRMWARE: Final = 16 * 1024 * 1024
ALL: Final = "all"
ID: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""Of a line, whose case is called after it."""


@dataclass(frozen=True, slots=True)
class ItemOrder:
    """One board that is to be tested.

    Attributes:
        name: what it is called in the report.
        board: name or path of a virtual one; or "".
        port: of a serial one; or "".
        adapter: path of a device adapter; or "".
        baud: of the port.
        dtr: the port's DTR is wired to the board's reset.
        stock: the virtual board is a stock one of this kind ("zephyr"); or "".
        serial_number: the maker's or the laboratory's.
        power: what switches it, or None.
        firmware: path of what its images consist of, or "" for noise.
        header: bytes of an image's header with its filler.
    """

    name: str
    board: str = ""
    port: str = ""
    adapter: str = ""
    baud: int = 115200
    dtr: bool = False
    stock: str = ""
    serial_number: str = ""
    power: Switching | None = None
    firmware: str = ""
    header: int = HEADER_SIZE

    @property
    def is_virtual(self) -> bool:
        """Nothing that it suffers matters."""
        return bool(self.board)


@dataclass(frozen=True, slots=True)
class LineOrder:
    """A line over which honest updates must come through.

    Attributes:
        latency: seconds that the adapter holds bytes back.
        updates: how many.
    """

    name: str
    baud: int
    latency: float
    packet: int
    faults: LineFaults
    updates: int

    def model(self, seed: int) -> LineModel:
        """Make it."""
        return LineModel(
            self.baud,
            to_board=self.faults,
            to_host=self.faults,
            latency=self.latency,
            packet=self.packet,
            seed=seed,
        )


@dataclass(frozen=True, slots=True)
class CutsOrder:
    """Power cuts.

    Attributes:
        spread: cuts in time, spread over an update; 0 for none.
        seconds: without power.
        depth: of cuts at every flash operation of a virtual board; 0 for none.
        sample: cases from the second cut on; None for all.
        size: bytes of firmware in their images.
    """

    spread: int = 0
    seconds: float = 1.0
    depth: int = 0
    sample: int | None = None
    size: int = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """A campaign's file.

    Attributes:
        attacks: ids of cases, in the catalogue's order.
        excluded: reasons by id.
        soak: updates back and forth; 0 for none.
        workers: processes, or None for as many as there are CPUs.
        scheduler: of a Dask cluster for power cuts, or "".
        selfcheck: the tool's validation of itself comes first.
        folder: what its paths are relative to.
        digest: SHA-256 of the file, in hexadecimal.
    """

    title: str
    paper: Paper
    items: tuple[ItemOrder, ...]
    attacks: tuple[str, ...]
    excluded: Mapping[str, str]
    lines: tuple[LineOrder, ...]
    cuts: CutsOrder
    soak: int
    seed: int = 0
    workers: int | None = None
    scheduler: str = ""
    selfcheck: bool = False
    folder: Path = Path()
    digest: str = ""


def read_order(path: Path) -> Order:
    """Read a campaign's file.

    Raises:
        CampaignRefused: it is none, or orders what cannot be done.
        StorageError: it cannot be read.
    """
    return parse_order(read_file(path, MAX_FILE), str(path), path.parent)


def parse_order(data: bytes, what: str, folder: Path) -> Order:
    """Parse a campaign's file; `what` names it in errors, `folder` is what its paths are relative to. Raises as `read_order`."""
    try:
        top = Table(tomllib.loads(data.decode()), what, CampaignRefused)
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, TOML's own, or a number of too many digits
        raise CampaignRefused(what, expected="TOML in UTF-8", got=str(error)[:120]) from error
    top.number("format", FORMAT, FORMAT)
    title = top.text("title")
    paper = _paper(top.table("paper")) if top.has("paper") else Paper()
    items = tuple(_item(table) for table in _some(top, "item", MAX_ITEMS))
    _distinct(what, "item", [item.name for item in items])
    attacks, excluded = _attacks(top.table("attacks")) if top.has("attacks") else ((), {})
    lines = tuple(_line(table) for table in _some(top, "line", MAX_LINES)) if top.has("line") else ()
    _distinct(what, "line", [line.name for line in lines])
    cuts = _cuts(top.table("power_cuts")) if top.has("power_cuts") else CutsOrder()
    soak = _soak(top.table("soak")) if top.has("soak") else 0
    seed = top.number("seed", default=0)
    workers = top.number("workers", 1, MAX_WORKERS) if top.has("workers") else None
    scheduler = top.text("scheduler", default="")
    validates = top.flag("selfcheck")
    top.end()
    if not (attacks or lines or cuts.spread or cuts.depth or soak):
        raise CampaignRefused(what, expected="at least one of attacks, line, power_cuts, soak", got="nothing to do")
    digest = sha256(data).hexdigest()
    return Order(
        title, paper, items, attacks, excluded, lines, cuts, soak, seed, workers, scheduler, validates, folder, digest
    )  # fmt: skip


def firmware_of(order: Order, item: ItemOrder) -> bytes:
    """Return what an item's images consist of, b"" for noise; raises `StorageError`."""
    return read_file(order.folder / item.firmware, MAX_FIRMWARE) if item.firmware else b""


# --- inside -----------------------------------------------------------------------------------------------------------


def _some(top: Table, name: str, most: int) -> list[Table]:
    found = top.tables(name)
    if len(found) > most:
        raise top.error(name, f"at most {most}", len(found))
    return found


def _distinct(what: str, kind: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CampaignRefused(f"{what}: {kind}", expected="distinct names", got=f"{twice!r} twice")


def _paper(table: Table) -> Paper:
    texts: dict[str, Any] = {name: table.text(name, MAX_TEXT, "") for name in _TEXTS}
    lists: dict[str, Any] = {name: tuple(table.texts(name, most=MAX_LIST)) for name in _LISTS}
    found = Paper(**texts, **lists)
    table.end()
    return found


_TEXTS: Final = ("laboratory", "address", "customer", "number", "received", "issued")
_LISTS: Final = ("deviations", "signatories")


def _item(table: Table) -> ItemOrder:
    name = table.text("name")
    kinds = [kind for kind in ("board", "port", "adapter") if table.has(kind)]
    if len(kinds) != 1:
        got = " and ".join(kinds) or "none of them"
        raise CampaignRefused(f"{table.what}", expected="one of board, port, adapter", got=got)
    (kind,) = kinds
    where = {kind: table.text(kind)}
    baud = table.number("baud", *BAUDS, default=115200) if kind == "port" else 115200
    stock = table.one_of("stock", [each.value for each in Stock]) if kind == "board" and table.has("stock") else ""
    power = None
    if kind != "board":  # a virtual board has a switch of its own
        power = _power(table.table("power")) if table.has("power") else None
    found = ItemOrder(
        name,
        **where,
        baud=baud,
        dtr=table.flag("dtr") if kind == "port" else False,
        stock=stock,
        serial_number=table.text("serial_number", default=""),
        power=power,
        firmware=table.text("firmware", default=""),
        header=table.number("header", HEADER_SIZE, 64 * 1024, default=HEADER_SIZE),
    )
    table.end()
    return found


def _power(table: Table) -> Switching:
    found: Switching
    if table.has("hub"):
        found = Hub(table.matching("hub", re.compile(r"[0-9]+(-[0-9.]+)?"), 40), table.number("port", 1, 255))
    elif table.has("relay"):
        baud = table.number("baud", *BAUDS, default=9600)
        found = Relay(table.text("relay"), _bytes(table, "on"), _bytes(table, "off"), baud)
    else:
        found = Command(*(tuple(table.texts(name, most=MAX_LIST, least=1)) for name in ("on", "off")))
    table.end()
    return found


def _bytes(table: Table, name: str) -> bytes:
    text = table.text(name)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise table.error(name, "bytes in hexadecimal", repr(text)[:80]) from None


def _attacks(table: Table) -> tuple[tuple[str, ...], dict[str, str]]:
    groups = {attack.case.group for attack in CATALOGUE}
    ids = [attack.case.id for attack in CATALOGUE]
    names = table.texts("cases", most=1000, least=1)
    for name in names:
        if name not in {ALL, *groups, *ids}:
            raise _unknown(table, "cases", name, [ALL, *sorted(groups), *ids])
    chosen = [one.case.id for one in CATALOGUE if {ALL, one.case.group, one.case.id} & set(names)]
    excluded: dict[str, str] = {}
    for row in _some(table, "exclude", 1000) if table.has("exclude") else []:
        case, reason = row.text("case"), row.text("reason", MAX_TEXT)
        row.end()
        if case not in ids:
            raise _unknown(row, "case", case, ids)
        if case not in chosen or case in excluded:
            raise row.error("case", "one of those that `cases` names, once", case)
        excluded[case] = reason
    table.end()
    return tuple(case for case in chosen if case not in excluded), excluded


def _unknown(table: Table, name: str, got: str, known: Sequence[str]) -> CampaignRefused:
    near = get_close_matches(got, known, 1)
    hint = f"do you mean {near[0]}?" if near else "`hillhold-lab attack --list` names them"
    return CampaignRefused(f"{table.what}: {name}", expected="a case of the catalogue", got=repr(got)[:80], hint=hint)


def _line(table: Table) -> LineOrder:
    name = table.matching("name", ID, 40)
    rates = {kind: table.fraction(kind) for kind in ("errors", "drops", "bursts", "noise")}
    burst = table.number("burst_length", 1, MAX_BURST, default=LineFaults().burst_length)
    found = LineOrder(
        name,
        table.number("baud", *BAUDS, default=115200),
        table.fraction("latency", 1000) / 1000,
        table.number("packet", 1, 4096, default=FTDI_PACKET),
        LineFaults(**rates, burst_length=burst),
        table.number("updates", 1, 1000, default=1),
    )
    table.end()
    return found


def _cuts(table: Table) -> CutsOrder:
    found = CutsOrder(
        table.number("spread", 0, MAX_CUTS, default=0),
        table.fraction("seconds", 3600, CutsOrder().seconds),
        table.number("depth", 0, 9, default=0),
        table.number("sample", 1) if table.has("sample") else None,
        table.number("size", 1024, MAX_FIRMWARE, default=CutsOrder().size),
    )
    table.end()
    return found


def _soak(table: Table) -> int:
    updates = table.number("updates", 1, MAX_SOAK)
    table.end()
    return updates


__all__ = ["CutsOrder", "ItemOrder", "LineOrder", "Order", "firmware_of", "parse_order", "read_order"]
