"""The tree: hashes and proofs against RFC 6962 as it is written, tiles against C2SP's examples, and proofs that must not verify."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hillhold_signer.errors import EntryRefused, LogRefused, ProofRefused
from hillhold_signer.log.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    fold,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from hillhold_signer.log.tiles import (
    ENTRIES,
    Edge,
    Tile,
    decode_bundle,
    edge_root,
    edge_tiles,
    encode_bundle,
    tile_at,
)
from hillhold_verifier.errors import MisuseError
from logs import mth, path, proof

LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes.fromhex("606162636465666768696a6b6c6d6e6f")
]
"""The entries by which implementations of Certificate Transparency have always been tested, with the roots of their trees."""
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Known:
    """Complete subtrees of some entries, as a callback."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries

    def __call__(self, level: int, index: int) -> bytes:
        part = self.entries[index << level : (index + 1) << level]
        assert len(part) == 1 << level, "asked for a subtree that is not complete"
        return mth(part)


def numbered(count: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(count)]


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_certificate_transparencys_entries(size: int) -> None:
    assert tree_root(size, Known(LEAVES)).hex() == ROOTS[size]
    assert (fold([leaf_hash(entry) for entry in LEAVES[:size]]) if size else EMPTY_ROOT).hex() == ROOTS[size]


def test_every_proof_of_every_small_tree_is_the_one_of_rfc_6962_and_verifies() -> None:
    for size in range(1, 40):
        entries = numbered(size)
        root, known = mth(entries), Known(entries)
        for index in range(size):
            found = prove_inclusion(index, size, known)
            assert found == path(index, entries)
            verify_inclusion(index, size, leaf_hash(entries[index]), root, found)
        for old in range(size + 1):
            found = prove_consistency(old, size, known)
            assert found == (proof(old, entries) if old else [])
            verify_consistency(old, mth(entries[:old]), size, root, found)


@given(st.integers(1, 700), st.data())
def test_a_proof_verifies_for_its_own_place_and_no_other(size: int, data: st.DataObject) -> None:
    entries = numbered(size)
    root, index = mth(entries), data.draw(st.integers(0, size - 1))
    found = prove_inclusion(index, size, Known(entries))
    leaf = leaf_hash(entries[index])
    verify_inclusion(index, size, leaf, root, found)
    other = data.draw(st.integers(0, size + 5).filter(lambda value: value != index))
    with pytest.raises(ProofRefused):
        verify_inclusion(other, size, leaf, root, found)
    with pytest.raises(ProofRefused):
        verify_inclusion(index, size, leaf_hash(b"another"), root, found)
    for wrong in (found[:-1], [*found, root], [root, *found], [*found[:-1], leaf], found[::-1]):
        if wrong != found:
            with pytest.raises(ProofRefused):
                verify_inclusion(index, size, leaf, root, wrong)


@given(st.integers(1, 700), st.data())
def test_a_consistency_proof_verifies_for_its_own_trees_and_no_others(size: int, data: st.DataObject) -> None:
    entries = numbered(size)
    root, old = mth(entries), data.draw(st.integers(1, size))
    older, found = mth(entries[:old]), prove_consistency(old, size, Known(entries))
    verify_consistency(old, older, size, root, found)
    forked = mth([*entries[: old - 1], b"another"])
    for roots in ((forked, root), (older, mth([*entries[:-1], b"another"])), (root, older), (EMPTY_ROOT, root)):
        if roots != (older, root):
            with pytest.raises(ProofRefused):
                verify_consistency(old, roots[0], size, roots[1], found)
    for sizes in ((old + 1, size), (old - 1, size), (size, old), (old, size * 2), (-1, size), (old, MAX_SIZE + 1)):
        if sizes != (old, size):
            with pytest.raises(ProofRefused):
                verify_consistency(sizes[0], older, sizes[1], root, found)
    for wrong in (found[:-1], [*found, root], [root, *found]):
        if wrong != found:
            with pytest.raises(ProofRefused):
                verify_consistency(old, older, size, root, wrong)


def test_the_empty_tree_is_followed_by_any_and_is_only_itself() -> None:
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 5, mth(numbered(5)), [])
    for old_root, size, root, hashes in (
        (leaf_hash(b""), 5, EMPTY_ROOT, []),
        (EMPTY_ROOT, 0, leaf_hash(b""), []),
        (EMPTY_ROOT, 5, EMPTY_ROOT, [EMPTY_ROOT]),
    ):
        with pytest.raises(ProofRefused):
            verify_consistency(0, old_root, size, root, hashes)


def test_proofs_of_what_is_not_there_are_the_callers_mistake() -> None:
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(MisuseError):
            prove_inclusion(index, size, Known(numbered(5)))
    for old, size in ((6, 5), (-1, 5)):
        with pytest.raises(MisuseError):
            prove_consistency(old, size, Known(numbered(5)))
    with pytest.raises(MisuseError):
        fold([])


