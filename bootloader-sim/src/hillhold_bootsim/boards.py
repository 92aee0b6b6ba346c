"""Boards as data: a TOML file says what a board is, and runs no code. Those in `boards/` match boards that one can buy.

    format = 1
    name = "nrf52840dk"
    description = "Nordic nRF52840 DK"
    hardware = "nrf52840dk"                 # as metadata name it
    boot = "swap"                           # or "remap"
    buffer = 1024                           # bytes of the longest SMP message that it takes
    buffers = 4                             # how many of them it holds at a time
    baud = 115200
    transports = ["console", "cobs"]        # optional: what its line carries; or ["raw"]
    image_keys = ["boot.pub"]               # optional: PEM files, relative to this one

    [flash]
    sectors = [{ count = 256, size = 0x1000 }]      # from offset 0 on
    unit = 4                                # program granularity in bytes
    erased_value = 0xff
    one_way = 128                           # bytes of the region behind it that is never erased

    [partitions]                            # each of them twice
    flags = [{ offset = 0xfe000, size = 0x1000 }, { offset = 0xff000, size = 0x1000 }]
    state = [{ offset = 0xea000, size = 0x8000 }, { offset = 0xf2000, size = 0x8000 }]
    keys = [{ offset = 0xfa000, size = 0x2000 }, { offset = 0xfc000, size = 0x2000 }]      # optional

    [[component]]                           # one to four, in the order of their numbers
    name = "app"
    slots = [{ offset = 0xc000, size = 0x6e000 }, { offset = 0x7a000, size = 0x6f000 }]

Whatever else stands in the file, or cannot be, is refused (docs/FORMAT.md, "Board file").
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from hillhold_bootsim.bootflags import record_size
from hillhold_bootsim.counter import entry_size
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout, Pair, Partition
from hillhold_bootsim.swap import usable
from hillhold_bootsim.tables import Table
from hillhold_verifier.errors import MisuseError, OperationalError, Refused
from hillhold_verifier.framing import SHARED, Transport
from hillhold_verifier.smp_body import MAX_BODY
from hillhold_verifier.state import RESERVE

FORMAT: Final = 1
MAX_FILE: Final = 64 * 1024
"""Bytes of a board file."""
MAX_NAME: Final = 64
MAX_KEYS: Final = 16
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._+-]*")
"""What metadata can name: a product, hardware, a component."""
MIN_BUFFER: Final = 128
"""The least that a courier reckons with."""
MAX_BUFFERS: Final = 100
"""As Zephyr has it (MCUMGR_TRANSPORT_NETBUF_COUNT)."""
BAUDS: Final = (300, 12_000_000)
DEFAULT: Final = "virtual-m4-1m"
"""The board that is taken where none is named."""
_SUFFIX: Final = ".toml"


class BoardFileError(Refused):
    """A file that does not describe a board, or one that cannot be; says where, what was expected, and what came."""


class UnknownBoardError(MisuseError):
    """No board of that name comes with the package."""

    hint = "`hillhold-lab boards` lists them; a file is ./NAME, or ends in .toml"


@dataclass(frozen=True, slots=True)
class Board:
    """A board.

    Attributes:
        description: one line for people.
        hardware: its hardware id, as metadata name it.
        layout: flash, partitions and boot mode, and the board's name.
        components: their names, in the order of the layout's slots.
        image_keys: PEM files with the keys that its bootloader holds; none where the user brings them.
        buffer: bytes of the longest SMP message that it takes.
        buffers: how many of them it holds at a time.
        baud: bits per second on its line.
        transports: what its line carries.
    """

    description: str
    hardware: str
    layout: Layout
    components: tuple[str, ...]
    image_keys: tuple[Path, ...]
    buffer: int
    buffers: int
    baud: int
    transports: tuple[Transport, ...] = SHARED

    @property
    def name(self) -> str:
        """What it is called."""
        return self.layout.name

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Bytes of the longest image of each component."""
        if self.layout.mode is BootMode.SWAP:
            return tuple(usable(self.layout, number) for number in range(len(self.components)))
        return tuple(min(part.size for part in pair) for pair in self.layout.slots)


def shipped_boards() -> Mapping[str, str]:
    """Return the boards that come with the package, by name: their files, as text."""
    found = {
        item.name.removesuffix(_SUFFIX): item.read_text(encoding="utf-8")
        for item in (files("hillhold_bootsim") / "boards").iterdir()
        if item.name.endswith(_SUFFIX)
    }
    return dict(sorted(found.items()))


def board_text(name_or_path: str) -> str:
    """Return the file of a board; raises as `board`."""
    return _find(name_or_path)[0]


def board(name_or_path: str = DEFAULT) -> Board:
    """Return a board that comes with the package, by its name, or the one that a file describes, by its path.

    What has a name's form is a name; a file beside it is `./NAME`, or ends in `.toml`.

    Raises:
        UnknownBoardError: no board of that name comes with the package.
        BoardFileError, OperationalError: as `load_board`.
    """
    return parse_board(*_find(name_or_path))


def load_board(path: Path) -> Board:
    """Read a board file.

    Raises:
        BoardFileError: it does not describe a board that can be.
        OperationalError: it cannot be read.
    """
    return parse_board(_read(path), str(path), path.parent)


