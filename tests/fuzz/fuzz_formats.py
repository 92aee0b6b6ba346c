"""Fuzz targets for images, patches and messages: any bytes are refused by the reader's own error, or hold what it promises."""

from __future__ import annotations

import binascii
import lzma
import struct
from contextlib import suppress
from functools import cache
from hashlib import sha256
from itertools import pairwise
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fuzz_input import Input
from hillhold_verifier.answers import checked, components_of, held_names, plan_of, reasons_of, runs
from hillhold_verifier.cli.show import plain, status_lines
from hillhold_verifier.errors import ImageError, ImageSignatureError, PatchError, Refused, SmpError
from hillhold_verifier.mcuboot import (
    MAX_TLV_AREA,
    MAX_TLVS,
    TLV_DEPENDENCY,
    TLV_ED25519,
    TLV_KEYHASH,
    TLV_SHA256,
    ImageKey,
    read_image,
    verify_image,
)
from hillhold_verifier.patch import CHUNK, HEADER, PatchDecoder
from hillhold_verifier.smp import HEADER_SIZE, decode, encode
from hillhold_verifier.smp_body import decode_body, encode_body
from hillhold_verifier.smp_console import MAX_JUNK, ConsoleDecoder, Event, Junk, Packet, encode_console
from patchread import by_one_read

CONSOLE_LIMIT: Final = 200


# --- images -----------------------------------------------------------------------------------------------------------


@cache
def held_key() -> tuple[Ed25519PrivateKey, ImageKey]:
    private = Ed25519PrivateKey.from_private_bytes(sha256(b"held").digest())
    return private, ImageKey(private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


class Slot:
    """Bytes that note how much of them is read, and allow no read beyond their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    def read(self, offset: int, length: int, /) -> bytes:
        assert 0 <= offset <= offset + length <= len(self.data)
        self.read_bytes += length
        return self.data[offset : offset + length]


def fuzz_mcuboot(data: bytes) -> None:
    """Behind a byte 1, hash, key hash and signature are made right: such an image verifies, with any byte changed it does not."""
    right, place, raw = data[:1] == b"\1", int.from_bytes(data[1:3]), data[3:]
    slot = Slot(raw)
    try:
        image = read_image(slot.read, len(raw))
    except ImageError:
        return
    assert slot.read_bytes <= 32 + 8 + 2 * MAX_TLV_AREA
    assert 32 <= image.header_size <= image.signed_length < image.length <= len(raw)
    assert len(image.tlvs) <= MAX_TLVS
    assert len(dict(image.dependencies)) == sum(tlv.type == TLV_DEPENDENCY for tlv in image.tlvs)
    if not right:
        with suppress(ImageSignatureError):
            assert verify_image(image, slot.read, [held_key()[1]]) == held_key()[1]
        assert slot.read_bytes <= 2 * (40 + 2 * MAX_TLV_AREA) + image.length
        return
    made = signed(raw[: image.length], image.signed_length)
    if made is None:
        return
    whole = Slot(made)
    assert verify_image(read_image(whole.read, len(made)), whole.read, [held_key()[1]]) == held_key()[1]
    at = place % len(made)
    changed = Slot(made[:at] + bytes([made[at] ^ (1 + place % 255)]) + made[at + 1 :])
    try:
        verify_image(read_image(changed.read, len(made)), changed.read, [held_key()[1]])
    except (ImageError, ImageSignatureError):
        return
    raise AssertionError(f"verified with byte {at} changed")


def signed(raw: bytes, signed_length: int) -> bytes | None:
    """The image with its own hash, the held key's hash and its signature; None where it has no place for these."""
    private, key = held_key()
    digest = sha256(raw[:signed_length]).digest()
    values = {TLV_SHA256: digest, TLV_KEYHASH: key.key_hash, TLV_ED25519: private.sign(digest)}
    made, at = bytearray(raw), signed_length + 4
    while at < len(raw):
        kind, length = struct.unpack_from("<HH", raw, at)
        if kind in values:
            made[at + 4 : at + 4 + length] = values.pop(kind)
        at += 4 + length
    return None if values else bytes(made)


# --- patches ----------------------------------------------------------------------------------------------------------


def fuzz_patch(data: bytes) -> None:
    """A patch, or a stream or records behind a header that fits: as a second decoder has it, within the signed length."""
    source = Input(data)
    kind, base_length, result_length = source.below(4), source.below(6000), source.below(6000)
    base = thumb(base_length)
    cut, content = source.below(4096), source.rest()
    properties, bits = (93, 14) if kind == 1 else (0, 12)
    if kind:
        if kind > 1:
            filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 12, "lc": 0, "lp": 0, "pb": 0}]
            content = lzma.compress(content, lzma.FORMAT_RAW, filters=filters)
        content = HEADER.pack(b"HHP", 2, properties, bits, base_length, result_length) + content
    elif len(content) >= HEADER.size:  # the lengths that metadata would have signed
        base_length, result_length = (n % 2**14 for n in HEADER.unpack_from(content)[4:])
        base = thumb(base_length)
    found = decoded([content[:cut], content[cut:]], base, result_length)
    with suppress(OverflowError):
        assert found == by_one_read(content, base, result_length)


