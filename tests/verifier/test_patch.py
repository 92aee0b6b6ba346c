"""The patch decoder: what a patch may do, and each thing that it may not."""

from __future__ import annotations

import hashlib
import lzma
import random

import pytest

from hillhold_signer.patches import make_patch
from hillhold_verifier.errors import MisuseError, OperationalError, PatchError
from hillhold_verifier.patch import CHUNK, HEADER, LIMIT_LENGTH, PatchDecoder
from linker import builds

BASE = bytes(range(256)) * 4


def pack(records: bytes, base_length: int, result_length: int, *, table: bytes = b"\0") -> bytes:
    """A patch with these records, right or wrong."""
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 12, "lc": 0, "lp": 0, "pb": 0}
    header = HEADER.pack(b"HHP", 2, 0, 12, base_length, result_length)
    return header + lzma.compress(table + records, lzma.FORMAT_RAW, filters=[lzma1])


def chunks(patch: bytes, base: bytes, result_length: int, step: int = 1 << 20) -> list[bytes]:
    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= len(base), "the decoder asks only for what lies within the base"
        return base[offset : offset + length]

    decoder = PatchDecoder(read, len(base), result_length)
    out: list[bytes] = []
    for at in range(0, len(patch), step):
        for chunk in decoder.feed(patch[at : at + step]):
            out.append(chunk)
            assert sum(map(len, out)) <= result_length, "never more than the signed length"
    decoder.finish()
    return out


def decode(patch: bytes, base: bytes, result_length: int, step: int = 1 << 20) -> bytes:
    return b"".join(chunks(patch, base, result_length, step))


