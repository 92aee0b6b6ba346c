"""Public keys of TUF metadata and the check of one signature.

A key whose type, scheme or value this machine cannot use is kept and simply never verifies anything (TUF 4.2: clients must ignore
what they do not know); only a threshold that can then not be met refuses a file. Two key ids that carry the same key count once.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from hillhold_verifier import keytypes
from hillhold_verifier.keytypes.ed25519 import SPKI
from hillhold_verifier.keytypes.scheme import Usable

MAX_PUBLIC: Final = 8192
"""Characters of a public value: an ML-DSA-87 key in hexadecimal needs 5,184, a 4096-bit RSA key in PEM 800."""
_PEM: Final = re.compile("-----BEGIN PUBLIC KEY-----([^-]*)-----END PUBLIC KEY-----")


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

    def identity(self) -> bytes | None:
        """Return the fingerprint whether or not the key can be used here, or None where it has no form that is known.

        By it a floor outlives a library that has lost an algorithm.
        """
        pem = _PEM.search(self.public)
        try:
            der = a2b_base64(pem[1]) if pem else SPKI + bytes.fromhex(self.public)
        except ValueError:
            return None
        return sha256(der).digest()

    def verifies(self, signature: bytes, message: bytes) -> bytes | None:
        """Return the fingerprint of the key if `signature` over `message` is valid, else None."""
        usable = _load(self)
        if usable is None:
            return None
        try:
            usable.verify(signature, message)
        except (InvalidSignature, UnsupportedAlgorithm):
            return None
        return usable.fingerprint


SCHEMES: Final = frozenset(keytypes.SCHEMES)
"""The signature schemes that are known here; a key of one that this machine lacks is unusable all the same."""


@cache
def usable_schemes() -> frozenset[str]:
    """Return the signature schemes that this machine can verify."""
    return frozenset(name for name, scheme in keytypes.SCHEMES.items() if scheme.supported())


@lru_cache(maxsize=256)
def _load(key: Key) -> Usable | None:
    scheme = keytypes.SCHEMES.get(key.scheme)
    if scheme is None or key.keytype not in scheme.keytypes:
        return None
    try:
        usable = scheme.load(key.public)
    except (ValueError, UnsupportedAlgorithm):
        return None
    # A library reads other forms of a key as well; without it nobody could tell that they are the same key (`Key.identity`).
    return usable if usable.fingerprint == key.identity() else None
