"""Metadata on the wire: byte-exact, small, and never more than was announced."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest

from forge import Repo
from hillhold_verifier.errors import WireError
from hillhold_verifier.wire import BASE_NAME, DICTIONARY_1, MARGIN, PIECE, WINDOW, base_name, deflate, inflate


def generations() -> tuple[dict[str, bytes], dict[str, bytes]]:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    before = dict(repo.files)
    repo.add_release("1.2.0", b"newer")
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    return before, repo.files


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "line"])
def test_every_file_comes_back_byte_for_byte_and_smaller(role: str) -> None:
    before, after = (files[role] for files in generations())
    alone, against = deflate(after, b""), deflate(after, before)
    assert inflate(alone, b"", len(after)) == after
    assert inflate(against, before, len(after)) == after
    assert len(against) < len(alone) < len(zlib.compress(after, 9)) < len(after)


def test_another_base_gives_other_bytes_and_its_name_tells_before() -> None:
    before, after = (files["line"] for files in generations())
    packed = deflate(after, before)
    assert base_name(before) != base_name(after)
    assert len(base_name(before)) == BASE_NAME
    assert inflate(packed, b"x" * len(before), len(after)) != after


@pytest.mark.parametrize("off", [-1, 1, 100])
def test_another_length_than_announced_is_refused(off: int) -> None:
    data = generations()[0]["line"]
    with pytest.raises(WireError):
        inflate(deflate(data, b""), b"", len(data) + off)


def test_no_more_than_one_byte_beyond_the_announced_length_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb of a million to one, and an announced length of 100: seen through the decompressor that is used."""
    made: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, *args: object) -> None:
            self.inner = real(-15, DICTIONARY_1)

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def decompress(self, data: bytes, most: int) -> bytes:
            out = self.inner.decompress(data, most)
            made.append(len(out))
            return out

    bomb = deflate(b"\0" * 20_000_000, b"")
    assert len(bomb) < 50_000
    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(WireError):
        inflate(bomb, b"", 100)
    assert made == [101]


def test_a_stream_cut_anywhere_is_refused() -> None:
    data = generations()[0]["timestamp"]
    packed = deflate(data, b"")
    for end in range(len(packed)):
        with pytest.raises(WireError):
            inflate(packed[:end], b"", len(data))


@pytest.mark.parametrize("tail", [b"\0", b"\x03\x00", b"x" * 100])
def test_bytes_after_the_end_are_refused(tail: bytes) -> None:
    data = b"{}"
    with pytest.raises(WireError):
        inflate(deflate(data, b"") + tail, b"", len(data))


def test_other_containers_are_refused() -> None:
    for packed in (zlib.compress(b"{}"), b"", b"\x78\x9c", b"\xff" * 10):
        with pytest.raises(WireError):
            inflate(packed, b"", 2)


def test_nothing_is_something_that_can_be_sent() -> None:
    assert inflate(deflate(b"", b""), b"", 0) == b""


def test_without_a_held_version_there_is_nothing_before_the_first_byte() -> None:
    assert inflate(deflate(b"x" * 10), b"", 10, b"") == b"x" * 10


def listing(lines: int, seed: int, changed: frozenset[int] = frozenset()) -> bytes:
    """What a snapshot of so many lines looks like; the hashes of `changed` ones are others."""
    digests = random.Random(seed)
    found = []
    for number in range(lines):
        digest = digests.randbytes(32)
        digest = random.Random(number).randbytes(32) if number in changed else digest
        found.append(f'"line-{number:04}.json":{{"hashes":{{"sha256":"{digest.hex()}"}},"version":7}}')
    return f"{{{','.join(found)}}}".encode()


def test_a_file_far_beyond_deflates_window_finds_the_one_before_it() -> None:
    before, after = listing(1000, 1), listing(1000, 1, frozenset({500}))
    assert len(after) > 3 * WINDOW
    packed = deflate(after, before)
    assert inflate(packed, before, len(after)) == after
    assert len(packed) < 1500 < len(deflate(after)) // 20


