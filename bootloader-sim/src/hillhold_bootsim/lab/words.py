"""What a board says of itself, in the form in which it is also read without its agent (`reading`): one can be held against the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hillhold_bootsim.lab.house import Held
from hillhold_bootsim.lab.reading import Ran, Reading
from hillhold_verifier.agent import HELD, IDENTIFY, MAGIC, STATUS
from hillhold_verifier.answers import Body, checked, components_of, held_names
from hillhold_verifier.conversation import Conversation, Request
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.select import Device
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, Op, OsCommand
from hillhold_verifier.smp_fields import int_field, text_field
from hillhold_verifier.stock import StockBoard, StockImage, meet

ROLES = ("timestamp", "snapshot", "targets", "line")


@dataclass(frozen=True, slots=True)
class Words:
    """One look at a board through its line.

    Attributes:
        device: what it is; None for a stock board.
        said: what it says that it runs.
        held: what the lab's maker has to go on from.
        buffer: bytes of the longest message that it takes.
        stock: its list of images, of a stock board.
    """

    device: Device | None
    said: Reading
    held: Held
    buffer: int
    stock: StockBoard | None = None


def look(known: Mapping[bytes, str], group: int = HILLHOLD_GROUP) -> Conversation[Words]:
    """Ask a board what it is and runs; nothing is written.

    Args:
        known: SHA-256 of whole images by the hash by which SMP names them.

    Raises:
        OperationalError: it does not answer, or as nothing that is known.
        BoardRefused: it has no state that can be used.
    """
    identity = yield Request(Op.READ, group, IDENTIFY, {}, booting=True)
    if identity.get("magic") != MAGIC:
        board = yield from meet(group)
        if board is None:
            raise OperationalError("the board answers now as a stock board, now as one of ours")
        return _stock(board, known)
    parameters = yield Request(Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS, {})
    status = checked((yield Request(Op.READ, group, STATUS, {})))
    held = checked((yield Request(Op.READ, group, HELD, {})))
    return _ours(identity, status, held, int_field(parameters, "buf_size", 256))


def _ours(identity: Body, status: Body, held: Body, buffer: int) -> Words:
    names = identity.get("components")
    components = tuple(str(name) for name in names) if isinstance(names, list) else ("app",)
    device = Device(
        text_field(identity, "product"), text_field(identity, "hardware"), text_field(identity, "id", ""), components
    )
    parts = components_of(status)
    running, confirmed = ([_told(part.get(name)) for part in parts] for name in ("running", "confirmed"))
    versions = tuple(version for version, _ in held_names(held.get("h")))
    counters = tuple(int_field(part, "counter", 0) for part in parts)
    root = int_field(held, "r")
    floors = {"root": root, "time": int_field(status, "time", 0), **dict(zip(ROLES, versions, strict=True))}
    said = Reading(
        tuple(one for one in running if one) if all(running) else (),
        tuple(confirmed),
        status.get("trial") is True,
        any(part.get("marked") is not None for part in parts) and status.get("trial") is not True,
        counters,
        floors,
    )
    first = confirmed[0]
    return Words(device, said, Held(root, versions, first.version if first else "", max(counters)), buffer)


def _told(value: object) -> Ran | None:
    match value:
        case [str(version), bytes(digest)]:
            return Ran(digest.hex(), 0, version)
    return None


def _stock(board: StockBoard, known: Mapping[bytes, str]) -> Words:
    def ran(image: StockImage | None) -> Ran | None:
        if image is None:
            return None
        return Ran(known.get(image.hash, f"image hash {image.hash.hex()}") if image.hash else "", 0, str(image.version))

    running, confirmed = ran(board.running(0)), ran(board.confirmed(0))
    said = Reading((running,) if running else (), (confirmed,), bool(board.on_trial), bool(board.pending))
    return Words(None, said, Held(1, version=confirmed.version if confirmed else ""), board.buffer, board)
