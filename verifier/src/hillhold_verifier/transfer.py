"""Filling the other slot with what the device authorised: an image, or a patch that is then applied.

An image is written from the slot's start. A patch is staged at the slot's *end*, behind where its result will lie, verified whole, and
only then interpreted; the base is verified before anything is written, the result before the slot counts as filled. A transfer that was
interrupted goes on; after wrong content it starts from zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hillhold_verifier.algorithms import DECODERS, Decoder
from hillhold_verifier.context import Context
from hillhold_verifier.errors import (
    HillholdError,
    MismatchError,
    OrderError,
    PatchError,
    SlotError,
    TransferError,
    short,
)
from hillhold_verifier.select import Installed
from hillhold_verifier.slotio import CHUNK, SlotWriter, resume_offset, round_up, slot_sha256
from hillhold_verifier.state import Transfer


class SlotTransfer:
    """The transfer of a device, over its context."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writer: SlotWriter | None = None
        self._done: Installed | None = None  # what `apply` may be asked for once more

    def begin(self, digest: bytes, length: int, component: int, authorise: Callable[[], Transfer]) -> int:
        """Begin or resume the transfer of the content with SHA-256 `digest`; return the offset at which to go on.

        Args:
            authorise: asked for content that was not authorised before; raises where it may not be received.

        Raises:
            SlotError: a trial is under way, or the slot is too small.
        """
        context = self._context
        slot = context.other_slot(component)
        running = context.state.transfer
        if running is None or (running.component, *running.content) != (component, digest, length):
            transfer = authorise()
            if context.held(component, slot) == transfer.release:
                self._done = transfer.release
                return length  # the slot holds already what this content is or makes
            self._writer = self._start(transfer)
        else:
            self._done = None
            self._writer = self._writer or self._resume(running)
        return self._writer.offset

    def write(self, offset: int, data: bytes) -> int:
        """Take content at `offset`; return the offset that is expected next. Content elsewhere is ignored.

        When an image is complete its hash is checked.

        Raises:
            TransferError: more than was announced.
            MismatchError: the whole content has another hash; the transfer starts from zero.
        """
        writer, transfer = self._writer, self._context.state.transfer
        if writer is None or transfer is None:
            return 0  # reset since: the sender begins again, and is told where to go on
        if offset != writer.offset:
            return writer.offset
        length = transfer.content[1]
        if offset + len(data) > length:
            raise TransferError("content", expected=f"{length} bytes", got=f"at least {offset + len(data)}")
        try:
            writer.write(data)
        except HillholdError:
            self._writer = None  # how much was written is known only after a look at the flash
            raise
        if writer.complete and transfer.patch is None:
            self._finish(transfer)
        return offset + len(data)

    def apply(self) -> Installed:
        """Make the image from the staged patch; may be asked for again.

        Raises:
            OrderError: no patch was received whole.
            MismatchError: patch, base or result have another hash; the transfer starts from zero.
            PatchError: the patch is malformed; likewise.
        """
        context, transfer = self._context, self._context.state.transfer
        component = transfer.component if transfer else 0
        slot = context.other_slot(component)
        complete = self._writer is not None and self._writer.complete
        if self._done and not complete:
            return self._done  # what was begun last is there; of another component's transfer a part may be
        if transfer is None or transfer.patch is None or not complete:
            raise OrderError("patch", expected="one that was received whole", got="less")
        slots, patch = context.slots[component], transfer.patch
        start = self._region(transfer)[0]
        self.check_hash(component, slot, start, patch.length, patch.sha256, "patch hash")
        self.check_hash(component, 1 - slot, 0, patch.base_length, patch.base, "patch base hash")
        make = DECODERS.get(patch.algorithm)
        if make is None:  # the state is that of firmware that knew more
            raise PatchError("patch algorithm", expected=" or ".join(DECODERS), got=patch.algorithm)
        slots.erase(slot, 0, round_up(transfer.release.length, slots.sector))
        try:
            self._decode(
                make(context.reader(component, 1 - slot), patch.base_length, transfer.release.length), transfer
            )
        except PatchError:
            self._abandon(component)
            raise
        return self._finish(transfer)  # the decoder's memory is free again

    def forget(self, component: int, slot: int) -> None:
        """Before a slot changes: the marks go first (a set is tried whole or not at all), then what is known of its content."""
        context = self._context
        if context.marks:
            context.boot.clear_marks()
        self._writer = self._done = None
        context.save(replace(context.state.with_slot(2 * component + slot, None), transfer=None))

    def check_hash(self, component: int, slot: int, start: int, length: int, expected: bytes, what: str) -> None:
        """Raise `MismatchError` unless the slot's content has that SHA-256; then the component's other slot counts as empty."""
        found = slot_sha256(self._context.slots[component], slot, start, length)
        if found != expected:
            self._abandon(component)
            raise MismatchError(what, expected=short(expected), got=short(found))

    def _start(self, transfer: Transfer) -> SlotWriter:
        start, length = self._region(transfer)
        slots, slot = self._context.slots[transfer.component], self._context.other_slot(transfer.component)
        self.forget(transfer.component, slot)
        slots.erase(slot, start, round_up(length, slots.sector))
        self._context.save(replace(self._context.state, transfer=transfer))  # only now can it be resumed
        return SlotWriter(slots, slot, start, length)

    def _resume(self, transfer: Transfer) -> SlotWriter:
        start, length = self._region(transfer)
        slots, slot = self._context.slots[transfer.component], self._context.other_slot(transfer.component)
        # A patch that is there whole is not sent again, not even its last sector: the application was cut, not the transfer.
        staged = transfer.patch and slot_sha256(slots, slot, start, length) == transfer.patch.sha256
        at = length if staged else resume_offset(slots, slot, start, length)
        return SlotWriter(slots, slot, start, length, at)

    def _region(self, transfer: Transfer) -> tuple[int, int]:
        """Offset and length of the content in the slot."""
        slots = self._context.slots[transfer.component]
        size, sector = slots.size, slots.sector
        start, length = 0, transfer.release.length
        what, need = "slot", round_up(length, sector)
        if transfer.patch and need <= size:
            length = transfer.patch.length
            start = size - round_up(length, sector)
            what, need = "slot for image and patch", need + round_up(length, sector)
        if need > size:
            raise SlotError(what, expected=f"at least {need} bytes", got=size)
        return start, length

    def _decode(self, decoder: Decoder, transfer: Transfer) -> None:
        """Write what the staged patch makes, from the slot's start on; raises `PatchError`."""
        slots, slot = self._context.slots[transfer.component], self._context.other_slot(transfer.component)
        out = SlotWriter(slots, slot, 0, transfer.release.length)
        start, length = self._region(transfer)
        for at in range(0, length, CHUNK):
            for piece in decoder.feed(slots.read(slot, start + at, min(CHUNK, length - at))):
                out.write(piece)
        decoder.finish()

    def _finish(self, transfer: Transfer) -> Installed:
        component, slot = transfer.component, self._context.other_slot(transfer.component)
        self.check_hash(component, slot, 0, transfer.release.length, transfer.release.sha256, "image hash")
        self._writer, self._done = None, transfer.release
        held = self._context.state.with_slot(2 * component + slot, transfer.release)
        self._context.save(replace(held, transfer=None))
        return transfer.release

    def _abandon(self, component: int) -> None:
        self._writer = self._done = None
        context = self._context
        slot = 2 * component + context.other_slot(component)
        context.save(replace(context.state.with_slot(slot, None), transfer=None))
