"""One piece of work on the repository of a service: a transaction, its time, and the repository as it was at its start.

data = Data(database, objects)
with data.reading() as unit:                        # one moment; nothing can be written
    unit.repository.state()
with data.writing() as unit:                        # nobody else writes; all of it happens, or none
    add_release(unit.repository, …, unit.now)
    unit.record(Kind.SUBMISSION, "Ada", path=…, …)
data.record(Kind.REFUSAL, "Ada", what=…, reason=…)  # whatever became of the rest
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Final

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from hillhold_signer.chain import Chain
from hillhold_signer.layout import file_name
from hillhold_signer.log.events import Event, Kind, Value
from hillhold_signer.places import Entry
from hillhold_signer.repository import Repository
from hillhold_signer.service.blobs import add_blob
from hillhold_signer.service.database import Database
from hillhold_signer.service.dbstore import DatabaseStore, TryingStore
from hillhold_signer.service.dbview import Ahead, Cache
from hillhold_signer.service.holding import check_held
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.tables import EVENTS, FILES

CACHE: Final = 32 * 1024 * 1024
"""Bytes of files that never change, which a process keeps."""
_EVENTS: Final = EVENTS.insert().inline()


class Unit:
    """One transaction.

    Attributes:
        connection: for rows that belong to it.
        store: the repository's files.
        publication: the number of what it published, once it is over.
    """

    def __init__(self, connection: Connection, now: int | None, store: DatabaseStore, chain: Chain | None) -> None:
        self.connection, self._now, self.store = connection, now, store
        self.publication: int | None = None
        self._chain = chain
        self._events: list[bytes] = []

    @cached_property
    def now(self) -> int:
        """Unix seconds, by the database's clock; of a reading, when it is first asked for."""
        return self.store.database.now(self.connection) if self._now is None else self._now

    @cached_property
    def repository(self) -> Repository:
        """The repository; raises `RepositoryRefused` where none was made yet."""
        return Repository(Entry(self.store), self._chain)

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """Return an insertion that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return self.store.database.insert(table)

    @property
    def chain(self) -> Chain | None:
        """The last chain that was verified."""
        return self.repository.chain if "repository" in self.__dict__ else self._chain

    def record(self, kind: Kind, actor: str, **fields: Value) -> None:
        """Note what happened, for the log, if the transaction succeeds; raises `EntryRefused`."""
        self._events.append(Event(self.now, kind, actor, fields).encode())

    def _finish(self) -> None:
        self.publication = self.store.flush()
        if self._events:
            self.connection.execute(_EVENTS, [{"entry": entry} for entry in self._events])


class Data:
    """The data of a service: a database, and the objects beside it. For all threads of a process.

    Args:
        cache: bytes of files that never change, which are kept in memory.
    """

    def __init__(self, database: Database, objects: Objects, *, cache: int = CACHE) -> None:
        self.database, self.objects = database, objects
        self._cache = Cache(cache)
        self._chain: Chain | None = None

    @contextmanager
    def reading(self, line: str = "") -> Iterator[Unit]:
        """Read; raises `StorageError`.

        Args:
            line: the one that it is mostly about.
        """
        with self.database.snapshot() as connection:
            unit = self._unit(connection, None, line, writing=False)
            yield unit
        self._chain = unit.chain

    @contextmanager
    def writing(self, line: str = "", *, held: bool = False) -> Iterator[Unit]:
        """Write; after any error nothing was changed.

        Args:
            line: the one that it is mostly about.
            held: even while the service is held after it was restored.

        Raises:
            HeldRefused: it is (`holding`).
            LockedError: another writer stays at work.
            StorageError: the database or the object store fails.
        """
        with self.database.exclusive() as (connection, now):
            if not held:
                check_held(connection)
            unit = self._unit(connection, now, line, writing=True)
            yield unit
            unit._finish()
        unit.store.keep()
        self._chain = unit.chain

    @contextmanager
    def trying(self) -> Iterator[Unit]:
        """Write, and then do as if nothing was written: no other writer waits meanwhile. But blobs stay, which harms nobody.

        Raises:
            StorageError: the database or the object store fails.
        """
        with self.database.snapshot() as connection:
            now = self.database.now(connection)
            store = TryingStore(self.database, connection, self.objects, self._cache, now, writing=True)
            yield Unit(connection, now, store, self._chain)
        if store.added:
            with self.database.transaction() as connection:
                for digest, length in store.added.items():
                    add_blob(self.database, connection, digest, length, now)

    def record(self, kind: Kind, actor: str, **fields: Value) -> None:
        """Note what happened, for the log, in a transaction of its own; raises `EntryRefused`, `StorageError`."""
        with self.database.transaction() as connection:
            event = Event(self.database.now(connection), kind, actor, fields)
            connection.execute(EVENTS.insert(), {"entry": event.encode()})

    def versioned(self, name: str) -> bytes | None:
        """Return a published file whose name has its version, without asking the database for one that is held; raises `StorageError`."""
        if (data := self._cache.get(name)) is None:
            with self.database.glance() as connection:
                data = connection.execute(select(FILES.c.data).where(FILES.c.name == name)).scalar()
            if data is not None:
                self._cache.put(name, bytes(data))
        return None if data is None else bytes(data)

    def _unit(self, connection: Connection, now: int | None, line: str, *, writing: bool) -> Unit:
        chain = self._chain
        store = DatabaseStore(self.database, connection, self.objects, self._cache, now or 0, writing=writing)
        store.ahead = _ahead(chain, line)
        return Unit(connection, now, store, chain)


def _ahead(chain: Chain | None, line: str) -> Ahead:
    """The files that the last chain consists of: unless something was published since, it is the next one, too."""
    if chain is None:
        return Ahead(line)
    listed = chain.snapshot.meta.get(f"{line}.json")
    names = [file_name("snapshot", chain.snapshot.version), file_name("targets", chain.targets.version)]
    names += [file_name(line, listed.version)] if listed else []
    return Ahead(line, *(f"public/metadata/{name}" for name in names))
