"""The attacks, in the order in which they are done: what one leaves behind does not spoil the next.

First comes what leaves no more on a board than any honest update does, then what brings new roots and replaces keys, and last what burns a
security counter (`leaves`); within each of these, the order is that of the modules.
"""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.catalogue.apart import APART_CASES
from hillhold_bootsim.lab.catalogue.clock import CLOCK_CASES
from hillhold_bootsim.lab.catalogue.forward import FORWARD_CASES
from hillhold_bootsim.lab.catalogue.frames import FRAME_CASES
from hillhold_bootsim.lab.catalogue.freshness import FRESHNESS_CASES
from hillhold_bootsim.lab.catalogue.image import IMAGE_CASES
from hillhold_bootsim.lab.catalogue.keys import KEY_CASES
from hillhold_bootsim.lab.catalogue.leaves import lasting
from hillhold_bootsim.lab.catalogue.metadata import METADATA_CASES
from hillhold_bootsim.lab.catalogue.release import RELEASE_CASES
from hillhold_bootsim.lab.catalogue.transfer import TRANSFER_CASES
from hillhold_bootsim.lab.catalogue.trial import TRIAL_CASES
from hillhold_bootsim.lab.judge import Attack

_MODULES: Final[tuple[Attack, ...]] = (
    *FRAME_CASES,
    *IMAGE_CASES,
    *TRANSFER_CASES,
    *TRIAL_CASES,
    *METADATA_CASES,
    *FRESHNESS_CASES,
    *RELEASE_CASES,
    *CLOCK_CASES,
    *KEY_CASES,
    *FORWARD_CASES,
    *APART_CASES,
)
CATALOGUE: Final = tuple(sorted(_MODULES, key=lambda attack: lasting(attack.case.leaves)))
BY_ID: Final = {attack.case.id: attack for attack in CATALOGUE}
