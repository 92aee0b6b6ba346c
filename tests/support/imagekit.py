"""MCUboot images as the real imgtool writes them, and images put together by hand."""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

from hillhold_verifier.mcuboot import Image, ImageKey, ReadAt, parse_image, verify_image

NAMES = ("ed25519", "ecdsa", "rsa-2048", "rsa-3072")
"""One key of each kind; "other" is a second one of Ed25519."""
PAYLOAD = b"firmware" * 5


@cache
def private(name: str) -> Any:
    """imgtool's key of that name; the same one throughout a run."""
    match name:
        case "ed25519":
            return imgtool_keys.Ed25519(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
        case "other":
            return imgtool_keys.Ed25519(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))
        case "ecdsa":
            return imgtool_keys.ECDSA256P1(ec.derive_private_key(0x1234567, ec.SECP256R1()))
    return imgtool_keys.RSA.generate(int(name.removeprefix("rsa-")[:4]))


def public(name: str) -> ImageKey:
    return ImageKey.from_pem(private(name).get_public_pem())


def sign(
    key: str | None = "ed25519",
    *,
    payload: bytes = PAYLOAD,
    create: dict[str, Any] | None = None,
    pad: bool = False,
    **image: Any,
) -> bytes:
    """An image by imgtool.

    Args:
        create: arguments of imgtool's `Image.create`.
        pad: imgtool's --pad-sig.
        image: arguments of imgtool's `Image`.
    """
    settings = {"version": decode_version("1.2.3+4"), "header_size": 32, "pad_header": True, "slot_size": 0x8000}
    made = imgtool_image.Image(**(settings | image))
    signer: Any = None if key is None else private(key)
    if key == "ecdsa":
        signer.pad_sig = pad
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.bin", Path(name) / "out.bin"
        source.write_bytes(payload)
        made.load(str(source))
        made.create(signer, "hash", **({"enckey": None} | (create or {})))
        made.save(str(target))
        return target.read_bytes()


def reader(data: bytes) -> ReadAt:
    return lambda offset, length: data[offset : offset + length]


def check(data: bytes, *names: str) -> Image:
    """Parse, and verify under the keys of these names; an image that passes."""
    image = parse_image(data)
    verify_image(image, reader(data), [public(name) for name in names])
    return image


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


def area(entries: bytes, magic: int = 0x6907) -> bytes:
    return struct.pack("<HH", magic, len(entries) + 4) + entries


def handmade(unprotected: bytes, protected: bytes = b"", *, header_says: int | None = None, flags: int = 0) -> bytes:
    """A header, 8 bytes of payload, and the given areas."""
    size = len(protected) if header_says is None else header_says
    header = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, 32, size, 8, flags, 1, 2, 3, 4, 0)
    return header + b"12345678" + protected + unprotected


def signed_with(data: bytes, kind: int, signature: bytes, key_hash: bytes | None = None) -> bytes:
    """The image with another signature, of TLV `kind`, and perhaps another key hash."""
    image = parse_image(data)
    named = key_hash or next(tlv.value for tlv in image.tlvs if tlv.type == 0x01)
    entries = tlv(0x10, image.sha256) + tlv(0x01, named) + tlv(kind, signature)
    return data[: image.signed_length] + area(entries)
