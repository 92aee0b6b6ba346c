"""What an attack leaves behind on a board for good, and by that its place in the catalogue.

An honest update raises floors, and each case is followed by one. What an attack leaves beyond that is one of these; what lasts longer comes
later. Keys are replaced by a root that never goes back; a security counter is a fuse on a real board.
"""

from __future__ import annotations

from typing import Final

NOTHING: Final = ""
FLOORS: Final = "the floors of timestamp, snapshot, targets and line rise"
FLOORS_THERE: Final = f"on a board with metadata, {FLOORS.removeprefix('the ')}"
FAILED: Final = f"{FLOORS_THERE}; the board remembers one failed image"
ROOT: Final = "one more root"
ROTATED: Final = "one more root, since keys are replaced afterwards"
TWO_ROOTS: Final = "two more roots"
COUNTER: Final = "the security counter is one higher; it never goes down again"

LASTING: Final = ((NOTHING, FLOORS, FLOORS_THERE, FAILED), (ROOT, ROTATED, TWO_ROOTS), (COUNTER,))
"""What the catalogue goes by: what every honest update does, then new roots and keys, then fuses."""


def lasting(leaves: str) -> int:
    """Return how lasting it is, by its place in `LASTING`; what is not there counts as the most lasting."""
    return next((place for place, kind in enumerate(LASTING) if leaves in kind), len(LASTING))
