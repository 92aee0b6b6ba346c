"""Files: read within a limit, written atomically, under an exclusive lock.

They lie in a folder, or in a store that sees to all of that by itself (`places`).

`write_file` is the only way in which the signer writes into a repository. In a folder: to a temporary name beside the target, synced,
renamed over it, directory synced. Whoever reads sees the old file or the new. The temporary name is fixed for each target, so that a
process killed half way leaves at most one stray file per target, which the next write replaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from hillhold_signer.errors import FileRefused, LockedError, StorageError
from hillhold_signer.places import Entry, Place
from hillhold_verifier.errors import MisuseError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

P = TypeVar("P", bound=Place)

CHUNK: Final = 1024 * 1024
"""Bytes of a file read at once, where it may be long."""
LOCK_TRIES: Final = 50
"""How often a busy lock is tried."""
LOCK_PAUSE: Final = 0.1
"""Seconds between two tries: five seconds in all, longer than a publication takes."""


def read_file(path: Place, limit: int) -> bytes:
    """Return the bytes of `path`.

    Args:
        limit: bytes; no more than that is read.

    Raises:
        FileRefused: it is longer.
        StorageError: it cannot be read.
    """
    data = read_optional(path, limit)
    if data is None:
        raise StorageError(f"cannot read {path}: no such file")
    return data


def read_optional(path: Place, limit: int) -> bytes | None:
    """Return the bytes of `path` as `read_file` does; None where there is no such file."""
    if isinstance(path, Entry):
        return path.store.read(path.key, limit)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise FileRefused(f"{path}", expected=f"at most {limit} bytes", got="more")
    return data


def write_file(path: Place, data: bytes) -> None:
    """Write `path` atomically, making its folders; one that already has this content is left alone.

    Raises:
        StorageError: the disk is full, read-only or failed; `path` is unchanged.
    """
    if isinstance(path, Entry):
        return path.store.write(path.key, data)
    if _size(path) == len(data) and read_optional(path, len(data)) == data:
        return
    with replacing(path) as file:
        file.write(data)
    return None


@contextlib.contextmanager
def replacing(path: Path, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the place of `path` at the end, whole; its folders are made.

    Args:
        lasting: it is on the disk then, and survives a loss of power; otherwise after `settle`.

    Raises:
        StorageError: the disk is full, read-only or failed; `path` is unchanged, as it is after any other error within.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # never through a link that somebody has put there
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        temporary.replace(path)
        if lasting:
            _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        hint = "nothing was changed by this write; free some space or check permissions, and run the command again"
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def place_file(source: Place, target: Place) -> None:
    """Make `target` the file `source`, atomically and without reading it: a second name for it where the file system has them.

    Only for a source that nobody writes in place, as everything that `write_file` and `replacing` made.

    Raises:
        StorageError: as `write_file` does.
    """
    if isinstance(source, Entry) or isinstance(target, Entry):
        return _in_one_store(source, target)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        temporary.replace(target)
        temporary.unlink(missing_ok=True)  # it stays where both are names of one file already
        _sync_folder(target.parent)
    except OSError:
        # No second names here, or none from there; what the disk really refuses, it refuses to the copy, too.
        with replacing(target) as file, source.open("rb") as staged:
            shutil.copyfileobj(staged, file, CHUNK)
    return None


def copy_file(source: Path, target: Place, wanted: tuple[int, str]) -> None:
    """Copy a file in pieces, atomically; it lasts after `settle`. Into a store it goes in one piece.

    Args:
        wanted: length and SHA-256 in hexadecimal.

    Raises:
        FileRefused: the source has other bytes; there is no `target` then, or the one that there was.
        StorageError: it cannot be read or written.
    """
    if isinstance(target, Entry):
        data = read_file(source, wanted[0])
        if (len(data), sha256(data).hexdigest()) != wanted:
            raise FileRefused(f"{source}", expected=f"SHA-256 {wanted[1][:16]}, as a moment ago", got="other bytes")
        return target.store.write(target.key, data)
    found, length = sha256(), 0
    try:
        with source.open("rb") as file, replacing(target, lasting=False) as copy:
            while length <= wanted[0] and (chunk := file.read(CHUNK)):
                found.update(chunk)
                length += len(chunk)
                copy.write(chunk)
            if (length, found.hexdigest()) != wanted:
                raise FileRefused(f"{source}", expected=f"SHA-256 {wanted[1][:16]}, as a moment ago", got="other bytes")
    except OSError as error:
        raise StorageError(f"cannot read {source}: {error.strerror or error}") from error
    return None


def settle(folder: Place, names: Iterable[str]) -> None:
    """Make what was copied into `folder` last: on the disk, under its name; raises `StorageError`.

    All at once, where the system can do that, is many times faster than one after the other. But only `fsync` tells of errors, and asking
    costs little then.
    """
    if isinstance(folder, Entry):
        return
    try:
        if sys.platform != "win32":
            os.sync()
        for name in names:
            with (folder / name).open("r+b") as file:
                os.fsync(file.fileno())
        _sync_folder(folder)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror or error}", hint="run the command again") from error


def digest_of(path: Place) -> tuple[int, str] | None:
    """Return length and SHA-256 in hexadecimal of a file, read in pieces; None where there is none; raises `StorageError`."""
    if isinstance(path, Entry):
        return path.store.digest(path.key)
    found, length = sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
                length += len(chunk)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    return length, found.hexdigest()


def create_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet, with permissions `mode` from its first byte on.

    Raises:
        StorageError: it exists, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {path.parent}: {error.strerror or error}") from error
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise StorageError(f"{path} exists", hint="choose another name; keys are never overwritten") from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def remove_file(path: Place) -> None:
    """Remove `path` if it is there; raises `StorageError`."""
    if isinstance(path, Entry):
        return path.store.remove(path.key)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from error
    return None


def open_file(path: Place) -> BinaryIO:
    """Open a file to read in pieces, which may raise `OSError` or `StorageError`; so may this, `FileNotFoundError` where there is none."""
    return path.store.open(path.key) if isinstance(path, Entry) else path.open("rb")


def size_of(path: Place) -> int:
    """Return the length of a file that is there; raises `StorageError`."""
    if isinstance(path, Entry):
        return (path.store.digest(path.key) or (0, ""))[0]
    try:
        return path.stat().st_size
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def name_below(path: Place, folder: Place) -> str:
    """Return the name that a file has below a folder, with slashes."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return path.relative_to(folder).as_posix()
    return str(path).removeprefix(f"{folder}/")


