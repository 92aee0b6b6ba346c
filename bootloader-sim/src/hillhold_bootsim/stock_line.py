"""What the servers of stock boards share: the line, errors of SMP in both versions, and how slots are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hillhold_bootsim.bootflags import SimBootControl
from hillhold_verifier.errors import SmpError
from hillhold_verifier.framing import Framed, Receiver, Transport, frame
from hillhold_verifier.mcuboot import Image, ImageVersion, read_image
from hillhold_verifier.slots import Slots
from hillhold_verifier.smp import Group, ImgMgmtErr, Message, MgmtErr, Op, decode, encode

Fields = Mapping[str, object]
CONSOLE_OVERHEAD: Final = 4
"""Bytes of a buffer that length and CRC of a console packet take: both servers keep them beside the message."""
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


class MgmtError(Exception):
    """An error of SMP itself: `rc` in both versions."""

    def __init__(self, code: MgmtErr) -> None:
        super().__init__(code.name)
        self.code = code


class ImgError(Exception):
    """An error of the image group."""

    def __init__(self, code: ImgMgmtErr) -> None:
        super().__init__(code.name)
        self.code = code


class StockAgent:
    """The line, and what both kinds share.

    Args:
        buffer, count: what it states. A message that is longer is lost, and one that comes while all buffers are taken: one holds the
            answer, each other one a request. Zephyr's raw UART has one request at a time, whatever there are.
        transport: console or raw.
        busy: seconds that it takes for a request. The answer is returned at once; whoever carries it holds it back as long.

    Attributes:
        reset_requested: the board is to be reset once the answer is out.
    """

    def __init__(
        self,
        slots: Sequence[Slots],
        control: SimBootControl,
        *,
        swap: bool,
        buffer: int,
        count: int,
        parameters: bool,
        transport: Transport = Transport.CONSOLE,
        busy: float = 0.0,
    ) -> None:
        self._slots, self._control, self._swap = tuple(slots), control, swap
        self._buffer, self._count, self._parameters = buffer, count, parameters
        self._transport, self._busy = transport, busy
        console = transport is Transport.CONSOLE
        self._receiver = Receiver(buffer - CONSOLE_OVERHEAD if console else buffer, (transport,))
        self._room = max(1, count - 1) if console else 1
        self._seconds = 0.0
        self._ends: list[float] = []  # when each request that waits will have been answered
        self.reset_requested = False

    def receive(self, data: bytes, _now: int | None) -> bytes:
        """Take bytes of the line; return those to send."""
        messages = [event.data for event in self._receiver.feed(data) if isinstance(event, Framed)]
        answers = [answer for message in messages if self._takes() and (answer := self.answer(message))]
        return b"".join(frame(answer, self._transport) for answer in answers)

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds = seconds
        self._receiver.tick(seconds)

    def _takes(self) -> bool:
        """There is a buffer for one more request."""
        self._ends = [end for end in self._ends if end > self._seconds]
        if len(self._ends) >= self._room:
            return False
        self._ends.append(max([self._seconds, *self._ends]) + self._busy)
        return True

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
        except MgmtError as error:
            body = {"rc": int(error.code)}
        except ImgError as error:
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
            raise MgmtError(MgmtErr.ENOTSUP)
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


def version_text(version: ImageVersion) -> str:
    """Return a version as stock servers write it: the build number behind a point, unless it is 0."""
    build = f".{version.build}" if version.build else ""
    return f"{version.major}.{version.minor}.{version.revision}{build}"
