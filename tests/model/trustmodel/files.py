"""What is published: images, metadata files and the keys that signed them.

Versions, times and counters are small numbers; `HIGHEST` stands for 2**53-1, for the year 2099 and for the highest counter. A set of keys
is a number whose bits are keys, for each role its own. Equal files are one object, so that a search compares them by identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple, TypeAlias, TypeVar

HIGHEST: Final = 99
FORGED: Final = -1
"""The place of a thief's file in the honest order."""

FIRST, STEP_DOWN, SECOND, NEWEST, EVIL = range(5)
TORN: Final = -1
"""What a slot holds that was erased, or filled in part."""
IMAGES: Final = (FIRST, STEP_DOWN, SECOND, NEWEST, EVIL)
VERSION: Final = (1, 2, 3, 4, HIGHEST)
NAMES: Final = ("r1", "rd", "r2", "r3", "evil", "torn")


class Quorum(NamedTuple):
    """The keys of a role, and how many of them have to sign."""

    keys: int
    threshold: int = 1

    def met_by(self, signers: int) -> bool:
        return (self.keys & signers).bit_count() >= self.threshold


class Bases(NamedTuple):
    """From where timestamp, snapshot and time go on under new keys, as a root may state (rule `base`)."""

    timestamp: int = 0
    snapshot: int = 0
    issued: int = 0


class Entry(NamedTuple):
    """A release in a line role. `steps_down_from`: versions that it may replace although they are higher."""

    image: int
    withdrawn: bool
    steps_down_from: tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Root:
    """`algorithm`: 1 where only newer images can verify what this root's keys sign."""

    version: int
    timestamp: Quorum
    snapshot: Quorum
    expires: int
    bases: Bases
    algorithm: int


@dataclass(frozen=True, eq=False, slots=True)
class Targets:
    """Top-level targets: the delegation to the line, with the highest counter and grace that it may use."""

    version: int
    line: Quorum
    expires: int
    base: int
    counter_limit: int
    grace_limit: int


@dataclass(frozen=True, eq=False, slots=True)
class Line:
    """The product line's role. `order`: its place among all that the owner signed, or FORGED."""

    version: int
    signers: int
    expires: int
    releases: tuple[Entry, ...]
    grace: int
    order: int
    withdrawn: int = field(init=False)  # images, as bits
    stepped_down_from: frozenset[int] = field(init=False)  # by another release that is not withdrawn
    ever_stepped_down_from: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        named = [
            (entry.withdrawn, version)
            for entry in self.releases
            for version in entry.steps_down_from
            if version != VERSION[entry.image]
        ]
        set_once = object.__setattr__
        set_once(self, "withdrawn", sum(1 << entry.image for entry in self.releases if entry.withdrawn))
        set_once(self, "stepped_down_from", frozenset(version for withdrawn, version in named if not withdrawn))
        set_once(self, "ever_stepped_down_from", frozenset(version for _, version in named))

    def entry(self, image: int) -> Entry:
        """What the line says of an image; nothing, where it does not list it."""
        return next((entry for entry in self.releases if entry.image == image), Entry(image, False, ()))


@dataclass(frozen=True, eq=False, slots=True)
class Snapshot:
    """Lists targets and line by content and version; content None is a file that nobody has."""

    version: int
    signers: int
    expires: int
    targets: Targets | None
    targets_version: int
    line: Line | None
    line_version: int
    order: int


@dataclass(frozen=True, eq=False, slots=True)
class Timestamp:
    """Lists the snapshot likewise, and says when it was issued."""

    version: int
    signers: int
    issued: int
    expires: int
    snapshot: Snapshot | None
    snapshot_version: int
    order: int


File: TypeAlias = Root | Timestamp | Snapshot | Targets | Line
F = TypeVar("F", Root, Timestamp, Snapshot, Targets, Line)
_one: dict[tuple[object, ...], File] = {}


def unique(file: F) -> F:
    """The one object for this content."""
    content = (type(file), *(getattr(file, each.name) for each in fields(file) if each.init))
    found = _one.setdefault(content, file)
    assert type(found) is type(file)
    return found


def label(file: File) -> str:
    """A file in words: letter and version, what it lists, and the keys that signed it."""
    match file:
        case Root():
            return f"R{_version(file.version)}"
        case Targets():
            return f"D{_version(file.version)}"
        case Timestamp():
            lists = f"->S{_version(file.snapshot_version)} issued {_version(file.issued)}"
        case Snapshot():
            lists = f"->D{_version(file.targets_version)},L{_version(file.line_version)}"
        case Line():
            lists = ""
    forged = " FORGED" if file.order == FORGED else ""
    return f"{type(file).__name__[0]}{_version(file.version)}{forged}{lists} key {file.signers}"


def _version(number: int) -> str:
    return "MAX" if number == HIGHEST else str(number)
