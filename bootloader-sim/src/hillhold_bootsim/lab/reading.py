"""What a virtual board runs and holds, read from the bytes of its flash: nothing here asks the board's agent, or is its code.

Boot record and image headers are decoded anew, by their formats (`bootflags`, `mcuboot`); floors alone come through the verifier's reader
of state records, and decide no verdict on what runs. Where an image lies while it runs follows from layout and from
which slot the bootloader started.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from hillhold_bootsim.flash import FlashState
from hillhold_bootsim.layout import BootMode, Layout, Partition
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.state import StateStore

_FLAGS: Final = struct.Struct(">4sHQBB")
_IMAGE: Final = struct.Struct(">BBHI32s32s8x")
_MARKED, _PRIMARY, _SHIFTED = 1, 8, 64
_IMAGE_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_IMAGE_MAGIC: Final = 0x96F3B83D
_ROLES: Final = ("timestamp", "snapshot", "targets", "line")


@dataclass(frozen=True, slots=True)
class Ran:
    """An image, by its bytes, or by as much as a board allows: SHA-256 in hexadecimal ("" unknown), length (0), version ("")."""

    sha256: str = ""
    length: int = 0
    version: str = ""

    def is_same(self, other: Ran) -> bool:
        """By the bytes where both are known, else by the version."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        return bool(self.version) and self.version == other.version


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a board without asking its agent.

    Attributes:
        running: by component; nothing where nothing boots.
        confirmed: by component, what boots when nothing is tried; None where that cannot be read.
        trial: what runs is unconfirmed; None where that cannot be read.
        marked: something is to be tried at the next boot; likewise.
        counters: the security counters; likewise.
        floors: "root", "time" and the four roles; likewise.
    """

    running: tuple[Ran, ...]
    confirmed: tuple[Ran | None, ...] | None = None
    trial: bool | None = None
    marked: bool | None = None
    counters: tuple[int, ...] | None = None
    floors: Mapping[str, int] | None = None

    def below(self, before: Reading, *, floors: bool = True) -> Iterator[str]:
        """Say what is lower than it was; `floors`: they count, too."""
        counters = zip(before.counters or (), self.counters or (), strict=False)  # one side may not tell them
        if any(now < was for was, now in counters):
            yield "the security counter is lower than before"
        if floors and before.floors is not None and self.floors is not None:
            for name in before.floors:
                if self.floors.get(name, 0) < before.floors[name]:
                    yield f"the floor of {name} is lower than before"

    def lines(self) -> str:
        """Tell it, a line each."""

        def named(images: Sequence[Ran | None]) -> str:
            return ", ".join(
                f"{one.version} {one.sha256[:16]} ({one.length} bytes)" if one else "none" for one in images
            )

        rows = [("running", named(self.running) or "nothing")]
        rows += [("confirmed", named(self.confirmed))] if self.confirmed is not None else []
        rows += [
            (name, "yes" if value else "no")
            for name, value in (("trial", self.trial), ("marked", self.marked))
            if value is not None
        ]
        rows += [("counters", ", ".join(map(str, self.counters)))] if self.counters is not None else []
        rows += [(f"floor {name}", str(value)) for name, value in (self.floors or {}).items()]
        return "\n".join(f"{name:<16} {value}" for name, value in rows)


def read_flash(state: FlashState, layout: Layout, started: Sequence[int]) -> Reading:
    """Read a board.

    Args:
        state: its flash.
        layout: where things lie on it.
        started: the slot that the bootloader started, of each component; none in recovery.
    """
    main = b"".join(sector.content for sector in state[:-1])
    images = _boot_record(main, layout)
    swap = layout.mode is BootMode.SWAP
    running, confirmed, trial = [], [], False
    for component, pair in enumerate(layout.slots):
        flags = images[component] if images else (0xFF, 0)
        if started:
            slot = started[component]
            trial |= slot != flags[0]
            if found := _image_at(main, pair[0 if swap else slot]):
                running.append(found)
        confirmed.append(
            None
            if flags[0] > 1
            else _image_at(main, _place(layout, component, flags), _shift(layout, component, flags))
        )
    return Reading(
        tuple(running) if len(running) == len(layout.slots) else (),
        tuple(confirmed),
        trial,
        not trial and any(bits & _MARKED for _, bits in images),
        _counters(state[-1].content, layout),
        _floors(main, layout),
    )


def _boot_record(main: bytes, layout: Layout) -> list[tuple[int, int]]:
    """Confirmed slot and bits of each component, of the record that counts; nothing where none can be read."""
    found: dict[int, list[tuple[int, int]]] = {}
    count = len(layout.slots)
    size = _FLAGS.size + count * _IMAGE.size
    for area in layout.flags:
        data = main[area.offset : area.offset + size + 32]
        magic, _format, sequence, _starts, components = _FLAGS.unpack_from(data)
        if magic == b"HHbf" and components == count and sha256(data[:size]).digest() == data[size:]:
            rows = [_IMAGE.unpack_from(data, _FLAGS.size + at * _IMAGE.size) for at in range(count)]
            found[sequence] = [(row[0], row[1]) for row in rows]
    return found[max(found)] if found else []


def _place(layout: Layout, component: int, flags: tuple[int, int]) -> Partition:
    confirmed, bits = flags
    if layout.mode is BootMode.SWAP:
        return layout.slots[component][0 if confirmed == int(bool(bits & _PRIMARY)) else 1]
    return layout.slots[component][confirmed]


def _shift(layout: Layout, component: int, flags: tuple[int, int]) -> int:
    """In swap mode the other image may begin one sector behind the start of the secondary slot."""
    confirmed, bits = flags
    elsewhere = layout.mode is BootMode.SWAP and confirmed != int(bool(bits & _PRIMARY))
    return layout.slot_sector(component) if elsewhere and bits & _SHIFTED else 0


def _image_at(main: bytes, part: Partition, shift: int = 0) -> Ran | None:
    """The image that begins in a partition, by its own header; None where there is none."""
    return image_in(main[part.offset + shift : part.end])


def image_in(room: bytes) -> Ran | None:
    """The image that some bytes begin with, by its own header; None where there is none."""
    if len(room) < _IMAGE_HEADER.size:
        return None
    magic, _load, header, protected, size, _flags, major, minor, revision, build, _pad = _IMAGE_HEADER.unpack_from(room)
    end = header + size + protected
    if magic != _IMAGE_MAGIC or end + 4 > len(room):
        return None
    length = end + int.from_bytes(room[end + 2 : end + 4], "little")
    version = f"{major}.{minor}.{revision}" + (f"+{build}" if build else "")
    return Ran(sha256(room[:length]).hexdigest(), min(length, len(room)), version)


def _counters(otp: bytes, layout: Layout) -> tuple[int, ...]:
    """The highest value of each component's part that stands beside its complement."""
    part, entry = len(otp) // len(layout.slots), max(8, layout.geometry.unit)
    found = []
    for component in range(len(layout.slots)):
        values = [0]
        for at in range(component * part, component * part + part // entry * entry, entry):
            value, complement = otp[at : at + 4], otp[at + 4 : at + 8]
            if any(value) and bytes(byte ^ 0xFF for byte in value) == complement:
                values.append(int.from_bytes(value, "big"))
        found.append(max(values))
    return tuple(found)


class _Areas:
    """The agent's areas, for reading."""

    def __init__(self, main: bytes, layout: Layout) -> None:
        self._areas = [main[part.offset : part.end] for part in layout.state]
        self.size = min(part.size for part in layout.state)

    def read(self, index: int) -> bytes:
        return self._areas[index]

    def write(self, index: int, data: bytes) -> None:
        raise NotImplementedError


def _floors(main: bytes, layout: Layout) -> dict[str, int] | None:
    try:
        trust = StateStore(_Areas(main, layout)).load().trust
    except HillholdError:
        return None
    named = {role: trust.floors[role].value if role in trust.floors else 0 for role in _ROLES}
    return {"root": trust.root.signed.version, "time": trust.time_floor.value if trust.time_floor else 0, **named}
