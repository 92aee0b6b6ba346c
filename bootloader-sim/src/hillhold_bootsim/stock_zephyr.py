"""Zephyr's SMP server on a simulated board: groups OS and image (`stock`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.stock_line import Fields, ImgError, MgmtError, StockAgent, version_text
from hillhold_verifier.errors import ImageError
from hillhold_verifier.framing import Transport
from hillhold_verifier.mcuboot import HEADER_SIZE, MAGIC
from hillhold_verifier.slotio import SlotWriter
from hillhold_verifier.slots import Mark, Slots
from hillhold_verifier.smp import Group, ImgMgmtErr, Message, MgmtErr, Op


class ZephyrAgent(StockAgent):
    """Zephyr's SMP server in the application: groups OS and image.

    Args:
        match: it compares what it wrote with `sha`, and says so (CONFIG_IMG_ENABLE_IMAGE_CHECK).
        slot_info: it has the slot info command.
    """

    def __init__(
        self,
        slots: Sequence[Slots],
        control: SimBootControl,
        *,
        swap: bool,
        buffer: int = 384,
        count: int = 4,
        parameters: bool = True,
        transport: Transport = Transport.CONSOLE,
        busy: float = 0.0,
        match: bool = False,
        slot_info: bool = True,
    ) -> None:
        super().__init__(
            slots,
            control,
            swap=swap,
            buffer=buffer,
            count=count,
            parameters=parameters,
            transport=transport,
            busy=busy,
        )
        self._match, self._slot_info = match, slot_info
        self._upload: _Upload | None = None

    def self_test_passed(self, *, confirm: bool) -> None:
        """The application confirms itself, or waits for the wire."""
        if confirm:
            self._control.confirm()

    def _body(self, request: Message) -> Fields:
        match request.group, request.command, request.op:
            case Group.OS, 0, _:
                return {"r": request.body.get("d", "")}
            case Group.OS, 5, Op.WRITE:
                self.reset_requested = True
                return {}
            case Group.OS, 6, Op.READ:
                return self._stated()
            case Group.IMAGE, 0, Op.READ:
                return self._state()
            case Group.IMAGE, 0, Op.WRITE:
                self._set_state(request.body)
                return self._state()
            case Group.IMAGE, 1, Op.WRITE:
                return self._take(request.body)
            case Group.IMAGE, 5, Op.WRITE:
                self._erase(request.body)
                return {}
            case Group.IMAGE, 6, Op.READ if self._slot_info:
                return {"images": [self._sizes(component) for component, _ in enumerate(self._slots)]}
        raise MgmtError(MgmtErr.ENOTSUP)

    # --- state --------------------------------------------------------------------------------------------------------

    def _permanent(self, component: int) -> bool:
        return self._control.store.record().images[component].permanent

    def _state(self) -> Fields:
        images: list[Fields] = []
        for component, _ in enumerate(self._slots):
            flags = self._control.flags(component)
            marked = flags.mark is not None and not flags.trial
            for slot in sorted((0, 1), key=lambda slot: self._place(component, slot)):
                active = slot == flags.running
                try:
                    image = self._image(component, slot)
                except ImageError:
                    continue
                number = {"image": component} if len(self._slots) > 1 else {}
                images.append(
                    {
                        **number,
                        "slot": self._place(component, slot),
                        "version": version_text(image.version),
                        "hash": image.sha256,
                        "bootable": True,
                        "pending": marked and not active,
                        "confirmed": active != flags.trial,  # during a trial, the other one
                        "active": active,
                        "permanent": marked and not active and self._permanent(component),
                    }
                )
        return {"images": images, "splitStatus": 0}

    def _set_state(self, body: Fields) -> None:
        digest, confirm = body.get("hash", b""), body.get("confirm", False)
        if not isinstance(digest, bytes) or not isinstance(confirm, bool):
            raise MgmtError(MgmtErr.EINVAL)
        if not digest and confirm:
            component, slot = 0, self._control.flags(0).running
        elif len(digest) != 32:
            raise ImgError(ImgMgmtErr.INVALID_HASH)
        else:
            component, slot = self._find(digest)
        flags = self._control.flags(component)
        active, marked = slot == flags.running, flags.mark is not None and not flags.trial
        if not confirm and active:
            raise ImgError(ImgMgmtErr.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED)
        if flags.trial:
            if not confirm:
                raise ImgError(ImgMgmtErr.IMAGE_ALREADY_PENDING)
            if active:
                self._control.confirm()
            return
        if marked:
            if active or confirm != self._permanent(component):
                raise ImgError(ImgMgmtErr.IMAGE_ALREADY_PENDING)
            return
        if not active and slot is not None:
            self._mark(component, slot, permanent=confirm)

    def _find(self, digest: bytes) -> tuple[int, int]:
        for component, _ in enumerate(self._slots):
            for slot in (0, 1):
                with suppress(ImageError):
                    if self._image(component, slot).sha256 == digest:
                        return component, slot
        raise ImgError(ImgMgmtErr.HASH_NOT_FOUND)

    def _mark(self, component: int, slot: int, *, permanent: bool) -> None:
        length = self._image(component, slot).length
        marks = {n: mark for n, _ in enumerate(self._slots) if (mark := self._control.flags(n).mark)}
        marks[component] = Mark(hashlib.sha256(self._slots[component].read(slot, 0, length)).digest(), length)
        (self._control.set_permanent_marks if permanent else self._control.set_marks)(marks)

    # --- upload and erase ---------------------------------------------------------------------------------------------

    def _in_use(self, component: int) -> bool:
        """The other slot is the way back, or is to be tried."""
        flags = self._control.flags(component)
        return flags.trial or flags.mark is not None

    def _other(self, component: int) -> int:
        running = self._control.flags(component).running
        return 0 if running is None else 1 - running

    def _take(self, body: Fields) -> Fields:
        offset, data, sha = body.get("off"), body.get("data", b""), body.get("sha", b"")
        if not isinstance(data, bytes) or not isinstance(sha, bytes):
            raise MgmtError(MgmtErr.EINVAL)
        if not isinstance(offset, int) or offset < 0:
            raise ImgError(ImgMgmtErr.INVALID_OFFSET)
        if offset == 0 and (going := self._begin(body, data, sha)) is not None:
            return {"off": going}
        upload = self._upload
        if upload is None or offset != upload.writer.offset:
            return {"off": upload.writer.offset if upload else 0}
        if offset + len(data) > upload.size:
            self._upload = None
            raise ImgError(ImgMgmtErr.INVALID_IMAGE_DATA_OVERRUN)
        upload.writer.write(data)
        at = upload.writer.offset
        if at < upload.size:
            return {"off": at}
        self._upload = None
        return {"off": at, **({"match": upload.matches(self._slots)} if self._match else {})}

    def _begin(self, body: Fields, data: bytes, sha: bytes) -> int | None:
        """Judge a first piece; the offset of an upload that goes on, or None where this one begins."""
        size, component = body.get("len"), body.get("image", 0)
        if len(data) < HEADER_SIZE:
            raise ImgError(ImgMgmtErr.INVALID_IMAGE_HEADER)
        if not isinstance(size, int):
            raise ImgError(ImgMgmtErr.INVALID_LENGTH)
        if int.from_bytes(data[:4], "little") != MAGIC:
            raise ImgError(ImgMgmtErr.INVALID_IMAGE_HEADER_MAGIC)
        if len(sha) > 32:
            raise ImgError(ImgMgmtErr.INVALID_HASH)
        if sha and self._upload and self._upload.sha == sha:
            return self._upload.writer.offset
        if not isinstance(component, int) or not 0 <= component < len(self._slots) or self._in_use(component):
            raise ImgError(ImgMgmtErr.NO_FREE_SLOT)
        slots, slot = self._slots[component], self._other(component)
        if size > slots.size:
            raise ImgError(ImgMgmtErr.INVALID_IMAGE_TOO_LARGE)
        slots.erase(slot, 0, slots.size)
        self._upload = _Upload(component, slot, size, sha, SlotWriter(slots, slot, 0, size))
        return None

    def _erase(self, body: Fields) -> None:
        number = body.get("slot", 1)
        if not isinstance(number, int) or not 0 <= number < 2 * len(self._slots):
            raise ImgError(ImgMgmtErr.INVALID_SLOT)
        component = number // 2
        slot = next(slot for slot in (0, 1) if self._place(component, slot) == number % 2)
        if slot == self._control.flags(component).running or self._in_use(component):
            raise ImgError(ImgMgmtErr.NO_FREE_SLOT)
        self._slots[component].erase(slot, 0, self._slots[component].size)
        self._upload = None

    def _sizes(self, component: int) -> Fields:
        size = self._slots[component].size
        slots = [{"slot": 0, "size": size}, {"slot": 1, "size": size, "upload_image_id": component}]
        return {"image": component, "slots": slots}


class _Upload:
    """An upload under way; it is forgotten at a reset."""

    def __init__(self, component: int, slot: int, size: int, sha: bytes, writer: SlotWriter) -> None:
        self.component, self.slot, self.size, self.sha, self.writer = component, slot, size, sha, writer

    def matches(self, slots: Sequence[Slots]) -> bool:
        """What lies in the slot has the hash that the client named."""
        return hashlib.sha256(slots[self.component].read(self.slot, 0, self.size)).digest() == self.sha
