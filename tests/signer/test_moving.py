"""How addresses moved is found from two images alone, and makes patches small."""

from __future__ import annotations

import lzma
import random

import pytest

from hillhold_signer.matching import Match
from hillhold_signer.moving import Addresses
from hillhold_signer.patches import make_patch
from hillhold_signer.scanning import RAM
from hillhold_verifier.moves import MAX_MOVES
from hillhold_verifier.patch import HEADER
from linker import builds

BEFORE, AFTER = builds(800, 0x0802_0000)


def plain(patch: bytes) -> bytes:
    """The table and the records."""
    lc, lp, pb = patch[4] % 9, patch[4] // 9 % 5, patch[4] // 45
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << patch[5], "lc": lc, "lp": lp, "pb": pb}]
    return lzma.decompress(patch[HEADER.size :], lzma.FORMAT_RAW, filters=filters)


@pytest.mark.parametrize("load", [0, 0x8000, 0x0802_0000, 0x2024_0000])
def test_the_address_that_an_image_runs_from_is_found(load: int) -> None:
    before, after = builds(300, load)
    assert Addresses(before, after).load == load


@pytest.mark.parametrize("base", [b"", b"\1", bytes(4000), random.Random(1).randbytes(40_000), b"\xff" * 999])
def test_bytes_without_functions_run_from_nowhere(base: bytes) -> None:
    addresses = Addresses(base, base)
    assert addresses.load == 2**32 - len(base)
    assert addresses.moves([Match(0, 0, len(base))]) is None


def test_the_base_corrected_by_what_was_found_is_the_next_image() -> None:
    addresses = Addresses(BEFORE, AFTER)
    function = next(at for at in range(0, len(BEFORE), 2) if AFTER[at : at + 4] == b"\x01\x46\x02\x46")
    moves = addresses.moves([Match(0, 0, function), Match(function, function + 4, len(BEFORE) - function)])
    assert moves
    assert 4 in moves.shifts
    assert 8 in moves.shifts
    assert moves.ram == RAM
    assert len(moves.starts) < 8

    def read(offset: int, length: int) -> bytes:
        return BEFORE[offset : offset + length]

    assert moves.read(read, 4, function - 4, 0) == AFTER[4:function], (
        "all but the top of the stack, for which a row is too dear"
    )
    assert moves.read(read, function, len(BEFORE) - function, 4) == AFTER[function + 4 :]


def test_a_fix_that_moves_half_of_the_image_is_a_patch_of_some_hundred_bytes() -> None:
    patch = make_patch(BEFORE, AFTER)
    changed = sum(old != new for old, new in zip(BEFORE, AFTER, strict=False))
    assert changed > 20_000
    assert len(patch) < 200


def test_where_more_moved_than_a_table_holds_it_states_what_brings_most() -> None:
    before, after = builds(3000, 0x8000, every=6)
    patch = make_patch(before, after)
    rows = plain(patch)[:2]
    assert rows[0] & 0x7F | rows[1] << 7 in range(MAX_MOVES * 3 // 4, MAX_MOVES + 1)
    assert len(patch) < len(before) // 12


def test_a_table_is_stated_only_where_it_makes_the_patch_smaller() -> None:
    base = random.Random(4).randbytes(30_000)
    patch = make_patch(base, base[:15_000] + b"in between" + base[15_000:])
    assert plain(patch)[0] == 0
