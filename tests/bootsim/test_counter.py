"""The one-way counter: what it holds after a cut, and when it is full."""

from __future__ import annotations

import pytest

from hillhold_bootsim.counter import OtpCounter, decode_entry, encode_entry, entry_size
from hillhold_bootsim.flash import Cut, CutAt, Flash, Geometry, PowerLost
from hillhold_verifier.errors import MisuseError, OperationalError

GEOMETRIES = [
    Geometry.uniform(size=256, sector=256, unit=unit, erased_value=erased, otp=128)
    for unit in (1, 4, 8, 32)
    for erased in (0xFF, 0x00)
]
VALUES = [1, 2, 0x80, 0xFFFF_0000, 0xFFFF_FFFF]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_goes_up_only(geometry: Geometry) -> None:
    counter = OtpCounter(Flash(geometry))
    assert counter.value() == 0
    counter.raise_to(0)
    assert counter.left == counter.capacity == 128 // entry_size(geometry.unit)
    counter.raise_to(5)
    counter.raise_to(3)
    counter.raise_to(5)
    assert counter.value() == 5
    assert counter.left == counter.capacity - 1


def test_full_is_an_error_before_anything_changes() -> None:
    flash = Flash(Geometry.uniform(size=256, sector=256, unit=4, otp=24))
    counter = OtpCounter(flash)
    for value in (1, 2, 3):
        counter.raise_to(value)
    before, operations = flash.read(0, 280), flash.operations

    with pytest.raises(OperationalError, match="all 3 entries are used"):
        counter.raise_to(4)
    assert (flash.read(0, 280), flash.operations, counter.value()) == (before, operations, 3)
    counter.raise_to(3)


def test_a_flash_without_one_way_region_has_no_room() -> None:
    counter = OtpCounter(Flash(Geometry.uniform(size=256, sector=256, unit=4)))
    assert counter.value() == 0
    with pytest.raises(OperationalError):
        counter.raise_to(1)
    assert counter.capacity == 0


@pytest.mark.parametrize("value", [0, -1, 2**32])
def test_refuses_what_does_not_fit(value: int) -> None:
    with pytest.raises(MisuseError):
        encode_entry(value)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("where", list(Cut))
def test_a_cut_leaves_the_old_value_or_the_new(geometry: Geometry, where: Cut) -> None:
    for new in VALUES:
        for seed in range(16):
            flash = Flash(geometry)
            counter = OtpCounter(flash)
            old = new // 2
            counter.raise_to(old)
            flash.power_cut = CutAt(flash.operations, where, seed)
            with pytest.raises(PowerLost):
                counter.raise_to(new)
            flash.power_on()

            allowed = {Cut.BEFORE: {old}, Cut.AFTER: {new}, Cut.TORN: {old, new}}[where]
            assert counter.value() in allowed, f"{old} -> {new}, {flash.power_cut}"
            counter.raise_to(new)
            assert counter.value() == new


def test_entries_that_are_none() -> None:
    assert decode_entry(encode_entry(7)) == 7
    assert decode_entry(encode_entry(7) + b"\xff" * 8) == 7
    for data in (b"", bytes(8), b"\xff" * 8, encode_entry(7)[:7], bytes(4) + b"\xff" * 4):
        assert decode_entry(data) is None