@cache
def thumb(length: int) -> bytes:
    """Bytes with branches and pointers at all sorts of places."""
    parts = [
        bytes(at * at % 251 for at in range(41)),
        b"\xff\xf7\x12\xff",
        b"\x00\xf0\x56\xb8",
        b"\x03\xf0",
        b"\x21\x03\0\x20",
    ]
    return b"".join(parts[at * at % 11 % 5] for at in range(length // 2 + 1))[:length]


def decoded(pieces: list[bytes], base: bytes, result_length: int) -> bytes | None:
    slot, made = Slot(base), bytearray()
    decoder = PatchDecoder(slot.read, len(base), result_length)
    try:
        for piece in pieces:
            for chunk in decoder.feed(piece):
                assert 0 < len(chunk) <= CHUNK
                made += chunk
                assert len(made) <= result_length
        decoder.finish()
    except PatchError:
        return None
    finally:
        assert len(made) <= result_length
        assert slot.read_bytes <= 272 * (result_length + 512)
    return bytes(made)


# --- messages ---------------------------------------------------------------------------------------------------------


def fuzz_smp(data: bytes) -> None:
    """A message, or (behind a byte 1) the body of one whose header is right."""
    raw = bytes([10, 0, *(len(data) - 1).to_bytes(2), 0x48, 0x48, 7, 2]) + data[1:] if data[:1] == b"\1" else data
    try:
        message = decode(raw)
    except SmpError:
        return
    written = encode(message)
    assert written[4:HEADER_SIZE] == raw[4:HEADER_SIZE]
    assert encode(decode(written)) == written


def fuzz_console(data: bytes) -> None:
    """Events do not depend on how the stream is cut; what is held is bounded; a packet has a right CRC; the next packet arrives."""
    source = Input(data)
    cuts = sorted(source.below(1024) for _ in range(source.below(6)))
    stream = b""
    while source:
        match source.below(5):
            case 0:
                stream += source.pick((b"\x06\x09", b"\x04\x14", b"\n", b"\r\n", b"\x06", b"\x04", b"A" * 400))
            case 1:
                stream += encode_console(source.chunk(1 + source.byte()) or b"\0")
            case 2:
                body = source.chunk(source.byte())
                raw = source.below(300).to_bytes(2) + body + binascii.crc_hqx(body, 0).to_bytes(2)
                stream += b"\x06\x09" + binascii.b2a_base64(raw)
            case 3:
                frame = encode_console(source.chunk(1 + source.byte()) or b"\0")
                at = source.below(len(frame))
                stream += frame[:at] + source.chunk(1) + frame[at + source.below(3) :]
            case _:
                stream += source.chunk(source.byte())
    whole = ConsoleDecoder(CONSOLE_LIMIT).feed(stream)
    decoder, events = ConsoleDecoder(CONSOLE_LIMIT), list[Event]()
    for start, end in pairwise([0, *(min(cut, len(stream)) for cut in cuts), len(stream)]):
        events += decoder.feed(stream[start:end])
        held = len(decoder._line) + len(decoder._held) + len(decoder._packet or b"")
        assert held <= 2.4 * CONSOLE_LIMIT + MAX_JUNK
    assert events == whole
    assert len(events) <= 1 + len(stream)
    for event in events:
        assert not isinstance(event, Packet) or 0 < len(event.data) <= CONSOLE_LIMIT
        assert not isinstance(event, Junk) or 0 < len(event.text) <= MAX_JUNK
    assert decoder.feed(b"\n" + encode_console(b"next"))[-1] == Packet(b"next")


def fuzz_answers(data: bytes) -> None:
    """Two CBOR bodies as a board's identity and status: what is read from them is of the promised types, or refused."""
    bodies = []
    for part in (data[2 : 2 + int.from_bytes(data[:2])], data[2 + int.from_bytes(data[:2]) :]):
        try:
            bodies.append(decode_body(part))
        except SmpError:
            return
    identity, status = bodies
    assert encode_body(decode_body(encode_body(status))) == encode_body(status)
    for line in status_lines(identity, status):
        assert plain(line).isprintable()
    for body in bodies:
        for version, name in held_names(body.get("h")):
            assert (type(version), type(name)) in ((int, bytes), (bool, bytes))
        assert all(isinstance(text, str) for row in reasons_of(body) for text in row)
        assert all(isinstance(part, dict) for part in (*plan_of(body), *components_of(body)))
        with suppress(Refused):
            checked(body)
        with suppress(Refused):
            runs(plan_of(identity), body)
