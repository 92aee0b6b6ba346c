"""From authenticated metadata to a marked slot, and from a trial to a confirmed image: the acts of DESIGN §4, whoever asks for them.

Transport-free: the board's agent calls it for what comes over SMP. What must hold at each act:

- State is written before the act that depends on it; writing or erasing a slot clears its mark first.
- Only what the device itself chose, or a patch that makes it, may be written to the other slot; marking repeats the choice.
- During a trial the other slots are the only way back: nothing erases or writes them.
- A new root is the bootloader's before it is the device's; one that the bootloader refuses is refused.
- What is installed together is marked in one write, confirmed in one write of the bootloader's, or goes back; the counters follow a
  confirmation, and never go before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from hillhold_verifier.context import Context
from hillhold_verifier.errors import (
    ConfirmError,
    MisuseError,
    OperationalError,
    OrderError,
    SelectionError,
    SpaceError,
    TransferError,
    UnprovisionedError,
    short,
)
from hillhold_verifier.header import check_header
from hillhold_verifier.keys import SCHEMES, usable_schemes
from hillhold_verifier.mcuboot import ReadAt
from hillhold_verifier.metadata import ROOT, Envelope, parse_root
from hillhold_verifier.patch import ALGORITHM
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.roles import Targets
from hillhold_verifier.select import Device, Installed, Selection, select, trial_id, withdrawn
from hillhold_verifier.session import Need, UpdateSession
from hillhold_verifier.slots import BootControl, BootFlags, CounterStore, Mark, Slots
from hillhold_verifier.state import RESERVE, DeviceState, StateStore, Transfer
from hillhold_verifier.transfer import SlotTransfer
from hillhold_verifier.trust import Trust, current, verify


def provision(store: StateStore, device: Device, root: bytes, slots: tuple[Installed | None, ...] = ()) -> DeviceState:
    """Write the first state: what the device is, the root it trusts from then on, and what its slots hold (by default nothing).

    Raises:
        MetadataError, SignatureError: not a root, or one that its own quorum did not sign.
        MisuseError: no component, one named twice, or another number of slots than two for each.
    """
    if not device.components or len(set(device.components)) != len(device.components):
        raise MisuseError(f"components of a device: expected distinct names, got {device.components}")
    slots = slots or (None, None) * len(device.components)
    if len(slots) != 2 * len(device.components):
        raise MisuseError(f"slots of a device: expected two for each component, got {len(slots)}")
    envelope = parse_root(root)
    verify(envelope, ROOT, envelope.signed.roles[ROOT], envelope.signed.keys)
    with suppress(UnprovisionedError):
        store.load()  # a state that is still there is outnumbered
    state = DeviceState(device, Trust(envelope), slots, schemes=usable_schemes())
    store.save(state)
    return state


class Installer:
    """A device's update logic over its store, boot flags, and the slots and counter of each component.

    Raises (at construction):
        UnprovisionedError: the state cannot be read.
        MisuseError: slots or counters are not as many as the device has components.
    """

    def __init__(
        self, store: StateStore, slots: Sequence[Slots], boot: BootControl, counters: Sequence[CounterStore]
    ) -> None:
        self._context = Context(store, slots, boot, counters)
        self._transfer = SlotTransfer(self._context)
        self._reconcile()

    @property
    def state(self) -> DeviceState:
        """What the device remembers."""
        return self._context.state

    def flags(self, component: int = 0) -> BootFlags:
        """What the bootloader knows of a component."""
        return self._context.boot.flags(component)

    def status(self) -> dict[str, object]:
        """What the device runs and trusts; as `Context.status`."""
        return self._context.status()

    @property
    def on_trial(self) -> bool:
        """Some running image is unconfirmed."""
        return self._context.on_trial

    @property
    def trial_ended(self) -> bool:
        """A trial is under way whose mark was cleared: the next boot goes back."""
        return self.on_trial and not self._context.marks

    def security_counter(self, component: int = 0) -> int:
        """The higher of the counter store's and the confirmed image's."""
        return self._context.security_counter(component)

    def confirmed(self, component: int) -> Installed | None:
        """The release in the confirmed slot; None on a board that never confirmed one."""
        return self._context.confirmed(component)

    def held(self, component: int, slot: int) -> Installed | None:
        """The release that a slot is known to hold whole."""
        return self._context.held(component, slot)

    def read_slot(self, component: int, slot: int) -> ReadAt:
        """Return what reads a slot."""
        return self._context.reader(component, slot)

    # --- metadata ----------------------------------------------------------------------------------------------------

    def receive(self, role: str, data: bytes, clock: int | None) -> Need | None:
        """Take a metadata file; return what is needed next, or None where the chain is complete.

        The courier may leave out a root or timestamp that is not newer, and begin again with either at any time.

        Raises:
            Refused: a subclass says why. What was accepted before stays accepted.
        """
        # An unconfirmed image accepts no root that the confirmed one could not use.
        before = replace(self.state.trust, schemes=self.state.schemes)
        session = UpdateSession(before, self.state.device, clock)
        try:
            while (need := session.need) and need.role != role and need.optional:
                session.absent()
            if need is None or need.role != role:
                raise OrderError("metadata", expected=need.role if need else "none", got=role)
            session.receive(data)
        finally:
            if session.trust is not before:
                self._keep(session.trust)
        return session.need

    def choose(self, clock: int | None) -> Selection:
        """Judge what is held now, and choose (DESIGN §4, "Which release").

        Raises:
            MissingError, ExpiredError: the chain does not hold now.
        """
        state = self._context.state
        held = current(state.trust, state.device.product, clock)
        return select(held, state.device, *self._installed_here(), frozenset(state.failed))

    # --- transfer ----------------------------------------------------------------------------------------------------

    def begin(self, digest: bytes, length: int, clock: int | None, component: int = 0) -> int:
        """Begin or resume the transfer of the content with SHA-256 `digest`; return the offset at which to go on.

        Raises:
            TransferError: this content was not authorised.
            SelectionError, MissingError, ExpiredError: nothing may be installed now.
            SlotError: a trial is under way, or the slot is too small.
        """
        return self._transfer.begin(
            digest, length, component, lambda: self._authorise(digest, length, clock, component)
        )

    def write(self, offset: int, data: bytes) -> int:
        """Take content; as `SlotTransfer.write`."""
        return self._transfer.write(offset, data)

    def apply(self) -> Installed:
        """Make the image from the staged patch; as `SlotTransfer.apply`."""
        return self._transfer.apply()

    # --- trial -------------------------------------------------------------------------------------------------------

    def mark(self, clock: int | None) -> tuple[Release, ...]:
        """Mark the other slots for one trial boot, if they hold all that is chosen now; return what is.

        Raises:
            SelectionError: one holds something else, or nothing may be installed now.
            MismatchError: its content has changed, or its header disagrees with the release.
            SlotError: a trial is under way.
        """
        self._context.other_slot(0)  # no trial is under way
        plan = self.choose(clock).require()
        marks: dict[int, Mark] = {}
        for release in plan:
            component = self._context.state.device.components.index(release.component)
            self._check_slot(component, release)
            marks[component] = Mark(release.sha256, release.length)
        self._context.boot.set_marks(marks)
        return plan

    def confirm(self, *, self_tested: bool) -> tuple[Installed, ...]:
        """Confirm what runs: one write, then the counters follow. Returns the confirmed release of each component that has one.

        Args:
            self_tested: the running application's own test has passed.

        Raises:
            ConfirmError: nothing to confirm, the test has not passed, or an image was withdrawn.
        """
        context = self._context
        tried = [component for component in context.components if self.flags(component).trial]
        if not tried:
            if self.flags().running is None:
                raise ConfirmError("confirmation", expected="an image on trial", got="none")
            return tuple(self._installed_here()[0].values())
        if set(context.marks) - set(tried):
            raise ConfirmError("confirmation", expected="all that was marked on trial", got="a part of it")
        gone = withdrawn(context.state.trust.line, context.state.device)
        for component in tried:
            flags = self.flags(component)
            if flags.mark is None:
                raise ConfirmError("confirmation", expected="a trial that goes on", got="one that was ended")
            if not self_tested:
                raise ConfirmError("confirmation", expected="the image's own test to have passed", got="not yet")
            if flags.mark.sha256 in gone:
                raise ConfirmError("confirmation", expected="an image that is not withdrawn", got="a withdrawn one")
            installed = None if flags.running is None else context.held(component, flags.running)
            if installed is None or installed.sha256 != flags.mark.sha256:
                raise ConfirmError("confirmation", expected="the image that was marked", got="another")
        context.boot.confirm()
        self._reconcile()
        return tuple(self._installed_here()[0].values())

    def erase(self, component: int = 0) -> None:
        """Erase a component's other slot (stock SMP `erase`).

        Raises:
            SlotError: a trial is under way.
        """
        slot = self._context.other_slot(component)
        self._transfer.forget(component, slot)
        slots = self._context.slots[component]
        slots.erase(slot, 0, slots.size)

    def forget_failed(self, trial: bytes | None = None) -> tuple[bytes, ...]:
        """Let what failed its trial here be chosen again; return what was forgotten (DESIGN §4, "Trial").

        For an operator at the device: nothing that comes over a line or from a source may call it.

        Args:
            trial: as in `DeviceState.failed`; None for all.

        Raises:
            SelectionError: no such trial failed here.
        """
        failed = self.state.failed
        gone = tuple(item for item in failed if trial in (None, item))
        if trial is not None and not gone:
            known = ", ".join(map(short, failed)) or "none: no trial failed here"
            raise SelectionError("failed trial", expected=known, got=short(trial))
        if gone:
            self._context.save(replace(self.state, failed=tuple(item for item in failed if item not in gone)))
        return gone

    # --- inside ------------------------------------------------------------------------------------------------------
