"""ML-DSA-44, -65 and -87 (FIPS 204), as TAP 21 uses them: over `tuf`, a version byte 1 and the SHA-512 of the payload; PEM.

`cryptography` has them since release 48, over an OpenSSL that has them; elsewhere such keys are of an unknown type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha512
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hillhold_verifier.keytypes.scheme import Scheme, Usable, supported, usable


def _schemes() -> Mapping[str, Scheme]:
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return {}
    kinds: tuple[tuple[int, Any, int], ...] = (
        (44, mldsa.MLDSA44PublicKey, 1312),
        (65, mldsa.MLDSA65PublicKey, 1952),
        (87, mldsa.MLDSA87PublicKey, 2592),
    )
    return {
        f"ml-dsa-{size}/1": Scheme(frozenset({"ml-dsa"}), _loader(kind))
        for size, kind, length in kinds
        if supported(partial(kind.from_public_bytes, bytes(length)))
    }


def _loader(kind: Any) -> Callable[[str], Usable]:
    def load(public: str) -> Usable:
        key = load_pem_public_key(public.encode())
        if not isinstance(key, kind):
            raise ValueError(f"not a {kind.__name__}")
        return usable(key, lambda signature, message: key.verify(signature, b"tuf\x01" + sha512(message).digest()))

    return load


SCHEMES: Final = _schemes()
