"""TUF 1.0 metadata as frozen values (TUF section 4), parsed whole or refused.

`parse` turns bytes into an `Envelope`: what a file says, and by which signatures, of which nothing is verified. Only `trust` turns
an envelope into something that a device relies on. Fields that are not known here are ignored, but they are signed over all the same.

Hillhold's additions to the standard fields, each ignored by other TUF clients:

- timestamp: `x-hillhold-issued`, the time at which it was signed;
- a product line's role: `x-hillhold-offline-grace`, seconds;
- a delegation in top-level targets: `x-hillhold` with `hardware`, `max_security_counter` and `max_offline_grace`;
- root: `x-hillhold-revoked-image-keys`, fingerprints of keys under which no bootloader shall boot an image any more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final, Generic, TypeVar

from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.fields import MAX_NAME, Fields
from hillhold_verifier.keys import MAX_PUBLIC, Key
from hillhold_verifier.roles import (
    Delegation,
    MetaFile,
    Role,
    Root,
    Signature,
    Snapshot,
    Succinct,
    TargetFile,
    Targets,
    Timestamp,
)

ROOT, TIMESTAMP, SNAPSHOT, TARGETS = "root", "timestamp", "snapshot", "targets"

MAX_BYTES: Final[Mapping[str, int]] = {ROOT: 64 * 1024, TIMESTAMP: 32 * 1024}
"""Bytes of a metadata file before it is authenticated (TUF 5.3.3, 5.4.1); of any other role `MAX_BYTES_OTHER`."""
MAX_BYTES_OTHER: Final = 512 * 1024
"""Bytes of snapshot, targets or a line role: some 1,900 releases; 4,000 lines in snapshot, 700 to 1,400 in targets (docs/adr/0008)."""
MAX_SIGNATURES: Final = 64
"""Signatures in one file; more is a denial of service, not a quorum (CVE-2020-6173)."""
MAX_KEYS: Final = 4096
"""Keys or delegations in one file."""
MAX_REVOKED: Final = 64
"""Image keys that a root may name as revoked: a bootloader holds a handful."""
REVOKED_IMAGE_KEYS: Final = "x-hillhold-revoked-image-keys"
MAX_LENGTH: Final = 2**32
"""Bytes of a target: MCUboot's own limit, and beyond any device that this is for."""

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SPECIFICATION: Final = re.compile(r"1\.[0-9]+(\.[0-9]+)?")
HASHES: Final[Mapping[str, int]] = {"sha256": 64, "sha512": 128}
"""Hash algorithms that are checked where a lister states them, and how many hexadecimal digits they have."""


Signed = TypeVar("Signed", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True)
class Envelope(Generic[Signed]):
    """A metadata file: what it says, its signatures, and its bytes. Unverified, but for what `signers` remember.

    `signers` are the fingerprints of keys whose signatures over this very file were verified before, and which the state remembers.
    """

    raw: bytes
    payload: bytes
    signatures: tuple[Signature, ...]
    signed: Signed
    signers: frozenset[bytes] = field(default=frozenset(), compare=False)
    _checked: dict[tuple[Key, bytes], bytes | None] = field(default_factory=dict, compare=False, repr=False)

    def signer(self, signature: Signature, key: Key, schemes: frozenset[str]) -> bytes | None:
        """Return the fingerprint of `key` if `signature` is its valid signature over this file, else None; each is checked once."""
        if key.scheme not in schemes:
            return None
        if (known := key.fingerprint(schemes)) in self.signers:
            return known
        asked = (key, signature.value)
        if asked not in self._checked:
            self._checked[asked] = key.verifies(signature.value, self.payload)
        return self._checked[asked]

    def hash(self, algorithm: str) -> bytes:
        """Return the file's hash by one of `HASHES`, as a lister states it."""
        return hashlib.new(algorithm, self.raw).digest()

    def with_signatures(self, signatures: tuple[Signature, ...]) -> Envelope[Signed]:
        """Return the file in its written form with these signatures; the same bytes, where it had that form and these."""
        signed = Fields(canonical.loads(self.raw), "file").sub("signed").value
        entries = [{"keyid": item.keyid, "sig": item.value.hex()} for item in signatures]
        value = {"signatures": entries, "signed": signed}
        return Envelope(canonical.dumps(value), self.payload, signatures, self.signed, self.signers, self._checked)


def max_bytes(role: str) -> int:
    """Return the limit on a file of `role`, in bytes."""
    return MAX_BYTES.get(role, MAX_BYTES_OTHER)


def parse_root(data: bytes) -> Envelope[Root]:
    """Parse root metadata; raises `MetadataError`."""
    return _parse(data, ROOT, ROOT, _root)


def parse_timestamp(data: bytes) -> Envelope[Timestamp]:
    """Parse timestamp metadata; raises `MetadataError`."""
    return _parse(data, TIMESTAMP, TIMESTAMP, _timestamp)


def parse_snapshot(data: bytes) -> Envelope[Snapshot]:
    """Parse snapshot metadata; raises `MetadataError`."""
    return _parse(data, SNAPSHOT, SNAPSHOT, _snapshot)


