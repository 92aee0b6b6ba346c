"""The boot flags: what the bootloader remembers, in two small records that are written in turn.

    offset  bytes  what
    0       4      magic "HHbf"
    4       2      format version, 2 (big endian, like all numbers here)
    6       8      sequence number, from 1
    14      1      number of trial starts, 0 without a mark
    15      1      number of components, 1 to 4
    16      80     each component:
      0     1        confirmed slot: 0, 1, or 0xFF for none
      1     1        bit 0: there is a mark; bit 1: there is a failed hash; bit 2: the mark is permanent;
                     bit 3: the slot that lies in the primary one; bit 4: the one that shall; bit 5: its exchange moves sectors;
                     bit 6: the other image begins one sector behind the start of the secondary slot
      2     2        sectors to exchange, 0 without an exchange
      4     4        length of the marked image in bytes, 0 without a mark
      8     32       SHA-256 of the marked image, zeros without a mark
      40    32       SHA-256 of the image whose trial failed, zeros without one
      72    8        zero
    …       32     SHA-256 over all before it

One record lies at the start of each of two areas. The readable one with the higher sequence number counts; the next is written over
the *other*: a cut leaves the old flags or the new ones. A board on which neither was ever written is blank: nothing confirmed,
nothing marked; its first record is the factory's (`provision`). Where something was written and neither can be read, the flags are
refused, and the board is in recovery until it is provisioned again (DESIGN §4, "State": unreadable is never taken for empty).

Bits 3 to 6 and the number of sectors serve `swap` mode alone (`swap`); in `remap` mode nothing ever lies elsewhere.
`running` is not stored: it is what the bootloader started, and is gone at the next reset.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hillhold_bootsim.flash import Flash
from hillhold_bootsim.keylist import KeyList
from hillhold_bootsim.layout import MAX_COMPONENTS, Layout, SimRecordAreas
from hillhold_verifier.errors import ConfirmError, MisuseError, RecordError, UnprovisionedError
from hillhold_verifier.slots import BootFlags, Mark

MAGIC: Final = b"HHbf"
FORMAT: Final = 2
MAX_STARTS: Final = 255
MAX_LENGTH: Final = 2**32 - 1
MAX_SWAP_SECTORS: Final = 2**16 - 1
_HEADER: Final = struct.Struct(">4sHQBB")
_IMAGE: Final = struct.Struct(">BBHI32s32s8x")
_NONE: Final = 0xFF
_MARKED, _FAILED, _PERMANENT, _PRIMARY, _WANTED, _MOVING, _SHIFTED, _UNUSED = (1 << bit for bit in range(8))
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class ImageFlags:
    """What is stored of one component.

    Attributes:
        confirmed, mark, failed: as in `BootFlags`.
        permanent: the marked image is confirmed as soon as it boots.
        primary: swap mode: the slot whose image lies in the primary slot.
        wanted: swap mode: the slot whose image shall lie there; another one than `primary` while both are exchanged.
        moving: swap mode: the trailer is ready, and sectors are being moved.
        sectors: swap mode: how many are exchanged.
        shifted: swap mode: the image in the secondary slot begins one sector behind its start, as one that was written there does.
    """

    confirmed: int | None = None
    mark: Mark | None = None
    failed: bytes | None = None
    permanent: bool = False
    primary: int = 0
    wanted: int = 0
    moving: bool = False
    sectors: int = 0
    shifted: bool = True

    @property
    def other(self) -> int:
        """The slot that is not the confirmed one; 0 where none is."""
        return 0 if self.confirmed is None else 1 - self.confirmed


@dataclass(frozen=True, slots=True)
class BootRecord:
    """What is stored: of each component, and how often the trial of what is marked was started."""

    images: tuple[ImageFlags, ...] = (ImageFlags(),)
    starts: int = 0

    @property
    def marked(self) -> bool:
        """Something is to be tried."""
        return any(image.mark for image in self.images)

    def with_image(self, component: int, image: ImageFlags) -> BootRecord:
        """Return this with other flags of a component."""
        return replace(self, images=(*self.images[:component], image, *self.images[component + 1 :]))


def record_size(components: int) -> int:
    """Return the bytes of a record of so many components."""
    return _HEADER.size + components * _IMAGE.size + 32


def encode_record(sequence: int, record: BootRecord) -> bytes:
    """Return the one byte form of a record.

    Raises:
        MisuseError: a value outside its range.
    """
    if not 0 < sequence < 2**64 or not 0 < len(record.images) <= MAX_COMPONENTS:
        raise MisuseError(f"boot flags: {len(record.images)} components, sequence number {sequence}")
    if not 0 <= record.starts <= (MAX_STARTS if record.marked else 0):
        raise MisuseError(f"boot flags: {record.starts} trial starts of {'a' if record.marked else 'no'} mark")
    fields = _HEADER.pack(MAGIC, FORMAT, sequence, record.starts, len(record.images))
    fields += b"".join(_encode_image(image) for image in record.images)
    return fields + hashlib.sha256(fields).digest()


def decode_record(data: bytes, components: int) -> tuple[int, BootRecord]:
    """Return sequence number and content of a record.

    Raises:
        RecordError: not a whole record of this format, in its one byte form, of so many components.
    """
    if len(data) != record_size(components):
        raise RecordError("boot flags", expected=f"{record_size(components)} bytes", got=len(data))
    magic, version, sequence, starts, count = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise RecordError("boot flags magic", expected=MAGIC.hex(), got=magic.hex())
    if version != FORMAT:
        raise RecordError("boot flags format", expected=FORMAT, got=version)
    if data[-32:] != hashlib.sha256(data[:-32]).digest():
        raise RecordError("boot flags checksum", expected="one that fits", got="another")
    if count != components:
        raise RecordError("boot flags components", expected=components, got=count)
    images = tuple(_decode_image(data, _HEADER.size + at * _IMAGE.size) for at in range(components))
    record = BootRecord(images, starts)
    try:
        canonical = encode_record(sequence, record) == data
    except MisuseError as error:
        raise RecordError("boot flags", expected="values in range", got=str(error)) from error
    if not canonical:
        raise RecordError("boot flags", expected="zeros in unused fields", got="something else")
    return sequence, record


def _encode_image(image: ImageFlags) -> bytes:
    mark, failed = image.mark, image.failed
    if any(slot not in (0, 1) for slot in (image.primary, image.wanted, image.confirmed or 0)):
        raise MisuseError(f"boot flags: slots {image.confirmed}, {image.primary}, {image.wanted}")
    if mark and not (len(mark.sha256) == 32 and 0 < mark.length <= MAX_LENGTH):
        raise MisuseError(f"boot flags: a mark of {len(mark.sha256)} bytes of hash and length {mark.length}")
    if failed is not None and len(failed) != 32:
        raise MisuseError(f"boot flags: a failed hash of {len(failed)} bytes")
    exchanged = image.primary != image.wanted
    if (image.permanent and not mark) or (image.moving and not exchanged):
        raise MisuseError("boot flags: a permanent mark without a mark, or sectors that move without an exchange")
    if not (0 < image.sectors <= MAX_SWAP_SECTORS if exchanged else image.sectors == 0):
        raise MisuseError(f"boot flags: {image.sectors} sectors of {'an' if exchanged else 'no'} exchange")
    bits = {
        _MARKED: mark,
        _FAILED: failed is not None,
        _PERMANENT: image.permanent,
        _PRIMARY: image.primary,
        _WANTED: image.wanted,
        _MOVING: image.moving,
        _SHIFTED: image.shifted,
    }
    return _IMAGE.pack(
        _NONE if image.confirmed is None else image.confirmed,
        sum(bit for bit, is_set in bits.items() if is_set),
        image.sectors,
        mark.length if mark else 0,
        mark.sha256 if mark else _NO_HASH,
        _NO_HASH if failed is None else failed,
    )


def _decode_image(data: bytes, offset: int) -> ImageFlags:
    confirmed, bits, sectors, length, marked, failed = _IMAGE.unpack_from(data, offset)
    return ImageFlags(
        confirmed=None if confirmed == _NONE else confirmed,
        mark=Mark(marked, length) if bits & _MARKED else None,
        failed=failed if bits & _FAILED else None,
        permanent=bool(bits & _PERMANENT),
        primary=int(bool(bits & _PRIMARY)),
        wanted=int(bool(bits & _WANTED)),
        moving=bool(bits & _MOVING),
        sectors=sectors,
        shifted=bool(bits & _SHIFTED),
    )


class FlagStore:
    """The two records over a flash. What was read or written last is remembered until `reload`, at each boot.

    Raises:
        MisuseError: the areas do not hold a record of so many components.
    """

    def __init__(self, flash: Flash, layout: Layout) -> None:
        self._areas = SimRecordAreas(flash, layout.flags)
        self._components = len(layout.slots)
        self._size = record_size(self._components)
        self._newest: tuple[int, int, BootRecord] | None = None
        if self._areas.size < self._size:
            raise MisuseError(f"boot flags: areas of expected {self._size} bytes, got {self._areas.size}")

    def reload(self) -> BootRecord:
        """Forget what was remembered; return what is stored.

        Raises:
            UnprovisionedError: something was written, and neither record can be read.
        """
        self._newest = None
        return self.record()

    def record(self) -> BootRecord:
        """Return what is stored; raises as `reload`."""
        if self._newest is None:
            self._newest = self._read()
        return self._newest[2]

    def write(self, record: BootRecord) -> BootRecord:
        """Store `record` over the one that was not read, if it differs from what is stored; return it.

        Raises:
            MisuseError: a value outside its range.
            UnprovisionedError: the flags cannot be read.
        """
        old = self.record()
        if record != old and self._newest:
            sequence, index, _ = self._newest
            self._newest = None
            self._put(1 - index, sequence + 1, record)
            self._newest = sequence + 1, 1 - index, record
        return record

    def provision(self, record: BootRecord) -> None:
        """Write the flags anew, whatever there was: an act of the factory, or of someone with the right to it.

        Not atomic: a cut leaves the old flags, none, or unreadable ones. Then provision again. Every later change is atomic.
        """
        self._newest = None
        self._areas.write(1, b"")
        self._put(0, 1, record)

    def _put(self, index: int, sequence: int, record: BootRecord) -> None:
        self._areas.write(index, encode_record(sequence, record))

    def _read(self) -> tuple[int, int, BootRecord]:
        """Sequence number, place and content of the record that counts."""
        found: list[tuple[int, int, BootRecord]] = []
        reasons: list[str] = []
        for index in (0, 1):
            try:
                sequence, record = decode_record(self._areas.read(index)[: self._size], self._components)
                found.append((sequence, index, record))
            except RecordError as error:
                reasons.append(str(error))
        if found:
            return max(found, key=lambda item: item[0])
        if self._areas.is_blank():
            return 0, 1, BootRecord((ImageFlags(),) * self._components)
        raise UnprovisionedError("boot flags", expected="a readable record", got=" and ".join(reasons))


class SimBootControl:
    """`BootControl` over the flags, for the agent, and `started`, for the bootloader alone.

    `keys` is the bootloader's list of image keys; None for a bootloader without one.

    Every change is one write of one record; a change to what already is, is none.
    """

    def __init__(self, store: FlagStore, keys: KeyList | None = None) -> None:
        self.store, self._keys = store, keys
        self._running: tuple[int, ...] = ()

    # --- for the agent: BootControl -----------------------------------------------------------------------------------

    def flags(self, component: int = 0) -> BootFlags:
        """Read the flags.

        Raises:
            MisuseError: this board has no such component.
            UnprovisionedError: something was written, and neither record can be read.
        """
        record = self.store.record()
        if not 0 <= component < len(record.images):
            raise MisuseError(f"component {component} of a board that has {len(record.images)}")
        image = record.images[component]
        running = self._running[component] if self._running else None
        return BootFlags(
            running=running,
            confirmed=image.confirmed,
            mark=image.mark,
            trial=running is not None and running != image.confirmed,
            starts=record.starts if image.mark else 0,
            failed=image.failed,
        )

    def set_marks(self, marks: Mapping[int, Mark]) -> None:
        """Ask for a trial of the other slots at the next boot: 1 - confirmed, or slot 0 where none is confirmed.

        Raises:
            MisuseError: a trial is under way, no or another component is marked, or a mark is out of range.
            UnprovisionedError: the flags cannot be read.
        """
        self._mark(marks, permanent=False)

    def set_permanent_marks(self, marks: Mapping[int, Mark]) -> None:
        """The same, of images that are confirmed as soon as they boot (MCUboot's permanent swap): for a factory, never for the agent."""
        self._mark(marks, permanent=True)

    def clear_marks(self) -> None:
        """Withdraw the marks; during a trial, end it at the next boot.

        Raises:
            UnprovisionedError: the flags cannot be read.
        """
        record = self.store.record()
        self.store.write(BootRecord(unmarked(record.images)))

    def confirm(self) -> None:
        """Make the running images the confirmed ones; nothing happens if they are.

        Raises:
            ConfirmError: nothing runs, or the trial was ended by `clear_marks`.
            UnprovisionedError: the flags cannot be read.
        """
        record = self.store.record()
        if not self._running:
            raise ConfirmError("confirmation", expected="a running image", got="recovery")
        tried = [image for image, slot in zip(record.images, self._running, strict=True) if slot != image.confirmed]
        if not tried:
            return
        if not all(image.mark for image in tried):
            raise ConfirmError(
                "confirmation", expected="a trial whose mark still stands", got="a mark that was cleared"
            )
        self.store.write(confirmed(record, self._running))

    def acknowledge_failure(self) -> None:
        """Forget `failed`.

        Raises:
            UnprovisionedError: the flags cannot be read.
        """
        record = self.store.record()
        self.store.write(replace(record, images=tuple(replace(image, failed=None) for image in record.images)))

    def accept_root(self, data: bytes) -> None:
        """Hand a root to the list of image keys; without one nothing happens. Raises as `KeyList.accept_root`."""
        if self._keys is not None:
            self._keys.accept_root(data)

    # --- for the bootloader -------------------------------------------------------------------------------------------

    def started(self, slots: Sequence[int]) -> None:
        """Say what runs from now on, by component; nothing is recovery."""
        self._running = tuple(slots)

    def _mark(self, marks: Mapping[int, Mark], *, permanent: bool) -> None:
        record = self.store.record()
        if any(self.flags(component).trial for component in range(len(record.images))):
            raise MisuseError("a trial is under way: nothing else can be marked")
        if not marks or not set(marks) <= set(range(len(record.images))):
            raise MisuseError(f"marks of components {sorted(marks)} on a board that has {len(record.images)}")
        images = (
            replace(image, mark=marks.get(component), permanent=permanent and component in marks)
            for component, image in enumerate(record.images)
        )
        self.store.write(BootRecord(tuple(images)))


def unmarked(images: Sequence[ImageFlags]) -> tuple[ImageFlags, ...]:
    """Return the flags of components without their marks."""
    return tuple(replace(image, mark=None, permanent=False) for image in images)


def confirmed(record: BootRecord, slots: Sequence[int]) -> BootRecord:
    """Return a record in which these slots are the confirmed ones and nothing is marked."""
    images = zip(unmarked(record.images), slots, strict=True)
    return BootRecord(tuple(replace(image, confirmed=slot) for image, slot in images))
