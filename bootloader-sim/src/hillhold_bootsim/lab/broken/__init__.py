"""Boards that are broken on purpose, by one thing each, to show that the catalogue finds it (ISO/IEC 17025, 7.2: methods are validated).

Each is the real board with the smallest change that makes the fault (`plant`). Most are mistakes that update systems had.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from hillhold_bootsim.board import VirtualBoard
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.lab.broken.booting import BOOTING
from hillhold_bootsim.lab.broken.choosing import CHOOSING
from hillhold_bootsim.lab.broken.installing import INSTALLING
from hillhold_bootsim.lab.broken.plant import PAIR, Fault, Plant
from hillhold_bootsim.lab.broken.serving import SERVING
from hillhold_bootsim.lab.broken.signing import SIGNING
from hillhold_bootsim.lab.broken.trusting import TRUSTING
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.virtual import VirtualSpec, right_board

BROKEN: Final[tuple[Fault, ...]] = (*TRUSTING, *SIGNING, *CHOOSING, *INSTALLING, *BOOTING, *SERVING)
RIGHT: Final = (
    Fault("right", "It has no fault.", (), lambda _plant: None, VirtualSpec()),
    Fault("right-pair", "It has no fault, and two components.", (), lambda _plant: None, PAIR),
)
"""Boards without a fault, of which one or another can take part in every case."""
BOARDS: Final = (*RIGHT, *BROKEN)
BY_ID: Final = {fault.id: fault for fault in BOARDS}


def spec_of(fault: Fault) -> VirtualSpec:
    """Return what a process makes that board from."""
    return replace(fault.spec, name=fault.id, build=partial(_build, fault.id))


def _build(fault: str, spec: VirtualSpec, flash: Flash, house: House) -> VirtualBoard:
    plant = Plant(house)
    BY_ID[fault].plant(plant)
    return plant.grow(right_board(spec, flash, house))
