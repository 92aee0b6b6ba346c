"""Find out how addresses moved between two builds: the table that a patch states (`hillhold_verifier.moves`).

Nothing is asked of the build: no symbols, no map file. What the two images hold says it. Where a part of the base lies in the result again,
a call in it gives the place that it calls in both, and so does a pointer: each is a vote for how far that place moved. The table is the one
with which the votes that it gets right, less what its rows cost, come to most.

Where the image runs is found in the same way: it is the address at which the most pointers to code point to where functions begin.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise
from typing import Final, NamedTuple

from hillhold_verifier.moves import LIMIT_ADDRESS, MAX_MOVES, Moves, branch_offset, branches, is_branch

RAM: Final = 0x2000_0000
RAM_LENGTH: Final = 0x4_0000
"""Where Armv7-M and Armv6-M have SRAM, and how much of it is looked at."""

_CALL: Final = re.compile(rb".[\xf0-\xf7].[\xd0-\xdf\xf0-\xff]", re.DOTALL)
_PROLOGUE: Final = re.compile(rb"(?=.\xb5|\x2d\xe9)", re.DOTALL)
"""`PUSH {..., lr}`, in its short and its long form: how nearly every function that calls another begins."""
_MASKED_CALL: Final = b"\x00\xf0\x00\xf8"
_MASKED_POINTER: Final = b"\x01\x01"
_VECTORS: Final = 256
"""Nothing points into the table of vectors that an image begins with; of one that runs from 0, small numbers would."""
_LEAST_POINTERS: Final = 20
_FARTHEST: Final = 1 << 17
"""Bytes that a pointer may move and still be taken for the same one."""
_VOTE: Final = 3
"""Bytes that a right correction saves, about."""
_ROW: Final = 5
"""Bytes that a row costs, about."""


class Match(NamedTuple):
    """A part of the base that lies in the result again, more or less: offsets and a length, in bytes."""

    base: int
    result: int
    length: int


class Addresses:
    """What of two images is an address, before anything is matched."""

    def __init__(self, base: bytes, result: bytes) -> None:
        self.base, self.result = base, result
        self.branches = list(branches(base))
        self.targets = [at + 4 + branch_offset(base, at) for at in self.branches]
        load = _load(base)
        self.load = LIMIT_ADDRESS - len(base) if load is None else load
        self._all = Moves(len(base), self.load, RAM, RAM_LENGTH)
        self.words = list(self._all.words(base))

    def masked(self) -> tuple[bytes, bytes]:
        """Base and result with addresses blotted out, for matching: what differs in addresses alone is the same."""
        base, result = bytearray(_CALL.sub(_MASKED_CALL, self.base)), bytearray(_CALL.sub(_MASKED_CALL, self.result))
        for image, words in ((base, self.words), (result, self._all.words(self.result))):
            for at, _, place in words:
                if place >= _VECTORS:
                    image[at : at + 2] = _MASKED_POINTER
        return bytes(base), bytes(result)

    def moves(self, matches: list[Match]) -> Moves | None:
        """The table, or None where nothing moved that it could state."""
        votes = self._votes(matches)
        if not any(shift for _, shift in votes):
            return None
        end = max(place for place, shift in votes) + 1
        price = _ROW
        while len(rows := _rows(votes, price)) > MAX_MOVES:
            price += price // 2
        if not any(shift for _, shift in rows):
            return None
        moves = Moves(len(self.base), self.load, RAM, max(0, end - len(self.base)))
        last_place = last_shift = 0
        for place, shift in rows:
            moves.add(place - last_place, shift - last_shift)
            last_place, last_shift = place, shift
        return moves

    def _votes(self, matches: list[Match]) -> Counter[tuple[int, int]]:
        base, result = self.base, self.result
        found = []
        offsets = [at for at, _, _ in self.words]
        for start, new, length in matches:
            way = new - start
            for n in range(bisect_left(self.branches, start), bisect_right(self.branches, start + length - 4)):
                at, target = self.branches[n], self.targets[n]
                if is_branch(result, at + way) and 0 <= target < len(base):
                    found.append((target, branch_offset(result, at + way) + at + way + 4 - target))
            for n in range(bisect_left(offsets, start), bisect_right(offsets, start + length - 4)):
                at, word, place = self.words[n]
                shift = int.from_bytes(result[at + way : at + way + 4], "little") - word
                if -_FARTHEST < shift < _FARTHEST:
                    found.append((place, shift))
        return Counter(found)


def _load(base: bytes) -> int | None:
    """The address that the image runs from, a multiple of 256."""
    functions: dict[int, list[int]] = {}
    for found in _PROLOGUE.finditer(base):
        if not found.start() & 1:
            functions.setdefault(found.start() & 0xFF, []).append(found.start())
    words = struct.unpack_from(f"<{len(base) // 4}I", base)
    # Pointers lie beside pointers: in tables, and in the pools behind functions.
    pointers = {word - 1 for before, word in pairwise(words) if word & 1 and not (before ^ word) >> 20}
    loads = Counter(
        pointer - start for pointer in pointers for start in functions.get(pointer & 0xFF, ()) if pointer >= start
    )
    (load, count), *_ = loads.most_common(1) or [(0, 0)]
    return load if count >= _LEAST_POINTERS and load + len(base) <= LIMIT_ADDRESS else None


def _rows(votes: Counter[tuple[int, int]], price: int) -> list[tuple[int, int]]:
    """The table whose right votes, less the price of its rows, come to most; rows are (place, shift)."""
    rows: list[tuple[int, int, int]] = []  # place, shift, and the row before, by its index
    tables = {0: (0, -1)}  # the best table that ends with a shift: its value, and its last row
    best = before = (0, -1)  # of all tables: so far, and up to the place before
    last_place = -1
    for (place, shift), count in sorted(votes.items()):
        if place != last_place:
            before, last_place = best, place
        value, row = tables.get(shift, (-price - 1, -1))
        if before[0] - price > value:
            value, row = before[0] - price, len(rows)
            rows.append((place, shift, before[1]))
        tables[shift] = value + count * _VOTE, row
        best = max(best, tables[shift])
    found = []
    row = best[1]
    while row >= 0:
        place, shift, row = rows[row]
        found.append((place, shift))
    return found[::-1]
