"""From authenticated metadata to a marked slot, and from a trial to a confirmed image: the acts of DESIGN §4, whoever asks for them.

Transport-free: the board's agent calls it for what comes over SMP. What must hold at each act:

- State is written before the act that depends on it; writing or erasing a slot clears its mark first.
- Only what the device itself chose, or a patch that makes it, may be written to the other slot; marking repeats the choice.
- During a trial the other slot is the only way back: nothing erases or writes it.
- Confirmation is one write of the bootloader's; the counter follows it, and never goes before.
"""

from __future__ import annotations

from dataclasses import replace

from hillhold_verifier.errors import (
    ConfirmError,
    MetadataError,
    MismatchError,
    OrderError,
    PatchError,
    Refused,
    SelectionError,
    SlotError,
    TransferError,
    UnprovisionedError,
)
from hillhold_verifier.keys import SCHEMES
from hillhold_verifier.mcuboot import ReadAt, read_image
from hillhold_verifier.metadata import ROOT, TIMESTAMP, parse_root
from hillhold_verifier.patch import ALGORITHM, PatchDecoder
from hillhold_verifier.release import Patch, Release, parse_target
from hillhold_verifier.select import Device, Installed, Selection, select
from hillhold_verifier.session import Need, UpdateSession
from hillhold_verifier.slotio import CHUNK, SlotWriter, resume_offset, round_up, slot_sha256
from hillhold_verifier.slots import BootControl, BootFlags, CounterStore, Mark, Slots
from hillhold_verifier.state import DeviceState, StateStore, Transfer
from hillhold_verifier.trust import Trust, current, verify


def provision(store: StateStore, device: Device, root: bytes) -> DeviceState:
    """Write the first state: what the device is, and the root it trusts from then on.

    Raises:
        MetadataError, SignatureError: not a root, or one that its own quorum did not sign.
    """
    envelope = parse_root(root)
    verify(envelope, ROOT, envelope.signed.roles[ROOT], envelope.signed.keys)
    state = DeviceState(device, Trust(envelope), schemes=SCHEMES)
    store.save(state)
    return state


