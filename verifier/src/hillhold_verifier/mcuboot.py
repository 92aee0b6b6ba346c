"""MCUboot images: what imgtool writes, read strictly and verified as the bootloader does.

    offset 0        header: magic u32 · load address u32 · header size u16 · protected TLV size u16 · payload size u32
                    · flags u32 · version (major u8, minor u8, revision u16, build u32) · reserved u32     (32 bytes)
                    filler up to the header size
    header size     payload
                    protected TLV area, if its size in the header is not 0: 0x6908 u16 · size u16 · TLVs
                    ---- the image hash covers everything up to here ----
                    TLV area: 0x6907 u16 · size u16 · TLVs
    TLV             type u16 · length u16 · value

All integers are little-endian; the size of an area includes its four bytes of magic and size.

`read_image` only reads: nothing it returns is authentic. `verify_image` recomputes the hash and checks the signature, and returns the
key that made it. The TLV area itself is not signed: it may hold only the hash, the key hash and the signature (MCUboot's allow-list),
each once, so that nothing unsigned carries a meaning. A security counter and dependencies count only where the hash covers them.
The kinds of keys and signatures are those of `mcuboot_keys`.

Refused by name: encrypted and compressed images, SHA-384 and SHA-512, "pure" signatures, embedded public keys, ECDSA P-224.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hillhold_verifier.errors import ImageError, ImageSignatureError
from hillhold_verifier.mcuboot_keys import SIGNATURES
from hillhold_verifier.mcuboot_keys import TLV_ECDSA as TLV_ECDSA
from hillhold_verifier.mcuboot_keys import TLV_ED25519 as TLV_ED25519
from hillhold_verifier.mcuboot_keys import ImageKey as ImageKey

MAGIC = 0x96F3B83D
HEADER_SIZE = 32  # bytes that the format defines; the header size field may be larger
MAX_TLVS = 64  # in both areas together: imgtool writes at most about a dozen
MAX_TLV_AREA = 16 * 1024  # bytes of either area: they are held in memory
HASH_CHUNK = 4096  # bytes read at once while hashing

TLV_KEYHASH = 0x01
TLV_PUBKEY = 0x02
TLV_SHA256 = 0x10
TLV_DEPENDENCY = 0x40
TLV_SECURITY_COUNTER = 0x50

_HEADER = struct.Struct("<IIHHIIBBHII")
_TLV = struct.Struct("<HH")
_DEPENDENCY = struct.Struct("<B3sBBHI")  # image number, padding, version: `struct image_dependency`
_AREA_MAGIC = 0x6907
_PROTECTED_MAGIC = 0x6908

_UNSUPPORTED_FLAGS = {0x0004: "encrypted (AES-128)", 0x0008: "encrypted (AES-256)", 0x0E00: "compressed"}
_UNSUPPORTED_TLVS = {
    TLV_PUBKEY: "embedded public key",
    0x11: "SHA-384",
    0x12: "SHA-512",
    0x21: "ECDSA P-224 signature",
    0x25: "pure signature",
    0x30: "encryption key (RSA-OAEP)",
    0x31: "encryption key (AES-KW)",
    0x32: "encryption key (ECIES P-256)",
    0x33: "encryption key (ECIES X25519)",
    0x34: "encryption key (ECIES X25519, SHA-512)",
}
_UNPROTECTED_TLVS = frozenset({TLV_KEYHASH, TLV_SHA256, *SIGNATURES})
_TLV_LENGTHS = {TLV_KEYHASH: 32, TLV_SHA256: 32, TLV_DEPENDENCY: 12, TLV_SECURITY_COUNTER: 4, **SIGNATURES}


class ReadAt(Protocol):
    """Random access to the bytes that hold an image."""

    def __call__(self, offset: int, length: int, /) -> bytes:
        """Return exactly `length` bytes from `offset`."""


@dataclass(frozen=True, slots=True, order=True)
class ImageVersion:
    """MCUboot's version: major and minor 0..255, revision 0..65535, build 0..2**32-1; ordered by all four."""

    major: int
    minor: int
    revision: int
    build: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision}" + (f"+{self.build}" if self.build else "")


class Dependency(NamedTuple):
    """What an image needs of another: its image number, 0..255, and its least version.

    Hillhold compares versions by all four numbers. MCUboot looks at the build number only where it was built with
    MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER.
    """

    image: int
    least: ImageVersion


@dataclass(frozen=True, slots=True)
class Tlv:
    """One type-length-value entry; `protected` says that the image hash covers it."""

    type: int
    value: bytes
    protected: bool


