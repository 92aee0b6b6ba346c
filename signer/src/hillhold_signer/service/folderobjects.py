"""Objects in a folder, for a service of one process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from weakref import WeakValueDictionary

from hillhold_signer.errors import FileRefused, StorageError
from hillhold_signer.service.objects import Tagged, check_key
from hillhold_signer.storage import CHUNK, list_folder, place_file, remove_file, replacing, write_file


class FolderObjects:
    """Objects in a folder, for one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        """Write a file."""
        with self._alone(key):
            write_file(self._file(key), data)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write a file."""
        with self._alone(key), replacing(self._file(key)) as file:
            for chunk in chunks:
                file.write(chunk)

    def put_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write a file."""
        with self._alone(key):
            held = self._read(key)
            if (None if held is None else _tag(held)) != tag:
                return None
            write_file(self._file(key), data)
        return _tag(data)

    def read(self, key: str, limit: int) -> Tagged | None:
        """Read a file."""
        if (length := self.length(key)) is not None and length > limit:
            raise FileRefused(key, expected=f"at most {limit} bytes", got=length)
        data = self._read(key)
        return None if data is None else Tagged(data, _tag(data))

    def get(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read a file."""
        try:
            with self._file(key).open("rb") as file:
                file.seek(start)
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise StorageError(f"cannot read {key}: {error.strerror or error}") from error

    def length(self, key: str) -> int | None:
        """Look at a file."""
        path = self._file(key)
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise StorageError(f"cannot read {key}: {error.strerror or error}") from error

    def copy(self, source: str, target: str) -> None:
        """Give a file a second name: none is ever changed in place."""
        with self._alone(target):
            if self.length(source) is None:
                raise StorageError(f"cannot copy {source}: no such file")
            place_file(self._file(source), self._file(target))

    def delete(self, key: str) -> None:
        """Remove a file."""
        with self._alone(key):
            remove_file(self._file(key))

    def list(self, prefix: str) -> Iterator[str]:
        """Walk a folder; names of unfinished writes begin with a dot."""
        for name in list_folder(self._file(prefix)):
            key = f"{prefix}/{name}"
            if name.startswith("."):
                continue
            if (self.path / key).is_dir():
                yield from self.list(key)
            else:
                yield key

    def _file(self, key: str) -> Path:
        return self.path / check_key(key)

    def _read(self, key: str) -> bytes | None:
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {key}: {error.strerror or error}") from error

    def _alone(self, key: str) -> threading.Lock:
        """Two that write one file at once would take each other's temporary file."""
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())


def _tag(data: bytes) -> str:
    return sha256(data).hexdigest()
