"""Blobs: files in the object store by their hash, each with a row that says that it is there, whole.

Whoever puts an object calls `keep_blob` before, and `add_blob` after: since files that nothing names are removed (`sweeping`), an object
may be about to be deleted. What was kept or added is not removed for at least `MIN_KEEP`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, delete, select, update

from hillhold_signer.errors import LockedError
from hillhold_signer.service.database import Database
from hillhold_signer.service.tables import BLOBS, LINE_BLOBS, SWEPT_BLOBS

MIN_KEEP: Final = 86_400
"""Seconds for which at least every file is kept."""
FRESH: Final = MIN_KEEP // 2
"""Seconds for which a file that was sent is not noted again as sent now."""
GRACE: Final = 900
"""Seconds for which an object that is claimed is its claimer's alone. A request to an object store has ended long before, or failed."""


def keep_blob(database: Database, digest: str) -> int | None:
    """Keep a blob that is there, or see to it that an object may be put; nothing is written where that is so.

    Returns:
        Its length; None where there is none, and its object may be put and then noted.

    Raises:
        LockedError: the object is being deleted.
        StorageError: the database.
    """
    with database.snapshot() as connection:
        found = connection.execute(select(BLOBS.c.length, BLOBS.c.time).where(BLOBS.c.sha256 == digest)).first()
        if found is not None and found.time > database.now(connection) - FRESH:
            return int(found.length)
        if found is None and _going(connection, digest) is None:
            return None
    with database.transaction() as connection:
        return keep(connection, digest, database.now(connection))


def keep(connection: Connection, digest: str, now: int) -> int | None:
    """Do the same in a transaction that writes."""
    if touch(connection, (digest,), now):
        return int(connection.execute(select(BLOBS.c.length).where(BLOBS.c.sha256 == digest)).scalar_one())
    if (since := _going(connection, digest)) is None:
        return None
    mine = SWEPT_BLOBS.c.sha256 == digest, SWEPT_BLOBS.c.time == since
    if since <= now < since + GRACE or connection.execute(delete(SWEPT_BLOBS).where(*mine)).rowcount != 1:
        raise _locked(digest)
    return None


def check_free(connection: Connection, digest: str, now: int) -> None:
    """Refuse to put an object that somebody may delete, in a transaction that only reads; raises `LockedError`."""
    since = _going(connection, digest)
    if since is not None and since <= now:
        raise _locked(digest)


def touch(connection: Connection, digests: Iterable[str], now: int) -> int:
    """Note that blobs were sent or handed in now; returns how many of them there are."""
    changed = update(BLOBS).where(BLOBS.c.sha256.in_(tuple(digests))).values(time=now)
    return connection.execute(changed).rowcount


def add_blob(database: Database, connection: Connection, digest: str, length: int, now: int) -> None:
    """Note that a blob is in the object store, whole, and has the hash of its name; raises `StorageError`."""
    row = {"sha256": digest, "length": length, "time": now}
    connection.execute(database.insert_new(BLOBS), row)
    connection.execute(delete(SWEPT_BLOBS).where(SWEPT_BLOBS.c.sha256 == digest))  # seen before this row was there


def note_line(database: Database, connection: Connection, line: str, digests: Iterable[str], now: int) -> None:
    """Note what was handed in for a line, by a writer of the repository; raises `StorageError` where one was removed meanwhile."""
    if rows := [{"sha256": digest, "line": line} for digest in digests]:
        connection.execute(database.insert_new(LINE_BLOBS), rows)
        touch(connection, (row["sha256"] for row in rows), now)


def _going(connection: Connection, digest: str) -> int | None:
    """Since when an object is being deleted, or from when on it is to be; None for one that is not."""
    since: int | None = connection.execute(select(SWEPT_BLOBS.c.time).where(SWEPT_BLOBS.c.sha256 == digest)).scalar()
    return since


def _locked(digest: str) -> LockedError:
    what = f"file {digest[:16]}…: it was removed, since nothing named it, and is being deleted"
    return LockedError(what, hint="send it again in a moment")
