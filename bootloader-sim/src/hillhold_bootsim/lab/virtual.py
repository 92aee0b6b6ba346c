"""A virtual board as a target: in this process, in virtual time, and with nothing on the line but what is put there.

Its flash can be read, its power cut, its clock set, and its applications do what they are told. Each case has a board of its own, which
makes verdicts the same in whatever order and by however many workers they are found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hillhold_bootsim.application import SelfTest, Verdict
from hillhold_bootsim.board import Parts, VirtualBoard
from hillhold_bootsim.bootflags import BootRecord, ImageFlags
from hillhold_bootsim.bootloader import ResetReason
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.model import Item
from hillhold_bootsim.lab.reading import Reading, read_flash
from hillhold_bootsim.lab.target import Trials
from hillhold_bootsim.layout import Layout, padded
from hillhold_bootsim.line import Direction, LineModel
from hillhold_bootsim.station import make_board, provision_board
from hillhold_bootsim.stock import Stock, make_stock_board
from hillhold_verifier.framing import SHARED, Transport
from hillhold_verifier.link import Stream, StreamError
from hillhold_verifier.select import Device

EPOCH: Final = 1_767_225_600
"""2026-01-01: when virtual time begins."""
TICK: Final = 0.02
"""Seconds between two looks of the board at its timer."""
SMALL: Final = Layout.in_a_row(
    name="small",
    geometry=Geometry.uniform(size=80 * 1024, sector=2048, unit=4, otp=256),
    state_size=20 * 1024,
    slot_size=16 * 1024,
)
"""A board with little flash, on which everything is quick."""
_SCRIPTS: Final = {
    Trials.PASS: SelfTest(),
    Trials.FAIL: SelfTest(default=Verdict.FAIL),
    Trials.WAIT: SelfTest(seconds=1e9, confirms=False),
}


@dataclass(frozen=True, slots=True)
class VirtualSpec:
    """A virtual board that a process can make whenever it wants one.

    Attributes:
        name: what people call it.
        layout, components, hardware, buffer, buffers, transports: of the board.
        product: what it is provisioned as.
        stock: a board without Hillhold.
        build: makes the board; a module's own function, which another process finds by its name. By default the right one.
        line: makes the line to it, or None for one that takes no time.
    """

    name: str = "small"
    layout: Layout = SMALL
    components: tuple[str, ...] = ("app",)
    hardware: str = "lab-board"
    product: str = "lab"
    buffer: int = 1024
    buffers: int = 1
    transports: tuple[Transport, ...] = SHARED
    stock: Stock | None = None
    build: Callable[[VirtualSpec, Flash, House], VirtualBoard] | None = None
    line: Callable[[], LineModel] | None = None

    kind = "virtual"
    alone = True

    @property
    def device(self) -> Device:
        """What it is provisioned as."""
        return Device(self.product, self.hardware, f"{self.name}-1", self.components)

    def make(self, seed: int) -> VirtualTarget:
        """Make a board that trusts the lab's root and image key."""
        return VirtualTarget(self, House(seed, self.device, EPOCH))


def right_board(spec: VirtualSpec, flash: Flash, house: House) -> VirtualBoard:
    """The board that the verifier's agent serves, or a stock one."""
    keys = [house.boot_key]
    if spec.stock:
        return make_stock_board(flash, spec.layout, keys, spec.stock, None, None)
    return make_board(flash, spec.layout, keys, None, spec.buffer, spec.buffers, spec.transports)


def _write_factory_image(flash: Flash, layout: Layout, house: House) -> None:
    """What a factory writes by a programmer: an image, and boot flags that have it confirmed."""
    plain = replace(layout, keys=None)
    parts = Parts(flash, plain, [house.boot_key])
    data = padded(house.image("1.0.0"), layout.geometry)
    parts.slots[0].erase(0, 0, parts.slots[0].size)
    parts.slots[0].write(0, 0, data)
    parts.control.store.provision(BootRecord((ImageFlags(confirmed=0),) * len(layout.slots)))


