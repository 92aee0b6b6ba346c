"""Servers that tests of the service share: each starts when the first test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hillhold_signer.service.database import Database
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.objects import Objects, RemoteObjects
from hillhold_signer.service.unit import Data
from objectstore import S3, Bucket
from oneservice import Make, Replica
from postgres import Postgres
from tables import make_tables

NOW = 1_767_225_600
"""2026-01-01T00:00:00Z"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL; take `postgres.database(prepare=…)` for a database of one's own."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 endpoint that heeds conditions."""
    with S3("moto") as server:
        yield server


@pytest.fixture
def bucket(s3: S3) -> Bucket:
    """An empty bucket there."""
    return s3.bucket()


@pytest.fixture(scope="session")
def rclone() -> Iterator[S3]:
    """An S3 endpoint that heeds no conditions."""
    with S3("rclone") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with tables, of each kind."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server.database(prepare=make_tables)
    found = f"sqlite:///{tmp_path / 'hillhold.db'}"
    make_tables(found)
    return found


@pytest.fixture
def clock() -> SimpleNamespace:
    """The time: `clock.now`, in Unix seconds."""
    return SimpleNamespace(now=NOW)


@pytest.fixture
def connect(url: str, clock: SimpleNamespace) -> Iterator[Callable[[], Database]]:
    """Opens the database as one replica does."""
    opened: list[Database] = []

    def one() -> Database:
        opened.append(Database(url, clock=lambda: int(clock.now), wait=120))  # on a machine that does much else
        return opened[-1]

    yield one
    for each in opened:
        each.close()


@pytest.fixture
def database(connect: Callable[[], Database]) -> Database:
    """The database as a replica has it."""
    return connect()


@pytest.fixture(params=["folder", "moto", "rclone"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty store of objects, of each kind."""
    if request.param == "folder":
        return FolderObjects(tmp_path / "objects")
    server: S3 = request.getfixturevalue("s3" if request.param == "moto" else "rclone")
    found = server.bucket()
    return RemoteObjects(found.url, found.options)


@pytest.fixture
def make(tmp_path: Path, clock: SimpleNamespace, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes services without anything in their tables."""
    made: list[Replica] = []

    def one(kind: str = "sqlite", objects: Any = None) -> Replica:
        folder = tmp_path / f"service-{len(made)}"
        folder.mkdir()
        url = f"sqlite:///{folder / 'hillhold.db'}"
        if kind == "postgres":
            server: Postgres = request.getfixturevalue("postgres")
            url = server.database(prepare=make_tables)
        else:
            make_tables(url)
        database = Database(url, clock=lambda: int(clock.now))
        made.append(Replica(Data(database, objects or FolderObjects(folder / "objects"))))
        return made[-1]

    yield one
    for each in made:
        each.exporter.close()
        each.data.database.close()
