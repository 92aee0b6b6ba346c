"""One metadata file as python-tuf reads and verifies it, without the differences in `Rules` that concern a single file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES, Metadata, Root
from tuf.api.serialization import DeserializationError, SerializationError

from differ import forms
from differ.differences import LAXER, OTHER, Rules
from differ.written import canon, compact
from forge import Object

KNOWN_SCHEMES: Final = frozenset(
    {"ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ml-dsa-44/1", "ml-dsa-65/1", "ml-dsa-87/1"}
    | {f"rsassa-pss-sha{bits}" for bits in (256, 384, 512)}
)

Signers: TypeAlias = frozenset[bytes]
"""Keys, each as its SubjectPublicKeyInfo."""

READING: Final = frozenset({2, 5, 6, 9, 10, 15, *LAXER, *OTHER})
SIGNING: Final = frozenset({4, 14})


@dataclass(frozen=True)
class Parsed:
    """A file as python-tuf reads it: its content, the bytes that are signed, and which rules had something to say of it."""

    metadata: Metadata[Any] | None
    payload: bytes
    error: RepositoryError | None
    fired: frozenset[int]


def read(kind: Any, data: bytes, on: frozenset[int], plain: Parsed | None = None) -> Parsed:
    """Read a file of `kind`, a class of python-tuf's; `plain`: as it was read without rules, if it was."""
    rules = Rules(on)
    try:
        metadata, payload = _read(kind, data, rules, plain) if on else _read_plainly(kind, data)
    except RepositoryError as error:
        return Parsed(None, b"", error, frozenset(rules.fired))
    return Parsed(metadata, payload, None, frozenset(rules.fired))


def _read_plainly(kind: Any, data: bytes) -> tuple[Metadata[Any], bytes]:
    metadata = Metadata[Any].from_bytes(data)
    if metadata.signed.type != kind.type:
        raise RepositoryError(f"expected {kind.type}, got {metadata.signed.type}")
    _remember_checks(metadata.signed)
    return metadata, metadata.signed_bytes


def _read(kind: Any, data: bytes, rules: Rules, plain: Parsed | None) -> tuple[Metadata[Any], bytes]:
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DeserializationError(str(error)) from error
    for number, problem in forms.problems(data, value, kind.type):
        if rules.fire(number):
            raise RepositoryError(f"difference {number}: {problem}")
    own = canon(value["signed"]) if isinstance(value, dict) and "signed" in value else b""
    removed: Removed = []
    try:
        _adapt(value["signed"], rules, removed)
        if plain and plain.metadata and plain.payload == own and not removed:
            return plain.metadata, own
        metadata: Metadata[Any] = Metadata.from_dict(value)
    except Exception as error:
        raise DeserializationError(str(error)) from error
    if metadata.signed.type != kind.type:
        raise RepositoryError(f"expected {kind.type}, got {metadata.signed.type}")
    _remember_checks(metadata.signed)
    try:
        theirs = _written(metadata, removed)
    except SerializationError:
        if not rules.fire(26):
            raise
        return metadata, own
    return metadata, own if theirs != own and rules.fire(26) else theirs


def _written(metadata: Metadata[Any], removed: Removed) -> bytes:
    """What python-tuf would write again, and so takes for signed; with what was removed for it."""
    data = metadata.signed_bytes
    if not removed:
        return data
    whole = json.loads(compact(metadata.signed.to_dict()))  # a copy: the objects in it are the metadata's own
    for way, name, value in removed:
        at: Any = whole
        for step in way:
            at = at[step]
        at[name] = value
    return canon(whole)


# --- what python-tuf does not take and the verifier ignores, taken out of a file ------------------------------------

Removed: TypeAlias = list[tuple[tuple[str | int, ...], str, object]]
"""Where something was: the way to its object, its name there, and its value."""


def _adapt(signed: Object, rules: Rules, removed: Removed) -> None:
    kind = signed.get("_type")
    if kind == "root":
        _adapt_keys(signed.get("keys"), ("keys",), rules, removed)
        roles = signed.get("roles")
        for name in sorted(roles.keys() - TOP_LEVEL_ROLE_NAMES) if isinstance(roles, dict) else ():
            if isinstance(roles, dict) and rules.fire(20):
                removed.append((("roles",), name, roles.pop(name)))
    files = signed.get("targets" if kind == "targets" else "meta")
    for name, item in files.items() if isinstance(files, dict) else ():
        if kind == "timestamp" and name != "snapshot.json":
            continue
        _adapt_hashes(item, ("targets" if kind == "targets" else "meta", name, "hashes"), rules, removed)
    below = signed.get("delegations")
    if kind == "targets" and isinstance(below, dict):
        _adapt_keys(below.get("keys"), ("delegations", "keys"), rules, removed)
        roles = below.get("roles")
        for at, role in enumerate(roles) if isinstance(roles, list) else ():
            _adapt_paths(role, ("delegations", "roles", at), rules, removed)


