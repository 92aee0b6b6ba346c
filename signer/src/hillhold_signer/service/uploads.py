"""Files on their way in: streamed, hashed on the way, resumed where they broke off.

A file is named by its SHA-256, which is checked before anything can refer to it; so sending it twice is sending it once. A short one comes
in one request (`receive`); a long one in pieces (`begin`, `append`), each of which lasts when it was acknowledged, whatever happens to the
connection or the replica. The words are those of draft-ietf-httpbis-resumable-upload.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sqlalchemy import BindParameter, Connection, Select, bindparam, delete, or_, select, update

from hillhold_signer.errors import FileRefused, SignerRefused
from hillhold_signer.service.access import NotFoundRefused, Principal
from hillhold_signer.service.blobs import add_blob, keep, keep_blob
from hillhold_signer.service.database import Database
from hillhold_signer.service.names import blob_key
from hillhold_signer.service.objects import PIECE, Objects
from hillhold_signer.service.tables import BLOB_SENDERS, BLOBS, LINE_BLOBS, TARGETS, UPLOAD_PARTS, UPLOADS

MAX_OPEN: Final = 100
"""Uploads of one account that have not ended."""
_LENGTH: Final = select(BLOBS.c.length).where(BLOBS.c.sha256 == bindparam("wanted"))


class UploadRefused(SignerRefused):
    """An upload that does not go on like that."""


class OffsetRefused(UploadRefused):
    """A piece that does not begin where the last one ended (HTTP 409).

    Attributes:
        offset: where it has to begin.
    """

    def __init__(self, offset: int, got: int) -> None:
        self.offset = offset
        hint = "ask for the offset (HEAD), and go on from there"
        super().__init__("upload offset", expected=offset, got=got, hint=hint)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload: `offset` bytes of `length` have arrived."""

    id: str
    sha256: str
    length: int
    offset: int

    @property
    def complete(self) -> bool:
        """Whether all of it is there, with its hash checked."""
        return self.id == ""


def blob_length(connection: Connection, digest: str) -> int | None:
    """Return the length of a blob that is there, whole, or None."""
    length: int | None = connection.execute(_LENGTH, {"wanted": digest}).scalar()
    return length


def usable(connection: Connection, account: int, lines: Iterable[str], digests: Iterable[str]) -> dict[str, int]:
    """Return the lengths of those blobs whose bytes an account has sent, or which were handed in for one of the lines, or are published.

    To know a hash is not to have the file: another line's image would else come out by way of one's own.
    """
    rows = connection.execute(_USABLE, {"account": account, "lines": tuple(lines), "wanted": tuple(digests)})
    return {str(row[0]): int(row[1]) for row in rows}


def _usable() -> Select[str, int]:
    """Made once: that takes longer than to ask it."""
    wanted: BindParameter[str] = bindparam("wanted", expanding=True)
    lines: BindParameter[str] = bindparam("lines", expanding=True)
    mine = BLOB_SENDERS.c.account == bindparam("account")
    sent = select(BLOB_SENDERS.c.sha256).where(mine, BLOB_SENDERS.c.sha256.in_(wanted))
    public = select(TARGETS.c.sha256).where(TARGETS.c.sha256.in_(wanted), TARGETS.c.name.like("public/%"))
    came = select(LINE_BLOBS.c.sha256).where(LINE_BLOBS.c.sha256.in_(wanted), LINE_BLOBS.c.line.in_(lines))
    where = or_(BLOBS.c.sha256.in_(sent), BLOBS.c.sha256.in_(public), BLOBS.c.sha256.in_(came))
    return select(BLOBS.c.sha256, BLOBS.c.length).where(BLOBS.c.sha256.in_(wanted), where)


_USABLE: Final = _usable()


def receive(
    database: Database, objects: Objects, digest: str, limit: int, chunks: Iterable[bytes], account: int | None = None
) -> tuple[int, bool]:
    """Keep a file that comes in one stream; returns its length, and whether this account had not sent it before.

    Args:
        account: who sends it; None for the operator.
        limit: bytes; no more than that is taken.

    Raises:
        FileRefused: more than `limit`; nothing is kept.
        UploadRefused: other bytes than `digest` says; nothing is kept.
        StorageError: database or object store.
    """
    there = keep_blob(database, digest)
    with database.snapshot() as connection:
        if there is not None and (account is None or _sent(connection, digest, account)):
            return there, False
    checked = _Checked(digest, None, limit, chunks)
    if there is not None:  # whoever sends it has it
        deque(checked, maxlen=0)
    else:
        head, rest = _head(iter(checked), PIECE)
        if rest is None:
            objects.put(blob_key(digest), head)
        else:
            objects.put_stream(blob_key(digest), rest)
    with database.transaction() as connection:
        note_blob(database, connection, digest, checked.length, account)
    return checked.length, True


