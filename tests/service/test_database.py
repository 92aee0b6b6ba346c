"""Transactions that hold, however the database fails: whole or not at all, one writer at a time, and errors that give nothing away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, insert, select, text, update

from faultproxy import TcpProxy
from hillhold_signer.errors import ConfigRefused, LockedError, StorageError
from hillhold_signer.service.database import Database
from hillhold_signer.service.tables import BLOBS, FILES, METADATA
from postgres import Postgres


def put(connection: Any, name: str, data: bytes = b"") -> None:
    connection.execute(insert(FILES).values(name=name, data=data))


def names(database: Database) -> list[str]:
    with database.snapshot() as connection:
        return [name for (name,) in connection.execute(select(FILES.c.name).order_by(FILES.c.name))]


def test_the_migrations_make_the_tables(database: Database) -> None:
    database.check_version()
    database.migrate()
    with database.snapshot() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_tables_of_another_version_are_refused(
    database: Database, connect: Callable[[], Database], tmp_path: Path
) -> None:
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(ConfigRefused, match="got none") as caught:
        empty.check_version()
    empty.close()
    assert caught.value.hint == "run `hillhold service migrate`"
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigRefused, match="got 9999") as caught:
        database.check_version()
    assert caught.value.hint == "update hillhold-signer"


def test_names_are_in_the_order_of_their_bytes(database: Database) -> None:
    every = ["a/b", "a", "a0", "B", "a-b", "a/Z", "_"]
    with database.transaction() as connection:
        for name in every:
            put(connection, name)
    assert names(database) == sorted(every)


def test_after_an_error_nothing_was_written(database: Database) -> None:
    for begin in (database.transaction, database.exclusive):
        with contextlib.suppress(ZeroDivisionError), begin() as found:
            put(found[0] if isinstance(found, tuple) else found, "a")
            _ = 1 // 0
    assert names(database) == []


def test_what_reads_cannot_write(database: Database) -> None:
    with pytest.raises(StorageError, match="read"), database.snapshot() as connection:
        put(connection, "a")
    with database.transaction() as connection:
        put(connection, "a")


def test_what_reads_sees_one_moment(database: Database) -> None:
    with database.snapshot() as connection:
        assert connection.execute(select(FILES.c.name)).all() == []
        with database.exclusive() as (other, _):
            put(other, "a")
        assert connection.execute(select(FILES.c.name)).all() == []
    assert names(database) == ["a"]


def test_a_glance_begins_nothing_and_what_comes_after_it_does(database: Database) -> None:
    for _ in range(3):  # the same connection each time
        with database.glance() as connection:
            assert connection.execute(select(FILES.c.name)).all() == []
            raw: Any = connection.connection.dbapi_connection
            assert not database.postgres or raw.info.transaction_status.name == "IDLE"
        with contextlib.suppress(ZeroDivisionError), database.transaction() as connection:
            put(connection, "a")
            _ = 1 // 0
    test_what_reads_sees_one_moment(database)
    with database.glance() as connection:
        assert connection.execute(select(FILES.c.name)).scalar() == "a"


def test_connections_that_the_server_has_closed_meanwhile_are_made_anew_unseen(postgres: Postgres) -> None:
    url = postgres.database()
    database, other = ready(url), Database(url)
    with database.transaction(), database.snapshot(), database.glance():
        pass  # three connections, which wait in the pool now
    with other.transaction() as connection:
        others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        others += " WHERE datname = current_database() AND pid != pg_backend_pid()"
        assert len(connection.execute(text(others)).all()) >= 3
    with database.glance() as glance, database.transaction() as connection, database.snapshot() as reading:
        put(connection, "a")
        assert [one.execute(select(FILES.c.name)).all() for one in (glance, reading)] == [[], []]
    assert names(database) == ["a"]
    database.close()
    other.close()


def test_writers_of_the_repository_come_one_after_the_other(connect: Callable[[], Database]) -> None:
    first = connect()
    replicas = [first, connect() if first.postgres else first]
    with first.transaction() as connection:
        connection.execute(insert(BLOBS).values(sha256="0" * 64, length=0, time=0))

    def count(database: Database) -> None:
        for _ in range(25):
            with database.exclusive() as (connection, _now):
                length = connection.execute(select(BLOBS.c.length)).scalar_one()
                connection.execute(update(BLOBS).values(length=length + 1))

    threads = [threading.Thread(target=count, args=(replicas[at % 2],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with first.snapshot() as connection:
        assert connection.execute(select(BLOBS.c.length)).scalar() == 200


def test_a_writer_does_not_wait_for_ever(url: str) -> None:
    one, other = Database(url), Database(url, wait=0.3)  # two processes, as far as SQLite can know
    with one.exclusive() as (connection, _):
        put(connection, "a")
        with pytest.raises(LockedError) as caught, other.exclusive():
            pass
        assert caught.value.hint == "nothing was changed; try again"
    with other.exclusive() as (connection, _):
        put(connection, "b")
    assert names(one) == ["a", "b"]
    one.close()
    other.close()


def test_what_was_rolled_back_is_never_taken_for_done(database: Database) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then, and no error."""

    def fail() -> None:
        with database.transaction() as connection:
            put(connection, "a")
            with contextlib.suppress(StorageError):
                connection.execute(text("SELECT nothing FROM nowhere"))
            if not database.postgres:
                connection.exec_driver_sql("ROLLBACK")

    with pytest.raises(StorageError, match="was rolled back"):
        fail()
    assert names(database) == []


