"""Proofs that what was handed in is in the log: by target path, the entry that tells of its submission (`log_releases`).

The table is made from the log, entry by entry, after each append; the row of the empty path says how far. Losing it costs a reading of
the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select

from hillhold_signer.log.checkpoint import PATH as CHECKPOINT
from hillhold_signer.log.checkpoint import SignedCheckpoint, open_checkpoint
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.log.note import MAX_NOTE, Verifier
from hillhold_signer.log.proof import Proof
from hillhold_signer.log.tiles import WIDTH
from hillhold_signer.log.tree import Tree
from hillhold_signer.log.writer import prove_entry
from hillhold_signer.service.journal import LogReader
from hillhold_signer.service.tables import LOG_RELEASES
from hillhold_signer.service.unit import Data

MOST: Final = 64
"""Bundles that are read in one go."""
_SO_FAR: Final = ""


def latest(data: Data, verifiers: Sequence[Verifier]) -> tuple[SignedCheckpoint, Tree] | None:
    """Return the latest checkpoint, and its tree; None before there is one; raises `LogRefused`, `NoteRefused`, `StorageError`."""
    reader = LogReader(data.database)
    held = reader.read(CHECKPOINT, MAX_NOTE)
    if held is None:
        return None
    signed = open_checkpoint(held, verifiers)
    return signed, Tree(reader, signed.checkpoint.size, signed.checkpoint.root)


def index_releases(data: Data, verifiers: Sequence[Verifier]) -> bool:
    """Note which entries tell of submissions, from where the last run ended; returns whether there is more.

    Raises:
        LogRefused, NoteRefused: the log was altered.
        StorageError: the database.
    """
    found = latest(data, verifiers)
    if found is None:
        return False
    tree = found[1]
    with data.database.snapshot() as connection:
        row = connection.execute(select(LOG_RELEASES.c.entry).where(LOG_RELEASES.c.path == _SO_FAR)).first()
    begin = int(row[0]) if row else 0
    end = min(tree.size, (begin // WIDTH + MOST) * WIDTH)
    if begin >= end:
        return False
    rows = []
    for bundle in range(begin // WIDTH, -(-end // WIDTH)):
        for at, entry in enumerate(tree.entries(bundle), bundle * WIDTH):
            if begin <= at < end:
                event = Event.decode(entry)
                if event.kind is Kind.SUBMISSION:
                    rows.append({"path": str(event.fields["path"]), "entry": at})
    newest = {row["path"]: row for row in rows}  # handed in again after its draft was dropped: the last counts
    insert = data.database.insert(LOG_RELEASES)
    insert = insert.on_conflict_do_update(index_elements=["path"], set_={"entry": insert.excluded.entry})
    with data.database.transaction() as connection:
        connection.execute(insert, [*newest.values(), {"path": _SO_FAR, "entry": end}])
    return end < tree.size


def prove_release(data: Data, verifiers: Sequence[Verifier], path: str) -> Proof | None:
    """Return the proof that the submission of a target is in the log; None where it is not (yet), or came before the service.

    Raises:
        LogRefused, NoteRefused: the log was altered.
        StorageError: the database.
    """
    with data.database.snapshot() as connection:
        row = connection.execute(select(LOG_RELEASES.c.entry).where(LOG_RELEASES.c.path == path)).first()
    found = latest(data, verifiers)
    if not path or row is None or found is None or int(row[0]) >= found[1].size:
        return None
    signed, tree = found
    return prove_entry(tree, signed, int(row[0]))
