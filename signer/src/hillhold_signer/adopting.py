"""A repository around what was published, where everything else of it was lost: drafts, settings, the online keys."""

from __future__ import annotations

import shutil
from pathlib import Path

from tuf.api.metadata import Root

from hillhold_signer import encoding
from hillhold_signer.ceremony import Ceremony
from hillhold_signer.config import Config
from hillhold_signer.errors import RepositoryRefused, StorageError, VerifyRefused
from hillhold_signer.layout import FolderLayout, file_name
from hillhold_signer.repository import Repository, write_settings
from hillhold_signer.state import published_files
from hillhold_signer.storage import digest_of
from hillhold_signer.verify import published_tree, verify_tree


def adopt(path: Path, tree: Path, anchor: bytes, ceremony: Ceremony) -> Repository:
    """Make a repository around a published tree.

    Args:
        tree: a copy of what was published last, from a back-up or the server.
        anchor: bytes of a root that is known to be right, from paper or a device: the tree has to follow from it.
        ceremony: settings and names are taken from it; who is trusted changes with `hillhold root rotate`.

    Raises:
        VerifyRefused: the tree is not whole, or does not follow from the root.
        CeremonyRefused, PublicKeyMaterialRefused: the ceremony.
        RepositoryRefused: there is a repository already, or another published tree.
        StorageError: a file cannot be read or written.
    """
    layout, source = FolderLayout(path), published_tree(tree)
    # What an adoption that was cut has copied already, or a repository of which only `public` was left, is taken as it is.
    there = layout.public.exists()
    if layout.config.exists() or (there and _files(layout.public) != _files(source.public)):
        raise RepositoryRefused(f"{path}", expected="no repository yet", got="one that exists")
    seen = verify_tree(tree, 0, anchor)
    named = file_name("root", encoding.load(anchor, Root, "root").signed.version)
    if published_files(source, named) != anchor:
        raise VerifyRefused(f"{named} of {tree}", expected="the root that is known to be right", got="another")
    newest = published_files(source, file_name("root", seen.versions["root"])) or b""
    demo = encoding.load(newest, Root, "root").signed.unrecognized_fields.get("x-hillhold-demo", False) is True
    verify_tree(tree, 0)  # from its first root, too: later rotations look at all of them
    ceremony.check(demo=demo)
    if not there:
        _copy(source.public, layout.public)
    write_settings(layout, Config(demo, ceremony.expiry, ceremony.online()), ceremony.names())
    return Repository(path)


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.tmp")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StorageError(f"cannot copy {source}: {error}") from error


def _files(folder: Path) -> dict[Path, tuple[int, str] | None]:
    return {item.relative_to(folder): digest_of(item) for item in folder.rglob("*") if item.is_file()}
