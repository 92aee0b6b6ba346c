"""MCUboot images, right or wrong, put together by hand: an attacker does not ask imgtool.

    header (32 bytes) · payload · protected TLVs (the security counter) · TLVs (hash, key hash, signature)

A right one is byte for byte what `imgtool sign` writes for the same payload, which a test holds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from hashlib import sha256, shake_256
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hillhold_verifier.errors import MisuseError
from hillhold_verifier.mcuboot import (
    HEADER_SIZE,
    MAGIC,
    TLV_KEYHASH,
    TLV_SECURITY_COUNTER,
    TLV_SHA256,
    ImageKey,
    ImageVersion,
)

Private: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_TLV: Final = struct.Struct("<HH")
_AREA, _PROTECTED = 0x6907, 0x6908
_DIGEST: Final = utils.Prehashed(hashes.SHA256())

# The private halves of sample keys in the root folder of https://github.com/mcu-tools/mcuboot: everybody has them.
_SAMPLE_ED25519: Final = "28c970c9a1a8a8bc77786862d2e76d0d430a2b57c87cfc37904bcbaac874cbd8"
_SAMPLE_P256: Final = 0xD798D52F8301243BD3542B7E55ED4C74611900B0F9505A824FE1E8EC063BCFF1
_SAMPLE_RSA2048: Final = (
    0xFF7D8F5BE67045C74A5CC8FE4159315D477AC645F2EE64D73C4690B8E2D665082B4AA0051F5978E7FE9DD3DF4A009AE3 << 640
    | 0x33A911F29297B73EF6208C8C1D33E6DF7DA08729A32AF6849765CFF6C17E7FA16661445AAF8CBAF198777A2BCFF3AF90 << 256
    | 0xFD8CCE18AC2D452CE204CCEB01FA085E0B701FCA7020F60B3F7CC1578E38F59B,
    0xD170BF82EDAE6F933A1170678EAF4AD9DE0B953C803EC21B01C312C2484E507E182454B6DAA5CB610500F7333E0D4C8B << 640
    | 0x0AB97F3CA3761B41D056031BE0321B787BFC917079A069B9CDF6D6A2B5AA3A899707702C23B5FC60332D7FF3EC655D9A << 256
    | 0x9817A2A95B2498F250576D6A17278E707953F9D1EE45BD0ED2E9F774AF111E6B,
)


@cache
def image_key(name: str) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 image key that follows from a name; secret only as far as the name is."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(sha256(f"hillhold lab image key: {name}".encode()).digest())


@cache
def sample_keys() -> dict[str, Private]:
    """Return sample keys that MCUboot publishes, by the names of their files."""
    p, q = _SAMPLE_RSA2048
    d = rsa.rsa_recover_private_exponent(65537, p, q)
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(65537, p * q)
    )
    return {
        "root-ed25519.pem": ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(_SAMPLE_ED25519)),
        "root-ec-p256.pem": ec.derive_private_key(_SAMPLE_P256, ec.SECP256R1()),
        "root-rsa-2048.pem": numbers.private_key(),
    }


def public_key(private: Private) -> ImageKey:
    """Return what a bootloader holds of a key."""
    return ImageKey.from_pem(public_pem(private))


def public_pem(private: Private) -> bytes:
    """Return the public key in PEM."""
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an image shall be.

    Attributes:
        version: "MAJOR.MINOR.REVISION[+BUILD]".
        counter: its security counter; None for an image without one.
        signed: how many bytes its hash and signature cover; None for all that they should.
        key_hash: the key that it names, where that is not the one that signs.
        trailing: bytes behind its end.
        header: bytes of the header with its filler: what firmware begins behind.
    """

    version: str
    counter: int | None = 1
    signed: int | None = None
    key_hash: bytes | None = None
    trailing: bytes = b""
    header: int = HEADER_SIZE


def make_image(payload: bytes, plan: Plan, key: Private | None) -> bytes:
    """Return an image; without a key, one that nobody signed.

    Raises:
        MisuseError: a version that no image can state.
    """
    version = parse_version(plan.version)
    protected = (
        b"" if plan.counter is None else _area(_PROTECTED, [(TLV_SECURITY_COUNTER, plan.counter.to_bytes(4, "little"))])
    )
    header = _HEADER.pack(
        MAGIC, 0, plan.header, len(protected), len(payload), 0,
        version.major, version.minor, version.revision, version.build, 0,
    )  # fmt: skip
    whole = header.ljust(plan.header, b"\xff") + payload + protected
    digest = sha256(whole[: plan.signed]).digest()
    tlvs = [(TLV_SHA256, digest)]
    if key is not None:
        public = public_key(key)
        tlvs += [(TLV_KEYHASH, plan.key_hash or public.key_hash), (public.signature_tlv, _sign(key, digest))]
    return whole + _area(_AREA, tlvs) + plan.trailing


def covered(image: bytes) -> bytes:
    """Return what an image's hash has to cover."""
    _magic, _load, header, protected, size = struct.unpack_from("<IIHHI", image)
    return image[: header + size + protected]


def unsigned(image: bytes) -> bytes:
    """Return an image with its hash alone: without key hash and signature."""
    signed = covered(image)
    return signed + _area(_AREA, [(TLV_SHA256, sha256(signed).digest())])


def parse_version(text: str) -> ImageVersion:
    """Read a version; raises `MisuseError`."""
    numbers, _, build = text.partition("+")
    try:
        major, minor, revision = map(int, numbers.split("."))
        return ImageVersion(major, minor, revision, int(build or 0))
    except ValueError:
        raise MisuseError(f"version {text!r}: expected MAJOR.MINOR.REVISION[+BUILD]") from None


def payload(seed: str, version: str, length: int, firmware: bytes = b"") -> bytes:
    """Return firmware that differs from version to version in its last bytes, so that a patch between two is small.

    Args:
        firmware: real code that a board can run; it stays whole at the front. Without it, noise.
    """
    body = firmware or shake_256(f"{seed}/firmware".encode()).digest(length)
    return body + sha256(f"{seed}/{version}".encode()).digest()


def _area(magic: int, tlvs: list[tuple[int, bytes]]) -> bytes:
    entries = b"".join(_TLV.pack(kind, len(value)) + value for kind, value in tlvs)
    return _TLV.pack(magic, _TLV.size + len(entries)) + entries


def _sign(key: Private, digest: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(digest)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32), _DIGEST)
    return key.sign(digest, ec.ECDSA(_DIGEST))
