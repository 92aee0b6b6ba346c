"""Shapes of flash: what is one, and where its sectors lie."""

from __future__ import annotations

import pytest

from hillhold_bootsim.geometry import MAX_OTP, MAX_RUNS, MAX_SECTORS, MAX_SIZE, Geometry
from hillhold_verifier.errors import MisuseError

K = 1024
MIXED = Geometry(((4, 16 * K), (1, 64 * K), (3, 128 * K)), unit=4, otp=512)
"""The first bank of an STM32F4."""


def test_sectors_of_several_sizes_lie_in_a_row() -> None:
    assert MIXED.starts == (0, 16 * K, 32 * K, 48 * K, 64 * K, 128 * K, 256 * K, 384 * K, 512 * K)
    assert MIXED.sizes == (16 * K,) * 4 + (64 * K,) + (128 * K,) * 3 + (512,)
    assert (MIXED.sectors, MIXED.size, MIXED.end) == (8, 512 * K, 512 * K + 512)


def test_each_offset_has_its_sector_and_the_one_way_region_is_the_last() -> None:
    for number, (start, size) in enumerate(zip(MIXED.starts, MIXED.sizes, strict=True)):
        assert [MIXED.sector_at(offset) for offset in (start, start + 1, start + size - 1)] == [number] * 3


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        *((offset * K, True) for offset in (0, 16, 64, 128, 512)),
        *((offset, False) for offset in (1, 80 * K, 511 * K, -16 * K, 512 * K + 4, 512 * K + 512)),
    ],
)
def test_edges_are_those_of_sectors_of_main_flash(offset: int, expected: bool) -> None:
    assert MIXED.is_edge(offset) == expected


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 64 * K, 16 * K),
        (16 * K, 16 * K, 16 * K),
        (64 * K, 64 * K, 64 * K),
        (128 * K, 384 * K, 128 * K),
        (0, 128 * K, None),
        (48 * K, 80 * K, None),
        (0, 8 * K, None),
        (8 * K, 16 * K, None),
        (0, 0, None),
        (512 * K, 512, None),
        (384 * K, 256 * K, None),
    ],
)
def test_a_range_has_a_sector_size_where_whole_sectors_of_one_size_make_it_up(
    offset: int, length: int, expected: int | None
) -> None:
    assert MIXED.sector_size(offset, length) == expected


def test_a_uniform_flash_is_one_run() -> None:
    assert Geometry.uniform(1024, 256, 8) == Geometry(((4, 256),), 8)
    assert Geometry.uniform(1024, 256, 8) != Geometry(((2, 256), (2, 256)), 8)
    assert hash(Geometry.uniform(1024, 256, 8)) == hash(Geometry(((4, 256),), 8))


def test_a_flash_without_one_way_region_has_an_empty_last_sector() -> None:
    geometry = Geometry.uniform(1024, 256, 8)
    assert (geometry.starts[-1], geometry.sizes[-1], geometry.end) == (1024, 0, 1024)


@pytest.mark.parametrize("erased", [0x00, 0xFF])
@pytest.mark.parametrize("unit", [1, 2, 4, 8, 16, 32, 64, 128, 256])
def test_units_are_powers_of_two_up_to_256(unit: int, erased: int) -> None:
    assert Geometry.uniform(512, 256, unit, erased).unit == unit


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"unit": 3}, "unit: expected a power of two"),
        ({"unit": 0}, "unit: expected a power of two"),
        ({"unit": -4}, "unit: expected a power of two"),
        ({"unit": 512}, "unit: expected a power of two"),
        ({"runs": ()}, "runs of sectors: expected 1 to"),
        ({"runs": ((0, 256),)}, "number of sectors: expected 1 to"),
        ({"runs": ((2, 256), (-1, 256))}, "number of sectors: expected 1 to"),
        ({"runs": ((1, 256),) * (MAX_RUNS + 1)}, "runs of sectors: expected 1 to"),
        ({"runs": ((MAX_SECTORS, 8), (1, 8))}, "number of sectors: expected 1 to"),
        ({"runs": ((4, 250),)}, "sizes of sectors: expected whole units"),
        ({"runs": ((4, 0),)}, "sizes of sectors: expected whole units"),
        ({"runs": ((4, -256),)}, "sizes of sectors: expected whole units"),
        ({"runs": ((1, MAX_SIZE + 8),)}, "size: expected at most"),
        ({"erased_value": 0xFE}, "erased value: expected"),
        ({"otp": 4}, "one-way region: expected whole units"),
        ({"otp": -8}, "one-way region: expected whole units"),
        ({"otp": MAX_OTP + 8}, "one-way region: expected whole units"),
    ],
)
def test_refuses_a_geometry_that_is_none(shape: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"runs": ((4, 256),), "unit": 8}
    with pytest.raises(MisuseError, match=f"geometry: .*{words}"):
        Geometry(**(good | shape))  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "sector"), [(1000, 256), (0, 256), (1024, 0), (1024, -256), (-1024, 256)])
def test_refuses_a_uniform_geometry_that_is_not_whole_sectors(size: int, sector: int) -> None:
    with pytest.raises(MisuseError, match="geometry"):
        Geometry.uniform(size, sector, 8)
