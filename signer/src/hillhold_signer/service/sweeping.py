"""Files that no name points to any more, or never did: removed after a while (`Settings.keep`).

A blob is named by a published target, by a publication that is not exported, by an upload that has not ended, by a draft, and, where it
was handed in for a line, by that line's published version, which states the hashes of documents. What none of these names, and nobody
has sent or handed in for so long, goes:

1. its row, in the transaction of a writer of the repository: whoever names it does so before, or finds it gone. A row of `swept_blobs`
   takes its place, and this is committed.
2. its object, once that row was claimed: its time is now. For `GRACE` seconds nobody else deletes the object or puts one of this name.
3. the row of `swept_blobs`.

Whoever dies in between leaves a row that another replica claims once it is old, or that somebody who sends the same bytes takes away. An
object without any row, whose sender died before it was noted, gets a row of `swept_blobs` that lies as far ahead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

from sqlalchemy import delete, exists, func, select, update

from hillhold_signer.log.events import Kind
from hillhold_signer.service.blobs import GRACE
from hillhold_signer.service.database import Database
from hillhold_signer.service.holding import holding
from hillhold_signer.service.names import blob_key
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.tables import (
    BLOB_SENDERS,
    BLOBS,
    LINE_BLOBS,
    PUBLICATION_FILES,
    SWEPT_BLOBS,
    TARGETS,
    UPLOADS,
)
from hillhold_signer.service.unit import Data, Unit

AT_ONCE: Final = 500
"""Files of one sweep, and of one statement."""
ITSELF: Final = "service"

_HASH: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed: files, and their bytes."""

    files: int
    length: int


def sweep(data: Data, age: int) -> Swept:
    """Remove what nothing names for `age` seconds, at most `AT_ONCE` files; call it again where it removed as many.

    Raises:
        RepositoryRefused: what drafts name cannot be read; nothing is removed then.
        LockedError, StorageError: the database or the object store; what was begun, the next sweep ends.
    """
    with data.reading() as unit:
        if holding(unit.connection) is not None:
            return Swept(0, 0)
        found = _unnamed(unit, unit.now - age)
    swept = _forget(data, found, age) if found else Swept(0, 0)
    while _delete_some(data.database, data.objects):
        pass
    _note_strays(data.database, data.objects, age)
    return swept


def _unnamed(unit: Unit, before: int, among: Sequence[str] | None = None) -> list[str]:
    """The hashes of blobs that are old, and that nothing names; of some, or of all.

    A staged file is no name by itself: it is there for drafts, and where these were given up, it is left over.
    """
    query = select(BLOBS.c.sha256).where(BLOBS.c.time < before).order_by(BLOBS.c.sha256)
    public = TARGETS.c.name.like("public/%"), TARGETS.c.sha256 == BLOBS.c.sha256
    query = query.where(~exists().where(*public))
    for column in (PUBLICATION_FILES.c.sha256, UPLOADS.c.sha256):
        query = query.where(~exists().where(column == BLOBS.c.sha256))
    if among is not None:
        query = query.where(BLOBS.c.sha256.in_(among)).with_for_update()  # of those that send them again
    found = [str(digest) for (digest,) in unit.connection.execute(query)]
    named: set[str] = set()
    for some in _pieces(found):
        lines = select(LINE_BLOBS.c.line).where(LINE_BLOBS.c.sha256.in_(some)).distinct()
        for (line,) in unit.connection.execute(lines):
            named |= set(some) & _hashes(unit, str(line))
        staged = select(TARGETS.c.sha256).where(TARGETS.c.sha256.in_(some))
        if left := {str(digest) for (digest,) in unit.connection.execute(staged)} - named:
            named |= left & unit.repository.state().files.targets_named(())
    return [digest for digest in found if digest not in named][:AT_ONCE]


def _hashes(unit: Unit, line: str) -> set[str]:
    """All that looks like a hash in the drafts of a line, each as it was written, and in its published version."""
    state = unit.repository.state()
    values = [dict(node.value) for node in state.files.of(line).nodes.values()]
    if (published := state.published(line)) is not None:
        values.append(published.to_dict())
    return {digest for value in values for digest in _HASH.findall(json.dumps(value))}


def _forget(data: Data, digests: Sequence[str], age: int) -> Swept:
    """Take away the rows of those that nothing names now; whoever names one waits for this, or this for them."""
    with data.writing() as unit:
        gone = _unnamed(unit, unit.now - age, digests)
        if not gone:
            return Swept(0, 0)
        length = unit.connection.execute(select(func.sum(BLOBS.c.length)).where(BLOBS.c.sha256.in_(gone))).scalar_one()
        for table in (TARGETS, LINE_BLOBS, BLOB_SENDERS, BLOBS):
            unit.connection.execute(delete(table).where(table.c.sha256.in_(gone)))
        swept = [{"sha256": digest, "time": unit.now - GRACE} for digest in gone]  # to be claimed at once
        insert = unit.insert(SWEPT_BLOBS)
        insert = insert.on_conflict_do_update(index_elements=["sha256"], set_={"time": insert.excluded.time})
        unit.connection.execute(insert, swept)
        what = f"removed {len(gone)} files that nothing names"
        unit.record(Kind.CONFIGURATION, ITSELF, what=what, sha256=sha256("\n".join(gone).encode()).hexdigest())
        return Swept(len(gone), int(length))


def _delete_some(database: Database, objects: Objects) -> int:
    """Claim objects whose rows are gone, and delete them; returns how many were claimed."""
    with database.transaction() as connection:
        now = database.now(connection)
        noted = exists().where(
            BLOBS.c.sha256 == SWEPT_BLOBS.c.sha256
        )  # by its sender, just as it was taken for a stray
        connection.execute(delete(SWEPT_BLOBS).where(SWEPT_BLOBS.c.time <= now - GRACE, noted))
        free = select(SWEPT_BLOBS.c.sha256).where(SWEPT_BLOBS.c.time <= now - GRACE).limit(AT_ONCE)
        digests = [str(digest) for (digest,) in connection.execute(free.with_for_update(skip_locked=True))]
        connection.execute(update(SWEPT_BLOBS).where(SWEPT_BLOBS.c.sha256.in_(digests)).values(time=now))
    done = []
    for digest in digests:
        with database.snapshot() as connection:
            if database.now(connection) >= now + GRACE // 2:
                break
        objects.delete(blob_key(digest))
        done.append(digest)
    with database.transaction() as connection:
        mine = SWEPT_BLOBS.c.sha256.in_(done), SWEPT_BLOBS.c.time == now
        connection.execute(delete(SWEPT_BLOBS).where(*mine))
    return len(digests)


def _note_strays(database: Database, objects: Objects, age: int) -> None:
    """Have objects without a row deleted, unless whoever put them notes them by then."""
    for keys in _pieces(objects.list("blobs")):
        digests = {key.rpartition("/")[2] for key in keys}
        with database.snapshot() as connection:
            for table in (BLOBS, SWEPT_BLOBS):
                known = connection.execute(select(table.c.sha256).where(table.c.sha256.in_(digests)))
                digests -= {str(digest) for (digest,) in known}
        if strays := [digest for digest in digests if _HASH.fullmatch(digest)]:
            with database.transaction() as connection:
                due = database.now(connection) + age
                rows = [{"sha256": digest, "time": due} for digest in strays]
                connection.execute(database.insert(SWEPT_BLOBS).on_conflict_do_nothing(), rows)


def _pieces(items: Iterable[str]) -> Iterator[list[str]]:
    left = iter(items)
    while some := list(islice(left, AT_ONCE)):
        yield some
