"""Where things lie on a board: boot flags, key list, the agent's state, image slots, and the views of them that the verifier takes.

Partitions are whole sectors and do not overlap. The security counters have the one-way region. The bootloader's own code is not on this
flash, or not described.

The sectors of a pair of slots have one size. In `swap` mode the first of the pair is MCUboot's primary slot, from which every image
runs, the second its secondary slot, best of one sector more (MCUboot, "Swap using offset").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

from hillhold_bootsim.flash import Flash, FlashContractError
from hillhold_bootsim.geometry import Geometry
from hillhold_verifier.errors import MisuseError

MAX_COMPONENTS: Final = 4


class BootMode(Enum):
    """How the bootloader gets an image to where it runs."""

    REMAP = "remap"
    SWAP = "swap"


@dataclass(frozen=True, slots=True)
class Partition:
    """A range of main flash, in bytes."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.size


Pair = tuple[Partition, Partition]


@dataclass(frozen=True, slots=True)
class Layout:
    """The partitions of a board with this flash.

    Attributes:
        name: what the board calls itself.
        geometry: of its flash.
        flags: two sectors or more for the boot flags, written in turn.
        state: two areas for the agent's state, likewise.
        slots: of each component, two image slots.
        mode: how images come to run.
        keys: two areas for the list of accepted image keys; None on a board whose keys are fixed.
    """

    name: str
    geometry: Geometry
    flags: Pair
    state: Pair
    slots: tuple[Pair, ...]
    mode: BootMode = BootMode.REMAP
    keys: Pair | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.slots) <= MAX_COMPONENTS:
            raise MisuseError(f"layout: expected 1 to {MAX_COMPONENTS} components, got {len(self.slots)}")
        partitions = sorted(self.partitions().items(), key=lambda item: item[1].offset)
        g = self.geometry
        for name, part in partitions:
            if part.size <= 0 or not (g.is_edge(part.offset) and g.is_edge(part.end)):
                raise MisuseError(
                    f"layout: {name}: expected whole sectors of a flash of {g.size:#x}, "
                    f"got {part.size:#x} bytes at {part.offset:#x}"
                )
        for (name, first), (other, second) in pairwise(partitions):
            if first.end > second.offset:
                raise MisuseError(
                    f"layout: {other}: expected an offset from {first.end:#x} on, behind {name}, got {second.offset:#x}"
                )
        for component, pair in enumerate(self.slots):
            sizes = {g.sector_size(part.offset, part.size) for part in pair}
            if len(sizes) != 1 or None in sizes:
                raise MisuseError(
                    f"layout: slots of component {component}: expected sectors of one size, got several in {pair[0].size:#x} "
                    f"bytes at {pair[0].offset:#x} and {pair[1].size:#x} at {pair[1].offset:#x}"
                )

    def partitions(self) -> dict[str, Partition]:
        """Return every partition by its name."""
        pairs = [("flags {}", self.flags), ("state {}", self.state)]
        pairs += [("keys {}", self.keys)] if self.keys else []
        pairs += [(f"slot {{}} of component {number}", pair) for number, pair in enumerate(self.slots)]
        return {name.format(at): part for name, pair in pairs for at, part in enumerate(pair)}

    @classmethod
    def in_a_row(
        cls,
        name: str,
        geometry: Geometry,
        state_size: int,
        slot_size: int,
        *,
        mode: BootMode = BootMode.REMAP,
        keys_size: int = 0,
        components: int = 1,
    ) -> Layout:
        """Return a layout of a flash with equal sectors: flags, state, keys, slots, from offset 0 on.

        In swap mode each second slot has one sector more.
        """
        sector, at = geometry.sizes[0], 0

        def take(first: int, second: int) -> Pair:
            nonlocal at
            pair = Partition(at, first), Partition(at + first, second)
            at += first + second
            return pair

        more = sector if mode is BootMode.SWAP else 0
        return cls(
            name=name,
            geometry=geometry,
            flags=take(sector, sector),
            state=take(state_size, state_size),
            keys=take(keys_size, keys_size) if keys_size else None,
            slots=tuple(take(slot_size, slot_size + more) for _ in range(components)),
            mode=mode,
        )

    def slot_sector(self, component: int) -> int:
        """Return the size of the sectors of a component's slots."""
        part = self.slots[component][0]
        return self.geometry.sizes[self.geometry.sector_at(part.offset)]


class SimSlots:
    """`Slots` of a component over a flash, in `remap` mode."""

    def __init__(self, flash: Flash, layout: Layout, component: int = 0) -> None:
        self._flash, self._layout, self._component = flash, layout, component

    @property
    def size(self) -> int:
        """Usable bytes of either slot."""
        return min(part.size for part in self._layout.slots[self._component])

    @property
    def sector(self) -> int:
        """Erase granularity in bytes."""
        return self._layout.slot_sector(self._component)

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
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FlashContractError(f"{length} bytes at {offset:#x} of a slot of {self.size:#x} bytes")
        return self.offset_of(slot) + offset

    def offset_of(self, slot: int) -> int:
        """Return where a slot begins now, in the flash; raises `MisuseError` for another number than 0 and 1."""
        if slot not in (0, 1):
            raise MisuseError(f"slot {slot}: there are two, 0 and 1")
        return self._layout.slots[self._component][slot].offset


class SimRecordAreas:
    """`RecordAreas` over a flash: two partitions of one size, each written whole."""

    def __init__(self, flash: Flash, areas: Pair) -> None:
        self._flash, self._areas = flash, areas

    @property
    def size(self) -> int:
        """Bytes of either area."""
        return min(area.size for area in self._areas)

    def read(self, index: int) -> bytes:
        """Return the area's content."""
        area = self._areas[index]
        return self._flash.read(area.offset, area.size)

    def is_blank(self) -> bool:
        """Say whether nothing was ever written to either."""
        return all(self._flash.is_blank(area.offset, area.size) for area in self._areas)

    def write(self, index: int, data: bytes) -> None:
        """Replace the area's content, sector by sector; behind the data it is erased.

        Raises:
            FlashContractError: more data than the area holds.
        """
        area, g = self._areas[index], self._flash.geometry
        if len(data) > area.size:
            raise FlashContractError(f"{len(data)} bytes for an area of {area.size}")
        # The first sector goes first: from then on the record that was here is unreadable, and never half of another.
        for number in range(g.sector_at(area.offset), g.sector_at(area.end - 1) + 1):
            start, size = g.starts[number], g.sizes[number]
            if start - area.offset < len(data) or not self._flash.is_blank(start, size):
                self._flash.erase(start, size)
        self._flash.program(area.offset, padded(data, g))


def padded(data: bytes, geometry: Geometry) -> bytes:
    """Return `data` filled up to whole units with erased bytes."""
    return data + bytes([geometry.erased_value]) * (-len(data) % geometry.unit)
