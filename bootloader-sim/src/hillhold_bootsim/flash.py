"""NOR flash with real rules, whose power can be cut at any operation.

**Rules.** Erase works on whole sectors and sets every byte to the erased value. Program works on whole aligned units, each of which was
erased since it was last programmed: never twice, not even with the same bytes, and a unit that was programmed with erased bytes is
programmed nevertheless (flash with ECC). A one-way region behind the main one has the same units and is never erased. Wear is counted per
sector. Breaking a rule raises `FlashContractError`, changes nothing and is a bug of the firmware under test.

**Fault model.** Memory itself is perfect: it keeps what was written, and has no noise and no decay. Only power fails, and only at an
*operation*: one program call, or one sector of an erase call; reading is not one. Operations are numbered from 0 over the life of the
`Flash` object, through any number of power cycles. Before each, the `PowerCut` strategy is asked:

- `BEFORE`: nothing of the operation happens.
- `TORN` program: a prefix of the units is written (perhaps none, never all), the unit behind it is damaged: of the bits that should
  change, some did. It counts as programmed, though it may read as erased. The units behind that are untouched.
- `TORN` erase: a part of the sector (from its start, or up to its end) is erased, the rest is old. All of it counts as
  programmed, since cells that were erased for too short a time hold no data: the sector must be erased again.
- `AFTER`: the operation is done, but the caller never learns that.

How far a torn operation came follows from the seed and the operation's number alone. Then `PowerLost` is raised, and so does every
access until `power_on`. Power can be cut between operations as well (`power_off`). A process that is killed is a power cut for a
flash that has a file (`flashfile`). Not modelled: a torn unit that reads differently from one time to the next, a weak erase that
decays later, disturbed neighbours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from hillhold_verifier.errors import MisuseError

MAX_SIZE: Final = 64 * 1024 * 1024
"""Bytes of main flash: it is held in memory."""
MAX_OTP: Final = 64 * 1024
"""Bytes of the one-way region."""
MAX_WEAR: Final = 2**32 - 1
"""Erase cycles that are counted per sector; the count stays there."""


class FlashContractError(MisuseError):
    """The firmware under test broke a rule of the flash; nothing was changed."""


class PowerLost(BaseException):
    """The power went. What runs on the board ends here.

    Not an `Exception`: firmware that catches every error, as firmware does, must not be able to go on without power.
    """


class Cut(Enum):
    """Where in an operation the power goes."""

    BEFORE = "before"
    TORN = "torn"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Operation:
    """One flash operation; `offset` and `length` in bytes."""

    number: int
    kind: str
    offset: int
    length: int


class PowerCut(Protocol):
    """A strategy that decides when the power goes."""

    def decide(self, operation: Operation, /) -> tuple[Cut, int] | None:
        """Return where in this operation the power goes and the seed of a torn one, or None to let it pass."""


@dataclass(frozen=True, slots=True)
class CutAt:
    """Cut the power at one operation; `str()` names the case, and is the same in every run."""

    number: int
    where: Cut
    seed: int = 0

    def decide(self, operation: Operation, /) -> tuple[Cut, int] | None:
        return (self.where, self.seed) if operation.number == self.number else None

    def __str__(self) -> str:
        return f"{self.number}-{self.where.value}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Geometry:
    """Shape of a flash, sizes in bytes.

    Attributes:
        size: main flash, whole sectors.
        sector: erase granularity, whole units.
        unit: program granularity, a power of two up to 256.
        erased_value: an erased byte, 0xFF or 0x00.
        otp: the one-way region, whole units; its offsets begin at `size`.
    """

    size: int
    sector: int
    unit: int
    erased_value: int = 0xFF
    otp: int = 0

    def __post_init__(self) -> None:
        rules = {
            "unit, a power of two up to 256": self.unit in (1, 2, 4, 8, 16, 32, 64, 128, 256),
            "sector, whole units": self.sector > 0 and self.unit > 0 and self.sector % self.unit == 0,
            f"size, whole sectors up to {MAX_SIZE}": 0 < self.size <= MAX_SIZE
            and self.sector > 0
            and self.size % self.sector == 0,
            "erased_value, 0xFF or 0x00": self.erased_value in (0x00, 0xFF),
            f"otp, whole units up to {MAX_OTP}": 0 <= self.otp <= MAX_OTP
            and self.unit > 0
            and self.otp % self.unit == 0,
        }
        if broken := [rule for rule, kept in rules.items() if not kept]:
            raise MisuseError(f"geometry: {'; '.join(broken)}")

    @property
    def end(self) -> int:
        """Bytes of both regions."""
        return self.size + self.otp

    @property
    def sectors(self) -> int:
        """Number of sectors."""
        return self.size // self.sector

    @property
    def units(self) -> int:
        """Number of units in both regions."""
        return self.end // self.unit


class Store(Protocol):
    """What outlives the power: content, one byte per unit that says whether it is programmed, and wear. `bytearray`s without a file."""

    content: bytearray
    programmed: bytearray
    wear: list[int]

    def save_content(self, offset: int, length: int) -> None:
        """Write through these bytes of `content`."""

    def save_programmed(self, first: int, count: int) -> None:
        """Write through the state of these units."""

    def save_wear(self, sector: int) -> None:
        """Write through the wear of this sector."""


class MemoryStore:
    """A store without a file, factory-new."""

    def __init__(self, geometry: Geometry) -> None:
        self.content = bytearray([geometry.erased_value]) * geometry.end
        self.programmed = bytearray(geometry.units)
        self.wear = [0] * geometry.sectors

    def save_content(self, offset: int, length: int) -> None:
        """Nothing to do."""

    def save_programmed(self, first: int, count: int) -> None:
        """Nothing to do."""

    def save_wear(self, sector: int) -> None:
        """Nothing to do."""


class Flash:
    """The chip.

    Args:
        geometry: its shape.
        store: where its content lives; factory-new memory by default.
        power_cut: the fault strategy; by default the power never fails. May be replaced at any time.

    Attributes:
        operations: number of the next operation.
        powered: whether it has power.
    """

    def __init__(self, geometry: Geometry, store: Store | None = None, power_cut: PowerCut | None = None) -> None:
        self.geometry = geometry
        self.power_cut = power_cut
        self.operations = 0
        self.powered = True
        self._store: Store = MemoryStore(geometry) if store is None else store

    def power_off(self) -> None:
        """Take the power away between two operations."""
        self.powered = False

    def power_on(self) -> None:
        """Give power; nothing else changes."""
        self.powered = True

    def wear(self, sector: int) -> int:
        """Return how often a sector was erased."""
        if not 0 <= sector < self.geometry.sectors:
            raise FlashContractError(f"sector {sector} of {self.geometry.sectors}")
        return self._store.wear[sector]

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes of either region.

        Raises:
            FlashContractError: outside the flash.
            PowerLost: no power.
        """
        self._need_power()
        if offset < 0 or length < 0 or offset + length > self.geometry.end:
            raise FlashContractError(f"read of {length} bytes at {offset:#x}: the flash ends at {self.geometry.end:#x}")
        return bytes(self._store.content[offset : offset + length])

    def is_blank(self, offset: int, length: int) -> bool:
        """Say whether whole units may be programmed: the blank check of flash controllers, which sees more than a read does.

        Raises:
            FlashContractError: outside the flash, or not whole units.
            PowerLost: no power.
        """
        self._need_power()
        first, count = self._units("blank check", offset, length)
        return not any(self._store.programmed[first : first + count])

    def erase(self, offset: int, length: int) -> None:
        """Erase whole sectors, one operation each, in order.

        Raises:
            FlashContractError: outside main flash, or not whole sectors.
            PowerLost: no power, or it went meanwhile.
        """
        self._need_power()
        g = self.geometry
        if offset < 0 or length < 0 or offset % g.sector or length % g.sector or offset + length > g.size:
            raise FlashContractError(
                f"erase of {length} bytes at {offset:#x}: not whole sectors of {g.sector} bytes below {g.size:#x}"
            )
        for at in range(offset, offset + length, g.sector):
            self._erase_sector(at)

    def program(self, offset: int, data: bytes) -> None:
        """Program whole units that are blank: one operation. No data, no operation.

        Raises:
            FlashContractError: outside the flash, not whole units, or a unit that was not erased since it was programmed.
            PowerLost: no power, or it went meanwhile.
        """
        self._need_power()
        first, count = self._units("program", offset, len(data))
        if any(self._store.programmed[first : first + count]):
            unit = self._store.programmed.index(1, first)
            raise FlashContractError(
                f"program at {unit * self.geometry.unit:#x}: the unit was not erased since it was programmed"
            )
        if not data:
            return
        operation, cut, seed = self._begin("program", offset, len(data))
        if cut is Cut.TORN:
            data = self._torn_data(data, _randomness(seed, operation, 8 + self.geometry.unit))
            count = len(data) // self.geometry.unit
        # The bitmap first: a process that is killed in between leaves units that count as programmed and read as erased, as a torn one may.
        self._store.programmed[first : first + count] = b"\x01" * count
        self._store.save_programmed(first, count)
        self._store.content[offset : offset + len(data)] = data
        self._store.save_content(offset, len(data))
        self._end(cut)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _erase_sector(self, at: int) -> None:
        g, store = self.geometry, self._store
        operation, cut, seed = self._begin("erase", at, g.sector)
        sector, first, count = at // g.sector, at // g.unit, g.sector // g.unit
        store.wear[sector] = min(store.wear[sector] + 1, MAX_WEAR)
        store.save_wear(sector)
        # Until it is done the whole sector counts as programmed, so that a killed process leaves what a torn erase leaves.
        store.programmed[first : first + count] = b"\x01" * count
        store.save_programmed(first, count)
        start, end = at, at + g.sector
        if cut is Cut.TORN:
            random = _randomness(seed, operation, 9)
            edge = at + int.from_bytes(random[:8], "big") % (count + 1) * g.unit
            start, end = (at, edge) if random[8] & 1 else (edge, at + g.sector)
        store.content[start:end] = bytes([g.erased_value]) * (end - start)
        store.save_content(start, end - start)
        if cut is not Cut.TORN:
            store.programmed[first : first + count] = bytes(count)
            store.save_programmed(first, count)
        self._end(cut)

    def _torn_data(self, data: bytes, random: bytes) -> bytes:
        """A prefix of whole units, and one damaged unit."""
        unit = self.geometry.unit
        kept = int.from_bytes(random[:8], "big") % (len(data) // unit) * unit
        erased = self.geometry.erased_value
        damaged = (
            erased ^ ((erased ^ byte) & mask) for byte, mask in zip(data[kept : kept + unit], random[8:], strict=True)
        )
        return data[:kept] + bytes(damaged)

    def _units(self, what: str, offset: int, length: int) -> tuple[int, int]:
        g = self.geometry
        if offset < 0 or length < 0 or offset % g.unit or length % g.unit or offset + length > g.end:
            raise FlashContractError(
                f"{what} of {length} bytes at {offset:#x}: not whole units of {g.unit} bytes below {g.end:#x}"
            )
        return offset // g.unit, length // g.unit

    def _need_power(self) -> None:
        if not self.powered:
            raise PowerLost("the flash has no power")

    def _begin(self, kind: str, offset: int, length: int) -> tuple[Operation, Cut | None, int]:
        # Power may have gone since the call began: erase is several operations.
        self._need_power()
        operation = Operation(self.operations, kind, offset, length)
        self.operations += 1
        decision = self.power_cut.decide(operation) if self.power_cut else None
        cut, seed = decision or (None, 0)
        if cut is Cut.BEFORE:
            self._lose_power(cut)
        return operation, cut, seed

    def _end(self, cut: Cut | None) -> None:
        if cut is not None:
            self._lose_power(cut)

    def _lose_power(self, cut: Cut) -> None:
        self.powered = False
        raise PowerLost(f"power cut {cut.value} operation {self.operations - 1}")


def _randomness(seed: int, operation: Operation, length: int) -> bytes:
    """Bytes that follow from the seed and the operation's number alone, on every platform and Python."""
    return hashlib.shake_256(f"hillhold torn {seed} {operation.number}".encode()).digest(length)
