"""Names for what is distinct: 16 bytes that are the same in every process for the same flash with the same expectations of it.

Each sector, at its place, has a BLAKE2b of 16 bytes; the flash has their sum modulo 2**128, so that a cut, which changes one sector, costs
one hash. What may boot and what never goes down are hashed in: a state that is reached with stricter expectations is another one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from hillhold_bootsim.flash import FlashState
from hillhold_bootsim.powercut.explore import Case
from hillhold_bootsim.powercut.oracle import Facts, May
from hillhold_bootsim.torn import Sector

SIZE: Final = 16
"""Bytes of a digest."""
MAX_REMEMBERED: Final = 4096
_MODULUS: Final = 1 << 8 * SIZE


class Digests:
    """Digests of cases; remembers those of sectors."""

    def __init__(self) -> None:
        self._sectors: dict[tuple[int, Sector], int] = {}
        self._expected: dict[tuple[May, Facts], bytes] = {}
        self._before: FlashState | None = None
        self._sum = 0

    def of(self, case: Case) -> bytes:
        """Return the digest of the state in which a case leaves the flash, and of what is expected of it."""
        step, at = case.step, case.step.operation.sector
        if step.before is not self._before:
            self._before, self._sum = step.before, sum(self._known(*each) for each in enumerate(step.before))
        found = (self._sum - self._known(at, step.before[at]) + _digest(at, case.state[at])) % _MODULUS
        expected = self._expected.get((step.may, case.facts))
        if expected is None:
            expected = self._expected[step.may, case.facts] = repr((sorted(step.may), case.facts)).encode()
        return blake2b(found.to_bytes(SIZE, "big") + expected, digest_size=SIZE).digest()

    def _known(self, at: int, sector: Sector) -> int:
        found = self._sectors.get((at, sector))
        if found is None:
            if len(self._sectors) >= MAX_REMEMBERED:
                self._sectors.clear()
            found = self._sectors[at, sector] = _digest(at, sector)
        return found


def _digest(at: int, sector: Sector) -> int:
    found = blake2b(sector.content, digest_size=SIZE, salt=at.to_bytes(SIZE, "big"))
    # The content has the length of the sector, so that nothing runs into what follows.
    found.update(sector.programmed + bytes([sector.unstable]))
    return int.from_bytes(found.digest(), "big")
