"""A published tree, verified: root → timestamp → snapshot → targets → product lines.

`verify_chain` verifies all of it as a client would, at a given time: python-tuf's `TrustedMetadataSet`, the state machine of its client,
over files that a function hands out.

`load_chain` is for work on a repository of any size. It verifies root, timestamp, snapshot and targets, and a product line when it is
asked for: by the same python-tuf keys and thresholds, over the bytes that stand in the file. What it takes grows with the number of
lines (an entry each in snapshot and targets), not with their releases. A line that nobody asks for is not looked at: a file that
something else changed meanwhile is found by `hillhold verify`, and refused by every client, since snapshot names its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from hillhold_signer.encoding import T, parse, utc
from hillhold_signer.errors import DamagedRefused, VerifyRefused
from hillhold_signer.layout import file_name
from hillhold_signer.rotation import ONLINE
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import max_bytes

MAX_ROOTS: Final = 1024
"""Root versions followed from the first one."""
MAX_KEPT: Final = 4 * 1024 * 1024
"""Bytes of lines that a chain keeps parsed."""

Files = Callable[[str], bytes | None]
"""Hands out a metadata file by its name with version; None where there is none."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Verified metadata.

    Attributes:
        lines: by product, those that targets delegate to and snapshot lists.
        raw: the bytes of the current file of each top-level role.
    """

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    lines: Mapping[str, Targets]
    raw: Mapping[str, bytes]

    def over(self, files: Files) -> Chain:
        """Return the same chain, whose lines are read by other means from now on; those that were verified stay."""
        return replace(self, lines=self.lines.over(files)) if isinstance(self.lines, Lines) else self


def verify_roots(files: Files, anchor: bytes | None = None) -> tuple[TrustedMetadataSet, bytes] | None:
    """Follow the roots from `anchor` (by default version 1) to the newest (TUF 5.3).

    Returns:
        A set that holds the newest root, and its bytes; None where there is no root at all.

    Raises:
        VerifyRefused: a root that does not verify.
    """
    newest = anchor if anchor is not None else files(file_name("root", 1))
    if newest is None:
        return None
    try:
        trusted = TrustedMetadataSet(newest, EnvelopeType.METADATA)
        for _ in range(MAX_ROOTS):
            data = files(file_name("root", trusted.root.version + 1))
            if data is None:
                return trusted, newest
            _limit("root", data)
            trusted.update_root(data)
            newest = data
    except (RepositoryError, ValueError) as error:
        raise VerifyRefused(f"root metadata: {error}") from error
    raise VerifyRefused("root metadata", expected=f"at most {MAX_ROOTS} versions", got="more")


def verify_chain(files: Files, at: int, anchor: bytes | None = None) -> Chain:
    """Verify a whole tree as a client would at a given time.

    Args:
        at: Unix seconds; 0 loads a tree whatever has expired.
        anchor: bytes of the root that is trusted; by default version 1.

    Raises:
        VerifyRefused: a file is missing or does not verify.
    """
    found = verify_roots(files, anchor)
    if found is None:
        raise VerifyRefused("1.root.json", expected="a root", got="none")
    trusted, root = found
    trusted.reference_time = utc(at)
    raw = {"root": root}

    def take(role: str, version: int) -> bytes:
        data = _need(files, role, version)
        if role in ("timestamp", "snapshot", "targets"):
            raw[role] = data
        return data

    role = "timestamp"
    try:
        timestamp = trusted.update_timestamp(take(role, 0))
        role = "snapshot"
        snapshot = trusted.update_snapshot(take(role, timestamp.snapshot_meta.version))
        role = "targets"
        targets = trusted.update_targets(take(role, _listed(snapshot, role)))
        lines: dict[str, Targets] = {}
        for role in line_names(targets):
            if f"{role}.json" in snapshot.meta:
                data = take(role, _listed(snapshot, role))
                lines[role] = trusted.update_delegated_targets(data, role, "targets")
    except ExpiredMetadataError as error:
        accepted: Iterator[Signed] = iter(trusted)  # a role that is looked at for the next one is in it already
        past = next((signed.type for signed in accepted if signed.is_expired(trusted.reference_time)), role)
        hint = "`hillhold refresh REPO`" if past in ONLINE else f"`hillhold renew REPO {past}`, then its keys sign it"
        raise VerifyRefused(f"{past} metadata: {error}", hint=hint) from error
    except (RepositoryError, DownloadError, ValueError) as error:
        raise VerifyRefused(f"{role} metadata: {error}") from error
    return Chain(trusted.root, timestamp, snapshot, targets, lines, raw)


def load_chain(files: Files, root: Root, root_bytes: bytes, known: Chain | None = None) -> Chain:
    """Read what is published under a verified root, whatever has expired; the lines are verified when they are asked for.

    Args:
        known: a chain that was verified before; what was verified under the same delegator, and is listed by the same hash, stays so.

    Raises:
        VerifyRefused: timestamp, snapshot or targets are missing or do not verify.
    """
    if known is not None and known.raw["root"] != root_bytes:
        known = None
    raw = {"root": root_bytes, "timestamp": _need(files, "timestamp", 0)}
    timestamp = accept("timestamp", raw["timestamp"], root, Timestamp)
    raw["snapshot"] = _need(files, "snapshot", timestamp.snapshot_meta.version)
    snapshot = accept("snapshot", raw["snapshot"], root, Snapshot, timestamp.snapshot_meta)
    if known is not None and known.snapshot.meta["targets.json"] == snapshot.meta.get("targets.json"):
        raw["targets"], targets = known.raw["targets"], known.targets
        return Chain(root, timestamp, snapshot, targets, Lines(files, snapshot, targets, known.lines), raw)
    raw["targets"] = _need(files, "targets", _listed(snapshot, "targets"))
    targets = accept("targets", raw["targets"], root, Targets, snapshot.meta["targets.json"])
    return Chain(root, timestamp, snapshot, targets, Lines(files, snapshot, targets), raw)


class Lines(Mapping[str, Targets]):
    """The product lines of a chain, each read and verified when it is asked for; a few are kept.

    Args:
        known: those of an older snapshot under the same targets: what both list by the same hash was verified.
    """

    def __init__(
        self, files: Files, snapshot: Snapshot, targets: Targets, known: Mapping[str, Targets] | None = None
    ) -> None:
        self._files, self._snapshot, self._targets = files, snapshot, targets
        self._names = {name: None for name in line_names(targets) if f"{name}.json" in snapshot.meta}
        self._kept: dict[str, tuple[Targets, int]] = {}
        if isinstance(known, Lines):
            before, now = known._snapshot.meta, snapshot.meta
            for name, item in known._kept.copy().items():
                if name in self._names and before[f"{name}.json"] == now[f"{name}.json"]:
                    self._kept[name] = item

    def over(self, files: Files) -> Lines:
        """Return the same lines, read from elsewhere."""
        found = Lines(files, self._snapshot, self._targets)
        found._kept = dict(self._kept)
        return found

    def __getitem__(self, product: str) -> Targets:
        """Return a line's role.

        Raises:
            KeyError: there is none.
            DamagedRefused: it is missing or does not verify.
        """
        if product not in self._names:
            raise KeyError(product)
        if product not in self._kept:
            try:
                data = _need(self._files, product, _listed(self._snapshot, product))
                line = accept(product, data, self._targets, Targets, self._snapshot.meta[f"{product}.json"])
            except VerifyRefused as error:
                raise DamagedRefused(error) from error
            self._keep(product, line, len(data))
            return line
        return self._kept[product][0]

    def _keep(self, product: str, line: Targets, size: int) -> None:
        size += sum(held for _, held in self._kept.values())
        while self._kept and size > MAX_KEPT:
            size -= self._kept.pop(next(iter(self._kept)))[1]
        self._kept[product] = line, size - sum(held for _, held in self._kept.values())

    def __contains__(self, product: object) -> bool:
        """Say whether there is such a line, without reading it."""
        return product in self._names

    def __iter__(self) -> Iterator[str]:
        """The names of the lines, in the order of targets."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._names)


