"""Find what of the base lies in the result again: long runs by a table of blocks, everything else by bsdiff4.

bsdiff4 sorts the whole base, though two builds are mostly the same. Runs that are equal byte for byte are found first, which is cheap; it
gets only what lies between them, with some of them at either end. Where what then seems new is a copy of what it did not get, it gets all.
Whatever is found, right patches can be made of it: a worse choice makes them larger, never wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

import bsdiff4.core

BLOCK: Final = 32
"""Bytes of a block: those of the base, one after another, are looked for in the result."""
LONG: Final = 256
"""Bytes of a run that is worth it."""
STRIDE: Final = LONG - 2 * BLOCK
"""Blocks are looked for at `BLOCK` offsets in so many: one of them hits in every run of `LONG` bytes."""
MARGIN: Final = 128
"""Bytes at either end of a run that bsdiff4 gets as well: it may know better where a part ends."""
LEAST: Final = 0.6
"""Part of the result that runs have to cover; with less of them, bsdiff4 alone finds better matches in about the same time."""
SMALL: Final = 1 << 16
"""Bytes of base and result together for which bsdiff4 takes no time that anybody notices."""
NEAR: Final = 16
"""Bytes between two matches on the same way that cost less as differences than as a jump."""
_CHUNK: Final = 4096


class Match(NamedTuple):
    """A part of the base that lies in the result again, more or less: offsets and a length, in bytes."""

    base: int
    result: int
    length: int


def matches(base: bytes, result: bytes) -> list[Match]:
    """Return what of the base lies in the result again, in the order of the result, where no two overlap."""
    if len(base) + len(result) < SMALL:
        return _by_bsdiff(base, result)
    blocks = {base[at : at + BLOCK]: at for at in range(len(base) - BLOCK & -BLOCK, -1, -BLOCK)}
    runs = _runs(base, result, blocks)
    if not runs:
        return _by_bsdiff(base, result)
    inner = [Match(at + MARGIN, new + MARGIN, length - 2 * MARGIN) for at, new, length in runs if length > 2 * MARGIN]
    old_rest = _Rest(base, [(at, at + length) for at, _, length in inner])
    new_rest = _Rest(result, [(new, new + length) for _, new, length in inner])
    found = [*inner]
    for match in _by_bsdiff(old_rest.joined, new_rest.joined):
        found += _split(match, old_rest, new_rest)
    united = _united(sorted(found, key=lambda match: match.result))
    return _by_bsdiff(base, result) if _misses_copies(result, blocks, united) else united


def _by_bsdiff(base: bytes, result: bytes) -> list[Match]:
    control, _, _ = bsdiff4.core.diff(base, result)
    numbers = [bsdiff4.core.decode_int64(control[at : at + 8]) for at in range(0, len(control), 8)]
    found = []
    old = new = 0
    for at in range(0, len(numbers), 3):
        add, insert, seek = numbers[at : at + 3]
        if add:
            found.append(Match(old, new, add))
        old, new = old + add + seek, new + add + insert
    return found


def _runs(base: bytes, result: bytes, blocks: dict[bytes, int]) -> list[Match]:
    """Runs of `LONG` bytes or more that are equal; none where they cover too little."""
    may_miss = len(result) * (1 - LEAST)
    found: list[Match] = []
    at = end = missed = way = 0
    while at + BLOCK <= len(result):
        run = _run_near(base, result, blocks, at, end, way)
        if run:
            found.append(run)
            missed += run.result - end
            at = end = run.result + run.length
            way = run.result - run.base
        else:
            at += STRIDE
        if missed + at - end > may_miss:
            return []
    return found


def _misses_copies(result: bytes, blocks: dict[bytes, int], found: list[Match]) -> bool:
    """Whether a block of the base lies in what nothing was found for."""
    made = 0
    for match in [*found, Match(0, len(result), 0)]:
        if any(result[at : at + BLOCK] in blocks for at in range(made, match.result - BLOCK + 1)):
            return True
        made = match.result + match.length
    return False


def _run_near(base: bytes, result: bytes, blocks: dict[bytes, int], at: int, end: int, way: int) -> Match | None:
    """The first run that has a block beginning within `BLOCK` bytes from `at`, and begins at `end` or later."""
    for new in range(at, at + BLOCK):
        block = result[new : new + BLOCK]
        old = blocks.get(block)
        if old is None:
            continue
        if new >= way and base[new - way : new - way + BLOCK] == block:  # of equal ones, where the last run went on
            old = new - way
        before = _same_before(base, old, result, new, min(old, new - end, LONG))
        length = before + _same_from(base, old, result, new)
        if length >= LONG:
            return Match(old - before, new - before, length)
    return None


def _same_from(base: bytes, old: int, result: bytes, new: int) -> int:
    """How many bytes are the same from there on."""
    most = min(len(base) - old, len(result) - new)
    for done in range(0, most, _CHUNK):
        count = min(_CHUNK, most - done)
        left, right = base[old + done : old + done + count], result[new + done : new + done + count]
        if left != right:
            differs = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
            return done + count - (differs.bit_length() + 7) // 8
    return most


def _same_before(base: bytes, old: int, result: bytes, new: int, most: int) -> int:
    """How many bytes, `most` at most, are the same right before."""
    differs = int.from_bytes(base[old - most : old], "little") ^ int.from_bytes(result[new - most : new], "little")
    return most - (differs.bit_length() + 7) // 8


class _Rest:
    """What is left of an image without some parts of it, joined; the parts may overlap."""

    def __init__(self, image: bytes, without: list[tuple[int, int]]) -> None:
        pieces = []
        at = 0
        for start, end in [*sorted(without), (len(image), len(image))]:
            if start > at:
                pieces.append((at, start))
            at = max(at, end)
        self.joined = b"".join(image[start:end] for start, end in pieces)
        self._starts = [start for start, _ in pieces]
        self._ends = list(accumulate(end - start for start, end in pieces))  # in what is joined
        self._lengths = [end - start for start, end in pieces]

    def place(self, at: int) -> tuple[int, int]:
        """Return where a byte of what is joined lies in the image, and how many follow it there, itself included."""
        piece = bisect_right(self._ends, at)
        left = self._ends[piece] - at
        return self._starts[piece] + self._lengths[piece] - left, left


def _split(match: Match, old_rest: _Rest, new_rest: _Rest) -> Iterator[Match]:
    """A match of what is joined, as matches of the images."""
    done = 0
    while done < match.length:
        old, old_left = old_rest.place(match.base + done)
        new, new_left = new_rest.place(match.result + done)
        length = min(match.length - done, old_left, new_left)
        yield Match(old, new, length)
        done += length


def _united(found: list[Match]) -> list[Match]:
    """Matches that go on where one ended, or nearly there, become one."""
    out: list[Match] = []
    for match in found:
        last = out[-1] if out else None
        if (
            last
            and match.result - match.base == last.result - last.base
            and match.result - last.result - last.length <= NEAR
        ):
            out[-1] = Match(last.base, last.result, match.result + match.length - last.result)
        else:
            out.append(match)
    return out
