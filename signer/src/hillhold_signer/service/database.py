"""The service's database: PostgreSQL, or SQLite in one process. Connections, transactions, the clock, and who may do what alone.

Four kinds of transactions, each a `with`, committed at its end and rolled back after an error:

- `snapshot`: reads, all of the same moment
- `glance`: reads by one statement
- `transaction`: writes rows of its own (an upload, a token, an event)
- `exclusive`: writes the repository; nobody else does meanwhile

All that fails becomes a `StorageError` that names neither passwords nor values. PostgreSQL answers COMMIT in a transaction that has failed
with a rollback and no error, and SQLite may give up a transaction by itself when a disk is full. So a transaction is looked at before it is
committed: what was rolled back is never taken for done.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from alembic import command
from alembic.config import Config as Alembic
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, Insert, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from hillhold_signer.errors import ConfigRefused, LockedError, StorageError
from hillhold_signer.service import insertions

LOCK_WAIT: Final = 30
"""Seconds that a writer waits for another, if nothing else is said."""
STATEMENT: Final = 60
"""Seconds that one statement may take."""
CONNECT: Final = 5
"""Seconds that a connection may take to be made."""
POOL: Final = 20
"""Connections that a process keeps at most."""

_SPACE: Final = 0x48_49_4C_4C  # "HILL", the first of the two numbers of our advisory locks
_CLOCK: Final = "CAST(floor(extract(epoch FROM clock_timestamp())) AS BIGINT)"
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_AGAIN: Final = "nothing was changed; try again"
_LOCKED: Final = {"55P03": "a lock was not free in time", "40P01": "two transactions waited for each other"}


class Database:
    """One database.

    Args:
        url: `sqlite:////folder/file.db` or `postgresql://user:password@host:port/name`.
        clock: returns Unix seconds, instead of the database's own clock.
        wait: seconds that a writer waits for another.

    Raises:
        ConfigRefused: a URL of another kind.
    """

    def __init__(self, url: str, *, clock: Callable[[], int] | None = None, wait: float = LOCK_WAIT) -> None:
        self._url, self._clock, self._wait = _parse(url), clock, wait
        self.postgres = self._url.get_backend_name() == "postgresql"
        """Whether it is PostgreSQL: replicas may share it."""
        self._writer = threading.Lock()  # SQLite makes writers poll for each other; in one process they need not
        self._singles: dict[str, threading.Lock] = {}
        self.engine = _postgres(self._url, wait) if self.postgres else _sqlite(self._url, wait)
        event.listen(self.engine, "handle_error", self._translate)

    def close(self) -> None:
        """Give up all connections."""
        self.engine.dispose()

    def __str__(self) -> str:
        """What it is called in messages: never with a password."""
        if not self.postgres:
            return f"database {self._url.database}"
        return f"database {self._url.database} on {self._url.host or 'localhost'}:{self._url.port or 5432}"

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Read, as everything was at one moment; raises `StorageError`."""
        options: dict[str, Any] = {}
        if self.postgres:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._connected(options) as connection, connection.begin():
            yield connection

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """Read by one statement, which sees one moment by itself: PostgreSQL is not asked to begin and to end, and heeds one that writes.

        Raises:
            StorageError: the database cannot be reached, or fails.
        """
        options = {"isolation_level": "AUTOCOMMIT"} if self.postgres else {}
        with self._connected(options) as connection, connection.begin():
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Write rows that belong to no repository's state.

        Raises:
            LockedError: SQLite, and another writer stays at work.
            StorageError: the database cannot be reached, is full, or fails.
        """
        with self._alone(not self.postgres), self._begun() as connection:
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[tuple[Connection, int]]:
        """Write the repository, and nobody else does; gives the connection, and the time.

        Raises:
            LockedError: another writer stays at work.
            StorageError: as `transaction` does.
        """
        with self._alone(True), self._begun() as connection:  # those that wait here need no connection
            if not self.postgres:
                yield connection, self.now(connection)
                return
            # What is read after this, READ COMMITTED sees as the writer before left it; and the clock is looked at with the lock in hand.
            lock = text(f"SELECT pg_advisory_xact_lock(:space, :key), {_CLOCK}")
            row = connection.execute(lock, {"space": _SPACE, "key": _key("repository")}).one()
            yield connection, int(row[1]) if self._clock is None else self._clock()

    @contextmanager
    def single(self, name: str) -> Iterator[Single | None]:
        """Be the only one, of all replicas, to do a kind of work; None where another is at it.

        It is given up when the connection breaks, and another may begin then. So what is done must be harmless when two do it; all
        that is written by way of `Single.transaction` is, since it fails with the connection.

        Raises:
            StorageError: the database cannot be reached.
        """
        if not self.postgres:
            lock = self._singles.setdefault(name, threading.Lock())
            if not lock.acquire(blocking=False):
                yield None
                return
            try:
                yield Single(self, None)
            finally:
                lock.release()
            return
        with self._connected({}) as connection:
            with _settled(connection):
                held = self._ask(connection, "pg_try_advisory_lock", name)
            try:
                yield Single(self, connection) if held else None
            finally:
                if held:  # at once: a session may end some time after we have closed it
                    with _settled(connection):
                        self._ask(connection, "pg_advisory_unlock", name)

    def _ask(self, connection: Connection, function: str, name: str) -> bool:
        with connection.begin():
            found = connection.execute(text(f"SELECT {function}(:space, :key)"), {"space": _SPACE, "key": _key(name)})
            return bool(found.scalar())

    def now(self, connection: Connection) -> int:
        """Return Unix seconds by the database's clock, so that those of replicas do not matter; raises `StorageError`."""
        if self._clock is not None:
            return self._clock()
        now = _CLOCK if self.postgres else "CAST(strftime('%s', 'now') AS BIGINT)"
        return int(connection.execute(text(f"SELECT {now}")).scalar_one())

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """Return an insertion that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return postgresql.insert(table) if self.postgres else sqlite.insert(table)

    def insert_new(self, table: Table) -> Insert:
        """Return an insertion that leaves rows that are there as they are; one for all calls, since it takes long to make."""
        return insertions.insert_new(table, postgres=self.postgres)

    def upsert(self, table: Table, *columns: str) -> Insert:
        """Return an insertion that replaces these columns of rows that are there; one for all calls."""
        return insertions.upsert(table, columns, postgres=self.postgres)

    def migrate(self) -> None:
        """Make the tables, or bring those of an older version up to this one; raises `StorageError`."""
        with self.transaction() as connection:
            if self.postgres:
                lock = text("SELECT pg_advisory_xact_lock(:space, :key)")
                connection.execute(lock, {"space": _SPACE, "key": _key("migrate")})
            config = Alembic()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check_version(self) -> None:
        """Refuse to work on tables of another version; raises `ConfigRefused`, `StorageError`."""
        script = ScriptDirectory(str(_MIGRATIONS))
        with self.snapshot() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        if found == script.get_current_head():
            return
        known = {revision.revision for revision in script.walk_revisions()}
        hint = "run `hillhold service migrate`" if found in known or found is None else "update hillhold-signer"
        raise ConfigRefused(
            f"{self}", expected=f"tables of version {script.get_current_head()}", got=found or "none", hint=hint
        )

    @contextmanager
    def _alone(self, wanted: bool) -> Iterator[None]:
        """The only writer in this process, where that is wanted."""
        if wanted and not self._writer.acquire(timeout=self._wait):
            raise LockedError(f"{self}: another writer is at work", hint=_AGAIN)
        try:
            yield
        finally:
            if wanted:
                self._writer.release()

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        with self._connected({"hillhold_writing": True}) as connection, connection.begin():
            yield connection
            self._check_open(connection)

    @contextmanager
    def _connected(self, options: dict[str, Any]) -> Iterator[Connection]:
        """A connection, and all errors as ours: those that `_translate` does not see, too."""
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(**options)
        except IntegrityError as error:
            raise StorageError(f"{self}: somebody else wrote the same at once", hint=_AGAIN) from error
        except SQLAlchemyError as error:
            # Their texts may hold a whole URL; what counts was raised by the driver, and translated.
            raise StorageError(f"{self}: {type(error).__name__}", hint=_AGAIN) from error

    def _check_open(self, connection: Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        # IDLE: no statement was sent, so there is nothing to commit.
        usable = raw.info.transaction_status.name in ("INTRANS", "IDLE") if self.postgres else raw.in_transaction
        if not usable:
            raise StorageError(f"{self}: the transaction failed, and was rolled back", hint=_AGAIN)

    def _translate(self, context: ExceptionContext) -> BaseException | None:
        """Say what the driver has said, as an error of ours; what breaks a rule of a table is for whoever wrote it."""
        error = context.original_exception
        if isinstance(context.sqlalchemy_exception, IntegrityError):
            return None
        if context.sqlalchemy_exception is not None and not isinstance(context.sqlalchemy_exception, DBAPIError):
            return None
        said = str(error).strip().partition("\n")[0][:200]
        for secret in (str(self._url.password or ""), *(str(value) for value in self._url.query.values())):
            said = said.replace(secret, "…") if secret else said
        if not self.postgres and context.connection is not None:
            raw: Any = context.connection.connection.dbapi_connection
            if context.connection.in_transaction() and not raw.in_transaction:
                # SQLite has given it up (sqlite.org/lang_transaction.html, "automatic rollback"): what came now would be on its own.
                context.connection.invalidate()
        state = getattr(error, "sqlstate", None) or ""
        if state in _LOCKED or "database is locked" in said:
            return LockedError(f"{self}: {_LOCKED.get(state, 'another writer is at work')}", hint=_AGAIN)
        hint = "whether the last step was done is not known; look, and try again" if context.is_disconnect else _AGAIN
        return StorageError(f"{self}: {said}", hint=hint)


class Single:
    """The right to do a kind of work alone: PostgreSQL's lock of one session, SQLite's process has it in memory."""

    def __init__(self, database: Database, connection: Connection | None) -> None:
        self.database, self._connection = database, connection
        self._session = connection.connection.dbapi_connection if connection is not None else None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Write, which succeeds only while this is the only one; raises as `Database.transaction`."""
        if self._connection is None:
            with self.database.transaction() as connection:
                yield connection
            return
        with self._connection.begin():
            # A connection that broke is made anew without a word, and its session has no lock.
            if self._connection.connection.dbapi_connection is not self._session:
                raise StorageError(f"{self.database}: the connection broke, and another may be at work", hint=_AGAIN)
            yield self._connection
            self.database._check_open(self._connection)

    def held(self) -> bool:
        """Say whether the connection still stands, and the right with it."""
        if self._connection is None:
            return True
        with suppress(StorageError), self.transaction() as connection:
            connection.execute(text("SELECT 1"))
            return True
        return False


