"""The device: what it holds, what it holds after one more file, and which release it chooses (DESIGN §4, "Floors" to "Which release").

A device is a value. What a rule's name says (`config`) is judged where that rule bears; where it is not in force, the text as it once
stood is followed.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from trustmodel.config import Config
from trustmodel.files import (
    EVIL,
    FIRST,
    IMAGES,
    NEWEST,
    SECOND,
    TORN,
    VERSION,
    File,
    Line,
    Quorum,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

Floor: TypeAlias = tuple[tuple[int, int], ...]
"""Values with the keys that set them; more than one only under `per-key`."""

IDLE, MARKED, TRIAL, ENDED = "idle", "marked", "trial", "ended"
"""Nothing under way; a slot is marked; its image runs unconfirmed; it runs, and the next boot goes back."""


class Device(NamedTuple):
    """Everything that a device remembers.

    Attributes:
        root, timestamp, snapshot, targets, line: the held files.
        timestamp_floor, snapshot_floor, targets_floor, line_floor, time_floor: what is still accepted.
        snapshot_claim: version that the last timestamp gave the snapshot, and those of its signers that are kept.
        listed_claim: versions that the last snapshot gave targets and line, and its signers.
        confirmed, other: images in the slots.
        phase, mark: of a trial; a mark is an image and the line under which it was chosen.
        starts: of this trial, after the first.
        recorded: the image that the agent takes for the confirmed one.
        counter: the counter store.
        failed, authorised: images, as bits.
        swapped: the slots' content is exchanged for a trial; `swapping`: in part.
        newest_timestamp, newest_snapshot, newest_line_listed, newest_issued, withdrawn_seen: no part of the device; what the search
            remembers of honest files, to tell that something went back.
    """

    root: Root
    timestamp_floor: Floor = ()
    snapshot_floor: Floor = ()
    line_floor: Floor = ()
    targets_floor: int = 0
    time_floor: Floor = ()
    snapshot_claim: tuple[int, int] = (0, 0)
    listed_claim: tuple[int, int, int] = (0, 0, 0)
    timestamp: Timestamp | None = None
    snapshot: Snapshot | None = None
    targets: Targets | None = None
    line: Line | None = None
    confirmed: int = FIRST
    other: int = TORN
    phase: str = IDLE
    mark: tuple[int, Line] | None = None
    recorded: int = FIRST
    counter: int = 0
    failed: int = 0
    authorised: int = 0
    starts: int = 0
    swapped: bool = False
    swapping: bool = False
    newest_timestamp: int = 0
    newest_snapshot: int = 0
    newest_line_listed: int = 0
    newest_issued: int = 0
    withdrawn_seen: int = 0

    @property
    def running(self) -> int:
        return self.other if self.phase in (TRIAL, ENDED) else self.confirmed


class Floors(NamedTuple):
    """What stands now."""

    timestamp: int
    snapshot: int
    targets: int
    line: int
    time: int


class Rules:
    """The device's rules under one configuration: the metadata part."""

    def __init__(self, config: Config) -> None:
        self.config, self.rules = config, config.rules
        self.counters = {FIRST: 0, SECOND: 1, NEWEST: 1, EVIL: config.counter_limit}  # an attacker names the highest
        self.counters[IMAGES[1]] = config.step_down_counter

    # --- floors

    def floors(self, device: Device) -> Floors:
        root, targets = device.root, device.targets
        return Floors(
            standing(device.timestamp_floor, root.timestamp, root.bases.timestamp),
            standing(device.snapshot_floor, root.snapshot, root.bases.snapshot),
            device.targets_floor,
            standing(device.line_floor, targets.line, targets.base) if targets else 0,
            self.time(device),
        )

    def time(self, device: Device) -> int:
        return standing(device.time_floor, device.root.timestamp, device.root.bases.issued)

    def _lifted(self, floor: Floor, value: int, signers: int) -> Floor:
        if "per-key" not in self.rules:
            return ((value, signers),)
        if value < standing(floor, Quorum(signers)):
            return floor
        return tuple(sorted({(value, signers)} | {old for old in floor if old[1] != signers}))

    # --- metadata

    def deliver(self, device: Device, file: File, clock: int) -> Device | None:
        """The device after this file; None where it is refused or tells nothing new."""
        if isinstance(file, Root):
            return self._take_root(device, file)
        lister = device.timestamp if isinstance(file, Snapshot) else device.snapshot
        if not isinstance(file, Timestamp) and not _lists(lister, file):
            return None
        root = device.root
        if root.algorithm > _algorithm(device.running) or root.expires < max(clock, self.time(device)):
            return None
        if isinstance(file, Timestamp):
            return self._take_timestamp(device, file)
        if not self._timestamp_holds(device):
            return None
        if isinstance(file, Snapshot):
            return self._take_snapshot(device, file)
        if not self._snapshot_holds(device):
            return None
        return self._take_targets(device, file) if isinstance(file, Targets) else self._take_line(device, file)

    def _take_root(self, device: Device, root: Root) -> Device | None:
        if root.version != device.root.version + 1 or root.algorithm > _algorithm(device.running):
            return None
        unconfirmed = device.phase in (TRIAL, ENDED)
        if "trial-root" in self.rules and unconfirmed and root.algorithm > _algorithm(device.confirmed):
            return None
        return device._replace(root=root)

    def _take_timestamp(self, device: Device, new: Timestamp) -> Device | None:
        root = device.root
        stands = standing(device.timestamp_floor, root.timestamp)
        if not root.timestamp.met_by(new.signers) or (new is device.timestamp and self._timestamp_holds(device)):
            return None
        if new.version < max(stands, root.bases.timestamp) or new.version == stands:
            return None
        if "no-claims" in self.rules:
            least = standing(device.snapshot_floor, root.snapshot, root.bases.snapshot)
        else:
            least = device.snapshot_claim[0] if root.timestamp.met_by(device.snapshot_claim[1]) else 0
        if new.snapshot_version < least:
            return None
        signers = (
            new.signers & root.timestamp.keys
        )  # other signatures are not kept: no lister names a timestamp by hash
        time_floor = device.time_floor
        if new.issued > self.time(device) or "per-key" in self.rules:
            time_floor = self._lifted(time_floor, new.issued, signers)
        return device._replace(
            timestamp=new,
            timestamp_floor=self._lifted(device.timestamp_floor, new.version, signers),
            snapshot_claim=(new.snapshot_version, signers),
            time_floor=time_floor,
            newest_timestamp=max(device.newest_timestamp, new.order),
            newest_issued=max(device.newest_issued, new.issued) if new.order > 0 else device.newest_issued,
        )

    def _take_snapshot(self, device: Device, new: Snapshot) -> Device | None:
        root = device.root
        if new is device.snapshot or not root.snapshot.met_by(new.signers):
            return None
        if new.version < standing(device.snapshot_floor, root.snapshot, root.bases.snapshot):
            return None
        targets, line, claimant = device.listed_claim
        if "no-claims" in self.rules:  # the line's version is compared once targets, which delegate to it, are held
            if new.targets_version < device.targets_floor:
                return None
        elif root.snapshot.met_by(claimant) and (new.targets_version < targets or new.line_version < line):
            return None
        listed = device.newest_line_listed
        if new.order > 0 and new.line:
            listed = max(listed, new.line.order)
        return device._replace(
            snapshot=new,
            snapshot_floor=self._lifted(device.snapshot_floor, new.version, new.signers & root.snapshot.keys),
            listed_claim=(new.targets_version, new.line_version, new.signers),
            newest_snapshot=max(device.newest_snapshot, new.order),
            newest_line_listed=listed,
        )

    def _take_targets(self, device: Device, new: Targets) -> Device | None:
        if new is device.targets or new.version < device.targets_floor:
            return None
        return device._replace(targets_floor=new.version, targets=new)

    def _take_line(self, device: Device, new: Line) -> Device | None:
        targets = device.targets
        if new is device.line or targets is None or not _lists(device.snapshot, targets):
            return None
        if not targets.line.met_by(new.signers) or new.version < standing(
            device.line_floor, targets.line, targets.base
        ):
            return None
        taken = device._replace(
            line_floor=self._lifted(device.line_floor, new.version, new.signers & targets.line.keys),
            line=new,
            withdrawn_seen=device.withdrawn_seen | (new.withdrawn if new.order > 0 else 0),
        )
        if "recheck" in self.rules and device.mark and new.withdrawn >> device.mark[0] & 1:
            return taken._replace(phase=ENDED if device.phase == TRIAL else IDLE, mark=None)
        return taken

    def _timestamp_holds(self, device: Device) -> bool:
        return device.timestamp is not None and device.root.timestamp.met_by(device.snapshot_claim[1])

    def _snapshot_holds(self, device: Device) -> bool:
        """Asked where the timestamp holds."""
        held, lister = device.snapshot, device.timestamp
        return (
            held is not None
            and lister is not None
            and lister.snapshot is held
            and device.root.snapshot.met_by(held.signers)
        )

    # --- the choice

    def select(self, device: Device, clock: int) -> int | None:
        """The image that the device chooses under what it holds now, or None."""
        line, targets = device.line, device.targets
        if line is None or targets is None or not self._chain_holds(device, line, targets, clock):
            return None
        low = device.counter
        if "counter-of-confirmed" in self.rules:
            low = max(low, self.counters[device.recorded])
        named: frozenset[int] = frozenset()
        if "no-pingpong" in self.rules:
            withdrawn_too = "named-by-withdrawn" in self.rules
            named = line.ever_stepped_down_from if withdrawn_too else line.stepped_down_from
        mine, best = VERSION[device.recorded], None
        for image, withdrawn, steps_down_from in line.releases:
            version, counter = VERSION[image], self.counters[image]
            if withdrawn or device.failed >> image & 1 or image == device.recorded or version in named:
                continue
            if not low <= counter <= targets.counter_limit or not (version > mine or mine in steps_down_from):
                continue
            if best is None or version > VERSION[best]:
                best = image
        return best

    def _chain_holds(self, device: Device, line: Line, targets: Targets, clock: int) -> bool:
        """DESIGN §4, "Current"."""
        now = max(clock, self.time(device))
        if line.expires < now:
            return False
        if "last-line" in self.rules:
            return True
        root, timestamp, snapshot = device.root, device.timestamp, device.snapshot
        if not self._timestamp_holds(device) or not self._snapshot_holds(device):
            return False
        assert timestamp is not None
        assert snapshot is not None
        if snapshot.targets is not targets or snapshot.line is not line or not targets.line.met_by(line.signers):
            return False
        if root.algorithm > _algorithm(device.running) or min(root.expires, targets.expires) < now:
            return False
        return min(timestamp.expires, snapshot.expires) + min(line.grace, targets.grace_limit) >= now


def _lists(lister: Timestamp | Snapshot | None, file: File) -> bool:
    if isinstance(lister, Timestamp):
        return lister.snapshot is file
    return lister is not None and (lister.targets is file or lister.line is file)


def standing(floor: Floor, quorum: Quorum, base: int = 0) -> int:
    """The highest value whose signers still meet the quorum, and not less than `base`."""
    keys, threshold = quorum
    for value, signers in floor:
        if value > base and (keys & signers).bit_count() >= threshold:
            base = value
    return base


def _algorithm(image: int) -> int:
    """The newest algorithm that an image can verify."""
    return 1 if image in (SECOND, NEWEST) else 0
