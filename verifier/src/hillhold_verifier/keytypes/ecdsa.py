"""ECDSA over NIST P-256 with SHA-256 and P-384 with SHA-384 (FIPS 186-5); the public value is PEM.

`ecdsa-sha2-…` as a key type is the older name of what is `ecdsa` now; both are in use.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hillhold_verifier.keytypes.scheme import Scheme, Usable, supported, usable


def _scheme(name: str, curve: type[ec.EllipticCurve], digest: hashes.HashAlgorithm) -> Scheme:
    def load(public: str) -> Usable:
        key = load_pem_public_key(public.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
            raise ValueError(f"not a key on {curve.name}")
        return usable(key, lambda signature, message: key.verify(signature, message, ec.ECDSA(digest)))

    return Scheme(frozenset({"ecdsa", name}), load)


SCHEMES: Final = {
    name: _scheme(name, curve, digest)
    for name, curve, digest in (
        ("ecdsa-sha2-nistp256", ec.SECP256R1, hashes.SHA256()),
        ("ecdsa-sha2-nistp384", ec.SECP384R1, hashes.SHA384()),
    )
    if supported(partial(ec.derive_private_key, 1, curve()))
}
