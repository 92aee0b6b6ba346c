"""From the outbox into the log: events are written with what they tell of (`Unit.record`), and appended here, by one replica at a time.

An append is two transactions. The first takes the events out of the outbox and puts them into `.pending`, signed: from then on they
will be in the log, in this order. The second writes tiles and the checkpoint. Whoever is cut off between them leaves what the next one
finishes with the same bytes. So no event is lost, none comes twice, and no two checkpoints are ever signed that contradict each other
(`log.writer`).

Numbers of events may become visible out of order where several transactions write; what is taken are the rows that are there, never
all up to a number.

The latest checkpoint is kept in the object store, too. By it, a database that was restored from an older back-up is found out before
anything is appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from sqlalchemy import exists, func, select

from hillhold_signer.errors import FileRefused, LockedError, LogRefused, StorageError
from hillhold_signer.log.audit import check_consistent
from hillhold_signer.log.checkpoint import PATH as CHECKPOINT
from hillhold_signer.log.checkpoint import SignedCheckpoint, open_checkpoint
from hillhold_signer.log.note import MAX_NOTE, NoteSigner, Verifier
from hillhold_signer.log.stores import FOLDER, PENDING
from hillhold_signer.log.tiles import Tile
from hillhold_signer.log.writer import Log, create_log, open_log
from hillhold_signer.service.database import Database, Single
from hillhold_signer.service.holding import check_held
from hillhold_signer.service.objects import Tagged
from hillhold_signer.service.tables import EVENTS, LOG_FILES
from hillhold_signer.service.unit import Data
from hillhold_verifier.errors import MisuseError

BATCH: Final = 2048
"""Events of one append: at most 32 MiB."""
KEPT: Final = "log/checkpoint"
"""The latest checkpoint in the object store."""
NAME: Final = "sequence"
"""What only one replica does at a time."""


class LogReader:
    """The log's files in the database, each as it is now (`log.tree.Reader`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, path: str, limit: int) -> bytes | None:
        """Read a file."""
        _check(path)
        with self._database.glance() as connection:
            found = connection.execute(select(LOG_FILES.c.data).where(LOG_FILES.c.path == path)).scalar()
        if found is not None and len(found) > limit:
            raise FileRefused(path, expected=f"at most {limit} bytes", got=len(found))
        return None if found is None else bytes(found)

    def list(self, folder: str) -> list[str]:
        """List a folder of tiles."""
        if not FOLDER.fullmatch(folder):
            raise MisuseError(f"folder of a log: expected one of tiles, got {folder!r}")
        query = select(LOG_FILES.c.path).where(LOG_FILES.c.path >= f"{folder}/", LOG_FILES.c.path < f"{folder}0")
        with self._database.glance() as connection:
            return sorted({path[len(folder) + 1 :].partition("/")[0] for (path,) in connection.execute(query)})


class LogStore(LogReader):
    """The log's files, for its one writer (`log.stores.Store`).

    Attributes:
        taken: numbers of the events that the next append takes out of the outbox.
    """

    def __init__(self, single: Single) -> None:
        super().__init__(single.database)
        self._single = single
        self._new: dict[str, bytes] = {}
        self.taken: Sequence[int] = ()

    def create(self, path: str, data: bytes) -> None:
        """Write a new file, together with the checkpoint."""
        held = self.read(path, Tile.parse(path).limit)
        if held is not None and held != data:
            hint = "the log was longer once, or is written from elsewhere; nothing was changed: verify it, and keep it"
            raise LogRefused(
                f"{path} in {self._database}", expected="a new file", got="one with other content", hint=hint
            )
        self._new[path] = data

    def replace(self, path: str, data: bytes) -> None:
        """Write `.pending` in the place of the events that are taken; or the checkpoint with all new files."""
        _check(path)
        with self._single.transaction() as connection:
            files = {path: data} if path == PENDING else {**self._new, path: data}
            insert = self._database.insert(LOG_FILES)
            insert = insert.on_conflict_do_update(index_elements=["path"], set_={"data": insert.excluded.data})
            connection.execute(insert, [{"path": name, "data": body} for name, body in files.items()])
            if path == PENDING:
                gone = connection.execute(EVENTS.delete().where(EVENTS.c.id.in_(self.taken))).rowcount
                if gone != len(self.taken):
                    hint = "nothing was appended; another replica is at it"
                    raise StorageError(f"events: expected {len(self.taken)} to append, got {gone}", hint=hint)
        if path != PENDING:
            self._new.clear()

    def remove(self, path: str) -> None:
        """Remove a file."""
        _check(path)
        with self._single.transaction() as connection:
            connection.execute(LOG_FILES.delete().where(LOG_FILES.c.path == path))

    def lock(self) -> AbstractContextManager[None]:
        """Whoever has a `Single` is alone."""
        return nullcontext()


