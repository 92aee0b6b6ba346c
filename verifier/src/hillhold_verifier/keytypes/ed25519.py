"""Ed25519 (RFC 8032); the public value is 32 bytes in hexadecimal."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from hillhold_verifier.keytypes.scheme import Scheme, Usable

SPKI: Final = bytes.fromhex("302a300506032b6570032100")
"""SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes (RFC 8410)."""


def _load(public: str) -> Usable:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(public) != 64:
        raise ValueError("an Ed25519 key has 32 bytes")
    value = bytes.fromhex(public)
    key = Ed25519PublicKey.from_public_bytes(value)
    return Usable(sha256(SPKI + value).digest(), key.verify)


SCHEMES: Final = {"ed25519": Scheme(frozenset({"ed25519"}), _load, lambda: _load("00" * 32))}
