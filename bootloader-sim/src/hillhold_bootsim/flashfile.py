"""A flash in one file that outlives the process, so that `kill -9` is a power cut.

    offset  bytes           what
    0       8               magic "HHflash" and a zero byte
    8       2               format version, 2 (big endian, like all numbers here)
    10      1               erased value
    11      1               number of runs of sectors, 1 to 16
    12      4 · 2           unit, one-way region, in bytes
    20      8 · 16          runs: number of sectors and their size in bytes; zeros behind the last
    148     32              SHA-256 over all before it
    180     76              zero
    256     size + otp      content: main flash, then the one-way region
    …       units           1 for each unit that is programmed, else 0; both regions
    …       4 · sectors     wear per sector
    …       sectors         1 for each sector that reads unstably, else 0

The header follows from the geometry alone: one byte form. Every operation is written through to the operating system before it
returns, in an order in which a killed process leaves what a torn operation leaves. It is not synced to the disk: a host that
loses its own power may lose the file.

One process at a time: `open` takes an exclusive lock. A file of another geometry or format, or of another length, is refused. Creating is
atomic: a whole file appears under its name, or none.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from hillhold_bootsim.flash import Flash, PowerCut
from hillhold_bootsim.geometry import MAX_RUNS, Geometry
from hillhold_bootsim.torn import Sector
from hillhold_verifier.errors import MisuseError, OperationalError, RecordError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAGIC: Final = b"HHflash\0"
FORMAT: Final = 2
HEADER_SIZE: Final = 256
_FIELDS: Final = struct.Struct(">8sHBBII")
_RUN: Final = struct.Struct(">II")
_CHECKED: Final = _FIELDS.size + MAX_RUNS * _RUN.size
_LOCK_AT: Final = 2**31 - 2
"""Byte that is locked on Windows, where a lock hinders others' reading: beyond the end of any flash file."""


class FlashFileError(RecordError):
    """Not a flash file of this geometry and format."""


def header(geometry: Geometry) -> bytes:
    """Return the header of a flash file, which follows from the geometry alone."""
    g = geometry
    runs = b"".join(_RUN.pack(*run) for run in g.runs)
    fields = (_FIELDS.pack(MAGIC, FORMAT, g.erased_value, len(g.runs), g.unit, g.otp) + runs).ljust(_CHECKED, b"\0")
    return (fields + hashlib.sha256(fields).digest()).ljust(HEADER_SIZE, b"\0")


def check_header(data: bytes, geometry: Geometry) -> None:
    """Check the header of a flash file.

    Raises:
        FlashFileError: of another format or geometry, or damaged; says which.
    """
    if len(data) != HEADER_SIZE:
        raise FlashFileError("flash file header", expected=f"{HEADER_SIZE} bytes", got=len(data))
    magic, version, erased, count, unit, otp = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise FlashFileError("flash file magic", expected=MAGIC.hex(), got=magic.hex())
    if version != FORMAT:
        raise FlashFileError("flash file format", expected=FORMAT, got=version)
    if data[_CHECKED : _CHECKED + 32] != hashlib.sha256(data[:_CHECKED]).digest():
        raise FlashFileError("flash file header checksum", expected="one that fits", got="another")
    runs = tuple(_RUN.iter_unpack(data[_FIELDS.size : _CHECKED]))[:count]
    g = geometry
    if (runs, unit, erased, otp) != (g.runs, g.unit, g.erased_value, g.otp):
        expected, got = _words(g.runs, g.unit, g.erased_value, g.otp), _words(runs, unit, erased, otp)
        raise FlashFileError("flash file geometry", expected=expected, got=got)
    if data != header(geometry):
        raise FlashFileError("flash file header", expected="zeros in its unused bytes", got="something else")


def _words(runs: Sequence[Sequence[int]], unit: int, erased: int, otp: int) -> str:
    sectors = " + ".join(f"{count} of {size}" for count, size in runs)
    return f"sectors {sectors}, unit {unit}, erased {erased:#04x}, otp {otp}"


