"""What metadata files say, as frozen values (TUF section 4); `metadata` makes them out of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hillhold_verifier.keys import Key


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature by a key id; an undecodable one is empty and never verifies."""

    keyid: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Role:
    """Who signs a role, and how many of them (TUF 4.3)."""

    keyids: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class MetaFile:
    """What a lister says of a file: version, and length and hashes (by algorithm) where it states them (TUF 4.4)."""

    version: int
    length: int | None
    hashes: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Root:
    """TUF 4.3; `revoked_image_keys` are the fingerprints in `x-hillhold-revoked-image-keys`, none where absent."""

    version: int
    expires: int
    keys: Mapping[str, Key]
    roles: Mapping[str, Role]
    consistent_snapshot: bool
    revoked_image_keys: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Timestamp:
    """TUF 4.6; `issued` is `x-hillhold-issued` in Unix seconds, 0 where absent."""

    version: int
    expires: int
    issued: int
    snapshot: MetaFile


@dataclass(frozen=True, slots=True)
class Snapshot:
    """TUF 4.4; `meta` by file name without ".json"."""

    version: int
    expires: int
    meta: Mapping[str, MetaFile]


@dataclass(frozen=True, slots=True)
class TargetFile:
    """TUF 4.5; hashes by algorithm, at least one; `custom` is the value of `custom.hillhold`, unparsed, or None."""

    path: str
    length: int
    hashes: Mapping[str, bytes]
    custom: object


@dataclass(frozen=True, slots=True)
class Delegation:
    """A delegated role (TUF 4.5), and what `x-hillhold` allows it: an absent allowance is none.

    Its targets are named by patterns (`paths`) or by the first digits of their path's SHA-256 (`prefixes`), never by both.
    """

    name: str
    role: Role
    paths: tuple[str, ...]
    prefixes: tuple[str, ...]
    terminating: bool
    hardware: frozenset[str]
    max_security_counter: int
    max_offline_grace: int


@dataclass(frozen=True, slots=True)
class Succinct:
    """Delegation to 2^`bits` hash bins, called `prefix`-N in hexadecimal (TAP 15)."""

    role: Role
    bits: int
    prefix: str


@dataclass(frozen=True, slots=True)
class Targets:
    """TUF 4.5, top-level targets and delegated roles alike; `offline_grace` in seconds."""

    version: int
    expires: int
    targets: Mapping[str, TargetFile]
    keys: Mapping[str, Key]
    delegations: tuple[Delegation, ...]
    succinct: Succinct | None
    offline_grace: int
