"""What the bootloader does at a reset, in `remap` mode: one image runs from either slot, nothing is copied (DESIGN §4, "Trial"; §6).

    flags unreadable ─────────────────────────────────────────► recovery
    a mark?
      its trial failed by its own test or the watchdog ───────► clear the mark, record the hash as failed; boot the confirmed image
      its trial was started MAX_TRIAL_STARTS times ───────────► clear the mark, without failing the hash;   boot the confirmed image
      the other slot does not hold what was marked, or that
      is not to be trusted ───────────────────────────────────► clear the mark, without failing the hash;   boot the confirmed image
      else ───────────────────────────────────────────────────► record one more start, then boot the other slot on trial
    no mark: the confirmed image is to be trusted ────────────► raise the counter store to its counter; boot it
             else ────────────────────────────────────────────► recovery

"To be trusted", judged anew at every boot: a whole MCUboot image whose hash and signature verify under a held key, and whose security
counter is not below the device's, which is the higher of the store's and the confirmed image's. What a trial boots must besides be the
marked bytes: SHA-256 over the marked length, which is the image's own. No image is ever booted for want of a better one.

A cut before a record is written leaves the flags as they were, and the next boot decides again; a failed test that is forgotten that
way fails again, within the same bound of starts. Only a confirmed boot raises the counter store, so it never gets ahead of a confirmation.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from hillhold_bootsim.bootflags import BootRecord, SimBootControl
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
    """An image that was verified at this boot: its slot, header, and SHA-256 over all its bytes (as marks and TUF name it)."""

    slot: int
    image: Image
    sha256: bytes


@dataclass(frozen=True, slots=True)
class BootOutcome:
    """What a boot came to.

    Attributes:
        booted: what runs now, or None in recovery.
        trial: it is unconfirmed.
        events: what was refused, reverted or failed on the way, in words.
    """

    booted: Booted | None
    trial: bool = False
    events: tuple[str, ...] = ()


def boot(
    slots: Slots, control: SimBootControl, counter: CounterStore, keys: Sequence[ImageKey], reason: ResetReason
) -> BootOutcome:
    """Decide what runs, write what has to be written before that, and start it.

    Args:
        slots: the image slots.
        control: the boot flags; told what was started.
        counter: the security counter's store.
        keys: the image keys that the bootloader holds.
        reason: why the board was reset.

    Raises:
        PowerLost: the power went meanwhile.
    """
    control.started(None)
    try:
        record = control.record()
    except Refused as error:
        return BootOutcome(None, events=(f"recovery: {error}",))
    events: list[str] = []
    confirmed = _confirmed(slots, record, counter, keys, events)
    if record.mark is not None:
        ended, failed = _ended(record, reason)
        try:
            if ended:
                raise MismatchError(ended)
            floor = max(counter.value(), _counter(confirmed))
            trial = _marked(slots, _other(record), record.mark, floor, keys)
        except Refused as error:
            events.append(f"no trial: {error}")
            last = record.mark.sha256 if failed else record.failed
            control.write(replace(record, mark=None, starts=0, failed=last))
        else:
            control.write(replace(record, starts=record.starts + 1))
            control.started(trial.slot)
            return BootOutcome(trial, trial=True, events=tuple(events))
    if confirmed is None:
        return BootOutcome(None, events=(*events, "recovery: no confirmed image to be trusted"))
    try:
        counter.raise_to(_counter(confirmed))
    except OperationalError as error:
        # The image's own counter holds the floor meanwhile; a store that is full must not brick the board.
        events.append(f"counter: {error}")
    control.started(confirmed.slot)
    return BootOutcome(confirmed, events=tuple(events))


def _ended(record: BootRecord, reason: ResetReason) -> tuple[str, bool]:
    """Say why the trial is over, if it is, and whether its image failed. A trial that was never started cannot have failed."""
    if record.starts > 0 and reason in (ResetReason.WATCHDOG, ResetReason.SELF_TEST):
        return f"the image failed it ({reason.value})", True
    if record.starts >= MAX_TRIAL_STARTS:
        return f"it was started {record.starts} times without an end", False
    return "", False


def _other(record: BootRecord) -> int:
    return 0 if record.confirmed is None else 1 - record.confirmed


def _confirmed(
    slots: Slots, record: BootRecord, counter: CounterStore, keys: Sequence[ImageKey], events: list[str]
) -> Booted | None:
    if record.confirmed is None:
        return None
    try:
        return _trusted(slots, record.confirmed, counter.value(), keys)
    except Refused as error:
        events.append(f"confirmed slot {record.confirmed}: {error}")
        return None


def _marked(slots: Slots, slot: int, mark: Mark, floor: int, keys: Sequence[ImageKey]) -> Booted:
    """The content of the other slot, if it is the marked image and to be trusted."""
    if mark.length > slots.size:
        raise MismatchError("marked length", expected=f"at most {slots.size}", got=mark.length)
    found = _sha256(_reader(slots, slot), mark.length)
    if not hmac.compare_digest(found, mark.sha256):
        raise MismatchError("content of the marked slot", expected=mark.sha256.hex(), got=found.hex())
    booted = _trusted(slots, slot, floor, keys)
    if booted.image.length != mark.length:
        raise MismatchError("length of the marked image", expected=mark.length, got=booted.image.length)
    return booted


def _trusted(slots: Slots, slot: int, floor: int, keys: Sequence[ImageKey]) -> Booted:
    """Verify the image in a slot.

    Raises:
        ImageError, ImageSignatureError, CounterError: why it is not to be trusted.
    """
    read = _reader(slots, slot)
    image = read_image(read, slots.size)
    verify_image(image, read, keys)
    booted = Booted(slot, image, _sha256(read, image.length))
    if _counter(booted) < floor:
        raise CounterError("security counter", expected=f"at least {floor}", got=_counter(booted))
    return booted


def _counter(booted: Booted | None) -> int:
    return (booted.image.security_counter or 0) if booted else 0


def _reader(slots: Slots, slot: int) -> ReadAt:
    return lambda offset, length: slots.read(slot, offset, length)


def _sha256(read: ReadAt, length: int) -> bytes:
    digest = hashlib.sha256()
    for offset in range(0, length, HASH_CHUNK):
        digest.update(read(offset, min(HASH_CHUNK, length - offset)))
    return digest.digest()
