"""What a device remembers, and how it is written so that a power cut leaves the old state or the new one.

A record is:

    offset  bytes  what
    0       4      magic "HHst"
    4       2      format version, 1 (big endian, like all numbers here)
    6       8      sequence number
    14      4      length N of the body
    18      N      body: one CBOR map, deterministic (RFC 8949, 4.2)
    18+N    32     SHA-256 over all before it

Two areas hold a record each. The readable one with the higher sequence number is the state; the next is written over the *other*. Where
neither can be read, or the newer one is whole and of another format, the device refuses updates: unreadable is never taken for empty, nor
is a state that other software has moved on from taken for the last one (DESIGN §4, "State").
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from types import MappingProxyType
from typing import Final, TypeVar

import cbor2

from hillhold_verifier.errors import MetadataError, OperationalError, RecordError, UnprovisionedError
from hillhold_verifier.metadata import (
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Envelope,
    Signed,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
)
from hillhold_verifier.release import Version, patch_path
from hillhold_verifier.select import Device, Installed
from hillhold_verifier.slots import RecordAreas
from hillhold_verifier.trust import LINE, Floor, Trust

MAGIC: Final = b"HHst"
FORMAT: Final = 1
RESERVE: Final = 4096
"""Bytes of an area that metadata may not take: failed hashes, slots and a transfer must always fit."""
MAX_FAILED: Final = 32
"""Hashes of failed images that are remembered; the oldest goes first."""
_HEADER: Final = struct.Struct(">4sHQI")
_DIGEST: Final = 32

T = TypeVar("T")


class _OtherFormatError(RecordError):
    """A whole record of a format that this software does not know; it has a sequence number all the same."""

    def __init__(self, version: int, sequence: int) -> None:
        super().__init__("state record format", expected=FORMAT, got=version)
        self.sequence = sequence


@dataclass(frozen=True, slots=True)
class StagedPatch:
    """A patch that the other slot is being filled by way of; all as signed."""

    sha256: bytes
    length: int
    algorithm: str
    base: bytes
    base_length: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that was authorised: what the other slot was erased for, and is being filled with.

    Attributes:
        component: number of the component whose other slot is filled.
        release: what the slot will hold.
        patch: what makes it, or None for the image itself.
    """

    component: int
    release: Installed
    patch: StagedPatch | None = None

    @property
    def path(self) -> str:
        """The target that arrives."""
        return patch_path(self.release.path, self.patch.base) if self.patch else self.release.path

    @property
    def content(self) -> tuple[bytes, int]:
        """SHA-256 and length of what arrives."""
        return (self.patch.sha256, self.patch.length) if self.patch else (self.release.sha256, self.release.length)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Everything that outlives a reset.

    `slots` says what each slot holds: slot s of component c is number 2c + s. `failed` are trials that failed here (`select.trial_id`);
    `schemes` are the signature schemes that the confirmed image can use.
    """

    device: Device
    trust: Trust
    slots: tuple[Installed | None, ...]
    transfer: Transfer | None = None
    failed: tuple[bytes, ...] = ()
    schemes: frozenset[str] = field(default_factory=frozenset)

    def with_slot(self, slot: int, content: Installed | None) -> DeviceState:
        """Return the state in which slot number `slot` holds `content`."""
        return replace(self, slots=(*self.slots[:slot], content, *self.slots[slot + 1 :]))

    def with_failed(self, trial: bytes) -> DeviceState:
        """Return the state in which that trial has failed."""
        kept = [item for item in self.failed if item != trial]
        return replace(self, failed=(*kept, trial)[-MAX_FAILED:])


class StateStore:
    """The state in its two areas. `load` first; `save` writes over the area that was not read."""

    def __init__(self, areas: RecordAreas) -> None:
        self._areas = areas
        self._sequence = 0
        self._at = 1  # where the current record lies

    def load(self) -> DeviceState:
        """Return the newest readable state.

        Raises:
            UnprovisionedError: neither record can be read, or the newer one is of another format.
        """
        found: list[tuple[int, int, DeviceState]] = []
        reasons = []
        other = (0, 1)  # the newest whole record of another format: sequence number and place
        for index in (0, 1):
            try:
                sequence, state = self._read(index)
                found.append((sequence, index, state))
            except RecordError as error:
                reasons.append(str(error))
                if isinstance(error, _OtherFormatError):
                    other = max(other, (error.sequence, index))
        newest = max(found, key=lambda item: item[0], default=None)
        # The older of two records has lower floors: going on from it would be a rollback.
        if newest is None or newest[0] < other[0]:
            self._sequence, self._at = other  # whoever provisions it again outnumbers what is there
            raise UnprovisionedError("device state", expected="a readable record", got=" and ".join(reasons))
        self._sequence, self._at, state = newest
        return state

    def _read(self, index: int) -> tuple[int, DeviceState]:
        return decode_record(self._areas.read(index))

    def room(self, state: DeviceState) -> int:
        """Return how many bytes of an area `state` would leave free; negative where it does not fit."""
        return self._areas.size - len(encode_record(self._sequence, state))

    def save(self, state: DeviceState) -> None:
        """Write `state` over the record that is not the current one.

        Raises:
            OperationalError: it does not fit, or the medium failed; the state before is still there.
        """
        record = encode_record(self._sequence + 1, state)
        if len(record) > self._areas.size:
            raise OperationalError(f"device state: {len(record)} bytes do not fit an area of {self._areas.size}")
        self._areas.write(1 - self._at, record)
        self._sequence, self._at = self._sequence + 1, 1 - self._at


def encode_record(sequence: int, state: DeviceState) -> bytes:
    """Return the bytes of a record."""
    body = cbor2.dumps(_to_map(state), canonical=True)
    record = _HEADER.pack(MAGIC, FORMAT, sequence, len(body)) + body
    return record + sha256(record).digest()


def decode_record(data: bytes) -> tuple[int, DeviceState]:
    """Return sequence number and state; bytes after the record are ignored (the rest of its area).

    Raises:
        RecordError: torn, of another format, or not a record.
    """
    if len(data) < _HEADER.size:
        raise RecordError("state record", expected=f"at least {_HEADER.size} bytes", got=len(data))
    magic, version, sequence, length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise RecordError("state record magic", expected=MAGIC.hex(), got=magic.hex())
    end = _HEADER.size + length
    if sha256(data[:end]).digest() != data[end : end + _DIGEST]:
        raise RecordError("state record checksum", expected="one that fits", got="another")
    if version != FORMAT:
        raise _OtherFormatError(version, sequence)
    stream = BytesIO(data[_HEADER.size : end])
    try:
        body = cbor2.load(stream)
    # All but the first are what releases 5 of cbor2 raise of bytes that are no CBOR.
    except (cbor2.CBORDecodeError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise RecordError(f"state record body: {error}") from None
    if stream.read():
        raise RecordError("state record body", expected="one CBOR map", got="bytes after it")
    try:
        return sequence, _from_map(body)
    except (KeyError, ValueError, MetadataError) as error:
        raise RecordError(f"state record body: {error}") from None


def _to_map(state: DeviceState) -> dict[str, object]:
    trust = state.trust
    files = {
        name: held.raw
        for name, held in (
            ("root", trust.root),
            ("timestamp", trust.timestamp),
            ("snapshot", trust.snapshot),
            ("targets", trust.targets),
            ("line", trust.line),
        )
        if held is not None
    }
    device = state.device
    return {
        "device": [device.product, device.hardware, device.id, *device.components],
        "files": files,
        "floors": {name: _floor(floor) for name, floor in trust.floors.items()},
        "time": _floor(trust.time_floor) if trust.time_floor else None,
        "slots": [_installed(slot) if slot else None for slot in state.slots],
        "transfer": _transfer(state.transfer) if state.transfer else None,
        "failed": state.failed,
        "schemes": sorted(state.schemes),
    }


def _floor(floor: Floor) -> list[object]:
    return [floor.value, sorted(floor.keys)]


def _installed(item: Installed) -> list[object]:
    requires = {name: str(version) for name, version in item.requires}
    return [item.path, str(item.version), item.sha256, item.length, item.security_counter, requires]


def _transfer(item: Transfer) -> list[object]:
    patch = item.patch
    staged = [patch.sha256, patch.length, patch.algorithm, patch.base, patch.base_length] if patch else None
    return [item.component, _installed(item.release), staged]


def _from_map(value: object) -> DeviceState:
    body = _typed(value, dict)
    names = {"device", "files", "floors", "time", "slots", "transfer", "failed", "schemes"}
    if set(body) != names:
        raise RecordError("state record body", expected=f"a map of {sorted(names)}", got="other names")
    product, hardware, identity, *components = (_typed(item, str) for item in _typed(body["device"], list))
    if not components or len(set(components)) != len(components):
        raise RecordError("state record components", expected="distinct names", got=", ".join(components) or "none")
    device = Device(product, hardware, identity, tuple(components))
    files = _typed(body["files"], dict)
    raw = {name: _typed(files[name], bytes) for name in files}
    floors = {_typed(name, str): _to_floor(item) for name, item in _typed(body["floors"], dict).items()}
    line = parse_targets(raw["line"], device.product) if "line" in raw else None
    trust = Trust(
        root=parse_root(raw["root"]),
        timestamp=_signed_by(parse_timestamp(raw["timestamp"]), floors, TIMESTAMP) if "timestamp" in raw else None,
        snapshot=_signed_by(parse_snapshot(raw["snapshot"]), floors, SNAPSHOT) if "snapshot" in raw else None,
        targets=_signed_by(parse_targets(raw["targets"]), floors, TARGETS) if "targets" in raw else None,
        line=_signed_by(line, floors, LINE) if line else None,
        floors=MappingProxyType(floors),
        time_floor=_to_floor(body["time"]) if body["time"] is not None else None,
    )
    slots = _items(body["slots"], 2 * len(components))
    return DeviceState(
        device,
        trust,
        tuple(_to_installed(item) if item is not None else None for item in slots),
        _to_transfer(body["transfer"], len(components)) if body["transfer"] is not None else None,
        tuple(_typed(item, bytes) for item in _typed(body["failed"], list)),
        frozenset(_typed(item, str) for item in _typed(body["schemes"], list)),
    )


def _signed_by(held: Envelope[Signed], floors: Mapping[str, Floor], name: str) -> Envelope[Signed]:
    """A held file with the keys whose signatures were verified when it was taken: it set the floor, in the same record."""
    floor = floors.get(name)
    return replace(held, signers=floor.keys) if floor and floor.value == held.signed.version else held


def _to_floor(value: object) -> Floor:
    number, keys = _items(value, 2)
    return Floor(_typed(number, int), frozenset(_typed(item, bytes) for item in _typed(keys, list)))


def _to_installed(value: object) -> Installed:
    path, version, digest, length, counter, requires = _items(value, 6)
    named = _typed(requires, dict)
    return Installed(
        _typed(path, str),
        Version.parse(_typed(version, str)),
        _typed(digest, bytes),
        _typed(length, int),
        _typed(counter, int),
        tuple(sorted((_typed(name, str), Version.parse(_typed(least, str))) for name, least in named.items())),
    )


def _to_transfer(value: object, components: int) -> Transfer:
    number, release, patch = _items(value, 3)
    component = _typed(number, int)
    if component not in range(components):
        raise RecordError("state record transfer", expected=f"one of {components} components", got=component)
    return Transfer(component, _to_installed(release), _to_staged(patch) if patch is not None else None)


def _to_staged(value: object) -> StagedPatch:
    digest, length, algorithm, base, base_length = _items(value, 5)
    return StagedPatch(
        _typed(digest, bytes),
        _typed(length, int),
        _typed(algorithm, str),
        _typed(base, bytes),
        _typed(base_length, int),
    )


def _items(value: object, count: int) -> list[object]:
    items = _typed(value, list)
    if len(items) != count:
        raise RecordError("state record list", expected=f"{count} items", got=len(items))
    return items


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise RecordError("state record value", expected=kind.__name__, got=type(value).__name__)
    return value
