"""Ed25519 (RFC 8032); the public value is 32 bytes in hexadecimal."""

from __future__ import annotations

from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hillhold_verifier.keytypes.scheme import Scheme, Usable, supported, usable


def _load(public: str) -> Usable:
    if len(public) != 64:
        raise ValueError("an Ed25519 key has 32 bytes")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    return usable(key, key.verify)


SCHEMES: Final = (
    {"ed25519": Scheme(frozenset({"ed25519"}), _load)}
    if supported(partial(Ed25519PublicKey.from_public_bytes, bytes(32)))
    else {}
)
