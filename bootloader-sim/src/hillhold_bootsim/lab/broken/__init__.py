"""Boards that are broken on purpose, by one thing each, to show that the catalogue finds it (ISO/IEC 17025, 7.2: methods are validated).

Each is the real board with the smallest change that makes the fault (`plant`). Most are mistakes that update systems had.
"""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.broken.booting import BOOTING
from hillhold_bootsim.lab.broken.choosing import CHOOSING
from hillhold_bootsim.lab.broken.installing import INSTALLING
from hillhold_bootsim.lab.broken.plant import Fault
from hillhold_bootsim.lab.broken.serving import SERVING
from hillhold_bootsim.lab.broken.trusting import TRUSTING

BROKEN: Final[tuple[Fault, ...]] = (*TRUSTING, *CHOOSING, *INSTALLING, *BOOTING, *SERVING)
BY_ID: Final = {fault.id: fault for fault in BROKEN}
