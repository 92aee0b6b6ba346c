"""ML-DSA-44, -65 and -87 (FIPS 204), as TAP 21 uses them: over `tuf`, a version byte 1 and the SHA-512 of the payload; PEM.

`cryptography` has them since release 48; before that, such keys are of an unknown type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha512
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hillhold_verifier.keytypes.scheme import Scheme, Usable, usable


def _schemes() -> Mapping[str, Scheme]:
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return {}
    kinds = {"44": mldsa.MLDSA44PublicKey, "65": mldsa.MLDSA65PublicKey, "87": mldsa.MLDSA87PublicKey}
    return {f"ml-dsa-{size}/1": Scheme(frozenset({"ml-dsa"}), _loader(kind)) for size, kind in kinds.items()}


def _loader(kind: Any) -> Callable[[str], Usable]:
    def load(public: str) -> Usable:
        key = load_pem_public_key(public.encode())
        if not isinstance(key, kind):
            raise ValueError(f"not a {kind.__name__}")
        return usable(key, lambda signature, message: key.verify(signature, b"tuf\x01" + sha512(message).digest()))

    return load


SCHEMES: Final = _schemes()
