"""Metadata on the wire: byte-exact, small, and never more than was announced."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest

from forge import Repo
from hillhold_verifier.errors import WireError
from hillhold_verifier.wire import BASE_NAME, DICTIONARY_1, base_name, deflate, inflate


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


def test_only_the_last_32_kib_of_a_large_base_count_on_both_sides() -> None:
    held = bytes(range(256)) * 400
    data = held[-1000:] + held[:1000]
    assert inflate(deflate(data, held), held, len(data)) == data
