"""Back-ups: the whole database of one moment, and every blob; and back from there, into an empty database.

    FOLDER/
      blobs/AB/SHA256                     every target file once, for all back-ups: only new ones are copied
      NAME/tables/TABLE.jsonl.gz          `dump`
      NAME/manifest.json                  what there is, with its hashes
      NAME/manifest.note                  its hash, signed by the key of the log, whose public half auditors have

Whoever can write to the folder can make no back-up that is taken for one: accounts, grants and tokens are in it. The published tree is
not: it is made of the same rows and blobs. Uploads that had not ended begin anew.

A restored service is held (`holding`), its tokens are revoked, and `resuming` brings it up to what was published since.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, exists, select

from hillhold_signer.errors import FileRefused, LockedError, RepositoryRefused, SignerRefused, StorageError
from hillhold_signer.layout import file_name
from hillhold_signer.log.audit import audit, fetch_checkpoint
from hillhold_signer.log.checkpoint import PATH as CHECKPOINT
from hillhold_signer.log.events import Kind
from hillhold_signer.log.note import MAX_NOTE, NoteSigner, Verifier, open_note, sign_note
from hillhold_signer.service.dump import TableFile, dump, file_of, load, measure, read, tables
from hillhold_signer.service.holding import Hold, hold
from hillhold_signer.service.names import blob_key
from hillhold_signer.service.registry import OPERATOR
from hillhold_signer.service.tables import (
    BLOBS,
    FILES,
    LOG_FILES,
    SESSIONS,
    SWEPT_BLOBS,
    TARGETS,
    TOKENS,
    UPLOAD_PARTS,
    UPLOADS,
)
from hillhold_signer.service.unit import Data
from hillhold_signer.storage import CHUNK, list_folder, locked, make_folder, read_file, replacing, write_file
from hillhold_signer.verify import OPINIONS, Seen
from hillhold_verifier.times import show_time

FORMAT: Final = 1
MAX_MANIFEST: Final = 1024 * 1024
"""Bytes of a manifest."""
WORD: Final = "backup"
"""The second line of the note: a checkpoint has a number there, so that neither is ever taken for the other."""


class BackupRefused(SignerRefused):
    """A back-up that was altered, is not whole, or cannot be restored here."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A back-up.

    Attributes:
        folder: where it is.
        time: when it was made, Unix seconds by the database's clock.
        revision: of the tables.
        digest: SHA-256 of its manifest in hexadecimal.
        blobs, length: how many it needs, and their bytes; `copied`: how many were not there yet.
        checkpoint: size of the log; None without one.
    """

    folder: Path
    time: int
    revision: str
    tables: Mapping[str, TableFile]
    digest: str
    blobs: int
    length: int
    checkpoint: int | None
    copied: int = 0

    @property
    def name(self) -> str:
        """Its name: the time, and how its manifest's hash begins."""
        return self.folder.name


Report = Callable[[int, int], object]
"""Called with the number of blobs that are done, and of all."""


def backup(data: Data, folder: Path, signers: Sequence[NoteSigner], report: Report | None = None) -> Backup:
    """Make a back-up while the service goes on; what is not ended when an error comes is no back-up.

    Args:
        folder: of all back-ups, on another disk than the service's.
        signers: the log's keys.

    Raises:
        StorageError: the database, the objects or the folder cannot be read or written, or another back-up is being made.
    """
    make_folder(folder)
    with locked(folder / ".lock"):
        partial = folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial)
        with data.database.snapshot() as connection:
            now = data.database.now(connection)
            revision = MigrationContext.configure(connection).get_current_revision() or ""
            found = dump(connection, partial / "tables")
            size = _log_size(connection)
        blobs = length = copied = 0
        for row in read(partial / "tables", BLOBS.name):
            try:
                copied += _keep_blob(data, folder, row["sha256"], row["length"])
            except StorageError as error:
                with data.database.snapshot() as connection:
                    if connection.execute(select(BLOBS.c.sha256).where(BLOBS.c.sha256 == row["sha256"])).first():
                        raise
                what = f"file {row['sha256'][:16]}… was removed meanwhile, since nothing named it"
                raise LockedError(what, hint="make the back-up again") from error
            blobs, length = blobs + 1, length + row["length"]
            if report:
                report(blobs, found[BLOBS.name].rows)
        manifest = {
            "v": FORMAT,
            "time": now,
            "revision": revision,
            "tables": {name: [item.rows, item.length, item.sha256] for name, item in found.items()},
            "blobs": [blobs, length],
            "checkpoint": size,
        }
        body = json.dumps(manifest, indent=1, sort_keys=True).encode()
        digest = sha256(body).hexdigest()
        write_file(partial / "manifest.json", body)
        origin = signers[0].verifier.name
        write_file(partial / "manifest.note", sign_note(f"{origin}\n{WORD}\n{digest}\n".encode(), signers))
        target = folder / f"{show_time(now).replace(':', '')}-{digest[:8]}"
        try:
            partial.rename(target)
        except OSError as error:
            raise StorageError(f"cannot make {target}: {error.strerror or error}") from error
    data.record(Kind.CONFIGURATION, OPERATOR, what=f"back-up {target.name}", sha256=digest)
    return Backup(target, now, revision, found, digest, blobs, length, size, copied)


