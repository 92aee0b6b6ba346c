"""A blob as a file that is read in pieces."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from hillhold_signer.service.names import blob_key
from hillhold_signer.service.objects import Objects


class BlobFile(io.RawIOBase):
    """A blob as a file; each piece is fetched when it is wanted."""

    def __init__(self, objects: Objects, digest: str, length: int) -> None:
        self._objects, self._key, self._length = objects, blob_key(digest), length
        self._at, self._left = 0, memoryview(b"")
        self._pieces: Iterator[bytes] = objects.get(self._key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        if at != self._at:
            self._at, self._left, self._pieces = at, memoryview(b""), self._objects.get(self._key, at)
        return at

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        self._at += count
        return count