def _parse(url: str) -> URL:
    hint = "for example sqlite:////var/lib/hillhold/hillhold.db, or postgresql://user:password@host/name"
    try:
        found = make_url(url)
        kind = found.get_backend_name()
        if kind == "postgresql":
            found = found.set(drivername="postgresql+psycopg")
        found.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigRefused("database", expected="a URL", got="something else", hint=hint) from error
    if kind not in ("postgresql", "sqlite"):
        raise ConfigRefused("database", expected="sqlite or postgresql", got=kind[:40], hint=hint)
    if kind == "sqlite" and (not found.database or found.database == ":memory:" or found.query):
        raise ConfigRefused("database", expected="a file", got="none, or options", hint=hint)
    return found


def _postgres(url: URL, wait: float) -> Engine:
    limits = {
        "lock_timeout": int(wait * 1000),
        "statement_timeout": STATEMENT * 1000,
        "idle_in_transaction_session_timeout": 2 * STATEMENT * 1000,
        "tcp_keepalives_idle": 10,  # a replica that has lost its power gives up its locks
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 4,
    }
    options = " ".join(f"-c {name}={value}" for name, value in limits.items())
    arguments = {"connect_timeout": CONNECT, "options": options, "application_name": "hillhold"}
    arguments |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
    engine = create_engine(
        url,
        connect_args=arguments,
        isolation_level="READ COMMITTED",
        use_native_hstore=False,  # which would be asked for on each new connection
        pool_size=POOL // 2,
        max_overflow=POOL - POOL // 2,
        pool_timeout=LOCK_WAIT,
        hide_parameters=True,
    )

    @event.listens_for(engine, "checkout")
    def look(connection: Any, _: object, __: object) -> None:
        # A server that went away has closed it, or said so: then the pool connects anew. To ask the server would be a round trip each time.
        waiting = select.poll()
        if not connection.closed:
            waiting.register(connection.fileno(), select.POLLIN)
        if connection.closed or waiting.poll(0):
            raise DisconnectionError("the server has closed the connection, or said something that nobody asked for")

    return engine


def _sqlite(url: URL, wait: float) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": wait, "check_same_thread": False},
        pool_size=POOL // 2,
        max_overflow=POOL - POOL // 2,
        pool_timeout=LOCK_WAIT,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # `begin` says how; the driver would begin only before some statements
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("hillhold_writing", False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writing else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


@contextmanager
def _settled(connection: Connection) -> Iterator[None]:
    """Where nobody knows whether a lock was taken or given up, it goes with its session."""
    try:
        yield
    except BaseException:
        connection.invalidate()
        raise


def _key(name: str) -> int:
    """The second number of an advisory lock, a signed 32-bit one."""
    return crc32(name.encode()) - 2**31
