"""The lab's validation of itself (ISO/IEC 17025, 7.2.1.5 and 7.2.2): boards with a known fault, and what the catalogue says of them.

Each broken board takes the cases that are a right name for its fault, and their neighbours in the catalogue, or all of it. At least one of
the right names has to fail. Boards without a fault take everything, and nothing may fail or stay undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from hillhold_bootsim.lab.broken import BROKEN, Fault
from hillhold_bootsim.lab.broken.choosing import PAIR
from hillhold_bootsim.lab.broken.plant import grown
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.judge import Attack
from hillhold_bootsim.lab.model import Check, Result, Verdict
from hillhold_bootsim.lab.runner import run_each
from hillhold_bootsim.lab.virtual import VirtualSpec

NEIGHBOURS: Final = 1
"""Cases on either side of an expected one that a broken board takes as well."""
RIGHT: Final = (
    Fault("right", "It has no fault.", (), lambda _plant: None, VirtualSpec()),
    Fault("right-pair", "It has no fault, and two components.", (), lambda _plant: None, PAIR),
)
BOARDS: Final = (*RIGHT, *BROKEN)
