"""The boot flags: what the bootloader remembers, in two small records that are written in turn.

    offset  bytes  what
    0       4      magic "HHbf"
    4       2      format version, 1 (big endian, like all numbers here)
    6       8      sequence number, from 1
    14      1      confirmed slot: 0, 1, or 0xFF for none
    15      1      number of trial starts, 0 without a mark
    16      1      bit 0: there is a mark; bit 1: there is a failed hash
    17      3      zero
    20      4      length of the marked image in bytes, 0 without a mark
    24      32     SHA-256 of the marked image, zeros without a mark
    56      32     SHA-256 of the image whose trial failed, zeros without one
    88      8      zero
    96      32     SHA-256 over all before it

One record lies at the start of each of two sectors. The readable one with the higher sequence number counts; the next is written over
the *other*: a cut leaves the old flags or the new ones. A board on which neither was ever written is blank: nothing confirmed,
nothing marked; its first record is the factory's (`provision`). Where something was written and neither can be read, the flags are
refused, and the board is in recovery until it is provisioned again (DESIGN §4, "State": unreadable is never taken for empty).

`running` is not stored: it is what the bootloader started, and is gone at the next reset.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from hillhold_bootsim.flash import Flash
from hillhold_bootsim.keylist import KeyList
from hillhold_bootsim.layout import Layout, padded
from hillhold_verifier.errors import ConfirmError, MisuseError, RecordError, UnprovisionedError
from hillhold_verifier.slots import BootFlags, Mark

MAGIC: Final = b"HHbf"
FORMAT: Final = 1
RECORD_SIZE: Final = 128
MAX_STARTS: Final = 255
MAX_LENGTH: Final = 2**32 - 1
_FIELDS: Final = struct.Struct(">4sHQBBB3xI32s32s8x")
_NONE: Final = 0xFF
_MARKED, _FAILED = 1, 2
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class BootRecord:
    """What is stored of `BootFlags`; the same names."""

    confirmed: int | None = None
    mark: Mark | None = None
    starts: int = 0
    failed: bytes | None = None


def encode_record(sequence: int, record: BootRecord) -> bytes:
    """Return the one byte form of a record.

    Raises:
        MisuseError: a value outside its range.
    """
    mark, failed = record.mark, record.failed
    if record.confirmed not in (None, 0, 1) or not 0 < sequence < 2**64:
        raise MisuseError(f"boot flags: slot {record.confirmed}, sequence number {sequence}")
    if not 0 <= record.starts <= (MAX_STARTS if mark else 0):
        raise MisuseError(f"boot flags: {record.starts} trial starts of {'a' if mark else 'no'} mark")
    if mark and not (len(mark.sha256) == 32 and 0 < mark.length <= MAX_LENGTH):
        raise MisuseError(f"boot flags: a mark of {len(mark.sha256)} bytes of hash and length {mark.length}")
    if failed is not None and len(failed) != 32:
        raise MisuseError(f"boot flags: a failed hash of {len(failed)} bytes")
    fields = _FIELDS.pack(
        MAGIC,
        FORMAT,
        sequence,
        _NONE if record.confirmed is None else record.confirmed,
        record.starts,
        (_MARKED if mark else 0) | (_FAILED if failed is not None else 0),
        mark.length if mark else 0,
        mark.sha256 if mark else _NO_HASH,
        _NO_HASH if failed is None else failed,
    )
    return fields + hashlib.sha256(fields).digest()


def decode_record(data: bytes) -> tuple[int, BootRecord]:
    """Return sequence number and content of a record.

    Raises:
        RecordError: not a whole record of this format in its one byte form.
    """
    if len(data) != RECORD_SIZE:
        raise RecordError("boot flags", expected=f"{RECORD_SIZE} bytes", got=len(data))
    magic, version, sequence, confirmed, starts, present, length, marked, failed = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise RecordError("boot flags magic", expected=MAGIC.hex(), got=magic.hex())
    if version != FORMAT:
        raise RecordError("boot flags format", expected=FORMAT, got=version)
    if data[_FIELDS.size :] != hashlib.sha256(data[: _FIELDS.size]).digest():
        raise RecordError("boot flags checksum", expected="one that fits", got="another")
    record = BootRecord(
        confirmed=None if confirmed == _NONE else confirmed,
        mark=Mark(marked, length) if present & _MARKED else None,
        starts=starts,
        failed=failed if present & _FAILED else None,
    )
    try:
        canonical = encode_record(sequence, record) == data
    except MisuseError as error:
        raise RecordError("boot flags", expected="values in range", got=str(error)) from error
    if not canonical:
        raise RecordError("boot flags", expected="zeros in unused fields", got="something else")
    return sequence, record


class SimBootControl:
    """`BootControl` over a flash, for the agent, and `record`, `write` and `started`, for the bootloader alone.

    `keys` is the bootloader's list of image keys; None for a bootloader without one.

    It keeps nothing in memory but `running`. Every change is one write of one record; a change to what already is, is none.
    """

    def __init__(self, flash: Flash, layout: Layout, keys: KeyList | None = None) -> None:
        self._flash, self._layout, self._keys = flash, layout, keys
        self._running: int | None = None

    # --- for the agent: BootControl -----------------------------------------------------------------------------------

    def flags(self, component: int = 0) -> BootFlags:
        """Read the flags.

        Raises:
            MisuseError: this board has one component, number 0.
            UnprovisionedError: something was written, and neither record can be read.
        """
        if component:
            raise MisuseError(f"component {component} of a board that has one")
        record, running = self.record(), self._running
        return BootFlags(
            running=running,
            confirmed=record.confirmed,
            mark=record.mark,
            trial=running is not None and running != record.confirmed,
            starts=record.starts,
            failed=record.failed,
        )

    def set_marks(self, marks: Mapping[int, Mark]) -> None:
        """Ask for a trial of the other slot at the next boot: 1 - confirmed, or slot 0 where none is confirmed.

        Raises:
            MisuseError: a trial is under way, another component than 0 is marked, or the mark is out of range.
            UnprovisionedError: the flags cannot be read.
        """
        if self.flags().trial:
            raise MisuseError("a trial is under way: nothing else can be marked")
        if set(marks) != {0}:
            raise MisuseError(f"marks of components {sorted(marks)} on a board that has one")
        self.write(replace(self.record(), mark=marks[0], starts=0))

    def clear_marks(self) -> None:
        """Withdraw the mark; during a trial, end it at the next boot.

        Raises:
            UnprovisionedError: the flags cannot be read.
        """
        self.write(replace(self.record(), mark=None, starts=0))

    def confirm(self) -> None:
        """Make the running image the confirmed one; nothing happens if it is.

        Raises:
            ConfirmError: nothing runs, or the trial was ended by `clear_marks`.
            UnprovisionedError: the flags cannot be read.
        """
        flags = self.flags()
        if flags.running is None:
            raise ConfirmError("confirmation", expected="a running image", got="recovery")
        if not flags.trial:
            return
        if flags.mark is None:
            raise ConfirmError(
                "confirmation", expected="a trial whose mark still stands", got="a mark that was cleared"
            )
        self.write(BootRecord(confirmed=flags.running, failed=flags.failed))

    def acknowledge_failure(self) -> None:
        """Forget `failed`.

        Raises:
            UnprovisionedError: the flags cannot be read.
        """
        self.write(replace(self.record(), failed=None))

    def accept_root(self, data: bytes) -> None:
        """Hand a root to the list of image keys; without one nothing happens. Raises as `KeyList.accept_root`."""
        if self._keys is not None:
            self._keys.accept_root(data)

    # --- for the bootloader and the factory ---------------------------------------------------------------------------

    def record(self) -> BootRecord:
        """Return what is stored.

        Raises:
            UnprovisionedError: something was written, and neither record can be read.
        """
        return self._newest()[2]

    def write(self, record: BootRecord) -> None:
        """Store `record` over the one that was not read, if it differs from what is stored.

        Raises:
            MisuseError: a value outside its range.
            UnprovisionedError: the flags cannot be read.
        """
        sequence, index, old = self._newest()
        if record != old:
            self._write(1 - index, sequence + 1, record)

    def started(self, slot: int | None) -> None:
        """Say what runs from now on; None is recovery."""
        self._running = slot

    def provision(self, confirmed: int | None) -> None:
        """Write the flags anew, whatever there was: an act of the factory, or of someone with the right to it.

        Not atomic: a cut leaves the old flags, none, or unreadable ones. Then provision again. Every later change is atomic.
        """
        second = self._layout.flags(1)
        self._flash.erase(second.offset, second.size)
        self._write(0, 1, BootRecord(confirmed=confirmed))

    def _newest(self) -> tuple[int, int, BootRecord]:
        """Sequence number, place and content of the record that counts."""
        found: list[tuple[int, int, BootRecord]] = []
        reasons: list[str] = []
        for index in (0, 1):
            try:
                sequence, record = decode_record(self._flash.read(self._layout.flags(index).offset, RECORD_SIZE))
                found.append((sequence, index, record))
            except RecordError as error:
                reasons.append(str(error))
        if found:
            return max(found, key=lambda item: item[0])
        if self._blank():
            return 0, 1, BootRecord()
        raise UnprovisionedError("boot flags", expected="a readable record", got=" and ".join(reasons))

    def _blank(self) -> bool:
        """Nothing was ever written: both sectors are erased from end to end."""
        sectors = [self._layout.flags(index) for index in (0, 1)]
        erased = bytes([self._layout.geometry.erased_value])
        return all(self._flash.read(s.offset, s.size) == erased * s.size for s in sectors)

    def _write(self, index: int, sequence: int, record: BootRecord) -> None:
        sector = self._layout.flags(index)
        data = padded(encode_record(sequence, record), self._layout.geometry)
        self._flash.erase(sector.offset, sector.size)
        self._flash.program(sector.offset, data)
