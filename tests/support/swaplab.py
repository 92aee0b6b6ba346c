"""Small boards in swap mode in the middle of an update, and what lies where on them."""

from __future__ import annotations

from typing import Final

import pytest

from hillhold_bootsim.bootloader import BootOutcome, ResetReason
from hillhold_bootsim.layout import BootMode, Layout
from tinyboard import NEW, OLD, SWAP, Rig, mark_of, tiny

SHAPES: Final = [tiny(BootMode.SWAP, unit, erased) for unit in (1, 4, 8, 16, 32) for erased in (0xFF, 0x00)]
SHAPE_NAMES: Final = [f"{layout.geometry.unit}-{layout.geometry.erased_value:02x}" for layout in SHAPES]
every_shape = pytest.mark.parametrize("layout", SHAPES, ids=SHAPE_NAMES)


def board(layout: Layout = SWAP, old: bytes = OLD, new: bytes = NEW) -> Rig:
    """A board that runs `old`, and has `new` in the other slot."""
    rig = Rig(layout)
    rig.install(0, old)
    rig.provision(0)
    rig.boot()
    rig.install(1, new)
    return rig


def try_other(rig: Rig, data: bytes) -> BootOutcome:
    rig.control.set_marks({0: mark_of(data)})
    return rig.boot(ResetReason.SOFT)


def primary(rig: Rig, length: int, sectors: int = 0) -> bytes:
    """What lies so many sectors behind the start of the primary slot."""
    return rig.flash.read(rig.layout.slots[0][0].offset + sectors * rig.slots.sector, length)


def secondary(rig: Rig, length: int, sectors: int = 0) -> bytes:
    return rig.flash.read(rig.layout.slots[0][1].offset + sectors * rig.slots.sector, length)


def at(rig: Rig, offset: int, length: int = 1) -> bytes:
    return rig.flash.read(offset, length)


def is_whole(rig: Rig, old: bytes = OLD, new: bytes = NEW) -> bool:
    return rig.read(0, len(old)) == old and rig.read(1, len(new)) == new
