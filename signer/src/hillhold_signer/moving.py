"""Find out how addresses moved between two builds: the table that a patch states (`hillhold_verifier.moves`).

Nothing is asked of the build: no symbols, no map file. What the two images hold says it. Where a part of the base lies in the result again,
a call in it gives the place that it calls in both, and so does a pointer: each is a vote for how far that place moved. The table is the one
with which the votes that it gets right, less what its rows cost, come to most.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Final

from hillhold_signer.matching import Match
from hillhold_signer.scanning import RAM, Word, branch_offsets, halfwords, load_address, words
from hillhold_verifier.moves import LIMIT_ADDRESS, MAX_MOVES, Moves, branch_with, branches, is_branch

_CALL: Final = re.compile(rb".[\xf0-\xf7].[\xd0-\xdf\xf0-\xff]", re.DOTALL)
_MASKED_CALL: Final = b"\x00\xf0\x00\xf8"
_MASKED_POINTER: Final = b"\x01\x01"
_VECTORS: Final = 256
"""Nothing points into the table of vectors that an image begins with; of one that runs from 0, small numbers would."""
_FARTHEST: Final = 1 << 17
"""Bytes that a pointer may move and still be taken for the same one."""
_VOTE: Final = 3
"""Bytes that a right correction saves, about."""
_ROW: Final = 5
"""Bytes that a row costs, about."""


class Addresses:
    """What of two images is an address, before anything is matched."""

    def __init__(self, base: bytes, result: bytes) -> None:
        self.base, self.result = base, result
        self.branches = list(branches(base))
        offsets = branch_offsets(halfwords(base), [at >> 1 for at in self.branches])
        self.targets = [at + 4 + offset for at, offset in zip(self.branches, offsets, strict=True)]
        load = load_address(base)
        self.load = LIMIT_ADDRESS - len(base) if load is None else load
        self.words = words(base, self.load, len(base))

    def masked(self) -> tuple[bytes, bytes]:
        """Base and result with addresses blotted out, for matching: what differs in addresses alone is the same."""
        return _masked(self.base, self.words), _masked(self.result, words(self.result, self.load, len(self.base)))

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
        halves = halfwords(result), halfwords(result[1:])  # those at even offsets, and those at odd ones
        for start, new, length in matches:
            way = new - start
            here = slice(bisect_left(self.branches, start), bisect_right(self.branches, start + length - 4))
            calls = [
                (at + way, target)
                for at, target in zip(self.branches[here], self.targets[here], strict=True)
                if is_branch(result, at + way) and 0 <= target < len(base)
            ]
            stated = branch_offsets(halves[way & 1], [at >> 1 for at, _ in calls])
            found += [(target, at + 4 + offset - target) for (at, target), offset in zip(calls, stated, strict=True)]
            for n in range(bisect_left(offsets, start), bisect_right(offsets, start + length - 4)):
                at, word, place = self.words[n]
                shift = int.from_bytes(result[at + way : at + way + 4], "little") - word
                if -_FARTHEST < shift < _FARTHEST:
                    found.append((place, shift))
        return Counter(found)


class Corrected:
    """The base as a table corrects it: what `Moves.read` reads, from what is known of the whole base already."""

    def __init__(self, addresses: Addresses, moves: Moves) -> None:
        self._base, self._branches, self._targets = addresses.base, addresses.branches, addresses.targets
        self._shifts = [moves.shift(target) if 0 <= target < len(self._base) else 0 for target in self._targets]
        self._words = bytearray(self._base)
        for at, word, place in addresses.words:
            in_image = moves.load <= word < moves.load + len(self._base)
            shift = moves.shift(place) if in_image or moves.ram <= word < moves.ram + moves.ram_length else 0
            if shift:
                self._words[at : at + 4] = ((word + shift) % LIMIT_ADDRESS).to_bytes(4, "little")

    def read(self, start: int, length: int, way: int) -> bytes:
        """Return bytes of the base from `start`, as they are corrected where they lie `way` bytes further on in the result."""
        before = max(0, start - 4)  # branches that only end or begin here have to fit
        out = self._words[before : start + length + 4]
        for n in range(bisect_left(self._branches, start - 3), bisect_left(self._branches, start + length)):
            at, change = self._branches[n], self._shifts[n] - way
            if change:
                offset = self._targets[n] - at - 4 + change
                out[at - before : at - before + 4] = branch_with(self._base, at, offset)
        return bytes(out[start - before : start - before + length])


def _masked(image: bytes, found: list[Word]) -> bytes:
    out = bytearray(_CALL.sub(_MASKED_CALL, image))
    for at, _, place in found:
        if place >= _VECTORS:
            out[at : at + 2] = _MASKED_POINTER
    return bytes(out)


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
