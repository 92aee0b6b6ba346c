"""Where things are in a repository directory.

    REPO/
      hillhold.toml              settings
      people/KEYID.X             the name of who holds a key
      revoked/KEYID              why a key must not be trusted any more, {"reason":…,"since":…}
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
from typing import Final

SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9._+-]*")
"""One segment of a target path; the same for products, hardware ids, components and file names."""
MAX_SEGMENT: Final = 80
"""Characters of a segment: with a hash before and a patch suffix behind it, still a file name on every system."""
TOP_LEVEL: Final = frozenset({"root", "targets", "snapshot", "timestamp"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one repository."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings."""
        return self.path / "hillhold.toml"

    @property
    def people(self) -> Path:
        """The folder of names by key id."""
        return self.path / "people"

    @property
    def revoked(self) -> Path:
        """The folder of keys that must not be trusted any more."""
        return self.path / "revoked"

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.path / ".lock"

    @property
    def drafts(self) -> Path:
        """The folder of drafts."""
        return self.path / "drafts"

    @property
    def staged(self) -> Path:
        """The folder of target files that are not published yet."""
        return self.path / "staged"

    def image_keys(self, product: str) -> Path:
        """Return the folder of the public keys that a line's bootloaders hold."""
        return self.path / "image-keys" / product

    @property
    def public(self) -> Path:
        """The published tree."""
        return self.path / "public"

    def metadata(self, name: str) -> Path:
        """Return the path of a published metadata file by its name with version, such as "3.root.json"."""
        return self.public / "metadata" / name

    def target(self, path: str, sha256: str) -> Path:
        """Return the path of a published target file (TUF 6.2: the hash before its name)."""
        folder, _, name = path.rpartition("/")
        return self.public / "targets" / folder / f"{sha256}.{name}"

    def source(self, path: str, sha256: str) -> Path:
        """Return where the bytes of a target file are: published, staged, or published under another path.

        The last is so where another line, or another name, came with the same bytes in somebody else's copy of the repository: its
        publication took them from `staged`. Without any of these, the name that they would have there.
        """
        staged = self.staged / sha256
        if (public := self.target(path, sha256)).exists() or staged.exists():
            return public if public.exists() else staged
        return next((self.public / "targets").glob(f"*/*/{sha256}.*"), staged)


def is_segment(text: str) -> bool:
    """Say whether `text` may stand as a segment of a target path."""
    return len(text) <= MAX_SEGMENT and SEGMENT.fullmatch(text) is not None


def file_name(role: str, version: int) -> str:
    """Return the name of a metadata file under consistent snapshots (TUF 6.2)."""
    return f"{role}.json" if role == "timestamp" else f"{version}.{role}.json"
