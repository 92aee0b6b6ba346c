"""State records, slots and a counter in files and block devices.

What is written is on the medium when a call returns (`fdatasync`), so that the order of writes is that of the calls: the rules of
DESIGN §4 ("state is written before the act that depends on it") hold over a page cache too. State areas are allocated whole when the
board is provisioned, and then written in place: a full disk does not stop a device from recording what it accepted. An area that
is torn fails its checksum, and the other one counts (`state`).
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hillhold_verifier.errors import MisuseError, OperationalError

AREA: Final = 2 * 1024 * 1024
"""Bytes of a state area: metadata files as large as they may be, and what else the state holds."""
SECTOR: Final = 4096
"""Bytes that are erased and written together: what a file system or a disk writes at a time, and so may lose with a torn write."""
PIECE: Final = 16 * 1024
"""Bytes of zeros that are written at a time: a slot is erased in no more memory than a patch is applied in."""
_FILE_MODE: Final = 0o600


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the device's state alone; the hold goes with the process.

    Raises:
        OperationalError: another process has it, or there is no such folder.
    """
    with _failing(f"device state {folder}"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperationalError(f"device state {folder}: in use by another process") from None
        yield
    finally:
        os.close(handle)


class FileRecordAreas:
    """Two state areas, `state.0` and `state.1` in a folder (`slots.RecordAreas`)."""

    def __init__(self, folder: Path) -> None:
        self._paths = (folder / "state.0", folder / "state.1")

    @property
    def size(self) -> int:
        """Bytes of either area."""
        return AREA

    def allocate(self) -> None:
        """Make the areas, with all their bytes (an act of provisioning); raises `OperationalError`."""
        for path in self._paths:
            with _opened(path, os.O_RDWR | os.O_CREAT) as handle, _failing(f"device state {path}"):
                os.posix_fallocate(handle, 0, AREA)
                os.fsync(handle)
        _sync_folder(self._paths[0].parent)

    def read(self, index: int) -> bytes:
        """Return an area's content; empty where there is none, which is no record."""
        try:
            return self._paths[index].read_bytes()[:AREA]
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise OperationalError(f"device state {self._paths[index]}: {error.strerror}") from None

    def write(self, index: int, data: bytes) -> None:
        """Write an area, in place."""
        with _opened(self._paths[index], os.O_RDWR) as handle, _failing(f"device state {self._paths[index]}"):
            _store(handle, 0, data)


class FileSlots:
    """Two slots in files or block devices (`slots.Slots`). A file's size is fixed by whoever made it.

    A block device that is mounted cannot be written: the kernel refuses it to `O_EXCL`.

    Raises (at construction):
        OperationalError: one of them cannot be read.
        MisuseError: not two.
    """

    sector = SECTOR
    unit = SECTOR
    erased_value = 0

    def __init__(self, paths: Sequence[Path]) -> None:
        if len(paths) != 2 or len(set(paths)) != 2:
            raise MisuseError(f"slots of a component: expected two, got {', '.join(map(str, paths)) or 'none'}")
        self._paths = tuple(paths)
        self.size = min(_size(path) for path in paths) // SECTOR * SECTOR

    def read(self, slot: int, offset: int, length: int) -> bytes:
        """Return `length` bytes, as they are on the medium."""
        path = self._paths[slot]
        try:  # as `_opened` and `_failing`, which would cost as much as hashing what is read
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(handle, length, offset)
            finally:
                os.close(handle)
        except OSError as error:
            raise OperationalError(f"slot {path}: {error.strerror}") from None
        if len(data) != length:
            raise OperationalError(f"slot {path}: {len(data)} bytes at {offset}, not {length}")
        return data

    def erase(self, slot: int, offset: int, length: int) -> None:
        """Write zeros."""
        path = self._paths[slot]
        with _opened(path, os.O_RDWR | _exclusive_flag(path)) as handle, _failing(f"slot {path}"):
            for at in range(offset, offset + length, PIECE):
                _write(handle, at, bytes(min(PIECE, offset + length - at)))
            os.fdatasync(handle)

    def write(self, slot: int, offset: int, data: bytes) -> None:
        """Write `data`."""
        path = self._paths[slot]
        with _opened(path, os.O_RDWR | _exclusive_flag(path)) as handle, _failing(f"slot {path}"):
            _store(handle, offset, data)


class FileCounter:
    """A security counter in a file (`slots.CounterStore`): decimal digits and a line break. It does not stop root."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def allocate(self) -> None:
        """Make the file, with counter 0, where there is none (an act of provisioning); raises `OperationalError`."""
        if not self._path.exists():
            self._replace(0)

    def value(self) -> int:
        """Return the counter.

        Raises:
            OperationalError: there is none, or it is no number; that is never taken for 0.
        """
        with _failing(f"security counter {self._path}"):
            text = self._path.read_bytes()
        if not text.endswith(b"\n") or not text[:-1].isdigit() or len(text) > 11:
            raise OperationalError(
                f"security counter {self._path}: expected digits and a line break, got {text[:20]!r}"
            )
        return int(text)

    def raise_to(self, value: int) -> None:
        """Raise the counter, in one step; a lower value is ignored."""
        if value > self.value():
            self._replace(value)

    def _replace(self, value: int) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            with _opened(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as handle, _failing(f"security counter {new}"):
                _store(handle, 0, b"%d\n" % value)
                new.replace(self._path)
        except OperationalError:
            with suppress(OSError):
                new.unlink()
            raise
        _sync_folder(self._path.parent)


@contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OperationalError(f"{what}: {error.strerror}") from None


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    with _failing(str(path)):
        handle = os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)
    try:
        yield handle
    finally:
        os.close(handle)


def _exclusive_flag(path: Path) -> int:
    return os.O_EXCL if stat.S_ISBLK(path.stat().st_mode) else 0


def _size(path: Path) -> int:
    with _opened(path, os.O_RDONLY) as handle, _failing(f"slot {path}"):
        return os.lseek(handle, 0, os.SEEK_END)


def _write(handle: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a write may be short
        count = os.pwrite(handle, view, offset)
        view, offset = view[count:], offset + count


def _store(handle: int, offset: int, data: bytes) -> None:
    _write(handle, offset, data)
    os.fdatasync(handle)


def _sync_folder(folder: Path) -> None:
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as handle, _failing(str(folder)):
        os.fsync(handle)