@dataclass(frozen=True, slots=True)
class Image:
    """What an image says of itself. Sizes in bytes.

    Attributes:
        header_size: of the header with its filler; the payload starts there.
        flags: MCUboot's IMAGE_F_ bits; none that means encrypted or compressed.
        tlvs: protected ones first, in the order of the image.
        signed_length: header, payload and protected TLVs: what the image hash covers.
        length: the whole image with all TLVs.
        sha256: the image hash as stated; `check_hash` checks it.
        security_counter: None where the image has none.
        dependencies: in the order of the image, at most one on each other image.
    """

    version: ImageVersion
    header_size: int
    payload_size: int
    load_address: int
    flags: int
    tlvs: tuple[Tlv, ...]
    signed_length: int
    length: int
    sha256: bytes
    security_counter: int | None
    dependencies: tuple[Dependency, ...]


def parse_image(data: bytes) -> Image:
    """Read an image that is all of `data`.

    Raises:
        ImageError: malformed, unsupported, or followed by other bytes.
    """
    image = read_image(lambda offset, length: data[offset : offset + length], len(data))
    if image.length != len(data):
        raise ImageError("file length", expected=f"{image.length} bytes", got=len(data))
    return image


def read_image(read: ReadAt, limit: int) -> Image:
    """Read an image at offset 0 of a slot or file; whatever follows it is not looked at.

    Args:
        read: access to the bytes; never called beyond `limit`.
        limit: size of the slot or file in bytes.

    Raises:
        ImageError: malformed, unsupported, or longer than `limit`.
    """
    header = _read(read, 0, HEADER_SIZE, limit, "header")
    magic, load, header_size, protected_size, payload_size, flags, *version, _ = _HEADER.unpack(header)
    if magic != MAGIC:
        raise ImageError("image magic", expected=f"{MAGIC:#010x}", got=f"{magic:#010x}")
    if header_size < HEADER_SIZE:
        raise ImageError("header size", expected=f"at least {HEADER_SIZE}", got=header_size)
    for bits, name in _UNSUPPORTED_FLAGS.items():
        if flags & bits:
            raise ImageError("image flags", expected="a plain image", got=name)

    payload_end = header_size + payload_size
    protected: list[Tlv] = []
    if protected_size:
        size, protected = _read_area(read, payload_end, limit, protected=True, room=MAX_TLVS)
        if size != protected_size:
            raise ImageError("protected TLV size", expected=f"{protected_size} (header)", got=size)
    signed_length = payload_end + protected_size
    size, unprotected = _read_area(read, signed_length, limit, protected=False, room=MAX_TLVS - len(protected))
    tlvs = (*protected, *unprotected)
    _check_tlvs(tlvs)
    counter, sha256 = _only(tlvs, TLV_SECURITY_COUNTER), _only(tlvs, TLV_SHA256)
    if sha256 is None:
        raise ImageError("image hash", expected="a SHA-256 TLV", got="none")
    return Image(
        version=ImageVersion(*version),
        header_size=header_size,
        payload_size=payload_size,
        load_address=load,
        flags=flags,
        tlvs=tlvs,
        signed_length=signed_length,
        length=signed_length + size,
        sha256=sha256,
        security_counter=None if counter is None else int.from_bytes(counter, "little"),
        dependencies=_dependencies(tlvs),
    )


def verify_image(image: Image, read: ReadAt, keys: Sequence[ImageKey]) -> ImageKey:
    """Check the hash and the signature of an image, as the bootloader will.

    Args:
        image: what `read_image` returned for these bytes.
        read: access to the same bytes.
        keys: the keys that the bootloader holds.

    Returns:
        The key whose signature verified.

    Raises:
        ImageSignatureError: the bytes no longer hold `image`, the hash differs, or no key of `keys` signed it.
        MisuseError: an `ImageKey` that is none.
    """
    try:
        # The slot may have changed since `image` was read, and TLVs outside the hash are compared nowhere else.
        unchanged = read_image(read, image.length) == image
    except ImageError as error:
        raise ImageSignatureError("image", expected="as it was read before", got=str(error)) from error
    if not unchanged:
        raise ImageSignatureError("image", expected="as it was read before", got="another image")
    digest = check_hash(image, read)
    key_hash = _only(image.tlvs, TLV_KEYHASH)
    if key_hash is None:
        raise ImageSignatureError("image signature", expected="a key hash", got="none")
    for key in keys:
        if key.key_hash == key_hash:
            # The key, never the image, decides which kind of signature it must be.
            if (signature := _only(image.tlvs, key.signature_tlv)) is None:
                expected = f"TLV {key.signature_tlv:#04x}, as its key"
                raise ImageSignatureError("image signature", expected=expected, got="none of that kind")
            key.check(signature, digest)
            return key
    known = ", ".join(key.key_hash.hex()[:16] for key in keys) or "none"
    raise ImageSignatureError("image key", expected=f"a key hash, one of: {known}", got=key_hash.hex()[:16])