class Sequencer:
    """Appends events to the log; one for each process.

    Args:
        signers: the log's keys.
        former: keys by which it was signed until now, where they are to be replaced.
    """

    def __init__(self, data: Data, signers: Sequence[NoteSigner], former: Sequence[Verifier] = ()) -> None:
        self._data, self._signers, self._former = data, signers, former
        self._kept: bytes | None = None

    def run(self) -> int:
        """Append all events that wait, unless another replica is at it; call it again after an error.

        Returns:
            How many entries the log has more than before.

        Raises:
            HeldRefused: the service was restored (`holding`).
            LogRefused: the log was altered, or set back behind the checkpoint that the object store has; nothing was appended.
            StorageError: the database or the object store fails.
        """
        if not self._has_work():
            return 0
        with self._data.database.glance() as connection:
            check_held(connection)
        with self._data.database.single(NAME) as single:
            if single is None:
                return 0
            store = LogStore(single)
            with open_log(store, self._signers, self._former) as log:
                held = self._check(log)
                first = held[0]
                while (rows := self._take()) and single.held():
                    store.taken = [number for number, _ in rows]
                    log.append([entry for _, entry in rows])
                self._keep(log.checkpoint, held[1])
                return log.size - first

    def waiting(self) -> int:
        """Return how many events are not in the log yet; raises `StorageError`."""
        with self._data.database.snapshot() as connection:
            return int(connection.execute(select(func.count()).select_from(EVENTS)).scalar_one())

    def _has_work(self) -> bool:
        """Whether there are events, or an append that was cut off, or a checkpoint that the object store does not have."""
        with self._data.database.snapshot() as connection:
            pending = exists(select(LOG_FILES.c.path).where(LOG_FILES.c.path == PENDING))
            if connection.execute(select(exists(select(EVENTS.c.id)) | pending)).scalar():
                return True
            latest = connection.execute(select(LOG_FILES.c.data).where(LOG_FILES.c.path == CHECKPOINT)).scalar()
        return latest is not None and bytes(latest) != self._kept

    def _take(self) -> list[tuple[int, bytes]]:
        with self._data.database.glance() as connection:
            rows = connection.execute(select(EVENTS.c.id, EVENTS.c.entry).order_by(EVENTS.c.id).limit(BATCH))
            return [(int(number), bytes(entry)) for number, entry in rows]

    def _check(self, log: Log) -> tuple[int, Tagged | None]:
        """Check that the log goes on from the checkpoint that was kept; return the size of that one, and it."""
        held = self._data.objects.read(KEPT, MAX_NOTE)
        if held is None:
            return 0, None
        verifiers = [*(signer.verifier for signer in self._signers), *self._former]
        older = open_checkpoint(held.data, verifiers).checkpoint
        if held.data != log.checkpoint.data:
            check_consistent(log.tree(), older)
        return older.size, held

    def _keep(self, signed: SignedCheckpoint, held: Tagged | None) -> None:
        """Keep the checkpoint; another replica that has kept a later one meanwhile is right."""
        if held is None or held.data != signed.data:
            self._data.objects.put_if(KEPT, signed.data, held.tag if held else None)
        self._kept = signed.data


def start_log(data: Data, signers: Sequence[NoteSigner]) -> SignedCheckpoint:
    """Make the log, without entries; raises as `log.create_log` does."""
    with data.database.single(NAME) as single:
        if single is None:
            raise LockedError("log: another replica is at work")
        signed = create_log(LogStore(single), signers)
    data.objects.put_if(KEPT, signed.data, None)
    return signed


def _check(path: str) -> None:
    """Only what a log consists of; a name from elsewhere leads nowhere else."""
    if path not in (CHECKPOINT, PENDING):
        Tile.parse(path)