def test_two_that_write_the_same_row_are_told(database: Database) -> None:
    with database.transaction() as connection:
        put(connection, "a")
    with pytest.raises(StorageError, match="somebody else wrote the same"), database.transaction() as connection:
        put(connection, "a")
    assert names(database) == ["a"]


def test_the_clock_is_the_database_s(url: str) -> None:
    database = Database(url)
    with database.exclusive() as (connection, now):
        assert abs(now - time.time()) < 5
        assert database.now(connection) - now in (0, 1)
    database.close()


def test_a_kind_of_work_is_done_by_one(connect: Callable[[], Database]) -> None:
    first = connect()
    second = connect() if first.postgres else first
    with first.single("export") as one:
        assert one is not None
        with second.single("export") as other, second.single("sequence") as more:
            assert other is None
            assert more is not None
        with one.transaction() as connection:
            put(connection, "a")
        assert one.held()
    with second.single("export") as other:
        assert other is not None
    with contextlib.suppress(ZeroDivisionError), first.single("export"):
        _ = 1 // 0
    with second.single("export") as other:
        assert other is not None


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Postgres]:
    with Postgres(sync=True) as found:
        yield found


def ready(url: str) -> Database:
    database = Database(url, wait=3)
    database.migrate()
    return database


def test_who_loses_the_connection_loses_the_right(postgres: Postgres) -> None:
    url = postgres.database()
    first, second = ready(url), Database(url)
    with contextlib.suppress(StorageError), first.single("export") as one:
        assert one is not None
        with second.transaction() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            connection.execute(text(others))
        assert not one.held()
        with second.single("export") as other:
            assert other is not None
        with pytest.raises(StorageError), one.transaction() as connection:
            put(connection, "a")
    assert names(second) == []
    first.close()
    second.close()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_server_that_is_restarted_in_the_middle(server: Postgres, how: str) -> None:
    database = ready(server.database())
    with database.exclusive() as (connection, _):
        put(connection, "before")

    def write() -> None:
        with database.exclusive() as (connection, _):
            put(connection, "lost")
            if how == "kill":
                server.kill()
                server.start()
            else:
                server.restart()
            put(connection, "more")

    with pytest.raises(StorageError) as caught:
        write()
    assert "not known" in (caught.value.hint or "")
    with database.exclusive() as (connection, _):
        put(connection, "after")
    assert names(database) == ["after", "before"]
    database.close()


def test_an_answer_to_a_commit_that_is_lost_is_not_taken_for_a_failure(postgres: Postgres) -> None:
    url = postgres.database()
    ready(url).close()
    with TcpProxy(postgres.port) as way:
        database = Database(url.replace(f":{postgres.port}/", f":{way.port}/"), wait=3)

        def write() -> None:
            with database.exclusive() as (connection, _):
                put(connection, "a")
                way.lose = b"COMMIT"

        with pytest.raises(StorageError) as caught:
            write()
        assert "not known" in (caught.value.hint or "")
        assert way.lost == 1
        assert names(database) == ["a"]
        database.close()


def test_errors_give_no_password_away(postgres: Postgres) -> None:
    with TcpProxy(postgres.port) as way:
        way.refusing = True
        for port in (way.port, 9):
            database = Database(f"postgresql://ada:hush-hush@127.0.0.1:{port}/nothing")
            with pytest.raises(StorageError, match="database nothing on 127") as caught, database.transaction():
                pass
            shown: BaseException | None = caught.value
            assert "hush" not in f"{shown}{caught.value.hint}"
            assert "hush" not in str(database)


@pytest.mark.parametrize(
    "url", ["mysql://ada:hush@h/d", "hush", "sqlite://", "sqlite:///:memory:", "sqlite:///a?x=hush", "", "x://"]
)
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigRefused) as caught:
        Database(url)
    assert "hush" not in str(caught.value)


# --- SQLite -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    ready(url).close()
    database = Database(url)
    with database.transaction() as connection:
        put(connection, "before")

    def limit(connection: Any, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")

    event.listen(database.engine, "connect", limit)
    database.engine.dispose()

    def write(first: bool) -> None:
        with database.transaction() as connection:
            put(connection, "small", bytes(10))
            with contextlib.nullcontext() if first else contextlib.suppress(StorageError):
                put(connection, "large", bytes(10**6))
            put(connection, "more")  # by one that goes on as if nothing had happened: not written on its own

    for first in (True, False, True):
        with pytest.raises(StorageError, match="full" if first else "rolled back|Pending"):
            write(first)
        assert names(database) == ["before"]
    with database.transaction() as connection:
        put(connection, "after")
    assert names(database) == ["after", "before"]
    database.close()


def test_sqlite_is_set_to_keep_what_it_has_committed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with database.snapshot() as connection:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    database.close()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'none' / 'a.db'}")
    with pytest.raises(StorageError, match="unable to open"), database.snapshot():
        pass
    with pytest.raises(StorageError, match="unable to open"):
        database.migrate()
    database.close()
