"""A stock board: what serves its line is Zephyr's SMP server, or MCUboot's serial recovery, and nothing of Hillhold's.

Both answer as their C sources do (Zephyr 4.x: `img_mgmt.c`, `img_mgmt_state.c`, `zephyr_img_mgmt.c`; MCUboot: `boot_serial.c`):

- Zephyr takes any upload that begins with an MCUboot header, into the other slot; goes on with an interrupted one of the same `sha`, until
  a reset; answers a wrong offset with the right one; tries, confirms (for good, too) and erases without any metadata.
- Serial recovery writes into the slot that runs, lists only images that verify, knows no states, and answers in SMP v1's words.

The bootloader below is this package's own. Its mark names the hash of the whole image, so `test` takes that of what lies in the slot: as
MCUboot, which marks a slot, it tries whatever is there. In recovery the agent writes the boot flags as MCUboot needs none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Final

from hillhold_bootsim.application import SelfTest
from hillhold_bootsim.board import Agent, BoardInfo, VirtualBoard
from hillhold_bootsim.bootflags import ImageFlags, SimBootControl
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_verifier.errors import ImageError, ImageSignatureError, MisuseError, SmpError
from hillhold_verifier.mcuboot import HEADER_SIZE, MAGIC, Image, ImageKey, read_image, verify_image
from hillhold_verifier.slotio import SlotWriter
from hillhold_verifier.slots import BootControl, CounterStore, Mark, RecordAreas, Slots
from hillhold_verifier.smp import Group, ImgMgmtErr, Message, MgmtErr, Op, decode, encode
from hillhold_verifier.smp_console import ConsoleDecoder, Packet, encode_console

ECHO, ECHO_CONTROL, RESET, PARAMETERS = 0, 1, 5, 6
STATE, UPLOAD, ERASE, SLOT_INFO = 0, 1, 5, 6

Fields = Mapping[str, object]
_V1: Final = {
    ImgMgmtErr.NO_IMAGE: MgmtErr.ENOENT,
    ImgMgmtErr.NO_TLVS: MgmtErr.ENOENT,
    ImgMgmtErr.NO_FREE_SLOT: MgmtErr.EBADSTATE,
    ImgMgmtErr.IMAGE_ALREADY_PENDING: MgmtErr.EBADSTATE,
    ImgMgmtErr.INVALID_SLOT: MgmtErr.EINVAL,
    ImgMgmtErr.INVALID_OFFSET: MgmtErr.EINVAL,
    ImgMgmtErr.INVALID_LENGTH: MgmtErr.EINVAL,
    ImgMgmtErr.INVALID_IMAGE_HEADER: MgmtErr.EINVAL,
    ImgMgmtErr.INVALID_HASH: MgmtErr.EINVAL,
}
"""What an error of the image group is called in SMP v1; EUNKNOWN where it is not named here."""


class Stock(Enum):
    """What serves a stock board's line."""

    ZEPHYR = "zephyr"
    RECOVERY = "recovery"


class _Mgmt(Exception):
    """An error of SMP itself: `rc` in both versions."""

    def __init__(self, code: MgmtErr) -> None:
        super().__init__(code.name)
        self.code = code


class _Img(Exception):
    """An error of the image group."""

    def __init__(self, code: ImgMgmtErr) -> None:
        super().__init__(code.name)
        self.code = code


