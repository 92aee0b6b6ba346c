"""The rules of the flash, one by one, what a cut leaves of an operation, and a chip that is ill."""

from __future__ import annotations

import pytest

from hillhold_bootsim.flash import (
    MAX_WEAR,
    Cut,
    CutAt,
    Faults,
    Flash,
    FlashContractError,
    FlashFailedError,
    Operation,
    PowerLost,
    outcomes,
)
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.torn import Sector, torn_erase, torn_program, unstable_read
from hillhold_verifier.errors import MisuseError, OperationalError

GEOMETRY = Geometry.uniform(size=1024, sector=256, unit=8, otp=64)
MIXED = Geometry(((2, 64), (1, 128), (2, 32)), unit=8, otp=64)
"""Sectors at 0, 64, 128, 256 and 288; the one-way region at 320."""
SHAPES = [
    Geometry(((2, 64), (1, 128), (2, 32)), unit, erased, otp=64) for unit in (1, 4, 8, 16, 32) for erased in (0xFF, 0)
]


class Log:
    """Takes down what the flash does."""

    def __init__(self) -> None:
        self.seen: list[Operation] = []

    def decide(self, operation: Operation, /) -> None:
        self.seen.append(operation)


def dirty() -> Flash:
    """A flash whose sector 1 is full."""
    flash = Flash(GEOMETRY)
    flash.program(256, b"\x5a" * 256)
    return flash


def test_is_factory_new() -> None:
    flash = Flash(GEOMETRY)

    assert flash.read(0, 1024 + 64) == b"\xff" * 1088
    assert [flash.wear(sector) for sector in range(4)] == [0, 0, 0, 0]
    assert flash.operations == 0
    assert flash.is_blank(0, 1088)


def test_programs_whole_units() -> None:
    flash = Flash(GEOMETRY)
    flash.program(8, b"sixteen bytes!!!")

    assert flash.read(0, 32) == b"\xff" * 8 + b"sixteen bytes!!!" + b"\xff" * 8
    assert not flash.is_blank(8, 8)
    assert flash.is_blank(24, 8)


@pytest.mark.parametrize(("offset", "length"), [(4, 8), (0, 4), (0, 9), (1088, 8), (1080, 16), (-8, 8)])
def test_refuses_to_program_anything_else(offset: int, length: int) -> None:
    flash = Flash(GEOMETRY)
    with pytest.raises(FlashContractError):
        flash.program(offset, bytes(length))
    assert flash.read(0, 1088) == b"\xff" * 1088
    assert flash.operations == 0


@pytest.mark.parametrize("again", [b"\0" * 8, b"12345678", b"\xff" * 8])
@pytest.mark.parametrize("first", [b"12345678", b"\xff" * 8])
def test_never_programs_a_unit_twice(first: bytes, again: bytes) -> None:
    flash = Flash(GEOMETRY)
    flash.program(8, first)
    with pytest.raises(FlashContractError, match="0x8: the unit was not erased"):
        flash.program(0, bytes(8) + again)
    assert flash.read(0, 16) == b"\xff" * 8 + first

    flash.erase(0, 256)
    flash.program(0, bytes(8) + again)
    assert flash.read(0, 16) == bytes(8) + again


def test_erases_whole_sectors_and_counts_their_wear() -> None:
    flash = dirty()
    flash.program(512, bytes(8))
    flash.erase(256, 512)
    flash.erase(256, 256)

    assert flash.read(0, 1024) == b"\xff" * 1024
    assert [flash.wear(sector) for sector in range(4)] == [0, 2, 1, 0]
    assert flash.operations == 2 + 2 + 1


@pytest.mark.parametrize(
    ("offset", "length"), [(128, 256), (256, 100), (1024, 256), (768, 512), (-256, 256), (0, -256)]
)
def test_refuses_to_erase_anything_else(offset: int, length: int) -> None:
    flash = dirty()
    with pytest.raises(FlashContractError):
        flash.erase(offset, length)
    assert flash.read(256, 256) == b"\x5a" * 256
    assert flash.operations == 1