@pytest.mark.parametrize("count", [1, 50, 300])
def test_lines_that_come_or_go_shift_the_rest_and_it_is_found_all_the_same(count: int) -> None:
    whole = listing(1000, 1)
    entries = whole.split(b",")
    fewer = b",".join(entry for number, entry in enumerate(entries) if number % (1000 // count))
    for before, after in ((fewer, whole), (whole, fewer)):
        packed = deflate(after, before)
        assert inflate(packed, before, len(after)) == after
        new = sum(entry not in before for entry in after.split(b","))
        dropped = sum(entry not in after for entry in before.split(b","))
        assert len(packed) < 1600 + 45 * new + 15 * dropped


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, 100_000])
@pytest.mark.parametrize("size", [0, 1, PIECE + 2 * MARGIN, PIECE + 2 * MARGIN + 1, 150_000])
@pytest.mark.parametrize("lister", [0, 3000, 50_000])
def test_any_lengths_of_file_held_version_and_lister(length: int, size: int, lister: int) -> None:
    noise = random.Random(length)
    held, above = noise.randbytes(size), noise.randbytes(lister)
    data = (held + noise.randbytes(length))[:length]
    packed = deflate(data, held, above)
    assert inflate(packed, held, length, above) == data
    for wrong in (length + 1, length - 1, length + PIECE):
        with pytest.raises(WireError):
            inflate(packed, held, wrong, above)


def test_pieces_are_streams_that_zlib_alone_inflates_with_the_dictionaries_of_the_page() -> None:
    above, before, after = b"above" * 9000, listing(500, 1), listing(500, 1, frozenset({3, 300}))
    packed, whole = deflate(after, before, above), b""
    while len(whole) < len(after):
        place = len(whole) * len(before) // len(after)
        near = before[max(0, place - 4096) : place + 20_480]
        room = 32_768 - len(DICTIONARY_1) - len(near)
        stream = zlib.decompressobj(-15, DICTIONARY_1 + above[-room:] + near)
        whole += stream.decompress(packed)
        assert stream.eof
        packed = stream.unused_data
    assert whole == after
    assert not packed


@pytest.mark.parametrize("size", [0, 3000, 60_000])
def test_streams_that_zlib_alone_deflates_with_the_dictionaries_of_the_page_are_read(size: int) -> None:
    noise = random.Random(size)
    before, above = noise.randbytes(size), noise.randbytes(50_000)
    near = before[: 16_384 + 4096]
    room = 32_768 - len(DICTIONARY_1) - len(near)
    # From the far ends of all three, so that a dictionary that is shifted by a byte gives other bytes.
    data = DICTIONARY_1[300:600] + above[-room:][:300] + above[-300:] + near[:300] + near[-300:] + DICTIONARY_1[-300:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY_1 + above[-room:] + near)
    packed = packer.compress(data) + packer.flush()
    assert len(packed) < 300
    assert inflate(packed, before, len(data), above) == data


def test_a_stream_that_goes_on_behind_its_piece_or_ends_before_is_refused() -> None:
    data = bytes(PIECE + 10)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = packer.compress(data) + packer.flush()
    with pytest.raises(WireError, match="16384 bytes and an end"):
        inflate(one, b"", len(data))
    with pytest.raises(WireError, match="16384 bytes and an end"):
        inflate(deflate(data[:10]) + deflate(data[:PIECE]), b"", len(data))


def test_the_dictionary_is_the_published_one() -> None:
    published = (Path(__file__).parents[1] / "vectors/dictionary-1.bin").read_bytes()
    packed = deflate(published[:200], b"")
    assert len(packed) < 20
    assert zlib.decompressobj(-15, published).decompress(packed) == published[:200]
    assert published == DICTIONARY_1


def test_a_base_counts_up_to_32_kib_back() -> None:
    base = random.Random(1).randbytes(32_000)
    packed = deflate(base[:1000], base)
    assert len(packed) < 100
    assert inflate(packed, base, 1000) == base[:1000]
