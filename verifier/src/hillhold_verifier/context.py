"""What the parts of the update logic share: state and its store, slots, boot flags, counter."""

from __future__ import annotations

from hillhold_verifier.errors import SlotError, UnprovisionedError
from hillhold_verifier.mcuboot import ReadAt
from hillhold_verifier.select import Installed
from hillhold_verifier.slots import BootControl, BootFlags, CounterStore, Slots
from hillhold_verifier.state import DeviceState, StateStore


class Context:
    """A device's state over what it stands on; raises `UnprovisionedError` at construction where it cannot be read."""

    def __init__(self, store: StateStore, slots: Slots, boot: BootControl, counter: CounterStore) -> None:
        self._store, self.slots, self.boot, self.counter = store, slots, boot, counter
        self._state = store.load()

    @property
    def state(self) -> DeviceState:
        """What the device remembers."""
        return self._state

    def save(self, state: DeviceState) -> None:
        """Write the state; only then is it what the device remembers."""
        self._store.save(state)
        self._state = state

    def room(self, state: DeviceState) -> int:
        """Return how many bytes `state` would leave free."""
        return self._store.room(state)

    @property
    def flags(self) -> BootFlags:
        """What the bootloader knows."""
        return self.boot.flags()

    @property
    def confirmed(self) -> Installed | None:
        """The release in the confirmed slot; None on a board that never confirmed one."""
        slot = self.flags.confirmed
        if slot is None:
            return None
        if (installed := self._state.slots[slot]) is None:
            raise UnprovisionedError("device state", expected="what the confirmed slot holds", got="nothing")
        return installed

    def other_slot(self) -> int:
        """Return the slot that may be written; raises `SlotError` during a trial, when it is the only way back."""
        flags = self.flags
        if flags.trial:
            raise SlotError("the other slot", expected="no trial under way", got="one: that slot is the only way back")
        return 0 if flags.confirmed is None else 1 - flags.confirmed

    def reader(self, slot: int) -> ReadAt:
        """Return what reads `slot`."""
        return lambda offset, length: self.slots.read(slot, offset, length)