@pytest.mark.parametrize(("offset", "length"), [(1088, 1), (-1, 2), (0, -1), (0, 1089)])
def test_refuses_to_read_outside(offset: int, length: int) -> None:
    with pytest.raises(FlashContractError):
        Flash(GEOMETRY).read(offset, length)


def test_the_one_way_region_is_never_erased() -> None:
    flash = Flash(GEOMETRY)
    flash.program(1024, b"for ever")
    with pytest.raises(FlashContractError):
        flash.erase(1024, 64)
    with pytest.raises(FlashContractError):
        flash.program(1024, b"for ever")
    assert flash.read(1024, 8) == b"for ever"


def test_nothing_to_write_is_no_operation() -> None:
    flash = Flash(GEOMETRY)
    flash.program(0, b"")
    flash.erase(0, 0)
    assert flash.operations == 0


def test_works_on_flash_that_erases_to_zero() -> None:
    flash = Flash(Geometry.uniform(size=512, sector=256, unit=4, erased_value=0))
    flash.program(0, b"\xa5" * 4)
    flash.erase(0, 256)
    assert flash.read(0, 512) == bytes(512)


# --- sectors of several sizes -----------------------------------------------------------------------------------------


def test_a_program_over_several_sectors_is_one_operation_in_each() -> None:
    log = Log()
    flash = Flash(MIXED, power_cut=log)
    data = bytes(range(1, 193))
    flash.program(56, data)
    assert flash.read(56, 192) == data
    assert flash.read(0, 56) + flash.read(248, 136) == b"\xff" * 192
    assert log.seen == [
        Operation(0, "program", 56, 8, 0, data[:8]),
        Operation(1, "program", 64, 64, 1, data[8:72]),
        Operation(2, "program", 128, 120, 2, data[72:]),
    ]


def test_a_program_over_the_edge_of_main_flash_goes_on_in_the_one_way_region() -> None:
    flash = Flash(MIXED)
    flash.program(312, bytes(range(16)))
    assert flash.read(312, 16) == bytes(range(16))
    assert flash.operations == 2


def test_an_erase_takes_each_sector_in_order() -> None:
    log = Log()
    flash = Flash(MIXED, power_cut=log)
    flash.program(0, bytes(384))
    log.seen.clear()
    flash.erase(64, 224)
    assert [(each.kind, each.offset, each.length, each.sector) for each in log.seen] == [
        ("erase", 64, 64, 1),
        ("erase", 128, 128, 2),
        ("erase", 256, 32, 3),
    ]
    assert flash.read(0, 384) == bytes(64) + b"\xff" * 224 + bytes(96)
    assert [flash.wear(sector) for sector in range(5)] == [0, 1, 1, 1, 0]
    with pytest.raises(FlashContractError, match="sector 5 of 5"):
        flash.wear(5)


@pytest.mark.parametrize(("offset", "length"), [(0, 96), (64, 64 + 64), (128, 64), (192, 64), (288, 96), (320, 64)])
def test_refuses_to_erase_a_part_of_a_larger_sector(offset: int, length: int) -> None:
    flash = Flash(MIXED)
    flash.program(0, bytes(384))
    before = flash.state()
    with pytest.raises(FlashContractError, match="not whole sectors"):
        flash.erase(offset, length)
    assert (flash.state(), flash.operations) == (before, 6)


def test_a_broken_rule_in_a_later_sector_changes_nothing_in_an_earlier_one() -> None:
    flash = Flash(MIXED)
    flash.program(128, bytes(8))
    before = flash.state()
    with pytest.raises(FlashContractError, match="program at 0x80"):
        flash.program(0, bytes(192))
    assert (flash.state(), flash.operations) == (before, 1)


