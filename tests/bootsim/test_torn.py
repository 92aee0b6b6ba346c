"""The finite set of what a torn operation leaves, outcome by outcome."""

from __future__ import annotations

from itertools import product

import pytest

from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.torn import (
    Sector,
    blank_sector,
    programmed_sector,
    torn_erase,
    torn_program,
    unstable_read,
)

SHAPES = [(unit, erased) for unit in (1, 2, 4, 8, 16, 32) for erased in (0xFF, 0x00)]


def shape(unit: int, erased: int = 0xFF) -> Geometry:
    return Geometry.uniform(512, 256, unit, erased, otp=64)


def mixed_bytes(length: int) -> bytes:
    """Bytes of which each differs in several bits from an erased one, whatever that is."""
    return (bytes.fromhex("5a3ca59966c30f") * length)[:length]


# --- program ----------------------------------------------------------------------------------------------------------


def test_each_outcome_of_a_torn_program_by_name() -> None:
    """Four units of four bytes, in the middle of a sector."""
    geometry = shape(4)
    data = bytes.fromhex("12345678 00000000 9abcdef0 01020304")
    found = {
        name: (sector.content[16:32].hex(" ", 4), sector.programmed[4:8].hex())
        for name, sector in torn_program(geometry, blank_sector(geometry, 0), 16, data)
    }
    assert found == {
        "0-units-blank": ("ffffffff ffffffff ffffffff ffffffff", "01000000"),
        "0-units-prefix-1": ("12ffffff ffffffff ffffffff ffffffff", "01000000"),
        "0-units-prefix-2": ("1234ffff ffffffff ffffffff ffffffff", "01000000"),
        "0-units-prefix-3": ("123456ff ffffffff ffffffff ffffffff", "01000000"),
        "0-units-one-bit": ("7fffffff ffffffff ffffffff ffffffff", "01000000"),
        "0-units-all-but-one-bit": ("12345679 ffffffff ffffffff ffffffff", "01000000"),
        "1-units-blank": ("12345678 ffffffff ffffffff ffffffff", "01010000"),
        "1-units-prefix-1": ("12345678 00ffffff ffffffff ffffffff", "01010000"),
        "1-units-prefix-2": ("12345678 0000ffff ffffffff ffffffff", "01010000"),
        "1-units-prefix-3": ("12345678 000000ff ffffffff ffffffff", "01010000"),
        "1-units-one-bit": ("12345678 7fffffff ffffffff ffffffff", "01010000"),
        "1-units-all-but-one-bit": ("12345678 00000001 ffffffff ffffffff", "01010000"),
        "2-units-blank": ("12345678 00000000 ffffffff ffffffff", "01010100"),
        "2-units-prefix-1": ("12345678 00000000 9affffff ffffffff", "01010100"),
        "2-units-prefix-2": ("12345678 00000000 9abcffff ffffffff", "01010100"),
        "2-units-prefix-3": ("12345678 00000000 9abcdeff ffffffff", "01010100"),
        "2-units-one-bit": ("12345678 00000000 bfffffff ffffffff", "01010100"),
        "2-units-all-but-one-bit": ("12345678 00000000 9abcdef1 ffffffff", "01010100"),
        "3-units-blank": ("12345678 00000000 9abcdef0 ffffffff", "01010101"),
        "3-units-prefix-1": ("12345678 00000000 9abcdef0 01ffffff", "01010101"),
        "3-units-prefix-2": ("12345678 00000000 9abcdef0 0102ffff", "01010101"),
        "3-units-prefix-3": ("12345678 00000000 9abcdef0 010203ff", "01010101"),
        "3-units-one-bit": ("12345678 00000000 9abcdef0 7fffffff", "01010101"),
        "3-units-all-but-one-bit": ("12345678 00000000 9abcdef0 01020305", "01010101"),
    }


def test_flash_that_erases_to_zero_is_torn_towards_zero() -> None:
    geometry = shape(2, 0x00)
    found = {n: s.content[:2].hex() for n, s in torn_program(geometry, blank_sector(geometry, 0), 0, b"\x50\x06")}
    assert found == {
        "0-units-blank": "0000",
        "0-units-prefix-1": "5000",
        "0-units-one-bit": "4000",
        "0-units-all-but-one-bit": "5004",
    }


