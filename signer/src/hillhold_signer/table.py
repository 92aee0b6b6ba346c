"""The table of an import: which file is which release, as CSV (RFC 4180, UTF-8, a header row, commas).

    file,version,hardware,kind,withdrawn
    2023/app-1.0.0.bin,1.0.0,nrf52-a,feature,
    2024/app-1.1.0.bin,1.1.0,nrf52-a nrf52-b,security,loses settings

| column             |          | value                                                                                      |
|--------------------|----------|--------------------------------------------------------------------------------------------|
| `file`             | required | path below the folder, with slashes                                                        |
| `version`          | required | what the image states; it decides the order, whatever the order of the rows                |
| `security_counter` |          | what the image states; empty: not compared                                                 |
| `name`             |          | file name in the repository; empty: the file's own, in lower case                          |
| `hardware`         |          | ids with spaces between them; empty: the line's only one                                   |
| `component`        |          | empty: `app`                                                                               |
| `kind`             |          | `security` or `feature`; empty: `feature`                                                  |
| `withdrawn`        |          | the reason why it must no longer be installed; empty: it may be                            |

Columns may stand in any order. An unknown one is refused: a typing error must not turn into a default.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from hillhold_signer.encoding import check_text
from hillhold_signer.errors import ImportRefused, SignerRefused, TableRefused
from hillhold_signer.releases import Wish
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import MAX_KEYS
from hillhold_verifier.release import DEFAULT_COMPONENT, Version

MAX_TABLE: Final = 4 * 1024 * 1024
"""Bytes of a table: 1 KiB for each release that a line may hold."""
REQUIRED: Final = ("file", "version")
COLUMNS: Final = (*REQUIRED, "security_counter", "name", "hardware", "component", "kind", "withdrawn")


@dataclass(frozen=True, slots=True)
class Row:
    """One release of a table.

    Attributes:
        line: where the row ends in the table, counted from 1.
        file: relative path of the image.
        counter: what the table says, or None.
        withdrawn: the reason, or None.
    """

    line: int
    file: PurePosixPath
    version: Version
    counter: int | None
    wish: Wish
    withdrawn: str | None


def read_table(data: bytes) -> tuple[Row, ...]:
    """Read a table.

    Raises:
        TableRefused: not CSV in UTF-8, or without the columns that are wanted.
        ImportRefused: rows that make no sense, all of them.
    """
    if len(data) > MAX_TABLE:
        raise TableRefused("table", expected=f"at most {MAX_TABLE} bytes", got=len(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "save the table as UTF-8"
        raise TableRefused(f"line {line}", expected="UTF-8", got=f"byte 0x{data[error.start]:02x}", hint=hint) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    bad: list[tuple[int, str]] = []
    try:
        header = _header(next(reader, []))
        for cells in reader:
            if not cells:
                continue
            try:
                rows.append(_row(reader.line_num, header, cells))
            except (SignerRefused, MetadataError) as error:
                bad.append((reader.line_num, str(error)))
    except csv.Error as error:
        raise TableRefused(f"line {reader.line_num}", expected="CSV", got=str(error)) from None
    if bad:
        raise ImportRefused(bad)
    if not 1 <= len(rows) <= MAX_KEYS:
        raise TableRefused("table", expected=f"1 to {MAX_KEYS} releases", got=len(rows))
    return tuple(rows)


def _header(cells: list[str]) -> list[str]:
    known = ", ".join(COLUMNS)
    for name in cells:
        if name not in COLUMNS or cells.count(name) > 1:
            got = f"{name!r} twice" if name in COLUMNS else repr(name)[:80]
            raise TableRefused("column in line 1", expected=f"each of {known} at most once", got=got)
    for name in REQUIRED:
        if name not in cells:
            raise TableRefused("columns in line 1", expected=f"{name} among them", got=", ".join(cells)[:80] or "none")
    return cells


def _row(line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise TableRefused("cells", expected=f"{len(header)}, as in the header", got=len(cells))
    value: Mapping[str, str] = dict(zip(header, (check_text(cell, "cell").strip() for cell in cells), strict=True))
    file = PurePosixPath(value["file"])
    if not value["file"] or file.is_absolute() or ".." in file.parts or "\\" in value["file"]:
        raise TableRefused("file", expected="a path below the folder, with slashes", got=repr(value["file"])[:80])
    counter = value.get("security_counter", "")
    if counter and not (counter.isascii() and counter.isdigit() and len(counter) <= 10):
        raise TableRefused("security_counter", expected="a number", got=repr(counter)[:40])
    wish = Wish(
        value.get("name") or file.name.lower(),
        value.get("kind") or "feature",
        tuple(value.get("hardware", "").split()),
        value.get("component") or DEFAULT_COMPONENT,
    )
    version = Version.parse(value["version"])
    return Row(line, file, version, int(counter) if counter else None, wish, value.get("withdrawn") or None)