class _Stock:
    """The line, and what both kinds share.

    Attributes:
        reset_requested: the board is to be reset once the answer is out.
    """

    def __init__(
        self, slots: Sequence[Slots], control: SimBootControl, *, swap: bool, buffer: int, count: int, parameters: bool
    ) -> None:
        self._slots, self._control, self._swap = tuple(slots), control, swap
        self._buffer, self._count, self._parameters = buffer, count, parameters
        self._decoder = ConsoleDecoder(buffer)
        self.reset_requested = False

    def receive(self, data: bytes, _now: int | None) -> bytes:
        """Take bytes of the line; return those to send."""
        packets = [event.data for event in self._decoder.feed(data) if isinstance(event, Packet)]
        return b"".join(encode_console(answer) for packet in packets if (answer := self.answer(packet)))

    def answer(self, packet: bytes) -> bytes | None:
        """Answer one SMP message, or None where it is none."""
        try:
            request = decode(packet)
        except SmpError:
            return None
        if request.op not in (Op.READ, Op.WRITE):
            return None
        try:
            body = self._body(request)
        except _Mgmt as error:
            body = {"rc": int(error.code)}
        except _Img as error:
            in_v2 = {"err": {"group": int(Group.IMAGE), "rc": int(error.code)}}
            body = in_v2 if request.version else {"rc": int(_V1.get(error.code, MgmtErr.EUNKNOWN))}
        response = Op.READ_RSP if request.op is Op.READ else Op.WRITE_RSP
        return encode(
            Message(response, request.group, request.command, request.sequence, body, version=request.version)
        )

    def _body(self, request: Message) -> Fields:
        raise NotImplementedError

    def _stated(self) -> Fields:
        if not self._parameters:
            raise _Mgmt(MgmtErr.ENOTSUP)
        return {"buf_size": self._buffer, "buf_count": self._count}

    def _image(self, component: int, slot: int) -> Image:
        """What a slot says that it holds; its hash is not looked at."""
        slots = self._slots[component]
        return read_image(lambda offset, length: slots.read(slot, offset, length), slots.size)

    def _place(self, component: int, slot: int) -> int:
        """The number of a slot as stock tools count: in swap mode, what runs is in slot 0."""
        if not self._swap:
            return slot
        running = self._control.flags(component).running
        return int(slot != running) if running is not None else slot


class ZephyrAgent(_Stock):
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
        match: bool = False,
        slot_info: bool = True,
    ) -> None:
        super().__init__(slots, control, swap=swap, buffer=buffer, count=count, parameters=parameters)
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
        raise _Mgmt(MgmtErr.ENOTSUP)

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
                build = f".{image.version.build}" if image.version.build else ""
                images.append(
                    {
                        **number,
                        "slot": self._place(component, slot),
                        "version": f"{image.version.major}.{image.version.minor}.{image.version.revision}{build}",
                        "hash": image.sha256,
                        "bootable": True,
                        "pending": marked and not active,
                        "confirmed": active != flags.trial,
                        "active": active,
                        "permanent": marked and not active and self._permanent(component),
                    }
                )
                if not active and not flags.trial:
                    images[-1] = {**images[-1], "confirmed": False}
        return {"images": images, "splitStatus": 0}

    def _set_state(self, body: Fields) -> None:
        digest, confirm = body.get("hash", b""), body.get("confirm", False)
        if not isinstance(digest, bytes) or not isinstance(confirm, bool):
            raise _Mgmt(MgmtErr.EINVAL)
        if not digest and confirm:
            component, slot = 0, self._control.flags(0).running
        elif len(digest) != 32:
            raise _Img(ImgMgmtErr.INVALID_HASH)
        else:
            component, slot = self._find(digest)
        flags = self._control.flags(component)
        active, marked = slot == flags.running, flags.mark is not None and not flags.trial
        if not confirm and active:
            raise _Img(ImgMgmtErr.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED)
        if flags.trial:
            if not confirm:
                raise _Img(ImgMgmtErr.IMAGE_ALREADY_PENDING)
            if active:
                self._control.confirm()
            return
        if marked:
            if active or confirm != self._permanent(component):
                raise _Img(ImgMgmtErr.IMAGE_ALREADY_PENDING)
            return
        if not active and slot is not None:
            self._mark(component, slot, permanent=confirm)

    def _find(self, digest: bytes) -> tuple[int, int]:
        for component, _ in enumerate(self._slots):
            for slot in (0, 1):
                with suppress(ImageError):
                    if self._image(component, slot).sha256 == digest:
                        return component, slot
        raise _Img(ImgMgmtErr.HASH_NOT_FOUND)

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
            raise _Mgmt(MgmtErr.EINVAL)
        if not isinstance(offset, int) or offset < 0:
            raise _Img(ImgMgmtErr.INVALID_OFFSET)
        if offset == 0 and (going := self._begin(body, data, sha)) is not None:
            return {"off": going}
        upload = self._upload
        if upload is None or offset != upload.writer.offset:
            return {"off": upload.writer.offset if upload else 0}
        if offset + len(data) > upload.size:
            self._upload = None
            raise _Img(ImgMgmtErr.INVALID_IMAGE_DATA_OVERRUN)
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
            raise _Img(ImgMgmtErr.INVALID_IMAGE_HEADER)
        if not isinstance(size, int):
            raise _Img(ImgMgmtErr.INVALID_LENGTH)
        if int.from_bytes(data[:4], "little") != MAGIC:
            raise _Img(ImgMgmtErr.INVALID_IMAGE_HEADER_MAGIC)
        if len(sha) > 32:
            raise _Img(ImgMgmtErr.INVALID_HASH)
        if sha and self._upload and self._upload.sha == sha:
            return self._upload.writer.offset
        if not isinstance(component, int) or not 0 <= component < len(self._slots) or self._in_use(component):
            raise _Img(ImgMgmtErr.NO_FREE_SLOT)
        slots, slot = self._slots[component], self._other(component)
        if size > slots.size:
            raise _Img(ImgMgmtErr.INVALID_IMAGE_TOO_LARGE)
        slots.erase(slot, 0, slots.size)
        self._upload = _Upload(component, slot, size, sha, SlotWriter(slots, slot, 0, size))
        return None

    def _erase(self, body: Fields) -> None:
        number = body.get("slot", 1)
        if not isinstance(number, int) or not 0 <= number < 2 * len(self._slots):
            raise _Img(ImgMgmtErr.INVALID_SLOT)
        component = number // 2
        slot = next(slot for slot in (0, 1) if self._place(component, slot) == number % 2)
        if slot == self._control.flags(component).running or self._in_use(component):
            raise _Img(ImgMgmtErr.NO_FREE_SLOT)
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