def accept(role: str, data: bytes, delegator: Root | Targets, kind: type[T], listing: MetaFile | None = None) -> T:
    """Return what a file says, once the delegator's threshold of keys has signed the bytes in it.

    Args:
        listing: what its lister says of it; its hash is a part of that in this repository.

    Raises:
        VerifyRefused: another file than the listed one, malformed, or signed by too few.
    """
    _limit(role, data)
    try:
        if listing is not None:
            listing.verify_length_and_hashes(data)
        metadata, payload = parse(data, kind)
        delegator.verify_delegate(role, payload, metadata.signatures)
    except (LengthOrHashMismatchError, MetadataError, RepositoryError, ValueError) as error:
        raise VerifyRefused(f"{role} metadata: {error}") from error
    signed = metadata.signed
    if listing is not None and (signed.version != listing.version or not listing.hashes):
        raise VerifyRefused(f"{role} metadata", expected=f"version {listing.version}, with a hash", got=signed.version)
    return signed


def line_names(targets: Targets) -> list[str]:
    """Return the product lines that top-level targets delegate to, in their order."""
    if targets.delegations is None or targets.delegations.roles is None:
        return []
    return list(targets.delegations.roles)


def _listed(snapshot: Snapshot, role: str) -> int:
    meta = snapshot.meta.get(f"{role}.json")
    if meta is None:
        raise VerifyRefused("snapshot", expected=f"{role}.json", got="none")
    return meta.version


def _need(files: Files, role: str, version: int) -> bytes:
    data = files(file_name(role, version))
    if data is None:
        raise VerifyRefused(f"{role} metadata", expected=file_name(role, version), got="none")
    _limit(role, data)
    return data


def _limit(role: str, data: bytes) -> None:
    if len(data) > max_bytes(role):
        raise VerifyRefused(f"{role} metadata", expected=f"at most {max_bytes(role)} bytes", got=len(data))
