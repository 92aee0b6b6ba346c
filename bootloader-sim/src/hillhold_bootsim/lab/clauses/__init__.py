"""Clauses of standards and literature that cases speak to, from versioned data files, one a source.

Each row has an id, as `iec62443-4-1:SUM-4`, and says in our own words what is asked or known: never a standard's text. `checked` is true
where whoever wrote the row had the text before them, and `against` names where; all other rows are still to be checked against the text
by the laboratory that hands in the report, which says so.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from hillhold_verifier.errors import MisuseError

UNCHECKED: Final = "to be checked"
_FIELDS: Final = {"id", "clause", "says", "checked", "against"}
_ID: Final = re.compile(r"[a-z0-9.-]+(:[A-Za-z0-9./_#:-]+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """A clause, a weakness or a report of one.

    Attributes:
        id: by which cases name it.
        clause: as the source numbers it.
        says: in our own words.
        checked: the row was written with the text at hand.
        against: which text; `UNCHECKED` where there was none.
    """

    id: str
    clause: str
    says: str
    checked: bool
    against: str


@dataclass(frozen=True, slots=True)
class Source:
    """A standard, a guidance or a body of literature.

    Attributes:
        key: what ids of its rows begin with; of literature "" (its ids name where they come from).
        version: of the data file, which changes with its rows.
        standard: a report maps it to cases clause by clause; literature is listed where a case names it.
    """

    key: str
    title: str
    edition: str
    version: int
    standard: bool
    rows: tuple[Row, ...]


@lru_cache(maxsize=1)
def sources() -> tuple[Source, ...]:
    """Return all sources, by file name, literature last."""
    folder = files(__name__)
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".toml"))
    found = [parse(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]
    return tuple(sorted(found, key=lambda source: not source.standard))


@lru_cache(maxsize=1)
def rows() -> dict[str, Row]:
    """Return all rows by id."""
    return {row.id: row for source in sources() for row in source.rows}


def parse(name: str, text: str) -> Source:
    """Return the source that a data file states.

    Raises:
        MisuseError: it is malformed; the files ship with the package, so that is its fault.
    """
    value = tomllib.loads(text)
    key = str(value["key"])
    found = tuple(_row(name, key, row) for row in value["row"])
    if len({row.id for row in found}) != len(found):
        raise MisuseError(f"{name}: expected each id once")
    return Source(key, value["title"], value["edition"], int(value["version"]), bool(key), found)


def _row(name: str, key: str, value: dict[str, Any]) -> Row:
    if not {"id", "clause", "says"} <= value.keys() <= _FIELDS:
        raise MisuseError(f"{name}: expected the fields {', '.join(sorted(_FIELDS))}, got {', '.join(value)}")
    row = Row(value["id"], value["clause"], value["says"], value.get("checked", False), value.get("against", UNCHECKED))
    if not _ID.fullmatch(row.id) or (key and not row.id.startswith(f"{key}:")):
        raise MisuseError(f"{name}: expected an id of {key or 'some source'}, got {row.id!r}")
    if row.checked is (row.against == UNCHECKED):
        raise MisuseError(f"{name}: {row.id}: expected `checked` with `against`, or neither")
    return row
