"""The model's twin: real session, store, installer and bootloader over a simulated flash, and what is seen of them in the model's words.

A twin can be frozen: all that outlives a reset, and which slot runs. What is thawed is a device whose agent was started again.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from bench import DEVICE, Parts
from forge import Repo
from hillhold_bootsim.bootloader import ResetReason
from hillhold_bootsim.flash import Flash, FlashState
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_bootsim.station import provision_board
from hillhold_verifier.errors import Refused
from hillhold_verifier.installer import Installer
from hillhold_verifier.state import StateStore, encode_record
from hillhold_verifier.trust import Floor as RealFloor
from trustmodel.courier import BEGIN, CONFIRM, DELIVER, ERASE, FAIL, RESET, TEST, UPLOAD, WIRE_CONFIRM, Move
from trustmodel.device import ENDED, IDLE, MARKED, TRIAL, Device, Floor, Rules
from trustmodel.files import FIRST, TORN, File, Line, Root, Snapshot, Targets, Timestamp
from trustmodel.forging import Forging, model_floor, model_time, seconds

LAYOUT: Final = Layout.in_a_row(
    "twin", Geometry.uniform(size=44 * 1024, sector=2048, unit=4, otp=64), state_size=16 * 1024, slot_size=4096
)
SWAPPING: Final = Layout.in_a_row(
    "swapping",
    Geometry.uniform(size=50 * 1024, sector=2048, unit=4, otp=64),
    state_size=16 * 1024,
    slot_size=6144,
    mode=BootMode.SWAP,
)
"""The same, whose images run from the first slot: a sector more for the trailer, and one in the second slot to swap by."""
PIECE: Final = 300
"""Bytes of an upload that is left halfway."""
ROLES: Final[dict[type[File], str]] = {
    Root: "root",
    Timestamp: "timestamp",
    Snapshot: "snapshot",
    Targets: "targets",
    Line: DEVICE.product,
}


class Frozen(NamedTuple):
    """A board's memory, and the slots that run."""

    state: FlashState
    running: tuple[int, ...]


class Seen(NamedTuple):
    """What is compared: of the model's device and of its twin. Files are SHA-256 hashes of what they say; images the model's."""

    files: tuple[bytes | None, ...]
    floors: tuple[Floor, ...]
    time: int
    confirmed: int
    other: int
    phase: str
    mark: int
    starts: int
    counter: int
    failed: int
    authorised: int


def seen_of_device(device: Device, rules: Rules, forging: Forging) -> Seen:
    """What the model says is to be seen."""
    held: tuple[File | None, ...] = (device.root, device.timestamp, device.snapshot, device.targets, device.line)
    return Seen(
        tuple(forging.payload_of(file) if file else None for file in held),
        (
            device.timestamp_floor,
            device.snapshot_floor,
            device.line_floor,
            ((device.targets_floor, 1),) if device.targets_floor else (),
        ),
        rules.time(device),
        device.confirmed,
        device.other,
        device.phase,
        device.mark[0] if device.mark else TORN,
        device.starts if device.phase == TRIAL else 0,
        device.counter,
        device.failed,
        device.authorised,
    )