class RecoveryAgent(_Stock):
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
        hashes: bool = True,
    ) -> None:
        super().__init__(slots, control, swap=swap, buffer=buffer, count=1, parameters=parameters)
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
        raise _Mgmt(MgmtErr.ENOTSUP)

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
                build = f".{image.version.build}" if image.version.build else ""
                text = f"{image.version.major}.{image.version.minor}.{image.version.revision}{build}"
                yield {**number, "slot": int(slot != primary), **digest, "version": text}

    def _primary(self, component: int) -> int:
        image = self._control.store.record().images[component]
        return image.primary if self._swap else image.confirmed or 0

    def _take(self, body: Fields) -> int:
        offset, data = body.get("off"), body.get("data")
        if not isinstance(offset, int) or not isinstance(data, bytes):
            raise _Mgmt(MgmtErr.EINVAL)
        if offset == 0:
            self._begin(body)
        writer = self._writer
        if writer is None or offset != writer.offset:
            return writer.offset if writer else 0
        if offset + len(data) > self._size:
            raise _Mgmt(MgmtErr.EINVAL)
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
            raise _Mgmt(MgmtErr.EINVAL)
        if not 0 < size <= self._slots[component].size:
            raise _Mgmt(MgmtErr.EINVAL)
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


def make_stock_board(
    flash: Flash,
    layout: Layout,
    keys: Sequence[ImageKey],
    kind: Stock = Stock.ZEPHYR,
    self_test: SelfTest | None = None,
    buffer: int | None = None,
    **options: bool,
) -> VirtualBoard:
    """Return a stock board, switched off. Where no image boots, its bootloader waits in serial recovery, whatever `kind` says.

    Args:
        buffer: bytes of the longest SMP message; None for what such boards have by default.
        options: of `ZephyrAgent` or `RecoveryAgent`.
    """
    plain = replace(layout, keys=None)  # no list of keys: that is Hillhold's
    swap = plain.mode is BootMode.SWAP

    def agent(
        slots: Sequence[Slots],
        control: BootControl,
        _counters: Sequence[CounterStore],
        _areas: RecordAreas,
        info: BoardInfo,
    ) -> Agent:
        if not isinstance(control, SimBootControl):
            raise MisuseError("a stock board needs the simulated bootloader's flags")
        if kind is Stock.RECOVERY:
            return RecoveryAgent(slots, control, keys, swap=swap, buffer=buffer or 1024, **options)
        if not info.outcome.images:
            return RecoveryAgent(slots, control, keys, swap=swap)
        return ZephyrAgent(slots, control, swap=swap, buffer=buffer or 384, **options)

    return VirtualBoard(flash, plain, keys, agent, self_test)