def note_blob(database: Database, connection: Connection, digest: str, length: int, account: int | None) -> None:
    """Note that a blob is in the object store, whole, and who has sent it."""
    add_blob(database, connection, digest, length, database.now(connection))
    if account is not None:
        connection.execute(database.insert_new(BLOB_SENDERS), {"sha256": digest, "account": account})


def _sent(connection: Connection, digest: str, account: int) -> bool:
    """Whether an account has sent a blob, whole."""
    where = BLOB_SENDERS.c.sha256 == digest, BLOB_SENDERS.c.account == account
    return connection.execute(select(BLOB_SENDERS.c.sha256).where(*where)).first() is not None


def begin(database: Database, principal: Principal, digest: str, length: int, limit: int, fresh: str) -> Upload:
    """Begin an upload, or find the one of this account that broke off.

    Args:
        length: bytes of the whole file.
        limit: bytes that a file may have.
        fresh: an identifier that nobody can guess, for a new one.

    Raises:
        FileRefused: too long.
        UploadRefused: too many open uploads; or the same hash with another length.
        StorageError: the database.
    """
    if not 0 < length <= limit:
        raise FileRefused("upload", expected=f"1 to {limit} bytes", got=length)
    with database.transaction() as connection:
        now = database.now(connection)
        if _sent(connection, digest, principal.account_id) and (there := keep(connection, digest, now)) is not None:
            return Upload("", digest, there, there)
        mine = UPLOADS.c.account == principal.account_id
        found = connection.execute(select(UPLOADS).where(mine, UPLOADS.c.sha256 == digest)).first()
        if found is not None:
            if found.length != length:
                raise UploadRefused("upload length", expected=found.length, got=length)
            return Upload(found.id, digest, length, found.received)
        if len(connection.execute(select(UPLOADS.c.id).where(mine)).all()) >= MAX_OPEN:
            raise UploadRefused("open uploads", expected=f"at most {MAX_OPEN}", got="more", hint="finish them first")
        row = {"id": fresh, "account": principal.account_id, "sha256": digest, "length": length, "received": 0}
        connection.execute(UPLOADS.insert().values(**row, time=now))
    return Upload(fresh, digest, length, 0)


def find(database: Database, principal: Principal, identifier: str) -> Upload:
    """Return an upload of this account; raises `NotFoundRefused`, `StorageError`."""
    with database.snapshot() as connection:
        wanted = (UPLOADS.c.id == identifier, UPLOADS.c.account == principal.account_id)
        found = connection.execute(select(UPLOADS).where(*wanted)).first()
    if found is None:
        hint = "begin it again; what has arrived whole is found by its hash"
        raise NotFoundRefused("upload", expected="one of yours that has not ended", got="none", hint=hint)
    return Upload(found.id, found.sha256, found.length, found.received)


def append(database: Database, objects: Objects, upload: Upload, offset: int, chunks: Iterable[bytes]) -> Upload:
    """Take the next bytes of an upload; what has arrived lasts, piece by piece, also where the stream then breaks.

    Returns:
        The upload; complete where these were the last bytes, and all of them have the hash.

    Raises:
        OffsetRefused: not the next bytes, or somebody else sent some at the same time.
        FileRefused: more than the whole file has.
        UploadRefused: other bytes than its hash says; the upload then begins anew.
        StorageError: database or object store.
    """
    if offset != upload.offset:
        raise OffsetRefused(upload.offset, offset)
    for piece in _pieces(chunks, PIECE):
        if upload.offset + len(piece) > upload.length:
            raise FileRefused("upload", expected=f"{upload.length} bytes", got="more")
        objects.put(_part_key(upload.id, upload.offset, len(piece)), piece)
        upload = _note_part(database, upload, len(piece))
    return _assembled(database, objects, upload) if upload.offset == upload.length else upload