class VirtualTarget:
    """See `target.Target`.

    Attributes:
        board: the board itself, for whoever looks behind the line.
    """

    def __init__(self, spec: VirtualSpec, house: House) -> None:
        self._spec = spec
        flash = Flash(spec.layout.geometry)
        if spec.stock:
            _write_factory_image(flash, spec.layout, house)
        else:
            provision_board(flash, spec.layout, spec.device, house.first_root)
        self.board = (spec.build or right_board)(spec, flash, house)
        self.board.self_test = _SCRIPTS[Trials.PASS]
        self.line = spec.line() if spec.line else None
        self._notes: list[str] = []
        self._seconds, self._set, self._at = 0.0, EPOCH, 0.0
        self.board.power_on()

    @property
    def item(self) -> Item:
        """What it is."""
        spec, geometry = self._spec, self._spec.layout.geometry
        sectors = ", ".join(f"{count} x {size}" for count, size in geometry.runs)
        facts = {
            "flash": f"{geometry.size} bytes, sectors {sectors}, unit {geometry.unit}",
            "slots": ", ".join(str(part.size) for pair in spec.layout.slots for part in pair),
            "boot": spec.layout.mode.value,
            "transports": ", ".join(transport.value for transport in spec.transports),
            "software": f"stock: {spec.stock.value}" if spec.stock else "Hillhold's agent",
        }
        return Item(spec.name, "virtual", spec.hardware, spec.device.id, "", facts)

    @property
    def lacks(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def open(self) -> Stream:
        """Its UART."""
        return _Wire(self)

    def reset(self) -> None:
        """Take its power and give it back: the hardest reset there is."""
        self.power(False)
        self.power(True)

    def read(self) -> Reading:
        """Read its flash."""
        info = self.board.info if self.board.is_on else None
        started = [booted.slot for booted in info.outcome.images] if info else []
        return read_flash(self.board.flash.state(), self._spec.layout, started)

    def power(self, on: bool) -> None:
        """Switch it."""
        if on:
            self.board.power_on()
            self.wait(TICK)
        else:
            self.board.cut_power()

    def set_clock(self, seconds: int | None) -> None:
        """Set its clock; the world's time goes on as it did."""
        self._set, self._at = (EPOCH, 0.0) if seconds is None else (seconds, self._seconds)

    def trials(self, how: Trials) -> None:
        """Script its applications, from the next boot on."""
        self.board.self_test = _SCRIPTS[how]

    def now(self) -> int:
        """The world's time, not that of the board's clock."""
        return EPOCH + int(self._seconds)

    def seconds(self) -> float:
        """Virtual seconds since the board was made."""
        return self._seconds

    def wait(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self._seconds + seconds
        while self._seconds < end:
            self._seconds = min(end, self._seconds + max(TICK, seconds / 50))
            self._running(lambda: self.board.tick(self._seconds))

    def close(self) -> None:
        """Nothing is held."""

    def feed(self, data: bytes) -> bytes:
        """Bytes go in at the board's end of the line, its answer comes out."""
        answer = b""

        def serve() -> None:
            nonlocal answer
            answer = self.board.feed(data, self._set + int(self._seconds - self._at))

        self._running(serve)
        return answer

    def notes(self) -> list[str]:
        """Crashes of its software."""
        found, self._notes = self._notes, []
        return found

    def _running(self, act: Callable[[], None]) -> None:
        """Let its software run: where it crashes, the watchdog resets the board."""
        try:
            act()
        except Exception as error:
            self._notes.append(f"the board's software crashed: {type(error).__name__}: {error}")
            self.board.reset(ResetReason.WATCHDOG)


class _Wire:
    """The line to a virtual board."""

    def __init__(self, target: VirtualTarget) -> None:
        self._target, self._came, self._open = target, bytearray(), True

    def write(self, data: bytes, /) -> object:
        if not self._open:
            raise StreamError("the line is closed")
        if self._target.line is None:
            self._came += self._target.feed(data)
        else:
            self._push(self._target.line, data)
        return len(data)

    def _push(self, line: LineModel, data: bytes) -> None:
        """A line that is full makes its writer wait."""
        while data:
            data = data[line.push(Direction.TO_BOARD, data, self._target.seconds()) :]
            if data:
                self._target.wait(TICK)
                self._pump(line)

    def read(self, timeout: float, /) -> bytes:
        if not self._open:
            raise StreamError("the line is closed")
        target, line = self._target, self._target.line
        end = target.seconds() + max(timeout, 1e-3)
        while not self._came and target.seconds() < end:
            event = line.next_event() if line else None
            target.wait(max(1e-6, min(end, event if event is not None else end) - target.seconds()))
            if line:
                self._pump(line)
        data, self._came = bytes(self._came), bytearray()
        return data

    def _pump(self, line: LineModel) -> None:
        target = self._target
        if data := line.pull(Direction.TO_BOARD, target.seconds()):
            line.push(Direction.TO_HOST, target.feed(data), target.seconds())
        self._came += line.pull(Direction.TO_HOST, target.seconds())

    def reopen(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False