def parse_targets(data: bytes, role: str = TARGETS) -> Envelope[Targets]:
    """Parse top-level targets, or the role of a product line; raises `MetadataError`."""
    return _parse(data, role, TARGETS, _targets)


def parse_time(text: object, what: str = "date") -> int:
    """Parse `YYYY-MM-DDTHH:MM:SSZ` (TUF 4.2.2) into Unix seconds; raises `MetadataError`."""
    if isinstance(text, str) and _DATE.fullmatch(text):
        try:
            return int(datetime.fromisoformat(text).timestamp())
        except ValueError:
            pass
    raise MetadataError(what, expected="YYYY-MM-DDTHH:MM:SSZ", got=repr(text)[:40])


def _parse(data: bytes, role: str, kind: str, build: Callable[[Fields], Signed]) -> Envelope[Signed]:
    if len(data) > (limit := max_bytes(role)):
        raise MetadataError(f"{role} metadata", expected=f"at most {limit} bytes", got=f"{len(data)}")
    value, payload = canonical.parse_file(data)
    top = Fields(value, f"{role} metadata")
    signed = top.sub("signed")
    if signed.text("_type") != kind:
        raise MetadataError(f"{role} metadata type", expected=kind, got=signed.text("_type")[:40])
    if not _SPECIFICATION.fullmatch(signed.text("spec_version")):
        raise MetadataError(f"{role} specification version", expected="1.x", got=signed.text("spec_version")[:40])
    signatures = top.array("signatures", MAX_SIGNATURES)
    found = tuple(_signature(Fields(item, f"{role} signature")) for item in signatures)
    if len({item.keyid for item in found}) != len(found):
        raise MetadataError(f"{role} signatures", expected="each key id once", got="a key id twice")
    return Envelope(data, payload or canonical.canonical(signed.value), found, build(signed))


def _signature(fields: Fields) -> Signature:
    # As long as the file allows: one of a scheme that is not known here (SLH-DSA has up to 49,856 bytes) refuses no file.
    try:
        value = bytes.fromhex(fields.text("sig", MAX_BYTES_OTHER))
    except ValueError:
        value = b""
    return Signature(fields.text("keyid"), value)


def _root(f: Fields) -> Root:
    names = f.sub("roles")
    roles = {name: _role(names.sub(name)) for name in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS)}
    consistent = _boolean(f, "consistent_snapshot") if "consistent_snapshot" in f.value else False
    return Root(_version(f), _expires(f), _keys(f), roles, consistent, _revoked_image_keys(f))


def _revoked_image_keys(f: Fields) -> frozenset[bytes]:
    if REVOKED_IMAGE_KEYS not in f.value:
        return frozenset()
    listed = f.array(REVOKED_IMAGE_KEYS, MAX_REVOKED)
    found = [_digest(Fields.as_text(item, REVOKED_IMAGE_KEYS, MAX_NAME), "sha256") for item in listed]
    if any(one >= other for one, other in pairwise(found)):
        raise MetadataError(
            REVOKED_IMAGE_KEYS, expected="fingerprints in order, each once", got="another order, or repeats"
        )
    return frozenset(found)


def _timestamp(f: Fields) -> Timestamp:
    issued = f.value.get("x-hillhold-issued")
    return Timestamp(
        _version(f),
        _expires(f),
        parse_time(issued, "timestamp x-hillhold-issued") if issued is not None else 0,
        _meta_file(f.sub("meta").sub("snapshot.json")),
    )


def _snapshot(f: Fields) -> Snapshot:
    meta = f.sub("meta", MAX_KEYS)
    if not all(name.endswith(".json") for name in meta.value):
        raise MetadataError("snapshot meta", expected="names that end in .json", got="another")
    found = {name.removesuffix(".json"): _meta_file(meta.sub(name)) for name in meta.value}
    if TARGETS not in found:
        raise MetadataError("snapshot meta", expected="targets.json", got="none")
    return Snapshot(_version(f), _expires(f), found)


def _targets(f: Fields) -> Targets:
    entries = f.sub("targets", MAX_KEYS)
    targets = {
        path: _plain_target(path, entry) or _target_file(path, entries.sub(path))
        for path, entry in entries.value.items()
    }
    keys: Mapping[str, Key] = {}
    delegations: tuple[Delegation, ...] = ()
    succinct = None
    if "delegations" in f.value:
        below = f.sub("delegations")
        keys = _keys(below)
        if ("roles" in below.value) == ("succinct_roles" in below.value):
            raise MetadataError("delegations", expected="either roles or succinct_roles", got="both or none")
        if "roles" in below.value:
            roles = below.array("roles", MAX_KEYS)
            delegations = tuple(_delegation(Fields(item, f"{f.what} delegation")) for item in roles)
        else:
            succinct = _succinct(below.sub("succinct_roles"))
        if len({d.name for d in delegations}) != len(delegations):
            raise MetadataError("delegations", expected="each role once", got="a role twice")
    grace = f.natural("x-hillhold-offline-grace", 0)
    return Targets(_version(f), _expires(f), targets, keys, delegations, succinct, grace)


