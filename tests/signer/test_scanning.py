"""What is found of addresses in whole images is what the decoder finds, piece by piece."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hillhold_signer.matching import Match
from hillhold_signer.moving import Addresses
from hillhold_signer.scanning import (
    RAM,
    RAM_LENGTH,
    branch_offsets,
    branches,
    branches_with,
    load_address,
    octets,
    words,
)
from hillhold_signer.scanning import _pointers as pointers
from hillhold_verifier import moves as decoder
from hillhold_verifier.moves import Moves, branch_offset, branch_with
from linker import builds

LOADS = [0, 0x8000, 0x00FF_FF00, RAM - 0x100, RAM + 0x1_0000, RAM + RAM_LENGTH - 0x100, 2**32 - 4096]


def dense(seed: int, length: int, load: int) -> bytes:
    """Branches and pointers close by each other, some of them within others, at any end."""
    rng = random.Random(seed)
    parts = [
        lambda: b"%c\xf0%c\xf8" % (rng.randrange(256), rng.randrange(256)),
        lambda: bytes([rng.randrange(256), 0xF0 | rng.randrange(8), rng.randrange(256), rng.randrange(0x80, 0x100)]),
        lambda: (load + rng.randrange(-8, length + 8) & 2**32 - 1).to_bytes(4, "little"),
        lambda: (RAM + rng.choice([rng.randrange(-8, 5000), RAM_LENGTH - rng.randrange(8)])).to_bytes(4, "little"),
        lambda: rng.randbytes(2),
    ]
    return b"".join(rng.choice(parts)() for _ in range(length))[:length]


images = st.builds(
    lambda seed, length, load: (dense(seed, length, load), load),
    st.integers(0, 2**32),
    st.integers(1, 4096),
    st.sampled_from(LOADS),
)


@given(images)
def test_words_and_branches_are_those_of_the_decoder(image: tuple[bytes, int]) -> None:
    raw, load = image
    held = words(raw, load, len(raw))
    assert list(zip(*map(np.ndarray.tolist, held), strict=True)) == list(
        Moves(len(raw), load, RAM, RAM_LENGTH).words(raw)
    )
    found = branches(raw)
    assert found.tolist() == list(decoder.branches(raw))
    assert branch_offsets(octets(raw), found).tolist() == [branch_offset(raw, at) for at in found.tolist()]


def test_every_offset_of_a_branch_is_read_as_the_decoder_reads_it() -> None:
    firsts = [0xF000 | bits for bits in (0, 1, 0x3FF, 0x400, 0x7FF, 0x555)]
    seconds = [0x9000 | bits for bits in range(0x7000) if bits & 0x7FF in (0, 1, 0x7FF, 0x2AA)]
    raw = b"".join(first.to_bytes(2, "little") + second.to_bytes(2, "little") for first in firsts for second in seconds)
    starts = np.arange(0, len(raw), 4)
    assert branch_offsets(octets(raw), starts).tolist() == [branch_offset(raw, at) for at in range(0, len(raw), 4)]


def test_a_branch_gets_another_offset_as_the_decoder_gives_it() -> None:
    rng = random.Random(1)
    raw = b"".join(
        bytes([rng.randrange(256), 0xF0, rng.randrange(256), 0x90 | rng.randrange(256)]) for _ in range(3000)
    )
    starts = np.arange(0, len(raw), 4)
    offsets = [2 * rng.randrange(-(2**24), 2**24) for _ in starts]
    assert branches_with(octets(raw), starts, np.array(offsets)).tolist() == [
        int.from_bytes(branch_with(raw, at, offset), "little")
        for at, offset in zip(starts.tolist(), offsets, strict=True)
    ]


@settings(max_examples=200)
@given(images, st.data())
def test_the_base_is_corrected_as_the_decoder_corrects_it(image: tuple[bytes, int], data: st.DataObject) -> None:
    base, load = image
    addresses = Addresses(base, base)
    addresses.load, addresses.words = load, words(base, load, len(base))
    moves = Moves(len(base), load, RAM, data.draw(st.integers(0, 5001)))
    last = -1
    for place in sorted(data.draw(st.sets(st.integers(0, len(base) + moves.ram_length - 1), max_size=20))):
        moves.add(place - max(last, 0), data.draw(st.integers(-3000, 3000)))
        last = place
    matches, held, made = [], b"", 0
    for _ in range(5):
        start = data.draw(st.integers(0, len(base) - 1))
        length = data.draw(st.integers(1, len(base) - start))
        between = data.draw(st.integers(0, 200))
        new = made + between
        matches.append(Match(start, new, length))
        held += b"\xcc" * between + moves.read(lambda at, count: base[at : at + count], start, length, new - start)
        made = new + length
    addresses.result = b"\xcc" * made
    assert addresses.held(matches, moves).tobytes() == held


@given(st.integers(0, 2**32), st.integers(0, 300))
def test_pointers_are_odd_words_beside_words_that_are_nearly_the_same(seed: int, length: int) -> None:
    rng = random.Random(seed)
    raw = b"".join(rng.choice([0, 1, 0xFFFFF, 0x100000, 0x8001235]).to_bytes(4, "little") for _ in range(length // 4))
    raw += bytes(length % 4)
    held = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw) & ~3, 4)]
    assert pointers(raw).tolist() == sorted(
        {word - 1 for before, word in pairwise(held) if word & 1 and not (before ^ word) >> 20}
    )


def test_few_pointers_say_nothing_of_where_an_image_runs() -> None:
    image = builds(300, 0x8000)[0]
    assert load_address(image) == 0x8000
    assert load_address(image[:1500]) is None


def test_where_everything_looks_like_a_function_nothing_is_said() -> None:
    functions = b"\x00\xb5" * 300_000
    pointers = b"".join((0x0802_0001 + 0x100 * n).to_bytes(4, "little") for n in range(1000))
    assert load_address(functions + pointers) is None


def test_of_very_many_pointers_a_part_says_where_an_image_runs() -> None:
    functions = b"\x00\xb5" + bytes(60)
    image = functions * 20_000
    pointers = b"".join((0x0802_0001 + len(functions) * n).to_bytes(4, "little") for n in range(0, 20_000, 2))
    assert load_address(image + pointers) == 0x0802_0000
