"""What the bootloader does at a reset (DESIGN §4, "Trial"; §6).

    flags unreadable ─────────────────────────────────────────► recovery
    the flash fails ──────────────────────────────────────────► boot the confirmed images, if that needs no write; else recovery
    an exchange of slots was begun (swap mode) ───────────────► finish it, whatever is in them; then judge
    a mark?
      its trial failed by its own test or the watchdog ───────► clear the marks, record the hashes as failed; go back
      its trial was started MAX_TRIAL_STARTS times ───────────► clear the marks, without failing the hashes;  go back
      another slot does not hold what was marked, or that is
      not to be trusted, or its dependencies are not met ─────► clear the marks, without failing the hashes;  go back
      it is not where it runs (swap mode) ────────────────────► exchange the slots; judge again
      else ───────────────────────────────────────────────────► record one more start, then boot on trial
    no mark: a confirmed image is not where it runs ──────────► exchange the slots (swap mode); judge again
             the confirmed images are to be trusted ──────────► revocations take effect, counters follow; boot them
             else ────────────────────────────────────────────► recovery

"To be trusted", judged anew at every boot: a whole MCUboot image whose hash and signature verify under an accepted key, and whose security
counter is not below the device's, which is the higher of the store's and the confirmed image's. What a trial boots must besides be the
marked bytes: SHA-256 over the marked length, which is the image's own. No image is ever booted for want of a better one. The images of all
components are tried together, confirmed together, or go back together.

A cut before a record is written leaves the flags as they were, and the next boot decides again; a failed test that is forgotten that
way fails again, within the same bound of starts. Only a confirmed boot raises a counter, so it never gets ahead of a confirmation.

All that a boot does follows from flash and reset reason; where `checkpoint` is called, the rest of it follows from flash, reason and tag.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol

from hillhold_bootsim.bootflags import BootRecord, SimBootControl, confirmed, unmarked
from hillhold_bootsim.flash import FlashFailedError
from hillhold_bootsim.swap import Checkpoint, Swapper
from hillhold_verifier.errors import (
    CounterError,
    MismatchError,
    OperationalError,
    Refused,
)
from hillhold_verifier.mcuboot import Image, ImageKey, ReadAt, read_image, verify_image
from hillhold_verifier.slots import CounterStore, Mark, Slots

MAX_TRIAL_STARTS: Final = 4
"""Starts of one trial: it survives three losses of power, and a supply that fails under load does not hold the board for ever."""
HASH_CHUNK: Final = 4096
"""Bytes that are read at a time."""


class ResetReason(Enum):
    """Why the board was reset, as its reset controller tells."""

    POWER_ON = "power-on"
    SOFT = "soft"
    WATCHDOG = "watchdog"
    SELF_TEST = "self-test"


@dataclass(frozen=True, slots=True)
class Booted:
    """An image that was verified at this boot: its slot, header, key, and SHA-256 over all its bytes (as marks and TUF name it)."""

    slot: int
    image: Image
    sha256: bytes
    key: ImageKey

    @property
    def counter(self) -> int:
        """Its security counter, 0 where it has none."""
        return self.image.security_counter or 0


@dataclass(frozen=True, slots=True)
class BootOutcome:
    """What a boot came to.

    Attributes:
        images: what runs now, by component; nothing in recovery.
        trial: some of it is unconfirmed.
        events: what was refused, reverted or failed on the way, in words.
    """

    images: tuple[Booted, ...] = ()
    trial: bool = False
    events: tuple[str, ...] = ()

    @property
    def booted(self) -> Booted | None:
        """The image of component 0, or None in recovery."""
        return self.images[0] if self.images else None


class AcceptedKeys(Protocol):
    """The image keys that a bootloader accepts."""

    def keys(self) -> tuple[ImageKey, ...]:
        """Return those that it accepts now."""

    def settle(self, used: Sequence[ImageKey], /) -> Sequence[str]:
        """Take note that the confirmed images verified under these; return what that changed, in words."""


class FixedKeys:
    """Keys that are never revoked."""

    def __init__(self, keys: Sequence[ImageKey]) -> None:
        self._keys = tuple(keys)

    def keys(self) -> tuple[ImageKey, ...]:
        """Return all of them."""
        return self._keys

    def settle(self, _used: Sequence[ImageKey], /) -> Sequence[str]:
        """Nothing changes."""
        return ()


def no_checkpoint(_tag: Hashable) -> None:
    """Nothing looks on."""


class Bootloader:
    """The bootloader of one board.

    Args:
        control: the boot flags; told what was started.
        slots: the image slots of each component.
        counters: the security counter's store of each component.
        keys: the image keys that it accepts.
        swapper: exchanges slots; None in `remap` mode, where every slot runs where it lies.
        checkpoint: called where all that follows depends on flash, reset reason and tag alone.
    """

    max_starts = MAX_TRIAL_STARTS

    def __init__(
        self,
        control: SimBootControl,
        slots: Sequence[Slots],
        counters: Sequence[CounterStore],
        keys: AcceptedKeys,
        swapper: Swapper | None = None,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._control, self._store = control, control.store
        self._slots, self._counters, self._keys = tuple(slots), tuple(counters), keys
        self._swapper, self._checkpoint = swapper, checkpoint

    def boot(self, reason: ResetReason) -> BootOutcome:
        """Decide what runs, write what has to be written before that, and start it.

        Args:
            reason: why the board was reset.

        Raises:
            PowerLost: the power went meanwhile.
        """
        try:
            return self._boot(reason)
        except FlashFailedError as error:
            return self._boot_as_it_is(f"flash: {error}")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _boot(self, reason: ResetReason) -> BootOutcome:
        self._control.started(())
        try:
            record = self._store.reload()
            keys = self._keys.keys()
        except Refused as error:
            return BootOutcome(events=(f"recovery: {error}",))
        events: list[str] = []
        while True:
            self._checkpoint(("boot",))
            record = self._arrange(record)
            notes: list[str] = []
            held = self._confirmed(record, keys, notes)
            if not record.marked:
                back = self._wanting(record, [image.confirmed for image in record.images])
                if back == record:
                    return self._start_confirmed(held, [*events, *notes])
                # The mark of a trial was cleared while its image ran.
                record = self._store.write(back)
                continue
            failed = record.starts > 0 and reason in (ResetReason.WATCHDOG, ResetReason.SELF_TEST)
            try:
                if failed:
                    raise MismatchError(f"the image failed it ({reason.value})")
                trial = self._judge(record, held, keys)
            except Refused as error:
                events.append(f"no trial: {error}")
                record = self._store.write(self._going_back(record, failed=failed))
                continue
            slots = [booted.slot for booted in trial]
            if any(image.primary != slot for image, slot in zip(record.images, slots, strict=True)) and self._swapper:
                record = self._store.write(self._wanting(record, slots))
            elif any(image.permanent for image in record.images):
                record = self._store.write(confirmed(record, slots))
            else:
                self._store.write(replace(record, starts=record.starts + 1))
                self._control.started(slots)
                return BootOutcome(trial, trial=True, events=(*events, *notes))

    def _boot_as_it_is(self, event: str) -> BootOutcome:
        """Boot the confirmed images without a write, where they lie whole where they run."""
        try:
            record, keys = self._store.reload(), self._keys.keys()
            notes: list[str] = []
            images = tuple(booted for booted in self._confirmed(record, keys, notes) if booted)
            if self._swapper and any(not image.primary == image.wanted == image.confirmed for image in record.images):
                raise MismatchError("the confirmed images do not lie where they run")
            if len(images) < len(record.images):
                raise MismatchError("no confirmed image to be trusted")
            self._check_dependencies(images)
        except Refused as error:
            return BootOutcome(events=(event, f"recovery: {error}"))
        self._control.started([booted.slot for booted in images])
        return BootOutcome(images, events=(event, *notes))

    def _arrange(self, record: BootRecord) -> BootRecord:
        """Finish what exchanges were begun."""
        for component, image in enumerate(record.images):
            if self._swapper and image.wanted != image.primary:
                record = self._swapper.exchange(component, record)
        return record

    def _wanting(self, record: BootRecord, slots: Sequence[int | None]) -> BootRecord:
        """The record that asks for these slots' images where they run."""
        for component, slot in enumerate(slots):
            if self._swapper and slot is not None:
                record = record.with_image(component, self._swapper.wanting(component, record.images[component], slot))
        return record

    def _going_back(self, record: BootRecord, *, failed: bool) -> BootRecord:
        """The record that ends a trial, and asks for the confirmed images where they run."""
        images = tuple(
            replace(image, failed=old.mark.sha256 if failed and old.mark else old.failed)
            for image, old in zip(unmarked(record.images), record.images, strict=True)
        )
        return self._wanting(BootRecord(images), [image.confirmed for image in images])

    def _confirmed(self, record: BootRecord, keys: Sequence[ImageKey], events: list[str]) -> tuple[Booted | None, ...]:
        """The confirmed images, where they are to be trusted."""
        found: list[Booted | None] = []
        for component, image in enumerate(record.images):
            booted = None
            if image.confirmed is not None:
                try:
                    booted = self._trusted(component, image.confirmed, self._counters[component].value(), keys)
                except Refused as error:
                    events.append(f"confirmed slot {image.confirmed}{self._of(component)}: {error}")
            found.append(booted)
        return tuple(found)

    def _start_confirmed(self, held: Sequence[Booted | None], events: list[str]) -> BootOutcome:
        """Boot the confirmed images, or nothing."""
        images = tuple(booted for booted in held if booted)
        try:
            if len(images) < len(held):
                raise MismatchError("no confirmed image to be trusted")
            self._check_dependencies(images)
        except Refused as error:
            return BootOutcome(events=(*events, f"recovery: {error}"))
        events += self._keys.settle([booted.key for booted in images])
        for component, booted in enumerate(images):
            try:
                self._counters[component].raise_to(booted.counter)
            except OperationalError as error:
                # The image's own counter holds the floor meanwhile; a store that is full must not brick the board.
                events.append(f"counter{self._of(component)}: {error}")
            if self._swapper:
                self._swapper.note_confirmed(component)
        self._control.started([booted.slot for booted in images])
        return BootOutcome(images, events=tuple(events))

    def _judge(self, record: BootRecord, held: Sequence[Booted | None], keys: Sequence[ImageKey]) -> tuple[Booted, ...]:
        """The images of a trial: what is marked, and what is confirmed of the components that are not."""
        if record.starts >= self.max_starts:
            raise MismatchError(f"it was started {record.starts} times without an end")
        found: list[Booted] = []
        for component, image in enumerate(record.images):
            booted = held[component]
            if image.mark is not None:
                floor = max(self._counters[component].value(), booted.counter if booted else 0)
                booted = self._marked(component, image.other, image.mark, floor, keys)
            if booted is None:
                raise MismatchError(f"no image to be trusted{self._of(component)}")
            found.append(booted)
        self._check_dependencies(found)
        return tuple(found)

    def _marked(self, component: int, slot: int, mark: Mark, floor: int, keys: Sequence[ImageKey]) -> Booted:
        """The content of the other slot, if it is the marked image and to be trusted."""
        size = self._slots[component].size
        if mark.length > size:
            raise MismatchError("marked length", expected=f"at most {size}", got=mark.length)
        found = self._content(component, slot, mark.length)
        if not hmac.compare_digest(found, mark.sha256):
            raise MismatchError("content of the marked slot", expected=mark.sha256.hex(), got=found.hex())
        booted = self._trusted(component, slot, floor, keys)
        if booted.image.length != mark.length:
            raise MismatchError("length of the marked image", expected=mark.length, got=booted.image.length)
        return booted

    def _trusted(self, component: int, slot: int, floor: int, keys: Sequence[ImageKey]) -> Booted:
        """Verify the image in a slot.

        Raises:
            ImageError, ImageSignatureError, CounterError: why it is not to be trusted.
        """
        booted = self._verified(component, slot, keys)
        if booted.counter < floor:
            raise CounterError("security counter", expected=f"at least {floor}", got=booted.counter)
        return booted

    def _verified(self, component: int, slot: int, keys: Sequence[ImageKey]) -> Booted:
        """Read and verify the image in a slot: what follows from its content and the keys alone."""
        read = self._reader(component, slot)
        image = read_image(read, self._slots[component].size)
        key = verify_image(image, read, keys)
        return Booted(slot, image, _sha256(read, image.length), key)

    def _content(self, component: int, slot: int, length: int) -> bytes:
        """SHA-256 of what a slot begins with."""
        return _sha256(self._reader(component, slot), length)

    def _check_dependencies(self, images: Sequence[Booted]) -> None:
        """What each image asks of the versions of the others holds (MCUboot: `boot_verify_slot_dependencies`)."""
        for component, booted in enumerate(images):
            for dependency in booted.image.dependencies:
                found = images[dependency.image].image.version if dependency.image < len(images) else None
                if found is None or found < dependency.least:
                    what = f"image {dependency.image}, on which that of component {component} depends"
                    raise MismatchError(what, expected=f"at least {dependency.least}", got=found or "none")

    def _reader(self, component: int, slot: int) -> ReadAt:
        return lambda offset, length: self._slots[component].read(slot, offset, length)

    def _of(self, component: int) -> str:
        return f" of component {component}" if len(self._slots) > 1 else ""


def _sha256(read: ReadAt, length: int) -> bytes:
    digest = hashlib.sha256()
    for offset in range(0, length, HASH_CHUNK):
        digest.update(read(offset, min(HASH_CHUNK, length - offset)))
    return digest.digest()
