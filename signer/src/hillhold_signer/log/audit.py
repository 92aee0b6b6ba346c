"""Check a log as an outsider: all of it, and that it goes on from every checkpoint that the auditor kept.

`audit` reads each tile and each entry once, from the root down, so that the first one that is wrong is named. A folder is also searched for
tiles that the checkpoint does not cover, which a log leaves behind that was set back, and its older partial tiles are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hillhold_signer.errors import LogRefused, ProofRefused
from hillhold_signer.log.checkpoint import PATH, Checkpoint, SignedCheckpoint, open_checkpoint, read_checkpoint
from hillhold_signer.log.merkle import verify_consistency
from hillhold_signer.log.note import MAX_NOTE, Verifier
from hillhold_signer.log.stores import PENDING
from hillhold_signer.log.tiles import ENTRIES, HEIGHT, WIDTH, Tile, encode_bundle, tile_at
from hillhold_signer.log.tree import Reader, Tree
from hillhold_signer.log.writer import MAX_PENDING
from hillhold_verifier.errors import short

_FORKED: Final = (
    "this log has shown two pasts, and whoever holds its key signed both: keep both checkpoints as evidence"
)


def fetch_checkpoint(reader: Reader, verifiers: Sequence[Verifier]) -> SignedCheckpoint:
    """Read a log's checkpoint, and verify it if there are keys.

    Args:
        verifiers: the log's key and those of witnesses; none takes the checkpoint's word.

    Raises:
        LogRefused: there is none.
        NoteRefused: malformed, or not signed by the log.
        OperationalError: it cannot be read.
    """
    data = reader.read(PATH, MAX_NOTE)
    if data is None:
        raise LogRefused("log", expected=f"a file `{PATH}`", got="none", hint="name the folder or URL that holds it")
    return open_kept(data, verifiers)


def open_kept(data: bytes, verifiers: Sequence[Verifier]) -> SignedCheckpoint:
    """Open a checkpoint that somebody kept, as `fetch_checkpoint` does; raises `NoteRefused`."""
    return open_checkpoint(data, verifiers) if verifiers else read_checkpoint(data)


def audit(
    reader: Reader,
    signed: SignedCheckpoint,
    kept: Sequence[Checkpoint] = (),
    report: Callable[[int], object] | None = None,
) -> None:
    """Check all of a log.

    Args:
        reader: where it lies.
        signed: its checkpoint, from `fetch_checkpoint`; what that was opened with is what vouches for the log.
        kept: checkpoints of this log that were seen earlier.
        report: called with the number of entries checked so far.

    Raises:
        LogRefused: something was altered, is missing, or contradicts a checkpoint that was kept.
        OperationalError: it cannot be read.
    """
    checkpoint = signed.checkpoint
    for older in kept:  # before anything is read: whoever is shown two pasts should learn that first
        _check_follows(older, checkpoint)
    tree = Tree(reader, checkpoint.size, checkpoint.root)
    for older in kept:
        check_consistent(tree, older)
    for index in range(tree.tiles):
        tree.entries(index)
        if report:
            report(min((index + 1) * WIDTH, tree.size))
    _check_others(reader, tree)


def check_consistent(tree: Tree, older: Checkpoint) -> None:
    """Check that a tree goes on from an older checkpoint.

    Raises:
        LogRefused: it does not: it was set back or forked, or its tiles were altered.
        OperationalError: it cannot be read.
    """
    _check_follows(older, Checkpoint(older.origin, tree.size, tree.root))
    proof = tree.prove_consistency(older.size)
    try:
        verify_consistency(older.size, older.root, tree.size, tree.root, proof)
    except ProofRefused as error:
        what = f"log of size {tree.size}"
        expected = f"to go on from the kept checkpoint of size {older.size}, root {short(older.root)}"
        raise LogRefused(what, expected=expected, got="another past", hint=_FORKED) from error


def _check_follows(older: Checkpoint, newer: Checkpoint) -> None:
    """What needs no tiles to be told."""
    if older.origin != newer.origin:
        raise LogRefused("kept checkpoint", expected=f"one of {newer.origin}", got=f"one of {older.origin}")
    if older.size > newer.size:
        hint = "the log was set back, perhaps by a restored back-up; keep both checkpoints as evidence"
        raise LogRefused("log", expected=f"at least the {older.size} entries kept", got=newer.size, hint=hint)
    if older.size == newer.size and older.root != newer.root:
        what, expected = f"root of size {older.size}", f"{short(older.root)}, as was kept"
        raise LogRefused(what, expected=expected, got=short(newer.root), hint=_FORKED)


def _check_others(reader: Reader, tree: Tree) -> None:
    """Look at the tiles in a folder that its checkpoint does not need: older partial ones, and any beyond the tree."""
    beyond = None
    for tile in _listed(reader):
        if tile.index * WIDTH + tile.width > tree.size >> HEIGHT * max(tile.level, 0):
            beyond = beyond or tile
        elif tile.width < WIDTH:
            _check_partial(reader, tree, tile)
    if beyond is None or reader.read(PENDING, MAX_PENDING) is not None:
        return
    # A writer at work makes tiles before the checkpoint, and then this one is not the latest any more.
    if fetch_checkpoint(reader, ()).checkpoint.size == tree.size:
        hint = "the log was longer once: it was set back, perhaps by a restored back-up"
        raise LogRefused(beyond.path, expected=f"nothing beyond the size {tree.size}", got="a file", hint=hint)


def _check_partial(reader: Reader, tree: Tree, tile: Tile) -> None:
    data = reader.read(tile.path, tile.limit)
    whole = tile_at(tile.level, tile.index, tree.size)
    if tile.level == ENTRIES:
        expected = encode_bundle(tree.entries(whole.index)[: tile.width])
    else:
        expected = b"".join(tree.tile(whole.level, whole.index)[: tile.width])
    if data is not None and data != expected:  # it may be gone by now, once its full form is there
        raise LogRefused(tile.path, expected=f"the beginning of {whole.path}", got="other bytes")


def _listed(reader: Reader, folder: str = "tile") -> Iterator[Tile]:
    """The tiles in a folder, and below it."""
    for name in reader.list(folder):
        path = f"{folder}/{name}"
        if folder == "tile" or re.fullmatch(r"x[0-9]{3}|[0-9]{3}\.p", name):
            yield from _listed(reader, path)
        else:
            yield Tile.parse(path)
