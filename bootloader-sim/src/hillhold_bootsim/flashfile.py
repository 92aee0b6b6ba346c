"""A flash in one file that outlives the process, so that `kill -9` is a power cut.

    offset  bytes           what
    0       8               magic "HHflash" and a zero byte
    8       2               format version, 1 (big endian, like all numbers here)
    10      1               erased value
    11      1               zero
    12      4 · 4           size, sector, unit, one-way region, in bytes
    28      32              SHA-256 over all before it
    60      196             zero
    256     size + otp      content: main flash, then the one-way region
    …       ⌈units / 8⌉     programmed bitmap: bit i%8 (least significant first) of byte i//8 is unit i, both regions
    …       4 · sectors     wear per sector

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
from pathlib import Path
from typing import BinaryIO, Final

from hillhold_bootsim.flash import Flash, Geometry, MemoryStore, PowerCut
from hillhold_verifier.errors import MisuseError, OperationalError, RecordError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAGIC: Final = b"HHflash\0"
FORMAT: Final = 1
HEADER_SIZE: Final = 256
_FIELDS: Final = struct.Struct(">8sHBxIIII")
_LOCK_AT: Final = 2**31 - 2
"""Byte that is locked on Windows, where a lock hinders others' reading: beyond the end of any flash file."""


class FlashFileError(RecordError):
    """Not a flash file of this geometry and format."""


def header(geometry: Geometry) -> bytes:
    """Return the header of a flash file, which follows from the geometry alone."""
    g = geometry
    fields = _FIELDS.pack(MAGIC, FORMAT, g.erased_value, g.size, g.sector, g.unit, g.otp)
    return (fields + hashlib.sha256(fields).digest()).ljust(HEADER_SIZE, b"\0")


def check_header(data: bytes, geometry: Geometry) -> None:
    """Check the header of a flash file.

    Raises:
        FlashFileError: of another format or geometry, or damaged; says which.
    """
    if len(data) != HEADER_SIZE:
        raise FlashFileError("flash file header", expected=f"{HEADER_SIZE} bytes", got=len(data))
    magic, version, erased, size, sector, unit, otp = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise FlashFileError("flash file magic", expected=MAGIC.hex(), got=magic.hex())
    if version != FORMAT:
        raise FlashFileError("flash file format", expected=FORMAT, got=version)
    if data[_FIELDS.size : _FIELDS.size + 32] != hashlib.sha256(data[: _FIELDS.size]).digest():
        raise FlashFileError("flash file header checksum", expected="one that fits", got="another")
    g = geometry
    if (size, sector, unit, erased, otp) != (g.size, g.sector, g.unit, g.erased_value, g.otp):
        expected = f"size {g.size}, sector {g.sector}, unit {g.unit}, erased {g.erased_value:#04x}, otp {g.otp}"
        got = f"size {size}, sector {sector}, unit {unit}, erased {erased:#04x}, otp {otp}"
        raise FlashFileError("flash file geometry", expected=expected, got=got)
    if data != header(geometry):
        raise FlashFileError("flash file header", expected="zeros in its unused bytes", got="something else")


class FileBackedFlash(Flash):
    """A flash whose content, bitmap, wear and one-way region live in a file. A context manager; `close` it to let go of the lock.

    Raises:
        FlashFileError: the file is no flash file of this geometry and format.
        OperationalError: no such file, another process has it open, or the disk failed.
    """

    def __init__(self, path: Path, geometry: Geometry, power_cut: PowerCut | None = None) -> None:
        self._file_store = _FileStore(path, geometry)
        super().__init__(geometry, self._file_store, power_cut)

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
    new = MemoryStore(geometry)
    content = b"".join((header(geometry), new.content, _pack_bits(new.programmed), bytes(4 * geometry.sectors)))
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


class _FileStore(MemoryStore):
    """Memory that is written through to a file."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._path, self._geometry = path, geometry
        self._bitmap_at = HEADER_SIZE + geometry.end
        self._wear_at = self._bitmap_at + -(-geometry.units // 8)
        try:
            self._file: BinaryIO = path.open("r+b", buffering=0)
        except OSError as error:
            raise OperationalError(f"cannot open flash file {path}: {error.strerror}") from error
        try:
            _lock(self._file, path)
            self._load()
        except BaseException:
            self._file.close()
            raise

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()

    def save_content(self, offset: int, length: int) -> None:
        self._save(HEADER_SIZE + offset, bytes(self.content[offset : offset + length]))

    def save_programmed(self, first: int, count: int) -> None:
        low, high = first // 8, -(-(first + count) // 8)
        self._save(self._bitmap_at + low, _pack_bits(self.programmed[low * 8 : high * 8]))

    def save_wear(self, sector: int) -> None:
        self._save(self._wear_at + 4 * sector, self.wear[sector].to_bytes(4, "big"))

    def _load(self) -> None:
        geometry = self._geometry
        expected = self._wear_at + 4 * geometry.sectors
        try:
            length = os.fstat(self._file.fileno()).st_size
            check_header(self._read(min(length, HEADER_SIZE)), geometry)
            if length != expected:
                raise FlashFileError("flash file length", expected=f"{expected} bytes", got=length)
            self.content[:] = self._read(geometry.end)
            bits = self._read(self._wear_at - self._bitmap_at)
            wear = self._read(4 * geometry.sectors)
        except OSError as error:
            raise OperationalError(f"cannot read flash file {self._path}: {error.strerror}") from error
        self.programmed[:] = bytes(bits[i // 8] >> i % 8 & 1 for i in range(geometry.units))
        self.wear[:] = [count for (count,) in struct.iter_unpack(">I", wear)]

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


def _pack_bits(flags: bytes | bytearray) -> bytes:
    """One bit for each byte that is 0 or 1, least significant first."""
    packed = bytearray(-(-len(flags) // 8))
    for at, flag in enumerate(flags):
        packed[at // 8] |= flag << at % 8
    return bytes(packed)


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
