"""Where a repository's files come from. A source is trusted with nothing: whoever reads it checks what it says."""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from hillhold_verifier.errors import MetadataError, OperationalError
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.release import split_path

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._+-]*")


class AbsentError(OperationalError):
    """The source can be read, and has no such target: it is not whole."""


class Content(Protocol):
    """The bytes of one target. Reading in order is what is quick; a transfer that goes on may begin anywhere."""

    def read(self, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset` on, none at the end; raises `OperationalError`."""


class Source(Protocol):
    """A repository with consistent snapshots (TUF 6.2). It holds nothing open but within a `target` block."""

    def metadata(self, name: str) -> bytes | None:
        """Return the metadata file `name` ("3.root.json"), or None where there is none; raises as `target`.

        At most one byte more than a file of its role may have, so that too much is seen as too much.
        """

    def target(self, path: str, sha256: bytes) -> AbstractContextManager[Content]:
        """Open the target `path` with that hash.

        Raises:
            MetadataError: no name that a repository can have.
            AbsentError: there is none; at the latest when it is read.
            OperationalError: it cannot be read; likewise.
        """


def check_name(name: str) -> str:
    """Return the role of a metadata file's name; raises `MetadataError` for a name that no repository has.

    A board has a say in names: none may lead out of a repository, to a courier's own files.
    """
    if not _NAME.fullmatch(name):
        raise MetadataError("metadata file name", expected="[a-z0-9][a-z0-9._+-]*", got=repr(name))
    return name.removesuffix(".json").rpartition(".")[2]


def target_name(path: str, sha256: bytes) -> str:
    """Return the name under `targets/` of a target's file (TUF 6.2); raises `MetadataError` for a path that no repository has."""
    product, version, name = split_path(path)
    if len(sha256) != 32:
        raise MetadataError(f"SHA-256 of target {path}", expected="32 bytes", got=len(sha256))
    return f"{product}/{version}/{sha256.hex()}.{name}"


class DirectorySource:
    """A repository in a folder: `metadata/` and `targets/`, there or in `public/`."""

    def __init__(self, root: Path) -> None:
        candidates = (root, root / "public")
        try:
            found = next((path for path in candidates if (path / "metadata").is_dir()), None)
        except OSError as error:
            raise OperationalError(f"{root}: {error.strerror}") from None
        if found is None:
            raise OperationalError(f"{root}: not a repository (no folder metadata/ in it, or in its public/)")
        self._root = found

    def metadata(self, name: str) -> bytes | None:
        """Read a file, or nothing where there is none."""
        role = check_name(name)
        try:
            with _open(self._root / "metadata" / name) as file:
                return file.read(max_bytes(role) + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OperationalError(f"{name}: {error.strerror}") from None

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        """Open a file."""
        try:
            file = _open(self._root / "targets" / target_name(path, sha256))
        except FileNotFoundError as error:
            raise AbsentError(f"target {path}: {error.strerror}") from None
        except OSError as error:
            raise OperationalError(f"target {path}: {error.strerror}") from None
        with file:
            yield FileContent(file, path)


def _open(path: Path) -> BinaryIO:
    """Open a regular file: a pipe that lies in a repository would have its reader wait for ever."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder cannot be opened anyway
        raise OSError(errno.EINVAL, "not a regular file")
    return path.open("rb")


class FileContent:
    """A target in an open file."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path = file, path

    def read(self, offset: int, length: int) -> bytes:
        """Read a part."""
        try:
            self._file.seek(offset)
            return self._file.read(length)
        except OSError as error:
            raise OperationalError(f"target {self._path}: {error.strerror}") from None


def open_source(text: str, *, ca_file: Path | None = None) -> Source:
    """Return the source that `text` names: a folder, a bundle, or a URL.

    Args:
        text: path of a folder or a bundle, or `http(s)://HOST/PATH`.
        ca_file: certificates (PEM) that vouch for an https server, instead of the system's.

    Raises:
        MisuseError: a URL that is neither http nor https, or malformed.
        OperationalError: there is no such file or folder, or it cannot be read.
        BundleError: a file that is not a bundle.
    """
    # The modules of the others build on this one; and a device that has a folder needs no network code.
    if "://" in text:
        from hillhold_verifier.sources_http import HttpSource

        return HttpSource(text, ca_file=ca_file)
    path = Path(text)
    if path.is_file():
        from hillhold_verifier.bundle import BundleSource

        return BundleSource(path)
    return DirectorySource(path)
