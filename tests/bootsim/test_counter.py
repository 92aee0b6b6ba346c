"""The one-way counter: what it holds after a cut, and when it is full."""

from __future__ import annotations

import pytest

from hillhold_bootsim.counter import OtpCounter, decode_entry, encode_entry, entry_size
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.geometry import Geometry
from hillhold_verifier.errors import MisuseError, OperationalError
from tinyboard import cuts

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
def test_a_cut_leaves_the_old_value_or_the_new(geometry: Geometry) -> None:
    for new in VALUES:
        old, flash = new // 2, Flash(geometry)
        OtpCounter(flash).raise_to(old)
        found = set()

        def act(flash: Flash, new: int = new) -> None:
            OtpCounter(flash).raise_to(new)

        for cut, state in cuts(geometry, flash.state(), act):
            victim = Flash(geometry)
            victim.load(state)
            counter = OtpCounter(victim)
            value = counter.value()
            found.add(value)
            assert value in (old, new), f"{old} -> {new}, {cut}"
            counter.raise_to(new)
            assert counter.value() == new
            assert counter.left >= counter.capacity - 3, "a torn entry costs its own place and no other"
        assert found == {old, new}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_components_have_counters_of_their_own(geometry: Geometry) -> None:
    flash = Flash(geometry)
    counters = [OtpCounter(flash, component, 3) for component in range(3)]
    for component, counter in enumerate(counters):
        assert counter.capacity == counter.left == 128 // 3 // entry_size(geometry.unit)
        counter.raise_to(component + 5)
    assert [counter.value() for counter in counters] == [5, 6, 7]
    first, second, third = counters
    for value in range(10, 10 + first.left):
        first.raise_to(value)
    with pytest.raises(OperationalError):
        first.raise_to(100)
    assert (second.value(), third.value()) == (6, 7)
    assert second.left == third.left == third.capacity - 1


def test_entries_that_are_none() -> None:
    assert decode_entry(encode_entry(7)) == 7
    assert decode_entry(encode_entry(7) + b"\xff" * 8) == 7
    for data in (b"", bytes(8), b"\xff" * 8, encode_entry(7)[:7], bytes(4) + b"\xff" * 4):
        assert decode_entry(data) is None
