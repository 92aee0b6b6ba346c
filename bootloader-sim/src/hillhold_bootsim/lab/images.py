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
_SAMPLES_ED25519: Final = {
    "root-ed25519.pem": "28c970c9a1a8a8bc77786862d2e76d0d430a2b57c87cfc37904bcbaac874cbd8",
    "root-ed25519-2.pem": "2655938e2d57b282dde27e4289216b46942cd515a83a7d891d1c2a3a6a70ee03",
    "root-ed25519-unknown.pem": "61e2417380d44c8a74ece8bd6f4cd9de6d3ff7c30b48b507257cd1624632ba8d",
}
_SAMPLE_P256: Final = 0xD798D52F8301243BD3542B7E55ED4C74611900B0F9505A824FE1E8EC063BCFF1
_SAMPLE_RSA2048: Final = (
    0xFF7D8F5BE67045C74A5CC8FE4159315D477AC645F2EE64D73C4690B8E2D665082B4AA0051F5978E7FE9DD3DF4A009AE3 << 640
    | 0x33A911F29297B73EF6208C8C1D33E6DF7DA08729A32AF6849765CFF6C17E7FA16661445AAF8CBAF198777A2BCFF3AF90 << 256
    | 0xFD8CCE18AC2D452CE204CCEB01FA085E0B701FCA7020F60B3F7CC1578E38F59B,
    0xD170BF82EDAE6F933A1170678EAF4AD9DE0B953C803EC21B01C312C2484E507E182454B6DAA5CB610500F7333E0D4C8B << 640
    | 0x0AB97F3CA3761B41D056031BE0321B787BFC917079A069B9CDF6D6A2B5AA3A899707702C23B5FC60332D7FF3EC655D9A << 256
    | 0x9817A2A95B2498F250576D6A17278E707953F9D1EE45BD0ED2E9F774AF111E6B,
)
_SAMPLE_RSA3072: Final = (
    int(
        "e5bf240823a33c7ad9d931818534a0f1a5c45a86b178ce710d5b7203b26e35d38e28cbeaaff1f47b34523ef3cc5c6e6f"
        "f3cd0fa8cf814601c4cd7d46b5240208fe1d68271ed0780172b651aae357319c67d51927a69a910e819ab35959de1676"
        "7cb3ff35b2adf9fcece943ea4a81337c498823c9241b7f9a491021d5de8697ea0fc365c114e899e0616c86e20028bc1a"
        "61fc45da3e7dec687528eeeef9c83e879cbc5cc5ae02fff66cf4d3879910f15b5005aba73daaa1e30308b0a16cffd4f1",
        16,
    ),
    int(
        "c8c2b1d568dc756ec05384e6328598eddc1c8229e10731277bbcf98609da6ec9c56ae751a408b1fc8053d06d3f943101"
        "5e36be8fc579e89cbbc4254b9898b4e389e37f30a7d1b6ed387384dc1ced18fede59138337edaefd5f7193abfbcb847b"
        "34e2f313bfb5fd2ba9698596e6e428f59d6f09a994eccb885eae9bf414b71c3f2f4bd22978340824a43d1b434844df67"
        "68bc327cb934117043a84d159575aeb038bc07d5b9650d25f5d6365cb0b1f06c7b16873c500f3912f8afb5fa42ddb5eb",
        16,
    ),
)


@cache
def image_key(name: str) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 image key that follows from a name; secret only as far as the name is."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(sha256(f"hillhold lab image key: {name}".encode()).digest())


@cache
def sample_keys() -> dict[str, Private]:
    """Return the sample keys that MCUboot publishes, by the names of their files: all but P-384, which signs images over SHA-384."""
    found: dict[str, Private] = {
        name: ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))
        for name, private in _SAMPLES_ED25519.items()
    }
    found["root-ec-p256.pem"] = ec.derive_private_key(_SAMPLE_P256, ec.SECP256R1())
    return found | {"root-rsa-2048.pem": _rsa(*_SAMPLE_RSA2048), "root-rsa-3072.pem": _rsa(*_SAMPLE_RSA3072)}


def _rsa(p: int, q: int) -> rsa.RSAPrivateKey:
    """Return the key that two primes make."""
    d = rsa.rsa_recover_private_exponent(65537, p, q)
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()


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
