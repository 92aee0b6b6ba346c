"""Bundles: a repository, or what some devices need of it, in one file (docs/FORMAT.md, "Bundle"). A bundle adds no trust.

A bundle is a zip archive that any tool reads, but there is one byte form for its content: entries are stored, sorted, and lie back
to back from the first byte on. So it has no room for what zip readers disagree on: entries that overlap or repeat a name, names that
lead out of a folder, links, compression bombs, bytes between entries.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from hillhold_verifier.errors import BundleError, OperationalError
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.sources import AbsentError, Content, FileContent, check_name, target_name

MAX_ENTRIES: Final = 16384
MAX_NAME: Final = 512
"""Characters of an entry's name."""
MAX_SIZE: Final = 2**32 - 1
"""Bytes of an entry and of a whole bundle: there are no 64-bit extensions."""

_NAME: Final = re.compile(
    r"metadata/[a-z0-9][a-z0-9._+-]*\.json"
    r"|targets/[a-z0-9][a-z0-9._+-]*/[a-z0-9][a-z0-9._+-]*/[0-9a-f]{64}\.[a-z0-9][a-z0-9._+-]*"
)
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_NEEDED: Final = 10
"""Version 1.0 of the format: stored files."""
_MADE_BY: Final = 3 << 8 | 10
"""On Unix, so that the attributes are a file mode."""
_DATE: Final = 0x21
"""1980-01-01, the first day there is; the time is 0."""
_MODE: Final = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored file.

    Attributes:
        crc: CRC-32 of the content; for other readers, this one does not look at it.
        offset: of the entry's header in the bundle.
    """

    name: str
    size: int
    crc: int
    offset: int

    @property
    def start(self) -> int:
        """Offset of the content."""
        return self.offset + _LOCAL.size + len(self.name)

    @property
    def end(self) -> int:
        """Offset of what follows."""
        return self.start + self.size

    def header(self) -> bytes:
        """Return the bytes that stand before the content."""
        name = self.name.encode()
        fields = (_NEEDED, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(name), 0)
        return _LOCAL.pack(b"PK\x03\x04", *fields) + name

    def listing(self) -> bytes:
        """Return the entry's bytes in the directory."""
        name = self.name.encode()
        fields = (_MADE_BY, _NEEDED, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(name), 0, 0, 0, 0)
        return _CENTRAL.pack(b"PK\x01\x02", *fields, _MODE, self.offset) + name


def check_entry_name(name: str) -> None:
    """Raise `BundleError` for a name that no file of a repository has."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise BundleError(
            "bundle entry", expected="metadata/… or targets/… as a repository has it", got=repr(name)[:80]
        )


def end_record(count: int, size: int, offset: int) -> bytes:
    """Return the last bytes of a bundle, after a directory of `count` entries and `size` bytes at `offset`."""
    return _END.pack(b"PK\x05\x06", 0, 0, count, count, size, offset, 0)


class BundleSource:
    """A bundle as a source. Between calls the file is closed; it is read in small pieces, whatever its size.

    Raises:
        BundleError: the file is not a bundle.
        OperationalError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self._entries = {entry.name: entry for entry in read_directory(file)}

    def metadata(self, name: str) -> bytes | None:
        """Read a file, or nothing where there is none."""
        limit = max_bytes(check_name(name)) + 1
        if (entry := self._entries.get(f"metadata/{name}")) is None:
            return None
        with self._opened() as file:
            return self._content(file, entry).read(0, limit)

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        """Open a target."""
        if (entry := self._entries.get(f"targets/{target_name(path, sha256)}")) is None:
            raise AbsentError(f"target {path}: not in the bundle")
        with self._opened() as file:
            yield self._content(file, entry)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise OperationalError(f"{self._path}: {error.strerror}") from None
        with file:
            yield file

    def _content(self, file: BinaryIO, entry: Entry) -> _EntryContent:
        content = _EntryContent(file, entry, str(self._path))
        if content.header() != entry.header():
            raise BundleError(
                f"bundle entry {entry.name}", expected="the header that its directory says", got="another"
            )
        return content


class _EntryContent(FileContent):
    """A file's content between two offsets."""

    def __init__(self, file: BinaryIO, entry: Entry, path: str) -> None:
        super().__init__(file, path)
        self._entry = entry

    def header(self) -> bytes:
        return super().read(self._entry.offset, self._entry.start - self._entry.offset)

    def read(self, offset: int, length: int) -> bytes:
        """Read a part."""
        return super().read(self._entry.start + offset, max(0, min(length, self._entry.size - offset)))


def read_directory(file: BinaryIO) -> Iterator[Entry]:
    """Yield the entries of a bundle, and hold that nothing else is in it.

    Raises:
        BundleError: another file, or a bundle in another byte form.
        OperationalError: it cannot be read.
    """
    try:
        yield from _read_directory(file)
    except OSError as error:
        raise OperationalError(f"bundle: {error.strerror}") from None


def _read_directory(file: BinaryIO) -> Iterator[Entry]:
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    last = file.read(_END.size)
    if len(last) < _END.size or last[:4] != b"PK\x05\x06":
        raise BundleError(
            "bundle", expected="a zip archive that ends with its directory", got="another or a shorter file"
        )
    count, length, offset = _END.unpack(last)[4:7]
    if count > MAX_ENTRIES or size != offset + length + _END.size or last != end_record(count, length, offset):
        raise BundleError(
            "end of the bundle", expected=f"a directory of at most {MAX_ENTRIES} entries right before", got="other"
        )
    file.seek(offset)
    at, before = 0, ""
    for _ in range(count):
        entry = _read_entry(file, at)
        if entry.name <= before:
            raise BundleError("bundle entries", expected=f"a name after {before}", got=entry.name)
        if entry.end > offset:
            raise BundleError(
                f"bundle entry {entry.name}", expected="content before the directory", got=f"{entry.size} bytes"
            )
        at, before = entry.end, entry.name
        length -= len(entry.listing())
        yield entry
    if at != offset or length:
        raise BundleError(
            "bundle", expected="entries back to back, and their directory behind", got=f"{offset - at} bytes more"
        )


def _read_entry(file: BinaryIO, offset: int) -> Entry:
    """Read the next entry of the directory, which has to lie at `offset`."""
    head = file.read(_CENTRAL.size)
    if len(head) < _CENTRAL.size:
        raise BundleError("bundle directory", expected="an entry", got="its end")
    fields = _CENTRAL.unpack(head)
    name = file.read(min(fields[10], MAX_NAME + 1))
    entry = Entry(name.decode("latin-1"), fields[8], fields[7], offset)
    check_entry_name(entry.name)
    if entry.listing() != head + name:
        raise BundleError(
            f"bundle entry {entry.name}", expected="stored, without extras, at its place", got="other fields"
        )
    return entry
