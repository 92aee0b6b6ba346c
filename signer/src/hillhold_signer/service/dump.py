"""All tables of the service as files, of one moment, in any database, and back.

`TABLE.jsonl.gz`: the names of the columns, then one row a line, in the order of the primary key; bytes in base64. It does without the
database's own tools, so a back-up of SQLite can be restored into PostgreSQL: this is how an embedded service grows up.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Column, Connection, LargeBinary, Table, func, select, text

from hillhold_signer.errors import FileRefused, StorageError
from hillhold_signer.service.tables import HOLDS, METADATA
from hillhold_signer.storage import CHUNK, replacing

AT_ONCE: Final = 100
"""Rows that are held in memory."""
MAX_ROW: Final = 128 * 1024 * 1024
"""Bytes of a row in a file: `.pending` of the log is the longest there can be."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """The file of a table: rows, length in bytes, SHA-256 in hexadecimal."""

    rows: int
    length: int
    sha256: str


def tables() -> list[Table]:
    """Return the tables of a dump, each after those that it refers to."""
    return [table for table in METADATA.sorted_tables if table is not HOLDS]


def file_of(folder: Path, table: str) -> Path:
    """Return where the file of a table is."""
    return folder / f"{table}.jsonl.gz"


def dump(connection: Connection, folder: Path) -> dict[str, TableFile]:
    """Write every table, in little memory.

    Args:
        connection: of a transaction that sees one moment (`Database.snapshot`).

    Raises:
        StorageError: the database cannot be read, or the disk written.
    """
    return {table.name: _dump(connection, table, file_of(folder, table.name)) for table in tables()}


def _dump(connection: Connection, table: Table, path: Path) -> TableFile:
    rows, columns = 0, list(table.columns)
    # the same rows give the same bytes: no name, no time in the header of gzip
    with replacing(path) as file, gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
        packed.write(_line([column.name for column in columns]))
        query = select(table).order_by(*table.primary_key.columns)
        for row in connection.execution_options(stream_results=True, yield_per=AT_ONCE).execute(query):
            packed.write(_line([_out(column, value) for column, value in zip(columns, row, strict=True)]))
            rows += 1
    length, digest = measure(path)
    return TableFile(rows, length, digest)


def load(connection: Connection, folder: Path) -> None:
    """Fill empty tables from the files of a dump, which were verified; raises `FileRefused`, `StorageError`."""
    for table in tables():
        batch: list[dict[str, object]] = []
        for row in read(folder, table.name):
            batch.append({column.name: _in(column, row[column.name]) for column in table.columns})
            if len(batch) >= AT_ONCE:
                connection.execute(table.insert(), batch)
                batch.clear()
        if batch:
            connection.execute(table.insert(), batch)
        _count_on(connection, table)


def read(folder: Path, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table's file; raises `FileRefused` where it is none."""
    path = file_of(folder, table)
    expected = [column.name for column in METADATA.tables[table].columns]
    try:
        with gzip.open(path, "rb") as file:
            if (names := json.loads(file.readline(MAX_ROW) or b"null")) != expected:
                raise FileRefused(f"{path}", expected=f"the columns {', '.join(expected)}", got=str(names)[:120])
            while line := file.readline(MAX_ROW):
                row = json.loads(line)
                if not isinstance(row, list) or len(row) != len(expected):
                    raise FileRefused(f"{path}", expected=f"rows of {len(expected)} values", got=repr(line[:40]))
                yield dict(zip(expected, row, strict=True))
    except FileNotFoundError as error:
        raise FileRefused(f"{path}", expected="a file", got="none") from error
    except (EOFError, ValueError) as error:
        raise FileRefused(f"{path}", expected="rows in JSON", got=type(error).__name__) from error
    except OSError as error:  # BadGzipFile is one
        raise StorageError(f"cannot read {path}: {error}") from error


def measure(path: Path) -> tuple[int, str]:
    """Return length and SHA-256 of a file; raises `StorageError`."""
    found, length = sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := _chunk(file):
                found.update(chunk)
                length += len(chunk)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    return length, found.hexdigest()


def _chunk(file: BinaryIO) -> bytes:
    return file.read(CHUNK)


def _count_on(connection: Connection, table: Table) -> None:
    """PostgreSQL counts by a sequence, which does not look at rows that came with a number."""
    column = table.autoincrement_column
    if column is None or connection.dialect.name != "postgresql":
        return
    newest = connection.execute(select(func.max(column))).scalar()
    if newest is not None:
        count = text("SELECT setval(pg_get_serial_sequence(:table, :column), :newest)")
        connection.execute(count, {"table": table.name, "column": column.name, "newest": newest})


def _line(values: list[object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _out(column: Column[Any], value: Any) -> object:
    return base64.b64encode(value).decode() if isinstance(column.type, LargeBinary) and value is not None else value


def _in(column: Column[Any], value: Any) -> object:
    return base64.b64decode(value) if isinstance(column.type, LargeBinary) and value is not None else value
