"""Where a log lies: in a folder, or behind an HTTP(S) server.

A store only ever adds, but for `checkpoint` and the writer's own `.pending`: a tile that is there is never written again with other bytes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from hillhold_signer.errors import FileRefused, LogRefused, StorageError, ToolError
from hillhold_signer.log.checkpoint import PATH as CHECKPOINT
from hillhold_signer.log.tiles import MAX_BUNDLE, Tile
from hillhold_signer.log.tree import Reader
from hillhold_signer.storage import list_folder, locked, read_optional, remove_file, replacing
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.fetch import Address, Broken, Getter

PENDING: Final = ".pending"
"""What the writer has decided to append and has not finished; nobody else reads it."""
TRIES: Final = 4
"""Attempts at one file of a server."""
STALL: Final = 20.0
"""Seconds that a server may take for an answer, and for each piece of a file."""
PAUSE: Final = 0.5
"""Seconds before the second attempt; before each later one twice as many."""

FOLDER: Final = re.compile(r"tile(/(entries|[1-9]?[0-9])(/x[0-9]{3})*(/[0-9]{3}\.p)?)?")
"""A folder of tiles."""


class Store(Reader, Protocol):
    """Where a writer keeps a log. Each call has reached the disk when it returns, and leaves all or nothing when it is cut off."""

    def create(self, path: str, data: bytes) -> None:
        """Write a file that is new, or has just this content.

        Raises:
            LogRefused: it is there with another content, and stays.
            OperationalError: it cannot be written.
        """
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Write `checkpoint` or `PENDING`; raises `OperationalError`."""
        ...

    def remove(self, path: str) -> None:
        """Remove `PENDING` or a partial tile; raises `OperationalError`."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep other writers out; raises `LockedError` where one is at work."""
        ...


class FolderStore:
    """A log in a folder. The folder is made by the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, path: str, limit: int) -> bytes | None:
        """Read a file."""
        return read_optional(self._file(path), limit)

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder, without those of unfinished writes."""
        if not FOLDER.fullmatch(folder):
            raise MisuseError(f"folder of a log: expected one of tiles, got {folder!r}")
        return list_folder(self.path / folder)

    def create(self, path: str, data: bytes) -> None:
        """Write a new file; one that is there is written once more, since what wrote it may have died before it was on the disk."""
        held = self.read(path, max(len(data), MAX_BUNDLE))
        if held is not None and held != data:
            hint = "the log was longer once, or is written from elsewhere; nothing was changed: verify it, and keep it"
            raise LogRefused(f"{self.path / path}", expected="a new file", got="one with other content", hint=hint)
        self.replace(path, data)

    def replace(self, path: str, data: bytes) -> None:
        """Write a file."""
        target = self._file(path)
        _make_folder(target.parent)
        with replacing(target) as file:
            file.write(data)

    def remove(self, path: str) -> None:
        """Remove a file, and the folder of partial tiles that it was the last in."""
        file = self._file(path)
        remove_file(file)
        if file.parent.suffix == ".p":
            with suppress(OSError):  # there are more
                file.parent.rmdir()

    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder."""
        _make_folder(self.path)
        return locked(self.path / ".lock")

    def _file(self, path: str) -> Path:
        """Only what a log consists of; a name from elsewhere leads nowhere else."""
        if path not in (CHECKPOINT, PENDING):
            Tile.parse(path)
        return self.path / path


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, each on the disk: what is in a folder that is lost is lost, however well it was written."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
        if sys.platform != "win32":  # which has no such call for folders
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise StorageError(f"cannot make {path}: {error.strerror or error}") from error


class UrlReader:
    """A log behind an HTTP(S) server, which is trusted with nothing and cannot make a reader wait for ever.

    Args:
        url: prefix of the log, `http(s)://[USER:PASSWORD@]HOST[:PORT]/PATH`.
        clock: seconds that only rise.
        sleep: waits so many seconds.
        token: of a signing service, whose log is for its auditors (RFC 6750); for this server alone.
        ca_file: certificates (PEM) that vouch for the server, instead of the system's.

    Raises:
        MisuseError: not such a URL.
        OperationalError: the CA file cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        token: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._address, self._getter, self._sleep, self._clock = Address.parse(url), Getter(ca_file, clock), sleep, clock
        if token is not None:
            self._address = replace(self._address, authorization=f"Bearer {token}")

    def read(self, path: str, limit: int) -> bytes | None:
        """Get a file."""
        address = self._address.below(path)
        for attempt in range(TRIES):
            if attempt:
                self._sleep(PAUSE * 2 ** (attempt - 1))
            try:
                return self._get(address, limit)
            except Broken as broken:
                why = str(broken)
        raise OperationalError(f"{address.shown}: {why}, tried {TRIES} times")

    def list(self, folder: str) -> list[str]:  # noqa: ARG002
        """Return nothing: a server does not say what it has."""
        return []

    def _get(self, address: Address, limit: int) -> bytes | None:
        data, end = bytearray(), self._clock() + STALL
        with closing(self._getter.get(address, {"Accept-Encoding": "identity"}, STALL)) as answer:
            if answer.status == 403 and address.authorization and address.path.endswith(f"/{CHECKPOINT}"):
                hint = (
                    "an administrator grants it: `hillhold account grant NAME auditor '*'`, and a new token has it then"
                )
                raise ToolError(f"{address.shown}: not permitted", hint=hint)
            if answer.status in (403, 404, 410):
                return None
            if answer.status == 401:
                hint = "the log of a service is for its auditors: `export HILLHOLD_SERVICE=URL HILLHOLD_TOKEN=…`, or --token-file"
                raise ToolError(f"{address.shown}: not logged in", hint=hint)
            if answer.status != 200:
                raise OperationalError(f"{address.shown}: status {answer.status}")
            while piece := answer.read(limit + 1 - len(data), max(0.0, end - self._clock())):
                data += piece
                if len(data) > limit:
                    raise FileRefused(address.shown, expected=f"at most {limit} bytes", got="more")
        return bytes(data)
