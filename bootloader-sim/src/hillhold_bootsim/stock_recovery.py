"""MCUboot's serial recovery on a simulated board (`stock`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hillhold_bootsim.bootflags import ImageFlags, SimBootControl
from hillhold_bootsim.stock_line import Fields, MgmtError, StockAgent, version_text
from hillhold_verifier.errors import ImageError, ImageSignatureError
from hillhold_verifier.framing import Transport
from hillhold_verifier.mcuboot import ImageKey, verify_image
from hillhold_verifier.slotio import SlotWriter
from hillhold_verifier.slots import Slots
from hillhold_verifier.smp import Group, Message, MgmtErr, Op


class RecoveryAgent(StockAgent):
    """MCUboot's serial recovery.

    Args:
        keys: the bootloader's, since it lists only what verifies.
        hashes: it states hashes (CONFIG_BOOT_SERIAL_IMG_GRP_HASH).
    """

    def __init__(
        self,
        slots: Sequence[Slots],
        control: SimBootControl,
        keys: Sequence[ImageKey],
        *,
        swap: bool,
        buffer: int = 1024,
        parameters: bool = True,
        transport: Transport = Transport.CONSOLE,
        busy: float = 0.0,
        hashes: bool = True,
    ) -> None:
        super().__init__(
            slots,
            control,
            swap=swap,
            buffer=buffer,
            count=1,
            parameters=parameters,
            transport=transport,
            busy=busy,
        )
        self._keys, self._hashes = tuple(keys), hashes
        self._component, self._size = 0, 0
        self._writer: SlotWriter | None = None

    def self_test_passed(self, *, confirm: bool) -> None:
        """No application runs."""

    def _body(self, request: Message) -> Fields:
        match request.group, request.command:
            case Group.OS, 1:
                return {"rc": 0}
            case Group.OS, 5:
                self.reset_requested = True
                return {"rc": 0}
            case Group.OS, 6:
                return self._stated()
            case Group.IMAGE, 0 if request.op is Op.READ:
                return {"images": list(self._listed())}
            case Group.IMAGE, 1:
                return {"rc": 0, "off": self._take(request.body)}
        raise MgmtError(MgmtErr.ENOTSUP)

    def _listed(self) -> Iterator[Fields]:
        for component, _ in enumerate(self._slots):
            primary = self._primary(component)
            for slot in (primary, 1 - primary):
                slots = self._slots[component]
                try:
                    image = self._image(component, slot)
                    verify_image(image, lambda offset, length, s=slot, p=slots: p.read(s, offset, length), self._keys)
                except (ImageError, ImageSignatureError):
                    continue
                number = {"image": component} if len(self._slots) > 1 else {}
                digest = {"hash": image.sha256} if self._hashes else {}
                yield {**number, "slot": int(slot != primary), **digest, "version": version_text(image.version)}

    def _primary(self, component: int) -> int:
        image = self._control.store.record().images[component]
        return image.primary if self._swap else image.confirmed or 0

    def _take(self, body: Fields) -> int:
        offset, data = body.get("off"), body.get("data")
        if not isinstance(offset, int) or not isinstance(data, bytes):
            raise MgmtError(MgmtErr.EINVAL)
        if offset == 0:
            self._begin(body)
        writer = self._writer
        if writer is None or offset != writer.offset:
            return writer.offset if writer else 0
        if offset + len(data) > self._size:
            raise MgmtError(MgmtErr.EINVAL)
        unit = self._slots[self._component].unit
        if offset + len(data) < self._size:
            data = data[: len(data) // unit * unit]  # the rest is asked for again
        writer.write(data)
        if writer.complete:
            self._writer = None
            self._flag(ImageFlags(confirmed=0))
            return self._size
        return writer.offset

    def _begin(self, body: Fields) -> None:
        size, component = body.get("len"), body.get("image", 0)
        if not isinstance(component, int) or not 0 <= component < len(self._slots) or not isinstance(size, int):
            raise MgmtError(MgmtErr.EINVAL)
        if not 0 < size <= self._slots[component].size:
            raise MgmtError(MgmtErr.EINVAL)
        # From here on nothing boots, until the new image is whole.
        self._component, self._size = component, size
        self._flag(ImageFlags())
        slots = self._slots[component]
        slots.erase(0, 0, slots.size)
        self._writer = SlotWriter(slots, 0, 0, size)

    def _flag(self, flags: ImageFlags) -> None:
        store = self._control.store
        record = store.record()
        store.write(replace(record, starts=0).with_image(self._component, flags))