@pytest.mark.parametrize("geometry", SHAPES, ids=lambda g: f"{g.unit}-{g.erased_value:02x}")
def test_every_shape_keeps_what_was_written_and_only_that(geometry: Geometry) -> None:
    flash, unit, blank = Flash(geometry), geometry.unit, bytes([geometry.erased_value])
    data = bytes(0x5A ^ at for at in range(160))
    flash.program(32, data)
    assert flash.read(0, 384) == blank * 32 + data + blank * 192
    for at in range(0, 384, unit):
        assert flash.is_blank(at, unit) == (not 32 <= at < 192)
    assert not flash.is_blank(0, 64)
    flash.erase(64, 64)
    assert flash.read(0, 384) == blank * 32 + data[:32] + blank * 64 + data[96:] + blank * 192
    assert flash.is_blank(64, 64)


# --- state ------------------------------------------------------------------------------------------------------------


def test_a_state_is_all_that_it_holds_and_can_be_held_again() -> None:
    flash = dirty()
    state = flash.state()
    assert hash(state) == hash(dirty().state())
    flash.erase(256, 256)
    flash.program(1024, bytes(8))
    assert flash.state() != state
    flash.load(state)
    assert flash.state() == state
    assert flash.read(256, 256) == b"\x5a" * 256
    assert flash.is_blank(1024, 64)
    assert (flash.operations, flash.wear(1)) == (3, 1), "the count of operations and wear go on"


def test_equal_content_that_is_programmed_is_another_state() -> None:
    flash = Flash(GEOMETRY)
    blank = flash.state()
    flash.program(0, b"\xff" * 8)
    assert flash.state() != blank


def test_refuses_a_state_of_another_geometry() -> None:
    for other in (Geometry.uniform(1024, 256, 8), Geometry.uniform(1024, 512, 8, otp=64), MIXED):
        flash = dirty()
        before = flash.state()
        with pytest.raises(MisuseError, match="geometry"):
            flash.load(Flash(other).state())
        assert flash.state() == before


# --- power ---------------------------------------------------------------------------------------------------------------


def test_without_power_every_access_fails_until_there_is_power() -> None:
    flash = dirty()
    flash.power_off()
    for access in (
        lambda: flash.read(0, 1),
        lambda: flash.erase(0, 256),
        lambda: flash.program(0, bytes(8)),
        lambda: flash.is_blank(0, 8),
    ):
        with pytest.raises(PowerLost):
            access()
    flash.power_on()
    assert flash.read(256, 256) == b"\x5a" * 256
    assert flash.operations == 1


def test_firmware_that_catches_everything_does_not_catch_loss_of_power() -> None:
    flash = Flash(GEOMETRY, power_cut=CutAt(0, Cut.BEFORE))

    def firmware() -> str:
        try:
            flash.erase(0, 256)
        except Exception:
            return "went on"
        return "done"

    with pytest.raises(PowerLost):
        firmware()
    assert not flash.powered


@pytest.mark.parametrize(("where", "expected"), [(Cut.BEFORE, b"\xff" * 16), (Cut.AFTER, bytes(16))])
def test_a_cut_on_the_edge_of_a_program(where: Cut, expected: bytes) -> None:
    flash = Flash(GEOMETRY, power_cut=CutAt(0, where))
    with pytest.raises(PowerLost, match=f"power cut {where.value} operation 0"):
        flash.program(0, bytes(16))
    flash.power_on()
    assert flash.read(0, 16) == expected
    assert flash.is_blank(0, 16) == (where is Cut.BEFORE)
    assert flash.operations == 1


@pytest.mark.parametrize("geometry", SHAPES, ids=lambda g: f"{g.unit}-{g.erased_value:02x}")
def test_a_torn_program_leaves_one_of_the_outcomes_each_under_its_variant(geometry: Geometry) -> None:
    data = bytes(0x5A ^ at for at in range(32))
    named = torn_program(geometry, Flash(geometry).state()[2], 64, data)
    for variant in range(2 * len(named)):
        flash = Flash(geometry, power_cut=CutAt(0, Cut.TORN, variant))
        with pytest.raises(PowerLost, match="power cut torn operation 0"):
            flash.program(192, data)
        assert flash.state()[2] == named[variant % len(named)][1], "behind the last it begins again"
        flash.power_on()
        with pytest.raises(FlashContractError):
            flash.program(192, data)


