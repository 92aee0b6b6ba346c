"""Where a courier takes a repository's files from. A source is trusted with nothing."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from hillhold_verifier.errors import OperationalError
from hillhold_verifier.metadata import max_bytes


class Source(Protocol):
    """A repository with consistent snapshots (TUF 6.2)."""

    def metadata(self, name: str) -> bytes | None:
        """Return the metadata file `name` ("3.root.json"), or None where there is none."""

    def target(self, path: str, sha256: bytes) -> BinaryIO:
        """Open the target `path` with that hash; raises `OperationalError` where it is missing."""


class DirectorySource:
    """A repository in a folder: `metadata/` and `targets/`, there or in `public/`."""

    def __init__(self, root: Path) -> None:
        candidates = (root, root / "public")
        found = next((path for path in candidates if (path / "metadata").is_dir()), None)
        if found is None:
            raise OperationalError(f"{root}: not a repository (no folder metadata/ in it, or in its public/)")
        self._root = found

    def metadata(self, name: str) -> bytes | None:
        role = name.removesuffix(".json").rpartition(".")[2]
        try:
            with (self._root / "metadata" / name).open("rb") as file:
                return file.read(max_bytes(role) + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OperationalError(f"{name}: {error.strerror}") from None

    def target(self, path: str, sha256: bytes) -> BinaryIO:
        folder, _, name = path.rpartition("/")
        try:
            return (self._root / "targets" / folder / f"{sha256.hex()}.{name}").open("rb")
        except OSError as error:
            raise OperationalError(f"target {path}: {error.strerror}") from None
