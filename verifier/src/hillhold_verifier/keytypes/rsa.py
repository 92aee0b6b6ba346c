"""RSASSA-PSS (RFC 8017) with SHA-256, -384 or -512, MGF1 of the same hash, any length of salt; the public value is PEM."""

from __future__ import annotations

from typing import Final

from hillhold_verifier.keytypes.scheme import Scheme, Usable, load_pem, usable

MIN_BITS: Final = 2048
"""Smaller keys can be factored, or soon."""
MAX_BITS: Final = 8192
"""The time of a check grows with the square of this."""
MAX_EXPONENT_BITS: Final = 64
"""The time of a check grows with this, too; everybody's exponent is 65537."""


def _scheme(digest: str) -> Scheme:
    def load(public: str) -> Usable:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

        key = load_pem(public)
        if not isinstance(key, RSAPublicKey) or not MIN_BITS <= key.key_size <= MAX_BITS:
            raise ValueError(f"not an RSA key of {MIN_BITS} to {MAX_BITS} bits")
        if key.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
            raise ValueError(f"an exponent of more than {MAX_EXPONENT_BITS} bits")
        algorithm = getattr(hashes, digest)()
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
        return usable(key, lambda signature, message: key.verify(signature, message, pss, algorithm))

    return Scheme(frozenset({"rsa"}), load, lambda: None)  # no OpenSSL is without it


SCHEMES: Final = {f"rsassa-pss-{digest.lower()}": _scheme(digest) for digest in ("SHA256", "SHA384", "SHA512")}