class FileBackedFlash(Flash):
    """A flash whose content, bitmap, wear and one-way region live in a file. A context manager; `close` it to let go of the lock.

    Raises:
        FlashFileError: the file is no flash file of this geometry and format.
        OperationalError: no such file, another process has it open, or the disk failed.
    """

    def __init__(self, path: Path, geometry: Geometry, power_cut: PowerCut | None = None) -> None:
        self._file_store = _FileStore(path, geometry)
        try:
            super().__init__(geometry, self._file_store, power_cut)
        except BaseException:
            self._file_store.close()
            raise

    def close(self) -> None:
        """Close the file and let go of the lock; the flash has no power any more."""
        self.power_off()
        self._file_store.close()

    def power_on(self) -> None:
        """Give power.

        Raises:
            MisuseError: the file was closed.
        """
        if self._file_store.closed:
            raise MisuseError("the flash file was closed: open it again")
        super().power_on()

    def __enter__(self) -> FileBackedFlash:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def create_flash_file(path: Path, geometry: Geometry) -> None:
    """Write a factory-new flash file, whole or not at all.

    Raises:
        OperationalError: something of that name exists, or the disk failed.
    """
    blank = bytes([geometry.erased_value]) * geometry.end
    content = b"".join((header(geometry), blank, bytes(geometry.end // geometry.unit + 5 * geometry.sectors)))
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OperationalError(f"cannot create {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if sys.platform == "win32":
            temporary.rename(path)  # fails where the name is taken
        else:
            path.hardlink_to(
                temporary
            )  # likewise; a rename would replace a file that another process has just created and locked
    except FileExistsError as error:
        raise OperationalError(f"cannot create {path}: it exists") from error
    except OSError as error:
        raise OperationalError(f"cannot create {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def open_or_create(path: Path, geometry: Geometry, power_cut: PowerCut | None = None) -> FileBackedFlash:
    """Open a flash file; create it first where there is none.

    Raises:
        FlashFileError, OperationalError: as `FileBackedFlash`.
    """
    if not path.exists():
        try:
            create_flash_file(path, geometry)
        except OperationalError:
            # Another process may have been faster; then its file is opened.
            if not path.exists():
                raise
    return FileBackedFlash(path, geometry, power_cut)


class _FileStore:
    """A store that is a file."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        self._path, self._geometry = path, geometry
        self._programmed_at = HEADER_SIZE + geometry.end
        self._wear_at = self._programmed_at + geometry.end // geometry.unit
        self._unstable_at = self._wear_at + 4 * geometry.sectors
        try:
            self._file: BinaryIO = path.open("r+b", buffering=0)
        except OSError as error:
            raise OperationalError(f"cannot open flash file {path}: {error.strerror}") from error
        try:
            _lock(self._file, path)
            self._check()
        except BaseException:
            self._file.close()
            raise

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()

    def load(self) -> tuple[list[Sector], list[int]]:
        g = self._geometry
        try:
            self._file.seek(HEADER_SIZE)
            content, programmed = self._read(g.end), self._read(self._wear_at - self._programmed_at)
            wear, unstable = self._read(4 * g.sectors), self._read(g.sectors)
        except OSError as error:
            raise OperationalError(f"cannot read flash file {self._path}: {error.strerror}") from error
        if (set(programmed) | set(unstable)) - {0, 1}:
            raise FlashFileError("flash file flags", expected="0 or 1", got="something else")
        sectors = []
        for start, size, flag in zip(g.starts, g.sizes, (*unstable, 0), strict=True):
            first, count = start // g.unit, size // g.unit
            sectors.append(Sector(content[start : start + size], programmed[first : first + count], flag == 1))
        return sectors, [count for (count,) in struct.iter_unpack(">I", wear)]

    def keep(self, index: int, old: Sector, new: Sector, wear: int) -> None:
        start, unit = self._geometry.starts[index], self._geometry.unit
        at = self._programmed_at + start // unit
        if index < self._geometry.sectors:
            self._save(self._wear_at + 4 * index, wear.to_bytes(4, "big"))
            if not new.unstable:
                self._save(self._unstable_at + index, b"\0")
        # Until the content is there its units count as programmed, and all of a sector that is erased; none is unstable that counts
        # as blank: a process that is killed in between leaves what a torn operation leaves.
        erases = any(was > now for was, now in zip(old.programmed, new.programmed, strict=True))
        self._save(at, b"\x01" * len(new.programmed) if erases else new.programmed)
        self._save(HEADER_SIZE + start, new.content)
        if erases:
            self._save(at, new.programmed)
        if new.unstable:
            self._save(self._unstable_at + index, b"\1")

    def _check(self) -> None:
        expected = self._unstable_at + self._geometry.sectors
        try:
            length = os.fstat(self._file.fileno()).st_size
            check_header(self._read(min(length, HEADER_SIZE)), self._geometry)
        except OSError as error:
            raise OperationalError(f"cannot read flash file {self._path}: {error.strerror}") from error
        if length != expected:
            raise FlashFileError("flash file length", expected=f"{expected} bytes", got=length)

    def _read(self, length: int) -> bytes:
        pieces = []
        while length > 0:
            piece = self._file.read(length)
            if not piece:
                raise FlashFileError("flash file", expected=f"{length} more bytes", got="its end")
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _save(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            self._file.seek(offset)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            # Memory and file differ now, and only the file is true: it has to be opened again.
            self.close()
            raise OperationalError(f"cannot write flash file {self._path}: {error.strerror}") from error


def _lock(file: BinaryIO, path: Path) -> None:
    """Take the exclusive lock, which goes with the process however it ends."""
    try:
        if sys.platform == "win32":
            file.seek(_LOCK_AT)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OperationalError(f"flash file {path} is in use by another process") from error
