"""The attacks, in the order in which they are done: what one leaves behind does not spoil the next."""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.catalogue.keys import KEY_CASES
from hillhold_bootsim.lab.catalogue.metadata import METADATA_CASES
from hillhold_bootsim.lab.catalogue.release import RELEASE_CASES
from hillhold_bootsim.lab.judge import Attack

CATALOGUE: Final[tuple[Attack, ...]] = (*METADATA_CASES, *RELEASE_CASES, *KEY_CASES)
BY_ID: Final = {attack.case.id: attack for attack in CATALOGUE}
