"""The one-way security counter: write-once entries in the flash's one-way region.

An entry is `max(8, unit)` bytes: the value (u32, big endian), its complement (u32), then erased bytes up to a whole unit.
Entries are appended; the counter is the highest valid value, or 0. A torn entry does not fit its complement, is ignored for ever
and costs its place: programming changes bits one way only, so a half-written pair never looks like another whole pair.

Value 0 is never written. When no place is left, raising fails before anything changes.
"""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.flash import Flash
from hillhold_verifier.errors import MisuseError, OperationalError

MAX_COUNTER: Final = 2**32 - 1
_PAIR: Final = 8


def entry_size(unit: int) -> int:
    """Return the bytes of an entry on a flash with this program unit."""
    return max(_PAIR, unit)


def encode_entry(value: int) -> bytes:
    """Return value and complement.

    Raises:
        MisuseError: not in 1..2**32-1.
    """
    if not 0 < value <= MAX_COUNTER:
        raise MisuseError(f"counter value {value}: not in 1 to {MAX_COUNTER}")
    return value.to_bytes(4, "big") + (MAX_COUNTER - value).to_bytes(4, "big")


def decode_entry(data: bytes) -> int | None:
    """Return the value of an entry, or None where it is blank, torn or too short."""
    value = int.from_bytes(data[:4], "big")
    return value if value > 0 and data[:_PAIR] == encode_entry(value) else None


class OtpCounter:
    """A `CounterStore` in the one-way region of a flash, of which each component has an equal part. Keeps nothing in memory."""

    def __init__(self, flash: Flash, component: int = 0, components: int = 1) -> None:
        self._flash, self._component = flash, component
        self._entry = entry_size(flash.geometry.unit)
        self._capacity = flash.geometry.otp // components // self._entry

    @property
    def capacity(self) -> int:
        """How many entries there is room for, in all."""
        return self._capacity

    @property
    def left(self) -> int:
        """How many more there is room for."""
        return sum(self._flash.is_blank(at, self._entry) for at in self._places())

    def value(self) -> int:
        """Return the counter."""
        places = self._places()
        data = self._flash.read(places.start, len(places) * self._entry)
        used = len(data.rstrip(bytes([self._flash.geometry.erased_value])))
        return max((decode_entry(data[at : at + _PAIR]) or 0 for at in range(0, used, self._entry)), default=0)

    def raise_to(self, value: int) -> None:
        """Append an entry, in one operation; a value that is not higher is ignored.

        Raises:
            OperationalError: all entries are used; nothing has changed.
            MisuseError: a value above 2**32-1.
        """
        if value <= self.value():
            return
        entry = encode_entry(value)
        free = next((at for at in self._places() if self._flash.is_blank(at, self._entry)), None)
        if free is None:
            raise OperationalError(
                f"the security counter cannot be raised to {value}: all {self.capacity} entries are used"
            )
        self._flash.program(free, entry.ljust(self._entry, bytes([self._flash.geometry.erased_value])))

    def _places(self) -> range:
        size = self._capacity * self._entry
        start = self._flash.geometry.size + self._component * size
        return range(start, start + size, self._entry)
