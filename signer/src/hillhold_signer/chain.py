"""A published tree, verified: root → timestamp → snapshot → targets → every product line, by python-tuf's own rules.

`verify_chain` runs python-tuf's `TrustedMetadataSet`, the state machine of its client, over files that a function hands out, at a
given time. The same function serves three purposes: to load what is published (`at=0`: nothing has expired then), to check what
is about to be published before a byte of it is written, and to verify a tree as a client would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from hillhold_signer.encoding import utc
from hillhold_signer.errors import VerifyRefused
from hillhold_signer.layout import file_name
from hillhold_verifier.metadata import max_bytes

MAX_ROOTS: Final = 1024
"""Root versions followed from the first one."""

Files = Callable[[str], bytes | None]
"""Hands out a metadata file by its name with version; None where there is none."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Verified metadata.

    Attributes:
        lines: by product, those that targets delegate to and snapshot lists.
        raw: the bytes of the current file of each role.
    """

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    lines: Mapping[str, Targets]
    raw: Mapping[str, bytes]


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
        data = files(file_name(role, version))
        if data is None:
            raise VerifyRefused(f"{role} metadata", expected=file_name(role, version), got="none")
        _limit(role, data)
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
    except (RepositoryError, DownloadError, ValueError) as error:
        raise VerifyRefused(f"{role} metadata: {error}") from error
    return Chain(trusted.root, timestamp, snapshot, targets, lines, raw)


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


def _limit(role: str, data: bytes) -> None:
    if len(data) > max_bytes(role):
        raise VerifyRefused(f"{role} metadata", expected=f"at most {max_bytes(role)} bytes", got=len(data))
