"""Public keys of TUF metadata and the check of one signature.

A key whose type, scheme or value this machine cannot use is kept and simply never verifies anything (TUF 4.2: clients must ignore
what they do not know); only a threshold that can then not be met refuses a file. Two key ids that carry the same key count once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_PUBLIC: Final = 8192
"""Characters of a public value: an ML-DSA-87 key in hexadecimal needs 5,184, a 4096-bit RSA key in PEM 800."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key as metadata states it; nothing has been checked but that the fields are text.

    Attributes:
        keytype: TUF key type, such as "ed25519".
        scheme: TUF signature scheme, such as "ecdsa-sha2-nistp256".
        public: the public value: hexadecimal for Ed25519, PEM for ECDSA.
    """

    keytype: str
    scheme: str
    public: str

    def fingerprint(self, schemes: frozenset[str]) -> bytes | None:
        """Return a SHA-256 that identifies the key itself, whatever its id, or None where it is unusable here."""
        usable = _load(self) if self.scheme in schemes else None
        return usable.fingerprint if usable else None

    def verifies(self, signature: bytes, message: bytes, schemes: frozenset[str]) -> bytes | None:
        """Return the fingerprint of the key if `signature` over `message` is valid, else None."""
        usable = _load(self) if self.scheme in schemes else None
        if usable is None:
            return None
        try:
            usable.verify(signature, message)
        except InvalidSignature:
            return None
        return usable.fingerprint


@dataclass(frozen=True, slots=True)
class _Usable:
    fingerprint: bytes
    verify: Callable[[bytes, bytes], None]


def _ed25519(public: str) -> _Usable:
    if len(public) != 64:
        raise ValueError("an Ed25519 key has 32 bytes")
    raw = bytes.fromhex(public)
    key = Ed25519PublicKey.from_public_bytes(raw)
    return _Usable(sha256(b"ed25519" + raw).digest(), key.verify)


def _ecdsa_p256(public: str) -> _Usable:
    key = serialization.load_pem_public_key(public.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    return _Usable(
        sha256(b"nistp256" + point).digest(), lambda sig, message: key.verify(sig, message, ec.ECDSA(hashes.SHA256()))
    )


_SCHEMES: Final[dict[str, tuple[frozenset[str], Callable[[str], _Usable]]]] = {
    "ed25519": (frozenset({"ed25519"}), _ed25519),
    "ecdsa-sha2-nistp256": (frozenset({"ecdsa", "ecdsa-sha2-nistp256"}), _ecdsa_p256),
}

SCHEMES: Final = frozenset(_SCHEMES)
"""The signature schemes that this library can verify."""


@lru_cache(maxsize=256)
def _load(key: Key) -> _Usable | None:
    keytypes, load = _SCHEMES.get(key.scheme, (frozenset[str](), None))
    if load is None or key.keytype not in keytypes:
        return None
    try:
        return load(key.public)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
