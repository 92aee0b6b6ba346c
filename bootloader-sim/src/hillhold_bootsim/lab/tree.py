"""A `Source` over a published tree in memory, as the forge makes it: names of the published tree with their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO

from hillhold_bootsim.lab.forge import Repo
from hillhold_verifier.sources import AbsentError, Content, FileContent


class TreeSource:
    """The tree may go on changing."""

    def __init__(self, tree: Mapping[str, bytes]) -> None:
        self.tree = tree

    @classmethod
    def of(cls, tree: Mapping[str, bytes] | Repo) -> TreeSource:
        """The source over a tree, or over what a repository has published."""
        return cls(tree.tree if isinstance(tree, Repo) else tree)

    def metadata(self, name: str) -> bytes | None:
        """Return a file of `metadata/`."""
        return self.tree.get(f"metadata/{name}")

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        """Open a file of `targets/`; raises `AbsentError`."""
        folder, _, name = path.rpartition("/")
        try:
            data = self.tree[f"targets/{folder}/{sha256.hex()}.{name}"]
        except KeyError:
            raise AbsentError(f"target {path}: missing") from None
        yield FileContent(BytesIO(data), path)
