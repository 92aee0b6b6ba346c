"""Adding releases to their line's draft, with patches from earlier ones and the files that came with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from tuf.api.metadata import TargetFile, Targets

from hillhold_signer.documents import Document
from hillhold_signer.errors import ReleaseRefused, RepositoryRefused
from hillhold_signer.fleet import Fleet
from hillhold_signer.image_keys import check_signed, image_keys
from hillhold_signer.layout import Layout
from hillhold_signer.patches import make_patch
from hillhold_signer.patching import make_patches
from hillhold_signer.products import caps_of
from hillhold_signer.releases import MAX_IMAGE, Wish, check_segment, plan, releases_of, same_place, understood
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import revoked_image_keys
from hillhold_signer.storage import read_optional
from hillhold_verifier.release import Release, patch_path


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_releases` put into a line's draft.

    Attributes:
        documents: files for auditors that are published beside the image.
        version: of the draft.
        image_key: fingerprint of the bootloader key whose signature verified; None where the line has none to compare with.
    """

    target: TargetFile
    patches: tuple[TargetFile, ...]
    documents: tuple[TargetFile, ...]
    version: int
    image_key: str | None


def add_release(
    repository: Repository, product: str, image: bytes, wish: Wish, now: int, *, patches: bool = True
) -> Added:
    """Draft a line's role with one more release; arguments and errors as those of `add_releases`."""
    return add_releases(repository, product, [(image, wish)], now, patches=patches)[0]


def add_releases(
    repository: Repository,
    product: str,
    items: Sequence[tuple[bytes, Wish]],
    now: int,
    *,
    patches: bool = True,
    with_documents: bool = False,
    make: Callable[[bytes, bytes], bytes] = make_patch,
) -> tuple[Added, ...]:
    """Draft a line's role with more releases, all or none, and patches to them from earlier ones.

    Args:
        items: whole images as imgtool signed them, and what is wished of each.
        now: Unix seconds.
        patches: whether to make any.
        make: makes a patch from a base to a result; may know it already.
        with_documents: also publish SBOMs and release notes, as targets that devices ignore.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused, ContentRefused: a release; devices would not install it as it is meant, or its image key is revoked.
        PublicKeyMaterialRefused: an image signed with a key that everybody has, outside a demo.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        line, caps = edit.line(product), caps_of(edit.state.targets(), product)
        earlier, keys = releases_of(line), image_keys(edit.layout, product)
        gone = revoked_image_keys(edit.layout, edit.state)
        added: list[tuple[TargetFile, str | None]] = []
        files: list[dict[str, bytes]] = []
        for image, wish in items:
            target = plan(product, caps, line, image, wish)
            added.append((target, check_signed(image, keys, demo=edit.config.demo, revoked=gone)))
            line.targets[target.path] = target
            files.append(_documents(line, target, wish) if with_documents else {})
        fleet = Fleet(product, caps, line)
        for (target, _), (_, wish) in zip(added, items, strict=True):
            if not wish.allow_lower:
                fleet.require(target.path, target.custom["hillhold"]["hardware"])
        done = []
        for (target, key), (image, _), beside in zip(added, items, files, strict=True):
            made = patches_to(line, target, image, earlier, edit.layout, make) if patches else []
            for data in (image, *beside.values(), *(data for _, data in made)):
                edit.stage(data)
            documents = tuple(line.targets[path] for path in beside)
            done.append(Added(target, tuple(entry for entry, _ in made), documents, line.version, key))
        edit.save(product, line)
    return tuple(done)


def patches_to(
    line: Targets,
    target: TargetFile,
    image: bytes,
    bases: Sequence[Release],
    layout: Layout,
    make: Callable[[bytes, bytes], bytes] = make_patch,
) -> list[tuple[TargetFile, bytes]]:
    """List the patches that pay, from those of `bases` that run in the same place, and return them with their bytes.

    Raises:
        RepositoryRefused: the bytes of a base are neither published nor staged.
        StorageError: they cannot be read.
    """
    new = understood(target)
    if not isinstance(new, Release):
        return []
    fitting = [
        base
        for base in same_place(bases, new.hardware, new.component)
        if base.sha256 != new.sha256 and patch_path(target.path, base.sha256) not in line.targets
    ]
    made = make_patches(target, image, fitting, partial(read_release, layout), make)
    line.targets.update({entry.path: entry for entry, _ in made})
    return made


def read_release(layout: Layout, release: Release) -> bytes:
    """Return the bytes of a listed release, published or staged; raises `RepositoryRefused`, `StorageError`."""
    digest = release.sha256.hex()
    data = read_optional(layout.source(release.path, digest), MAX_IMAGE) or b""
    if sha256(data).hexdigest() != digest:
        raise RepositoryRefused(f"target {release.path}", expected="its bytes", got="others" if data else "none")
    return data


def _documents(line: Targets, target: TargetFile, wish: Wish) -> dict[str, bytes]:
    """List what came with a build beside its image; returns the bytes by path."""
    found: dict[str, bytes] = {}
    folder = target.path.rpartition("/")[0]
    for item in _all_documents(wish):
        name = item.name.lower()
        check_segment("name of a document", name, hint="rename the file")
        path = f"{folder}/{name}"
        entry = TargetFile(len(item.data), {"sha256": sha256(item.data).hexdigest()}, path)
        if line.targets.setdefault(path, entry) != entry:
            hint = "two components of one version share a folder: rename the file"
            raise ReleaseRefused(f"target {path}", expected="a new name", got="another file", hint=hint)
        found[path] = item.data
    return found


def _all_documents(wish: Wish) -> tuple[Document, ...]:
    return (*wish.sbom, *((wish.notes,) if wish.notes else ()))
