"""What lies where on a board's flash, in words."""

from __future__ import annotations

from dataclasses import dataclass

from hillhold_bootsim.layout import BootMode, Layout, Partition


@dataclass(frozen=True, slots=True)
class Place:
    """A partition, or the one-way region: its name, and its sectors, from `first` up to `end`."""

    name: str
    first: int
    end: int


class Places:
    """The places of a layout, in the order of the flash."""

    def __init__(self, layout: Layout) -> None:
        geometry = layout.geometry

        def place(name: str, part: Partition) -> Place:
            return Place(name, geometry.sector_at(part.offset), geometry.sector_at(part.end - 1) + 1)

        swaps = layout.mode is BootMode.SWAP
        slots = ("primary slot", "secondary slot") if swaps else ("slot 0", "slot 1")
        pairs = [(("flags 0", "flags 1"), layout.flags), (("state 0", "state 1"), layout.state)]
        pairs += [(("keys 0", "keys 1"), layout.keys)] if layout.keys else []
        pairs += [(slots, layout.slots[0])]
        found = [place(name, part) for names, pair in pairs for name, part in zip(names, pair, strict=True)]
        found += [Place("counter", geometry.sectors, geometry.sectors + 1)] if geometry.otp else []
        self.all = tuple(sorted(found, key=lambda each: each.first))

    def name(self, sector: int) -> str:
        """Return what a sector belongs to, and its number within."""
        for place in self.all:
            if place.first <= sector < place.end:
                within = f", sector {sector - place.first}" if place.end - place.first > 1 else ""
                return f"{place.name}{within}"
        return f"sector {sector}, of no partition"
