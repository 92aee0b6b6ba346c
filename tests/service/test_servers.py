"""The servers that tests run against do what the tests take for granted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import obstore
import psycopg
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import ObjectStore, from_url

from faultproxy import DROPPED, LOST, HttpProxy, TcpProxy, at, delay, inorder, seeded, status
from objectstore import S3, Bucket
from postgres import Postgres


def store(bucket: Bucket, port: int | None = None) -> ObjectStore:
    options = (bucket.through(port) if port else bucket).options
    return from_url(bucket.url, **options, retry_config={"max_retries": 0})


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A PostgreSQL that a test may kill."""
    with Postgres() as server:
        yield server


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


# --- PostgreSQL -----------------------------------------------------------------------------------------------------------------------


def test_each_database_starts_as_the_first_was_prepared(postgres: Postgres) -> None:
    prepared = []

    def prepare(url: str) -> None:
        prepared.append(url)
        with psycopg.connect(plain(url)) as connection:
            connection.execute("CREATE TABLE things (name text)")

    first, second = postgres.database(prepare), postgres.database(prepare)
    assert len(prepared) == 1
    assert len({first, second, *prepared}) == 3
    with psycopg.connect(plain(first)) as connection:
        connection.execute("INSERT INTO things VALUES ('a')")
    for url, count in ((first, 1), (second, 0)):
        with psycopg.connect(plain(url)) as connection:
            assert connection.execute("SELECT count(*) FROM things").fetchone() == (count,)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_was_committed_is_there_after_the_end(own: Postgres, end: str) -> None:
    url = plain(own.database())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (name text)")
        connection.execute("INSERT INTO things VALUES ('committed')")
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url) as broken:
        broken.execute("INSERT INTO things VALUES ('not committed')")
        getattr(own, end)()
        with pytest.raises(psycopg.OperationalError):
            broken.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    own.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("committed",)]
    own.restart()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("committed",)]


def test_a_commit_whose_answer_is_lost_was_made(postgres: Postgres) -> None:
    name = postgres.database().rpartition("/")[2]
    with TcpProxy(postgres.port) as way:
        url = plain(postgres.url(name, port=way.port))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE things (name text)")
        way.lose = b"COMMIT"
        with pytest.raises(psycopg.OperationalError), psycopg.connect(url) as connection:
            connection.execute("INSERT INTO things VALUES ('a')")
        assert way.lost == 1
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT name FROM things").fetchall() == [("a",)]
            way.cut()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        way.refusing = True
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        way.refusing, way.delay = False, 0.1
        start = time.monotonic()
        psycopg.connect(url).close()
        assert time.monotonic() - start > 0.2


# --- object stores --------------------------------------------------------------------------------------------------------------------


def test_moto_heeds_conditions(bucket: Bucket) -> None:
    objects = store(bucket)
    first = objects.put("timestamp.json", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        objects.put("timestamp.json", b"2", mode="create")
    objects.put("timestamp.json", b"2", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        objects.put("timestamp.json", b"3", mode={"e_tag": first["e_tag"]})
    assert bytes(objects.get("timestamp.json").bytes()) == b"2"


def test_rclone_ignores_conditions_without_a_word() -> None:
    with S3("rclone") as server:
        objects = store(server.bucket())
        first = objects.put("timestamp.json", b"1")
        objects.put("timestamp.json", b"2", mode="create")
        objects.put("timestamp.json", b"3", mode={"e_tag": first["e_tag"]})
        assert bytes(objects.get("timestamp.json").bytes()) == b"3"


def test_a_bucket_is_found_by_the_environment_alone(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    from_url(bucket.url).put("a", b"1")
    assert [item["path"] for part in store(bucket).list() for item in part] == ["a"]


def test_the_way_to_a_store_fails_as_told(s3: S3, bucket: Bucket) -> None:
    with HttpProxy(s3.port) as way:
        objects = store(bucket, way.port)
        way.script = inorder(status(503), DROPPED, LOST)
        for name in ("refused", "dropped", "lost"):
            with pytest.raises(obstore.exceptions.GenericError):
                objects.put(name, b"1")
        assert [item["path"] for part in objects.list() for item in part] == ["lost"]
        assert [verb for verb, _ in way.seen] == ["PUT", "PUT", "PUT", "GET"]

        way.script = at("PUT", "/second", status(500), delay(0.3))
        objects.put("first", b"1")
        with pytest.raises(obstore.exceptions.GenericError):
            objects.put("second", b"1")
        start = time.monotonic()
        objects.put("second", b"1")
        assert time.monotonic() - start >= 0.3

        big = bytes(range(256)) * (80 << 10)
        objects.put("big", big)  # in several parts
        assert bytes(objects.get("big").bytes()) == big
        assert objects.head("big")["size"] == len(big)
        objects.delete("big")


def test_the_same_seed_gives_the_same_faults() -> None:
    def drawn(seed: int) -> list[str]:
        script = seeded(seed, {status(500): 0.2, LOST: 0.2})
        return [script("PUT", "/").kind for _ in range(200)]

    assert drawn(7) == drawn(7) != drawn(8)
    assert set(drawn(7)) == {"none", "status", "lost"}
