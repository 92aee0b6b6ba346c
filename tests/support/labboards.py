"""Boards for tests of the lab: with a planted fault, or with a line that breaks."""

from __future__ import annotations

from collections.abc import Sequence

from hillhold_bootsim.board import VirtualBoard
from hillhold_bootsim.bootloader import Booted, Bootloader
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import BY_ID
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.judge import examine
from hillhold_bootsim.lab.model import Result
from hillhold_bootsim.lab.virtual import VirtualSpec, right_board
from hillhold_bootsim.stock import Stock
from hillhold_verifier.mcuboot import ImageKey, read_image

SEED = 7


class Trusting(Bootloader):
    """Starts whatever has an image's form."""

    max_starts = 1

    def _verified(self, component: int, slot: int, keys: Sequence[ImageKey]) -> Booted:
        read = self._reader(component, slot)
        image = read_image(read, self._slots[component].size)
        return Booted(slot, image, self._content(component, slot, image.length), keys[0])


def trusting(spec: VirtualSpec, flash: Flash, house: House) -> VirtualBoard:
    """A board whose bootloader checks no signature."""
    board = right_board(spec, flash, house)
    board.parts.bootloader.__class__ = Trusting
    return board


def examined(case: str, spec: VirtualSpec | None = None) -> Result:
    """What comes of one case on a virtual board."""
    return examine(BY_ID[case], Bench((spec or VirtualSpec()).make(SEED), SEED))


ZEPHYR = VirtualSpec("zephyr", stock=Stock.ZEPHYR)
TRUSTING = VirtualSpec("trusting", stock=Stock.ZEPHYR, build=trusting)
