"""The shape of a NOR flash: sectors that are erased, perhaps of several sizes, and units that are programmed."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from hillhold_verifier.errors import MisuseError

MAX_SIZE: Final = 64 * 1024 * 1024
"""Bytes of main flash: it is held in memory."""
MAX_OTP: Final = 64 * 1024
"""Bytes of the one-way region."""
MAX_SECTORS: Final = 65_536
MAX_RUNS: Final = 16
"""Runs of sectors of one size."""
UNITS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Shape of a flash, sizes in bytes.

    Attributes:
        runs: of main flash from offset 0: how many sectors, and their size, whole units.
        unit: program granularity, a power of two up to 256.
        erased_value: an erased byte, 0xFF or 0x00.
        otp: the one-way region, whole units; its offsets begin at `size`. It counts as one more sector, which is never erased.
        starts: offset of each sector, the one-way region's last.
        sizes: bytes of each sector, likewise.
    """

    runs: tuple[tuple[int, int], ...]
    unit: int
    erased_value: int = 0xFF
    otp: int = 0
    starts: tuple[int, ...] = field(init=False, compare=False, repr=False)
    sizes: tuple[int, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        unit = self.unit if self.unit in UNITS else 0
        counts, kinds = [count for count, _ in self.runs], [size for _, size in self.runs]
        size = sum(count * size for count, size in self.runs)
        rules = [
            ("unit", unit > 0, "a power of two up to 256", self.unit),
            ("runs of sectors", 0 < len(self.runs) <= MAX_RUNS, f"1 to {MAX_RUNS}", len(self.runs)),
            (
                "number of sectors",
                all(count > 0 for count in counts) and sum(counts) <= MAX_SECTORS,
                f"1 to {MAX_SECTORS}",
                " + ".join(map(str, counts[:MAX_RUNS])),
            ),
            (
                "sizes of sectors",
                all(kind > 0 and kind % max(1, unit) == 0 for kind in kinds),
                "whole units",
                ", ".join(map(str, kinds[:MAX_RUNS])),
            ),
            ("size", size <= MAX_SIZE, f"at most {MAX_SIZE}", size),
            ("erased value", self.erased_value in (0x00, 0xFF), "0x00 or 0xff", hex(self.erased_value)),
            (
                "one-way region",
                0 <= self.otp <= MAX_OTP and self.otp % max(1, unit) == 0,
                f"whole units up to {MAX_OTP}",
                self.otp,
            ),
        ]
        if broken := [f"{what}: expected {expected}, got {got}" for what, kept, expected, got in rules if not kept]:
            raise MisuseError(f"geometry: {'; '.join(broken)}")
        sizes = (*(size for count, size in self.runs for _ in range(count)), self.otp)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "starts", tuple(accumulate(sizes[:-1], initial=0)))

    @classmethod
    def uniform(cls, size: int, sector: int, unit: int, erased_value: int = 0xFF, otp: int = 0) -> Geometry:
        """Return the geometry of a flash whose sectors are all alike.

        Raises:
            MisuseError: `size` is not whole sectors, or anything else is out of range.
        """
        if sector <= 0 or size % sector:
            raise MisuseError(f"geometry: {size} bytes are not whole sectors of {sector}")
        return cls(((size // sector, sector),), unit, erased_value, otp)

    @property
    def size(self) -> int:
        """Bytes of main flash."""
        return self.starts[-1]

    @property
    def end(self) -> int:
        """Bytes of both regions."""
        return self.size + self.otp

    @property
    def sectors(self) -> int:
        """Number of sectors of main flash."""
        return len(self.sizes) - 1

    def sector_at(self, offset: int) -> int:
        """Return the number of the sector in which an offset below `end` lies."""
        return bisect_right(self.starts, offset) - 1

    def is_edge(self, offset: int) -> bool:
        """Say whether a sector of main flash begins or ends at an offset."""
        return 0 <= offset <= self.size and (offset == self.size or self.starts[self.sector_at(offset)] == offset)

    def sector_size(self, offset: int, length: int) -> int | None:
        """Return the size of the sectors that make up a range exactly, or None where they differ or do not."""
        if length <= 0 or not (self.is_edge(offset) and self.is_edge(offset + length)):
            return None
        found = {self.sizes[i] for i in range(self.sector_at(offset), self.sector_at(offset + length - 1) + 1)}
        return found.pop() if len(found) == 1 else None
