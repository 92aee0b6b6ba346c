"""The log of a restored service: it goes on from the newest checkpoint that anybody keeps, or it has ended (`resuming`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import select

from hillhold_signer.errors import LogRefused
from hillhold_signer.log.audit import check_consistent, fetch_checkpoint, open_kept
from hillhold_signer.log.checkpoint import PATH as CHECKPOINT
from hillhold_signer.log.checkpoint import Checkpoint, show_hash, sign_checkpoint
from hillhold_signer.log.events import Kind
from hillhold_signer.log.merkle import EMPTY_ROOT
from hillhold_signer.log.note import MAX_NOTE, NoteSigner, Verifier
from hillhold_signer.log.stores import PENDING
from hillhold_signer.log.tiles import ENTRIES, HEIGHT, WIDTH, encode_bundle, tile_at
from hillhold_signer.log.tree import Reader, Tree
from hillhold_signer.service.backup import LogRows
from hillhold_signer.service.journal import KEPT
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.registry import OPERATOR
from hillhold_signer.service.tables import EVENTS, LOG_FILES, LOG_RELEASES
from hillhold_signer.service.unit import Unit


def resume_log(
    unit: Unit, objects: Objects, kept: bytes | None, copy: Reader | None, verifiers: Sequence[Verifier]
) -> int:
    """Check that our log goes on from what was kept, or bring it up to that.

    Args:
        kept: the newest checkpoint that anybody has, as a signed note.
        copy: a copy of the log, where ours has less.

    Returns:
        How many entries were taken over.

    Raises:
        LogRefused, NoteRefused: it does not, the copy does not, or nobody has kept one.
        OperationalError: something cannot be read.
    """
    rows = LogRows(unit.connection)
    if rows.read(CHECKPOINT, MAX_NOTE) is None:
        return 0
    ours = fetch_checkpoint(rows, verifiers).checkpoint
    own = objects.read(KEPT, MAX_NOTE)
    notes = [note for note in (kept, own.data if own else None) if note is not None]
    if not notes:
        hint = (
            "auditors and witnesses keep them; if nobody does, end this log, and begin another under a new name and key"
        )
        raise LogRefused("newest checkpoint of the log", expected="one that somebody kept", got="none", hint=hint)
    older = [open_kept(note, verifiers).checkpoint for note in notes]
    newest = max(older, key=lambda one: one.size)
    if newest.size > ours.size and copy is None:
        got = f"{ours.size} in the back-up, and no copy of the log"
        hint = (
            "auditors and mirrors have copies; if nobody does, end this log, and begin another under a new name and key"
        )
        raise LogRefused("log", expected=f"the {newest.size} entries of the newest checkpoint", got=got, hint=hint)
    if copy is None:
        tree = Tree(rows, ours.size, ours.root)
        for one in older:
            check_consistent(tree, one)
        return 0
    theirs = fetch_checkpoint(copy, verifiers)
    tree = Tree(copy, theirs.checkpoint.size, theirs.checkpoint.root)
    for one in (*older, ours):
        check_consistent(tree, one)
    _take_over(unit, tree, ours.size, theirs.data)
    return tree.size - ours.size


def end_log(unit: Unit, kept: bytes | None, verifiers: Sequence[Verifier], begin: Sequence[NoteSigner]) -> None:
    """Put a new log in the place of this one, of which it will say how far it is known.

    Raises:
        LogRefused, NoteRefused: the new one has the name of this one, or this one or what was kept of it is not signed by its keys.
    """
    rows = LogRows(unit.connection)
    known = [fetch_checkpoint(rows, verifiers).checkpoint]
    if kept is not None:
        known.append(open_kept(kept, verifiers).checkpoint)
    origin = begin[0].verifier.name
    if origin == known[0].origin:
        hint = "auditors would see one log with two pasts"
        raise LogRefused("name of the new log", expected="another than this one's", got=origin, hint=hint)
    latest = max(known, key=lambda one: one.size)
    what = f"the log {latest.origin} ended: {_shown(latest)}, of which the back-up had {_shown(known[0])}"
    unit.record(Kind.CONFIGURATION, OPERATOR, what=what[:1000], sha256=latest.root.hex())
    unit.connection.execute(LOG_FILES.delete())
    unit.connection.execute(LOG_RELEASES.delete())
    first = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), begin)
    unit.connection.execute(LOG_FILES.insert().values(path=CHECKPOINT, data=first))


def _take_over(unit: Unit, tree: Tree, have: int, checkpoint: bytes) -> None:
    """Write the tiles that ours lacks, each verified by the checkpoint, and that one."""
    for path, data in _tiles(tree, have):
        unit.connection.execute(LOG_FILES.delete().where(LOG_FILES.c.path == path))
        unit.connection.execute(LOG_FILES.insert().values(path=path, data=data))
    unit.connection.execute(LOG_FILES.delete().where(LOG_FILES.c.path.in_((CHECKPOINT, PENDING))))
    unit.connection.execute(LOG_FILES.insert().values(path=CHECKPOINT, data=checkpoint))
    # What waited when the back-up was made is in the log by now.
    waiting = {bytes(entry): number for number, entry in unit.connection.execute(select(EVENTS.c.id, EVENTS.c.entry))}
    done = [waiting[entry] for _, entry in tree.iterate(have) if entry in waiting]
    for number in done:
        unit.connection.execute(EVENTS.delete().where(EVENTS.c.id == number))


def _tiles(tree: Tree, have: int) -> Iterator[tuple[str, bytes]]:
    """The tiles and bundles of a tree that one of `have` entries does not have."""
    level = 0
    while tree.size >> HEIGHT * level:
        for index in range(have >> HEIGHT * (level + 1), -(-(tree.size >> HEIGHT * level) // WIDTH)):
            yield tile_at(level, index, tree.size).path, b"".join(tree.tile(level, index))
            if level == 0:
                yield tile_at(ENTRIES, index, tree.size).path, encode_bundle(tree.entries(index))
        level += 1


def _shown(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.size} entries, root {show_hash(checkpoint.root)}"
