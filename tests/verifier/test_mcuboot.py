"""Images as real imgtool writes them: what is read, what verifies, and that every flipped bit is refused."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise
from typing import Any

import pytest
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

from hillhold_verifier.errors import ImageError, ImageSignatureError
from hillhold_verifier.mcuboot import MAX_TLVS, Dependency, ImageVersion, parse_image, read_image, verify_image
from imagekit import NAMES, PAYLOAD, area, check, handmade, public, reader, sign, tlv

HASH, KEYHASH, ED25519 = tlv(0x10, bytes(32)), tlv(0x01, bytes(32)), tlv(0x24, bytes(64))
COUNTER = area(tlv(0x50, b"\x07\0\0\0"), 0x6908)


@pytest.mark.parametrize("key", NAMES)
def test_reads_and_verifies_what_imgtool_writes(key: str) -> None:
    data = sign(key, header_size=0x200, security_counter=9, rom_fixed=0x8000)

    image = check(data, "other", key)

    assert image.version == ImageVersion(1, 2, 3, 4)
    assert str(image.version) == "1.2.3+4"
    assert (image.header_size, image.payload_size) == (0x200, len(PAYLOAD))
    assert (image.load_address, image.flags) == (0x8000, 0x100)
    assert image.security_counter == 9
    assert image.length == len(data)
    assert image.sha256 == hashlib.sha256(data[: image.signed_length]).digest()
    assert verify_image(image, reader(data), [public("other"), public(key)]) == public(key)


def test_reads_every_protected_tlv() -> None:
    data = sign(create={"custom_tlvs": {0xA0: b"vendor"}, "sw_type": "app"}, security_counter=2**32 - 1)

    image = check(data, "ed25519")

    assert [t.type for t in image.tlvs if t.protected] == [0x50, 0x60, 0xA0]
    assert [t.type for t in image.tlvs if not t.protected] == [0x10, 0x01, 0x24]
    assert image.security_counter == 2**32 - 1


def test_an_image_without_protected_tlvs_has_no_counter() -> None:
    image = check(sign(), "ed25519")

    assert image.security_counter is None
    assert image.signed_length == 32 + len(PAYLOAD)


def test_padded_ecdsa_signatures_verify_and_only_zeros_are_padding() -> None:
    data = sign("ecdsa", pad=True)
    check(data, "ecdsa")
    while data[-1]:  # imgtool pads to 72 bytes; a DER form that is that long leaves no padding
        data = sign("ecdsa", pad=True)

    with pytest.raises(ImageSignatureError):
        check(data[:-1] + b"\x01", "ecdsa")


def test_a_slot_holds_bytes_after_the_image_but_a_file_does_not() -> None:
    data = sign()
    slot = data + b"\xff" * 100

    assert read_image(reader(slot), len(slot)) == parse_image(data)
    with pytest.raises(ImageError, match="file length"):
        parse_image(slot)


def test_never_reads_beyond_the_limit() -> None:
    data = sign(security_counter=1)
    ends: list[int] = []

    def read(offset: int, length: int) -> bytes:
        ends.append(offset + length)
        return data[offset : offset + length]

    for limit in range(len(data)):
        with pytest.raises(ImageError):
            read_image(read, limit)
        assert max(ends, default=0) <= limit
    assert read_image(read, len(data)).length == len(data)


def test_refuses_another_key_and_no_keys() -> None:
    data = sign()

    for names in ((), ("other",), ("other", "ecdsa")):
        known = ", ".join(public(name).key_hash.hex()[:16] for name in names) or "none"
        with pytest.raises(ImageSignatureError) as refused:
            check(data, *names)
        got = public("ed25519").key_hash.hex()[:16]
        assert str(refused.value) == f"image key: expected a key hash, one of: {known}, got {got}"


def test_refuses_an_unsigned_image() -> None:
    with pytest.raises(ImageSignatureError, match="key hash"):
        check(sign(None), "ed25519")


def test_refuses_a_signature_by_another_key_under_a_known_key_hash() -> None:
    data = sign("other").replace(public("other").key_hash, public("ed25519").key_hash)

    with pytest.raises(ImageSignatureError, match="image signature"):
        check(data, "ed25519")


def test_the_key_decides_the_kind_of_signature() -> None:
    data = sign("ecdsa").replace(public("ecdsa").key_hash, public("ed25519").key_hash)

    with pytest.raises(ImageSignatureError, match="0x24"):
        check(data, "ed25519")


@pytest.mark.parametrize("key", NAMES)
def test_every_flipped_bit_and_changed_byte_is_refused(key: str) -> None:
    """Nothing is left over: header, payload and protected TLVs are hashed; the TLV area is tiled by hash, key hash and signature.

    So no byte may be changed, inside the signed area or outside. (An ECDSA signature has a second valid form, n - s; that changes
    many bytes at once, and no single one.)
    """
    data = sign(key, security_counter=3)
    check(data, key)

    for at in range(len(data)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            changed = bytearray(data)
            changed[at] ^= mask
            with pytest.raises((ImageError, ImageSignatureError)):
                check(bytes(changed), key)


def test_every_cut_is_refused() -> None:
    data = sign(security_counter=3)

    for length in range(len(data)):
        with pytest.raises(ImageError):
            parse_image(data[:length])


def test_verify_refuses_a_slot_that_changed_after_it_was_read() -> None:
    old, new = sign(), sign(security_counter=1)
    image = parse_image(old)

    for now in (new, b"\xff" * 400, old[:-1] + bytes([old[-1] ^ 1])):
        with pytest.raises(ImageSignatureError, match="as it was read before"):
            verify_image(image, reader(now), [public("ed25519")])


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (0x4, "encrypted (AES-128)"),
        (0x8, "encrypted (AES-256)"),
        *((flag, "compressed") for flag in (0x200, 0x400, 0x800)),
    ],
)
def test_refuses_encrypted_and_compressed_images_by_name(flags: int, name: str) -> None:
    assert parse_image(handmade(area(HASH), flags=0xFFFFF1F3)).flags == 0xFFFFF1F3
    with pytest.raises(ImageError) as refused:
        parse_image(handmade(area(HASH), flags=0x110 | flags))
    assert str(refused.value) == f"image flags: expected a plain image, got {name}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (0x02, "embedded public key"),
        (0x11, "SHA-384"),
        (0x12, "SHA-512"),
        (0x21, "ECDSA P-224 signature"),
        (0x25, "pure signature"),
        (0x30, "encryption key (RSA-OAEP)"),
        (0x31, "encryption key (AES-KW)"),
        (0x32, "encryption key (ECIES P-256)"),
        (0x33, "encryption key (ECIES X25519)"),
        (0x34, "encryption key (ECIES X25519, SHA-512)"),
    ],
)
@pytest.mark.parametrize("protected", [False, True])
def test_what_is_not_supported_is_refused_by_name_in_either_area(kind: int, name: str, protected: bool) -> None:
    entry = tlv(kind, bytes(64))
    data = handmade(area(HASH), area(entry, 0x6908)) if protected else handmade(area(HASH + entry))
    with pytest.raises(ImageError) as refused:
        parse_image(data)
    assert str(refused.value) == f"TLV {kind:#06x}: expected a plain image signed over SHA-256, got {name}"


def test_limits_are_reached_exactly() -> None:
    full, over = (area(tlv(0xA0, bytes(16384 - 8 + more)), 0x6908) for more in (0, 1))
    assert parse_image(handmade(area(HASH), full)).tlvs[0].type == 0xA0
    with pytest.raises(ImageError, match="size of the protected TLV area: expected 4 to 16384, got 16385"):
        parse_image(handmade(area(HASH), over))
    assert len(parse_image(handmade(area(HASH), area(tlv(0xA0, b"") * 63, 0x6908))).tlvs) == 64
    with pytest.raises(ImageError, match="number of TLVs: expected at most 64, got more"):
        parse_image(handmade(area(HASH), area(tlv(0xA0, b"") * 64, 0x6908)))


@pytest.mark.parametrize("length", [4096 - 32, 4097 - 32, 3 * 4096 + 7])
def test_an_image_is_hashed_piece_by_piece_to_its_end(length: int) -> None:
    data = sign(payload=bytes(range(256)) * (length // 256) + bytes(length % 256))
    image = check(data, "ed25519")
    for at in (32, 4095, 4096, 8192, image.signed_length - 1):
        if at < image.signed_length:
            changed = bytearray(data)
            changed[at] ^= 1
            with pytest.raises(ImageSignatureError, match="image hash"):
                check(bytes(changed), "ed25519")


def test_refuses_other_hashes_and_pure_signatures_of_imgtool() -> None:
    with pytest.raises(ImageError, match="SHA-512"):
        parse_image(sign(create={"user_sha": "512"}))
    with pytest.raises(ImageError, match=r"SHA-512|pure"):
        parse_image(sign(create={"is_pure": True}))


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("magic", b"\0" + handmade(area(HASH))[1:]),
        ("header size", handmade(area(HASH))[:8] + b"\x1f\0" + handmade(area(HASH))[10:]),
        ("^header: expected within 31 bytes", handmade(area(HASH))[:31]),
        ("^TLV area: expected within 43 bytes, got an end at 44", handmade(area(HASH))[:43]),
        ("magic of the TLV area", handmade(area(HASH, 0x6908))),
        ("magic of the protected TLV area", handmade(area(HASH), area(b"", 0x6907))),
        ("protected TLV size", handmade(area(HASH), COUNTER, header_says=len(COUNTER) + 1)),
        ("protected TLV size", handmade(area(HASH), COUNTER, header_says=4)),
        ("magic of the TLV area", handmade(area(HASH), COUNTER, header_says=0)),
        ("size of the TLV area", handmade(struct.pack("<HH", 0x6907, 3) + HASH)),
        ("size of the TLV area", handmade(struct.pack("<HH", 0x6907, 0xFFFF) + bytes(0xFFFF))),
        ("whole TLVs", handmade(area(HASH + b"\0\0\0"))),
        ("length of TLV 0x0001", handmade(area(HASH + struct.pack("<HH", 1, 33) + bytes(32)))),
        ("number of TLVs", handmade(area(HASH), area(tlv(0xA0, b"") * (MAX_TLVS + 1), 0x6908))),
        ("number of TLVs", handmade(area(HASH), area(tlv(0xA0, b"") * MAX_TLVS, 0x6908))),
        ("image hash", handmade(area(b""))),
        ("length of TLV 0x0010", handmade(area(tlv(0x10, bytes(31))))),
        ("TLV 0x0010: expected one", handmade(area(HASH + HASH))),
        ("TLV 0x0001: expected one", handmade(area(HASH + KEYHASH + KEYHASH))),
        ("signature: expected one", handmade(area(HASH + KEYHASH + ED25519 + ED25519))),
        ("signature: expected one", handmade(area(HASH + KEYHASH + ED25519 + tlv(0x22, b"")))),
        ("key hash: expected before", handmade(area(HASH + ED25519 + KEYHASH))),
        ("length of TLV 0x0024", handmade(area(HASH + KEYHASH + tlv(0x24, bytes(65))))),
        ("length of TLV 0x0022", handmade(area(HASH + KEYHASH + tlv(0x22, bytes(73))))),
        ("TLV 0x0050: expected in the protected area", handmade(area(HASH + tlv(0x50, bytes(4))))),
        ("TLV 0x0050: expected one", handmade(area(HASH), area(tlv(0x50, bytes(4)) * 2, 0x6908))),
        ("length of TLV 0x0050", handmade(area(HASH), area(tlv(0x50, bytes(8)), 0x6908))),
        ("TLV 0x0040: expected in the protected area", handmade(area(HASH + tlv(0x40, bytes(12))))),
        ("TLV 0x0010: expected in the unprotected area", handmade(area(HASH), area(HASH, 0x6908))),
        ("length of TLV 0x0020", handmade(area(HASH + KEYHASH + tlv(0x20, bytes(255))))),
        ("length of TLV 0x0020", handmade(area(HASH + KEYHASH + tlv(0x20, bytes(384))))),
        ("length of TLV 0x0023", handmade(area(HASH + KEYHASH + tlv(0x23, bytes(256))))),
        ("length of TLV 0x0023", handmade(area(HASH + KEYHASH + tlv(0x23, bytes(385))))),
        ("TLV 0x0020: expected in the unprotected area", handmade(area(HASH), area(tlv(0x20, bytes(256)), 0x6908))),
        ("signature: expected one", handmade(area(HASH + KEYHASH + ED25519 + tlv(0x23, bytes(384))))),
        ("signature: expected one", handmade(area(HASH + KEYHASH + tlv(0x20, bytes(256)) + tlv(0x23, bytes(384))))),
    ],
)
def test_refuses_malformed_images(what: str, data: bytes) -> None:
    with pytest.raises(ImageError, match=what):
        parse_image(data)


def test_a_read_that_comes_short_is_refused() -> None:
    data = handmade(area(HASH))

    with pytest.raises(ImageError, match="TLV area: expected 40 bytes, got 39"):
        read_image(reader(data[:-1]), len(data))


def test_versions_are_ordered_by_all_four_numbers() -> None:
    ordered = [ImageVersion(0, 9, 9, 9), ImageVersion(1, 0, 0), ImageVersion(1, 0, 0, 1), ImageVersion(1, 0, 1)]

    assert all(a < b for a, b in pairwise(ordered))
    assert [str(v) for v in ordered] == ["0.9.9+9", "1.0.0", "1.0.0+1", "1.0.1"]


# --- encryption, refused by name --------------------------------------------------------------------------------------


ENCRYPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    (signer, kind, {"encrypt_keylen": bits, "clear": clear, **({"hmac_sha": "512"} if kind == "X25519-512" else {})})
    for signer, kind in (("rsa-2048", "RSA"), ("ecdsa", "ECDSA256P1"), ("ed25519", "X25519"), ("ed25519", "X25519-512"))
    for bits in (128, 256)
    for clear in (False, True)
]


@pytest.mark.parametrize(("signer", "kind", "options"), ENCRYPTIONS)
def test_what_imgtool_encrypts_is_refused_by_name_and_so_is_an_image_that_it_leaves_in_the_clear_for_now(
    signer: str, kind: str, options: dict[str, Any]
) -> None:
    enckey = getattr(imgtool_keys, kind.removesuffix("-512")).generate()
    data = bytearray(sign(signer, create={"enckey": enckey, **options}))
    with pytest.raises(ImageError, match=rf"image flags: .*encrypted \(AES-{options['encrypt_keylen']}\)"):
        parse_image(bytes(data))
    data[16] = 0  # without the flag, the key in the TLV area still says so
    with pytest.raises(ImageError, match="got encryption key"):
        parse_image(bytes(data))


# --- dependencies -----------------------------------------------------------------------------------------------------


def dependency(image: int, *version: int, padding: bytes = bytes(3)) -> bytes:
    """A TLV as `struct image_dependency` has it."""
    return tlv(0x40, struct.pack("<B3sBBHI", image, padding, *version))


@pytest.mark.parametrize("key", NAMES)
def test_reads_the_dependencies_that_imgtool_writes(key: str) -> None:
    wanted = {"images": ["3", "0"], "versions": [decode_version("255.254.65535+4294967295"), decode_version("1.0.2")]}
    image = check(sign(key, create={"dependencies": wanted}, security_counter=1), key)
    assert image.dependencies == (
        Dependency(3, ImageVersion(255, 254, 65535, 2**32 - 1)),
        Dependency(0, ImageVersion(1, 0, 2)),
    )
    assert dict(image.dependencies)[0] == ImageVersion(1, 0, 2)
    assert check(sign(key), key).dependencies == ()


@pytest.mark.parametrize(
    ("says", "entries"),
    [
        ("length of TLV 0x0040: expected 12, got 11", tlv(0x40, bytes(11))),
        ("length of TLV 0x0040: expected 12, got 13", tlv(0x40, bytes(13))),
        ("length of TLV 0x0040: expected 12, got 0", tlv(0x40, b"")),
        ("dependency on image 1: expected one", dependency(1, 1, 0, 0, 0) * 2),
        ("dependency on image 1: expected one", dependency(1, 1, 0, 0, 0) + dependency(1, 2, 0, 0, 0)),
        *(
            ("padding of the dependency on image 2: expected zeros, got ", dependency(2, 1, 0, 0, 0, padding=padding))
            for padding in (b"\1\0\0", b"\0\1\0", b"\0\0\x80")
        ),
    ],
)
def test_refuses_malformed_dependencies(says: str, entries: bytes) -> None:
    with pytest.raises(ImageError, match=says):
        parse_image(handmade(area(HASH), area(entries, 0x6908)))


def test_a_dependency_that_the_hash_does_not_cover_is_refused() -> None:
    entry = dependency(1, 1, 0, 0, 0)
    assert parse_image(handmade(area(HASH), area(entry, 0x6908))).dependencies
    with pytest.raises(ImageError, match="TLV 0x0040: expected in the protected area"):
        parse_image(handmade(area(HASH + entry)))


def test_as_many_dependencies_as_there_is_room_for_are_read() -> None:
    entries = b"".join(dependency(number, 1, 0, 0, number) for number in range(MAX_TLVS - 1))
    found = parse_image(handmade(area(HASH), area(entries, 0x6908))).dependencies
    assert [item.image for item in found] == list(range(MAX_TLVS - 1))