def parse_board(text: str, what: str, folder: Path) -> Board:
    """Parse a board file.

    Args:
        text: its content.
        what: what errors call it.
        folder: what its paths are relative to.

    Raises:
        BoardFileError: it does not describe a board that can be.
    """
    try:
        top = Table(tomllib.loads(text), what, BoardFileError)
    except (ValueError, RecursionError) as error:  # ValueError: TOML's own, or a number of too many digits
        raise BoardFileError(what, expected="TOML", got=str(error)[:120]) from error
    top.number("format", FORMAT, FORMAT)
    name, description, hardware = _name(top, "name"), top.text("description"), _name(top, "hardware")
    mode = BootMode(top.one_of("boot", [mode.value for mode in BootMode]))
    buffer, buffers = top.number("buffer", MIN_BUFFER, MAX_BODY), top.number("buffers", 1, MAX_BUFFERS)
    baud = top.number("baud", *BAUDS)
    transports = _transports(top)
    image_keys = top.texts("image_keys", most=MAX_KEYS)
    geometry = _geometry(top.table("flash"))
    places = top.table("partitions")
    flags, state, keys = _pair(places, "flags"), _pair(places, "state"), _optional_pair(places, "keys")
    places.end()
    components = [_component(item) for item in top.tables("component")]
    top.end()
    names = [component for component, _ in components]
    if len(set(names)) != len(names):
        raise BoardFileError(f"{what}: component", expected="distinct names", got=", ".join(names))
    try:
        layout = Layout(name, geometry, flags, state, tuple(pair for _, pair in components), mode, keys)
    except MisuseError as error:
        raise BoardFileError(f"{what}: {error}") from error
    key_files = tuple(folder / key for key in image_keys)
    found = Board(description, hardware, layout, tuple(names), key_files, buffer, buffers, baud, transports)
    _check_room(found, what)
    return found


# --- inside -----------------------------------------------------------------------------------------------------------


def _find(name_or_path: str) -> tuple[str, str, Path]:
    """Text, place and folder of a board."""
    if not NAME.fullmatch(name_or_path) or name_or_path.endswith(_SUFFIX):
        path = Path(name_or_path)
        return _read(path), str(path), path.parent
    shipped = shipped_boards()
    if name_or_path not in shipped:
        raise UnknownBoardError(f"board {name_or_path}: expected one of {', '.join(shipped)}, or a file")
    return shipped[name_or_path], f"{name_or_path}{_SUFFIX}", Path()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise OperationalError(f"cannot read board file {path}: {getattr(error, 'strerror', error)}") from error
    if len(data) > MAX_FILE:
        raise BoardFileError(str(path), expected=f"at most {MAX_FILE} bytes", got="more")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BoardFileError(str(path), expected="UTF-8", got=f"byte {error.start} that is not") from error


def _geometry(table: Table) -> Geometry:
    runs = []
    for item in table.tables("sectors"):
        runs.append((item.number("count", 1), item.number("size", 1)))
        item.end()
    unit, erased_value, otp = table.number("unit", 1), table.number("erased_value"), table.number("one_way")
    table.end()
    try:
        return Geometry(tuple(runs), unit, erased_value, otp)
    except MisuseError as error:
        raise BoardFileError(f"{table.what}: {error}") from error


def _transports(table: Table) -> tuple[Transport, ...]:
    names = table.texts("transports", most=len(Transport)) or [transport.value for transport in SHARED]
    found = tuple(transport for transport in Transport if transport.value in names)
    if len(found) != len(names) or (len(found) > 1 and Transport.RAW in found):
        expected = "distinct ones of console and cobs, or raw alone"
        raise BoardFileError(f"{table.what}: transports", expected=expected, got=repr(names)[:80])
    return found


def _component(table: Table) -> tuple[str, Pair]:
    name, slots = _name(table, "name"), _pair(table, "slots")
    table.end()
    return name, slots


def _pair(table: Table, name: str) -> Pair:
    both = table.tables(name)
    if len(both) != 2:
        raise table.error(name, "two ranges { offset, size }", len(both))
    first, second = (Partition(item.number("offset"), item.number("size", 1)) for item in both)
    for item in both:
        item.end()
    return first, second


def _optional_pair(table: Table, name: str) -> Pair | None:
    return _pair(table, name) if table.has(name) else None


def _name(table: Table, name: str) -> str:
    return table.matching(name, NAME, MAX_NAME)


def _check_room(board: Board, what: str) -> None:
    """What is never looked at again until it is missed: a record that does not fit, a counter that cannot be raised."""
    layout, count = board.layout, len(board.components)
    needs = [
        ("partitions: flags", min(part.size for part in layout.flags), record_size(count), "in each area"),
        ("partitions: state", min(part.size for part in layout.state), 2 * RESERVE, "in each area"),
        (
            "flash: one_way",
            layout.geometry.otp,
            count * entry_size(layout.geometry.unit),
            "for a counter of each component",
        ),
    ]
    for where, has, needed, why in needs:
        if has < needed:
            raise BoardFileError(f"{what}: {where}", expected=f"at least {needed} bytes {why}", got=has)
    try:
        _ = board.image_sizes
    except MisuseError as error:
        raise BoardFileError(f"{what}: {error}") from error