@pytest.mark.parametrize("geometry", SHAPES, ids=lambda g: f"{g.unit}-{g.erased_value:02x}")
def test_a_torn_erase_leaves_one_of_the_outcomes_and_a_sector_to_erase_again(geometry: Geometry) -> None:
    full = Flash(geometry)
    full.program(0, bytes(0x5A ^ at & 0xFF for at in range(384)))
    named = torn_erase(geometry, full.state()[2])
    for variant in range(len(named)):
        flash = Flash(geometry)
        flash.load(full.state())
        flash.power_cut = CutAt(1, Cut.TORN, variant)
        with pytest.raises(PowerLost):
            flash.erase(64, 64 + 128 + 32)
        sectors = flash.state()
        assert sectors[2] == named[variant][1]
        assert sectors[1] != full.state()[1]
        assert sectors[3:] == full.state()[3:], "the call went on without power"
        assert [flash.wear(sector) for sector in range(5)] == [0, 1, 1, 0, 0]
        flash.power_on()
        for at in range(128, 256, geometry.unit):
            with pytest.raises(FlashContractError):
                flash.program(at, bytes(geometry.unit))
        flash.erase(128, 128)
        assert not flash.unstable
        flash.program(128, bytes(128))
        assert flash.read(128, 128) == bytes(128)


def test_the_outcomes_of_an_operation_are_those_of_its_kind_at_its_place() -> None:
    log = Log()
    flash = Flash(MIXED, power_cut=log)
    before = flash.state()
    flash.program(64, bytes(16))
    between = flash.state()
    flash.erase(64, 64)
    program, erase = log.seen
    assert outcomes(MIXED, before[1], program) == torn_program(MIXED, before[1], 0, bytes(16))
    assert outcomes(MIXED, between[1], erase) == torn_erase(MIXED, between[1])


def test_a_cut_in_the_second_sector_of_a_program_leaves_the_first_and_not_the_third() -> None:
    flash = Flash(MIXED, power_cut=CutAt(1, Cut.BEFORE))
    with pytest.raises(PowerLost):
        flash.program(0, bytes(256))
    flash.power_on()
    assert flash.read(0, 256) == bytes(64) + b"\xff" * 192
    assert flash.operations == 2


# --- unstable ---------------------------------------------------------------------------------------------------------


def unstable() -> Flash:
    """A flash whose sector 1 reads unstably, switched on."""
    flash = Flash(GEOMETRY)
    flash.program(256, bytes(range(256)))
    names = [name for name, _ in torn_erase(GEOMETRY, flash.state()[1])]
    flash.power_cut = CutAt(flash.operations, Cut.TORN, names.index("unstable"))
    with pytest.raises(PowerLost):
        flash.erase(256, 256)
    flash.power_cut = None
    flash.power_on()
    return flash


def test_an_unstable_sector_reads_differently_and_the_same_after_each_power_on() -> None:
    flash = unstable()
    sector = flash.state()[1]
    assert flash.unstable
    reads = [flash.read(256, 256) for _ in range(5)]
    assert reads == [unstable_read(GEOMETRY, sector, number) for number in range(5)]
    assert len(set(reads)) == 4
    flash.power_off()
    flash.power_on()
    assert [flash.read(256, 256) for _ in range(5)] == reads
    assert flash.state()[1] == sector, "reading changes nothing"


def test_reads_of_other_sectors_neither_waver_nor_count() -> None:
    flash = unstable()
    first = flash.read(256, 256)
    for _ in range(3):
        assert flash.read(0, 256) == flash.read(512, 576)[:256] == b"\xff" * 256
    second = flash.read(250, 300)
    assert second == b"\xff" * 300 != first, "it is erased at the second read, and its neighbours are read with it"
    assert flash.read(384, 8) == bytes(range(128, 136)), "a half of it at the third"


