"""Both clients, each over the same files, each with what it keeps from one session to the next.

`Here` is the verifier's `Client`, with its kept files and floors. `There` is python-tuf's `Updater`: its own code, with its metadata
directory held in memory, and files that come from memory. A test compares it with an `Updater` on a disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, Final, TypeAlias

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile as TufTarget
from tuf.api.metadata import Targets as TufTargets
from tuf.ngclient import Updater, UpdaterConfig

from differ.differences import Rules
from differ.histories import Store
from differ.ruled import Floors, Memo, Ruled
from hillhold_verifier.client import MAX_DELEGATIONS, Client
from hillhold_verifier.errors import ExpiredError, MissingError, Refused
from hillhold_verifier.metadata import (
    HASHES,
    MAX_BYTES,
    MAX_BYTES_OTHER,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
)
from hillhold_verifier.roles import Delegation, Targets
from hillhold_verifier.session import MAX_ROOTS
from hillhold_verifier.trust import Floor, Trust, verify

Answer: TypeAlias = tuple[str, object]
"""What a search found: ("found", length and hashes), ("none", ""), or ("refused", the role)."""


@dataclass(frozen=True)
class Verdict:
    """What one session came to.

    Attributes:
        refused: the role at whose file it was refused; None where all was accepted.
        kept: the files that are held for the next session.
        answers: one for each path that was looked for; none where it was refused.
        why: in words; not compared.
    """

    refused: str | None
    kept: dict[str, bytes]
    answers: tuple[Answer, ...]
    why: tuple[str, ...] = field(compare=False, default=())

    def __str__(self) -> str:
        kept = ", ".join(f"{role} {sha256(data).hexdigest()[:8]}" for role, data in sorted(self.kept.items()))
        answers = ", ".join(f"{kind} {what}"[:40] for kind, what in self.answers)
        return f"{f'refused at {self.refused}' if self.refused else 'accepted'}; keeps {kept}; answers {answers or 'none'}; {self.why}"


class Here:
    """The verifier's client."""

    def __init__(self, root: bytes) -> None:
        self.kept = {ROOT: root}
        self.floors: dict[str, Floor] = {}
        self.time_floor: Floor | None = None
        self._parsed: dict[tuple[str, bytes], Any] = {}

    def session(self, served: Store, now: int, paths: Sequence[str]) -> Verdict:
        """One run of the client at the time `now`, Unix seconds."""
        asked = [ROOT]

        def fetch(role: str, version: int | None, limit: int) -> bytes | None:
            asked.append(role)
            data = served.get((role, version))
            return data[: limit + 1] if data is not None else None

        trust = self._trust()
        delegated = {role: self._held(role) for role in self.kept if role not in _PARSE}
        client = _Client(trust, delegated, now, fetch, self.kept.__setitem__)
        refused: str | None = None
        why: list[str] = []
        answers: list[Answer] = []
        try:
            verify(trust.root, ROOT, trust.root.signed.roles[ROOT], trust.root.signed.keys)
            client.refresh()
            for path in paths:
                answers.append(client.answer(path, why))
        except Refused as error:
            refused = _at_fault(error, asked[-1])
            why.append(f"{type(error).__name__}: {error}")
        self.floors, self.time_floor = dict(client.trust.floors), client.trust.time_floor
        return Verdict(refused, dict(self.kept), tuple(answers), tuple(why))

    def _trust(self) -> Trust:
        held = {role: self._held(role) for role in (TIMESTAMP, SNAPSHOT, TARGETS)}
        return Trust(self._held(ROOT), **held, floors=self.floors, time_floor=self.time_floor)

    def _held(self, role: str) -> Any:
        """The kept file of a role, parsed once."""
        if (data := self.kept.get(role)) is None:
            return None
        if (role, data) not in self._parsed:
            parse = _PARSE.get(role, partial(parse_targets, role=role))
            self._parsed[role, data] = parse(data)
        return self._parsed[role, data]


_PARSE: Final = {ROOT: parse_root, TIMESTAMP: parse_timestamp, SNAPSHOT: parse_snapshot, TARGETS: parse_targets}


class _Client(Client):
    """Says at which role a search was refused."""

    at = TARGETS

    def answer(self, path: str, why: list[str]) -> Answer:
        try:
            found = self.find(path)
        except Refused as error:
            why.append(f"{path}: {type(error).__name__}: {error}")
            return "refused", self.at
        return (
            _stated(found.length, {name: value.hex() for name, value in found.hashes.items()})
            if found
            else ("none", "")
        )

    def _delegated(self, above: Targets, delegation: Delegation) -> Targets:
        self.at = delegation.name
        return super()._delegated(above, delegation)


def _at_fault(error: Refused, asked: str) -> str:
    """What has expired or is missing may be another file than the one that was asked for last."""
    if isinstance(error, ExpiredError | MissingError):
        return error.what.removesuffix(" metadata")
    return asked


