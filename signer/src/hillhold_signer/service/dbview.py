"""What one unit has seen of the table `files`: its first statement, names and lengths, and the bytes that were read."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import TextClause, bindparam, func, select, text

from hillhold_signer.service.names import TIMESTAMP, below
from hillhold_signer.service.tables import BLOBS, FILES, TARGETS

ROOTS: Final = 16
"""Roots that are looked for at once."""

_ROOT: Final = re.compile(r"public/metadata/([1-9][0-9]*)\.root\.json")


def _view_statement() -> TextClause:
    """Each unit begins with it; so it is text, of constants but for a few names (`Ahead`)."""
    roots = ", ".join(f"'public/metadata/{number}.root.json'" for number in range(1, ROOTS + 1))
    parts = {
        "data": (
            "name < 'drafts/'",
            "name >= 'drafts0' AND name < 'public/'",
            "name >= 'public0'",
            f"name IN ({roots}, '{TIMESTAMP}')",
        ),
        # Of a draft, which may be long, and of what a process holds already.
        "NULL": (
            *(f"name >= 'drafts/{role}/' AND name < 'drafts/{role}0'" for role in ("root", "targets")),
            "name >= :first AND name < :last",
            "name IN (:snapshot, :targets, :line)",
        ),
    }
    selects = [f"SELECT name, length(data), {what} FROM files WHERE {where}" for what in parts for where in parts[what]]  # noqa: S608
    return text(" UNION ALL ".join(selects))


VIEW: Final = _view_statement()

# Other statements of a store. They are made once: that takes longer than to have them answered.
FILE_NAMED: Final = select(FILES.c.name).where(FILES.c.name == bindparam("wanted"))
LENGTHS: Final = select(FILES.c.name, func.length(FILES.c.data)).where(
    FILES.c.name >= bindparam("first"), FILES.c.name < bindparam("last")
)
BLOB: Final = (
    select(BLOBS.c.length, TARGETS.c.name)
    .select_from(BLOBS.outerjoin(TARGETS, TARGETS.c.sha256 == BLOBS.c.sha256))
    .where(BLOBS.c.sha256 == bindparam("wanted"))
)
TARGETS_NAMED: Final = select(TARGETS.c.name).where(
    TARGETS.c.name >= bindparam("first"), TARGETS.c.name < bindparam("last")
)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a unit will most likely ask for, so that its first statement looks for it, too.

    Attributes:
        line: whose drafts.
        snapshot, targets, published: names of published files, "" for none: the line's own is the last.
    """

    line: str = ""
    snapshot: str = ""
    targets: str = ""
    published: str = ""

    def parameters(self) -> Mapping[str, str]:
        """Return the parameters of `VIEW`."""
        first, last = (f"drafts/{self.line}/", f"drafts/{self.line}0") if self.line else ("", "")
        names = {"snapshot": self.snapshot, "targets": self.targets, "line": self.published}
        return {"first": first, "last": last, **names}


class Cache:
    """Files that never change, by name, in bounded memory; for all threads of a process."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, name: str) -> bytes | None:
        """Return a file, or None."""
        with self._guard:
            if (found := self._files.get(name)) is not None:
                self._files.move_to_end(name)
            return found

    def put(self, name: str, data: bytes) -> None:
        """Keep a file; those that nobody has asked for the longest go."""
        with self._guard:
            self._size += len(data) - len(self._files.pop(name, b""))
            self._files[name] = data
            while self._size > self._limit:
                self._size -= len(self._files.popitem(last=False)[1])


class Held:
    """What a store knows of `files`: names with lengths, and the bytes that were read."""

    def __init__(self, rows: Iterable[tuple[str, int, bytes | None]], line: str = "") -> None:
        self.lengths: dict[str, int] = {}
        self.data: dict[str, bytes] = {}
        self.folders: dict[str, set[str]] = {}
        self.looked_into = {"root", "targets", *([line] if line else [])}
        """Roles whose drafts are among these; "" for all."""
        for name, length, data in rows:
            self.add(name, length)
            if data is not None or length == 0:
                self.data[name] = data or b""

    def knows(self, name: str) -> bool:
        """Whether a file that is not among them does not exist."""
        if not below("public", name):
            return True
        root = _ROOT.fullmatch(name)
        return name == TIMESTAMP or (root is not None and int(root[1]) <= ROOTS)

    def add(self, name: str, length: int) -> None:
        """Note a file, and the folders that it is in."""
        self.lengths[name] = length
        self.data.pop(name, None)
        while name:
            folder, _, last = name.rpartition("/")
            self.folders.setdefault(folder, set()).add(last)
            name = folder

    def discard(self, name: str) -> None:
        """Forget a file, and the folders that are empty without it."""
        self.lengths.pop(name, None)
        self.data.pop(name, None)
        while name and not self.folders.get(name):
            folder, _, last = name.rpartition("/")
            self.folders.get(folder, set()).discard(last)
            name = folder