def test_an_unstable_sector_is_not_blank_and_ends_with_an_erase() -> None:
    flash = unstable()
    assert not any(flash.is_blank(at, 8) for at in range(256, 512, 8))
    with pytest.raises(FlashContractError):
        flash.program(256, bytes(8))
    flash.erase(256, 256)
    assert not flash.unstable
    assert flash.is_blank(256, 256)
    assert {flash.read(256, 256) for _ in range(5)} == {b"\xff" * 256}


# --- an ill chip ------------------------------------------------------------------------------------------------------


def test_a_bad_sector_fails_and_stays_as_it_was_and_those_before_it_are_done() -> None:
    flash = Flash(MIXED)
    flash.program(0, bytes(320))
    flash.faults = Faults(bad_sectors=frozenset({2}))
    before = flash.state()
    with pytest.raises(FlashFailedError, match="erase at 0x80 failed: sector 2 is bad") as caught:
        flash.erase(64, 224)
    assert isinstance(caught.value, OperationalError)
    assert flash.powered
    assert flash.state()[2:] == before[2:]
    assert flash.read(0, 128) == bytes(64) + b"\xff" * 64
    assert [flash.wear(sector) for sector in range(5)] == [0, 1, 0, 0, 0]
    assert flash.operations == 5 + 2, "what failed was an operation"

    flash.faults = Faults()
    flash.erase(64, 224)
    flash.faults = Faults(bad_sectors=frozenset({2}))
    with pytest.raises(FlashFailedError, match="program at 0x80 failed"):
        flash.program(120, bytes(136))
    assert flash.read(120, 136) == bytes(8) + b"\xff" * 128
    assert flash.is_blank(128, 128)


def test_the_power_can_go_at_a_bad_sector_before_it_fails() -> None:
    flash = Flash(MIXED, power_cut=CutAt(0, Cut.BEFORE))
    flash.faults = Faults(bad_sectors=frozenset({0}))
    with pytest.raises(PowerLost):
        flash.erase(0, 64)


def test_flipped_bits_read_wrong_and_nothing_else_does() -> None:
    flash = dirty()
    before = flash.state()
    flash.faults = Faults(flips={256: 0x01, 511: 0x81, 1024: 0xFF})
    assert flash.read(256, 256) == b"\x5b" + b"\x5a" * 254 + b"\xdb"
    assert flash.read(257, 254) == b"\x5a" * 254
    assert (
        flash.read(0, 1088) == b"\xff" * 256 + b"\x5b" + b"\x5a" * 254 + b"\xdb" + b"\xff" * 512 + b"\0" + b"\xff" * 63
    )
    assert flash.state() == before
    assert flash.is_blank(1024, 64), "a blank check is not a read"
    flash.faults = Faults()
    assert flash.read(256, 256) == b"\x5a" * 256


def test_a_flipped_bit_stays_flipped_over_an_erase() -> None:
    flash = dirty()
    flash.faults = Faults(flips={256: 0x10})
    flash.erase(256, 256)
    assert flash.read(256, 2) == b"\xef\xff"
    flash.program(256, bytes(8))
    assert flash.read(256, 2) == b"\x10\0"


def test_wear_stays_at_its_end() -> None:
    class Worn:
        def load(self) -> tuple[list[Sector], list[int]]:
            return list(Flash(GEOMETRY).state()), [MAX_WEAR - 1] * 4

        def keep(self, index: int, old: Sector, new: Sector, wear: int) -> None:
            assert wear <= MAX_WEAR

    flash = Flash(GEOMETRY, Worn())
    for _ in range(3):
        flash.erase(0, 256)
    assert [flash.wear(sector) for sector in range(4)] == [MAX_WEAR, *[MAX_WEAR - 1] * 3]
    with pytest.raises(MisuseError, match="not over a file"):
        flash.load(Flash(GEOMETRY).state())


def test_a_cut_has_a_name() -> None:
    assert str(CutAt(17, Cut.TORN, 3)) == "17-torn-3"
    assert [str(CutAt(5, where, 9)) for where in (Cut.BEFORE, Cut.AFTER)] == ["5-before", "5-after"]
