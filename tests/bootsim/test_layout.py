"""Where things lie on a board, and the views of them that agent and bootloader take."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from hillhold_bootsim.boards import board
from hillhold_bootsim.bootflags import FlagStore, ImageFlags, record_size
from hillhold_bootsim.flash import Flash, FlashContractError
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import (
    MAX_COMPONENTS,
    BootMode,
    Layout,
    Partition,
    SimRecordAreas,
    SimSlots,
    padded,
)
from hillhold_bootsim.swap import usable
from hillhold_verifier.errors import MisuseError
from tinyboard import OLD, Rig, mark_of, sign, tiny

K = 1024
MIXED = Geometry(((4, 16 * K), (1, 64 * K), (7, 128 * K)), unit=4, otp=512)
"""A flash of 1 MiB as that of an STM32F4: small sectors first."""


def on_mixed(mode: BootMode = BootMode.REMAP, **parts: object) -> Layout:
    row = [Partition(number * 16 * K, 16 * K) for number in range(4)]
    layout = {
        "flags": (row[0], row[1]),
        "state": (row[2], row[3]),
        "slots": ((Partition(128 * K, 384 * K), Partition(512 * K, 512 * K)),),
    }
    return Layout(name="mixed", geometry=MIXED, mode=mode, **(layout | parts))  # type: ignore[arg-type]


def test_the_default_board() -> None:
    layout = board().layout
    parts = [*layout.flags, *layout.state, *layout.slots[0]]
    assert [part.size // K for part in parts] == [4, 4, 64, 64, 384, 384]
    for before, after in pairwise(parts):
        assert before.end == after.offset
    assert parts[-1].end <= layout.geometry.size == K * K
    slots = SimSlots(Flash(layout.geometry), layout)
    assert (slots.size, slots.sector, slots.unit, slots.erased_value) == (384 * K, 4096, 4, 0xFF)


def test_in_a_row_from_the_start_and_in_swap_mode_with_a_sector_more_in_each_second_slot() -> None:
    geometry = Geometry.uniform(64 * K, K, 8)
    layout = Layout.in_a_row("row", geometry, 2 * K, 8 * K, keys_size=K, components=2)
    row = [*layout.flags, *layout.state, *(layout.keys or ()), *layout.slots[0], *layout.slots[1]]
    assert [(part.offset // K, part.size // K) for part in row] == [
        (0, 1),
        (1, 1),
        (2, 2),
        (4, 2),
        (6, 1),
        (7, 1),
        (8, 8),
        (16, 8),
        (24, 8),
        (32, 8),
    ]
    swapping = Layout.in_a_row("row", geometry, 2 * K, 8 * K, mode=BootMode.SWAP, components=2)
    assert swapping.keys is None
    assert [part.size // K for pair in swapping.slots for part in pair] == [8, 9, 8, 9]


# --- several sector sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(BootMode))
def test_an_update_on_a_flash_of_several_sector_sizes(mode: BootMode) -> None:
    layout = on_mixed(mode)
    assert layout.slot_sector(0) == 128 * K
    rig = Rig(layout)
    new = sign("2.0.0", 1, payload=b"newer firmware" * 200)
    assert (rig.slots.sector, rig.slots.size) == (128 * K, (384 if mode is BootMode.REMAP else 256) * K)
    rig.install(0, OLD)
    rig.provision(0)
    rig.install(1, new)
    rig.control.set_marks({0: mark_of(new)})
    assert rig.boot().trial
    rig.control.confirm()
    outcome = rig.boot()
    assert [booted.slot for booted in outcome.images] == [1]
    assert rig.read(0, len(OLD)) == OLD
    rig.parts.areas.write(1, b"state" * 100)
    assert rig.parts.areas.read(1)[:500] == b"state" * 100


def test_an_area_of_sectors_of_several_sizes_is_replaced_whole() -> None:
    flash = Flash(MIXED)
    area = Partition(32 * K, 96 * K)
    areas = SimRecordAreas(flash, (Partition(0, 16 * K), area))
    assert areas.size == 16 * K
    areas.write(1, bytes(range(256)) * 300)
    assert areas.read(1) == (bytes(range(256)) * 300).ljust(96 * K, b"\xff")
    wear = [flash.wear(sector) for sector in range(5)]
    areas.write(1, b"short")
    assert areas.read(1) == b"short".ljust(96 * K, b"\xff")
    assert [flash.wear(sector) - before for sector, before in enumerate(wear)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"flags": (Partition(0, 16 * K), Partition(8 * K, 16 * K))}, "expected whole sectors"),
        ({"flags": (Partition(0, 8 * K), Partition(16 * K, 16 * K))}, "expected whole sectors"),
        ({"flags": (Partition(0, 0), Partition(16 * K, 16 * K))}, "expected whole sectors"),
        ({"flags": (Partition(-16 * K, 16 * K), Partition(16 * K, 16 * K))}, "expected whole sectors"),
        ({"state": (Partition(32 * K, 16 * K), Partition(1024 * K, 512))}, "expected whole sectors"),
        ({"state": (Partition(32 * K, 16 * K), Partition(512 * K, 128 * K))}, "expected an offset from .* on, behind"),
        ({"state": (Partition(0, 16 * K), Partition(16 * K, 16 * K))}, "expected an offset from .* on, behind"),
        ({"keys": (Partition(0, 16 * K), Partition(64 * K, 64 * K))}, "expected an offset from .* on, behind"),
        ({"slots": ((Partition(64 * K, 192 * K), Partition(256 * K, 256 * K)),)}, "expected sectors of one size"),
        ({"slots": ((Partition(64 * K, 64 * K), Partition(128 * K, 128 * K)),)}, "expected sectors of one size"),
        ({"slots": ()}, "1 to 4 components, got 0"),
        ({"slots": tuple((Partition(0, 16 * K),) * 2 for _ in range(MAX_COMPONENTS + 1))}, "components, got 5"),
    ],
)
def test_refuses_partitions_that_are_none(parts: dict[str, object], words: str) -> None:
    with pytest.raises(MisuseError, match=f"layout: .*{words}"):
        on_mixed(**parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("components", [2, 4])
def test_refuses_flag_areas_that_hold_no_record(components: int) -> None:
    """Otherwise the first mark would be refused by the flash, long after the board left the factory."""
    layout = tiny(components=components, sector=64)
    assert record_size(components) > 64
    with pytest.raises(MisuseError, match=f"boot flags: .*expected {record_size(components)} bytes, got 64"):
        FlagStore(Flash(layout.geometry), layout)


def test_flags_of_more_than_one_sector_are_kept() -> None:
    layout = tiny(components=4, sector=128)
    flags = Partition(0, 512), Partition(512, 512)
    geometry = Geometry.uniform(16 * 128 + layout.geometry.size, 128, 4, otp=256)
    moved = tuple((Partition(a.offset + 2048, a.size), Partition(b.offset + 2048, b.size)) for a, b in layout.slots)
    state = Partition(1024, 512), Partition(1536, 512)
    layout = replace(layout, geometry=geometry, flags=flags, state=state, slots=moved)
    rig = Rig(layout)
    rig.provision(0, 1, 0, 1)
    rig.store.write(rig.record.with_image(3, ImageFlags(confirmed=0)))
    assert [image.confirmed for image in Rig(layout, rig.flash).record.images] == [0, 1, 0, 0]


# --- views ------------------------------------------------------------------------------------------------------------


def test_slots_keep_to_themselves(rig: Rig) -> None:
    slots, size, unit = rig.slots, rig.slots.size, rig.slots.unit
    rig.install(0, b"\x01" * size)
    rig.install(1, b"\x02" * size)
    for act in (
        lambda: slots.read(0, size - 24, 25),
        lambda: slots.read(0, -1, 1),
        lambda: slots.read(0, 0, -1),
        lambda: slots.erase(0, size - slots.sector, 2 * slots.sector),
        lambda: slots.write(0, size, bytes(unit)),
        lambda: slots.read(2, 0, 1),
        lambda: slots.erase(-1, 0, slots.sector),
    ):
        with pytest.raises(MisuseError):
            act()
    assert rig.read(0, size) == b"\x01" * size
    assert rig.read(1, size) == b"\x02" * size


@pytest.mark.parametrize("mode", list(BootMode))
def test_components_have_slots_of_their_own(mode: BootMode) -> None:
    rig = Rig(tiny(mode, components=3, sector=512))
    for component in range(3):
        for slot in (0, 1):
            rig.install(slot, bytes([16 * component + slot]) * rig.slots.size, component)
    for component in range(3):
        for slot in (0, 1):
            assert rig.read(slot, rig.slots.size, component) == bytes([16 * component + slot]) * rig.slots.size


def test_the_smaller_slot_says_how_long_an_image_may_be() -> None:
    layout = on_mixed()
    assert SimSlots(Flash(MIXED), layout).size == 384 * K
    assert usable(on_mixed(BootMode.SWAP), 0) == 256 * K


def test_record_areas_are_replaced_whole() -> None:
    flash = Flash(board().layout.geometry)
    areas = SimRecordAreas(flash, board().layout.state)
    assert areas.is_blank()
    areas.write(1, b"long" * 3000)
    areas.write(1, b"short")
    assert areas.read(1) == b"short".ljust(64 * K, b"\xff")
    assert areas.read(0) == b"\xff" * 64 * K
    assert not areas.is_blank()
    areas.write(1, bytes(64 * K))
    assert areas.read(1) == bytes(64 * K)
    before = flash.operations
    with pytest.raises(FlashContractError):
        areas.write(1, bytes(64 * K + 1))
    assert flash.operations == before
    areas.write(1, b"")
    assert areas.is_blank()


@pytest.mark.parametrize(("length", "expected"), [(0, 0), (1, 8), (8, 8), (9, 16)])
@pytest.mark.parametrize("erased", [0x00, 0xFF])
def test_data_is_filled_up_to_whole_units_with_erased_bytes(length: int, expected: int, erased: int) -> None:
    data = b"\x5a" * length
    assert padded(data, Geometry.uniform(256, 256, 8, erased)) == data + bytes([erased]) * (expected - length)