@pytest.mark.parametrize(("unit", "erased"), SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_torn_program_is_a_prefix_of_whole_units_and_one_damaged_unit(unit: int, erased: int, count: int) -> None:
    geometry = shape(unit, erased)
    before = programmed_sector(blank_sector(geometry, 0), unit, 0, mixed_bytes(unit), 1)
    data, at = mixed_bytes(count * unit), 2 * unit
    after = programmed_sector(before, unit, at, data, count)
    found = torn_program(geometry, before, at, data)
    kept_counts = set()
    for name, sector in found:
        kept = int(name.partition("-")[0])
        kept_counts.add(kept)
        assert sector.programmed == b"\1\0" + b"\1" * (kept + 1) + bytes(256 // unit - kept - 3), name
        split = at + kept * unit
        assert sector.content[:split] == after.content[:split], name
        assert sector.content[split + unit :] == before.content[split + unit :], name
        for got, wanted in zip(sector.content[split : split + unit], after.content[split : split + unit], strict=True):
            assert (got ^ erased) & ~(wanted ^ erased) == 0, f"{name}: a bit changed that should not have"
        assert not sector.unstable
        assert sector not in (before, after), name
    assert kept_counts == {kept for kept in (0, 1, count // 2, count - 1) if kept < count}


@pytest.mark.parametrize(("unit", "erased"), SHAPES)
def test_the_outcomes_are_few_distinct_and_the_same_every_time(unit: int, erased: int) -> None:
    geometry = shape(unit, erased)
    blank = blank_sector(geometry, 0)
    full = programmed_sector(blank, unit, 0, mixed_bytes(256), 256 // unit)

    def every() -> list[tuple[tuple[str, Sector], ...]]:
        return [
            torn_program(geometry, blank, 0, mixed_bytes(256)),
            torn_program(geometry, blank, unit, mixed_bytes(unit)),
            torn_program(geometry, blank_sector(geometry, 2), 0, mixed_bytes(64)),
            torn_erase(geometry, full),
            torn_erase(geometry, blank),
        ]

    assert every() == every()
    for found in every():
        assert 1 <= len(found) <= 24
        assert len({name for name, _ in found}) == len({sector for _, sector in found}) == len(found)


def test_outcomes_that_look_alike_are_one() -> None:
    """A unit of one byte has no prefix; bytes that are to stay erased are right however far it came."""
    geometry = shape(1)
    blank = blank_sector(geometry, 0)
    assert [name for name, _ in torn_program(geometry, blank, 0, b"\x0f")] == [
        "0-units-blank",
        "0-units-one-bit",
        "0-units-all-but-one-bit",
    ]
    assert [name for name, _ in torn_program(geometry, blank, 0, b"\xfe")] == ["0-units-blank", "0-units-one-bit"]
    assert [name for name, _ in torn_program(geometry, blank, 0, b"\xff")] == ["0-units-blank"]
    assert [name for name, _ in torn_program(shape(8), blank_sector(shape(8), 0), 0, b"\1\2".ljust(8, b"\xff"))] == [
        "0-units-blank",
        "0-units-prefix-1",
        "0-units-prefix-4",
        "0-units-one-bit",
        "0-units-all-but-one-bit",
    ]


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\1\2".ljust(8, b"\xff"), b"\xfe".ljust(8, b"\xff")])
def test_a_torn_program_looks_done_where_what_is_missing_is_erased_bytes(data: bytes) -> None:
    geometry = shape(8)
    blank = blank_sector(geometry, 0)
    after = programmed_sector(blank, 8, 0, data, 1)
    found = [sector for _, sector in torn_program(geometry, blank, 0, data)]
    assert after in found
    assert blank not in found, "it counts as programmed all the same"


# --- erase ------------------------------------------------------------------------------------------------------------


def test_each_outcome_of_a_torn_erase_by_name() -> None:
    geometry = shape(32)
    old = programmed_sector(blank_sector(geometry, 0), 32, 0, b"\x5a" * 224, 7)
    found = dict(torn_erase(geometry, old))
    words = {
        name: ("".join("-#"[sector.content[at] == 0x5A] for at in range(0, 256, 32)), sector.unstable)
        for name, sector in found.items()
    }
    assert words == {
        "none": ("#######-", False),
        "first-unit": ("-######-", False),
        "first-half": ("----###-", False),
        "last-half": ("####----", False),
        "all-but-first-unit": ("#-------", False),
        "all": ("--------", False),
        "unstable": ("#######-", True),
    }
    assert {sector.programmed for sector in found.values()} == {b"\1" * 8}, "all of it has to be erased again"


@pytest.mark.parametrize(("unit", "erased"), SHAPES)
def test_a_torn_erase_is_never_a_done_one_and_only_of_a_full_sector_none(unit: int, erased: int) -> None:
    geometry = shape(unit, erased)
    blank = blank_sector(geometry, 0)
    part = programmed_sector(blank, unit, 0, mixed_bytes(128), 128 // unit)
    full = programmed_sector(blank, unit, 0, mixed_bytes(256), 256 // unit)
    for before in (blank, part, full, *(sector for _, sector in torn_erase(geometry, full))):
        found = dict(torn_erase(geometry, before))
        assert blank not in found.values()
        same = [name for name, sector in found.items() if sector == before]
        assert same == ([] if 0 in before.programmed else ["unstable" if before.unstable else "none"])


def test_a_torn_erase_of_a_blank_sector_has_one_outcome() -> None:
    geometry = shape(4)
    blank = blank_sector(geometry, 1)
    assert torn_erase(geometry, blank) == (("none", Sector(blank.content, b"\1" * 64)),)


# --- unstable ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "erased"), SHAPES)
def test_an_unstable_sector_reads_as_old_erased_half_and_every_other_unit_in_turn(unit: int, erased: int) -> None:
    geometry = shape(unit, erased)
    old, blank = mixed_bytes(256), bytes([erased]) * 256
    sector = Sector(old, b"\1" * (256 // unit), unstable=True)
    reads = [unstable_read(geometry, sector, number) for number in range(8)]
    assert reads[:4] == reads[4:]
    assert reads[0] == old
    assert reads[1] == blank
    assert reads[2] == blank[:128] + old[128:]
    for at in range(0, 256, unit):
        source = old if at // unit % 2 else blank
        assert reads[3][at : at + unit] == source[at : at + unit]
    assert len(set(reads)) == 4


@pytest.mark.parametrize("size", [4, 12, 20])
def test_sectors_of_few_units_are_torn_as_well(size: int) -> None:
    """One, three and five units: halves that are not whole, and a first unit that is all."""
    geometry = Geometry.uniform(size, size, 4)
    full = programmed_sector(blank_sector(geometry, 0), 4, 0, mixed_bytes(size), size // 4)
    for (_, sector), number in product(torn_erase(geometry, full), range(4)):
        assert len(sector.content) == size
        assert len(unstable_read(geometry, sector, number)) == size
        assert sector.programmed == b"\1" * (size // 4)
    assert ("unstable", Sector(full.content, full.programmed, True)) in torn_erase(geometry, full)
