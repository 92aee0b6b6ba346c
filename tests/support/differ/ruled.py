"""python-tuf's rules of trust, without the differences that concern the steps and what is remembered between sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from tuf.api.exceptions import (
    BadVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from differ.differences import Rules
from differ.reading import READING, SIGNING, Parsed, Signers, fingerprint, is_usable, read, verify

Floors: TypeAlias = dict[str, tuple[int, Signers]]
"""By "timestamp", "snapshot" and "issued": the value and the keys that signed it; what difference 11 and 12 have a client remember."""


@dataclass
class Memo:
    """What was read and verified in one case: the same files come in several sessions, and to both forms of python-tuf."""

    parsed: dict[tuple[bytes, str, frozenset[int]], Parsed] = field(default_factory=dict)
    verified: dict[
        tuple[int, str, bytes, bytes, frozenset[int]], tuple[Signers, RepositoryError | None, frozenset[int]]
    ] = field(default_factory=dict)
    delegators: list[object] = field(default_factory=list)
    """Those whose `id` stands in `verified`: one that is gone would leave it to another."""


class Ruled(TrustedMetadataSet):
    """python-tuf's rules, without the differences in `rules`. `clock` in Unix seconds; `local`: the next file comes from the own store."""

    def __init__(self, root: bytes, clock: int, rules: Rules, floors: Floors, memo: Memo) -> None:
        self.rules, self.floors, self.memo, self.local = rules, floors, memo, False
        self.stale: tuple[str, ExpiredMetadataError] | None = None
        self._signers: Signers = frozenset()
        super().__init__(root, EnvelopeType.METADATA)
        self._clock = clock
        self._set_time()

    def _load_trusted_root(self, data: bytes) -> None:
        self._load_data = self._load  # type: ignore[assignment]
        super()._load_trusted_root(data)

    # --- one file

    def _load(self, kind: Any, data: bytes, delegator: Any = None, name: str | None = None) -> tuple[Any, bytes, Any]:
        """As python-tuf's `_load_from_metadata`, each file once."""
        key = (data, kind.type, self.rules.on & READING)
        if key not in self.memo.parsed:
            plain = self.memo.parsed.get((data, kind.type, frozenset()))
            self.memo.parsed[key] = read(kind, data, self.rules.on, plain)
        parsed = self.memo.parsed[key]
        self.rules.fired |= parsed.fired
        if parsed.error or not (metadata := parsed.metadata):
            raise parsed.error or DeserializationError("nothing")
        if delegator is not None:
            self._signers = self._verify(delegator, name or kind.type, data, parsed)
        if kind is Root:
            self._verify(metadata.signed, "root", data, parsed)
        return metadata.signed, parsed.payload, metadata.signatures

    # --- signatures

    def _verify(self, delegator: Any, name: str, data: bytes, parsed: Parsed) -> Signers:
        # The payload, too: what a file is read as depends on the rules.
        key = (id(delegator), name, data, parsed.payload, self.rules.on & SIGNING)
        if key not in self.memo.verified:
            rules = Rules(self.rules.on)
            signers, error = verify(delegator, name, parsed, rules)
            self.memo.verified[key] = (signers, error, frozenset(rules.fired))
            self.memo.delegators.append(delegator)
        found, problem, fired = self.memo.verified[key]
        self.rules.fired |= fired
        if problem:
            raise problem
        return found

    # --- the steps

    def update_root(self, data: bytes) -> Root:
        new: Root = self._load_data(Root, data, self.root)[0]
        for role in new.roles.values():
            usable = {
                fingerprint(new.keys[keyid])
                for keyid in role.keyids
                if keyid in new.keys and is_usable(new.keys[keyid])
            }
            if len(usable) < role.threshold <= len(role.keyids) and self.rules.fire(13):
                raise RepositoryError("difference 13: a role without usable keys")
        root = super().update_root(data)
        self._set_time()
        return root

    def update_timestamp(self, data: bytes) -> Timestamp:
        if self.local or not self.rules.on:
            return super().update_timestamp(data)
        before = self.get("timestamp")
        if not self.root.is_expired(self.reference_time):
            self._check_floor("timestamp", self._load_data(Timestamp, data, self.root)[0].version)
        try:
            new = super().update_timestamp(data)
        finally:
            if self.get("timestamp") is not before:
                self.floors["timestamp"] = (self.timestamp.version, self._signers)
                self._note_issued()
        self._check_final_timestamp()
        return new

    def update_snapshot(self, data: bytes, trusted: bool | None = False) -> Snapshot:
        if not self.rules.on:
            return super().update_snapshot(data, trusted)
        before = self.get("snapshot")
        if not trusted:
            self._check_floor("snapshot", self._load_data(Snapshot, data, self.root)[0].version)
        try:
            new = super().update_snapshot(data, trusted)
        except ExpiredMetadataError as error:
            if self.get("snapshot") is not before and self.snapshot.version == self.timestamp.snapshot_meta.version:
                self._note_snapshot(data, trusted, error)
            raise
        if trusted and not self._is_listed_snapshot(data) and self.rules.fire(8):
            raise RepositoryError("difference 8: not the snapshot that timestamp lists")
        if not trusted:
            self.floors["snapshot"] = (new.version, self._signers)
        return new

    def update_delegated_targets(self, data: bytes, role_name: str, delegator_name: str) -> Targets:
        try:
            return super().update_delegated_targets(data, role_name, delegator_name)
        except ExpiredMetadataError as error:
            # Not of the snapshot: what has expired is the file itself, the listed one.
            if self.local and not self.snapshot.is_expired(self.reference_time):
                self.stale = (role_name, error)
            raise

    # --- what is remembered

    def _note_snapshot(self, data: bytes, trusted: bool | None, error: ExpiredMetadataError) -> None:
        if not trusted:
            self.floors["snapshot"] = (self.snapshot.version, self._signers)
        elif 8 not in self.rules.on or self._is_listed_snapshot(data):
            self.stale = ("snapshot", error)

    def _is_listed_snapshot(self, data: bytes) -> bool:
        try:
            self.timestamp.snapshot_meta.verify_length_and_hashes(data)
        except LengthOrHashMismatchError:
            return False
        return True

    def _note_issued(self) -> None:
        text = self.timestamp.unrecognized_fields.get("x-hillhold-issued")
        if 12 in self.rules.on and isinstance(text, str):
            issued = int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
            if issued > self._standing("issued"):
                self.floors["issued"] = (issued, self._signers)
            self._set_time()

    def _set_time(self) -> None:
        floor = self._standing("issued")
        now = floor if floor > self._clock and self.rules.fire(12) else self._clock
        self.reference_time = datetime.fromtimestamp(now, UTC)

    def _check_floor(self, role: str, version: int) -> None:
        if version < (floor := self._standing(role)) and self.rules.fire(11):
            raise BadVersionNumberError(f"difference 11: {role} {version} after {floor}")

    def _standing(self, what: str) -> int:
        """The remembered value, or 0 once the keys that signed it are no quorum any more."""
        value, signers = self.floors.get(what, (0, frozenset()))
        role = self.root.roles["timestamp" if what == "issued" else what]
        keys = [self.root.keys[keyid] for keyid in role.keyids if keyid in self.root.keys]
        staying = {fingerprint(key) for key in keys if is_usable(key)} & signers
        return value if len(staying) >= role.threshold else 0
