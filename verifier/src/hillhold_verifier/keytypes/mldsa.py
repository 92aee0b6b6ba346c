"""ML-DSA-44, -65 and -87 (FIPS 204), as TAP 21 uses them: over `tuf`, a version byte 1 and the SHA-512 of the payload; PEM.

`cryptography` has them since release 48, over an OpenSSL that has them; elsewhere such keys cannot be used.
"""

from __future__ import annotations

from hashlib import sha512
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm

from hillhold_verifier.keytypes.scheme import Scheme, Usable, load_pem, usable


def _scheme(name: str, length: int) -> Scheme:
    def kind() -> Any:
        try:
            from cryptography.hazmat.primitives.asymmetric import mldsa
        except ImportError:
            raise UnsupportedAlgorithm(f"{name}: not in this release of cryptography") from None
        return getattr(mldsa, name)

    def load(public: str) -> Usable:
        expected = kind()
        key: Any = load_pem(public)
        if not isinstance(key, expected):
            raise ValueError(f"not a {name}")
        return usable(key, lambda signature, message: key.verify(signature, b"tuf\x01" + sha512(message).digest()))

    return Scheme(frozenset({"ml-dsa"}), load, lambda: kind().from_public_bytes(bytes(length)))


SCHEMES: Final = {
    f"ml-dsa-{size}/1": _scheme(f"MLDSA{size}PublicKey", length)
    for size, length in ((44, 1312), (65, 1952), (87, 2592))
}