def backups(folder: Path) -> list[str]:
    """Return the names of the back-ups in a folder, the oldest first; raises `StorageError`."""
    return [name for name in list_folder(folder) if (folder / name / "manifest.note").exists()]


def open_backup(folder: Path, name: str, verifiers: Sequence[Verifier]) -> Backup:
    """Read a back-up's manifest, and verify that it is the service's own; its files are not looked at.

    Raises:
        BackupRefused: there is none, or it is not whole, or was altered.
        NoteRefused: it is not signed by the log's key.
    """
    where = folder / name
    if Path(name).name != name or not (where / "manifest.note").is_file():
        known = ", ".join(backups(folder)[-3:]) or "none"
        raise BackupRefused(f"{where}", expected="a back-up with its manifest.note", got=f"none; there is {known}")
    body, note = read_file(where / "manifest.json", MAX_MANIFEST), read_file(where / "manifest.note", MAX_NOTE)
    digest, found = sha256(body).hexdigest(), open_note(note, verifiers)
    lines = found.text.decode().split("\n")
    if lines[0] not in {one.verifier.name for one in found.signatures} or lines[1:] != [WORD, digest, ""]:
        raise BackupRefused(f"{where}/manifest.json", expected="the signed one", got=f"SHA-256 {digest[:16]}")
    value: Any = json.loads(body)
    if value.get("v") != FORMAT:
        raise BackupRefused(f"{where}", expected=f"version {FORMAT}", got=value.get("v"))
    files = {table: TableFile(*item) for table, item in value["tables"].items()}
    blobs, length = value["blobs"]
    return Backup(where, value["time"], value["revision"], files, digest, blobs, length, value["checkpoint"])


def verify_backup(folder: Path, name: str, verifiers: Sequence[Verifier], report: Report | None = None) -> Backup:
    """Read all of a back-up, and compare every hash.

    Raises:
        BackupRefused: something was altered, or is missing.
        NoteRefused: it is not signed by the log's key.
        StorageError: it cannot be read.
    """
    found = open_backup(folder, name, verifiers)
    for table, stated in found.tables.items():
        path = file_of(found.folder / "tables", table)
        if not path.is_file() or (stated.length, stated.sha256) != measure(path):
            got = "other bytes" if path.is_file() else "none"
            raise BackupRefused(f"{path}", expected=f"SHA-256 {stated.sha256[:16]}, as its manifest says", got=got)
    for count, row in enumerate(read(found.folder / "tables", BLOBS.name), 1):
        path = _blob(folder, row["sha256"])
        if not path.is_file() or measure(path) != (row["length"], row["sha256"]):
            got = "other bytes" if path.is_file() else "none"
            raise BackupRefused(f"{path}", expected=f"{row['length']} bytes with this hash", got=got)
        if report:
            report(count, found.blobs)
    return found


def restore(
    folder: Path,
    name: str,
    data: Data,
    verifiers: Sequence[Verifier],
    *,
    root: bytes | None = None,
    report: Report | None = None,
) -> Backup:
    """Fill an empty database from a back-up, and put the blobs that the objects lack; the service is held then.

    All of the back-up is verified before anything is written, and the repository and the log once more in the database, before
    that transaction is committed. Objects that are there already are read, compared and left.

    Args:
        verifiers: the log's public keys, from an auditor or the settings.
        root: bytes of a root that is known to be right, from paper or a device.

    Raises:
        BackupRefused: the back-up was altered or is not whole, or the database is not empty, or of another version.
        NoteRefused: the back-up, or the log in it, is not signed by the log's key.
        RepositoryRefused, VerifyRefused, LogRefused: what is in it does not verify.
        StorageError: something cannot be read or written; run it again.
    """
    found = verify_backup(folder, name, verifiers, report)
    database = data.database
    with database.snapshot() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision != found.revision:
            hint = "restore with the version of hillhold that made it, then `hillhold service migrate`"
            raise BackupRefused("tables", expected=f"version {found.revision}", got=revision, hint=hint)
        _check_empty(connection)
    for row in read(found.folder / "tables", BLOBS.name):
        _put_blob(data, folder, row["sha256"], row["length"])
    with database.exclusive() as (connection, now):
        _check_empty(connection)
        load(connection, found.folder / "tables")
        connection.execute(UPLOAD_PARTS.delete())
        connection.execute(UPLOADS.delete())
        connection.execute(SWEPT_BLOBS.delete())
        connection.execute(SESSIONS.delete())
        # A token that was revoked since would work again.
        connection.execute(TOKENS.update().where(TOKENS.c.revoked.is_(None)).values(revoked=now))
        _check_repository(connection, root)
        if found.checkpoint is not None:
            rows = LogRows(connection)
            audit(rows, fetch_checkpoint(rows, verifiers))
        hold(connection, Hold(now, found.name, found.digest))
    return found


