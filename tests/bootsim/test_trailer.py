"""MCUboot's trailer lies where MCUboot and imgtool have it.

Names in comments are those of MCUboot's source: bootutil_misc.h, bootutil_area.c, bootutil_public.c, swap_offset.c.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from imgtool import image as imgtool_image
from imgtool.version import decode_version

from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import Partition
from hillhold_bootsim.trailer import FLAG_SET, STATES, SwapType, Trailer
from hillhold_verifier.errors import MisuseError

K = 1024


def trailer(unit: int, *, sectors: int = 16, sector: int = 4 * K, at: int = 0, erased: int = 0xFF) -> Trailer:
    size = at + sectors * sector
    return Trailer(Geometry.uniform(size, sector, unit, erased), Partition(at, sectors * sector), sectors)


@pytest.mark.parametrize("erased", [0xFF, 0x00])
@pytest.mark.parametrize("unit", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("confirm", [False, True])
def test_magic_and_image_ok_lie_where_imgtool_writes_them(
    tmp_path: Path, unit: int, erased: int, confirm: bool
) -> None:
    here = trailer(unit, erased=erased)
    (tmp_path / "in.bin").write_bytes(b"firmware" * 100)
    made = imgtool_image.Image(
        version=decode_version("1.0.0"),
        header_size=32,
        pad_header=True,
        pad=True,
        confirm=confirm,
        align=unit,
        slot_size=here.slot.size,
        erased_val=f"{erased:#x}",
    )
    with redirect_stdout(StringIO()):
        made.load(str(tmp_path / "in.bin"))
        made.create(None, "hash", None)
        made.save(str(tmp_path / "out.bin"))
    data = (tmp_path / "out.bin").read_bytes()
    assert len(data) == here.slot.size
    expected = bytearray([erased]) * here.size
    start = here.slot.end - here.size
    expected[-len(here.magic) :] = here.magic
    if confirm:
        expected[here.image_ok - start : here.image_ok - start + 1] = FLAG_SET
    assert data[start:] == expected


@pytest.mark.parametrize(
    ("unit", "align", "magic"),
    [
        # boot_img_magic, BOOT_MAX_ALIGN == 8
        (1, 8, "77c295f3 60d2ef7f 3552500f 2cb67980"),
        (8, 8, "77c295f3 60d2ef7f 3552500f 2cb67980"),
        # boot_img_magic otherwise: .align, little endian as on Cortex-M, then .magic
        (16, 16, "10002de1 5d29410b 8d77679c 110f1f8a"),
        (32, 32, "20002de1 5d29410b 8d77679c 110f1f8a"),
    ],
)
def test_the_magic_is_mcuboots(unit: int, align: int, magic: str) -> None:
    here = trailer(unit)
    assert (here.align, here.magic) == (align, bytes.fromhex(magic))


@pytest.mark.parametrize(
    ("unit", "offsets"),
    [
        # From the end of the slot: boot_magic_off aligned down, boot_image_ok_off, boot_copy_done_off, boot_swap_info_off,
        # boot_unprotected_tlv_sizes_off, boot_swap_size_off.
        (1, (16, 24, 32, 40, 48, 56)),
        (8, (16, 24, 32, 40, 48, 56)),
        (16, (16, 32, 48, 64, 80, 96)),
        (32, (32, 64, 96, 128, 160, 192)),
    ],
)
@pytest.mark.parametrize("at", [0, 64 * K])
def test_each_field_has_mcuboots_offset(unit: int, offsets: tuple[int, ...], at: int) -> None:
    here = trailer(unit, at=at)
    fields = (here.magic_at, here.image_ok, here.copy_done, here.swap_info, here.tlv_sizes, here.swap_size)
    assert tuple(here.slot.end - field for field in fields) == offsets
    assert here.status(STATES * here.sectors - 1) + unit <= here.swap_size, "the status ends before what follows"


@pytest.mark.parametrize(
    ("unit", "sectors", "size"),
    [
        # boot_trailer_sz = BOOT_MAX_IMG_SECTORS * BOOT_STATUS_STATE_COUNT * min_write_sz + BOOT_MAX_ALIGN * 4 + BOOT_MAX_ALIGN
        #                   + BOOT_MAGIC_ALIGN_SIZE
        (1, 128, 128 * 2 * 1 + 8 * 5 + 16),
        (4, 128, 128 * 2 * 4 + 8 * 5 + 16),
        (8, 128, 128 * 2 * 8 + 8 * 5 + 16),
        (16, 64, 64 * 2 * 16 + 16 * 5 + 16),
        (32, 16, 16 * 2 * 32 + 32 * 5 + 32),
    ],
)
def test_the_trailer_has_mcuboots_size_and_begins_with_the_status(unit: int, sectors: int, size: int) -> None:
    here = trailer(unit, sectors=sectors)
    assert here.size == size
    # boot_status_off, boot_status_internal_off: two units of min_write_sz for each sector
    assert [here.slot.end - here.status(number) for number in (0, 1, 2)] == [size, size - unit, size - 2 * unit]


@pytest.mark.parametrize(("sector", "reaches_into"), [(4096, 1), (2048, 1), (1024, 2), (512, 3)])
def test_images_end_before_the_first_sector_that_the_trailer_reaches_into(sector: int, reaches_into: int) -> None:
    here = trailer(32, sectors=16, sector=sector)
    assert here.size == 1216
    assert here.slot.end - here.first_sector == reaches_into * sector


def test_a_trailer_that_is_longer_than_all_before_it_begins_at_the_start_of_the_flash() -> None:
    """And never behind the flash, where it would leave room for everything."""
    here = Trailer(Geometry.uniform(256, 64, 32), Partition(0, 128), 2)
    assert here.size > here.slot.end
    assert here.first_sector == 0


@pytest.mark.parametrize("unit", [64, 128, 256])
def test_refuses_units_that_mcuboot_has_no_trailer_for(unit: int) -> None:
    with pytest.raises(MisuseError, match=f"program unit of {unit} bytes"):
        trailer(unit)


def test_swap_types_are_mcuboots() -> None:
    # BOOT_SWAP_TYPE_TEST, _PERM, _REVERT
    assert (SwapType.TEST, SwapType.PERM, SwapType.REVERT) == (2, 3, 4)