def give_up(database: Database, objects: Objects, before: int) -> int:
    """Forget uploads with which nobody went on since `before` (Unix seconds), and what is left of others.

    Returns:
        How many were forgotten.

    Raises:
        StorageError: database or object store.
    """
    with database.snapshot() as connection:
        old = connection.execute(select(UPLOADS).where(UPLOADS.c.time < before).limit(MAX_OPEN)).all()
    for row in old:
        _forget(database, objects, Upload(row.id, row.sha256, row.length, row.received))
    # A piece may have come after its upload was over. Who is listed first, and in no row after that, has ended.
    keys = list(objects.list("uploads"))
    with database.snapshot() as connection:
        alive = {str(row[0]) for row in connection.execute(select(UPLOADS.c.id))}
    for key in keys:
        if key.split("/")[1] not in alive:
            objects.delete(key)
    return len(old)


class _Checked:
    """Bytes that pass by, hashed; the last one is let through only when all of them are right."""

    def __init__(self, digest: str, length: int | None, limit: int, chunks: Iterable[bytes]) -> None:
        self._digest, self._wanted, self._limit, self._chunks = digest, length, limit, chunks
        self.length = 0

    def __iter__(self) -> Iterator[bytes]:
        found, held = sha256(), b""
        for chunk in self._chunks:
            self.length += len(chunk)
            if self.length > self._limit:
                raise FileRefused("file", expected=f"at most {self._limit} bytes", got="more")
            found.update(chunk)
            if held:
                yield held
            held = chunk
        if found.hexdigest() != self._digest or self._wanted not in (None, self.length):
            hint = "send it again: it was changed on the way, or while it was read"
            got = f"{found.hexdigest()[:16]}… of {self.length} bytes"
            raise UploadRefused("file", expected=f"SHA-256 {self._digest[:16]}…", got=got, hint=hint)
        yield held


def _head(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes] | None]:
    """The whole of a short stream; of a long one the stream again, and nothing read of it is lost."""
    held: list[bytes] = []
    total = 0
    for chunk in chunks:
        held.append(chunk)
        total += len(chunk)
        if total > size:

            def again() -> Iterator[bytes]:
                yield from held
                held.clear()
                yield from chunks

            return b"", again()
    return b"".join(held), None


def _pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Bytes in pieces of about one size; what is left when the stream breaks is a piece, too, before the error passes."""
    held: list[bytes] = []
    total = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            total += len(chunk)
            if total >= size:
                piece, total = b"".join(held), 0
                held.clear()
                yield piece
    except Exception:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


def _part_key(identifier: str, offset: int, length: int) -> str:
    """A piece of a connection that broke, and is noticed late, must not take the place of what was sent after it: so its length counts."""
    return f"uploads/{identifier}/{offset}-{length}"


def _note_part(database: Database, upload: Upload, length: int) -> Upload:
    with database.transaction() as connection:
        grown = {"received": upload.offset + length, "time": database.now(connection)}
        mine = (UPLOADS.c.id == upload.id, UPLOADS.c.received == upload.offset)
        if connection.execute(update(UPLOADS).where(*mine).values(**grown)).rowcount != 1:
            raise OffsetRefused(upload.offset, upload.offset + length)
        row = {"upload": upload.id, "offset": upload.offset, "length": length}
        connection.execute(UPLOAD_PARTS.insert().values(**row))
    return Upload(upload.id, upload.sha256, upload.length, upload.offset + length)


def _assembled(database: Database, objects: Objects, upload: Upload) -> Upload:
    with database.snapshot() as connection:
        table = UPLOAD_PARTS.c
        query = select(table.offset, table.length).where(table.upload == upload.id).order_by(table.offset)
        parts = [(int(row[0]), int(row[1])) for row in connection.execute(query)]
    keep_blob(database, upload.sha256)
    stored = (chunk for offset, length in parts for chunk in objects.get(_part_key(upload.id, offset, length)))
    try:
        objects.put_stream(blob_key(upload.sha256), _Checked(upload.sha256, upload.length, upload.length, stored))
    except UploadRefused:
        _forget(database, objects, upload)
        raise
    with database.transaction() as connection:
        account = connection.execute(select(UPLOADS.c.account).where(UPLOADS.c.id == upload.id)).scalar()
        note_blob(database, connection, upload.sha256, upload.length, account)
    _forget(database, objects, upload)
    return Upload("", upload.sha256, upload.length, upload.length)


def _forget(database: Database, objects: Objects, upload: Upload) -> None:
    with database.transaction() as connection:
        connection.execute(delete(UPLOAD_PARTS).where(UPLOAD_PARTS.c.upload == upload.id))
        connection.execute(delete(UPLOADS).where(UPLOADS.c.id == upload.id))
    for key in objects.list(f"uploads/{upload.id}"):  # also of what was sent, and not counted
        objects.delete(key)
