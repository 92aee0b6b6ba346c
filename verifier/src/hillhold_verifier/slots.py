"""What a board gives the agent: image slots, boot flags, a counter and two record areas.

Thin interfaces, so that the same agent runs over simulated flash, over block devices and U-Boot's environment, or over MCUboot's
trailers. An implementation raises `OperationalError` where its medium fails; it makes no decision about trust.

A device has one or more components (MCUboot's images), each with two slots and a counter of its own. What is installed together is one
trial: all marked in one write, confirmed in one write, or all go back.

"Mark" is the request to try the other slot once (MCUboot's pending, "test"). It names the hash of the slot's content, and the
bootloader tries a slot only if its content has that hash (DESIGN §4, "Trial").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mark:
    """The content that the bootloader may try once: SHA-256 over the first `length` bytes of the other slot."""

    sha256: bytes
    length: int


@dataclass(frozen=True, slots=True)
class BootFlags:
    """What the bootloader knows of one component, and is the truth about what boots.

    Attributes:
        running: slot that runs now, or None in recovery (no slot holds an image that verifies).
        confirmed: slot that boots when nothing is marked, or None on a board that never confirmed an image.
        mark: what the other slot is marked with; stays set during the trial of that image.
        trial: the running image is unconfirmed.
        starts: how often the trial of `mark` was started.
        failed: hash whose trial failed by its own test or the watchdog (never by loss of power), until acknowledged.
    """

    running: int | None
    confirmed: int | None
    mark: Mark | None = None
    trial: bool = False
    starts: int = 0
    failed: bytes | None = None


class Slots(Protocol):
    """Two image slots, 0 and 1. Offsets and lengths in bytes."""

    @property
    def size(self) -> int:
        """Usable bytes of either slot."""

    @property
    def sector(self) -> int:
        """Erase granularity; offsets and lengths of `erase` are multiples of it."""

    @property
    def unit(self) -> int:
        """Program granularity; offsets and lengths of `write` are multiples of it."""

    @property
    def erased_value(self) -> int:
        """The value of an erased byte, 0xFF or 0x00."""

    def read(self, slot: int, offset: int, length: int) -> bytes:
        """Return `length` bytes."""

    def erase(self, slot: int, offset: int, length: int) -> None:
        """Erase whole sectors."""

    def write(self, slot: int, offset: int, data: bytes) -> None:
        """Program whole units that were erased before."""


class BootControl(Protocol):
    """The bootloader's flags. Every change is one atomic write: a cut leaves the old flags or the new ones, of all components."""

    def flags(self, component: int = 0) -> BootFlags:
        """Read the flags of a component, by its number."""

    def set_marks(self, marks: Mapping[int, Mark]) -> None:
        """Ask for one trial, at the next boot, of the other slots of these components; no other is marked then."""

    def clear_marks(self) -> None:
        """Withdraw that request; during a trial, end it at the next boot."""

    def confirm(self) -> None:
        """Make the running images the confirmed ones (for the application only, after its own test)."""

    def acknowledge_failure(self) -> None:
        """Forget `failed`, after the agent has recorded it."""

    def accept_root(self, data: bytes) -> None:
        """Hand the bootloader a root that the device has verified, before the device relies on it.

        A bootloader with a list of image keys verifies the root itself; what it holds already changes nothing there. One without a list
        ignores it. Where it raises a `Refused`, the device refuses the root with the same words.
        """


class CounterStore(Protocol):
    """The one-way security counter (MCUboot's anti-rollback counter)."""

    def value(self) -> int:
        """Read the counter."""

    def raise_to(self, value: int) -> None:
        """Raise the counter; a lower value is ignored."""


class RecordAreas(Protocol):
    """Two areas for state records, 0 and 1, each written whole."""

    @property
    def size(self) -> int:
        """Bytes of either area."""

    def read(self, index: int) -> bytes:
        """Return the area's content (it may be erased or torn)."""

    def write(self, index: int, data: bytes) -> None:
        """Replace the area's content; not atomic."""
