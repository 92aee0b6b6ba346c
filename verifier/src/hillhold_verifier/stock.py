"""A stock board: MCUboot's or Zephyr's SMP, without Hillhold's group. What it says, and what may be asked of it without a release.

Such a board verifies an image's signature at boot, and nothing else. Its answers are judged as little as a courier's: they decide which
release is sent, never which is trusted.

MCUboot's serial recovery is told from a running application by a request that reads: it answers OS command 1 (console echo control) with
success, whatever it is asked, where Zephyr has no such command; and by an image list without states. An upload to it goes over the image
that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hillhold_verifier.agent import IDENTIFY, MAGIC
from hillhold_verifier.answers import BoardRefused, Body
from hillhold_verifier.conversation import Conversation, Request
from hillhold_verifier.courier import StockBoardError, confirm_running, read_status
from hillhold_verifier.errors import ConfirmError, MetadataError, OperationalError, SmpError
from hillhold_verifier.release import Version
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, ImgMgmtErr, MgmtErr, Op, OsCommand
from hillhold_verifier.smp_fields import bytes_field, int_field, text_field

MAX_IMAGES: Final = 32
"""Images that a board may list: MCUboot has at most 16 pairs of slots."""
BUFFERS: Final = (96, 16384)
"""Bytes of the longest message that a board may state; anything else is brought into this range."""
UNSTATED_BUFFER: Final = 256
"""What a board takes that does not say: less than the default of Zephyr (384) and of serial recovery (1024)."""
MAX_COUNT: Final = 16
_ECHO_CONTROL: Final = 1
_STATES: Final = ("active", "confirmed", "pending", "permanent", "bootable")


@dataclass(frozen=True, slots=True)
class StockImage:
    """An image that a board lists. `image` is MCUboot's image number; `hash` MCUboot's image hash, empty where it is not stated."""

    image: int
    slot: int
    version: Version
    hash: bytes
    active: bool
    confirmed: bool
    pending: bool
    permanent: bool

    def shown(self) -> dict[str, object]:
        """Return what it is, by name."""
        names = ("image", "slot", "hash", "active", "confirmed", "pending", "permanent")
        return {"version": str(self.version), **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True)
class StockBoard:
    """What a stock board says of itself.

    Attributes:
        images: what its slots hold.
        recovery: it is in MCUboot's serial recovery.
        buffer: bytes of the longest message that it takes.
        window: requests that it can hold while it answers one.
    """

    images: tuple[StockImage, ...]
    recovery: bool
    buffer: int = UNSTATED_BUFFER
    window: int = 1

    def of(self, component: int) -> Iterator[StockImage]:
        """Yield the images of a component."""
        return (image for image in self.images if image.image == component)

    def running(self, component: int) -> StockImage | None:
        """Return what runs; in recovery, what lies in the first slot."""
        return next((image for image in self.of(component) if image.active), None)

    def confirmed(self, component: int) -> StockImage | None:
        """Return what boots when nothing is tried."""
        return next((image for image in self.of(component) if image.confirmed), None)

    @property
    def on_trial(self) -> tuple[StockImage, ...]:
        """What runs unconfirmed."""
        return tuple(image for image in self.images if image.active and not image.confirmed)

    @property
    def pending(self) -> tuple[StockImage, ...]:
        """What boots at the next reset in place of what runs."""
        return tuple(image for image in self.images if image.pending)


def meet(group: int = HILLHOLD_GROUP) -> Conversation[StockBoard | None]:
    """Ask a board what it is, and write nothing; None for one that speaks Hillhold's group.

    Raises:
        OperationalError: it speaks SMP, and neither lists images.
        SmpError: its list is malformed.
    """
    if (yield Request(Op.READ, group, IDENTIFY, {})).get("magic") == MAGIC:
        return None
    parameters = yield Request(Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS, {})
    buffer, window = UNSTATED_BUFFER, 1
    if "buf_size" in parameters:
        buffer = min(max(int_field(parameters, "buf_size"), BUFFERS[0]), BUFFERS[1])
        # One of the buffers holds the answer.
        window = max(1, min(int_field(parameters, "buf_count", 1), MAX_COUNT) - 1)
    control = yield Request(Op.READ, Group.OS, _ECHO_CONTROL, {})
    recovery = "err" not in control and control.get("rc") == MgmtErr.EOK
    images = yield Request(Op.READ, Group.IMAGE, ImageCommand.STATE, {})
    if "images" not in images:
        raise OperationalError(
            f"the board does not speak Hillhold's group {group}, and lists no images ({_words(images)})"
        )
    return listed(images, StockBoard((), recovery, buffer, window))


def look(board: StockBoard, *, booting: bool = False) -> Conversation[StockBoard]:
    """Ask what the slots of a board hold now. `booting`: it may be silent for a while."""
    answer = yield Request(Op.READ, Group.IMAGE, ImageCommand.STATE, {}, booting=booting)
    return listed(answer, board)


def listed(answer: Body, board: StockBoard) -> StockBoard:
    """Read an image list.

    Raises:
        OperationalError: it is none.
        SmpError: it is malformed.
    """
    rows = answer.get("images")
    if not isinstance(rows, list):
        raise OperationalError(f"the board lists no images ({_words(answer)})")
    if len(rows) > MAX_IMAGES:
        raise SmpError("image list", expected=f"at most {MAX_IMAGES}", got=len(rows))
    maps = [row for row in rows if isinstance(row, dict)]
    recovery = board.recovery or (bool(maps) and not any(name in row for row in maps for name in _STATES))
    images = tuple(_image(row, recovery=recovery) for row in maps)
    places = {(image.image, image.slot) for image in images}
    if len(places) < len(rows):
        raise SmpError("image list", expected="a map for each slot", got="another")
    return StockBoard(images, recovery, board.buffer, board.window)


def refuse_error(answer: Body, doing: str) -> Body:
    """Return an answer; raises `BoardRefused` where it is an error."""
    error = answer.get("err")
    code = error.get("rc") if isinstance(error, dict) else answer.get("rc", 0)
    if code or "err" in answer:
        raise BoardRefused(code if isinstance(code, int) else 0, f"{doing}: the board answers {_words(answer)}")
    return answer


def status_of(group: int = HILLHOLD_GROUP) -> Conversation[StockBoard | tuple[Body, Body]]:
    """Ask a board what it is: a stock board, or identity and status of one of ours."""
    try:
        return (yield from read_status(group))
    except StockBoardError:
        return (yield from _stock(group))


def confirm_any(group: int = HILLHOLD_GROUP) -> Conversation[StockBoard | Body]:
    """Confirm what runs: returns what a stock board lists then, or the status of one of ours."""
    try:
        return (yield from confirm_running(group))
    except StockBoardError:
        return (yield from confirm_stock((yield from _stock(group))))


def _stock(group: int) -> Conversation[StockBoard]:
    if (board := (yield from meet(group))) is None:
        raise OperationalError("the board answers now as a stock board, now as one of ours")
    return board


def confirm_stock(board: StockBoard) -> Conversation[StockBoard]:
    """Confirm what runs on a stock board, for whoever knows that its own test has passed; returns what it lists then.

    Raises:
        ConfirmError: nothing runs there that could be confirmed.
        BoardRefused: it does not.
    """
    if board.recovery:
        raise ConfirmError("confirmation", expected="a running application", got="MCUboot's serial recovery")
    if not board.on_trial:
        return board
    answer = yield Request(Op.WRITE, Group.IMAGE, ImageCommand.STATE, {"confirm": True}, slow=True)
    refuse_error(answer, "confirm")
    after = yield from look(board)
    if after.on_trial:
        raise ConfirmError("confirmation", expected="a confirmed image", got="one that is on trial still")
    return after


def _image(row: Body, *, recovery: bool) -> StockImage:
    slot = int_field(row, "slot")
    # In recovery nothing runs: what lies in the first slot is what boots.
    first = recovery and slot == 0
    digest = bytes_field(row, "hash", b"")
    if len(digest) not in (0, 32):
        raise SmpError("hash of an image", expected="32 bytes", got=len(digest))
    flags = {name: row.get(name) is True for name in ("active", "confirmed", "pending", "permanent")}
    if recovery:
        flags |= {"active": first, "confirmed": first}
    return StockImage(int_field(row, "image", 0), slot, _version(text_field(row, "version")), digest, **flags)


def _version(text: str) -> Version:
    """Read MCUboot's `1.2.3` or `1.2.3.4`."""
    parts = text.split(".")
    try:
        return Version.parse(f"{'.'.join(parts[:3])}+{parts[3]}" if len(parts) == 4 else text)
    except MetadataError:
        raise SmpError("version of an image", expected="MAJOR.MINOR.REVISION[.BUILD]", got=repr(text)[:40]) from None


def _words(answer: Body) -> str:
    """An error of SMP in words."""
    error = answer.get("err")
    names: type[ImgMgmtErr | MgmtErr] = MgmtErr
    code = answer.get("rc")
    if isinstance(error, dict):
        code = error.get("rc")
        names = ImgMgmtErr if error.get("group") == Group.IMAGE else MgmtErr
    if not isinstance(code, int):
        return "something else"
    known = next((item.name for item in names if item == code), "")
    reason = answer.get("rsn")
    return f"error {code} {known}".rstrip() + (f": {reason}" if isinstance(reason, str) and reason else "")