class Installer:
    """A device's update logic over its store, slots, boot flags and counter.

    Raises (at construction):
        UnprovisionedError: the state cannot be read.
    """

    def __init__(self, store: StateStore, slots: Slots, boot: BootControl, counter: CounterStore) -> None:
        self._store, self._slots, self._boot, self._counter = store, slots, boot, counter
        self._state = store.load()
        self._session: UpdateSession | None = None
        self._writer: SlotWriter | None = None
        self._reconcile()

    @property
    def state(self) -> DeviceState:
        """What the device remembers."""
        return self._state

    @property
    def flags(self) -> BootFlags:
        """What the bootloader knows."""
        return self._boot.flags()

    def reader(self, slot: int) -> ReadAt:
        """Return what reads `slot`."""
        return lambda offset, length: self._slots.read(slot, offset, length)

    @property
    def security_counter(self) -> int:
        """The higher of the counter store's and the confirmed image's."""
        confirmed = self.confirmed
        return max(self._counter.value(), confirmed.security_counter if confirmed else 0)

    @property
    def confirmed(self) -> Installed | None:
        """The release in the confirmed slot; None on a board that never confirmed one."""
        slot = self.flags.confirmed
        if slot is None:
            return None
        if (installed := self._state.slots[slot]) is None:
            raise UnprovisionedError("device state", expected="what the confirmed slot holds", got="nothing")
        return installed

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
        try:
            while (need := session.need) and need.role != role and need.optional:
                session.absent()
            if need is None or need.role != role:
                raise OrderError("metadata", expected=need.role if need else "none", got=role)
            session.receive(data)
        except Refused:
            self._session = None
            raise
        self._keep(session.trust)
        return session.need

    def choose(self, clock: int | None) -> Selection:
        """Judge what is held now, and choose (DESIGN §4, "Which release").

        Raises:
            MissingError, ExpiredError: the chain does not hold now.
        """
        held = current(self._state.trust, self._state.device.product, clock)
        return select(held, self._state.device, self.confirmed, self._counter.value(), frozenset(self._state.failed))

    # --- transfer ----------------------------------------------------------------------------------------------------

    def begin(self, digest: bytes, length: int, clock: int | None) -> int:
        """Begin or resume the transfer of the content with SHA-256 `digest`; return the offset at which to go on.

        Raises:
            TransferError: this content was not authorised.
            SelectionError, MissingError, ExpiredError: nothing may be installed now.
            SlotError: a trial is under way, or the slot is too small.
        """
        slot = self._other_slot()
        held = self._state.slots[slot]
        if held and (held.sha256, held.length) == (digest, length):
            return length
        running = self._state.transfer
        if running and _expects(running) == (digest, length):
            if self._writer is None:
                self._resume(slot, running)
        else:
            self._start(slot, self._authorise(digest, length, clock))
        return self._current_writer().offset

    def write(self, offset: int, data: bytes) -> int:
        """Take content at `offset`; return the offset that is expected next. Content elsewhere is ignored.

        When an image is complete its hash is checked.

        Raises:
            TransferError: more than was announced.
            MismatchError: the whole content has another hash; the transfer starts from zero.
        """
        writer, transfer = self._writer, self._state.transfer
        if writer is None or transfer is None:
            return 0  # reset since: the sender begins again, and is told where to go on
        if offset != writer.offset:
            return writer.offset
        length = _expects(transfer)[1]
        if offset + len(data) > length:
            raise TransferError("content", expected=f"{length} bytes", got=f"at least {offset + len(data)}")
        writer.write(data)
        if writer.complete and transfer.patch is None:
            self._finish(transfer)
        return min(offset + len(data), length)

    def apply(self) -> Installed:
        """Make the image from the staged patch; may be asked for again after a cut.

        Raises:
            OrderError: no patch was received whole.
            MismatchError: patch, base or result have another hash; the transfer starts from zero.
            PatchError: the patch is malformed; likewise.
        """
        if self._state.transfer is None and (done := self._state.slots[self._other_slot()]):
            return done
        transfer, slot = self._current_transfer(), self._other_slot()
        if transfer.patch is None or transfer.base is None or not self._current_writer().complete:
            raise OrderError("patch", expected="one that was received whole", got="less")
        digest, length = transfer.patch
        start = self._slots.size - round_up(length, self._slots.sector)
        self._check_hash(slot, start, length, digest, "patch hash")
        self._check_hash(1 - slot, 0, transfer.base[1], transfer.base[0], "patch base hash")
        self._slots.erase(slot, 0, round_up(transfer.release.length, self._slots.sector))
        out = SlotWriter(self._slots, slot, 0, transfer.release.length)
        decoder = PatchDecoder(self.reader(1 - slot), transfer.base[1], transfer.release.length)
        try:
            for at in range(0, length, CHUNK):
                for piece in decoder.feed(self._slots.read(slot, start + at, min(CHUNK, length - at))):
                    out.write(piece)
            decoder.finish()
        except PatchError:
            self._abandon()
            raise
        return self._finish(transfer)

    # --- trial -------------------------------------------------------------------------------------------------------

    def mark(self, clock: int | None) -> Release:
        """Mark the other slot for a trial boot, if it holds what is chosen now.

        Raises:
            SelectionError: it holds something else, or nothing may be installed now.
            MismatchError: its content has changed, or its header disagrees with the release.
            SlotError: a trial is under way.
        """
        slot = self._other_slot()
        release = self.choose(clock).require()
        held = self._state.slots[slot]
        if held is None or held.sha256 != release.sha256:
            raise SelectionError("slot to mark", expected=release.path, got=held.path if held else "no whole image")
        self._check_hash(slot, 0, release.length, release.sha256, "image hash")
        if release.format == "mcuboot":
            image = read_image(self.reader(slot), release.length)
            stated = (str(image.version), image.security_counter or 0)
            if stated != (str(release.version), release.security_counter):
                expected = f"version {release.version} and counter {release.security_counter}"
                raise MismatchError(
                    "image header", expected=expected, got=f"version {stated[0]} and counter {stated[1]}"
                )
        self._boot.set_mark(Mark(release.sha256, release.length))
        return release

    def confirm(self, *, self_tested: bool) -> Installed:
        """Confirm the running image: one write, then the counter follows.

        Args:
            self_tested: the running image's own test has passed.

        Raises:
            ConfirmError: nothing to confirm, the test has not passed, or the image was withdrawn.
        """
        flags = self.flags
        if not flags.trial or flags.running is None or flags.mark is None:
            if flags.running is not None and (confirmed := self.confirmed):
                return confirmed
            raise ConfirmError("confirmation", expected="an image on trial", got="none")
        if not self_tested:
            raise ConfirmError("confirmation", expected="the image's own test to have passed", got="not yet")
        if flags.mark.sha256 in _withdrawn(self._state.trust):
            raise ConfirmError("confirmation", expected="an image that is not withdrawn", got="a withdrawn one")
        installed = self._state.slots[flags.running]
        if installed is None or installed.sha256 != flags.mark.sha256:
            raise ConfirmError("confirmation", expected="the image that was marked", got="another")
        self._boot.confirm()
        self._reconcile()
        return installed

    def erase(self) -> None:
        """Erase the other slot (stock SMP `erase`).

        Raises:
            SlotError: a trial is under way.
        """
        slot = self._other_slot()
        self._forget(slot, None)
        self._slots.erase(slot, 0, self._slots.size)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Bring the state in line with the boot flags, which are the truth about what boots."""
        flags, state = self.flags, self._state
        if flags.failed is not None:
            state = state.with_failed(flags.failed)
        if not flags.trial:
            # An unconfirmed image accepts no root that the confirmed one could not use.
            state = replace(state, schemes=SCHEMES)
        if state != self._state:
            self._save(state)
        if flags.failed is not None:
            self._boot.acknowledge_failure()
        if flags.mark and flags.mark.sha256 in _withdrawn(state.trust):
            self._boot.clear_mark()
        if not flags.trial and (confirmed := self.confirmed):
            self._counter.raise_to(confirmed.security_counter)

    def _new_session(self, clock: int | None) -> UpdateSession:
        schemes = self._state.schemes & SCHEMES if self.flags.trial else SCHEMES
        return UpdateSession(replace(self._state.trust, schemes=schemes), self._state.device, clock)

    def _keep(self, trust: Trust) -> None:
        if trust.line is not self._state.trust.line:
            mark = self.flags.mark
            # The mark goes first: a cut between the two writes loses a mark, and never keeps one that is withdrawn.
            if mark and mark.sha256 in _withdrawn(trust):
                self._boot.clear_mark()
        self._save(replace(self._state, trust=replace(trust, schemes=SCHEMES)))

    def _authorise(self, digest: bytes, length: int, clock: int | None) -> Transfer:
        selection = self.choose(clock)
        winner, confirmed = selection.require(), self.confirmed
        release = Installed(winner.path, winner.version, winner.sha256, winner.length, winner.security_counter)
        if (digest, length) == (winner.sha256, winner.length):
            return Transfer(release)
        patch = next((p for p in selection.patches if (p.sha256, p.length) == (digest, length)), None)
        if patch is None:
            raise TransferError(
                "content", expected=f"{winner.path} ({winner.sha256.hex()[:16]}…) or a patch to it", got=digest.hex()
            )
        self._check_patch(patch, confirmed)
        return Transfer(release, (patch.sha256, patch.length), (patch.base, patch.base_length))

    def _check_patch(self, patch: Patch, confirmed: Installed | None) -> None:
        if patch.algorithm != ALGORITHM:
            raise TransferError("patch algorithm", expected=ALGORITHM, got=patch.algorithm)
        if confirmed is None or (confirmed.sha256, confirmed.length) != (patch.base, patch.base_length):
            got = confirmed.sha256.hex() if confirmed else "no confirmed image"
            raise TransferError("patch base", expected=patch.base.hex(), got=got)

    def _start(self, slot: int, transfer: Transfer) -> None:
        start, length = self._region(transfer)
        self._forget(slot, transfer)
        self._slots.erase(slot, start, round_up(length, self._slots.sector))
        self._save(replace(self._state, transfer=replace(transfer, erased=True)))
        self._writer = SlotWriter(self._slots, slot, start, length)

    def _resume(self, slot: int, transfer: Transfer) -> None:
        if not transfer.erased:
            self._start(slot, transfer)
            return
        start, length = self._region(transfer)
        self._writer = SlotWriter(self._slots, slot, start, length, resume_offset(self._slots, slot, start, length))

    def _region(self, transfer: Transfer) -> tuple[int, int]:
        """Where the content goes: an image to the slot's start, a patch to its end, behind where the image will be."""
        size, sector = self._slots.size, self._slots.sector
        need = round_up(transfer.release.length, sector)
        start, length = 0, transfer.release.length
        if transfer.patch:
            length = transfer.patch[1]
            start = size - round_up(length, sector)
            need += round_up(length, sector)
        if need > size:
            raise SlotError("slot", expected=f"at least {need} bytes", got=size)
        return start, length

    def _forget(self, slot: int, transfer: Transfer | None) -> None:
        """Before a slot changes: its mark goes first, then what is known of its content."""
        if self.flags.mark:
            self._boot.clear_mark()
        self._writer = None
        self._save(replace(self._state.with_slot(slot, None), transfer=transfer))

    def _finish(self, transfer: Transfer) -> Installed:
        slot = self._other_slot()
        self._check_hash(slot, 0, transfer.release.length, transfer.release.sha256, "image hash")
        self._writer = None
        self._save(replace(self._state.with_slot(slot, transfer.release), transfer=None))
        return transfer.release

    def _check_hash(self, slot: int, start: int, length: int, expected: bytes, what: str) -> None:
        found = slot_sha256(self._slots, slot, start, length)
        if found != expected:
            self._abandon()
            raise MismatchError(what, expected=expected.hex(), got=found.hex())

    def _abandon(self) -> None:
        """After wrong content a transfer starts from zero."""
        self._writer = None
        self._save(replace(self._state.with_slot(self._other_slot(), None), transfer=None))

    def _other_slot(self) -> int:
        flags = self.flags
        if flags.trial:
            raise SlotError("the other slot", expected="no trial under way", got="one: that slot is the only way back")
        return 0 if flags.confirmed is None else 1 - flags.confirmed

    def _current_transfer(self) -> Transfer:
        if self._state.transfer is None:
            raise OrderError("transfer", expected="one that was begun", got="none")
        return self._state.transfer

    def _current_writer(self) -> SlotWriter:
        if self._writer is None:
            raise OrderError("transfer", expected="one that was begun since the last reset", got="none")
        return self._writer

    def _save(self, state: DeviceState) -> None:
        self._store.save(state)
        self._state = state


def _expects(transfer: Transfer) -> tuple[bytes, int]:
    return transfer.patch or (transfer.release.sha256, transfer.release.length)


def _withdrawn(trust: Trust) -> frozenset[bytes]:
    """Hashes of the releases that the held line role withdraws."""
    found = set()
    for target in trust.line.signed.targets.values() if trust.line else ():
        try:
            release = parse_target(target)
        except MetadataError:
            continue  # a malformed entry is judged, and refused, by `select`
        if isinstance(release, Release) and release.withdrawn is not None:
            found.add(release.sha256)
    return frozenset(found)
