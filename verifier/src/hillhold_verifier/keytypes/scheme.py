"""What a key type provides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Verify = Callable[[bytes, bytes], None]
"""Checks a signature over a message; raises cryptography's `InvalidSignature`."""


@dataclass(frozen=True, slots=True)
class Usable:
    """A public key that loaded: SHA-256 of its SubjectPublicKeyInfo (DER), by which keys are told apart, and its check."""

    fingerprint: bytes
    verify: Verify


@dataclass(frozen=True, slots=True)
class Scheme:
    """A TUF signature scheme: key types that it goes with, and a loader (raises ValueError or TypeError for a bad value)."""

    keytypes: frozenset[str]
    load: Callable[[str], Usable]


class Public(Protocol):
    """Any public key of cryptography."""

    def public_bytes(self, encoding: Encoding, format: PublicFormat) -> bytes:
        """Serialise it."""


def usable(key: Public, verify: Verify) -> Usable:
    """Return a loaded key with its fingerprint."""
    return Usable(sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(), verify)


def supported(load: Callable[[], object]) -> bool:
    """Say whether this machine's `cryptography` has an algorithm: `load` loads some key of it. Its presence as a module says little."""
    try:
        load()
    except UnsupportedAlgorithm:
        return False
    return True