def there(path: Place) -> bool:
    """Say whether there is such a file; raises `StorageError`."""
    if isinstance(path, Entry):
        return path.store.digest(path.key) is not None
    return path.exists()


def walk_folder(path: P) -> list[P]:
    """Return all files below a folder but hidden ones, sorted; raises `StorageError`."""
    if isinstance(path, Entry):
        return [Entry(path.store, name) for name in path.store.walk(path.key)]  # type: ignore[misc]  # P is Entry here
    try:
        return sorted(item for item in path.rglob("*") if item.is_file() and not item.name.startswith("."))  # type: ignore[return-value]  # and Path here
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it; raises `StorageError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {path}: {error.strerror or error}") from error


def list_folder(path: Place) -> list[str]:
    """Return the names in a folder, sorted, without hidden ones; none where it does not exist; raises `StorageError`."""
    if isinstance(path, Entry):
        return path.store.list(path.key)
    try:
        return sorted(item.name for item in path.iterdir() if not item.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(path: Place, tries: int = LOCK_TRIES) -> Iterator[None]:
    """Hold the exclusive lock file `path`; the operating system releases it when the process ends, however it ends.

    Raises:
        LockedError: another process still holds it after `tries`.
        StorageError: the file cannot be opened.
    """
    if isinstance(path, Entry):
        with path.store.lock():
            yield
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        for attempt in range(tries):
            if _try_lock(descriptor):
                break
            if attempt + 1 < tries:
                time.sleep(LOCK_PAUSE)
        else:
            raise LockedError(
                f"{path.parent} is in use by another process", hint="wait until it has finished, and run this again"
            )
        yield
    finally:
        os.close(descriptor)


def _in_one_store(source: Place, target: Place) -> None:
    if not isinstance(source, Entry) or not isinstance(target, Entry) or source.store is not target.store:
        raise MisuseError("place_file: expected two names in one store")
    source.store.place(source.key, target.key)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _sync_folder(path: Path) -> None:
    """Make a rename durable; Windows has no such call for folders."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
