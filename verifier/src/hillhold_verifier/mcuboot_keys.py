"""The keys of a bootloader: their kinds, how an image names one, and the check of one signature.

    kind          signature   an image names it by SHA-256 of   the signature
    Ed25519       TLV 0x24    SubjectPublicKeyInfo (DER)        64 bytes; the message is the 32 bytes of the image hash
    ECDSA P-256   TLV 0x22    SubjectPublicKeyInfo (DER)        DER, at most 72 bytes
    RSA-2048      TLV 0x20    RSAPublicKey (PKCS#1, DER)        256 bytes, RSASSA-PSS
    RSA-3072      TLV 0x23    RSAPublicKey (PKCS#1, DER)        384 bytes, RSASSA-PSS

The name is over the key as `imgtool getpub` compiles it into the bootloader. PSS is RFC 8017's (8.1.2) with SHA-256, MGF1 over SHA-256 and
exactly 32 bytes of salt, as in MCUboot's `image_rsa.c`. The key, never the image, decides which kind a signature must be, and how long.

Refused by name: P-384 and other curves, RSA of another size, RSA with another exponent than 65537, which is the one that imgtool makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from hillhold_verifier.errors import ImageSignatureError, MisuseError

TLV_RSA2048: Final = 0x20
TLV_ECDSA: Final = 0x22
TLV_RSA3072: Final = 0x23
TLV_ED25519: Final = 0x24
SIGNATURES: Final = {TLV_RSA2048: 256, TLV_ECDSA: 72, TLV_RSA3072: 384, TLV_ED25519: 64}
"""TLVs that hold a signature, and how many bytes: exactly that many, but for ECDSA, where the longest DER form is meant."""
KINDS: Final = "Ed25519, ECDSA P-256, RSA-2048 or RSA-3072"
"""The kinds of key, in words."""
EXPONENT: Final = 65537

_DER: Final = serialization.Encoding.DER
_SPKI, _PKCS1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
_RSA: Final = {2048: TLV_RSA2048, 3072: TLV_RSA3072}
_SHA256: Final = utils.Prehashed(hashes.SHA256())
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
_CURVES: Final = {"secp224r1": "P-224", "secp384r1": "P-384", "secp521r1": "P-521"}

_Public = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class ImageKey:
    """A public key that the bootloader holds: SubjectPublicKeyInfo in DER, of one of the kinds above."""

    der: bytes

    @classmethod
    def from_pem(cls, pem: bytes) -> ImageKey:
        """Read a public key in PEM.

        Raises:
            ImageSignatureError: not a public key, not of a supported kind, or one that this `cryptography` lacks.
        """
        try:
            public = serialization.load_pem_public_key(pem)
        except UnsupportedAlgorithm as error:
            raise ImageSignatureError("image key", expected="an algorithm available here", got=str(error)) from error
        except ValueError as error:
            raise ImageSignatureError("image key", expected="a public key in PEM", got="something else") from error
        return cls(_supported(public)[0].public_bytes(_DER, _SPKI))

    @property
    def key_hash(self) -> bytes:
        """The SHA-256 by which an image names its key; raises as `check`."""
        return _load(self.der).key_hash

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of SubjectPublicKeyInfo, by which people name it: that of RSA is not its `key_hash`."""
        return sha256(self.der).digest()

    @property
    def signature_tlv(self) -> int:
        """The only TLV in which a signature of this key counts; raises as `check`."""
        return _load(self.der).tlv

    def check(self, signature: bytes, digest: bytes) -> None:
        """Check a signature.

        Args:
            signature: the value of the TLV `signature_tlv`.
            digest: the image hash, 32 bytes.

        Raises:
            ImageSignatureError: it does not verify, or this `cryptography` lacks the algorithm.
            MisuseError: `der` is not what `from_pem` makes.
        """
        loaded = _load(self.der)
        public = loaded.public
        try:
            if isinstance(public, ed25519.Ed25519PublicKey):
                public.verify(signature, digest)  # imgtool: the message is the digest, not the image
            elif isinstance(public, rsa.RSAPublicKey):
                # RFC 8017, 8.1.2, step 1: OpenSSL also takes a signature without its leading zeros.
                if len(signature) != SIGNATURES[loaded.tlv]:
                    raise InvalidSignature
                public.verify(signature, digest, _PSS, _SHA256)
            else:
                public.verify(_unpadded(signature), digest, ec.ECDSA(_SHA256))
        except InvalidSignature as error:
            got = f"one that does not verify under {self.key_hash.hex()[:16]}"
            raise ImageSignatureError("image signature", expected="a valid one", got=got) from error


@dataclass(frozen=True, slots=True)
class _Loaded:
    public: _Public
    tlv: int
    key_hash: bytes


@lru_cache(maxsize=64)  # a bootloader checks under the same few keys at each boot
def _load(der: bytes) -> _Loaded:
    try:
        public, tlv = _supported(serialization.load_der_public_key(der))
    except UnsupportedAlgorithm as error:
        raise ImageSignatureError("image key", expected="an algorithm available here", got=str(error)) from error
    except ValueError as error:
        raise MisuseError("an ImageKey holds something else than a public key in DER") from error
    if public.public_bytes(_DER, _SPKI) != der:
        raise MisuseError("an ImageKey holds another form of its key than SubjectPublicKeyInfo in DER")
    compiled = public.public_bytes(_DER, _PKCS1) if isinstance(public, rsa.RSAPublicKey) else der
    return _Loaded(public, tlv, sha256(compiled).digest())


def _supported(public: object) -> tuple[_Public, int]:
    """Return a key of a kind above, and the TLV of its signatures; raises `ImageSignatureError`."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public, TLV_ED25519
    if isinstance(public, ec.EllipticCurvePublicKey):
        if isinstance(public.curve, ec.SECP256R1):
            return public, TLV_ECDSA
        got = f"ECDSA {_CURVES.get(public.curve.name, public.curve.name)}"
    elif isinstance(public, rsa.RSAPublicKey):
        exponent = public.public_numbers().e
        if exponent == EXPONENT and public.key_size in _RSA:
            return public, _RSA[public.key_size]
        got = f"RSA-{public.key_size}" + ("" if exponent == EXPONENT else f" with the exponent {hex(exponent)[:20]}")
    else:
        got = type(public).__name__
    raise ImageSignatureError("image key", expected=KINDS, got=got)


def _unpadded(signature: bytes) -> bytes:
    """Take imgtool's zero padding (--pad-sig) off a DER signature; anything else stays, and fails."""
    if len(signature) != SIGNATURES[TLV_ECDSA]:
        return signature
    end = signature[1] + 2  # SEQUENCE, in the short form of its length
    return signature if any(signature[end:]) else signature[:end]
