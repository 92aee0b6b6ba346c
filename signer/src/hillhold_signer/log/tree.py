"""A log's tree as it lies in tiles, read by way of a callback. Nothing is returned that the checkpoint's root does not vouch for.

The partial tiles at the right edge hash to the root; each full tile hashes to what its parent holds of it; each entry
hashes to what its tile holds. So a wrong tile or entry is found when it is read, and named. Who serves the files is trusted with nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, Protocol

from hillhold_signer.errors import LogRefused
from hillhold_signer.log.merkle import HASH_SIZE, fold, leaf_hash, prove_consistency, prove_inclusion
from hillhold_signer.log.tiles import (
    ENTRIES,
    HEIGHT,
    MAX_BUNDLE,
    MAX_TILE,
    WIDTH,
    Edge,
    Tile,
    decode_bundle,
    edge_root,
    edge_tiles,
    split_hashes,
    tile_at,
)
from hillhold_verifier.errors import MisuseError, short


class Reader(Protocol):
    """Where a log's files lie."""

    def read(self, path: str, limit: int) -> bytes | None:
        """Return the file at `path`, relative to the log; None where there is none.

        Args:
            limit: bytes; a longer file is refused.

        Raises:
            FileRefused: it is longer.
            OperationalError: it cannot be read.
        """
        ...

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder; none where it does not exist, or where this reader cannot know."""
        ...


class Tree:
    """The tree of a checkpoint.

    Args:
        reader: where the files lie.
        size: entries of the tree.
        root: the root that they must have.

    Raises:
        LogRefused: the edge of the tree does not have this root, or is not there.
        OperationalError: it cannot be read.
    """

    def __init__(self, reader: Reader, size: int, root: bytes) -> None:
        self._reader, self.size, self.root = reader, size, root
        self._edge = {tile.level: split_hashes(read_tile(reader, tile)) for tile in edge_tiles(size)}
        self._latest: dict[int, tuple[int, list[bytes]]] = {}
        if edge_root(self._edge) != root:
            self._blame()

    @property
    def tiles(self) -> int:
        """Number of tiles at level 0, and of bundles."""
        return -(-self.size // WIDTH)

    def tile(self, level: int, index: int) -> list[bytes]:
        """Return the hashes of a tile.

        Raises:
            LogRefused: it is missing, or not the one that the root vouches for.
            OperationalError: it cannot be read.
        """
        tile = tile_at(level, index, self.size)
        if tile.width < WIDTH:
            return self._edge[level]
        held = self._latest.get(level)
        if held and held[0] == index:
            return held[1]
        expected = self.tile(level + 1, index // WIDTH)[index % WIDTH]
        hashes = split_hashes(read_tile(self._reader, tile))
        if (found := fold(hashes)) != expected:
            raise LogRefused(
                tile.path, expected=f"the hash {short(expected)}, as its parent states", got=short(found), hint=_ALTERED
            )
        self._latest[level] = index, hashes
        return hashes

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree at a level of the tree; raises as `tile`."""
        above, within = divmod(level, HEIGHT)
        first = index << within
        hashes = self.tile(above, first // WIDTH)
        return fold(hashes[first % WIDTH : first % WIDTH + (1 << within)])

    def entries(self, index: int) -> list[bytes]:
        """Return the entries of a bundle.

        Raises:
            LogRefused: it is missing, or an entry is not the one that its tile vouches for.
            OperationalError: it cannot be read.
        """
        tile = tile_at(ENTRIES, index, self.size)
        hashes = self.tile(0, index)
        entries = read_bundle(self._reader, tile)
        for at, (entry, expected) in enumerate(zip(entries, hashes, strict=True)):
            if (found := leaf_hash(entry)) != expected:
                number, stated = index * WIDTH + at, f"the hash {short(expected)}, as its tile states"
                raise LogRefused(f"entry {number} in {tile.path}", expected=stated, got=short(found), hint=_ALTERED)
        return entries

    def entry(self, index: int) -> bytes:
        """Return one entry; raises as `entries`, and `LogRefused` where there is none."""
        if not 0 <= index < self.size:
            raise LogRefused("index of an entry", expected=f"below the log's size, {self.size}", got=index)
        return self.entries(index // WIDTH)[index % WIDTH]

    def iterate(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield the entries from `start` on, each with its index; raises as `entries`."""
        for index in range(start // WIDTH, self.tiles):
            for at, entry in enumerate(self.entries(index), index * WIDTH):
                if at >= start:
                    yield at, entry

    def prove_inclusion(self, index: int) -> list[bytes]:
        """Return the proof that entry `index` is in this tree; raises as `tile`."""
        return prove_inclusion(index, self.size, self.node)

    def prove_consistency(self, old: int) -> list[bytes]:
        """Return the proof that this tree begins with the one of `old` entries; raises as `tile`."""
        return prove_consistency(old, self.size, self.node)

    def edge(self) -> Edge:
        """Return the edge, from which the tree grows; raises as `entries`."""
        entries = self.entries(self.tiles - 1) if self.size % WIDTH else []
        return Edge(self.size, self._edge, entries)

    def _blame(self) -> NoReturn:
        """Name the file at the edge that is wrong: the tile which, made anew of what lies below it, gives the root."""
        for level, held in self._edge.items():
            tile = tile_at(level, self.size >> HEIGHT * (level + 1), self.size)
            below = self._below(tile)
            if below == held:
                continue
            at = next(at for at, pair in enumerate(zip(held, below, strict=True)) if pair[0] != pair[1])
            if edge_root({**self._edge, level: below}) == self.root:
                what, made = f"hash {at} in {tile.path}", "what lies below it"
                raise LogRefused(what, expected=f"{short(below[at])}, of {made}", got=short(held[at]), hint=_ALTERED)
            number = tile.index * WIDTH + at
            child = f"entry {number}" if level == 0 else Tile(level - 1, number).path
            what, got = f"{tile.path} and {child} below it", f"{short(held[at])} and {short(below[at])}"
            raise LogRefused(what, expected="one hash", got=got, hint=_ALTERED)
        got = f"a tree with the root {short(edge_root(self._edge))}"
        hint = "the tiles agree with each other: the checkpoint is another log's, or the whole log was made anew"
        what = f"checkpoint of size {self.size}"
        raise LogRefused(what, expected=f"a tree with its root {short(self.root)}", got=got, hint=hint)

    def _below(self, tile: Tile) -> list[bytes]:
        """The hashes that a tile should hold, by what lies below it."""
        if tile.level == 0:
            return [leaf_hash(entry) for entry in read_bundle(self._reader, Tile(ENTRIES, tile.index, tile.width))]
        first = tile.index * WIDTH
        tiles = [Tile(tile.level - 1, index) for index in range(first, first + tile.width)]
        return [fold(split_hashes(read_tile(self._reader, one))) for one in tiles]


_ALTERED = "the log was altered or damaged: keep this copy as evidence, and compare it with another"


def read_tile(reader: Reader, tile: Tile) -> bytes:
    """Return the bytes of a tile, which nothing vouches for; the full one serves where its partial form is gone.

    Raises:
        LogRefused: it is missing, or of another length.
        OperationalError: it cannot be read.
    """
    if tile.level == ENTRIES:
        raise MisuseError("read_tile: a bundle is no tile")
    length = tile.width * HASH_SIZE
    data = reader.read(tile.path, length)
    if data is None and tile.width < WIDTH and (whole := reader.read(tile.full_path, MAX_TILE)):
        data = whole[:length]
    if data is None or len(data) != length:
        raise LogRefused(tile.path, expected=f"{length} bytes", got=_length(data))
    return data


def read_bundle(reader: Reader, tile: Tile) -> list[bytes]:
    """Return the entries of a bundle as `read_tile` does a tile."""
    data, count, path = reader.read(tile.path, MAX_BUNDLE), tile.width, tile.path
    if data is None and tile.width < WIDTH:
        data, count, path = reader.read(tile.full_path, MAX_BUNDLE), WIDTH, tile.full_path
    if data is None:
        raise LogRefused(tile.path, expected=f"{tile.width} entries", got=_length(data))
    return decode_bundle(data, count, path)[: tile.width]


def _length(data: bytes | None) -> str:
    return "no such file" if data is None else f"{len(data)} bytes"
