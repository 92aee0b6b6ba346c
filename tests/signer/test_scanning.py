"""What is found of addresses in whole images is what the decoder finds, piece by piece."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hillhold_signer.moving import Addresses, Corrected
from hillhold_signer.scanning import RAM, RAM_LENGTH, branch_offsets, halfwords, load_address, words
from hillhold_signer.scanning import _pointers as pointers
from hillhold_verifier.moves import Moves, branch_offset, branches
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
    assert words(raw, load, len(raw)) == list(Moves(len(raw), load, RAM, RAM_LENGTH).words(raw))
    found = list(branches(raw))
    assert branch_offsets(halfwords(raw), [at >> 1 for at in found]) == [branch_offset(raw, at) for at in found]


def test_every_offset_of_a_branch_is_read_as_the_decoder_reads_it() -> None:
    firsts = [0xF000 | bits for bits in (0, 1, 0x3FF, 0x400, 0x7FF, 0x555)]
    seconds = [0x9000 | bits for bits in range(0x7000) if bits & 0x7FF in (0, 1, 0x7FF, 0x2AA)]
    raw = b"".join(first.to_bytes(2, "little") + second.to_bytes(2, "little") for first in firsts for second in seconds)
    assert branch_offsets(halfwords(raw), range(0, len(raw) // 2, 2)) == [
        branch_offset(raw, at) for at in range(0, len(raw), 4)
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
    corrected = Corrected(addresses, moves)
    for _ in range(5):
        start = data.draw(st.integers(0, len(base) - 1))
        length = data.draw(st.integers(1, len(base) - start))
        way = data.draw(st.integers(-200, 200))
        held = moves.read(lambda at, count: base[at : at + count], start, length, way)
        assert corrected.read(start, length, way) == held


@given(st.integers(0, 2**32), st.integers(0, 300))
def test_pointers_are_odd_words_beside_words_that_are_nearly_the_same(seed: int, length: int) -> None:
    rng = random.Random(seed)
    raw = b"".join(rng.choice([0, 1, 0xFFFFF, 0x100000, 0x8001235]).to_bytes(4, "little") for _ in range(length // 4))
    raw += bytes(length % 4)
    held = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw) & ~3, 4)]
    assert pointers(raw) == {word - 1 for before, word in pairwise(held) if word & 1 and not (before ^ word) >> 20}


def test_few_pointers_say_nothing_of_where_an_image_runs() -> None:
    image = builds(300, 0x8000)[0]
    assert load_address(image) == 0x8000
    assert load_address(image[:1500]) is None
