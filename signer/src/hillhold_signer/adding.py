"""Adding a release to its line's draft, with patches from earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from tuf.api.metadata import TargetFile

from hillhold_signer.errors import RepositoryRefused
from hillhold_signer.layout import Layout
from hillhold_signer.patching import make_patches
from hillhold_signer.products import caps_of
from hillhold_signer.releases import MAX_IMAGE, Wish, plan, releases_of, same_place
from hillhold_signer.repository import Repository
from hillhold_signer.storage import read_optional
from hillhold_verifier.release import DEFAULT_COMPONENT, Release


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_release` put into a line's draft: the image and its patches."""

    target: TargetFile
    patches: tuple[TargetFile, ...]
    version: int


def add_release(
    repository: Repository, product: str, image: bytes, wish: Wish, now: int, *, patches: bool = True
) -> Added:
    """Draft a line's role with one more release, and patches to it from earlier ones.

    Args:
        image: the whole file, as imgtool signed it.
        now: Unix seconds.
        patches: whether to make any.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused: the release.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        line = edit.line(product)
        target = plan(product, caps_of(edit.state.targets(), product), line, image, wish)
        custom = target.custom["hillhold"]
        component = custom.get("component", DEFAULT_COMPONENT)
        bases = same_place(releases_of(line), custom["hardware"], component) if patches else []
        made = make_patches(target, image, bases, partial(_read_release, edit.layout))
        for entry, data in ((target, image), *made):
            line.targets[entry.path] = entry
            edit.stage(data)
        edit.save(product, line)
    return Added(target, tuple(entry for entry, _ in made), line.version)


def _read_release(layout: Layout, release: Release) -> bytes:
    digest = release.sha256.hex()
    published = read_optional(layout.target(release.path, digest), MAX_IMAGE)
    data = published or read_optional(layout.staged / digest, MAX_IMAGE) or b""
    if sha256(data).hexdigest() != digest:
        raise RepositoryRefused(f"target {release.path}", expected="its bytes", got="others" if data else "none")
    return data
