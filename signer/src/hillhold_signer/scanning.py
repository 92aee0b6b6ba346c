"""Find what in a whole image is an address, all at once: what `hillhold_verifier.moves` reads piece by piece."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hillhold_verifier.moves import LIMIT_ADDRESS

RAM: Final = 0x2000_0000
RAM_LENGTH: Final = 0x4_0000
"""Where Armv7-M and Armv6-M have SRAM, and how much of it is looked at."""

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]

_PUSH: Final = 0xB5
_PUSH_WIDE: Final = 0xE92D
"""`PUSH {..., lr}`, in its short form (the high byte) and its long one: how nearly every function that calls another begins."""
_LEAST_POINTERS: Final = 20
_MOST_POINTERS: Final = 1 << 11
_MOST_PAIRS: Final = 1 << 21
"""Pairs of a pointer and a function that are counted, at most. Where there are more, everything looks like either."""


class Words(NamedTuple):
    """Words that are addresses, in order: their offsets, their values, and the places, as `hillhold_verifier.moves` counts them."""

    at: Numbers
    values: Numbers
    places: Numbers


def octets(raw: bytes) -> Octets:
    """Bytes as numbers."""
    return np.frombuffer(raw, np.uint8)


def numbers(raw: Octets, at: Numbers, length: int) -> Numbers:
    """The little-endian numbers of `length` bytes at some offsets."""
    out: Numbers = np.zeros(len(at), np.int64)
    for byte in range(length):
        out |= raw[at + byte].astype(np.int64) << 8 * byte
    return out


def between(sorted_keys: NDArray[Any], first: NDArray[Any], last: NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Every pair of a range and a key in it: the index of the range, and that of the key. Ranges are `first` to `last`, both included."""
    low = np.searchsorted(sorted_keys, first)
    counts = np.maximum(np.searchsorted(sorted_keys, last, "right") - low, 0)
    which = np.repeat(np.arange(len(low)), counts)
    return which, np.arange(len(which)) + np.repeat(low - np.cumsum(counts) + counts, counts)


def branches(raw: bytes) -> Numbers:
    """Offsets of the branches: as `hillhold_verifier.moves.branches`."""
    halves = _halfwords(raw)
    first = halves & 0xF800 == 0xF000
    found = first[:-1] & (halves[1:] & 0x9000 == 0x9000)
    found[1:] &= ~first[:-2]
    return np.flatnonzero(found) * 2


def branch_offsets(raw: Octets, at: Numbers) -> Numbers:
    """The offsets that branches state: as `hillhold_verifier.moves.branch_offset`.

    Offset bits 23 and 22 are those of the second halfword, inverted where the sign is not set.
    """
    first, second = numbers(raw, at, 2), numbers(raw, at + 2, 2)
    signed = ((first & 0x7FF ^ 0x400) - 0x400 << 12) ^ 0xC0_0000
    return signed ^ (second << 10 & 0x80_0000 | second << 11 & 0x40_0000 | second << 1 & 0xFFE)


def branches_with(raw: Octets, at: Numbers, offsets: Numbers) -> Numbers:
    """Branches that state other offsets, modulo 2**25, each as a number of four bytes: as `hillhold_verifier.moves.branch_with`."""
    second = numbers(raw, at + 2, 2)
    sign = offsets >> 24 & 1
    middle = (offsets >> 23 & 1 ^ sign ^ 1) << 13 | (offsets >> 22 & 1 ^ sign ^ 1) << 11
    first = 0xF000 | sign << 10 | offsets >> 12 & 0x3FF
    return first | (second & 0xD000 | middle | offsets >> 1 & 0x7FF) << 16


def words(raw: bytes, load: int, length: int) -> Words:
    """The words of an image that are addresses of a base of `length` bytes that runs from `load`, or of RAM: as `Moves.words`."""
    values = _words(raw)
    in_image = (values >= load) & (values < load + length)
    at = np.flatnonzero(in_image | (values >= RAM) & (values < RAM + RAM_LENGTH))
    values = values[at]
    return Words(at * 4, values, np.where(in_image[at], values - load, values - RAM + length) & ~1)


def load_address(base: bytes) -> int | None:
    """The address that the image runs from, a multiple of 256: the one at which most pointers to code point to where functions begin."""
    halves = _halfwords(base)
    starts = np.flatnonzero((halves >> 8 == _PUSH) | (halves == _PUSH_WIDE)) * 2
    starts = starts[np.argsort(starts & 0xFF, kind="stable")]
    pointers = _pointers(base)
    pointers = pointers[:: len(pointers) // _MOST_POINTERS + 1]
    low = starts & 0xFF
    pairs = np.searchsorted(low, pointers & 0xFF, "right") - np.searchsorted(low, pointers & 0xFF)
    if not 0 < pairs.sum() <= _MOST_PAIRS:
        return None
    pointer, start = between(low, pointers & 0xFF, pointers & 0xFF)
    loads, counts = np.unique(pointers[pointer] - starts[start], return_counts=True)
    counts[(loads < 0) | (loads + len(base) > LIMIT_ADDRESS)] = 0
    return int(loads[counts.argmax()]) if counts.max() >= _LEAST_POINTERS else None


def _pointers(base: bytes) -> Numbers:
    """What odd words point to that lie behind a word of nearly the same value: pointers lie so in tables, and behind functions."""
    values = _words(base)
    beside = (values[1:] & 1 == 1) & ((values[1:] ^ values[:-1]) >> 20 == 0)
    return np.unique(values[1:][beside]) - 1


def _halfwords(raw: bytes) -> NDArray[np.uint16]:
    return np.frombuffer(raw, "<u2", len(raw) // 2)


def _words(raw: bytes) -> Numbers:
    return np.frombuffer(raw, "<u4", len(raw) // 4).astype(np.int64)