def _plain_target(path: str, entry: object) -> TargetFile | None:
    """The usual entry, one SHA-256 and nothing odd; None for `_target_file` to judge. Lists are long, and this is several times faster."""
    if not isinstance(entry, dict) or not 0 < len(path) <= MAX_NAME:
        return None
    length, hashes, custom = entry.get("length"), entry.get("hashes"), entry.get("custom")
    if length.__class__ is not int or not 0 <= length <= MAX_LENGTH or not isinstance(hashes, dict) or len(hashes) != 1:
        return None
    digest = hashes.get("sha256")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        return None
    return TargetFile(
        path, length, {"sha256": bytes.fromhex(digest)}, custom.get("hillhold") if isinstance(custom, dict) else None
    )


def _target_file(path: str, f: Fields) -> TargetFile:
    if not path or len(path) > MAX_NAME:
        raise MetadataError("target path", expected=f"1 to {MAX_NAME} characters", got=f"{len(path)}")
    length = f.natural("length")
    if length > MAX_LENGTH:
        raise MetadataError("target length", expected=f"at most {MAX_LENGTH}", got=length)
    hashes = _hashes(f)
    custom = f.value.get("custom")
    return TargetFile(path, length, hashes, custom.get("hillhold") if isinstance(custom, dict) else None)


def _delegation(f: Fields) -> Delegation:
    name = f.text("name")
    if name in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS, ""):
        raise MetadataError("delegated role name", expected="a name that is no top-level role's", got=repr(name))
    if ("paths" in f.value) == ("path_hash_prefixes" in f.value):
        raise MetadataError(f"{f.what} {name}", expected="either paths or path_hash_prefixes", got="both or none")
    paths, prefixes = (
        tuple(Fields.as_text(p, "delegation path", MAX_NAME) for p in f.array(field, MAX_KEYS))
        if field in f.value
        else ()
        for field in ("paths", "path_hash_prefixes")
    )
    caps = f.sub("x-hillhold") if "x-hillhold" in f.value else Fields({}, "x-hillhold")
    hardware = caps.array("hardware", MAX_KEYS) if "hardware" in caps.value else []
    return Delegation(
        name,
        _role(f),
        paths,
        prefixes,
        _boolean(f, "terminating"),
        frozenset(Fields.as_text(item, "delegation hardware", MAX_NAME) for item in hardware),
        caps.natural("max_security_counter", 0),
        caps.natural("max_offline_grace", 0),
    )


def _succinct(f: Fields) -> Succinct:
    bits = f.natural("bit_length")
    if not 1 <= bits <= 32:
        raise MetadataError(f"{f.what} bit_length", expected="1 to 32", got=bits)
    return Succinct(_role(f), bits, f.text("name_prefix"))


def _keys(f: Fields) -> dict[str, Key]:
    entries = f.sub("keys", MAX_KEYS)
    return {keyid: _key(entries.sub(keyid)) for keyid in entries.value}


def _key(f: Fields) -> Key:
    # A public value of another shape belongs to a key type that is not known here; it stays unusable.
    public = f.sub("keyval").value.get("public")
    usable = public if isinstance(public, str) and len(public) <= MAX_PUBLIC else ""
    return Key(f.text("keytype"), f.text("scheme"), usable)


def _role(f: Fields) -> Role:
    keyids = tuple(Fields.as_text(item, "role key id", MAX_NAME) for item in f.array("keyids", MAX_KEYS))
    if len(set(keyids)) != len(keyids):
        raise MetadataError("role key ids", expected="each once", got="one twice")
    threshold = f.natural("threshold")
    if threshold < 1:
        raise MetadataError("role threshold", expected="at least 1", got=threshold)
    return Role(keyids, threshold)


def _meta_file(f: Fields) -> MetaFile:
    return MetaFile(
        _version(f),
        f.natural("length") if "length" in f.value else None,
        _hashes(f) if "hashes" in f.value else {},
    )


def _hashes(f: Fields) -> dict[str, bytes]:
    """The hashes of algorithms that are known here, at least one: a file that is named by hash must match it (TUF 5.5.2, 5.6.2)."""
    stated = f.sub("hashes")
    found = {name: _digest(stated.text(name), name) for name in HASHES if name in stated.value}
    if not found:
        raise MetadataError(stated.what, expected=f"one of {', '.join(HASHES)}", got="none")
    return found


def _boolean(f: Fields, name: str) -> bool:
    if not isinstance(found := f.value.get(name), bool):
        raise MetadataError(f"{f.what} {name}", expected="true or false", got=type(found).__name__)
    return found


def _version(f: Fields) -> int:
    if (found := f.natural("version")) < 1:
        raise MetadataError(f"{f.what} version", expected="at least 1", got=found)
    return found


def _expires(f: Fields) -> int:
    return parse_time(f.text("expires"), f"{f.what} expires")


def _digest(text: str, algorithm: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if digest.hex() != text or len(text) != HASHES[algorithm]:  # upper case or white space has another form
        expected = f"{HASHES[algorithm]} lowercase hexadecimal digits"
        raise MetadataError(algorithm, expected=expected, got=repr(text)[:80])
    return digest
