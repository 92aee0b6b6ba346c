"""A region of a slot: written in order, hashed, and gone on with after a cut."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest

from bench import LAYOUT
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import SimSlots
from hillhold_verifier.errors import (
    MisuseError,
)
from hillhold_verifier.slotio import SlotWriter, resume_offset, round_up, slot_sha256
from offers import IMAGE_LENGTH

SECTOR = LAYOUT.slot_sector(0)


def slots() -> SimSlots:
    return SimSlots(Flash(LAYOUT.geometry), LAYOUT)


def test_round_up() -> None:
    assert [round_up(value, 4) for value in (0, 1, 4, 5)] == [0, 4, 4, 8]


@pytest.mark.parametrize("piece", [1, 3, 4, 7, 1000])
@pytest.mark.parametrize("length", [0, 1, 4, 4999, IMAGE_LENGTH])
def test_a_writer_writes_every_byte_whatever_the_pieces(length: int, piece: int) -> None:
    flash, data = slots(), random.Random(length).randbytes(length)
    writer = SlotWriter(flash, 0, SECTOR, length)
    assert writer.complete == (length == 0)
    for at in range(0, length, piece):
        assert writer.offset == at
        writer.write(data[at : at + piece])
    assert writer.complete
    assert flash.read(0, SECTOR, length) == data
    assert slot_sha256(flash, 0, SECTOR, length) == sha256(data).digest()
    assert flash.read(0, 0, SECTOR) == b"\xff" * SECTOR


def test_a_writer_does_not_leave_its_region() -> None:
    writer = SlotWriter(slots(), 0, 0, 100)
    writer.write(bytes(60))
    with pytest.raises(MisuseError):
        writer.write(bytes(41))
    assert writer.offset == 60


@pytest.mark.parametrize("written", [0, 1, 2047, 2048, 2049, 6000])
def test_after_resuming_everything_behind_the_offset_can_be_written(written: int) -> None:
    flash, length = slots(), 6000
    data = random.Random(1).randbytes(length)
    if written:
        flash.write(1, 0, data[: round_up(written, 4)])
    offset = resume_offset(flash, 1, 0, length)
    assert offset % SECTOR == 0
    assert max(0, written - SECTOR) <= offset <= written
    flash.write(1, offset, data[offset:])
    assert flash.read(1, 0, length) == data