def _stated(length: int, hashes: dict[str, str]) -> Answer:
    return "found", (length, tuple(sorted(item for item in hashes.items() if item[0] in HASHES)))


class There:
    """python-tuf's client, without the differences in `rules`."""

    def __init__(self, root: bytes, rules: Rules, memo: Memo) -> None:
        self.kept = {ROOT: root}
        self.floors: Floors = {}
        self.rules, self.memo = rules, memo

    def session(self, served: Store, now: int, paths: Sequence[str]) -> Verdict:
        """One run of the client at the time `now`, Unix seconds."""
        updater = None
        refused: str | None = None
        why: list[str] = []
        answers: list[Answer] = []
        try:
            updater = InMemory(self.kept, served, now, self.rules, self.floors, self.memo)
            updater.refresh()
        except Exception as error:
            _python_tufs_own(error)
            refused = updater.at_fault() if updater else ROOT
            why.append(f"{type(error).__name__}: {error}")
        else:
            for path in paths:
                try:
                    found = updater.get_targetinfo(path)
                except Exception as error:
                    _python_tufs_own(error)
                    why.append(f"{path}: {type(error).__name__}: {error}")
                    answers.append(("refused", updater.at))
                else:
                    answers.append(_target(found))
        return Verdict(refused, dict(self.kept), tuple(answers), tuple(why))


def _python_tufs_own(error: Exception) -> None:
    """python-tuf lets errors of Python's pass where a field has another type than it thinks. Ours are not to be taken for them."""
    if isinstance(error, RepositoryError | DownloadError):
        return
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace and trace.tb_frame.f_globals["__name__"].startswith("differ."):
        raise error


def _target(found: TufTarget | None) -> Answer:
    return _stated(found.length, found.hashes) if found else ("none", "")


CONFIG = UpdaterConfig(
    max_root_rotations=MAX_ROOTS,
    max_delegations=MAX_DELEGATIONS,
    root_max_length=MAX_BYTES[ROOT],
    timestamp_max_length=MAX_BYTES[TIMESTAMP],
    snapshot_max_length=MAX_BYTES_OTHER,
    targets_max_length=MAX_BYTES_OTHER,
)
"""The verifier's limits, which python-tuf leaves to whoever uses it."""


class InMemory(Updater):
    """python-tuf's updater with its files in `kept`, and the repository's in `served`."""

    def __init__(
        self, kept: dict[str, bytes], served: Store, now: int, rules: Rules, floors: Floors, memo: Memo
    ) -> None:
        # Not Updater's own, which reads and writes root on the disk and makes a fetcher.
        self._kept, self._served, self._rules = kept, served, rules
        self._dir, self._metadata_base_url, self.config = "/nonexistent", "", CONFIG
        self._trusted_set: Ruled = Ruled(kept[ROOT], now, rules, floors, memo)
        self.at = ROOT

    def at_fault(self) -> str:
        """The role at whose file a refresh was refused: an expired lister is only seen when what it lists is loaded."""
        trusted = self._trusted_set
        # No timestamp is loaded under an expired root: where both have expired, it was by what the timestamp says of the time.
        for role in (TIMESTAMP, SNAPSHOT, ROOT):
            if role in trusted and trusted[role].is_expired(trusted.reference_time):
                return role
        return self.at

    def _load_root(self) -> None:
        super()._load_root()
        self.at = TIMESTAMP

    def _load_timestamp(self) -> None:
        super()._load_timestamp()
        self.at = SNAPSHOT
        if self._trusted_set.root.is_expired(self._trusted_set.reference_time):
            raise ExpiredMetadataError("difference 12: root has expired by what timestamp says of the time")

    def _load_targets(self, role: str, parent_role: str) -> TufTargets:
        self.at = role
        return super()._load_targets(role, parent_role)

    def _load_local_metadata(self, rolename: str) -> bytes:
        self._trusted_set.local = True
        if rolename not in self._kept:
            raise FileNotFoundError(rolename)
        return self._kept[rolename]

    def _download_metadata(self, rolename: str, length: int, version: int | None = None) -> bytes:
        trusted = self._trusted_set
        trusted.local = False
        if trusted.stale and trusted.stale[0] == rolename and self._rules.fire(16):
            raise trusted.stale[1]
        data = self._served.get((rolename, version))
        if data is None:
            raise DownloadHTTPError("missing", 404)
        if len(data) > length:
            raise DownloadLengthMismatchError(f"{len(data)} bytes, not {length}")
        return data

    def _persist_metadata(self, rolename: str, data: bytes) -> None:
        self._kept[rolename] = data

    def _persist_root(self, version: int, data: bytes) -> None:
        self._kept[ROOT] = data

    def _update_root_symlink(self) -> None:
        """The root that is held is always the newest."""
