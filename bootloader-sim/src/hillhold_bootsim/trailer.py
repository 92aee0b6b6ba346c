"""MCUboot's image trailer, at the end of each slot, for "swap using offset" (MCUboot 2.x, docs/design.md; bootutil_misc.h).

    … | swap status | swap size | TLV sizes | swap info | copy done | image ok | padding | magic
      ^ `status`    ^ each at a multiple of the alignment, one program unit or more      ^ 16 bytes, at the very end

The status has two units for each sector of the primary slot, written in order; everything else is written once. The alignment is
`BOOT_MAX_ALIGN`: 8, or the program unit where that is larger. `BOOT_MAX_IMG_SECTORS` is the number of sectors of the primary slot.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import Partition
from hillhold_verifier.errors import MisuseError

MAGIC_SIZE: Final = 16
STATES: Final = 2
"""Status units of one sector (`BOOT_STATUS_STATE_COUNT`)."""
FLAG_SET: Final = b"\x01"
_MAGIC_8: Final = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
_MAGIC_TAIL: Final = bytes.fromhex("2de15d29410b8d77679c110f1f8a")
MAX_UNIT: Final = 32
"""`BOOT_MAX_ALIGN` goes no further."""


class SwapType(IntEnum):
    """`BOOT_SWAP_TYPE_…`."""

    TEST = 2
    PERM = 3
    REVERT = 4


@dataclass(frozen=True, slots=True)
class Trailer:
    """The trailer of a slot; offsets are those of the flash.

    Args:
        geometry: of the flash.
        slot: the slot.
        sectors: of the primary slot.
    """

    geometry: Geometry
    slot: Partition
    sectors: int

    def __post_init__(self) -> None:
        if self.geometry.unit > MAX_UNIT:
            raise MisuseError(
                f"swap: a program unit of {self.geometry.unit} bytes, and MCUboot's trailers go up to {MAX_UNIT}"
            )

    @property
    def align(self) -> int:
        """`BOOT_MAX_ALIGN`."""
        return max(8, self.geometry.unit)

    @property
    def magic(self) -> bytes:
        """`boot_img_magic`."""
        return _MAGIC_8 if self.align == 8 else struct.pack("<H", self.align) + _MAGIC_TAIL

    @property
    def size(self) -> int:
        """`boot_trailer_sz`: status and what follows it."""
        return self.sectors * STATES * self.geometry.unit + 5 * self.align + -(-MAGIC_SIZE // self.align) * self.align

    @property
    def magic_at(self) -> int:
        """Where the aligned magic begins, padding included."""
        return (self.slot.end - MAGIC_SIZE) // self.align * self.align

    @property
    def image_ok(self) -> int:
        """`boot_image_ok_off`."""
        return (self.slot.end - MAGIC_SIZE - self.align) // self.align * self.align

    @property
    def copy_done(self) -> int:
        """`boot_copy_done_off`."""
        return self.image_ok - self.align

    @property
    def swap_info(self) -> int:
        """`boot_swap_info_off`."""
        return self.image_ok - 2 * self.align

    @property
    def tlv_sizes(self) -> int:
        """`boot_unprotected_tlv_sizes_off`."""
        return self.image_ok - 3 * self.align

    @property
    def swap_size(self) -> int:
        """`boot_swap_size_off`."""
        return self.image_ok - 4 * self.align

    def status(self, number: int) -> int:
        """Return where the status unit of a step lies (`boot_status_off`, `boot_status_internal_off`)."""
        return self.slot.end - self.size + number * self.geometry.unit

    @property
    def first_sector(self) -> int:
        """Where the first sector begins that the trailer reaches into; images end before it."""
        return self.geometry.starts[self.geometry.sector_at(max(0, self.slot.end - self.size))]
