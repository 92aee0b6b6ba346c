"""Where things are in a repository directory.

    REPO/
      hillhold.toml              settings
      people/KEYID.X             the name of who holds a key
      revoked/KEYID              why a key must not be trusted any more, {"reason":…,"since":…}; of an image key its fingerprint
      .lock                      held by whoever writes
      drafts/ROLE/SHA256.json    what a role is to become, and which drafts it comes after
      drafts/ROLE/SHA256.sig     one person's signature on it
      staged/SHA256              target files that drafts name and that are not published yet
      image-keys/PRODUCT/FINGERPRINT.pub   public keys of a line's bootloaders
      public/                    what any static server serves
        metadata/                N.root.json timestamp.json N.snapshot.json N.targets.json N.PRODUCT.json
        targets/PRODUCT/VERSION/SHA256.FILE

Drafts and signatures are named by the hash of their bytes and never changed, so that two copies of a repository, in which two
people drafted or signed at once, become one by copying files: there is no name that both wrote with other bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from hillhold_signer.places import Place
from hillhold_signer.storage import there, walk_folder

SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9._+-]*")
"""One segment of a target path; the same for products, hardware ids, components and file names."""
MAX_SEGMENT: Final = 80
"""Characters of a segment: with a hash before and a patch suffix behind it, still a file name on every system."""
TOP_LEVEL: Final = frozenset({"root", "targets", "snapshot", "timestamp"})


P = TypeVar("P", bound=Place, covariant=True)


@dataclass(frozen=True)  # no slots: a generic class could not be made by its alias then
class LayoutOf(Generic[P]):
    """The files of one repository: in a folder, or wherever else."""

    path: P

    @property
    def config(self) -> P:
        """Settings."""
        return self._at("hillhold.toml")

    @property
    def people(self) -> P:
        """The folder of names by key id."""
        return self._at("people")

    @property
    def revoked(self) -> P:
        """The folder of keys that must not be trusted any more."""
        return self._at("revoked")

    @property
    def lock(self) -> P:
        """The lock file."""
        return self._at(".lock")

    @property
    def drafts(self) -> P:
        """The folder of drafts."""
        return self._at("drafts")

    @property
    def staged(self) -> P:
        """The folder of target files that are not published yet."""
        return self._at("staged")

    def image_keys(self, product: str) -> P:
        """Return the folder of the public keys that a line's bootloaders hold."""
        return self._at(f"image-keys/{product}")

    @property
    def public(self) -> P:
        """The published tree."""
        return self._at("public")

    def metadata(self, name: str) -> P:
        """Return the path of a published metadata file by its name with version, such as "3.root.json"."""
        return self.public / f"metadata/{name}"  # type: ignore[return-value]

    def target(self, path: str, sha256: str) -> P:
        """Return the path of a published target file (TUF 6.2: the hash before its name)."""
        folder, _, name = path.rpartition("/")
        return self.public / f"targets/{folder}/{sha256}.{name}"  # type: ignore[return-value]

    def source(self, path: str, sha256: str) -> P:
        """Return where the bytes of a target file are: published, staged, or published under another path.

        The last is so where another line, or another name, came with the same bytes in somebody else's copy of the repository: its
        publication took them from `staged`. Without any of these, the name that they would have there.
        """
        staged = self.staged_file(sha256)
        for place in (self.target(path, sha256), staged):
            if there(place):
                return place
        return next((place for place in self.target_files() if place.name.startswith(f"{sha256}.")), staged)

    def staged_file(self, sha256: str) -> P:
        """Return the path of a target file that is not published yet."""
        return self._at(f"staged/{sha256}")

    def target_files(self) -> list[P]:
        """Return the published target files; raises `StorageError`."""
        return walk_folder(self.public / "targets")  # type: ignore[arg-type]

    def _at(self, name: str) -> P:
        return self.path / name  # type: ignore[return-value]  # what is below a path is a path, below an entry an entry


Layout: TypeAlias = LayoutOf[Place]
"""The files of a repository, wherever they are."""
FolderLayout: TypeAlias = LayoutOf[Path]
"""The files of a repository in a folder."""


def is_segment(text: str) -> bool:
    """Say whether `text` may stand as a segment of a target path."""
    return len(text) <= MAX_SEGMENT and SEGMENT.fullmatch(text) is not None


def file_name(role: str, version: int) -> str:
    """Return the name of a metadata file under consistent snapshots (TUF 6.2)."""
    return f"{role}.json" if role == "timestamp" else f"{version}.{role}.json"
