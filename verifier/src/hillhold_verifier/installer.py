"""From authenticated metadata to a marked slot, and from a trial to a confirmed image: the acts of DESIGN §4, whoever asks for them.

Transport-free: the board's agent calls it for what comes over SMP. What must hold at each act:

- State is written before the act that depends on it; writing or erasing a slot clears its mark first.
- Only what the device itself chose, or a patch that makes it, may be written to the other slot; marking repeats the choice.
- During a trial the other slot is the only way back: nothing erases or writes it.
- Confirmation is one write of the bootloader's; the counter follows it, and never goes before.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hillhold_verifier.context import Context
from hillhold_verifier.errors import (
    ConfirmError,
    ImageError,
    MismatchError,
    OperationalError,
    OrderError,
    Refused,
    SelectionError,
    SpaceError,
    TransferError,
    UnprovisionedError,
    short,
)
from hillhold_verifier.keys import SCHEMES
from hillhold_verifier.mcuboot import ReadAt, read_image
from hillhold_verifier.metadata import ROOT, TIMESTAMP, parse_root
from hillhold_verifier.patch import ALGORITHM
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.select import Device, Installed, Selection, select, withdrawn
from hillhold_verifier.session import Need, UpdateSession
from hillhold_verifier.slots import BootControl, BootFlags, CounterStore, Mark, Slots
from hillhold_verifier.state import RESERVE, DeviceState, StateStore, Transfer
from hillhold_verifier.transfer import SlotTransfer
from hillhold_verifier.trust import Trust, current, verify


def provision(store: StateStore, device: Device, root: bytes) -> DeviceState:
    """Write the first state: what the device is, and the root it trusts from then on.

    Raises:
        MetadataError, SignatureError: not a root, or one that its own quorum did not sign.
    """
    envelope = parse_root(root)
    verify(envelope, ROOT, envelope.signed.roles[ROOT], envelope.signed.keys)
    with suppress(UnprovisionedError):
        store.load()  # a state that is still there is outnumbered
    state = DeviceState(device, Trust(envelope), schemes=SCHEMES)
    store.save(state)
    return state


class Installer:
    """A device's update logic over its store, slots, boot flags and counter.

    Raises (at construction):
        UnprovisionedError: the state cannot be read.
    """

    def __init__(self, store: StateStore, slots: Slots, boot: BootControl, counter: CounterStore) -> None:
        self._context = Context(store, slots, boot, counter)
        self._transfer = SlotTransfer(self._context)
        self._session: UpdateSession | None = None
        self._reconcile()

    @property
    def state(self) -> DeviceState:
        """What the device remembers."""
        return self._context.state

    @property
    def flags(self) -> BootFlags:
        """What the bootloader knows."""
        return self._context.flags

    @property
    def security_counter(self) -> int:
        """The higher of the counter store's and the confirmed image's."""
        confirmed = self.confirmed
        return max(self._context.counter.value(), confirmed.security_counter if confirmed else 0)

    @property
    def confirmed(self) -> Installed | None:
        """The release in the confirmed slot; None on a board that never confirmed one."""
        return self._context.confirmed

    def read_slot(self, slot: int) -> ReadAt:
        """Return what reads `slot`."""
        return self._context.reader(slot)

    # --- metadata ----------------------------------------------------------------------------------------------------

    def receive(self, role: str, data: bytes, clock: int | None) -> Need | None:
        """Take a metadata file; return what is needed next, or None where the chain is complete.

        The courier may leave out a root or timestamp that is not newer, and begin again with either at any time.

        Raises:
            Refused: a subclass says why. What was accepted before stays accepted.
        """
        session = self._session
        need = session.need if session else None
        if session is None or ((need is None or need.role != role) and role in (ROOT, TIMESTAMP)):
            session = self._session = self._new_session(clock)
        before = session.trust
        try:
            while (need := session.need) and need.role != role and need.optional:
                session.absent()
            if need is None or need.role != role:
                raise OrderError("metadata", expected=need.role if need else "none", got=role)
            session.receive(data)
        except Refused:
            self._session = None
            raise
        finally:
            if session.trust is not before:
                self._session, kept = None, self._session
                self._keep(session.trust)
                self._session = kept  # only now: a session that is ahead of the state would ask for the wrong file
        return session.need

    def choose(self, clock: int | None) -> Selection:
        """Judge what is held now, and choose (DESIGN §4, "Which release").

        Raises:
            MissingError, ExpiredError: the chain does not hold now.
        """
        held = current(self._context.state.trust, self._context.state.device.product, clock)
        return select(
            held,
            self._context.state.device,
            self.confirmed,
            self._context.counter.value(),
            frozenset(self._context.state.failed),
        )

    # --- transfer ----------------------------------------------------------------------------------------------------

    def begin(self, digest: bytes, length: int, clock: int | None) -> int:
        """Begin or resume the transfer of the content with SHA-256 `digest`; return the offset at which to go on.

        Raises:
            TransferError: this content was not authorised.
            SelectionError, MissingError, ExpiredError: nothing may be installed now.
            SlotError: a trial is under way, or the slot is too small.
        """
        return self._transfer.begin(digest, length, lambda: self._authorise(digest, length, clock))

    def write(self, offset: int, data: bytes) -> int:
        """Take content; as `SlotTransfer.write`."""
        return self._transfer.write(offset, data)

    def apply(self) -> Installed:
        """Make the image from the staged patch; as `SlotTransfer.apply`."""
        return self._transfer.apply()

    # --- trial -------------------------------------------------------------------------------------------------------

    def mark(self, clock: int | None) -> Release:
        """Mark the other slot for a trial boot, if it holds what is chosen now.

        Raises:
            SelectionError: it holds something else, or nothing may be installed now.
            MismatchError: its content has changed, or its header disagrees with the release.
            SlotError: a trial is under way.
        """
        slot = self._context.other_slot()
        release = self.choose(clock).require()
        held, wanted = self._context.state.slots[slot], _installed(release)
        if held is None or (held.sha256, held.length) != (wanted.sha256, wanted.length):
            raise SelectionError("slot to mark", expected=release.path, got=held.path if held else "no whole image")
        self._transfer.check_hash(slot, 0, release.length, release.sha256, "image hash")
        self._check_header(slot, release)
        if held != wanted:
            # The same bytes under another entry since: what is confirmed later is what the line says now.
            self._context.save(self._context.state.with_slot(slot, wanted))
        self._context.boot.set_mark(Mark(release.sha256, release.length))
        return release

    def confirm(self, *, self_tested: bool) -> Installed:
        """Confirm the running image: one write, then the counter follows.

        Args:
            self_tested: the running image's own test has passed.

        Raises:
            ConfirmError: nothing to confirm, the test has not passed, or the image was withdrawn.
        """
        flags = self.flags
        if not flags.trial or flags.running is None:
            if flags.running is not None and (confirmed := self.confirmed):
                return confirmed
            raise ConfirmError("confirmation", expected="an image on trial", got="none")
        if flags.mark is None:
            raise ConfirmError("confirmation", expected="a trial that goes on", got="one that was ended")
        if not self_tested:
            raise ConfirmError("confirmation", expected="the image's own test to have passed", got="not yet")
        if flags.mark.sha256 in withdrawn(self._context.state.trust.line, self._context.state.device):
            raise ConfirmError("confirmation", expected="an image that is not withdrawn", got="a withdrawn one")
        installed = self._context.state.slots[flags.running]
        if installed is None or installed.sha256 != flags.mark.sha256:
            raise ConfirmError("confirmation", expected="the image that was marked", got="another")
        self._context.boot.confirm()
        self._reconcile()
        return installed

    def erase(self) -> None:
        """Erase the other slot (stock SMP `erase`).

        Raises:
            SlotError: a trial is under way.
        """
        slot = self._context.other_slot()
        self._transfer.forget(slot)
        self._context.slots.erase(slot, 0, self._context.slots.size)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Bring the state in line with the boot flags, which are the truth about what boots."""
        flags, state = self.flags, self._context.state
        if flags.failed is not None:
            state = state.with_failed(flags.failed)
        if not flags.trial:
            # An unconfirmed image accepts no root that the confirmed one could not use.
            state = replace(state, schemes=SCHEMES)
        if state != self._context.state:
            self._context.save(state)
        if flags.failed is not None:
            self._context.boot.acknowledge_failure()
        if flags.mark and flags.mark.sha256 in withdrawn(state.trust.line, state.device):
            self._context.boot.clear_mark()
        if not flags.trial and (confirmed := self.confirmed):
            # The confirmed image's own counter holds the floor meanwhile; a full store must not take the agent away.
            with suppress(OperationalError):
                self._context.counter.raise_to(confirmed.security_counter)

    def _new_session(self, clock: int | None) -> UpdateSession:
        schemes = self._context.state.schemes & SCHEMES if self.flags.trial else SCHEMES
        return UpdateSession(replace(self._context.state.trust, schemes=schemes), self._context.state.device, clock)

    def _keep(self, trust: Trust) -> None:
        state = self._fitting(replace(self._context.state, trust=replace(trust, schemes=SCHEMES)))
        if trust.line is not self._context.state.trust.line:
            mark = self.flags.mark
            # The mark goes first: a cut between the two writes loses a mark, and never keeps one that is withdrawn.
            if mark and mark.sha256 in withdrawn(trust.line, state.device):
                self._context.boot.clear_mark()
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

    def _authorise(self, digest: bytes, length: int, clock: int | None) -> Transfer:
        selection = self.choose(clock)
        winner = selection.winner
        if winner is None:
            raise TransferError("content", expected="nothing: no release may be installed now", got=short(digest))
        release = _installed(winner)
        if (digest, length) == (winner.sha256, winner.length):
            return Transfer(release)
        patch = next((p for p in selection.patches if (p.sha256, p.length) == (digest, length)), None)
        if patch is None:
            expected = f"{winner.path} ({short(winner.sha256)}), which this device chose, or a patch to it"
            raise TransferError("content", expected=expected, got=short(digest))
        self._check_patch(patch, self.confirmed)
        return Transfer(release, (patch.sha256, patch.length), (patch.base, patch.base_length))

    def _check_header(self, slot: int, release: Release) -> None:
        """What the image states of itself, and the bootloader goes by, is what was signed; a raw image states nothing."""
        try:
            image = read_image(self._context.reader(slot), release.length)
        except ImageError:
            if release.format == "mcuboot":
                raise
            return
        if release.format == "mcuboot" and image.length != release.length:
            # The bootloader takes an image for as long as it says that it is, and would not try this one.
            raise MismatchError("image length", expected=release.length, got=image.length)
        stated = (str(image.version), image.security_counter or 0)
        if stated != (str(release.version), release.security_counter):
            expected = f"version {release.version} and counter {release.security_counter}"
            raise MismatchError("image header", expected=expected, got=f"version {stated[0]} and counter {stated[1]}")

    def _check_patch(self, patch: Patch, confirmed: Installed | None) -> None:
        if patch.algorithm != ALGORITHM:
            raise TransferError("patch algorithm", expected=ALGORITHM, got=patch.algorithm)
        if confirmed is None or (confirmed.sha256, confirmed.length) != (patch.base, patch.base_length):
            got = short(confirmed.sha256) if confirmed else "no confirmed image"
            raise TransferError("patch base", expected=short(patch.base), got=got)


def _installed(release: Release) -> Installed:
    return Installed(release.path, release.version, release.sha256, release.length, release.security_counter)
