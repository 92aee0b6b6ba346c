"""Any bytes are an image within the limits, or an `ImageError`."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hillhold_verifier.errors import ImageError, ImageSignatureError
from hillhold_verifier.mcuboot import MAX_TLVS, parse_image, read_image, verify_image
from imagekit import NAMES, public

KINDS = st.sampled_from(
    [0x01, 0x02, 0x10, 0x11, 0x20, 0x22, 0x23, 0x24, 0x25, 0x33, 0x40, 0x40, 0x50, 0xA0]
) | st.integers(0, 0xFFFF)
LENGTHS = {0x01: 32, 0x10: 32, 0x20: 256, 0x23: 384, 0x24: 64, 0x40: 12, 0x50: 4}
KEYS = [public(name) for name in NAMES]


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    made = b""
    for kind in draw(st.lists(KINDS, max_size=6)):
        value = bytes(LENGTHS.get(kind, 8)) if draw(st.integers(0, 9)) else draw(st.binary(max_size=80))
        if kind == 0x40 and value:
            value = bytes([draw(st.integers(0, 255))]) + value[1:]
        made += struct.pack("<HH", kind, len(value)) + value
    return made


@st.composite
def nearly_images(draw: st.DrawFn) -> bytes:
    """A header and areas that often fit together."""
    odd = draw(st.sampled_from([0, 0, 0, 0, 1]))
    payload, protected, hashed = draw(st.binary(max_size=40)), draw(entries()), draw(st.booleans())
    if protected:
        protected = struct.pack("<HH", 0x6908, len(protected) + 4 + odd) + protected
    unprotected = (struct.pack("<HH", 0x10, 32) + bytes(32) if hashed else b"") + draw(entries())
    unprotected = struct.pack("<HH", 0x6907, len(unprotected) + 4) + unprotected
    flags = draw(st.sampled_from([0, 0, 0, 0x10, 0x100, 0x4, 0x200]))
    header = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, 32, len(protected), len(payload), flags, 1, 2, 3, 4, 0)
    data = bytearray(header + payload + protected + unprotected)
    if draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(data=st.binary(max_size=300) | nearly_images(), tail=st.binary(max_size=8))
def test_any_bytes_are_an_image_or_refused(data: bytes, tail: bytes) -> None:
    highest = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal highest
        assert offset >= 0
        assert length >= 0
        highest = max(highest, offset + length)
        return (data + tail)[offset : offset + length]

    try:
        image = read_image(read, len(data))
    except ImageError:
        assert highest <= len(data)
        return

    assert highest <= len(data)
    assert 32 <= image.header_size <= image.signed_length < image.length <= len(data)
    assert len(image.tlvs) <= MAX_TLVS
    assert sum(t.type == 0x10 for t in image.tlvs) == 1
    assert (image.security_counter is None) == all(t.type != 0x50 for t in image.tlvs)
    assert sum(t.type == 0x40 for t in image.tlvs) == len(dict(image.dependencies)) == len(image.dependencies)
    assert all(t.protected for t in image.tlvs if t.type == 0x40)
    assert parse_image(data[: image.length]) == image


@given(data=nearly_images())
def test_nothing_unsigned_verifies(data: bytes) -> None:
    try:
        image = parse_image(data)
    except ImageError:
        return

    with pytest.raises(ImageSignatureError):
        verify_image(image, lambda offset, length: data[offset : offset + length], KEYS)
