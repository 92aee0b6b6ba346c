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
from hillhold_signer.releases import (
    MAX_IMAGE,
    Wish,
    check_new,
    check_segment,
    described,
    releases_of,
    same_place,
    understood,
)
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import revoked_image_keys
from hillhold_signer.state import State
from hillhold_signer.storage import read_optional
from hillhold_verifier.release import Patch, Release, patch_path


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_releases` put into a line's draft.

    Attributes:
        documents: files for auditors that are published beside the image.
        version: of the draft; None where it is published already.
        image_key: fingerprint of the bootloader key whose signature verified; None where the line has none to compare with.
        repeated: the line listed exactly this before; nothing was changed.
    """

    target: TargetFile
    patches: tuple[TargetFile, ...]
    documents: tuple[TargetFile, ...]
    version: int | None
    image_key: str | None
    repeated: bool = False


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

    Where the line lists all of them already, with the same bytes, and all that is signed of them the same, nothing is changed: CI
    repeats what it did not hear an answer to. No patch is made then that was not made before.

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
        added = [
            (described(product, caps, image, wish), check_signed(image, keys, demo=edit.config.demo, revoked=gone))
            for image, wish in items
        ]
        if all(line.targets.get(target.path) == target for target, _ in added):
            wanted = [item for _, wish in items for item in _all_documents(wish)] if with_documents else []
            return _repeated(edit.state, product, added, wanted)
        files: list[dict[str, bytes]] = []
        for (target, _), (_, wish) in zip(added, items, strict=True):
            check_new(line, target, wish)
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


def _repeated(
    state: State, product: str, added: Sequence[tuple[TargetFile, str | None]], documents: Sequence[Document]
) -> tuple[Added, ...]:
    """What is said of releases that are listed already as they are wished, and what is listed with them.

    Args:
        documents: what is to be published beside each; where it is not, that would be lost without a word.
    """
    line, published, draft = state.line(product), state.published(product), state.drafts.get(product)
    before = published.targets if isinstance(published, Targets) else {}
    listed = ((entry, understood(entry)) for entry in line.targets.values())
    patches = [(entry, patch) for entry, patch in listed if isinstance(patch, Patch)]
    done = []
    for target, key in added:
        beside = []
        for item in documents:
            path = _beside(target, item)
            entry = line.targets.get(path)
            if entry is None or entry.hashes["sha256"] != sha256(item.data).hexdigest():
                hint = "the release is listed already, without it: raise the version, or leave out --publish-documents"
                raise ReleaseRefused(f"target {path}", expected="listed beside its release", got="none", hint=hint)
            beside.append(entry)
        made = tuple(entry for entry, patch in patches if patch.makes == target.path)
        version = None if before.get(target.path) == target or draft is None else draft.signed.version
        done.append(Added(target, made, tuple(beside), version, key, repeated=True))
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
    for item in _all_documents(wish):
        path = _beside(target, item)
        entry = TargetFile(len(item.data), {"sha256": sha256(item.data).hexdigest()}, path)
        if line.targets.setdefault(path, entry) != entry:
            hint = "two components of one version share a folder: rename the file"
            raise ReleaseRefused(f"target {path}", expected="a new name", got="another file", hint=hint)
        found[path] = item.data
    return found


def _beside(target: TargetFile, document: Document) -> str:
    """The path of a document beside its release."""
    name = document.name.lower()
    check_segment("name of a document", name, hint="rename the file")
    return f"{target.path.rpartition('/')[0]}/{name}"


def _all_documents(wish: Wish) -> tuple[Document, ...]:
    return (*wish.sbom, *((wish.notes,) if wish.notes else ()))
