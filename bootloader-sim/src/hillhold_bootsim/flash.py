"""NOR flash with real rules, whose power can be cut at any operation.

**Rules.** Erase works on whole sectors and sets every byte to the erased value. Program works on whole aligned units, each of which was
erased since it was last programmed: never twice, not even with the same bytes, and a unit that was programmed with erased bytes is
programmed nevertheless (write-once units with ECC, as on STM32L4 and H5; a part that allows more is driven by the same rules). A one-way
region behind the main one has the same units and is never erased. Wear is counted per sector. Breaking a rule raises
`FlashContractError`, changes nothing and is a bug of the firmware under test.

**Power.** It fails at an *operation*: one program call within one sector (a call over several sectors is one for each), or one sector of an
erase call; reading is not one. Operations are numbered from 0 over the life of the `Flash` object, through any number of power cycles.
Before each, the `PowerCut` strategy is asked:

- `BEFORE`: nothing of the operation happens.
- `TORN`: one of the outcomes that `torn` defines.
- `AFTER`: the operation is done, but the caller never learns that.

Then `PowerLost` is raised, and so does every access until `power_on`. Power can be cut between operations as well (`power_off`). A
process that is killed is a power cut for a flash that has a file (`flashfile`).

**Faults** can be injected at any time: sectors that fail, which the controller reports, and bits that read wrong, which it does not.
Otherwise memory keeps what was written. Not modelled: decay, disturbed neighbours, a weakly programmed bit that reads well at first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.torn import (
    Sector,
    blank_sector,
    count_torn_erase,
    count_torn_program,
    programmed_sector,
    torn_erase,
    torn_program,
    unstable_read,
)
from hillhold_verifier.errors import MisuseError, OperationalError

MAX_WEAR: Final = 2**32 - 1
"""Erase cycles that are counted per sector; the count stays there."""

_IS_UNSTABLE: Final = attrgetter("unstable")

FlashState = tuple[Sector, ...]
"""All that a flash holds, wear apart: its sectors, and the one-way region as the last. Equal states behave alike after power-on."""


class FlashContractError(MisuseError):
    """The firmware under test broke a rule of the flash; nothing was changed."""


class FlashFailedError(OperationalError):
    """The flash controller reports that an operation failed: the sector is bad."""


class PowerLost(BaseException):
    """The power went. What runs on the board ends here.

    Not an `Exception`: firmware that catches every error, as firmware does, must not be able to go on without power.
    """


class Cut(Enum):
    """Where in an operation the power goes."""

    BEFORE = "before"
    TORN = "torn"
    AFTER = "after"


class Operation(NamedTuple):
    """One flash operation; `offset` and `length` in bytes, `sector` its number, `data` what is programmed."""

    number: int
    kind: str
    offset: int
    length: int
    sector: int
    data: bytes = b""


class PowerCut(Protocol):
    """A strategy that decides when the power goes."""

    def decide(self, operation: Operation, /) -> tuple[Cut, int] | None:
        """Return where in this operation the power goes and which torn outcome is left, or None to let it pass."""


@dataclass(frozen=True, slots=True)
class CutAt:
    """Cut the power at one operation; `str()` names the case, and is the same in every run.

    `variant` counts through the outcomes of a torn operation, and begins again behind the last.
    """

    number: int
    where: Cut
    variant: int = 0

    def decide(self, operation: Operation, /) -> tuple[Cut, int] | None:
        return (self.where, self.variant) if operation.number == self.number else None

    def __str__(self) -> str:
        return f"{self.number}-{self.where.value}" + (f"-{self.variant}" if self.where is Cut.TORN else "")


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a chip.

    Attributes:
        bad_sectors: by number; erasing or programming one fails, and leaves it as it was.
        flips: by offset of a byte, the bits that read wrong.
    """

    bad_sectors: frozenset[int] = frozenset()
    flips: Mapping[int, int] = field(default_factory=dict)


class Store(Protocol):
    """What outlives the process."""

    def load(self) -> tuple[Sequence[Sector], Sequence[int]]:
        """Return all sectors, the one-way region as the last, and the wear of all but that."""

    def keep(self, index: int, old: Sector, new: Sector, wear: int) -> None:
        """Write through a change of a sector. Cut short, it leaves what a torn operation leaves."""


