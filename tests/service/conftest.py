"""Servers that tests of the service share: each starts when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from objectstore import S3, Bucket
from postgres import Postgres


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
