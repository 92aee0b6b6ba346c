"""Bugs that firmware has had, one each, planted into the parts of a board: what the power-cut explorer must find."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hillhold_bootsim.bootflags import BootRecord, FlagStore, ImageFlags, record_size
from hillhold_bootsim.bootloader import Booted, Bootloader
from hillhold_bootsim.layout import Partition
from hillhold_bootsim.powercut.machine import Design
from hillhold_bootsim.swap import Swapper
from hillhold_bootsim.trailer import Trailer
from hillhold_verifier.errors import RecordError
from hillhold_verifier.installer import Installer
from hillhold_verifier.mcuboot import Image, ImageKey, read_image
from hillhold_verifier.select import Installed
from hillhold_verifier.slots import BootControl, CounterStore, Mark, Slots
from hillhold_verifier.state import DeviceState, StateStore, Transfer, decode_record, encode_record
from hillhold_verifier.transfer import SlotTransfer


class MarksTooEarly(Installer):
    """Marks a slot when its transfer begins, not when it is complete."""

    def begin(self, digest: bytes, length: int, clock: int | None, component: int = 0) -> int:
        at = super().begin(digest, length, clock, component)
        if at == 0:
            self._context.boot.set_marks({component: Mark(digest, length)})
        return at

    def mark(self, clock: int | None) -> Any:
        return self.choose(clock).plan


class RaisesTheCounterTooEarly(Installer):
    """Burns the counter before the flags say that the image is confirmed."""

    def confirm(self, *, self_tested: bool) -> tuple[Installed, ...]:
        running = self.flags().running
        installed = None if running is None else self.held(0, running)
        if installed:
            self._context.counters[0].raise_to(installed.security_counter)
        return super().confirm(self_tested=self_tested)


class OneStateRecord(StateStore):
    """Writes the state over itself."""

    def save(self, state: DeviceState) -> None:
        self._at = 1
        super().save(state)


class OneFlagRecord(FlagStore):
    """Writes the boot flags over themselves."""

    def write(self, record: BootRecord) -> BootRecord:
        if record != self.record() and self._newest:
            self._newest = self._newest[0], 1, self._newest[2]
            return super().write(record)
        return record


class NoChecksum(FlagStore):
    """Takes for a record whatever begins like one."""

    def _read(self) -> tuple[int, int, BootRecord]:
        found: list[tuple[int, int, BootRecord]] = []
        for index in (0, 1):
            data = self._areas.read(index)[: record_size(1)]
            if data[:4] == b"HHbf":
                found.append((int.from_bytes(data[6:14], "big"), index, _unchecked(data)))
        return max(found, key=lambda item: item[0]) if found else super()._read()


def _unchecked(data: bytes) -> BootRecord:
    bits, length = data[17], int.from_bytes(data[20:24], "big")
    image = ImageFlags(
        confirmed=data[16] & 1 if data[16] != 0xFF else None,
        mark=Mark(data[24:56], length) if bits & 1 else None,
        failed=data[56:88] if bits & 2 else None,
        primary=bits >> 3 & 1,
        wanted=bits >> 4 & 1,
        moving=bool(bits >> 5 & 1),
        sectors=int.from_bytes(data[18:20], "big") if (bits >> 3 ^ bits >> 4) & 1 else 0,
        shifted=bool(bits >> 6 & 1),
    )
    return BootRecord((image,), data[14] if image.mark else 0)


class TrustsAHalfErasedSector(Swapper):
    """Does not erase what reads as erased."""

    def _clear(self, target: Partition) -> None:
        erased = bytes([self._flash.geometry.erased_value])
        if self._flash.read(target.offset, target.size) != erased * target.size:
            super()._clear(target)


class TrustsAStatusByItsValue(Swapper):
    """Takes a step for done if its status reads as written, as MCUboot does; so it writes a torn one again."""

    def _done(self, trailer: Trailer, image: ImageFlags) -> int:
        erased = bytes([self._flash.geometry.erased_value])
        for step in range(2 * image.sectors, 0, -1):
            if self._flash.read(trailer.status(step - 1), 1) != erased:
                return step
        return 0


class NeverResumes(Swapper):
    """Begins a swap that was interrupted from its start."""

    def _done(self, trailer: Trailer, image: ImageFlags) -> int:
        return 0


class NoCheckOnRevert(Bootloader):
    """Boots the confirmed image after a trial without looking at it."""

    def _verified(self, component: int, slot: int, keys: Sequence[ImageKey]) -> Booted:
        record = self._store.record()
        if record.marked or record.images[component].confirmed != slot:
            return super()._verified(component, slot, keys)
        read = self._reader(component, slot)
        image = read_image(read, self._slots[component].size)
        return Booted(slot, image, hashlib.sha256(read(0, image.length)).digest(), keys[0])


class SavesTooLate(Installer):
    """Stores what a slot holds only after it was marked."""

    def __init__(
        self, store: StateStore, slots: Sequence[Slots], boot: BootControl, counters: Sequence[CounterStore]
    ) -> None:
        super().__init__(store, slots, boot, counters)
        self._transfer = _LateTransfer(self._context)

    def mark(self, clock: int | None) -> Any:
        plan = super().mark(clock)
        self._context.save(self._context.state)
        return plan


class _LateTransfer(SlotTransfer):
    def _finish(self, transfer: Transfer) -> Installed:
        context = self._context
        slot = context.other_slot(transfer.component)
        self._writer, self._done = None, transfer.release
        context._state = replace(context.state.with_slot(slot, transfer.release), transfer=None)
        return transfer.release


class ErasesTheWayBack(Installer):
    """Makes room in the other slot as soon as an image is on trial."""

    def confirm(self, *, self_tested: bool) -> tuple[Installed, ...]:
        confirmed = self.flags().confirmed
        if confirmed is not None:
            slots = self._context.slots[0]
            slots.erase(confirmed, 0, slots.size)
        return super().confirm(self_tested=self_tested)


class NewerFormat(StateStore):
    """State of format 2, as the image of version 1.2 writes it; older images cannot read it."""

    newer = False

    def save(self, state: DeviceState) -> None:
        if not self.newer:
            super().save(state)
            return
        record = bytearray(encode_record(self._sequence + 1, state)[:-32])
        record[4:6] = (2).to_bytes(2, "big")
        self._areas.write(1 - self._at, bytes(record) + hashlib.sha256(record).digest())
        self._sequence, self._at = self._sequence + 1, 1 - self._at

    def _read(self, index: int) -> tuple[int, DeviceState]:
        try:
            return super()._read(index)
        except RecordError:
            data = bytearray(self._areas.read(index))
            if not self.newer or data[4:6] != b"\x00\x02":
                raise
            end = 18 + int.from_bytes(data[14:18], "big")
            data[4:6] = b"\x00\x01"
            data[end : end + 32] = hashlib.sha256(data[:end]).digest()
            return decode_record(bytes(data))


class WritesANewerFormat(Installer):
    """On trial, version 1.2 writes the state as only itself can read it."""

    def __init__(
        self, store: StateStore, slots: Sequence[Slots], boot: BootControl, counters: Sequence[CounterStore]
    ) -> None:
        running = boot.flags().running
        new = running is not None and _image(slots[0], running).version.minor >= 2
        if isinstance(store, NewerFormat):
            store.newer = new
        super().__init__(store, slots, boot, counters)
        if new:
            self._context.save(self._context.state)


def _image(slots: Slots, slot: int) -> Image:
    return read_image(lambda offset, length: slots.read(slot, offset, length), slots.size)


@dataclass(frozen=True)
class Bug:
    """A planted bug, and the boot modes in which it can do harm."""

    words: str
    design: Design
    modes: tuple[str, ...] = ("remap", "swap")


BUGS = {
    "marked too early": Bug("marked before the write completes", Design(installer=MarksTooEarly)),
    "counter too early": Bug("counter raised before confirmation", Design(installer=RaisesTheCounterTooEarly)),
    "one state record": Bug("one state record instead of two", Design(store=OneStateRecord)),
    "one flag record": Bug("one record of boot flags instead of two", Design(flags=OneFlagRecord)),
    "no checksum": Bug("boot flags without a checksum", Design(flags=NoChecksum)),
    "half-erased": Bug("a half-erased sector trusted", Design(swapper=TrustsAHalfErasedSector), ("swap",)),
    "status by value": Bug("a status told by its value", Design(swapper=TrustsAStatusByItsValue), ("swap",)),
    "no resume": Bug("a swap that does not resume", Design(swapper=NeverResumes), ("swap",)),
    "no check on revert": Bug("no image check on revert", Design(bootloader=NoCheckOnRevert)),
    "saved too late": Bug("state written after the act", Design(installer=SavesTooLate)),
    "way back erased": Bug("the other slot erased during a trial", Design(installer=ErasesTheWayBack)),
    "newer format": Bug(
        "an unconfirmed image that writes a newer state format",
        Design(installer=WritesANewerFormat, store=NewerFormat),
    ),
}

FORGETFUL = BUGS["no resume"].design