def check_hash(image: Image, read: ReadAt) -> bytes:
    """Return the SHA-256 of what the image hash covers; raises `ImageSignatureError` where the image states another."""
    digest = _hash(read, image.signed_length)
    if not hmac.compare_digest(digest, image.sha256):
        raise ImageSignatureError("image hash", expected=image.sha256.hex(), got=digest.hex())
    return digest


def _read(read: ReadAt, offset: int, length: int, limit: int, what: str) -> bytes:
    if offset + length > limit:
        raise ImageError(what, expected=f"within {limit} bytes", got=f"an end at {offset + length}")
    data = read(offset, length)
    if len(data) != length:
        raise ImageError(what, expected=f"{length} bytes", got=len(data))
    return data


def _read_area(read: ReadAt, offset: int, limit: int, *, protected: bool, room: int) -> tuple[int, list[Tlv]]:
    """Read one TLV area that its entries fill exactly."""
    what = "protected TLV area" if protected else "TLV area"
    magic, size = _TLV.unpack(_read(read, offset, _TLV.size, limit, what))
    expected = _PROTECTED_MAGIC if protected else _AREA_MAGIC
    if magic != expected:
        raise ImageError(f"magic of the {what}", expected=f"{expected:#06x}", got=f"{magic:#06x}")
    if not _TLV.size <= size <= MAX_TLV_AREA:
        raise ImageError(f"size of the {what}", expected=f"{_TLV.size} to {MAX_TLV_AREA}", got=size)
    area = _read(read, offset, size, limit, what)
    tlvs: list[Tlv] = []
    at = _TLV.size
    while at < size:
        if len(tlvs) == room:
            raise ImageError("number of TLVs", expected=f"at most {MAX_TLVS}", got="more")
        if at + _TLV.size > size:
            raise ImageError(what, expected="whole TLVs", got=f"{size - at} bytes left over")
        kind, length = _TLV.unpack_from(area, at)
        at += _TLV.size
        if at + length > size:
            raise ImageError(f"length of TLV {kind:#06x}", expected=f"at most {size - at}", got=length)
        tlvs.append(Tlv(kind, area[at : at + length], protected))
        at += length
    return size, tlvs


def _check_tlvs(tlvs: Sequence[Tlv]) -> None:
    """Each entry in its area, of its length; what decides (hash, key hash, signature, counter) once."""
    seen: set[str] = set()
    for tlv in tlvs:
        name = f"TLV {tlv.type:#06x}"
        if tlv.type in _UNSUPPORTED_TLVS:
            raise ImageError(name, expected="a plain image signed over SHA-256", got=_UNSUPPORTED_TLVS[tlv.type])
        if tlv.protected == (tlv.type in _UNPROTECTED_TLVS):
            side = "unprotected" if tlv.protected else "protected"
            raise ImageError(name, expected=f"in the {side} area", got="in the other")
        length = _TLV_LENGTHS.get(tlv.type, len(tlv.value))
        if len(tlv.value) > length or (len(tlv.value) != length and tlv.type != TLV_ECDSA):
            expected = f"at most {length}" if tlv.type == TLV_ECDSA else length
            raise ImageError(f"length of {name}", expected=expected, got=len(tlv.value))
        role = "signature" if tlv.type in SIGNATURES else name
        if role in seen and (tlv.type in _UNPROTECTED_TLVS or tlv.type == TLV_SECURITY_COUNTER):
            raise ImageError(role, expected="one", got="more than one")
        seen.add(role)
        if tlv.type == TLV_KEYHASH and "signature" in seen:
            # MCUboot takes a key hash to announce the signature that follows, and skips one that was not announced.
            raise ImageError("key hash", expected="before the signature", got="after it")


def _dependencies(tlvs: Sequence[Tlv]) -> tuple[Dependency, ...]:
    """Read the dependencies: bytes that the format leaves unused could restrict one further, so they must be zero."""
    found: dict[int, Dependency] = {}
    for tlv in tlvs:
        if tlv.type == TLV_DEPENDENCY:
            number, padding, *version = _DEPENDENCY.unpack(tlv.value)
            if any(padding):
                raise ImageError(f"padding of the dependency on image {number}", expected="zeros", got=padding.hex())
            if number in found:
                raise ImageError(f"dependency on image {number}", expected="one", got="more than one")
            found[number] = Dependency(number, ImageVersion(*version))
    return tuple(found.values())


def _only(tlvs: Sequence[Tlv], kind: int) -> bytes | None:
    return next((tlv.value for tlv in tlvs if tlv.type == kind), None)


def _hash(read: ReadAt, length: int) -> bytes:
    digest = hashlib.sha256()
    for offset in range(0, length, HASH_CHUNK):
        digest.update(_read(read, offset, min(HASH_CHUNK, length - offset), length, "image"))
    return digest.digest()
