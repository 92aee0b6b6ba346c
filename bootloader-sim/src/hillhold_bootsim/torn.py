"""What an operation leaves of a sector when the power goes in the middle of it: a finite set, the same in every run.

*Torn program* of n units. `kept` of them are written whole, for kept = 0, 1, n/2 and n-1; the unit behind them is damaged in each of
these ways, and the units behind that are untouched:

- `blank`: it reads as erased, and is programmed all the same;
- `prefix-B`: its first B bytes are as wanted, the rest is erased, for B = 1, half of the unit, and all but one byte;
- `one-bit`: of the bits that should change, only the first did;
- `all-but-one-bit`: all did but the last.

*Torn erase* of a sector. All of it counts as programmed, for cells that were erased for too short a time hold no data; it has to be
erased again. Of its bytes are erased: `none`, the `first-unit`, the `first-half`, the `last-half`, `all-but-first-unit`, `all`. Or it is
`unstable`: it reads differently each time, until it is erased again (`unstable_read`).

Outcomes that look alike are one. A torn program looks done where what is missing is erased bytes; a torn erase never does, and only of a
sector that was programmed all over may nothing have changed. This is a model: real cells may be left in more ways than these, but what
a bootloader may rely upon is little enough that these break it where it relies on more. They are per operation, so all of them can be
tried at all operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from hillhold_bootsim.geometry import Geometry


class Sector(NamedTuple):
    """A sector, or the one-way region: content, a byte 1 for each unit that is programmed (0 otherwise), and whether it reads unstably."""

    content: bytes
    programmed: bytes
    unstable: bool = False


def blank_sector(geometry: Geometry, index: int) -> Sector:
    """Return a sector as it leaves the factory."""
    return _blank(geometry.sizes[index], geometry.unit, geometry.erased_value)


@lru_cache(maxsize=64)
def _blank(size: int, unit: int, erased: int) -> Sector:
    """One object for all that are alike: what is compared and hashed often is so at once."""
    return Sector(bytes([erased]) * size, bytes(size // unit))


def programmed_sector(sector: Sector, unit: int, at: int, data: bytes, count: int) -> Sector:
    """Return a sector with `data` at `at` bytes from its start; the first `count` units of it count as programmed."""
    first = at // unit
    return Sector(
        sector.content[:at] + data + sector.content[at + len(data) :],
        sector.programmed[:first] + b"\x01" * count + sector.programmed[first + count :],
        sector.unstable,
    )


def torn_program(geometry: Geometry, sector: Sector, at: int, data: bytes) -> tuple[tuple[str, Sector], ...]:
    """Return what programming `data` at `at` bytes from the start of a sector may leave, by name."""
    unit, erased = geometry.unit, geometry.erased_value
    found: dict[Sector, str] = {}
    for kept in _whole_units(len(data) // unit):
        whole, damaged = data[: kept * unit], data[kept * unit : (kept + 1) * unit]
        for name, left in _damages(damaged, unit, erased):
            outcome = programmed_sector(sector, unit, at, whole + left, kept + 1)
            found.setdefault(outcome, f"{kept}-units-{name}")
    return tuple((name, outcome) for outcome, name in found.items())


def count_torn_program(geometry: Geometry, data: bytes) -> int:
    """Return how many outcomes `torn_program` has where the units are blank, as they have to be."""
    return _count_program(data, geometry.unit, geometry.erased_value)


def count_torn_erase(geometry: Geometry, sector: Sector) -> int:
    """Return how many outcomes `torn_erase` has."""
    return _count_erase(sector, geometry.unit, geometry.erased_value)


def torn_erase(geometry: Geometry, sector: Sector) -> tuple[tuple[str, Sector], ...]:
    """Return what erasing a sector may leave, by name."""
    return _torn_erase(sector, geometry.unit, geometry.erased_value)


def _torn_erase(sector: Sector, unit: int, erased: int) -> tuple[tuple[str, Sector], ...]:
    old = sector.content
    size, half = len(old), len(old) // unit // 2 * unit
    blank = bytes([erased]) * size
    used = b"\x01" * len(sector.programmed)
    found: dict[Sector, str] = {}
    for name, start, end in (
        ("none", 0, 0),
        ("first-unit", 0, unit),
        ("first-half", 0, half),
        ("last-half", half, size),
        ("all-but-first-unit", unit, size),
        ("all", 0, size),
    ):
        found.setdefault(Sector(old[:start] + blank[start:end] + old[end:], used), name)
    if old != blank:
        found[Sector(old, used, unstable=True)] = "unstable"
    return tuple((name, outcome) for outcome, name in found.items())


def unstable_read(geometry: Geometry, sector: Sector, number: int) -> bytes:
    """Return what an unstable sector reads as, in the `number`th read since power-on: old, erased, half, every other unit, and again."""
    old, unit = sector.content, geometry.unit
    blank = bytes([geometry.erased_value]) * len(old)
    half = len(old) // 2
    match number % 4:
        case 0:
            return old
        case 1:
            return blank
        case 2:
            return blank[:half] + old[half:]
        case _:
            pieces = (old[at : at + unit] if at // unit % 2 else blank[:unit] for at in range(0, len(old), unit))
            return b"".join(pieces)


def _damages(wanted: bytes, unit: int, erased: int) -> Iterator[tuple[str, bytes]]:
    blank = bytes([erased]) * unit
    yield "blank", blank
    for length in sorted({1, unit // 2, unit - 1}):
        if 0 < length < unit:
            yield f"prefix-{length}", wanted[:length] + blank[length:]
    changing = int.from_bytes(wanted, "big") ^ int.from_bytes(blank, "big")
    if changing:
        first, last = 1 << (changing.bit_length() - 1), changing & -changing
        for name, changed in (("one-bit", first), ("all-but-one-bit", changing ^ last)):
            yield name, (int.from_bytes(blank, "big") ^ changed).to_bytes(unit, "big")


def _whole_units(count: int) -> list[int]:
    """How many of so many units are written whole before the damaged one."""
    return [kept for kept in sorted({0, 1, count // 2, count - 1}) if kept < count]


@lru_cache(maxsize=4096)
def _count_program(data: bytes, unit: int, erased: int) -> int:
    # Outcomes that differ in how many units count as programmed are never alike.
    return sum(
        len({left for _, left in _damages(data[kept * unit : (kept + 1) * unit], unit, erased)})
        for kept in _whole_units(len(data) // unit)
    )


@lru_cache(maxsize=4096)
def _count_erase(sector: Sector, unit: int, erased: int) -> int:
    return len(_torn_erase(sector, unit, erased))
