"""Making patches: deterministic, small, and within the decoder's memory and time."""

from __future__ import annotations

import random
import time
import tracemalloc

import bsdiff4
import pytest

from hillhold_signer import patches
from hillhold_signer.patches import make_patch
from hillhold_verifier import patch as decoding
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.patch import WORKING_MEMORY, PatchDecoder
from linker import builds


def thumb(seed: int, length: int) -> bytes:
    rng = random.Random(seed)
    words = [rng.randbytes(2) for _ in range(400)]
    return b"".join(rng.choice(words) if rng.random() < 0.7 else rng.randbytes(2) for _ in range(length // 2))


def moved_calls(image: bytes, seed: int) -> bytes:
    """A later build: a fix in the middle moves all that follows, and every reference across it changes by the same."""
    rng = random.Random(seed)
    out = bytearray(image)
    at = rng.randrange(100)
    while at < len(out):
        out[at] = (out[at] + rng.choice([6, 12, 12, 244])) % 256
        at += rng.randrange(4, 300, 2)
    half = len(out) // 2
    return bytes(out[:half] + rng.randbytes(12) + out[half:])


BUILT, REBUILT = builds(2600, 0x0800_0000)
OLD = thumb(3, 256 * 1024)
NEW = moved_calls(OLD, 4)
NEAR = OLD[:70_000] + b"a fix" + OLD[70_005:]


def run(patch: bytes, base: bytes, result_length: int) -> int:
    """Decodes without keeping the result, as a device does; returns its length."""
    decoder = PatchDecoder(lambda offset, length: base[offset : offset + length], len(base), result_length)
    length = 0
    for at in range(0, len(patch), 512):
        for chunk in decoder.feed(patch[at : at + 512]):
            length += len(chunk)
    decoder.finish()
    return length


def test_the_same_input_gives_the_same_bytes() -> None:
    assert make_patch(OLD[:20_000], NEW[:20_000]) == make_patch(bytes(OLD[:20_000]), bytes(NEW[:20_000]))
    assert decoding.ALGORITHM == "hhp2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "result"),
    [(OLD, NEW), (OLD, NEAR), (OLD, OLD), (OLD, thumb(9, 256 * 1024)), (BUILT, REBUILT), builds(3000, 0, every=6)],
)
def test_decoding_keeps_to_its_working_memory(base: bytes, result: bytes) -> None:
    patch = make_patch(base, result)
    tracemalloc.start()
    try:
        length = run(patch, base, len(result))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == len(result)
    assert peak <= WORKING_MEMORY


def test_decoding_a_quarter_mebibyte_takes_well_under_a_second() -> None:
    patch = make_patch(OLD, NEW)
    start = time.process_time()
    assert run(patch, OLD, len(NEW)) == len(NEW)
    assert time.process_time() - start < 0.7


def test_a_small_fix_is_a_small_patch() -> None:
    assert len(make_patch(OLD, OLD)) < 32
    assert len(make_patch(OLD, NEAR)) < 64 < len(bsdiff4.diff(OLD, NEAR))
    assert len(make_patch(OLD, NEW)) < len(make_patch(b"", NEW)) / 50


def test_a_small_patch_states_the_smallest_window() -> None:
    assert make_patch(OLD, NEAR)[5] == decoding.MIN_WINDOW_BITS
    assert make_patch(b"", NEW)[5] == decoding.MAX_WINDOW_BITS


def test_a_patch_that_does_not_give_the_result_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_sections", lambda base, result, *_: [(b"", b"?" * len(result), 0)])
    with pytest.raises(OperationalError, match="does not give the result"):
        make_patch(b"base", b"result")
    assert run(make_patch(b"base", b"result", check=False), b"base", 6) == 6


def test_lengths_beyond_the_format_are_the_callers_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LIMIT_LENGTH", 10)
    with pytest.raises(MisuseError, match="at most"):
        make_patch(b"", bytes(11))
