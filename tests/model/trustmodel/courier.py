"""The courier: every move that it can make, and what an honest one with power and the right clock achieves.

It delivers any file ever published, in any order, stops anywhere, sets the clock, cuts the power and uses stock SMP.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from trustmodel.boot import Bootloader, Result
from trustmodel.config import Config, Confirmation
from trustmodel.device import IDLE, MARKED, TRIAL, Device, Rules
from trustmodel.files import EVIL, NAMES, TORN, VERSION, File, Snapshot, Timestamp, label
from trustmodel.owner import Owner

MOST_UPDATES = 7
"""After so many updates in a row a device goes up and down for ever."""


class Move(NamedTuple):
    """One step of a history. `file`, `image` or `act` (the owner's) say of what; `clock` is the device's, where it matters."""

    kind: str
    file: File | None = None
    image: int = TORN
    clock: int = 0
    act: str = ""

    def __str__(self) -> str:
        if self.file:
            return f"{self.kind} {label(self.file)}"
        if self.act:
            return f"{self.kind} {self.act}"
        image = f" {NAMES[self.image]}" if self.image != TORN else ""
        return f"{self.kind}{image}" + (f" (clock {self.clock})" if self.kind == TEST else "")


OWNER, DELIVER, ERASE, BEGIN, UPLOAD, TEST = "OWNER", "deliver", "smp erase", "begin upload", "upload", "smp test"
RESET, FAIL, CUT_SWAP = "power cut/reset", "image fails its test", "power cut within the swap"
CONFIRM, WIRE_CONFIRM, RAISE = "image tests itself, confirms", "smp confirm", "counter raised"
HONEST = "honest courier tries"


class Courier:
    """All moves against one configuration's device."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rules = Rules(config)
        self.boot = Bootloader(config, self.rules)

    def moves(self, device: Device, owner: Owner) -> Iterator[tuple[Move, Result]]:
        if device.swapping:
            yield Move(RESET), self.boot.reset(device)
            return
        yield from self._deliveries(device, owner)
        if self.config.installs:
            if device.phase in (IDLE, MARKED):  # a trial protects the other slot
                yield from self._slot_moves(device, owner)
            yield from self._boot_moves(device)

    def start(self, owner: Owner) -> Device:
        """A device that the first publication was delivered to."""
        device = Device(owner.roots[0])
        for file in (owner.timestamp, owner.snapshot, owner.targets, owner.line):
            taken = self.rules.deliver(device, file, 0)
            assert taken is not None
            device = taken
        return device

    def timed(self, move: Move, device: Device, owner: Owner) -> Move:
        """The move at a clock at which it may be made: an upload needs one at which the device chooses that image."""
        if move.kind in (BEGIN, UPLOAD) and self.rules.select(device, 0) != move.image:
            return move._replace(clock=owner.now)
        return move

    # --- moves

    def _deliveries(self, device: Device, owner: Owner) -> Iterator[tuple[Move, Result]]:
        for file in owner.published:
            taken = self.rules.deliver(device, file, 0)  # a clock that is set back is the best for an attacker
            if taken is None:
                continue
            violation = None
            if isinstance(file, Timestamp) and 0 < file.order < device.newest_timestamp:
                violation = "P4/P5 older timestamp accepted again"
            elif isinstance(file, Snapshot) and 0 < file.order < device.newest_snapshot:
                violation = "P4 older snapshot accepted again"
            if taken.root is device.root and taken.targets is device.targets:
                floors = zip(self.rules.floors(taken), self.rules.floors(device), strict=True)
                if any(after < before for after, before in floors):
                    violation = "P6 floor fell"
            yield Move(DELIVER, file), Result(taken, violation)

    def _slot_moves(self, device: Device, owner: Owner) -> Iterator[tuple[Move, Result]]:
        unmarked = device
        if "bind" in self.config.rules:
            unmarked = device._replace(phase=IDLE, mark=None)
        kept = device.authorised if self.config.upload_lasts else 0
        erased = unmarked._replace(other=TORN, authorised=kept)
        if erased != device:
            yield Move(ERASE), Result(erased)
        choices = {clock: self.rules.select(device, clock) for clock in (0, owner.now)}
        for image in self.uploadable(device, choices):
            begun = 1 << image | kept
            if self.config.partial_uploads and begun != device.authorised:
                yield Move(BEGIN, image=image), Result(unmarked._replace(other=TORN, authorised=begun))
            left = begun if self.config.upload_lasts else 0
            yield Move(UPLOAD, image=image), Result(unmarked._replace(other=image, authorised=left))
        if device.phase == IDLE and device.other != TORN:
            for clock, choice in choices.items():
                if choice == device.other and device.line:
                    marked = device._replace(phase=MARKED, mark=(choice, device.line))
                    yield Move(TEST, image=choice, clock=clock), Result(marked, self._judge_mark(device, owner, clock))

    def uploadable(self, device: Device, choices: dict[int, int | None]) -> list[int]:
        """What the device takes an upload of, and does not hold already."""
        allowed = {choice for choice in choices.values() if choice is not None}
        allowed |= {image for image in range(len(VERSION)) if device.authorised >> image & 1}
        return sorted(allowed - {device.other})

    def _boot_moves(self, device: Device) -> Iterator[tuple[Move, Result]]:
        result = self.boot.reset(device)
        if result.device != device or result.violation:
            yield Move(RESET), result
        torn = self.boot.cut_within_swap(device)
        if torn:
            yield Move(CUT_SWAP), Result(torn)
        if device.phase == TRIAL:
            works = self.boot.works(device.other)
            if works:
                yield Move(CONFIRM), self.boot.confirm(device)
            else:
                yield Move(FAIL), self.boot.fail(device)
            if "wire" in self.config.rules:
                after = self.boot.confirm(device).device
                yield Move(WIRE_CONFIRM), Result(after, None if works else "P2 confirmed though its test never passed")
        late = self.boot.raise_counter(device)
        if self.config.confirmation is Confirmation.FLAG_FIRST and device.phase == IDLE and late != device:
            yield Move(RAISE), Result(late)

    def _judge_mark(self, device: Device, owner: Owner, clock: int) -> str | None:
        timestamp, snapshot, targets, line = device.timestamp, device.snapshot, device.targets, device.line
        assert timestamp
        assert snapshot
        assert targets
        assert line
        honest = line.order > 0
        grace = owner.grace if honest else self.config.grace
        expires = min(timestamp.expires, snapshot.expires)
        if honest and line.order < device.newest_line_listed:
            return "P4 marked from an older line role than the accepted snapshot lists"
        if not targets.line.met_by(line.signers):
            return "P4 marked from a line role of a key that the device knows is removed"
        if timestamp.order > 0 and snapshot.order > 0 and expires + grace < device.newest_issued:
            return "P5 metadata expired before the time floor revived"
        if clock == owner.now and expires + min(grace, self.config.grace_limit) < owner.now:
            return "P4 expired view accepted beyond the owner's grace"
        return None

    # --- the honest one

    def honest(self, device: Device, owner: Owner) -> str | None:
        """What keeps an honest courier from bringing the device to the owner's newest release, or None."""
        device = self._settled(self._settled(device))
        for _ in range(MOST_UPDATES):
            device = self.deliver_all(device, owner)
            choice = self.rules.select(device, owner.now)
            if choice is None:
                break
            assert device.line
            device = device._replace(other=choice, phase=TRIAL, mark=(choice, device.line), swapped=self.config.swaps)
            device = self._settled(device)
        else:
            return "P1 the device changes release for ever (ping-pong)"
        if device.line is not owner.line or device.timestamp is not owner.timestamp:
            return "P1 locked out of current metadata"
        named = owner.line.stepped_down_from
        listed = (entry for entry in owner.line.releases if not entry.withdrawn and self.boot.works(entry.image))
        newest = max(VERSION[entry.image] for entry in listed if VERSION[entry.image] not in named)
        if VERSION[device.confirmed] < newest or device.confirmed == EVIL:
            return f"P1 locked out of the newest release (runs {NAMES[device.confirmed]})"
        return None

    def deliver_all(self, device: Device, owner: Owner) -> Device:
        files: tuple[File, ...] = (*owner.roots, owner.timestamp, owner.snapshot, owner.targets, owner.line)
        for file in files:
            device = self.rules.deliver(device, file, owner.now) or device
        return device

    def _settled(self, device: Device) -> Device:
        """Boot, and let what runs on trial come to an end."""
        if device.swapping or device.phase not in (IDLE, TRIAL):
            device = self.boot.reset(device).device
        while device.phase == TRIAL:
            act = self.boot.confirm if self.boot.works(device.other) else self.boot.fail
            device = act(device).device
        return device
