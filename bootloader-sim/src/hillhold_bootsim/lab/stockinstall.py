"""How the lab's own images get onto a stock board, which checks their signature and nothing else."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from typing import Final

from hillhold_verifier.conversation import Conversation, Pause, Request, Upload
from hillhold_verifier.errors import HillholdError, OperationalError
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import Group, ImageCommand, Op, OsCommand
from hillhold_verifier.sources import FileContent
from hillhold_verifier.stock import confirm_stock, look, meet, refuse_error

BOOT: Final = 1.0
"""Seconds that a board is left alone after a reset, before it is asked anything."""


def install(data: bytes, *, confirm: bool = True) -> Conversation[None]:
    """Install on a stock board, whose own check is that of the image's signature."""
    board = yield from meet()
    if board is None:
        raise OperationalError("the board answers now as a stock board, now as one of ours")
    first = {"image": 0, "len": len(data), "sha": sha256(data).digest()}
    content = FileContent(BytesIO(data), "image")
    refuse_error((yield Upload(content, len(data), first, "image", board.buffer, board.window)), "upload")
    if not board.recovery:
        body = {"hash": image_hash(data), "confirm": False}
        refuse_error((yield Request(Op.WRITE, Group.IMAGE, ImageCommand.STATE, body, slow=True)), "test")
    yield Request(Op.WRITE, Group.OS, OsCommand.RESET, {}, once=True)
    yield Pause(BOOT)
    board = yield from look(board, booting=True)
    if confirm and not board.recovery:
        yield from confirm_stock(board)


def image_hash(data: bytes) -> bytes:
    """The hash by which SMP names an image; of what is no image, of all its bytes."""
    try:
        return parse_image(data).sha256
    except HillholdError:
        return sha256(data).digest()
