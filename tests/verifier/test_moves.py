"""The corrected base: the same bytes however it is read, and only what moved is different."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hillhold_verifier.errors import OperationalError
from hillhold_verifier.moves import Moves, branch_offset, branch_with, branches
from linker import call
from patchread import corrected

LOAD, RAM = 0x8000, 0x2000_0000
PARTS = st.one_of(
    st.binary(min_size=1, max_size=5),
    st.integers(-(2**24), 2**24 - 1).map(lambda offset: call(offset & ~1)),
    st.integers(-400, 400).map(lambda offset: call(offset * 2)),
    st.integers(0, 500).map(lambda at: (LOAD + at).to_bytes(4, "little")),
    st.integers(0, 99).map(lambda at: (RAM + at).to_bytes(4, "little")),
    st.just(b"\x12\xf7"),
)
ROWS = st.lists(st.tuples(st.integers(1, 60), st.integers(-(2**20), 2**20)), min_size=1, max_size=9)


def moves_of(base: bytes, rows: list[tuple[int, int]]) -> tuple[Moves, list[tuple[int, int]]]:
    moves, places = Moves(len(base), LOAD, RAM, 100), []
    start = shift = 0
    for gap, change in rows:
        start, shift = start + gap, shift + change
        if start < len(base) + 100:
            moves.add(gap, change)
            places.append((start, shift))
    return moves, places


@given(st.lists(PARTS, max_size=60).map(b"".join), ROWS, st.integers(-(2**31), 2**31), st.data())
def test_any_part_is_a_part_of_the_whole(
    base: bytes, rows: list[tuple[int, int]], way: int, data: st.DataObject
) -> None:
    moves, places = moves_of(base, rows)
    whole = corrected(
        base, way, LOAD, (RAM, 100), lambda place: next((by for start, by in reversed(places) if start <= place), 0)
    )

    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(base)
        return base[offset : offset + length]

    offset = data.draw(st.integers(0, len(base)))
    length = data.draw(st.integers(0, len(base) - offset))
    assert moves.read(read, offset, length, way) == whole[offset : offset + length]


STEPS = [(0, 6), (31, -2), (333, 70_001), (1001, -8), (637, 2), (1, 10), (1, 0), (96, 4), (2, -300)]


def dense(load: int, ram: int, length: int) -> bytes:
    """Branches and pointers at every turn: to the first and the last place and just beside them, odd ones, one within the other."""
    rng = random.Random(7)
    places = [-1, 0, 1, length - 1, length, *accumulate(gap for gap, _ in STEPS[1:4])]
    out = bytearray()
    while len(out) < length:
        target = rng.choice([-2, 0, 2, length // 2 * 2, length - 2, rng.randrange(0, length, 2)]) // 2 * 2
        pointers = [load + rng.choice(places), load + rng.randrange(length), ram + rng.choice([-1, 0, 1, 50, 99, 100])]
        word = rng.choice(pointers) % 2**32
        out += rng.choice(
            [
                call(target - len(out) - 4),
                word.to_bytes(4, "little"),
                word.to_bytes(4, "little") + b"\x01\xf8",
                rng.randbytes(2),
                b"\x12\xf7",
                b"\x80",
            ]
        )
    return bytes(out[:length])


@pytest.mark.slow
@pytest.mark.parametrize("way", [0, 2, -6, 70_000])
@pytest.mark.parametrize("length", [2003, 2004])
@pytest.mark.parametrize(
    ("load", "ram"), [(LOAD, RAM), (0xF000_8000 - 0x100, 0xF800_0000), (0xF812_0000, 0), (0x0802_F000, RAM)]
)
def test_every_part_is_a_part_of_the_whole(load: int, ram: int, length: int, way: int) -> None:
    base = dense(load, ram, length)
    moves, places = Moves(length, load, ram, 100), []
    start = shift = 0
    for gap, change in STEPS:
        start, shift = start + gap, shift + change
        moves.add(gap, change)
        places.append((start, shift))
    whole = corrected(base, way, load, (ram, 100), lambda place: next(by for at, by in reversed(places) if at <= place))
    assert sum(old != new for old, new in zip(base, whole, strict=True)) > 50

    def read(offset: int, count: int) -> bytes:
        return base[offset : offset + count]

    for count in (*range(1, 10), length):
        for offset in range(length - count + 1):
            assert moves.read(read, offset, count, way) == whole[offset : offset + count]


@given(st.integers(-(2**24), 2**24 - 1), st.sampled_from([b"\0\xf0\0\xd0", b"\0\xf0\0\x90", b"\xff\xf7\xff\xff"]))
def test_a_branch_states_the_offset_that_it_is_given(offset: int, was: bytes) -> None:
    made = branch_with(was, 0, offset & ~1)
    assert branch_offset(made, 0) == offset & ~1
    assert made[3] & 0xC0 == was[3] & 0xC0, "a call stays a call, a jump a jump"


def test_branches_as_the_assembler_writes_them() -> None:
    assert branch_offset(bytes.fromhex("fff7feff"), 0) == -4  # bl .
    assert branch_offset(bytes.fromhex("00f000f8"), 0) == 0
    assert branch_offset(bytes.fromhex("00f000b8"), 0) == 0  # b.w
    assert list(branches(bytes.fromhex("704700f000f8"))) == [2]
    assert not list(branches(bytes.fromhex("00f00080"))), "a conditional branch is none"
    assert not list(branches(bytes.fromhex("7000f000f8"))), "at an odd offset there is no code"
    assert list(branches(bytes.fromhex("00f000f000f8"))) == [0], "none begins behind what could begin one"


def test_a_base_that_reads_long_or_short_is_an_operational_error() -> None:
    moves = Moves(100, LOAD, RAM, 0)
    for given_back in (b"", bytes(99)):
        with pytest.raises(OperationalError, match="asked for"):
            moves.read(lambda offset, length, found=given_back: found, 8, 4, 0)
