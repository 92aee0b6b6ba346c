"""Find out how addresses moved between two builds: the table that a patch states (`hillhold_verifier.moves`).

Nothing is asked of the build: no symbols, no map file. What the two images hold says it. Where a part of the base lies in the result again,
a call in it gives the place that it calls in both, and so does a pointer: each is a vote for how far that place moved. The table is the one
with which the votes that it gets right, less what its rows cost, come to most.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hillhold_signer.matching import Match, matches
from hillhold_signer.scanning import (
    RAM,
    Numbers,
    Octets,
    Words,
    between,
    branch_offsets,
    branches,
    branches_with,
    load_address,
    numbers,
    octets,
    words,
)
from hillhold_verifier.moves import LIMIT_ADDRESS, MAX_MOVES, Moves

_MASKED_CALL: Final = 0xF000, 0xF800
_MASKED_POINTER: Final = 0x0101
_VECTORS: Final = 256
"""Nothing points into the table of vectors that an image begins with; of one that runs from 0, small numbers would."""
_FARTHEST: Final = 1 << 17
"""Bytes that a pointer may move and still be taken for the same one."""
_VOTE: Final = 3
"""Bytes that a right correction saves, about."""
_ROW: Final = 5
"""Bytes that a row costs, about."""


def compared(base: bytes, result: bytes) -> tuple[list[Match], Moves | None, bytes]:
    """What of the base lies in the result again, how addresses moved, and how each byte of the result differs from the corrected base."""
    addresses = Addresses(base, result)
    found = matches(*addresses.masked())
    plain = octets(result) - addresses.held(found, None)
    if moves := addresses.moves(found):
        differences = octets(result) - addresses.held(found, moves)
        if np.count_nonzero(differences) < np.count_nonzero(plain):
            return found, moves, differences.tobytes()
    return found, None, plain.tobytes()


class Addresses:
    """What of two images is an address, before anything is matched."""

    def __init__(self, base: bytes, result: bytes) -> None:
        self.base, self.result = base, result
        self.branches = branches(base)
        self.targets = self.branches + 4 + branch_offsets(octets(base), self.branches)
        load = load_address(base)
        self.load = LIMIT_ADDRESS - len(base) if load is None else load
        self.words = words(base, self.load, len(base))

    def masked(self) -> tuple[bytes, bytes]:
        """Base and result with addresses blotted out, for matching: what differs in addresses alone is the same."""
        result_words = words(self.result, self.load, len(self.base))
        return _masked(self.base, self.branches, self.words), _masked(self.result, branches(self.result), result_words)

    def moves(self, found: list[Match]) -> Moves | None:
        """The table, or None where nothing moved that it could state."""
        votes = self._votes(found)
        if not any(shift for _, shift, _ in votes):
            return None
        end = votes[-1][0] + 1
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

    def held(self, found: list[Match], moves: Moves | None) -> Octets:
        """What the decoder reads of the base for each byte of the result that lies in a match: as `Moves.read`. Elsewhere, the result."""
        base = octets(self.base)
        source = base.copy()
        if moves:
            values = self.words.values
            in_image = (values >= moves.load) & (values < moves.load + len(base))
            corrected = in_image | (values >= moves.ram) & (values < moves.ram + moves.ram_length)
            at = self.words.at[corrected]
            values = (values + _shifts(moves, self.words.places))[corrected]
            for byte in range(4):
                source[at + byte] = values >> 8 * byte & 0xFF
        out = octets(self.result).copy()
        for start, new, length in found:
            out[new : new + length] = source[start : start + length]
        if moves:
            self._correct_branches(out, found, moves)
        return out

    def _correct_branches(self, out: Octets, found: list[Match], moves: Moves) -> None:
        base = octets(self.base)
        in_base = (self.targets >= 0) & (self.targets < len(base))
        shifts = np.where(in_base, _shifts(moves, self.targets), 0)
        start, new, length = _columns(found)
        match, branch = between(self.branches, start - 3, start + length - 1)
        way = (new - start)[match]
        changed = shifts[branch] != way
        match, branch, way = match[changed], branch[changed], way[changed]
        at = self.branches[branch]
        stated = branches_with(base, at, self.targets[branch] - at - 4 + shifts[branch] - way)
        for byte in range(4):  # a match may begin or end within a branch
            inside = (at + byte >= start[match]) & (at + byte < (start + length)[match])
            out[(at + way + byte)[inside]] = (stated >> 8 * byte & 0xFF)[inside]

    def _votes(self, found: list[Match]) -> list[tuple[int, int, int]]:
        """Places, how far the result says that they moved, and how often it does, in order."""
        result = octets(self.result)
        start, new, length = _columns(found)
        match, branch = between(self.branches, start, start + length - 4)
        at, targets = self.branches[branch] + (new - start)[match], self.targets[branch]
        stays = (result[at + 1] & 0xF8 == 0xF0) & (result[at + 3] & 0x90 == 0x90)
        stays &= (targets >= 0) & (targets < len(self.base))
        at, targets = at[stays], targets[stays]
        by_calls = at + 4 + branch_offsets(result, at) - targets
        match, word = between(self.words.at, start, start + length - 4)
        by_pointers = numbers(result, self.words.at[word] + (new - start)[match], 4) - self.words.values[word]
        near = abs(by_pointers) < _FARTHEST
        places = np.concatenate([targets, self.words.places[word][near]])
        return _counted(places, np.concatenate([by_calls, by_pointers[near]]))


def _columns(found: list[Match]) -> tuple[Numbers, Numbers, Numbers]:
    start, new, length = np.array(found, np.int64).reshape(-1, 3).T
    return start, new, length


def _shifts(moves: Moves, places: Numbers) -> Numbers:
    """As `Moves.shift`, of many places."""
    return np.array([0, *moves.shifts])[np.searchsorted(np.array(moves.starts), places, "right")]


def _counted(places: Numbers, shifts: Numbers) -> list[tuple[int, int, int]]:
    order = np.lexsort((shifts, places))
    places, shifts = places[order], shifts[order]
    firsts = np.flatnonzero(np.append(True, (places[1:] != places[:-1]) | (shifts[1:] != shifts[:-1])))[: len(places)]
    counts = np.diff(np.append(firsts, len(places)))
    return list(zip(places[firsts].tolist(), shifts[firsts].tolist(), counts.tolist(), strict=True))


def _masked(image: bytes, found: Numbers, addresses: Words) -> bytes:
    out = bytearray(image)
    halves = np.frombuffer(out, "<u2", len(out) // 2)
    calls = found // 2
    calls = calls[halves[calls + 1] & 0xD000 == 0xD000]
    halves[calls], halves[calls + 1] = _MASKED_CALL
    halves[addresses.at[addresses.places >= _VECTORS] // 2] = _MASKED_POINTER
    return bytes(out)


def _rows(votes: list[tuple[int, int, int]], price: int) -> list[tuple[int, int]]:
    """The table whose right votes, less the price of its rows, come to most; rows are (place, shift)."""
    rows: list[tuple[int, int, int]] = []  # place, shift, and the row before, by its index
    tables = {0: (0, -1)}  # the best table that ends with a shift: its value, and its last row
    best = before = (0, -1)  # of all tables: so far, and up to the place before
    last_place = -1
    for place, shift, count in votes:
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