class Twin(Parts):
    """The real device. Freshly made it is provisioned with a root and runs nothing."""

    def __init__(self, forging: Forging, root: bytes, frozen: Frozen | None = None, *, layout: Layout = LAYOUT) -> None:
        flash = Flash(layout.geometry)
        self.forging = forging
        if frozen is None:
            provision_board(flash, layout, DEVICE, root)
        else:
            flash.load(frozen.state)
        super().__init__(Repo(), layout, flash=flash)
        self.control = self.parts.control
        if frozen is None:
            self.reset(ResetReason.POWER_ON)
        else:
            self.control.started(frozen.running)
            self.start_agent()

    def freeze(self) -> Frozen:
        running = self.control.flags().running
        return Frozen(self.flash.state(), () if running is None else (running,))

    def reset(self, reason: ResetReason) -> None:
        self.flash.power_on()
        outcome = self.parts.bootloader.boot(reason)
        for booted in outcome.images:
            place = self.layout.slots[0][0 if self.layout.mode is BootMode.SWAP else booted.slot]
            found = self.flash.read(place.offset, booted.image.length)
            assert sha256(found).digest() == booted.sha256, "another image runs than the one that was verified"
        self.start_agent()

    def start_agent(self) -> None:
        self.installer = Installer(StateStore(self.areas), [self.slots], self.control, [self.counter])

    # --- acts

    def act(self, move: Move) -> None:
        """Do what the move says; raises `Refused` where the device refuses it."""
        clock = seconds(move.clock)
        match move.kind:
            case kind if kind == DELIVER and move.file:
                self.installer.receive(ROLES[type(move.file)], self.forging.bytes_of(move.file), clock)
            case kind if kind in (BEGIN, UPLOAD):
                self._upload(self.forging.images[move.image], clock, whole=kind == UPLOAD)
            case kind if kind == ERASE:
                self.installer.erase()
            case kind if kind == TEST:
                self.installer.mark(clock)
            case kind if kind == RESET:
                self.reset(ResetReason.POWER_ON)
            case kind if kind == FAIL:
                self.reset(ResetReason.SELF_TEST)
            case kind if kind == CONFIRM:
                self.installer.confirm(self_tested=True)
            case kind if kind == WIRE_CONFIRM:
                self.installer.confirm(self_tested=False)
            case _:
                raise AssertionError(f"{move}: not an act of a real device")

    def refuses(self, move: Move) -> str | None:
        """Try it; None where nothing has changed, else what was wrong with that."""
        state, record = self.installer.state, self.control.store.record()
        try:
            self.act(move)
            outcome = "accepted"
        except Refused as error:
            outcome = f"refused ({error})"
        if self.installer.state == state and self.control.store.record() == record:
            return None
        return f"{move}: {outcome}, and something has changed"

    def _upload(self, data: bytes, clock: int, *, whole: bool) -> None:
        at = self.installer.begin(sha256(data).digest(), len(data), clock)
        while at < (len(data) if whole else PIECE):
            at = self.installer.write(at, data[at : at + PIECE])

    def install_first(self, *files: File) -> None:
        """From the shelf to a device that runs the first release."""
        deliveries = [Move(DELIVER, file) for file in files]
        for move in (*deliveries, Move(UPLOAD, image=FIRST), Move(TEST, image=FIRST), Move(RESET), Move(CONFIRM)):
            self.act(move)

    # --- what is seen

    def choice(self, clock: int) -> int | None:
        """The image that the device chooses at this time, or None."""
        try:
            plan = self.installer.choose(seconds(clock)).plan
        except Refused:
            return None
        return self.forging.image_of[plan[0].sha256] if plan else None

    def seen(self) -> Seen:
        state, flags = self.installer.state, self.control.flags()
        assert flags.confirmed is not None
        trust, held = state.trust, (self._content(flags.confirmed), self._content(1 - flags.confirmed))
        files = (trust.root, trust.timestamp, trust.snapshot, trust.targets, trust.line)
        floors = [_floor(role, trust.floors.get(role)) for role in ("timestamp", "snapshot", "line", "targets")]
        phase = (TRIAL if flags.mark else ENDED) if flags.trial else MARKED if flags.mark else IDLE
        return Seen(
            tuple(sha256(file.payload).digest() if file else None for file in files),
            tuple(floors),
            model_time(trust.now(None)),
            held[0],
            held[1],
            phase,
            self.forging.image_of[flags.mark.sha256] if flags.mark else TORN,
            flags.starts - 1 if phase == TRIAL else 0,
            self.counter.value(),
            sum(1 << self.forging.image_of[digest] for digest in state.failed),
            1 << self.forging.image_of[state.transfer.release.sha256] if state.transfer else 0,
        )

    def identity(self) -> bytes:
        """A hash of all that decides what this device does from now on: two of the same identity have the same future."""
        record, flags = self.control.store.record(), self.control.flags()
        slots = b"".join(self.slots.read(slot, 0, self.slots.size) for slot in (0, 1))
        told = (encode_record(1, self.installer.state), repr((record, flags.running, self.counter.value())).encode())
        return sha256(b"".join((*told, slots))).digest()

    def _content(self, slot: int) -> int:
        """The image whose bytes lie in the slot, whatever the device believes."""
        room = self.slots.read(slot, 0, self.slots.size)
        found = [image for image, data in self.forging.images.items() if room.startswith(data)]
        return found[0] if found else TORN


def _floor(role: str, floor: RealFloor | None) -> Floor:
    return model_floor(role, floor.value, floor.keys) if floor else ()