def test_a_node_is_no_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize(
    ("tile", "text"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 0, 255), "tile/0/000.p/255"),
        (Tile(1, 0, 17), "tile/1/000.p/17"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(63, 1234067), "tile/63/x001/x234/067"),
        (Tile(15, 123456789, 41), "tile/15/x123/x456/789.p/41"),
        (Tile(ENTRIES, 0), "tile/entries/000"),
        (Tile(ENTRIES, 255, 253), "tile/entries/255.p/253"),
        (Tile(ENTRIES, 1234067), "tile/entries/x001/x234/067"),
    ],
)
def test_paths_of_tiles(tile: Tile, text: str) -> None:
    assert tile.path == text
    assert Tile.parse(text) == tile


@pytest.mark.parametrize(
    "text",
    [
        *("", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/64/000"),
        *("tile/-1/000", "tile/data/000", "tile/0/001/000", "tile/0/x000/001", "tile/0/x001/x000", "tile/0/000.p"),
        *(
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/999",
            "tile/0/000.p/-1",
            "tile/0/000.p/1/2",
        ),
        *("/tile/0/000", "tile/0/000/", "tile/0/000\n", "tile//0/000", "tile/0/../000", "tile/0/../../checkpoint"),
        *(
            "tile/entries/../../../etc/passwd",
            "../tile/0/000",
            "tile/0/000.p/1\0",
            "tile/0/٠٠٠",
            "TILE/0/000",
            "tile\\0\\000",
        ),
        *("checkpoint", ".pending", "tile/0/" + "x001/" * 7 + "000"),
    ],
)
def test_paths_that_are_no_tiles(text: str) -> None:
    with pytest.raises(LogRefused):
        Tile.parse(text)


@given(st.integers(-1, 63), st.integers(0, 10**18), st.integers(1, 256))
def test_every_tile_comes_back_from_its_path(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.parse(tile.path) == tile


def test_the_tiles_of_c2sps_example() -> None:
    assert [tile.path for tile in edge_tiles(70_000)] == ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    assert [tile.path for tile in edge_tiles(256)] == ["tile/1/000.p/1"]
    assert edge_tiles(0) == []
    assert tile_at(0, 272, 70_000).path == "tile/0/272"
    assert tile_at(1, 0, 70_000).path == "tile/1/000"
    assert tile_at(ENTRIES, 273, 70_000).path == "tile/entries/273.p/112"
    for level, index, size in ((0, 274, 70_000), (0, 0, 0), (0, 1, 256), (ENTRIES, 1, 256), (1, 0, 255)):
        with pytest.raises(LogRefused):
            tile_at(level, index, size)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_a_tree_that_grows_has_the_root_and_the_tiles_that_its_entries_say(batches: list[int]) -> None:
    edge, entries = Edge(0, {}, []), numbered(sum(batches))
    files: dict[str, bytes] = {}
    for count in batches:
        edge, new = edge.grown(entries[edge.size : edge.size + count])
        assert not files.keys() & new.keys()
        files.update(new)
        assert edge.root == mth(entries[: edge.size])
    for at in range(0, edge.size // 256):
        part = entries[at * 256 : (at + 1) * 256]
        assert files[Tile(0, at).path] == b"".join(map(leaf_hash, part))
        assert decode_bundle(files[Tile(ENTRIES, at).path], 256, "bundle") == part
        assert files[tile_at(1, 0, edge.size).path][at * 32 : at * 32 + 32] == mth(part)
    assert edge_root({tile.level: edge.hashes[tile.level] for tile in edge_tiles(edge.size)}) == edge.root


def test_a_tree_of_three_levels_by_its_edge_alone() -> None:
    edge = Edge(0, {}, [])
    for _ in range(4):
        edge, files = edge.grown([b"same"] * 16_400)
    assert edge.size == 65_600
    assert sorted(edge.hashes) == [0, 1, 2]
    assert edge.root == tree_root(edge.size, lambda level, index: fold([leaf_hash(b"same")] * (1 << level)))
    assert "tile/1/000" in files
    assert files["tile/2/000.p/1"] == fold([leaf_hash(b"same")] * 65_536)


def test_bundles_keep_entries_of_every_length() -> None:
    entries = [b"", b"x", b"y" * 65_535]
    data = encode_bundle(entries)
    assert data == b"\0\0\0\1x\xff\xff" + b"y" * 65_535
    assert decode_bundle(data, 3, "bundle") == entries
    with pytest.raises(EntryRefused, match="at most 65535 bytes, got 65536"):
        encode_bundle([b"z" * 65_536])


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 1),
        (b"\0", 1),
        (b"\0\1", 1),
        (b"\0\1x\0", 1),
        (b"\0\1x", 2),
        (b"\0\1x\0\1y", 1),
        (b"\xff\xffx", 1),
        (b"\0\0", 0),
    ],
)
def test_bundles_that_do_not_hold_what_they_should(data: bytes, count: int) -> None:
    with pytest.raises(LogRefused):
        decode_bundle(data, count, "bundle")