def firmware(seed: int, length: int) -> bytes:
    """Code-like bytes: few distinct words, references that are all different."""
    rng = random.Random(seed)
    words = [rng.randbytes(2) for _ in range(200)]
    return b"".join(rng.choice(words) if rng.random() < 0.8 else rng.randbytes(2) for _ in range(length // 2))


def edited(image: bytes, seed: int) -> bytes:
    """The image as a later build: changed references, a function inserted, one removed, two exchanged."""
    rng = random.Random(seed)
    out = bytearray(image)
    for _ in range(len(out) // 200):
        at = rng.randrange(len(out))
        out[at] = (out[at] + 4) % 256
    third = len(out) // 3
    return bytes(out[third : 2 * third] + rng.randbytes(300) + out[:third] + out[2 * third + 500 :])


OLD = firmware(1, 40_000)
NEW = edited(OLD, 2)


@pytest.mark.parametrize(
    ("base", "result"),
    [
        (b"", b""),
        (b"", b"x"),
        (b"x", b""),
        (b"x", b"x"),
        (b"", NEW),
        (OLD, OLD),
        (OLD, NEW),
        (NEW, OLD),
        (OLD, OLD[:1]),
        (OLD, OLD[7000:9000]),
        (OLD[7000:9000], OLD),
        (OLD, OLD + OLD),
        (bytes(5000), bytes([255]) * 9000),
        (b"\xff" * 3000, bytes(range(256)) * 20),
    ],
)
def test_round_trip(base: bytes, result: bytes) -> None:
    assert decode(make_patch(base, result), base, len(result)) == result


@pytest.mark.parametrize("step", [1, 7, 13, 14, 15, 512, 4096])
def test_pieces_of_any_length_give_the_same_chunks(step: int) -> None:
    patch = make_patch(OLD, NEW)
    got = chunks(patch, OLD, len(NEW), step)
    assert b"".join(got) == NEW
    assert {len(chunk) for chunk in got[:-1]} == {CHUNK}
    assert 0 < len(got[-1]) <= CHUNK


def test_records_do_what_the_specification_says() -> None:
    records = bytes([2, 3 << 1 | 1, 2, 10 << 1]) + b"\x01\xff\x00" + b"hi" + bytes([3, 0])
    # copy 0..1, add to 2..4, insert, cursor 5 + 10, copy 15..17
    assert decode(pack(records, len(BASE), 10), BASE, 10) == bytes([0, 1, 3, 2, 4]) + b"hi" + bytes([15, 16, 17])


def test_the_worked_example_of_the_format_page() -> None:
    base = b"Hillhold 1.0: the quick brown fox jumps over the lazy dog. Then it sleeps."
    result = (
        b"Hillhold 1.1: the quick brown fox jumps over the lazy dog! And then it wakes;"
        b" the quick brown fox jumps over the hill."
    )
    patch = bytes.fromhex(
        "48485002000c4a000000760000000000034116976931be99c1b64ffcd4244655a2cc8eef62037578"
        "2a421bd8c1ab551e9c8cd73ac621fffff90d6000"
    )
    assert decode(patch, base, len(result)) == result


def test_first_record_may_only_seek_and_the_cursor_moves_backwards() -> None:
    records = bytes([0, 1, 0, 20 << 1]) + bytes([2, 1, 0, 22 * 2 - 1]) + bytes([1, 0])
    assert decode(pack(records, len(BASE), 3), BASE, 3) == bytes([20, 21, 0])


@pytest.mark.parametrize(
    ("records", "what"),
    [
        (bytes([5, 0]), "patch result: expected at most 4"),
        (bytes([0, 5 << 1]) + b"abcde", "patch result"),
        (bytes([0, 1, 5, 0]) + b"abcde", "patch result"),
        (bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0]), "patch result"),  # 4 GiB announced by six bytes
        (bytes([1, 1, 0, 2046 & 0x7F | 0x80, 2046 >> 7, 2, 0]), "patch read: expected within 1024"),
        (bytes([1, 1, 0, 2048 & 0x7F | 0x80, 2048 >> 7]), "patch cursor"),
        (bytes([1, 1, 0, 3]), "patch cursor"),  # to -1
        (bytes([1, 1, 0, 0]), "neither"),
        (bytes([0, 0]), "at least one byte"),
        (bytes([0, 1, 0, 0]), "neither"),
        (bytes([1, 0, 0, 0]), "at least one byte"),
        (bytes([1, 0, 0, 1, 0, 2]), "at least one byte"),  # an endless walk without a byte of the result
        (bytes([0x84, 0x00, 0]), "shortest form"),
        (bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x10, 0]), "patch number"),
        (bytes([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0]), "patch number"),
        (bytes([4, 0, 0]), "nothing after the whole result: expected"),
        (bytes([3, 0]), "cut short"),
        (bytes([4]), "cut short"),
        (bytes([0, 8]) + b"abc", "cut short"),
        (b"", "cut short"),
    ],
)
def test_records_that_are_refused(records: bytes, what: str) -> None:
    with pytest.raises(PatchError) as refusal:
        decode(pack(records, len(BASE), 4), BASE, 4)
    assert what.split(":")[0] in str(refusal.value)


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (HEADER.pack(b"HHQ", 2, 0, 12, 1024, 4), "magic"),
        (HEADER.pack(b"HHP", 1, 0, 12, 1024, 4), "format version"),
        (HEADER.pack(b"HHP", 2, 0, 12, 1023, 4), "base length"),
        (HEADER.pack(b"HHP", 2, 0, 12, 1024, 2**32 - 1), "result length"),
        (HEADER.pack(b"HHP", 2, 0, 11, 1024, 4), "window"),
        (HEADER.pack(b"HHP", 2, 0, 15, 1024, 4), "window"),
        (HEADER.pack(b"HHP", 2, 0, 255, 1024, 4), "window"),
        (HEADER.pack(b"HHP", 2, 4, 12, 1024, 4), "properties"),  # lc 4
        (HEADER.pack(b"HHP", 2, 3 + 9, 12, 1024, 4), "properties"),  # lc 3, lp 1
        (HEADER.pack(b"HHP", 2, 225, 12, 1024, 4), "properties"),  # pb 5
    ],
)
def test_headers_that_are_refused(header: bytes, what: str) -> None:
    patch = header + pack(bytes([4, 0]), 1024, 4)[HEADER.size :]
    with pytest.raises(PatchError, match=what):
        decode(patch, BASE, 4)


BUILT, REBUILT = builds(40, 0x8000)
SMALL = [(OLD[:2000], OLD[:900] + b"another message" + OLD[910:2000]), (BUILT, REBUILT)]


@pytest.mark.parametrize(("base", "result"), SMALL)
def test_every_truncation_is_refused(base: bytes, result: bytes) -> None:
    patch = make_patch(base, result)
    for length in range(len(patch)):
        with pytest.raises(PatchError):
            decode(patch[:length], base, len(result))


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
def test_every_extension_is_refused(step: int) -> None:
    patch = make_patch(OLD[:3000], NEW[:3000])
    for tail in (b"\0", b"x", patch, bytes(5000)):
        with pytest.raises(PatchError, match="nothing after"):
            decode(patch + tail, OLD[:3000], 3000, step)


