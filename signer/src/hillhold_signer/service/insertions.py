"""Insertions, each made once for a table: SQLAlchemy takes longer to make one than to have it done."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


@cache
def insert_new(table: Table, *, postgres: bool) -> Insert:
    """Return an insertion that leaves rows that are there as they are."""
    return (postgresql.insert(table) if postgres else sqlite.insert(table)).on_conflict_do_nothing()


@cache
def upsert(table: Table, columns: tuple[str, ...], *, postgres: bool) -> Insert:
    """Return an insertion that replaces these columns of rows that are there, by the primary key."""
    insert = postgresql.insert(table) if postgres else sqlite.insert(table)
    keys = [column.name for column in table.primary_key]
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in columns})
