"""ECDSA over NIST P-256 with SHA-256 and P-384 with SHA-384 (FIPS 186-5); the public value is PEM.

`ecdsa-sha2-…` as a key type is the older name of what is `ecdsa` now; both are in use.
"""

from __future__ import annotations

from typing import Final

from hillhold_verifier.keytypes.scheme import Scheme, Usable, load_pem, usable


def _scheme(name: str, curve: str, digest: str) -> Scheme:
    def load(public: str) -> Usable:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = load_pem(public)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, getattr(ec, curve)):
            raise ValueError(f"not a key on {curve}")
        algorithm = ec.ECDSA(getattr(hashes, digest)())
        return usable(key, lambda signature, message: key.verify(signature, message, algorithm))

    def probe() -> object:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.derive_private_key(1, getattr(ec, curve)())

    return Scheme(frozenset({"ecdsa", name}), load, probe)


SCHEMES: Final = {
    name: _scheme(name, curve, digest)
    for name, curve, digest in (
        ("ecdsa-sha2-nistp256", "SECP256R1", "SHA256"),
        ("ecdsa-sha2-nistp384", "SECP384R1", "SHA384"),
    )
}
