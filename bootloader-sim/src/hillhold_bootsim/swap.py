"""`swap` mode: every image runs from the primary slot, and two images change places sector by sector (MCUboot, "Swap using offset").

The image to try is written one sector behind the start of the secondary slot. Forward, from the first sector N to the last:

    erase secondary N, copy primary N to it, status     then     erase primary N, copy secondary N+1 to it, status

Afterwards the old image begins at the very start of the secondary slot. Backward, from the last sector to the first:

    erase secondary N+1, copy primary N to it, status   then     erase primary N, copy secondary N to it, status

**What makes it safe against power cuts** is more than MCUboot's trailer, whose status and flags are single units that may be torn:

- The boot record, in two copies, says that an exchange goes on and how many sectors it has: `wanted` differs from `primary`. First the
  trailers are erased and written anew, as often as it takes; only when all of that is done does the record say `moving`, and the status
  counts. A status that is left of an earlier exchange, or that a half-erased sector still shows now and then, never counts.
- A step is done if its status unit or a later one is *not blank*, whatever it reads as: it was begun only after the step was complete.
  It is never written again. (That takes the controller's blank check, or its report of an ECC error, which comes to the same.)
- A step that is not done is done again from its erase. What it copies is destroyed only by the step after it.
- The last act is one write of the record: `primary` becomes `wanted`. An exchange is finished before anything is judged.

The record, not the trailer, says what is marked, tried and confirmed: MCUboot's flags have no place for a hash. `copy done` and
`image ok` are written as MCUboot writes them, for whoever looks at the slots with its tools, and decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Final

from hillhold_bootsim.bootflags import BootRecord, FlagStore, ImageFlags
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import Layout, Partition, SimSlots, padded
from hillhold_bootsim.trailer import FLAG_SET, STATES, SwapType, Trailer
from hillhold_verifier.errors import ImageError, MisuseError
from hillhold_verifier.mcuboot import Image, read_image

COPY: Final = 4096
"""Bytes that are copied at a time."""

Checkpoint = Callable[[Hashable], None]
"""Called where all that follows depends on the flash, the reset reason and the tag alone."""


class SwapSlots(SimSlots):
    """`Slots` in swap mode: slots 0 and 1 are images, of which the record says where they lie.

    So the agent writes, marks and confirms as in `remap` mode. An image that is about to be written goes where MCUboot looks for it.
    """

    def __init__(self, flash: Flash, layout: Layout, store: FlagStore, component: int = 0) -> None:
        super().__init__(flash, layout, component)
        self._store = store
        self._pair = layout.slots[component]
        self._size = usable(layout, component)

    @property
    def size(self) -> int:
        """Usable bytes of either slot: trailers, and the sector by which an image is shifted, are taken off."""
        return self._size

    def erase(self, slot: int, offset: int, length: int) -> None:
        """Erase whole sectors; raises as `SimSlots.erase`."""
        record = self._store.record()
        image = record.images[self._component]
        if slot != image.primary and not image.shifted:
            # What lay here is given up; from now on the slot begins a sector later.
            self._store.write(record.with_image(self._component, replace(image, shifted=True)))
        super().erase(slot, offset, length)

    def offset_of(self, slot: int) -> int:
        """Return where a slot's image begins now, in the flash; raises as `SimSlots.offset_of`."""
        image = self._store.record().images[self._component]
        if slot not in (0, 1):
            raise MisuseError(f"slot {slot}: there are two, 0 and 1")
        if slot == image.primary:
            return self._pair[0].offset
        return self._pair[1].offset + (self.sector if image.shifted else 0)


def trailers(layout: Layout, component: int) -> tuple[Trailer, Trailer]:
    """Return the trailers of the primary and the secondary slot."""
    primary, secondary = layout.slots[component]
    sectors = primary.size // layout.slot_sector(component)
    return Trailer(layout.geometry, primary, sectors), Trailer(layout.geometry, secondary, sectors)


def usable(layout: Layout, component: int) -> int:
    """Return how long an image may be (MCUboot's `app_max_size`), whole sectors.

    Raises:
        MisuseError: there is no room for any.
    """
    first, second = trailers(layout, component)
    sector = layout.slot_sector(component)
    size = min(first.first_sector - first.slot.offset, second.first_sector - second.slot.offset - sector)
    if size < sector:
        raise MisuseError(
            f"layout: slots of {first.slot.size} and {second.slot.size} bytes leave no room for an image beside their trailers"
        )
    return size