@pytest.mark.parametrize(("base", "result"), SMALL)
def test_a_flipped_bit_anywhere_is_refused_or_left_to_the_hash(base: bytes, result: bytes) -> None:
    patch, wanted = make_patch(base, result), hashlib.sha256(result).digest()
    refused = 0
    for place in range(len(patch) * 8):
        spoiled = bytearray(patch)
        spoiled[place // 8] ^= 1 << place % 8
        try:
            got = decode(bytes(spoiled), base, len(result))
        except PatchError:
            refused += 1
        else:
            assert len(got) == len(result)
            harmless = place // 8 in (4, 5)  # other LZMA parameters, or a larger window, may decode to the same
            assert harmless or hashlib.sha256(got).digest() != wanted
    assert refused > len(patch) * 4


def test_the_second_of_the_small_patches_has_a_table_of_moves() -> None:
    patch = make_patch(BUILT, REBUILT)
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 12, "lc": 0, "lp": 0, "pb": 0}
    assert lzma.decompress(patch[HEADER.size :], lzma.FORMAT_RAW, filters=[lzma1])[0]


def test_a_small_patch_that_claims_gigabytes_stops() -> None:
    """A record of two bytes may state 2 GiB: nothing of it is made unless it was signed, and then chunk by chunk."""
    records = bytes([4, 0]) + bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0]) * 1000
    with pytest.raises(PatchError, match="after the whole result"):
        decode(pack(records, len(BASE), 4), BASE, 4)

    records = b"".join([b"\x80\x08\x01\x00\xff\x0f"] * 100_000)  # copy 1024, seek -1024
    decoder = PatchDecoder(lambda offset, length: BASE[offset : offset + length], len(BASE), LIMIT_LENGTH)
    first = decoder.feed(pack(records, len(BASE), LIMIT_LENGTH))
    assert [next(first), next(first)] == [BASE * 2, BASE * 2]


def test_a_stream_that_expands_without_end_is_refused_at_once() -> None:
    patch = pack(bytes([4, 0]) + bytes(50_000_000), len(BASE), 4)
    assert len(patch) < 10_000
    with pytest.raises(PatchError, match="after the whole result"):
        decode(patch, BASE, 4)


def test_a_wrong_base_gives_wrong_bytes_of_the_right_length() -> None:
    patch = make_patch(OLD, NEW)
    got = decode(patch, bytes(len(OLD)), len(NEW))
    assert len(got) == len(NEW)
    assert got != NEW


def test_a_base_that_reads_short_is_an_operational_error() -> None:
    decoder = PatchDecoder(lambda offset, length: b"", len(BASE), 4)
    with pytest.raises(OperationalError, match="asked for 256 bytes at 0, got 0"):
        list(decoder.feed(pack(bytes([4, 0]), len(BASE), 4)))


def test_misuse() -> None:
    patch = pack(bytes([0x88, 0x08, 1, 0, 0x8F, 0x10]) * 3, len(BASE), 3 * 1032)
    with pytest.raises(MisuseError, match="lengths"):
        PatchDecoder(lambda offset, length: b"", -1, 4)
    with pytest.raises(MisuseError, match="lengths"):
        PatchDecoder(lambda offset, length: b"", 0, LIMIT_LENGTH + 1)

    decoder = PatchDecoder(lambda offset, length: bytes(length), 1032, 3 * 1032)
    left_open = decoder.feed(HEADER.pack(b"HHP", 2, 0, 12, 1032, 3 * 1032) + patch[HEADER.size :])
    assert len(next(left_open)) == CHUNK
    with pytest.raises(MisuseError, match="not all taken"):
        list(decoder.feed(b""))
    with pytest.raises(MisuseError, match="not all taken"):
        decoder.finish()

    ignored = PatchDecoder(lambda offset, length: bytes(length), 4, 4)
    ignored.feed(b"HHP")
    with pytest.raises(MisuseError, match="not all taken"):
        ignored.feed(b"")

    failed = PatchDecoder(lambda offset, length: bytes(length), 4, 4)
    with pytest.raises(PatchError):
        list(failed.feed(bytes(14)))
    with pytest.raises(MisuseError, match="failed"):
        list(failed.feed(b""))
