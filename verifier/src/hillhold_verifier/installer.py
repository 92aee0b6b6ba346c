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

from hillhold_verifier.algorithms import DECODERS
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
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.roles import Targets
from hillhold_verifier.select import Device, Installed, Selection, select, trial_id, withdrawn
from hillhold_verifier.session import Need, UpdateSession
from hillhold_verifier.slots import BootControl, BootFlags, CounterStore, Mark, Slots
from hillhold_verifier.state import RESERVE, DeviceState, StagedPatch, StateStore, Transfer
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

    def slot_size(self, component: int) -> int:
        """Usable bytes of either slot of a component."""
        return self._context.slots[component].size

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

    def wanted(self, clock: int | None, component: int = 0) -> Release:
        """Return the release that may be transferred to a component's other slot now.

        Raises:
            TransferError: there is none.
            MissingError, ExpiredError: the chain does not hold now.
            SlotError: a trial is under way.
        """
        self._context.other_slot(component)  # no trial is under way
        return self._chosen(self.choose(clock), component)

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

    def _installed_here(self) -> tuple[Mapping[str, Installed], Mapping[str, int]]:
        """The confirmed releases and the counter stores, by component name."""
        context = self._context
        names = list(enumerate(context.state.device.components))
        confirmed = {name: found for component, name in names if (found := context.confirmed(component))}
        return confirmed, {name: context.counters[component].value() for component, name in names}

    def _reconcile(self) -> None:
        """Bring the state in line with the boot flags, which are the truth about what boots."""
        context, state = self._context, self._context.state
        failed = [found for component in context.components if (found := self.flags(component).failed) is not None]
        if failed:
            state = state.with_failed(trial_id(failed))
        on_trial = context.on_trial
        if not on_trial:
            state = replace(state, schemes=usable_schemes())
        if state != context.state:
            context.save(state)
        if failed:
            context.boot.acknowledge_failure()
        self._clear_withdrawn(state.trust.line)
        if on_trial:
            return  # only a confirmed boot raises a counter
        for component in context.components:
            if confirmed := context.confirmed(component):
                # The confirmed image's own counter holds the floor meanwhile; a full store must not take the agent away.
                with suppress(OperationalError):
                    context.counters[component].raise_to(confirmed.security_counter)

    def _clear_withdrawn(self, line: Envelope[Targets] | None) -> None:
        marked = {mark.sha256 for mark in self._context.marks.values()}
        if marked & withdrawn(line, self._context.state.device):
            self._context.boot.clear_marks()

    def _keep(self, trust: Trust) -> None:
        state = self._fitting(replace(self._context.state, trust=replace(trust, schemes=SCHEMES)))
        if trust.root is not self._context.state.trust.root:
            # The bootloader goes first: a cut between the two brings the same root again, which changes nothing there. The other way
            # round, the device would never be brought the root that its bootloader lacks.
            self._context.boot.accept_root(trust.root.raw)
        if trust.line is not self._context.state.trust.line:
            # The mark goes first: a cut between the two writes loses a mark, and never keeps one that is withdrawn.
            self._clear_withdrawn(trust.line)
        self._context.save(state)

    def _fitting(self, state: DeviceState) -> DeviceState:
        """The state as it can be stored. A new root always has to fit: without it, no later file is ever accepted.

        Held files give way to it (they are brought again; floors stay), so that nobody locks a device out with large ones.

        Raises:
            SpaceError: it does not fit.
        """
        if self._context.room(state) >= RESERVE:
            return state
        if state.trust.root is not self._context.state.trust.root:
            bare = replace(state.trust, timestamp=None, snapshot=None, targets=None, line=None)
            state = replace(state, trust=bare)
        if (room := self._context.room(state)) < RESERVE:
            raise SpaceError("metadata for the device's state", expected=f"{RESERVE} bytes left free", got=room)
        return state

    def _chosen(self, selection: Selection, component: int) -> Release:
        name = self._context.state.device.components[component]
        release = next((release for release in selection.plan if release.component == name), None)
        if release is None:
            raise TransferError("content", expected="nothing: no release may be installed now", got=f"some for {name}")
        return release

    def _authorise(self, digest: bytes, length: int, clock: int | None, component: int) -> Transfer:
        selection = self.choose(clock)
        release = self._chosen(selection, component)
        if (digest, length) == (release.sha256, release.length):
            return Transfer(component, Installed.of(release))
        for patch in selection.patches:
            if patch.makes == release.path and (digest, length) == (patch.sha256, patch.length):
                self._check_patch(patch, self.confirmed(component))
                staged = StagedPatch(patch.sha256, patch.length, patch.algorithm, patch.base, patch.base_length)
                return Transfer(component, Installed.of(release), staged)
        expected = f"{release.path} ({short(release.sha256)}), which this device chose, or a patch to it"
        raise TransferError("content", expected=expected, got=short(digest))

    def _check_slot(self, component: int, release: Release) -> None:
        """The component's other slot holds this release, whole and unchanged; then the state says what the line says of it now."""
        slot = self._context.other_slot(component)
        held, wanted = self._context.held(component, slot), Installed.of(release)
        if held is None or (held.sha256, held.length) != (wanted.sha256, wanted.length):
            raise SelectionError("slot to mark", expected=release.path, got=held.path if held else "no whole image")
        self._transfer.check_hash(component, slot, 0, release.length, release.sha256, "image hash")
        check_header(self._context.reader(component, slot), release)
        if held != wanted:
            # The same bytes under another entry since: what is confirmed later is what the line says now.
            self._context.save(self._context.state.with_slot(2 * component + slot, wanted))

    def _check_patch(self, patch: Patch, confirmed: Installed | None) -> None:
        if patch.algorithm not in DECODERS:
            raise TransferError("patch algorithm", expected=" or ".join(DECODERS), got=patch.algorithm)
        if not patch.fits((confirmed.sha256, confirmed.length) if confirmed else None):
            got = short(confirmed.sha256) if confirmed else "no confirmed image"
            raise TransferError("patch base", expected=short(patch.base), got=got)
