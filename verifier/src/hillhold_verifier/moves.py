"""Where the addresses in an image point after the next build: what `hhp2` reckons with, so that a patch need not list it.

A line of code that is added moves all that follows. Every call across it and every pointer behind it is then different, each by
the same few bytes. A patch states the moves, as a table, once; the base is corrected by it before differences are added.

*Places* are offsets into the base, 0 .. base length, for what lies in the image, which runs from the address `load`; the addresses from
`ram` on, `ram_length` bytes, follow as the places base length .. base length + `ram_length`. A row of the table says that what was at
a place from `starts[n]` on, up to the next row's, lies `shifts[n]` bytes further on in the new build. Places before the first row stay.

Corrected are, found in the bytes as they are in the base:

- words: 32 bits, little-endian, at offsets that 4 divides. One that is an address of a place gets the place's shift added, modulo 2**32.
  Its place is rounded down to an even one, since the lowest bit marks Thumb code; the image's range goes before the other.
- branches: Thumb `BL` and `B.W` (Armv7-M A7.7.12 T4 and A7.7.18 T1: 25 bits of offset, relative to the instruction's address + 4), at even
  offsets. They are two halfwords, the first 0xf000 to 0xf7ff, the second with bits 15 and 12 set; none begins right behind a halfword that
  could begin one, so that none overlap. The offset grows by the target's shift, less the instruction's own way: from its place in the base
  to its place in the result. Targets outside the base do not move. Where a branch that changes overlaps a word, its bytes are the branch's.

What a byte becomes depends on the base and on the way alone, not on where a read begins: on 5 bytes before it and 3 behind.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, Protocol

from hillhold_verifier.errors import OperationalError, PatchError

MAX_MOVES: Final = 384
"""Rows of the table: 3 KiB on a microcontroller."""
LIMIT_ADDRESS: Final = 2**32

_BRANCH: Final = re.compile(rb"[\xf0-\xf7](?=.[\x90-\x9f\xb0-\xbf\xd0-\xdf\xf0-\xff])", re.DOTALL)
_HALFWORDS: Final = struct.Struct("<HH")
_WORD: Final = struct.Struct("<I")


class ReadBase(Protocol):
    """Reads exactly `length` bytes of the base at `offset`; asked only for what lies within it."""

    def __call__(self, offset: int, length: int, /) -> bytes: ...


def read_exactly(base: ReadBase, offset: int, length: int) -> bytes:
    """Reads the base. Raises: OperationalError: it gave fewer bytes, or more."""
    data = base(offset, length)
    if len(data) != length:
        raise OperationalError(f"base: asked for {length} bytes at {offset}, got {len(data)}")
    return data


class Moves:
    """The table of one patch, and the base as corrected by it.

    Args:
        base_length: bytes.
        load: the address where the base's first byte lies when it runs.
        ram: where the second range of addresses begins.
        ram_length: its bytes; 0 if there is none.

    Raises:
        PatchError: a range does not end by 2**32.
    """

    def __init__(self, base_length: int, load: int, ram: int, ram_length: int) -> None:
        for start, length in ((load, base_length), (ram, ram_length)):
            if start + length > LIMIT_ADDRESS:
                raise PatchError("patch address", expected=f"a range that ends by {LIMIT_ADDRESS}", got=start + length)
        self._base_length = base_length
        self.load, self.ram, self.ram_length = load, ram, ram_length
        self.starts = array("I")
        self.shifts = array("i")

    def add(self, gap: int, change: int) -> None:
        """Adds a row.

        Args:
            gap: places since the row before, or since 0.
            change: what is added to the shift of the row before, or to 0.

        Raises:
            PatchError: rows that do not ascend, a place beyond all, a shift of 2**31 bytes or more.
        """
        start = self.starts[-1] + gap if self.starts else gap
        shift = self.shifts[-1] + change if self.shifts else change
        places = self._base_length + self.ram_length
        if (self.starts and not gap) or start >= places:
            raise PatchError("patch move", expected=f"a place above the one before and below {places}", got=start)
        if not -(2**31) <= shift < 2**31:
            raise PatchError("patch move", expected="less than 2**31 bytes", got=shift)
        self.starts.append(start)
        self.shifts.append(shift)

    def shift(self, place: int) -> int:
        """How far what was at a place has moved, in bytes."""
        row = bisect_right(self.starts, place)
        return self.shifts[row - 1] if row else 0

    def read(self, base: ReadBase, offset: int, length: int, way: int) -> bytes:
        """Reads bytes of the base, corrected.

        Args:
            base: reads the base.
            offset: of the first byte, in the base.
            length: bytes; they lie within the base.
            way: their offset in the result less that in the base.

        Raises:
            OperationalError: the base could not be read.
        """
        start = max(offset - 4, 0) & ~3
        end = min((offset + length + 5) & ~3, self._base_length)
        raw = read_exactly(base, start, end - start)
        out = bytearray(raw)
        for at, word, place in self.words(raw):
            shift = self.shift(place)
            if shift:
                _WORD.pack_into(out, at, (word + shift) % LIMIT_ADDRESS)
        for at in branches(raw):
            offset_was = branch_offset(raw, at)
            target = start + at + 4 + offset_was
            change = (self.shift(target) if 0 <= target < self._base_length else 0) - way
            if change:
                out[at : at + 4] = branch_with(raw, at, offset_was + change)
        return bytes(memoryview(out)[offset - start : offset - start + length])

    def words(self, raw: bytes) -> Iterator[tuple[int, int, int]]:
        """The words that are addresses of places: offset, value, place. `raw` begins at an offset of the base that 4 divides."""
        load, load_end = self.load, self.load + self._base_length
        ram, ram_end = self.ram, self.ram + self.ram_length
        words = array("I", raw[: len(raw) & ~3])
        if sys.byteorder == "big":
            words.byteswap()
        for at, word in enumerate(words):
            if load <= word < load_end:
                yield at * 4, word, (word - load) & ~1
            elif ram <= word < ram_end:
                yield at * 4, word, (word - ram + self._base_length) & ~1


def branches(raw: bytes) -> Iterator[int]:
    """Offsets of the branches in bytes that begin at an even offset of the base."""
    end = 0
    while found := _BRANCH.search(raw, end):  # `finditer` would keep 3 KiB meanwhile
        at, end = found.start() - 1, found.end()
        if not at & 1 and (not at or raw[at - 1] & 0xF8 != 0xF0):
            yield at


def branch_offset(raw: bytes, at: int) -> int:
    """The offset that a branch states, in bytes from its address + 4."""
    first, second = _HALFWORDS.unpack_from(raw, at)
    sign: int = first >> 10 & 1
    high: int = (second >> 13 & 1 ^ sign ^ 1) << 23 | (second >> 11 & 1 ^ sign ^ 1) << 22
    low: int = (first & 0x3FF) << 12 | (second & 0x7FF) << 1
    return (high | low) - (sign << 24)


def branch_with(raw: bytes, at: int, offset: int) -> bytes:
    """The four bytes of a branch, with another offset, modulo 2**25."""
    _, second = _HALFWORDS.unpack_from(raw, at)
    sign = offset >> 24 & 1
    middle = (offset >> 23 & 1 ^ sign ^ 1) << 13 | (offset >> 22 & 1 ^ sign ^ 1) << 11
    return _HALFWORDS.pack(0xF000 | sign << 10 | offset >> 12 & 0x3FF, second & 0xD000 | middle | offset >> 1 & 0x7FF)
