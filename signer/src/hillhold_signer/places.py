"""Where a repository's files lie: in a folder (`pathlib.Path`), or in a store of another kind (`Entry`).

`storage` reads and writes both alike, so that everything above it is the same for a folder, for the database of a service, and for a
service that is asked over HTTP.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, TypeAlias


class Store(Protocol):
    """The files of one repository, by names as "drafts/pump/0f….json" (`layout`).

    Every call raises `StorageError` where the store cannot be reached or fails.
    """

    @property
    def stamp(self) -> int | None:
        """A number that is another after each write, where nobody else writes while this store is in use; else None."""
        ...

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file's bytes, or None; raises `FileRefused` where there are more than `limit`."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file; it lasts at the latest when the lock is given up."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...

    def walk(self, folder: str) -> list[str]:
        """Return the names of all files below a folder, whole and sorted."""
        ...

    def list(self, folder: str) -> list[str]:
        """Return the names of files and folders in a folder, sorted."""
        ...

    def digest(self, name: str) -> tuple[int, str] | None:
        """Return length and SHA-256 in hexadecimal of a file; None where there is none."""
        ...

    def place(self, source: str, target: str) -> None:
        """Give the bytes of `source` a second name."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file to read in pieces."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep other writers out, and make what is written within last; raises `LockedError` where one stays at work."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """The name of a file or folder in a store, which is put together as a `Path` is.

    Attributes:
        key: its name in the store, "" for the repository itself.
    """

    store: Store
    key: str = ""

    def __truediv__(self, name: str) -> Entry:
        return Entry(self.store, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return self.key

    @property
    def name(self) -> str:
        """The last part of its name."""
        return PurePosixPath(self.key).name

    def exists(self) -> bool:
        """Say whether there is such a file, or a file in such a folder."""
        return self.store.digest(self.key) is not None or bool(self.store.list(self.key))


Place: TypeAlias = Path | Entry
"""A file or folder of a repository."""