def _adapt_keys(keys: object, way: tuple[str, ...], rules: Rules, removed: Removed) -> None:
    for keyid, key in list(keys.items()) if isinstance(keys, dict) else ():
        try:
            Key.from_dict(keyid, dict(key))
        except (ValueError, TypeError, KeyError, AttributeError):
            if rules.fire(23):
                removed.append((way, keyid, key))
                del keys[keyid]  # type: ignore[attr-defined]


def _adapt_hashes(item: object, way: tuple[str, ...], rules: Rules, removed: Removed) -> None:
    hashes = item.get("hashes") if isinstance(item, dict) else None
    if isinstance(hashes, dict) and hashes.keys() & forms.DIGITS.keys():
        for name in sorted(hashes.keys() - forms.DIGITS.keys()):
            if rules.fire(24):
                removed.append((way, name, hashes.pop(name)))


def _adapt_paths(role: object, way: tuple[str | int, ...], rules: Rules, removed: Removed) -> None:
    paths = role.get("paths") if isinstance(role, dict) else None
    if (
        isinstance(role, dict)
        and isinstance(paths, list)
        and any("[" in str(path) for path in paths)
        and rules.fire(25)
    ):
        removed.append((way, "paths", paths))
        role["paths"] = [path.replace("[", "[[]") if isinstance(path, str) else path for path in paths]


# --- signatures -----------------------------------------------------------------------------------------------------


def verify(delegator: Any, name: str, parsed: Parsed, rules: Rules) -> tuple[Signers, RepositoryError | None]:
    """The keys that signed, and why they are too few. An unknown role is the caller's error, as in python-tuf."""
    result = delegator.get_verification_result(
        name, parsed.payload, parsed.metadata.signatures if parsed.metadata else {}
    )
    signed = list(result.signed.values())
    usable = [key for key in signed if is_usable(key)] if 14 in rules.on else signed
    distinct = frozenset(fingerprint(key) for key in usable) if rules.on else frozenset()
    counts = (len(signed), len(usable), len(distinct) if 4 in rules.on else len(usable))
    enough = [count >= result.threshold for count in counts]
    for before, after, number in ((enough[0], enough[1], 14), (enough[1], enough[2], 4)):
        if before != after:
            rules.fire(number)
    return distinct, None if enough[2] else UnsignedMetadataError(f"{name}: {counts[2]} of {result.threshold}")


@lru_cache(maxsize=1024)
def _loaded(keytype: str, scheme: str, public: str) -> Any:
    """The key of `cryptography`, or None where there is none."""
    try:
        return SSlibKey("", keytype, scheme, {"public": public})._crypto_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _key(key: Key) -> Any:
    return _loaded(key.keytype, key.scheme, str(key.keyval.get("public")))


class _Remembering(SSlibKey):
    """python-tuf's key, which checks each signature once."""

    def _verify(self, signature: bytes, data: bytes) -> None:
        if error := _checked(self.keytype, self.scheme, self.keyval["public"], signature, data):
            raise error

    @classmethod
    def of(cls, key: SSlibKey) -> SSlibKey:
        return cls(key.keyid, key.keytype, key.scheme, key.keyval, key.unrecognized_fields)


@lru_cache(maxsize=8192)
def _checked(keytype: str, scheme: str, public: str, signature: bytes, data: bytes) -> Exception | None:
    try:
        SSlibKey("", keytype, scheme, {"public": public})._verify(signature, data)
    except Exception as error:
        return error
    return None


def _remember_checks(signed: Any) -> None:
    keys = signed.keys if isinstance(signed, Root) else getattr(getattr(signed, "delegations", None), "keys", {})
    for keyid, key in keys.items():
        if type(key) is SSlibKey:
            keys[keyid] = _Remembering.of(key)


def is_usable(key: Key) -> bool:
    """Difference 14."""
    if key.scheme not in KNOWN_SCHEMES or (key.scheme == "ed25519" and len(str(key.keyval.get("public"))) != 64):
        return False
    loaded = _key(key)
    if isinstance(loaded, EllipticCurvePublicKey):
        return key.scheme == f"ecdsa-sha2-nistp{loaded.key_size}"
    return loaded is not None and (not isinstance(loaded, RSAPublicKey) or 2048 <= loaded.key_size <= 8192)


def fingerprint(key: Key) -> bytes:
    """The key itself, whatever its id."""
    return _spki(key.keytype, key.scheme, str(key.keyval.get("public")))


@lru_cache(maxsize=1024)
def _spki(keytype: str, scheme: str, public: str) -> bytes:
    return bytes(_loaded(keytype, scheme, public).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
