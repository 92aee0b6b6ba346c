"""The Merkle tree of RFC 6962, section 2: hashes, and proofs made and verified. No I/O: proofs are made of hashes that a callback knows.

A tree over n entries splits at the largest power of two below n. A *complete* subtree spans the entries from `index << level` up to
`(index + 1) << level`; every other subtree is made of complete ones, so a callback needs to know these alone.

Both proofs are lists of hashes from the bottom to the top, and both sides walk the same way through the tree: from the root down to the
entry, or to where the older tree ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

from hillhold_signer.errors import ProofRefused
from hillhold_verifier.errors import MisuseError, short

HASH_SIZE: Final = 32
"""Bytes of a hash: SHA-256."""
EMPTY_ROOT: Final = sha256(b"").digest()
"""Root of the tree without entries."""
MAX_SIZE: Final = 2**63 - 1
"""Entries of a tree: other implementations count in signed 64-bit integers."""
MAX_PROOF: Final = 63
"""Hashes of an inclusion proof in a tree of `MAX_SIZE`."""

Nodes: TypeAlias = Callable[[int, int], bytes]
"""Returns the hash of the complete subtree at (level, index)."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry (RFC 6962, 2.1: a first byte of 0 keeps leaves and nodes apart)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node above two subtrees (RFC 6962, 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over neighbouring subtrees of one size, of which the last may be a smaller one.

    Raises:
        MisuseError: there is none.
    """
    if not hashes:
        raise MisuseError("root of nothing: EMPTY_ROOT is the empty tree's")
    while len(hashes) > 1:
        paired = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes) - 1, 2)]
        hashes = [*paired, hashes[-1]] if len(hashes) % 2 else paired
    return hashes[0]


def tree_root(size: int, node: Nodes) -> bytes:
    """Return the root of the tree of the first `size` entries."""
    return _root(0, size, node) if size else EMPTY_ROOT


def prove_inclusion(index: int, size: int, node: Nodes) -> list[bytes]:
    """Return the proof that entry `index` is in the tree of `size` entries (RFC 6962, 2.1.1).

    Raises:
        MisuseError: there is no such entry.
    """
    if not 0 <= index < size:
        raise MisuseError(f"inclusion proof: expected an index below {size}, got {index}")
    return [_root(low, high, node) for low, high, _ in reversed(_way(index, size))]


def verify_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the entry with the hash `leaf` is number `index` of the tree of `size` entries with this `root`.

    Raises:
        ProofRefused: it is not, by this proof.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofRefused("inclusion proof", expected=f"an index below the tree's size, {size}", got=index)
    way = _way(index, size)
    _check_length("inclusion proof", len(way), proof)
    found = leaf
    for (_, _, left), other in zip(reversed(way), proof, strict=True):
        found = node_hash(other, found) if left else node_hash(found, other)
    _check_root(f"inclusion proof of entry {index} in the tree of size {size}", root, found)


def prove_consistency(old: int, size: int, node: Nodes) -> list[bytes]:
    """Return the proof that the tree of `size` entries begins with the tree of `old` (RFC 6962, 2.1.2); 0 needs none.

    Raises:
        MisuseError: the older tree is larger.
    """
    if not 0 <= old <= size:
        raise MisuseError(f"consistency proof: expected an older size up to {size}, got {old}")
    if old == 0:
        return []
    way = _way(old - 1, size, old)
    start, end = _end(way, size)
    own = [_root(start, end, node)] if start else []
    return own + [_root(low, high, node) for low, high, _ in reversed(way)]


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `size` entries with this `root` begins with the tree of `old` entries with `old_root`.

    Raises:
        ProofRefused: it does not, by this proof.
    """
    what = f"consistency of the tree of size {size} with that of size {old}"
    if not 0 <= old <= size <= MAX_SIZE:
        raise ProofRefused(what, expected="a tree that has grown", got="a smaller one")
    if old == 0:
        _check_length(what, 0, proof)
        _check_root(f"{what}: the empty tree's root", EMPTY_ROOT, old_root)
        return None if size else _check_root(f"{what}: the newer root", EMPTY_ROOT, root)
    way = _way(old - 1, size, old)
    start, _ = _end(way, size)
    _check_length(what, len(way) + bool(start), proof)
    # Where the older tree is a complete subtree at the left edge, its root is known and is left out of the proof.
    before = after = proof[0] if start else old_root
    for (_, _, left), other in zip(reversed(way), proof[1:] if start else proof, strict=True):
        if left:
            before = node_hash(other, before)
        after = node_hash(other if left else after, after if left else other)
    _check_root(f"{what}: the older root", old_root, before)
    _check_root(f"{what}: the newer root", root, after)


def _way(index: int, size: int, stop_at: int = -1) -> list[tuple[int, int, bool]]:
    """The subtrees beside the way from the root down to entry `index`, or to the subtree that ends at `stop_at`.

    Each is (first entry, end, whether it lies to the left).
    """
    low, high, beside = 0, size, []
    while high - low > 1 and high != stop_at:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if index < middle:
            beside.append((middle, high, False))
            high = middle
        else:
            beside.append((low, middle, True))
            low = middle
    return beside


def _end(way: list[tuple[int, int, bool]], size: int) -> tuple[int, int]:
    """Where a way has led: first entry and end of the subtree there."""
    low, high = 0, size
    for first, last, left in way:
        low, high = (last, high) if left else (low, first)
    return low, high


def _root(low: int, high: int, node: Nodes) -> bytes:
    """The hash over the entries from `low` to `high`, which is a subtree of some tree: complete ones, the largest first."""
    peaks = []
    while low < high:
        level = (high - low).bit_length() - 1
        peaks.append(node(level, low >> level))
        low += 1 << level
    found = peaks.pop()
    while peaks:
        found = node_hash(peaks.pop(), found)
    return found


def _check_length(what: str, expected: int, proof: Sequence[bytes]) -> None:
    if len(proof) != expected:
        raise ProofRefused(what, expected=f"a proof of {expected} hashes", got=len(proof))


def _check_root(what: str, expected: bytes, found: bytes) -> None:
    if found != expected:
        raise ProofRefused(what, expected=f"the root {short(expected)}", got=short(found))
