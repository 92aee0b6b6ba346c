"""The rules of the flash, one by one, and what a cut leaves of an operation."""

from __future__ import annotations

import pytest

from hillhold_bootsim.flash import Cut, CutAt, Flash, FlashContractError, Geometry, PowerLost
from hillhold_verifier.errors import MisuseError

GEOMETRY = Geometry.uniform(size=1024, sector=256, unit=8, otp=64)
SEEDS = range(12)


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


@pytest.mark.parametrize(
    "shape",
    [
        {"unit": 3},
        {"unit": 0},
        {"sector": 250},
        {"sector": 0},
        {"size": 1000},
        {"size": 0},
        {"size": 2**40},
        {"erased_value": 0xFE},
        {"otp": 3},
        {"otp": 2**20},
    ],
)
def test_refuses_a_geometry_that_is_none(shape: dict[str, int]) -> None:
    with pytest.raises(MisuseError, match="geometry"):
        Geometry.uniform(**({"size": 1024, "sector": 256, "unit": 8} | shape))


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


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("erased", [0xFF, 0x00])
def test_a_torn_program_leaves_a_prefix_and_a_damaged_unit(seed: int, erased: int) -> None:
    geometry = Geometry.uniform(size=1024, sector=256, unit=8, erased_value=erased)
    flash = Flash(geometry, power_cut=CutAt(0, Cut.TORN, seed))
    data = bytes(range(64))
    with pytest.raises(PowerLost):
        flash.program(0, data)
    flash.power_on()

    written = [not flash.is_blank(at, 8) for at in range(0, 64, 8)]
    count = written.index(False) if False in written else 8
    assert count >= 1
    assert written == [True] * count + [False] * (8 - count)
    found, kept = flash.read(0, 64), (count - 1) * 8
    assert found[:kept] == data[:kept]
    assert found[kept + 8 :] == bytes([erased]) * (64 - kept - 8)
    for got, wanted in zip(found[kept : kept + 8], data[kept : kept + 8], strict=True):
        assert (got ^ erased) & ~(wanted ^ erased) == 0, "a bit changed that should not have"
    with pytest.raises(FlashContractError):
        flash.program(kept, bytes(8))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_torn_erase_leaves_a_part_and_a_sector_to_erase_again(seed: int) -> None:
    flash = dirty()
    flash.power_cut = CutAt(flash.operations, Cut.TORN, seed)
    with pytest.raises(PowerLost):
        flash.erase(256, 512)
    flash.power_on()

    found = flash.read(256, 256)
    erased = found.count(b"\xff")
    assert found in (b"\xff" * erased + b"\x5a" * (256 - erased), b"\x5a" * (256 - erased) + b"\xff" * erased)
    assert flash.wear(1) == 1
    assert flash.wear(2) == 0, "the call went on without power"
    for at in range(256, 512, 8):
        with pytest.raises(FlashContractError):
            flash.program(at, bytes(8))
    flash.erase(256, 256)
    flash.program(256, bytes(256))
    assert flash.read(256, 256) == bytes(256)


def test_a_torn_operation_is_the_same_every_time_and_differs_between_seeds() -> None:
    def torn(seed: int) -> bytes:
        flash = dirty()
        flash.power_cut = CutAt(1, Cut.TORN, seed)
        with pytest.raises(PowerLost):
            flash.program(512, bytes(range(256)))
        flash.power_on()
        return flash.read(0, 1024)

    assert [torn(seed) for seed in SEEDS] == [torn(seed) for seed in SEEDS]
    assert len({torn(seed) for seed in SEEDS}) > len(SEEDS) // 2


def test_a_cut_has_a_name() -> None:
    assert str(CutAt(17, Cut.TORN, 3)) == "17-torn-3"