class Swapper:
    """Exchanges the images of a component."""

    def __init__(self, flash: Flash, layout: Layout, store: FlagStore, checkpoint: Checkpoint) -> None:
        self._flash, self._layout, self._store, self._checkpoint = flash, layout, store, checkpoint

    def wanting(self, component: int, image: ImageFlags, slot: int) -> ImageFlags:
        """Return flags that ask for a slot's image in the primary slot; an exchange that is asked for already is another matter."""
        if slot == image.wanted:
            return image
        lengths = [
            found.length if found else usable(self._layout, component) for found in self._images(component, image)
        ]
        return replace(image, wanted=slot, sectors=-(-max(lengths) // self._layout.slot_sector(component)))

    def exchange(self, component: int, record: BootRecord) -> BootRecord:
        """Begin, go on with and finish the exchange that the record asks for; return the record that says so.

        Raises:
            PowerLost: the power went meanwhile.
        """
        image = record.images[component]
        if not image.moving:
            self._prepare(component, image)
            image = replace(image, moving=True)
            record = self._store.write(record.with_image(component, image))
        self._move(component, image)
        self._finish(component, image)
        done = replace(image, primary=image.wanted, moving=False, sectors=0, shifted=not image.shifted)
        return self._store.write(record.with_image(component, done))

    def note_confirmed(self, component: int) -> None:
        """Write `image ok`, as MCUboot does on confirmation, if the image came by an exchange and it is not there."""
        trailer = trailers(self._layout, component)[0]
        unit = self._flash.geometry.unit
        if not self._flash.is_blank(trailer.copy_done, unit) and self._flash.is_blank(trailer.image_ok, unit):
            self._write(trailer.image_ok, FLAG_SET)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _prepare(self, component: int, image: ImageFlags) -> None:
        """`swap_scramble_trailer_sectors` and `swap_status_init`. Nothing has been moved yet: all of it can be done again."""
        first, second = trailers(self._layout, component)
        found = self._images(component, image)
        self._erase_trailer(first)
        kind = (
            SwapType.REVERT if image.wanted == image.confirmed else SwapType.PERM if image.permanent else SwapType.TEST
        )
        self._write(first.swap_info, bytes([kind | component << 4]))
        if image.permanent:
            self._write(first.image_ok, FLAG_SET)
        self._write(first.swap_size, max(item.length if item else 0 for item in found).to_bytes(4, "little"))
        self._write(first.tlv_sizes, b"".join(_tlv_size(item).to_bytes(2, "little") for item in found))
        self._write(first.magic_at, first.magic.rjust(first.slot.end - first.magic_at, self._erased))
        self._erase_trailer(second)

    def _move(self, component: int, image: ImageFlags) -> None:
        trailer = trailers(self._layout, component)[0]
        for step in range(self._done(trailer, image), STATES * image.sectors):
            self._checkpoint(("swap", component, step))
            source, target = self._step(component, image, step)
            self._clear(target)
            for at in range(0, target.size, COPY):
                piece = self._flash.read(source.offset + at, min(COPY, target.size - at))
                self._flash.program(target.offset + at, piece)
            self._write(trailer.status(step), bytes([step % STATES + 1]))

    def _clear(self, target: Partition) -> None:
        self._flash.erase(target.offset, target.size)

    def _done(self, trailer: Trailer, image: ImageFlags) -> int:
        """How many steps are done: up to the last status unit that is not blank."""
        unit, first = self._flash.geometry.unit, trailer.status(0)
        for step in range(STATES * image.sectors, 0, -1):
            if not self._flash.is_blank(first + (step - 1) * unit, unit):
                return step
        return 0

    def _step(self, component: int, image: ImageFlags, step: int) -> tuple[Partition, Partition]:
        """Source and target of a step."""
        size = self._layout.slot_sector(component)
        primary, secondary = (part.offset for part in self._layout.slots[component])
        number = step // STATES if image.shifted else image.sectors - 1 - step // STATES
        here = Partition(primary + number * size, size)
        old, new = (0, 1) if image.shifted else (1, 0)
        if step % STATES == 0:
            return here, Partition(secondary + (number + old) * size, size)
        return Partition(secondary + (number + new) * size, size), here

    def _finish(self, component: int, image: ImageFlags) -> None:
        first, second = trailers(self._layout, component)
        if not image.shifted:
            # What is left at the start of the secondary slot must not be taken for an image (MCUboot: swap_run).
            self._flash.erase(second.slot.offset, self._layout.slot_sector(component))
        if self._flash.is_blank(first.copy_done, self._flash.geometry.unit):
            self._write(first.copy_done, FLAG_SET)

    def _erase_trailer(self, trailer: Trailer) -> None:
        """Erase what the trailer lies in, the last sector first, as MCUboot does; what is blank is left alone."""
        size = self._flash.geometry.sizes[self._flash.geometry.sector_at(trailer.first_sector)]
        for at in range(trailer.slot.end - size, trailer.first_sector - 1, -size):
            if not self._flash.is_blank(at, size):
                self._flash.erase(at, size)

    def _images(self, component: int, image: ImageFlags) -> tuple[Image | None, Image | None]:
        """What lies in the primary and in the secondary slot, as far as its header can be read."""
        slots = SwapSlots(self._flash, self._layout, self._store, component)

        def header(slot: int) -> Image | None:
            try:
                return read_image(lambda offset, length: slots.read(slot, offset, length), slots.size)
            except ImageError:
                return None

        return header(image.primary), header(1 - image.primary)

    @property
    def _erased(self) -> bytes:
        return bytes([self._flash.geometry.erased_value])

    def _write(self, offset: int, data: bytes) -> None:
        self._flash.program(offset, padded(data, self._flash.geometry))


def _tlv_size(image: Image | None) -> int:
    """Bytes of the unprotected TLV area."""
    return image.length - image.signed_length if image else 0
