"""What a key type provides.

Libraries are imported when a first key of a type is loaded: to import all of them takes longer than to verify a repository.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm

Verify = Callable[[bytes, bytes], None]
"""Checks a signature over a message; raises cryptography's `InvalidSignature`."""


@dataclass(frozen=True, slots=True)
class Usable:
    """A public key that loaded: SHA-256 of its SubjectPublicKeyInfo (DER), by which keys are told apart, and its check."""

    fingerprint: bytes
    verify: Verify


@dataclass(frozen=True, slots=True)
class Scheme:
    """A TUF signature scheme.

    Attributes:
        keytypes: TUF key types that it goes with.
        load: loads a public value; raises ValueError for a bad one, `UnsupportedAlgorithm` where this machine lacks it.
        probe: loads some key of the algorithm, and raises likewise: that there is a module for it says little.
    """

    keytypes: frozenset[str]
    load: Callable[[str], Usable]
    probe: Callable[[], object]

    def supported(self) -> bool:
        """Say whether this machine's `cryptography` has the algorithm."""
        try:
            self.probe()
        except UnsupportedAlgorithm:
            return False
        return True


def usable(key: Any, verify: Verify) -> Usable:
    """Return a loaded public key of `cryptography` with its fingerprint."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Usable(sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(), verify)


def load_pem(public: str) -> object:
    """Return the public key that a PEM text holds; raises as `Scheme.load`."""
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_public_key(public.encode())
