"""Make `images/` anew, with new RSA keys whose private parts are thrown away: `python tests/vectors/make_images.py`.

`images.json` says of each image under which key it is verified, and what comes of it; of each key, whether a bootloader may hold it.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from imgtool import keys as imgtool_keys

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from hillhold_verifier.mcuboot import parse_image  # noqa: E402
from imagekit import NAMES, area, private, public, sign, signed_with, tlv  # noqa: E402

MALFORMED, SIGNATURE = 4, 33
"""Codes of refusals."""


def signed_otherwise(scheme: padding.AsymmetricPadding, hash_: hashes.HashAlgorithm | None = None) -> bytes:
    """By the RSA-2048 key, but not as MCUboot wants it."""
    data = sign("rsa-2048", security_counter=1)
    covered = data[: parse_image(data).signed_length]
    return signed_with(data, 0x20, private("rsa-2048").key.sign(covered, scheme, hash_ or hashes.SHA256()))


def plus_modulus() -> bytes:
    """The same signature modulo n."""
    while True:
        data = sign("rsa-2048", security_counter=1)
        signature = int.from_bytes(parse_image(data).tlvs[-1].value, "big")
        more = signature + private("rsa-2048").key.public_key().public_numbers().n
        if more < 1 << 2048:
            return signed_with(data, 0x20, more.to_bytes(256, "big"))


def without_leading_zero() -> bytes:
    """The same number in a byte less, as some libraries take it."""
    while (signature := parse_image(data := sign("rsa-2048", security_counter=1)).tlvs[-1].value)[0]:
        pass
    return signed_with(data, 0x20, signature[1:])


def padded() -> bytes:
    """An ECDSA signature whose DER form is short enough to be padded."""
    while (data := sign("ecdsa", pad=True))[-1]:
        pass
    return data


def with_protected(entries: bytes, key: str = "rsa-2048") -> bytes:
    """An image whose protected area holds these entries, signed as it should be."""
    data = bytearray(sign(key))
    end = parse_image(bytes(data)).signed_length
    protected = area(entries, 0x6908)
    data[10:12] = struct.pack("<H", len(protected))
    covered = bytes(data[:end]) + protected
    digest = hashes.Hash(hashes.SHA256())
    digest.update(covered)
    entries = tlv(0x10, digest.finalize()) + tlv(0x01, public(key).key_hash) + tlv(0x20, private(key).sign(covered))
    return covered + area(entries)


def dependency(image: int, *version: int, unused: bytes = bytes(3)) -> bytes:
    return tlv(0x40, struct.pack("<B3sBBHI", image, unused, *version))


def good() -> dict[str, tuple[str, bytes]]:
    """Images that verify, with the names of their keys."""
    found = {name: (name, sign(name, header_size=64, security_counter=7)) for name in NAMES}
    two = dependency(1, 1, 2, 3, 4) + dependency(0, 255, 0, 65535, 0)
    return {
        **found,
        "ecdsa-padded": ("ecdsa", padded()),
        "dependencies": ("rsa-2048", with_protected(two + tlv(0x50, struct.pack("<I", 7)))),
    }


def bad() -> dict[str, tuple[str, bytes, int]]:
    """Images that are refused, with the names of their keys and the codes of the refusals."""
    pss = [(salt, padding.PSS(padding.MGF1(hashes.SHA256()), salt)) for salt in (0, 31, 222)]
    plain, small, large = sign("rsa-2048", security_counter=1), public("rsa-2048"), public("rsa-3072")
    signature, changed = parse_image(plain).tlvs[-1].value, bytearray(plain)
    changed[40] ^= 1
    one, encrypted = dependency(1, 1, 0, 0, 0), {"enckey": imgtool_keys.X25519.generate()}
    unprotected = area(b"".join(tlv(item.type, item.value) for item in parse_image(sign("rsa-2048")).tlvs) + one)
    return {
        **{f"rsa-salt-{salt}": ("rsa-2048", signed_otherwise(scheme), SIGNATURE) for salt, scheme in pss},
        "rsa-pkcs1-v1.5": ("rsa-2048", signed_otherwise(padding.PKCS1v15()), SIGNATURE),
        "rsa-sha-512": ("rsa-2048", signed_otherwise(pss[1][1], hashes.SHA512()), SIGNATURE),
        "rsa-plus-modulus": ("rsa-2048", plus_modulus(), SIGNATURE),
        "rsa-named-by-fingerprint": ("rsa-2048", signed_with(plain, 0x20, signature, small.fingerprint), SIGNATURE),
        "rsa-names-the-larger-key": ("rsa-3072", signed_with(plain, 0x20, signature, large.key_hash), SIGNATURE),
        "rsa-in-the-tlv-of-the-larger": ("rsa-2048", signed_with(plain, 0x23, signature), MALFORMED),
        "rsa-without-its-leading-zero": ("rsa-2048", without_leading_zero(), MALFORMED),
        "changed-byte": ("rsa-2048", bytes(changed), SIGNATURE),
        "unsigned": ("rsa-2048", sign(None), SIGNATURE),
        "dependency-twice": ("rsa-2048", with_protected(one + one), MALFORMED),
        "dependency-with-a-slot": ("rsa-2048", with_protected(dependency(1, 1, 0, 0, 0, unused=b"\1\0\0")), MALFORMED),
        "dependency-short": ("rsa-2048", with_protected(tlv(0x40, bytes(8))), MALFORMED),
        "dependency-unprotected": ("rsa-2048", sign("rsa-2048")[:72] + unprotected, MALFORMED),
        "encrypted": ("ed25519", sign("ed25519", create=encrypted), MALFORMED),
        "encrypted-later": ("ed25519", sign("ed25519", create=encrypted | {"clear": True}), MALFORMED),
        "encryption-key-alone": ("rsa-2048", with_protected(tlv(0x31, bytes(24))), MALFORMED),
    }


def main() -> None:
    """Write them."""
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    keys: list[dict[str, Any]] = []
    modulus = private("rsa-2048").key.public_key().public_numbers().n
    refused: dict[str, PublicKeyTypes] = {
        "rsa-4096": rsa.generate_private_key(65537, 4096).public_key(),
        "rsa-2048-exponent-3": rsa.RSAPublicNumbers(3, modulus).public_key(),
        "rsa-1024": rsa.RSAPublicNumbers(65537, modulus >> 1024 | 1 | 1 << 1023).public_key(),
        "ecdsa-p384": ec.generate_private_key(ec.SECP384R1()).public_key(),
    }
    for name in NAMES:
        (folder / f"{name}.pub").write_bytes(private(name).get_public_pem())
        keys.append({"file": f"{name}.pub", "key_hash": public(name).key_hash.hex()})
    for name, key in refused.items():
        (folder / f"{name}.pub").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        keys.append({"file": f"{name}.pub", "refusal": SIGNATURE})
    images: list[dict[str, Any]] = []
    for name, (holder, data) in good().items():
        (folder / f"{name}.bin").write_bytes(data)
        image = parse_image(data)
        says = {
            "image_hash": image.sha256.hex(),
            "version": str(image.version),
            "security_counter": image.security_counter,
            "dependencies": [[item.image, str(item.least)] for item in image.dependencies],
        }
        images.append({"file": f"{name}.bin", "key": f"{holder}.pub", **says})
    for name, (holder, data, code) in bad().items():
        (folder / f"{name}.bin").write_bytes(data)
        images.append({"file": f"{name}.bin", "key": f"{holder}.pub", "refusal": code})
    (folder / "images.json").write_text(json.dumps({"keys": keys, "images": images}, indent=1) + "\n")


if __name__ == "__main__":
    main()
