"""Databases of the service with tables and nothing in them, made once and copied: to make tables takes longer than most tests."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from hillhold_signer.service.database import Database

_SQLITE = "sqlite:///"


def make_tables(url: str) -> None:
    """Make the tables of an empty database; PostgreSQL copies them by `Postgres.database(prepare=make_tables)`."""
    if url.startswith(_SQLITE):
        Path(url.removeprefix(_SQLITE)).write_bytes(_empty())
    else:
        _migrate(url)


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hillhold.db"
        _migrate(f"{_SQLITE}{file}")
        return file.read_bytes()


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()
