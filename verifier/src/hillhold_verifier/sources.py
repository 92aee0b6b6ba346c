"""Where a courier takes a repository's files from. A source is trusted with nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from hillhold_verifier.errors import MetadataError, OperationalError
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.release import split_path

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._+-]*")


class Source(Protocol):
    """A repository with consistent snapshots (TUF 6.2)."""

    def metadata(self, name: str) -> bytes | None:
        """Return the metadata file `name` ("3.root.json"), or None where there is none; raises as `target`."""

    def target(self, path: str, sha256: bytes) -> BinaryIO:
        """Open the target `path` with that hash.

        Raises:
            MetadataError: no name that a repository can have.
            OperationalError: it is missing, or cannot be read.
        """


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
        # A board has a say in names: none may lead out of the folder, to a courier's own files.
        if not _NAME.fullmatch(name):
            raise MetadataError("metadata file name", expected="[a-z0-9][a-z0-9._+-]*", got=repr(name))
        role = name.removesuffix(".json").rpartition(".")[2]
        try:
            with (self._root / "metadata" / name).open("rb") as file:
                return file.read(max_bytes(role) + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OperationalError(f"{name}: {error.strerror}") from None

    def target(self, path: str, sha256: bytes) -> BinaryIO:
        product, version, name = split_path(path)
        if len(sha256) != 32:
            raise MetadataError(f"SHA-256 of target {path}", expected="32 bytes", got=len(sha256))
        try:
            return (self._root / "targets" / product / version / f"{sha256.hex()}.{name}").open("rb")
        except OSError as error:
            raise OperationalError(f"target {path}: {error.strerror}") from None
