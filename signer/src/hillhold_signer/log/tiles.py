"""Tiles: how a tree and its entries lie in files (C2SP tlog-tiles), and what an append adds to them. No I/O.

A tile holds up to 256 hashes of one level, 8 levels of the tree below the next level's: hash i of tile n at level l is the root over the
256**l entries from (n * 256 + i) * 256**l on. An entry bundle holds the entries of the tile at level 0, each after its length as two
bytes, big-endian. At the right edge of the tree tiles are partial; `edge` is what they hold, and all that an append or a root needs.

    tile/0/x001/x234/067         a full tile
    tile/1/000.p/17              a partial one, 17 hashes wide
    tile/entries/x001/x234/067   the bundle of the first
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hillhold_signer.errors import EntryRefused, LogRefused
from hillhold_signer.log.merkle import EMPTY_ROOT, HASH_SIZE, fold, leaf_hash

HEIGHT: Final = 8
"""Levels of the tree in a tile."""
WIDTH: Final = 1 << HEIGHT
"""Hashes in a full tile."""
ENTRIES: Final = -1
"""In place of a tile's level: the bundle of entries."""
MAX_LEVEL: Final = 63
MAX_ENTRY: Final = 65_535
"""Bytes of an entry, whose length is written in two."""
MAX_TILE: Final = WIDTH * HASH_SIZE
"""Bytes of a tile."""
MAX_BUNDLE: Final = WIDTH * (2 + MAX_ENTRY)
"""Bytes of a bundle."""

_PATH: Final = re.compile(r"tile/(entries|[1-9]?[0-9])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One tile, or the bundle of entries below one.

    Attributes:
        level: 0 to 63, or `ENTRIES`.
        index: number within the level.
        width: hashes or entries in it, 1 to 256.
    """

    level: int
    index: int
    width: int = WIDTH

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Return the tile of a path in its one form; raises `LogRefused`."""
        found = _PATH.fullmatch(path)
        if found:
            level = ENTRIES if found[1] == "entries" else int(found[1])
            tile = cls(level, int(re.sub("[x/]", "", found[2])), int(found[3] or WIDTH))
            # Written again it tells zeros too many, a level or width out of range.
            if level <= MAX_LEVEL and tile.width <= WIDTH and tile.path == path:
                return tile
        raise LogRefused(
            "tile path", expected="tile/LEVEL/NNN or tile/entries/NNN, with .p/WIDTH", got=f"{path[:80]!r}"
        )

    @property
    def full_path(self) -> str:
        """Path of the full tile."""
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        level = "entries" if self.level == ENTRIES else str(self.level)
        return "/".join(["tile", level, *(f"x{group}" for group in groups[:-1]), groups[-1]])

    @property
    def partials(self) -> str:
        """Path of the folder of its partial forms."""
        return f"{self.full_path}.p"

    @property
    def path(self) -> str:
        """Path of the tile, relative to the log."""
        return self.full_path if self.width == WIDTH else f"{self.partials}/{self.width}"

    @property
    def limit(self) -> int:
        """Bytes that it may have."""
        return MAX_BUNDLE if self.level == ENTRIES else self.width * HASH_SIZE


def tile_at(level: int, index: int, size: int) -> Tile:
    """Return the tile as it is in a tree of `size` entries: partial if it is the last of its level and not full.

    Raises:
        LogRefused: the tree is smaller.
    """
    width = min(WIDTH, (size >> HEIGHT * max(level, 0)) - index * WIDTH)
    if width < 1:
        raise LogRefused(Tile(level, index).full_path, expected="a tile of the tree", got=f"a tree of size {size}")
    return Tile(level, index, width)


def edge_tiles(size: int) -> list[Tile]:
    """Return the partial tiles of a tree of `size` entries, the lowest level first (tlog-tiles, Partial Tiles)."""
    levels = range(-(-size.bit_length() // HEIGHT))
    widths = [(size >> HEIGHT * level) % WIDTH for level in levels]
    return [Tile(level, size >> HEIGHT * (level + 1), width) for level, width in enumerate(widths) if width]


def split_hashes(data: bytes) -> list[bytes]:
    """Return the hashes in a tile's bytes."""
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the bytes of an entry bundle; raises `EntryRefused` for an entry that is too long."""
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise EntryRefused("log entry", expected=f"at most {MAX_ENTRY} bytes", got=len(entry))
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def decode_bundle(data: bytes, count: int, what: str) -> list[bytes]:
    """Return the first `count` entries of a bundle, which may have no more.

    Args:
        what: names it in errors.

    Raises:
        LogRefused: fewer or more, or the last is cut off.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < count:
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        entries.append(data[start:at])
    if at > len(data):
        raise LogRefused(what, expected=f"{count} entries", got=f"{len(entries) - 1} and one that is cut off")
    if len(entries) != count or at != len(data):
        raise LogRefused(what, expected=f"{count} entries", got=f"{len(entries)} and {len(data) - at} bytes")
    return entries


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree, from which it grows.

    Attributes:
        size: entries of the tree.
        hashes: by level, what the partial tile there holds.
        entries: those of the partial bundle.
    """

    size: int
    hashes: Mapping[int, Sequence[bytes]]
    entries: Sequence[bytes]

    @property
    def root(self) -> bytes:
        """Root of the tree."""
        return edge_root(self.hashes)

    def grown(self, new: Sequence[bytes]) -> tuple[Edge, dict[str, bytes]]:
        """Return the edge after these entries, and the files that are new, by path: entries first, then tiles upwards.

        Raises:
            EntryRefused: an entry is too long.
        """
        files: dict[str, bytes] = {}
        entries, at = [*self.entries, *new], self.size // WIDTH
        while len(entries) >= WIDTH:
            files[Tile(ENTRIES, at).path] = encode_bundle(entries[:WIDTH])
            entries, at = entries[WIDTH:], at + 1
        if entries and new:
            files[Tile(ENTRIES, at, len(entries)).path] = encode_bundle(entries)
        hashes = dict(self.hashes)
        rising, level = [leaf_hash(entry) for entry in new], 0
        while rising:
            held = [*self.hashes.get(level, ()), *rising]
            at, rising = self.size >> HEIGHT * (level + 1), []
            while len(held) >= WIDTH:
                files[Tile(level, at).path] = b"".join(held[:WIDTH])
                rising.append(fold(held[:WIDTH]))
                held, at = held[WIDTH:], at + 1
            if held:
                files[Tile(level, at, len(held)).path] = b"".join(held)
            hashes[level], level = held, level + 1
        return Edge(self.size + len(new), hashes, entries), files


def edge_root(hashes: Mapping[int, Sequence[bytes]]) -> bytes:
    """Return the root of the tree whose partial tiles hold these hashes, by level."""
    root: bytes | None = None
    for level in sorted(hashes):
        # What is below stands for one more, incomplete subtree at the right.
        row = [*hashes[level], *([root] if root is not None else [])]
        root = fold(row) if row else None
    return EMPTY_ROOT if root is None else root
