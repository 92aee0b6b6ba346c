"""Commands for a stock board on a line: this host verifies in its place (`hillhold_verifier.stockpush`)."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hillhold_verifier.cli.show import Progress as ProgressLine
from hillhold_verifier.cli.show import Result, check_result, nothing, shown
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.hostfiles import HostAreas, exclusive, is_new
from hillhold_verifier.hosttrust import HostTrust
from hillhold_verifier.link import Link
from hillhold_verifier.release import DEFAULT_COMPONENT
from hillhold_verifier.select import Device
from hillhold_verifier.sources import open_source
from hillhold_verifier.stock import StockBoard
from hillhold_verifier.stockpush import TRUST_NOTE, End, StockCourier, StockPushed, stock_values

NEW: Final = ("root", "product", "hardware", "component")
"""Options of a board that this host holds no state for yet."""


def push(options: argparse.Namespace, link: Link) -> Result:
    """Verify on this host, and bring a stock board up to date."""
    with _courier(options) as courier:
        pushed = link.run(courier.push(reset=not options.no_reset, no_way_back=options.no_way_back))
    values = {**stock_values(pushed), "board": board_values(pushed.board)}
    lines, code = _lines(pushed)
    return values, lines, code


def check(options: argparse.Namespace, link: Link) -> Result:
    """What this host would push, and why nothing else."""
    with _courier(options) as courier:
        _, selection = link.run(courier.check())
    plan = [{"path": release.path, "sha": release.sha256, "len": release.length} for release in selection.plan]
    chosen = {release.path for release in selection.plan}
    reasons = [[v.path, v.outcome.value, v.reason] for v in selection.verdicts if v.path not in chosen]
    grace = {"grace": selection.grace_used} if selection.grace_used else {}
    return check_result({**({"plan": plan} if plan else {}), "reasons": reasons, **grace})


def forget(options: argparse.Namespace) -> Result:
    """Let what failed on that board be tried again."""
    with exclusive(_held(options.host_state)):
        names = [trial.hex() for trial in HostTrust(HostAreas(options.host_state)).forget_failed()]
    return {"forgotten": names}, [f"forgot {name}" for name in names] or ["no trial has failed there"], 0


def refuse_options(options: argparse.Namespace) -> None:
    """Refuse what only a push to a stock board has: a board of ours would not be asked for it."""
    given = [name for name in (*NEW, "no_way_back") if getattr(options, name)]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise MisuseError(f"{names}: for a stock board, with --host-state DIR")


def board_values(board: StockBoard) -> dict[str, object]:
    """Return what a stock board says of itself, for JSON."""
    kind = "mcuboot-recovery" if board.recovery else "smp"
    return shown({"stock": kind, "images": [image.shown() for image in board.images]})


def board_lines(board: StockBoard) -> list[str]:
    """Return the same in words."""
    kind = "MCUboot's serial recovery: no application runs" if board.recovery else "SMP, and not Hillhold's group"
    rows = [("stock board", kind)]
    for image in board.images:
        said = [name for name in ("active", "confirmed", "pending", "permanent") if getattr(image, name)]
        states = "" if board.recovery else f", {', '.join(said) or 'idle'}"
        digest = f" ({image.hash.hex()[:16]}…)" if image.hash else ""
        rows.append((f"image {image.image} slot {image.slot}", f"{image.version}{digest}{states}"))
    if not board.images:
        rows.append(("images", "none"))
    rows.append(("trusts", "what its bootloader's key signed; no metadata, no floors"))
    return [f"{name:18} {value}" for name, value in rows]


def _lines(pushed: StockPushed) -> tuple[list[str], int]:
    running = next((str(image.version) for image in pushed.board.images if image.active), "nothing")
    gone = [f"note: the board runs {pushed.withdrawn}, which is withdrawn"] if pushed.withdrawn else []
    what = f"{pushed.path}: image of {pushed.sent} bytes" if pushed.sent else f"{pushed.path}: it was there already"
    match pushed.end:
        case End.NOTHING:
            verdicts = pushed.selection.verdicts
            lines, code = nothing(tuple((v.path, v.outcome.value, v.reason) for v in verdicts))
            return lines + gone, code
        case End.REVERTED:
            why = "was withdrawn" if pushed.withdrawn else "failed"
            return [f"reverted: the trial of {pushed.path} {why}; the board runs {running}", TRUST_NOTE], 1
        case End.NOT_STARTED:
            hint = "hint: the line may have spoilt it (raw has no check), or its key is not the bootloader's; a push sends it again"
            return [
                f"not started: the bootloader refused {pushed.path}, twice; the board runs {running}",
                TRUST_NOTE,
                hint,
            ], 1
        case End.MARKED:
            return [f"marked {what}; it boots at the next reset", TRUST_NOTE], 0
        case End.TRIAL:
            hint = (
                "hint: the image waits to be confirmed: hillhold-device confirm --port …; a reset before that goes back"
            )
            return [f"on trial: {what}", TRUST_NOTE, hint], 0
        case End.WRITTEN:
            return [f"written over what ran: {what}; there is no way back", TRUST_NOTE], 0
        case End.CONFIRMED:
            return [f"installed and confirmed {what}", TRUST_NOTE], 0


@contextmanager
def _courier(options: argparse.Namespace) -> Iterator[StockCourier]:
    source = open_source(options.source)
    with _trust(options) as trust, ProgressLine(sys.stderr, quiet=options.json) as progress:
        yield StockCourier(source, trust, int(time.time()), progress, group=options.group)


@contextmanager
def _trust(options: argparse.Namespace) -> Iterator[HostTrust]:
    """What this host holds for that board, alone; a board that is new to it is told of by options."""
    folder: Path = options.host_state
    _check_told(options, new=is_new(folder))  # before a folder is made
    with exclusive(folder):
        areas, new = HostAreas(folder), is_new(folder)
        _check_told(options, new=new)  # another first push may have been quicker
        if not new:
            yield HostTrust(areas)
            return
        components = tuple(options.component or [DEFAULT_COMPONENT])
        device = Device(options.product, options.hardware, "stock", components)
        root = _read(options.root)
        areas.allocate()
        yield HostTrust.begin(areas, device, root)


def _check_told(options: argparse.Namespace, *, new: bool) -> None:
    given = [name for name in NEW if getattr(options, name)]
    if new and (lacking := [f"--{name}" for name in NEW[:3] if name not in given]):
        raise MisuseError(f"{options.host_state}: this host holds nothing for that board yet; say {', '.join(lacking)}")
    if not new and given:
        names = ", ".join(f"--{name}" for name in given)
        raise MisuseError(f"{options.host_state}: this host holds a state for that board already; leave {names} out")


def _held(folder: Path) -> Path:
    if is_new(folder):
        raise OperationalError(f"{folder}: this host holds no state there")
    return folder


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperationalError(f"{path}: {error.strerror}") from None
