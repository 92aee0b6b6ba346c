"""Find what in an image is an address, fast: what `hillhold_verifier.moves` reads piece by piece, of a whole image at once.

A loop over all words of an image would take most of the time that a patch takes. So a rare byte is searched for first, by what C code
does at once with all bytes: `translate` of every fourth byte, a search, or an operation on the image as one long number.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Final

from hillhold_verifier.moves import LIMIT_ADDRESS

RAM: Final = 0x2000_0000
RAM_LENGTH: Final = 0x4_0000
"""Where Armv7-M and Armv6-M have SRAM, and how much of it is looked at."""

Word = tuple[int, int, int]
"""A word that is an address: its offset, its value, and the place, as `hillhold_verifier.moves` counts them."""

_MARK: Final = re.compile(rb"\x01")
_PUSH: Final = re.compile(rb"\xb5")
_PUSH_WIDE: Final = re.compile(rb"\x2d\xe9")
"""`PUSH {..., lr}`, in its short form (the high byte) and its long one: how nearly every function that calls another begins."""
_LEAST_POINTERS: Final = 20

_IS_ZERO: Final = bytes(byte == 0 for byte in range(256))
_IS_LOW: Final = bytes(byte < 16 for byte in range(256))
_IS_ODD: Final = bytes(byte & 1 for byte in range(256))


def halfwords(raw: bytes) -> array[int]:
    """Two bytes each, little-endian; a last one alone is left out."""
    return _numbers("H", raw[: len(raw) & ~1])


def branch_offsets(halves: array[int], starts: Iterable[int]) -> list[int]:
    """The offsets that branches state, as `branch_offset` reads them; `starts` are indices of their first halfwords.

    Offset bits 23 and 22 are those of the second halfword, inverted where the sign is not set.
    """
    return [
        ((halves[n] & 0x7FF ^ 0x400) - 0x400 << 12 ^ 0xC0_0000)
        ^ (halves[n + 1] << 10 & 0x80_0000 | halves[n + 1] << 11 & 0x40_0000 | halves[n + 1] << 1 & 0xFFE)
        for n in starts
    ]


def words(raw: bytes, load: int, length: int) -> list[Word]:
    """The words of an image that are addresses of a base of `length` bytes that runs from `load`, or of RAM: as `Moves.words`."""
    end, ram_end = load + length, RAM + RAM_LENGTH
    tops = {*range(load >> 24, (end - 1 >> 24) + 1), *range(RAM >> 24, (ram_end - 1 >> 24) + 1)}
    likely = raw[3::4].translate(bytes(byte in tops for byte in range(256)))
    numbers = _numbers("I", raw[: len(raw) & ~3])
    found = []
    for mark in _MARK.finditer(likely):
        at = mark.start()
        word = numbers[at]
        if load <= word < end:
            found.append((at * 4, word, word - load & ~1))
        elif RAM <= word < ram_end:
            found.append((at * 4, word, word - RAM + length & ~1))
    return found


def load_address(base: bytes) -> int | None:
    """The address that the image runs from, a multiple of 256: the one at which most pointers to code point to where functions begin."""
    functions: dict[int, list[int]] = {}
    starts = [found.start() - 1 for found in _PUSH.finditer(base) if found.start() & 1]
    starts += [found.start() for found in _PUSH_WIDE.finditer(base) if not found.start() & 1]
    for start in starts:
        functions.setdefault(start & 0xFF, []).append(start)
    loads = Counter(
        pointer - start
        for pointer in sorted(_pointers(base))
        for start in functions.get(pointer & 0xFF, ())
        if pointer >= start
    )
    (load, count), *_ = loads.most_common(1) or [(0, 0)]
    return load if count >= _LEAST_POINTERS and load + len(base) <= LIMIT_ADDRESS else None


def _pointers(base: bytes) -> set[int]:
    """What odd words point to that lie behind a word of nearly the same value: pointers lie so in tables, and behind functions."""
    raw = base[: len(base) & ~3]
    if len(raw) < 8:
        return set()
    differs = _whole(_whole_number(raw[4:]) ^ _whole_number(raw[:-4]), len(raw) - 4)
    beside = (
        _whole_number(differs[3::4].translate(_IS_ZERO))
        & _whole_number(differs[2::4].translate(_IS_LOW))
        & _whole_number(raw[4::4].translate(_IS_ODD))
    )
    numbers = _numbers("I", raw[4:])
    return {numbers[mark.start()] - 1 for mark in _MARK.finditer(_whole(beside, len(numbers)))}


def _whole_number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _whole(number: int, length: int) -> bytes:
    return number.to_bytes(length, "little")


def _numbers(code: str, raw: bytes) -> array[int]:
    numbers = array(code, raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