def completed(geometry: Geometry, sector: Sector, operation: Operation) -> Sector:
    """Return what an operation on a sector leaves when it is done."""
    if operation.kind == "erase":
        return blank_sector(geometry, operation.sector)
    at = operation.offset - geometry.starts[operation.sector]
    return programmed_sector(sector, geometry.unit, at, operation.data, operation.length // geometry.unit)


def outcomes(geometry: Geometry, sector: Sector, operation: Operation) -> tuple[tuple[str, Sector], ...]:
    """Return what an operation on a sector may leave when it is torn, by name (`torn`)."""
    if operation.kind == "erase":
        return torn_erase(geometry, sector)
    return torn_program(geometry, sector, operation.offset - geometry.starts[operation.sector], operation.data)


def count_outcomes(geometry: Geometry, sector: Sector, operation: Operation) -> int:
    """Return how many there are, without making them."""
    if operation.kind == "erase":
        return count_torn_erase(geometry, sector)
    return count_torn_program(geometry, operation.data)


class Flash:
    """The chip.

    Args:
        geometry: its shape.
        store: where its content lives; factory-new memory by default.
        power_cut: the fault strategy; by default the power never fails. May be replaced at any time.

    Attributes:
        operations: number of the next operation.
        powered: whether it has power.
        faults: what is wrong with it; may be replaced at any time.
    """

    def __init__(self, geometry: Geometry, store: Store | None = None, power_cut: PowerCut | None = None) -> None:
        self.geometry = geometry
        self.power_cut = power_cut
        self.operations = 0
        self.powered = True
        self.faults = Faults()
        self._store = store
        self._reads = 0
        if store is None:
            self._sectors = [blank_sector(geometry, index) for index in range(len(geometry.sizes))]
            self._wear = [0] * geometry.sectors
        else:
            sectors, wear = store.load()
            self._sectors, self._wear = list(sectors), list(wear)
        self._count_unstable()

    def power_off(self) -> None:
        """Take the power away between two operations."""
        self.powered = False

    def power_on(self) -> None:
        """Give power; nothing else changes."""
        self.powered = True
        self._reads = 0

    def wear(self, sector: int) -> int:
        """Return how often a sector was erased."""
        if not 0 <= sector < self.geometry.sectors:
            raise FlashContractError(f"sector {sector} of {self.geometry.sectors}")
        return self._wear[sector]

    def state(self) -> FlashState:
        """Return all that it holds, power or not."""
        return tuple(self._sectors)

    def load(self, state: FlashState) -> None:
        """Hold this from now on; wear and the count of operations go on. Not for a flash with a store.

        Raises:
            MisuseError: it has one, or the state is of another geometry.
        """
        if self._store is not None or tuple([len(sector.content) for sector in state]) != self.geometry.sizes:
            raise MisuseError("flash: only a state of its own geometry can be loaded, and not over a file")
        self._sectors = list(state)
        self._count_unstable()

    def sectors(self, first: int, end: int) -> FlashState:
        """Return the sectors from one number up to another as they are, power or not."""
        return tuple(self._sectors[first:end])

    @property
    def unstable(self) -> bool:
        """Some sector reads differently from one time to the next."""
        return bool(self._unstable)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes of either region.

        Raises:
            FlashContractError: outside the flash.
            PowerLost: no power.
        """
        self._need_power()
        if offset < 0 or length < 0 or offset + length > self.geometry.end:
            raise FlashContractError(f"read of {length} bytes at {offset:#x}: the flash ends at {self.geometry.end:#x}")
        pieces, unstable = [], False
        for index, at, size in self._spans(offset, length):
            sector = self._sectors[index]
            content = sector.content
            if sector.unstable:
                content, unstable = unstable_read(self.geometry, sector, self._reads), True
            pieces.append(content[at : at + size])
        self._reads += unstable
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._flipped(offset, data) if self.faults.flips else data

    def is_blank(self, offset: int, length: int) -> bool:
        """Say whether whole units may be programmed: the blank check of flash controllers, which sees more than a read does.

        Raises:
            FlashContractError: outside the flash, or not whole units.
            PowerLost: no power.
        """
        self._need_power()
        self._check_units("blank check", offset, length)
        unit = self.geometry.unit
        for index, at, size in self._spans(offset, length):
            if self._sectors[index].programmed.find(1, at // unit, (at + size) // unit) >= 0:
                return False
        return True

    def erase(self, offset: int, length: int) -> None:
        """Erase whole sectors, one operation each, in order.

        Raises:
            FlashContractError: outside main flash, or not whole sectors.
            FlashFailedError: a sector is bad; those before it were erased.
            PowerLost: no power, or it went meanwhile.
        """
        self._need_power()
        g = self.geometry
        if length < 0 or not (g.is_edge(offset) and g.is_edge(offset + length)):
            raise FlashContractError(f"erase of {length} bytes at {offset:#x}: not whole sectors below {g.size:#x}")
        for index, _, size in self._spans(offset, length):
            old = self._sectors[index]
            operation = Operation(self.operations, "erase", g.starts[index], size, index)
            self._do(operation, old)

    def program(self, offset: int, data: bytes) -> None:
        """Program whole units that are blank: one operation in each sector. No data, no operation.

        Raises:
            FlashContractError: outside the flash, not whole units, or a unit that was not erased since it was programmed.
            FlashFailedError: a sector is bad; those before it were programmed.
            PowerLost: no power, or it went meanwhile.
        """
        self._need_power()
        self._check_units("program", offset, len(data))
        unit, done = self.geometry.unit, 0
        spans = self._spans(offset, len(data))
        for index, at, size in spans:
            used = self._sectors[index].programmed.find(1, at // unit, (at + size) // unit)
            if used >= 0:
                where = self.geometry.starts[index] + used * unit
                raise FlashContractError(f"program at {where:#x}: the unit was not erased since it was programmed")
        for index, _, size in spans:
            piece, old = data[done : done + size], self._sectors[index]
            operation = Operation(self.operations, "program", offset + done, size, index, piece)
            self._do(operation, old)
            done += size

    # --- inside -------------------------------------------------------------------------------------------------------

    def _do(self, operation: Operation, old: Sector) -> None:
        # Power may have gone since the call began: a call may be several operations.
        self._need_power()
        self.operations += 1
        decision = self.power_cut.decide(operation) if self.power_cut else None
        cut, variant = decision or (None, 0)
        if cut is Cut.BEFORE:
            self._lose_power(cut)
        if operation.sector in self.faults.bad_sectors:
            raise FlashFailedError(
                f"{operation.kind} at {operation.offset:#x} failed: sector {operation.sector} is bad"
            )
        if cut is Cut.TORN:
            left = outcomes(self.geometry, old, operation)
            new = left[variant % len(left)][1]
        else:
            new = completed(self.geometry, old, operation)
        index = operation.sector
        if operation.kind == "erase":
            self._wear[index] = min(self._wear[index] + 1, MAX_WEAR)
        self._sectors[index] = new
        self._unstable += new.unstable - old.unstable
        if self._store is not None:
            self._store.keep(index, old, new, self._wear[index] if index < len(self._wear) else 0)
        if cut is not None:
            self._lose_power(cut)

    def _count_unstable(self) -> None:
        self._unstable = sum(map(_IS_UNSTABLE, self._sectors))

    def _spans(self, offset: int, length: int) -> list[tuple[int, int, int]]:
        """The sectors of a range: number, offset within it, and bytes in it. A range of no bytes has one of none."""
        g = self.geometry
        index = g.sector_at(offset)
        at = offset - g.starts[index]
        if at + length <= g.sizes[index]:
            return [(index, at, length)] if length else []
        found = []
        while length > 0:
            size = min(length, g.sizes[index] - at)
            found.append((index, at, size))
            length -= size
            index, at = index + 1, 0
        return found

    def _flipped(self, offset: int, data: bytes) -> bytes:
        changed = bytearray(data)
        for at, mask in self.faults.flips.items():
            if offset <= at < offset + len(data):
                changed[at - offset] ^= mask
        return bytes(changed)

    def _check_units(self, what: str, offset: int, length: int) -> None:
        g = self.geometry
        if offset < 0 or length < 0 or offset % g.unit or length % g.unit or offset + length > g.end:
            raise FlashContractError(
                f"{what} of {length} bytes at {offset:#x}: not whole units of {g.unit} bytes below {g.end:#x}"
            )

    def _need_power(self) -> None:
        if not self.powered:
            raise PowerLost("the flash has no power")

    def _lose_power(self, cut: Cut) -> None:
        self.powered = False
        raise PowerLost(f"power cut {cut.value} operation {self.operations - 1}")
