"""Whatever is found of the base in the result, right patches are made of it, and they are about as small as with bsdiff4 alone."""

from __future__ import annotations

import random

import bsdiff4.core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hillhold_signer import matching
from hillhold_signer.matching import BLOCK, LONG, MARGIN, SMALL, Match, matches
from hillhold_signer.patches import make_patch
from linker import builds

BUILT, REBUILT = builds(1200, 0x8000)
NOISE = random.Random(1).randbytes(60_000)


def edited(base: bytes, edits: list[tuple[str, int, int, int]]) -> bytes:
    out = bytearray(base)
    for kind, at, other, length in edits:
        here, there = at % (len(out) + 1), other % (len(out) + 1)
        part = bytes(out[there : there + length])
        if kind in ("cut", "moved"):
            del out[there : there + length]
        if kind in ("copied", "moved"):
            out[here:here] = part
        if kind == "new":
            out[here:here] = random.Random(other).randbytes(length)
        if kind == "changed" and here < len(out):
            out[here] ^= 1 + other % 255
    return bytes(out)


edits = st.lists(
    st.tuples(
        st.sampled_from(["cut", "moved", "copied", "new", "changed"]),
        *(st.integers(0, 2**20), st.integers(0, 2**20), st.integers(1, 3 * LONG)),
    ),
    max_size=6,
)
bases = st.builds(
    lambda start, length, flat, times: (BUILT[start : start + length] + b"\xff" * flat) * times,
    *(st.integers(0, 20_000), st.integers(0, 5000), st.sampled_from([0, 1, 40, 1000]), st.integers(1, 3)),
)


def well_formed(found: list[Match], base: bytes, result: bytes) -> bool:
    ends = [0, *(match.result + match.length for match in found)]
    return ends[-1] <= len(result) and all(
        match.length > 0 and match.result >= end and 0 <= match.base <= match.base + match.length <= len(base)
        for match, end in zip(found, ends, strict=False)
    )


@settings(max_examples=150)
@given(bases, edits)
def test_of_any_result_of_it_a_right_patch_is_made(base: bytes, kinds: list[tuple[str, int, int, int]]) -> None:
    result = edited(base, kinds)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(matching, "SMALL", 0)
        found = matches(base, result)
        assert well_formed(found, base, result)
        make_patch(base, result)  # applies it
        for run in matching._runs(base, result, blocks(base)):
            assert run.length >= LONG
            assert base[run.base : run.base + run.length] == result[run.result : run.result + run.length]


def blocks(base: bytes) -> dict[bytes, int]:
    return {base[at : at + BLOCK]: at for at in range(0, len(base) - BLOCK + 1, BLOCK)}


@pytest.mark.parametrize("at", [0, 1, 31, 32, 191, 192, 777])
def test_every_run_that_is_long_enough_is_found_wherever_it_lies(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "LEAST", 0)
    run, before, behind = NOISE[:LONG], random.Random(2).randbytes(at), random.Random(3).randbytes(500)
    for offset in range(BLOCK):
        base = NOISE[5000 : 5000 + 1000 + offset] + run + NOISE[9000:10_000]
        assert matching._runs(base, before + run + behind, blocks(base)) == [Match(1000 + offset, at, LONG)]
    assert matching._runs(base, before + run[1:] + behind, blocks(base)) == []


def test_bsdiff4_gets_only_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    diff = bsdiff4.core.diff

    def counted(base: bytes, result: bytes) -> object:
        asked.append(len(base))
        return diff(base, result)

    monkeypatch.setattr(bsdiff4.core, "diff", counted)
    fixed = NOISE[:20_000] + b"a fix" + NOISE[20_005:]
    assert len(NOISE) >= SMALL // 2
    assert matches(NOISE, fixed) == [Match(0, 0, 60_000)]
    inserted = NOISE[:20_000] + random.Random(2).randbytes(400) + NOISE[20_000:]
    assert matches(NOISE, inserted) == [Match(0, 0, 20_000), Match(20_000, 20_400, 40_000)]
    assert max(asked) <= 4 * MARGIN + 10


def test_a_copy_of_what_bsdiff4_did_not_get_is_found_all_the_same() -> None:
    copied = NOISE[:20_000] + NOISE[40_100:40_400] + NOISE[20_000:]
    assert matches(NOISE, copied) == [Match(0, 0, 20_000), Match(40_100, 20_000, 300), Match(20_000, 20_300, 40_000)]


@pytest.mark.parametrize("kind", ["cut", "moved", "copied", "new", "changed"])
def test_patches_are_as_small_as_with_bsdiff4_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(kind)
    some = [(kind, rng.randrange(2**20) & ~1, rng.randrange(2**20) & ~1, rng.randrange(2, 600, 2)) for _ in range(12)]
    result = edited(REBUILT, some)
    ours = len(make_patch(BUILT, result))
    monkeypatch.setattr(matching, "SMALL", 2**30)
    assert ours <= len(make_patch(BUILT, result)) * 1.1
