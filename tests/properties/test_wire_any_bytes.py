"""Any packed bytes: a `WireError`, or exactly the announced number of bytes."""

from __future__ import annotations

import random
import zlib

from hypothesis import given
from hypothesis import strategies as st

from hillhold_verifier.errors import WireError
from hillhold_verifier.wire import DICTIONARY_1, base_name, deflate, inflate

bases = st.binary(max_size=300) | st.sampled_from([b"x" * 40_000, DICTIONARY_1])


def inflated(packed: bytes, base: bytes, length: int) -> bytes | None:
    try:
        data = inflate(packed, base, length)
    except WireError:
        return None
    assert len(data) == length
    return data


@given(st.binary(max_size=300), bases, st.integers(0, 2000))
def test_any_bytes(packed: bytes, base: bytes, length: int) -> None:
    inflated(packed, base, length)


@given(st.binary(max_size=2000) | st.text().map(str.encode), bases)
def test_whatever_was_deflated_comes_back(data: bytes, base: bytes) -> None:
    assert inflate(deflate(data, base), base, len(data)) == data
    assert len(base_name(base)) == 4


@given(st.integers(0, 60_000), st.integers(0, 90_000), st.integers(0, 40_000), st.randoms(use_true_random=False))
def test_whatever_was_deflated_in_pieces_comes_back(length: int, size: int, above: int, noise: random.Random) -> None:
    held, lister = noise.randbytes(size), noise.randbytes(above)
    cut = noise.randrange(size + 1)
    data = (held[:cut] + noise.randbytes(100) + held[cut:] + lister)[:length]
    assert inflate(deflate(data, held, lister), held, len(data), lister) == data


@given(st.binary(max_size=500), bases, st.data())
def test_a_changed_stream_gives_other_bytes_or_an_error(data: bytes, base: bytes, draw: st.DataObject) -> None:
    packed = bytearray(deflate(data, base))
    at = draw.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= draw.draw(st.integers(1, 255))
    inflated(bytes(packed), base, len(data))


@given(st.integers(0, 200_000), st.integers(0, 1000), st.sampled_from([b"\0", b"ab", DICTIONARY_1[:50]]))
def test_a_bomb_is_cut_off(size: int, length: int, unit: bytes) -> None:
    content = (unit * (size // len(unit) + 1))[:size]
    came = inflated(deflate(content, b""), b"", length)
    assert (came == content) if size == length else (came is None)


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(0, 60))
def test_empty_and_stored_blocks_in_any_number(blocks: list[bytes], length: int) -> None:
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH) for block in blocks) + packer.flush()
    whole = b"".join(blocks)
    came = inflated(packed, b"", length)
    assert (came == whole) if length == len(whole) else (came is None)
