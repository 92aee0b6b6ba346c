"""How many torn outcomes there are is known without making them: the count is that of those that are made."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from hillhold_bootsim.flash import Operation, completed, count_outcomes, outcomes
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.torn import blank_sector

SECTOR = 64
NEARLY_BLANK = (0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0x7F, 0x80, 0x01, 0xFE, 0x5A)


@given(
    unit=st.sampled_from([1, 2, 4, 8, 16, 32]),
    erased=st.sampled_from([0x00, 0xFF]),
    units=st.integers(1, 64),
    seed=st.integers(0, 2**32),
    at=st.integers(0, 63),
)
def test_the_count_is_that_of_the_outcomes(unit: int, erased: int, units: int, seed: int, at: int) -> None:
    geometry = Geometry.uniform(SECTOR * 2, SECTOR, unit, erased, 0)
    blank = blank_sector(geometry, 1)
    first = at // unit * unit
    data = bytes(random.Random(seed).choices(NEARLY_BLANK, k=SECTOR))[: min(units * unit, SECTOR - first)]
    program = Operation(0, "program", SECTOR + first, len(data), 1, data)
    assert count_outcomes(geometry, blank, program) == len(outcomes(geometry, blank, program))
    written = completed(geometry, blank, program)
    erase = Operation(1, "erase", SECTOR, SECTOR, 1)
    for sector in (written, blank, written._replace(unstable=True), outcomes(geometry, written, erase)[0][1]):
        assert count_outcomes(geometry, sector, erase) == len(outcomes(geometry, sector, erase))
