"""Where things lie on a board: boot flags, the agent's state, two image slots, and the views of them that the verifier takes.

Partitions are whole sectors, in this order from offset 0: two sectors of boot flags, two areas for the agent's state, slot 0, slot 1. The
security counter has the one-way region. The bootloader's own code is not on this flash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hillhold_bootsim.flash import Flash, FlashContractError, Geometry
from hillhold_verifier.errors import MisuseError


def _pair(index: int) -> int:
    if index not in (0, 1):
        raise MisuseError(f"index {index}: there are two, 0 and 1")
    return index


@dataclass(frozen=True, slots=True)
class Partition:
    """A range of main flash, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The partitions of a board with this flash.

    Attributes:
        name: what the board calls itself.
        geometry: of its flash.
        state_size: bytes of either area for the agent's state, whole sectors.
        slot_size: bytes of either slot, whole sectors.
    """

    name: str
    geometry: Geometry
    state_size: int
    slot_size: int

    def __post_init__(self) -> None:
        for size in (self.state_size, self.slot_size):
            if size <= 0 or size % self.geometry.sector:
                raise MisuseError(f"layout: a partition of {size} bytes is not whole sectors of {self.geometry.sector}")
        if self.slot(1).offset + self.slot_size > self.geometry.size:
            raise MisuseError(f"layout: the partitions need more than {self.geometry.size} bytes")

    def flags(self, index: int) -> Partition:
        """Return a sector of boot flags."""
        return Partition(_pair(index) * self.geometry.sector, self.geometry.sector)

    def state(self, index: int) -> Partition:
        """Return an area of the agent's state."""
        return Partition(2 * self.geometry.sector + _pair(index) * self.state_size, self.state_size)

    def slot(self, index: int) -> Partition:
        """Return an image slot."""
        start = 2 * self.geometry.sector + 2 * self.state_size
        return Partition(start + _pair(index) * self.slot_size, self.slot_size)


DEFAULT_LAYOUT: Final = Layout(
    name="virtual-m4-1m",
    geometry=Geometry(size=1024 * 1024, sector=4096, unit=4, otp=2048),
    state_size=64 * 1024,
    slot_size=384 * 1024,
)
"""A board of the size of common Cortex-M4 parts with 1 MiB of flash; it is none of them. 256 raises of the security counter."""


class SimSlots:
    """`Slots` over a flash."""

    def __init__(self, flash: Flash, layout: Layout) -> None:
        self._flash, self._layout = flash, layout

    @property
    def size(self) -> int:
        """Usable bytes of either slot."""
        return self._layout.slot_size

    @property
    def sector(self) -> int:
        """Erase granularity in bytes."""
        return self._layout.geometry.sector

    @property
    def unit(self) -> int:
        """Program granularity in bytes."""
        return self._layout.geometry.unit

    @property
    def erased_value(self) -> int:
        """The value of an erased byte."""
        return self._layout.geometry.erased_value

    def read(self, slot: int, offset: int, length: int) -> bytes:
        """Return `length` bytes.

        Raises:
            FlashContractError: outside the slot.
        """
        return self._flash.read(self._at(slot, offset, length), length)

    def erase(self, slot: int, offset: int, length: int) -> None:
        """Erase whole sectors.

        Raises:
            FlashContractError: outside the slot, or not whole sectors.
        """
        self._flash.erase(self._at(slot, offset, length), length)

    def write(self, slot: int, offset: int, data: bytes) -> None:
        """Program whole units that were erased before.

        Raises:
            FlashContractError: outside the slot, not whole units, or not erased.
        """
        self._flash.program(self._at(slot, offset, len(data)), data)

    def _at(self, slot: int, offset: int, length: int) -> int:
        return _within(self._layout.slot(slot), offset, length)


class SimRecordAreas:
    """`RecordAreas` over a flash."""

    def __init__(self, flash: Flash, layout: Layout) -> None:
        self._flash, self._layout = flash, layout

    @property
    def size(self) -> int:
        """Bytes of either area."""
        return self._layout.state_size

    def read(self, index: int) -> bytes:
        """Return the area's content."""
        area = self._layout.state(index)
        return self._flash.read(area.offset, area.size)

    def write(self, index: int, data: bytes) -> None:
        """Replace the area's content, sector by sector; behind the data it is erased.

        Raises:
            FlashContractError: more data than the area holds.
        """
        area, sector = self._layout.state(index), self._layout.geometry.sector
        _within(area, 0, len(data))
        # The first sector goes first: from then on the record that was here is unreadable, and never half of another.
        for at in range(0, area.size, sector):
            if at < len(data) or not self._flash.is_blank(area.offset + at, sector):
                self._flash.erase(area.offset + at, sector)
        for at in range(0, len(data), sector):
            self._flash.program(area.offset + at, padded(data[at : at + sector], self._layout.geometry))


def padded(data: bytes, geometry: Geometry) -> bytes:
    """Return `data` filled up to whole units with erased bytes."""
    return data + bytes([geometry.erased_value]) * (-len(data) % geometry.unit)


def _within(partition: Partition, offset: int, length: int) -> int:
    """Turn an offset in a partition into one in the flash; nothing reaches beyond its partition."""
    if offset < 0 or length < 0 or offset + length > partition.size:
        raise FlashContractError(f"{length} bytes at {offset:#x} of a partition of {partition.size:#x} bytes")
    return partition.offset + offset
