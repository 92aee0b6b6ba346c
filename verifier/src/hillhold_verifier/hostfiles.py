"""What a host keeps of one stock board, in a folder: two state areas, and a lock. Linux, macOS and Windows.

state.0, state.1    records as a device writes them (`state`), each in a file that is allocated whole
lock                held while a command works on the folder; it goes with the process
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hillhold_verifier.errors import OperationalError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

AREA: Final = 2 * 1024 * 1024
"""Bytes of a state area: metadata files as large as they may be, and what else the state holds."""
AREAS: Final = ("state.0", "state.1")
LOCK: Final = "lock"


class HostAreas:
    """Two state areas in a folder (`slots.RecordAreas`)."""

    size = AREA

    def __init__(self, folder: Path) -> None:
        self._paths = tuple(folder / name for name in AREAS)

    def allocate(self) -> None:
        """Make the areas, with all their bytes: a full disk does not stop the host from recording what it accepted later."""
        for path in self._paths:
            with _failing(path), path.open("wb") as file:
                file.write(bytes(AREA))
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(self._paths[0].parent)

    def read(self, index: int) -> bytes:
        """Return an area's content; empty where there is none, which is no record."""
        try:
            return self._paths[index].read_bytes()[:AREA]
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise OperationalError(f"host state {self._paths[index]}: {error.strerror}") from None

    def write(self, index: int, data: bytes) -> None:
        """Write an area, in place; it is on the disk when this returns."""
        path = self._paths[index]
        with _failing(path), path.open("r+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def is_new(folder: Path) -> bool:
    """Say whether a folder holds no state yet: it is absent, or nothing but zeros was ever written there."""
    areas = HostAreas(folder)
    return not any(areas.read(index).strip(b"\0") for index in (0, 1))


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder alone; it is made where there is none.

    Raises:
        OperationalError: another process has it, or it cannot be made.
    """
    path = folder / LOCK
    with _failing(path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(handle):
            raise OperationalError(f"host state {folder}: in use by another process")
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OperationalError(f"host state {path}: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    """Make new names durable; Windows has no such call for folders."""
    if sys.platform == "win32":
        return
    with _failing(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
