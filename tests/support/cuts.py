"""Small boards whose updates are quick to cut at every operation; a scenario is made once in a process."""

from __future__ import annotations

from functools import cache

from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_bootsim.powercut.making import make_scenario
from hillhold_bootsim.powercut.scenario import Scenario


@cache
def small(mode: BootMode = BootMode.SWAP, size: int = 9000, *, patched: bool = False) -> Scenario:
    """A board with sectors of 4 KiB and units of 32 bytes."""
    geometry = Geometry.uniform(128 * 1024, 4096, 32, otp=256)
    return make_scenario(Layout.in_a_row("small", geometry, 16384, 24576, mode=mode), size, 4096, patched=patched)
