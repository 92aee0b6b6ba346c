"""Reading and writing a slot's bytes: chunks, whole program units, sectors, and where an interrupted transfer goes on."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from hillhold_verifier.errors import MisuseError
from hillhold_verifier.slots import Slots

CHUNK: Final = 256
"""Bytes of a patch that are held in memory at a time."""
HASH_CHUNK: Final = 48 * 1024
"""Bytes that are read and hashed at a time: fewer than decoding a patch takes, and enough that calls cost little beside hashing."""


def round_up(value: int, step: int) -> int:
    """Return `value` rounded up to a multiple of `step`."""
    return -(-value // step) * step


def slot_sha256(slots: Slots, slot: int, offset: int, length: int) -> bytes:
    """Return the SHA-256 of `length` bytes of a slot."""
    digest = sha256()
    for at in range(0, length, HASH_CHUNK):
        digest.update(slots.read(slot, offset + at, min(HASH_CHUNK, length - at)))
    return digest.digest()


def resume_offset(slots: Slots, slot: int, start: int, length: int) -> int:
    """Prepare an interrupted transfer to go on; return its offset.

    The sector of the last byte that is not erased may hold a torn unit, and the first unit after it may be torn and read as
    erased. So everything from that sector on is erased, and received again.
    """
    sector = slots.sector
    blank = bytes([slots.erased_value]) * sector
    step = max(1, HASH_CHUNK // sector) * sector
    resume = 0
    for at in range(0, length, step):
        data = slots.read(slot, start + at, min(step, length - at))
        used = [piece for piece in range(0, len(data), sector) if not blank.startswith(data[piece : piece + sector])]
        if used:
            resume = at + used[-1]
    slots.erase(slot, start + resume, round_up(length, slots.sector) - resume)
    return resume


class SlotWriter:
    """Writes a region of a slot in order; holds back what does not fill a program unit until `flush`."""

    def __init__(self, slots: Slots, slot: int, start: int, length: int, offset: int = 0) -> None:
        self._slots, self._slot, self._start, self._length = slots, slot, start, length
        self._written = offset
        self._pending = b""

    @property
    def offset(self) -> int:
        """Bytes taken so far, relative to the region's start."""
        return self._written + len(self._pending)

    @property
    def complete(self) -> bool:
        """All bytes of the region were taken."""
        return self.offset == self._length

    def write(self, data: bytes) -> None:
        """Take the next bytes; the last ones are padded with the erased value and flushed."""
        if self.offset + len(data) > self._length:
            raise MisuseError(f"{len(data)} bytes at {self.offset} go beyond the region's {self._length}")
        data, self._pending = self._pending + data, b""  # not held beside what it is a part of
        unit = self._slots.unit
        if self._written + len(data) == self._length:
            data += bytes([self._slots.erased_value]) * (round_up(len(data), unit) - len(data))
        whole = len(data) // unit * unit
        if whole:
            self._slots.write(self._slot, self._start + self._written, data[:whole])
        self._written += whole
        self._pending = data[whole:]
        if self._written >= self._length:
            self._written = self._length