class LogRows:
    """The log's files as one transaction sees them (`log.tree.Reader`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, path: str, limit: int) -> bytes | None:
        """Read a file."""
        data = self._connection.execute(select(LOG_FILES.c.data).where(LOG_FILES.c.path == path)).scalar()
        if data is not None and len(data) > limit:
            raise FileRefused(path, expected=f"at most {limit} bytes", got=len(data))
        return None if data is None else bytes(data)

    def list(self, folder: str) -> list[str]:
        """List a folder."""
        where = LOG_FILES.c.path >= f"{folder}/", LOG_FILES.c.path < f"{folder}0"
        rows = self._connection.execute(select(LOG_FILES.c.path).where(*where))
        return sorted({path[len(folder) + 1 :].partition("/")[0] for (path,) in rows})


def _check_empty(connection: Connection) -> None:
    for table in tables():
        if connection.execute(select(exists(select(*table.primary_key.columns)))).scalar():
            hint = "restore into a new database, made by `hillhold service migrate`"
            raise BackupRefused(f"table {table.name}", expected="no rows", got="some", hint=hint)


def _check_repository(connection: Connection, root: bytes | None) -> None:
    """All metadata verify from the first root (or the one that is known), for both implementations, and every target has its blob."""

    def files(name: str) -> bytes | None:
        query = select(FILES.c.data).where(FILES.c.name == f"public/metadata/{name}")
        data = connection.execute(query).scalar()
        return None if data is None else bytes(data)

    if files(file_name("timestamp", 0)) is None:
        return  # nothing was published yet
    seen = [look(files, 0, anchor) for _, look in OPINIONS for anchor in ((None, root) if root else (None,))]
    if any(other != seen[0] for other in seen):
        raise RepositoryRefused("the published tree", expected="one view of it", got="several")
    _check_targets(connection, seen[0])


def _check_targets(connection: Connection, seen: Seen) -> None:
    joined = TARGETS.join(BLOBS, BLOBS.c.sha256 == TARGETS.c.sha256)
    rows = connection.execute(select(TARGETS.c.name, TARGETS.c.sha256, BLOBS.c.length).select_from(joined))
    held = {name: (length, digest) for name, digest, length in rows}
    for path, (length, digest) in seen.targets.items():
        above, _, last = path.rpartition("/")
        if held.get(f"public/targets/{above}/{digest}.{last}") != (length, digest):
            raise RepositoryRefused(f"target {path}", expected=f"its blob {digest[:16]}", got="none")


def _log_size(connection: Connection) -> int | None:
    rows = LogRows(connection)
    return fetch_checkpoint(rows, ()).checkpoint.size if rows.read(CHECKPOINT, MAX_NOTE) else None


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest[:2] / digest


def _keep_blob(data: Data, folder: Path, digest: str, length: int) -> bool:
    """Copy a blob that the folder does not have; say whether it was copied."""
    path = _blob(folder, digest)
    if path.is_file() and path.stat().st_size == length:
        return False
    found, count = sha256(), 0
    with replacing(path) as file:
        for chunk in data.objects.get(blob_key(digest)):
            found.update(chunk)
            count += len(chunk)
            file.write(chunk)
        if (count, found.hexdigest()) != (length, digest):
            hint = "the object store has lost or changed it: restore it from an older back-up"
            raise StorageError(f"{blob_key(digest)}: expected {length} bytes with this hash, got others", hint=hint)
    return True


def _put_blob(data: Data, folder: Path, digest: str, length: int) -> None:
    key = blob_key(digest)
    if data.objects.length(key) is not None:
        found, count = sha256(), 0
        for chunk in data.objects.get(key):
            found.update(chunk)
            count += len(chunk)
        if (count, found.hexdigest()) != (length, digest):
            raise BackupRefused(f"object {key}", expected="the bytes that its name is the hash of", got="others")
        return
    data.objects.put_stream(key, _checked(_blob(folder, digest), length, digest))


def _checked(path: Path, length: int, digest: str) -> Iterator[bytes]:
    """A file's bytes, once more compared: an error at the end, and nothing is written."""
    found, count = sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            count += len(chunk)
            yield chunk
    if (count, found.hexdigest()) != (length, digest):
        raise BackupRefused(f"{path}", expected=f"{length} bytes with this hash", got="others")
