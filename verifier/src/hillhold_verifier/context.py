"""What the parts of the update logic share: state and its store, slots, boot flags, counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hillhold_verifier.errors import MisuseError, SlotError, UnprovisionedError
from hillhold_verifier.mcuboot import ReadAt
from hillhold_verifier.select import Installed, withdrawn
from hillhold_verifier.slots import BootControl, CounterStore, Mark, Slots
from hillhold_verifier.state import DeviceState, StateStore


class Context:
    """A device's state over what it stands on; `slots` and `counters` are by component.

    Raises (at construction):
        UnprovisionedError: the state cannot be read.
        MisuseError: it is that of a device with another number of components.
    """

    def __init__(
        self, store: StateStore, slots: Sequence[Slots], boot: BootControl, counters: Sequence[CounterStore]
    ) -> None:
        self._store, self.slots, self.boot, self.counters = store, slots, boot, counters
        self._state = store.load()
        names = self._state.device.components
        if not len(names) == len(slots) == len(counters):
            raise MisuseError(f"components {', '.join(names)}: {len(slots)} slot pairs and {len(counters)} counters")

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
    def components(self) -> range:
        """The numbers of the components."""
        return range(len(self.slots))

    @property
    def on_trial(self) -> bool:
        """An image of some component is unconfirmed: nothing may be written, the other slots are the way back."""
        return any(self.boot.flags(component).trial for component in self.components)

    @property
    def marks(self) -> Mapping[int, Mark]:
        """The marks, by component."""
        found = ((component, self.boot.flags(component).mark) for component in self.components)
        return {component: mark for component, mark in found if mark}

    def held(self, component: int, slot: int) -> Installed | None:
        """What a slot is known to hold whole."""
        return self._state.slots[2 * component + slot]

    def confirmed(self, component: int) -> Installed | None:
        """The release in the confirmed slot; None on a board that never confirmed one."""
        slot = self.boot.flags(component).confirmed
        if slot is None:
            return None
        if (installed := self.held(component, slot)) is None:
            raise UnprovisionedError("device state", expected="what the confirmed slot holds", got="nothing")
        return installed

    def security_counter(self, component: int) -> int:
        """The higher of the counter store's and the confirmed image's."""
        confirmed = self.confirmed(component)
        return max(self.counters[component].value(), confirmed.security_counter if confirmed else 0)

    def status(self) -> dict[str, object]:
        """What the device runs and trusts: component 0 at the top, the others in `more`."""
        state = self._state
        first, *more = map(self._component, self.components)
        return {
            **first,
            "trial": self.on_trial,
            "failed": len(state.failed),
            "root": state.trust.root.signed.version,
            "time": state.trust.now(None),
            "transfer": state.transfer.path if state.transfer else None,
            "more": more,
        }

    def _component(self, number: int) -> dict[str, object]:
        flags = self.boot.flags(number)
        running = self.held(number, flags.running) if flags.running is not None else None
        confirmed = self.confirmed(number)
        held = [self.held(number, slot) for slot in (0, 1)]
        marked = flags.mark and next((item for item in held if item and item.sha256 == flags.mark.sha256), None)
        return {
            "running": [str(running.version), running.sha256] if running else None,
            "confirmed": [str(confirmed.version), confirmed.sha256] if confirmed else None,
            "marked": str(marked.version) if marked else None,
            "starts": flags.starts,
            "counter": self.security_counter(number),
            "withdrawn": running is not None
            and running.sha256 in withdrawn(self._state.trust.line, self._state.device),
        }

    def other_slot(self, component: int) -> int:
        """Return the slot that may be written; raises `SlotError` during a trial, when it is the only way back."""
        if self.on_trial:
            raise SlotError("the other slot", expected="no trial under way", got="one: that slot is the only way back")
        confirmed = self.boot.flags(component).confirmed
        return 0 if confirmed is None else 1 - confirmed

    def reader(self, component: int, slot: int) -> ReadAt:
        """Return what reads a slot."""
        return lambda offset, length: self.slots[component].read(slot, offset, length)
