"""Two images change places, as MCUboot's "swap using offset" has it: what lies where, and what the trailer holds after each phase."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from hillhold_bootsim.bootflags import ImageFlags
from hillhold_bootsim.bootloader import ResetReason
from hillhold_bootsim.flash import Operation
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout, Partition
from hillhold_bootsim.swap import trailers, usable
from hillhold_bootsim.trailer import SwapType, Trailer
from hillhold_verifier.errors import MisuseError
from hillhold_verifier.slots import BootFlags
from swaplab import at, board, every_shape, is_whole, primary, secondary, try_other
from tinyboard import NEW, OLD, SWAP, Rig, mark_of, sign, tiny

THIRD: Final = sign("3.0.0", 1, payload=b"another one" * 20)


# --- where images lie -------------------------------------------------------------------------------------------------


@every_shape
def test_an_image_to_try_lies_one_sector_behind_the_start_of_the_secondary_slot(layout: Layout) -> None:
    rig = board(layout)
    assert primary(rig, len(OLD)) == OLD
    assert secondary(rig, len(NEW), 1) == NEW
    assert rig.flash.is_blank(rig.layout.slots[0][1].offset, rig.slots.sector)


@every_shape
def test_forward_and_back_and_forward_again(layout: Layout) -> None:
    rig = board(layout)
    for _ in range(2):
        assert try_other(rig, NEW).trial
        assert primary(rig, len(NEW)) == NEW
        assert secondary(rig, len(OLD)) == OLD, "at the very start"
        assert is_whole(rig)
        assert rig.image == replace(ImageFlags(confirmed=0, mark=mark_of(NEW)), primary=1, wanted=1, shifted=False)

        outcome = rig.boot(ResetReason.WATCHDOG)
        assert (outcome.booted.slot if outcome.booted else None, outcome.trial) == (0, False)
        assert primary(rig, len(OLD)) == OLD
        assert secondary(rig, len(NEW), 1) == NEW
        assert rig.flash.is_blank(rig.layout.slots[0][1].offset, rig.slots.sector), "no image is found there"
        assert is_whole(rig)
        assert rig.record == rig.at_rest(0, failed=mark_of(NEW).sha256)
        assert rig.image.shifted
        rig.control.acknowledge_failure()


@every_shape
def test_on_and_on_with_new_images_in_turn(layout: Layout) -> None:
    rig, running, other = board(layout), OLD, NEW
    for round_, following in enumerate((THIRD, OLD, NEW, THIRD)):
        assert try_other(rig, other).trial
        rig.control.confirm()
        assert not rig.boot().trial
        assert primary(rig, len(other)) == other
        slot = (rig.image.confirmed or 0) ^ 1
        assert slot == round_ % 2
        assert rig.read(slot, len(running)) == running, "the way back, until something else is written"
        rig.install(slot, following)
        assert rig.read(slot, len(following)) == following
        assert secondary(rig, len(following), 1) == following
        running, other = other, following


def test_the_old_image_is_tried_again_from_where_the_swap_left_it() -> None:
    """A step down to what ran before, without writing it again: it lies at the start of the secondary slot, and comes back from there."""
    rig = board()
    try_other(rig, NEW)
    rig.control.confirm()
    rig.boot()
    assert try_other(rig, OLD).trial
    assert primary(rig, len(OLD)) == OLD
    assert secondary(rig, len(NEW), 1) == NEW
    rig.boot(ResetReason.SELF_TEST)
    assert primary(rig, len(NEW)) == NEW
    assert secondary(rig, len(OLD)) == OLD
    assert is_whole(rig)


SIZES: Final = {"short": 193, "sector": 256, "longer": 618, "full": 1280}
AROUND: Final = 188
"""Bytes of an image besides its firmware."""


@pytest.mark.parametrize("new", SIZES)
@pytest.mark.parametrize("old", SIZES)
def test_images_of_any_lengths_change_places(old: str, new: str) -> None:
    first, second = (
        sign(f"{n}.0.0", 1, payload=bytes([n]) * (SIZES[name] - AROUND)) for n, name in ((1, old), (2, new))
    )
    assert (len(first), len(second)) == (SIZES[old], SIZES[new])
    rig = board(SWAP, first, second)
    assert rig.slots.size == SIZES["full"]
    assert try_other(rig, second).trial
    assert primary(rig, len(second)) == second
    assert is_whole(rig, first, second)
    rig.boot(ResetReason.SELF_TEST)
    assert primary(rig, len(first)) == first
    assert is_whole(rig, first, second)


def test_no_more_sectors_are_moved_than_the_longer_image_has() -> None:
    rig = board()
    sectors = -(-len(NEW) // 256)
    assert 1 == -(-len(OLD) // 256) < sectors < rig.slots.size // 256
    wear = [rig.flash.wear(sector) for sector in range(rig.flash.geometry.sectors)]
    try_other(rig, NEW)
    first, second = (rig.flash.geometry.sector_at(part.offset) for part in rig.layout.slots[0])
    worn = [rig.flash.wear(sector) - wear[sector] for sector in range(rig.flash.geometry.sectors)]
    assert worn[first : first + 6] == [1] * sectors + [0] * (6 - sectors), "the trailer was blank"
    assert worn[second : second + 7] == [1] * sectors + [0] * (7 - sectors)


@pytest.mark.parametrize(("more", "sectors"), [(0, 4), (1, 5), (2, 5)])
def test_a_secondary_slot_of_equal_size_has_room_for_a_sector_less(more: int, sectors: int) -> None:
    """MCUboot takes the same, or one sector more; what is beyond is of no use."""
    geometry = Geometry.uniform((4 + 12 + more) * 256, 256, 8, otp=64)
    row = [Partition(number * 256, 256) for number in range(4)]
    pair = Partition(1024, 1536), Partition(2560, 1536 + more * 256)
    layout = Layout("pair", geometry, (row[0], row[1]), (row[2], row[3]), (pair,), BootMode.SWAP)
    assert usable(layout, 0) == sectors * 256
    full = [sign(f"{n}.0.0", 1, payload=bytes([n]) * (sectors * 256 - AROUND)) for n in (1, 2)]
    rig = board(layout, *full)
    assert try_other(rig, full[1]).trial
    assert is_whole(rig, *full)
    rig.boot(ResetReason.WATCHDOG)
    assert primary(rig, len(full[0])) == full[0]
    assert is_whole(rig, *full)
    for slot in (0, 1):
        with pytest.raises(MisuseError):
            rig.slots.write(slot, rig.slots.size, bytes(8))
        with pytest.raises(MisuseError):
            rig.slots.erase(slot, 0, rig.slots.size + 256)


@pytest.mark.parametrize(("sectors", "unit"), [(0, 8), (1, 32)])
def test_refuses_slots_without_room_for_an_image(sectors: int, unit: int) -> None:
    layout = tiny(BootMode.SWAP, unit, sectors=sectors)
    with pytest.raises(MisuseError, match="no room for an image beside their trailers"):
        Rig(layout)


def test_writing_into_the_other_slot_gives_up_what_lay_there_and_nothing_of_the_running_image() -> None:
    rig = board()
    try_other(rig, NEW)
    rig.control.confirm()
    rig.boot()
    assert secondary(rig, len(OLD)) == OLD
    before = primary(rig, rig.slots.size)
    rig.slots.erase(0, 0, 256)
    assert Rig(rig.layout, rig.flash).image.shifted, "that the slot begins a sector later is stored"
    assert rig.flash.is_blank(rig.layout.slots[0][1].offset + 256, 256)
    rig.slots.erase(0, 256, rig.slots.size - 256)
    assert primary(rig, rig.slots.size) == before
    assert rig.boot().booted is not None


@pytest.mark.parametrize("slot", [-1, 2])
def test_there_are_two_slots(slot: int) -> None:
    rig = board()
    with pytest.raises(MisuseError, match="there are two"):
        rig.slots.read(slot, 0, 1)


# --- what is not swapped ----------------------------------------------------------------------------------------------


def test_nothing_is_moved_for_an_image_that_is_refused() -> None:
    foreign = sign("2.0.0", 1, key="foreign")
    rig = board(SWAP, OLD, foreign)
    slots = rig.snapshot()[4:]
    outcome = try_other(rig, foreign)
    assert (outcome.booted.slot if outcome.booted else None, outcome.trial) == (0, False)
    assert rig.snapshot()[4:] == slots
    assert rig.record == rig.at_rest(0)


def test_nothing_is_moved_for_a_mark_that_was_cleared_in_time() -> None:
    rig = board()
    rig.control.set_marks({0: mark_of(NEW)})
    rig.control.clear_marks()
    slots = rig.snapshot()[4:]
    assert not rig.boot().trial
    assert rig.snapshot()[4:] == slots


def test_a_trial_whose_bytes_changed_where_it_runs_goes_back() -> None:
    rig = board()
    try_other(rig, NEW)
    rig.flash.erase(rig.layout.slots[0][0].offset, 256)
    outcome = rig.boot()
    assert "content of the marked slot" in outcome.events[0]
    assert primary(rig, len(OLD)) == OLD
    assert rig.record == rig.at_rest(0)


# --- permanent --------------------------------------------------------------------------------------------------------


@every_shape
def test_a_permanent_mark_is_confirmed_as_soon_as_it_boots(layout: Layout) -> None:
    rig = board(layout)
    rig.control.set_permanent_marks({0: mark_of(NEW)})
    outcome = rig.boot(ResetReason.SOFT)
    assert outcome.booted
    assert (outcome.booted.slot, outcome.trial) == (1, False)
    assert rig.control.flags() == BootFlags(running=1, confirmed=1)
    assert rig.record == rig.at_rest(1)
    assert is_whole(rig)
    assert at(rig, trailers(layout, 0)[0].swap_info) == bytes([SwapType.PERM])
    before = rig.snapshot()
    rig.boot(ResetReason.WATCHDOG)
    assert rig.snapshot() == before, "there is no trial that could fail"


def test_a_permanent_mark_of_an_image_that_is_refused_changes_nothing() -> None:
    foreign = sign("2.0.0", 1, key="foreign")
    rig = board(SWAP, OLD, foreign)
    rig.control.set_permanent_marks({0: mark_of(foreign)})
    rig.boot()
    assert rig.record == rig.at_rest(0)
    assert primary(rig, len(OLD)) == OLD


# --- the trailer ------------------------------------------------------------------------------------------------------


def fields(rig: Rig, trailer: Trailer) -> tuple[bytes | None, ...]:
    """Magic, swap info, swap size, TLV sizes, copy done, image ok; None where nothing was written."""
    unit = rig.flash.geometry.unit
    places = (
        (trailer.magic_at, -(-16 // trailer.align) * trailer.align),
        (trailer.swap_info, 1),
        (trailer.swap_size, 4),
        (trailer.tlv_sizes, 4),
        (trailer.copy_done, 1),
        (trailer.image_ok, 1),
    )
    return tuple(
        None if rig.flash.is_blank(offset, unit) else rig.flash.read(offset, length) for offset, length in places
    )


def statuses(rig: Rig, trailer: Trailer) -> list[int | None]:
    unit = rig.flash.geometry.unit
    offsets = [trailer.status(number) for number in range(2 * trailer.sectors)]
    return [None if rig.flash.is_blank(offset, unit) else rig.flash.read(offset, 1)[0] for offset in offsets]


@every_shape
def test_what_the_trailer_holds_after_each_phase(layout: Layout) -> None:
    rig = board(layout)
    first, second = trailers(layout, 0)
    nothing = (None,) * 6
    assert fields(rig, first) == fields(rig, second) == nothing
    rig.boot()
    assert fields(rig, first) == nothing, "an image that never came by a swap needs no image ok"

    def expected(kind: SwapType, in_primary: bytes, other: bytes, *flags: bytes | None) -> tuple[bytes | None, ...]:
        magic = first.magic.rjust(-(-16 // first.align) * first.align, bytes([layout.geometry.erased_value]))
        # boot_write_unprotected_tlv_sizes: the primary's in the lower half. Hash, key hash and signature are the unprotected ones.
        tlvs = b"".join((4 + 36 + 36 + 68).to_bytes(2, "little") for _ in (in_primary, other))
        return (magic, bytes([kind]), max(len(OLD), len(NEW)).to_bytes(4, "little"), tlvs, *flags)

    count = -(-len(NEW) // rig.slots.sector)
    moved = [1, 2] * count + [None] * (2 * first.sectors - 2 * count)
    try_other(rig, NEW)
    assert fields(rig, first) == expected(SwapType.TEST, OLD, NEW, b"\1", None), "on trial: copy done, and not ok"
    assert statuses(rig, first) == moved
    assert fields(rig, second) == nothing

    rig.boot(ResetReason.WATCHDOG)
    assert fields(rig, first) == expected(SwapType.REVERT, NEW, OLD, b"\1", b"\1"), (
        "what came back is the confirmed one"
    )
    assert statuses(rig, first) == moved
    assert fields(rig, second) == nothing

    try_other(rig, NEW)
    rig.control.confirm()
    assert fields(rig, first)[5] is None
    rig.boot()
    assert fields(rig, first) == expected(SwapType.TEST, OLD, NEW, b"\1", b"\1")
    before = rig.snapshot()
    rig.boot()
    assert rig.snapshot() == before


def test_a_trailer_that_is_there_decides_nothing() -> None:
    """Whoever writes a slot could write what MCUboot takes for a mark, or for a confirmation; here the record alone counts."""
    rig = board()
    for trailer in trailers(rig.layout, 0):
        magic = trailer.magic.rjust(trailer.slot.end - trailer.magic_at, b"\xff")
        rig.flash.program(trailer.magic_at, magic)
        rig.flash.program(trailer.image_ok, b"\1\xff\xff\xff")
        for number in range(3):
            rig.flash.program(trailer.status(number), b"\1\xff\xff\xff")
    before = rig.snapshot()
    outcome = rig.boot()
    assert (outcome.booted.slot if outcome.booted else None, outcome.trial) == (0, False)
    assert rig.snapshot() == before
    assert try_other(rig, NEW).trial, "and a status of another exchange does not count as one of this"
    assert primary(rig, len(NEW)) == NEW
    assert is_whole(rig)


class _Kinds:
    def __init__(self) -> None:
        self.seen: list[Operation] = []

    def decide(self, operation: Operation, /) -> None:
        self.seen.append(operation)


def test_the_operations_of_an_exchange_are_mcuboots() -> None:
    """boot_swap_sectors: erase, copy, status; forward from the first sector, back from the last."""
    rig = board()
    log = _Kinds()
    rig.control.set_marks({0: mark_of(NEW)})
    rig.flash.power_cut = log
    rig.boot()
    trailer = trailers(rig.layout, 0)[0]
    one, two = (rig.flash.geometry.sector_at(part.offset) for part in rig.layout.slots[0])
    names = {
        **{one + number: f"P{number}" for number in range(5)},
        **{two + number: f"S{number}" for number in range(6)},
    }

    def moves() -> list[str]:
        found = [f"{each.kind} {names[each.sector]}" for each in log.seen if each.sector in names]
        log.seen.clear()
        return found

    assert len(NEW) <= 3 * 256
    forward = [(f"S{number}", f"P{number}") for number in range(3)]
    assert moves() == [f"{kind} {name}" for pair in forward for name in pair for kind in ("erase", "program")]
    assert trailer.status(0) < trailer.swap_size
    rig.boot(ResetReason.WATCHDOG)
    back = [(f"S{number + 1}", f"P{number}") for number in (2, 1, 0)]
    expected = [f"{kind} {name}" for pair in back for name in pair for kind in ("erase", "program")]
    assert moves() == [*expected, "erase S0"]
