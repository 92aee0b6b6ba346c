"""Any bytes at all either decode to the signed length or raise PatchError, without a read outside the base."""

from __future__ import annotations

import lzma
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from hillhold_signer.patches import make_patch
from hillhold_verifier.errors import PatchError
from hillhold_verifier.patch import CHUNK, HEADER, PatchDecoder


def attempt(pieces: Sequence[bytes], base: bytes, result_length: int) -> bytes | None:
    """The result, or None if it was refused; fails on any other outcome."""

    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(base)
        return base[offset : offset + length]

    decoder = PatchDecoder(read, len(base), result_length)
    made = bytearray()
    try:
        for piece in pieces:
            for chunk in decoder.feed(piece):
                assert 0 < len(chunk) <= CHUNK
                made += chunk
                assert len(made) <= result_length
        decoder.finish()
    except PatchError:
        return None
    return bytes(made)


def stream(records: bytes) -> bytes:
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 12, "lc": 0, "lp": 0, "pb": 0}
    return lzma.compress(records, lzma.FORMAT_RAW, filters=[lzma1])


lengths = st.integers(0, 6000)


@given(st.lists(st.binary(max_size=200), max_size=5), st.binary(max_size=100), lengths)
def test_any_bytes(pieces: list[bytes], base: bytes, result_length: int) -> None:
    made = attempt(pieces, base, result_length)
    assert made is None or len(made) == result_length


@given(st.binary(max_size=300), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=100), lengths)
def test_any_stream_after_a_header_that_fits(
    tail: bytes, properties: int, window_bits: int, base: bytes, length: int
) -> None:
    header = HEADER.pack(b"HHP", 2, properties, window_bits, len(base), length)
    made = attempt([header + tail], base, length)
    assert made is None or len(made) == length


@given(st.binary(max_size=300), st.binary(max_size=100), st.integers(0, 300))
def test_any_records_in_a_stream_that_decompresses(records: bytes, base: bytes, length: int) -> None:
    made = attempt([HEADER.pack(b"HHP", 2, 0, 12, len(base), length), stream(records)], base, length)
    assert made is None or len(made) == length


small_records = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(0, 9), st.integers(0, 60), st.binary(max_size=18)),
    max_size=8,
)


@given(small_records, st.integers(0, 100), st.integers(0, 120))
def test_records_that_are_nearly_right(
    records: list[tuple[int, int, int, int, bytes]], base_length: int, length: int
) -> None:
    plain = b"".join(bytes([copy, add, insert, seek]) + data for copy, add, insert, seek, data in records)
    base = bytes(range(base_length))
    made = attempt([HEADER.pack(b"HHP", 2, 0, 12, len(base), length), stream(plain)], base, length)
    assert made is None or len(made) == length


@settings(max_examples=60)
@given(st.data())
def test_what_is_made_decodes_however_it_is_cut(data: st.DataObject) -> None:
    alphabet = st.sampled_from([b"\0" * 40, b"abcdefgh" * 5, b"\xf0\x00\xf8\x12", b"x", bytes(range(64))])
    base = b"".join(data.draw(st.lists(alphabet, max_size=12)))
    result = b"".join(data.draw(st.lists(alphabet | st.binary(max_size=20), max_size=12)))
    patch = make_patch(base, result)
    cut = data.draw(st.integers(0, len(patch)))
    assert attempt([patch[:cut], patch[cut:]], base, len(result)) == result
    assert attempt([patch[:cut]], base, len(result)) == (result if cut == len(patch) else None)
