"""Adding releases to their line's draft, with patches from earlier ones and the files that came with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final

from tuf.api.metadata import TargetFile, Targets

from hillhold_signer import encoding
from hillhold_signer.documents import Document
from hillhold_signer.edit import Edit
from hillhold_signer.errors import ReleaseRefused, RepositoryRefused
from hillhold_signer.fleet import Fleet
from hillhold_signer.image_keys import check_signed, image_keys
from hillhold_signer.layout import Layout
from hillhold_signer.making import Making
from hillhold_signer.patching import DEFAULT, NO_PATCHES, NOTHING_SHA256, LeftOut, PatchFrom, Task
from hillhold_signer.products import Caps, caps_of
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
from hillhold_verifier import canonical
from hillhold_verifier.metadata import MAX_KEYS, max_bytes
from hillhold_verifier.release import Patch, Release, patch_path

ROOM: Final = 32 * 1024
"""Bytes that patches leave free in a line's role: for its signatures, and for releases to come."""
NO_ROOM: Final = "the line's role has no room: `hillhold prune` makes some"


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_releases` put into a line's draft.

    Attributes:
        documents: files for auditors that are published beside the image.
        version: of the draft; None where it is published already.
        image_key: fingerprint of the bootloader key whose signature verified; None where the line has none to compare with.
        repeated: the line listed exactly this before; nothing was changed.
        left_out: patches that were wanted, and are not there.
    """

    target: TargetFile
    patches: tuple[TargetFile, ...]
    documents: tuple[TargetFile, ...]
    version: int | None
    image_key: str | None
    repeated: bool = False
    left_out: tuple[LeftOut, ...] = ()


@dataclass(slots=True)
class _New:
    """A release on its way into a draft."""

    target: TargetFile
    image: bytes
    key: str | None
    beside: dict[str, bytes]


def add_release(
    repository: Repository, product: str, image: bytes, wish: Wish, now: int, *, patch_from: PatchFrom = DEFAULT
) -> Added:
    """Draft a line's role with one more release; arguments and errors as those of `add_releases`."""
    return add_releases(repository, product, [(image, wish)], now, patch_from=patch_from)[0]


def add_releases(
    repository: Repository,
    product: str,
    items: Sequence[tuple[bytes, Wish]],
    now: int,
    *,
    patch_from: PatchFrom = DEFAULT,
    with_documents: bool = False,
    making: Making | None = None,
) -> tuple[Added, ...]:
    """Draft a line's role with more releases, all or none, and patches to them, which are made before the repository is locked.

    Arguments and errors are those of `draft_releases`.
    """
    with nullcontext(making) if making else Making() as work:
        look = Edit(repository.layout, repository.state(), repository.config(), now)
        for task in wanted_patches(look, product, items, patch_from, with_documents=with_documents):
            work.make(task, partial(read_release, repository.layout))
        return draft_releases(
            repository, product, items, now, patch_from=patch_from, with_documents=with_documents, making=work
        )


def wanted_patches(
    edit: Edit,
    product: str,
    items: Sequence[tuple[bytes, Wish]],
    patch_from: PatchFrom,
    *,
    with_documents: bool = False,
) -> tuple[Task, ...]:
    """Return the patches that releases are to get, by what the repository holds now; nothing is written, nor locked.

    Raises:
        ReleaseRefused, …: as `draft_releases` does, so that nobody waits for patches to a release that is refused then.
    """
    line, caps = edit.line(product), caps_of(edit.state.targets(), product)
    earlier = releases_of(line)
    entries = _described(edit, product, caps, items)
    if all(line.targets.get(target.path) == target for target, _ in entries):
        return ()
    found = [
        task
        for new in _listed(product, caps, line, items, entries, with_documents=with_documents)
        if (task := _task(line, new.target, new.image, earlier, patch_from)) is not None
    ]
    return tuple(found)


def draft_releases(
    repository: Repository,
    product: str,
    items: Sequence[tuple[bytes, Wish]],
    now: int,
    *,
    patch_from: PatchFrom,
    making: Making,
    with_documents: bool = False,
) -> tuple[Added, ...]:
    """Draft a line's role with more releases, all or none, and the patches to them.

    Where the line lists all of them already, with the same bytes, and all that is signed of them the same, nothing is changed: CI
    repeats what it did not hear an answer to. No patch is made then that was not made before.

    Args:
        items: whole images as imgtool signed them, and what is wished of each.
        now: Unix seconds.
        patch_from: from which earlier releases patches are made.
        making: makes them; has made them before, since nobody else can write meanwhile.
        with_documents: also publish SBOMs and release notes, as targets that devices ignore.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused, ContentRefused: a release; devices would not install it as it is meant, or its image key is revoked. Or a version
            that patches are to start from is not listed.
        PublicKeyMaterialRefused: an image signed with a key that everybody has, outside a demo.
        RepositoryRefused, StorageError: the repository.
        ToolError: `making` was closed.
    """
    with repository.edit(now) as edit:
        line, caps = edit.line(product), caps_of(edit.state.targets(), product)
        earlier = releases_of(line)
        entries = _described(edit, product, caps, items)
        if all(line.targets.get(target.path) == target for target, _ in entries):
            wanted = [item for _, wish in items for item in _all_documents(wish)] if with_documents else []
            return _repeated(edit.state, product, entries, wanted)
        done = []
        for new in _listed(product, caps, line, items, entries, with_documents=with_documents):
            for data in (new.image, *new.beside.values()):
                edit.stage(data)
            task = _task(line, new.target, new.image, earlier, patch_from)
            patches, left = list_patches(edit, line, task, making)
            documents = tuple(line.targets[path] for path in new.beside)
            done.append(Added(new.target, patches, documents, line.version, new.key, False, left))
        edit.save(product, line)
    return tuple(done)


def _described(
    edit: Edit, product: str, caps: Caps, items: Sequence[tuple[bytes, Wish]]
) -> list[tuple[TargetFile, str | None]]:
    """The target entry of each release, whatever else is listed, and the fingerprint of its image key."""
    keys, gone = image_keys(edit.layout, product), revoked_image_keys(edit.layout, edit.state)
    return [
        (described(product, caps, image, wish), check_signed(image, keys, demo=edit.config.demo, revoked=gone))
        for image, wish in items
    ]


def _listed(
    product: str,
    caps: Caps,
    line: Targets,
    items: Sequence[tuple[bytes, Wish]],
    entries: Sequence[tuple[TargetFile, str | None]],
    *,
    with_documents: bool,
) -> list[_New]:
    """List releases and what comes with them, or refuse them."""
    found = []
    for (target, key), (image, wish) in zip(entries, items, strict=True):
        check_new(line, target, wish)
        line.targets[target.path] = target
        found.append(_New(target, image, key, _documents(line, target, wish) if with_documents else {}))
    fleet = Fleet(product, caps, line)
    for (target, _), (_, wish) in zip(entries, items, strict=True):
        if not wish.allow_lower:
            fleet.require(target.path, target.custom["hillhold"]["hardware"])
    return found


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


def _task(
    line: Targets, target: TargetFile, image: bytes, earlier: Sequence[Release], patch_from: PatchFrom
) -> Task | None:
    """What patches a new release is to get; raises `ReleaseRefused` for a version that no base has."""
    new = understood(target)
    if not isinstance(new, Release) or patch_from == NO_PATCHES:
        return None
    there = same_place(earlier, new.hardware, new.component)
    if absent := sorted(set(patch_from.versions) - {base.version for base in there}):
        shown = ", ".join(str(base.version) for base in there[:-9:-1]) or "none"
        raise ReleaseRefused("patch from", expected=f"a listed version for this place: {shown}", got=absent[0])
    return Task(target, image, tuple(patch_from.choose(there)), _is_free(line, target, NOTHING_SHA256))


def patches_to(
    edit: Edit, line: Targets, target: TargetFile, image: bytes, bases: Sequence[Release], making: Making
) -> tuple[tuple[TargetFile, ...], tuple[LeftOut, ...]]:
    """List and stage the patches that pay, as `list_patches` does, from those of `bases` that run in the same place and have none yet.

    Raises:
        StorageError: they cannot be written.
    """
    new = understood(target)
    if not isinstance(new, Release):
        return (), ()
    free = [base for base in same_place(bases, new.hardware, new.component) if _is_free(line, target, base.sha256)]
    task = Task(target, image, tuple(free), _is_free(line, target, NOTHING_SHA256))
    return list_patches(edit, line, task, making)


def list_patches(
    edit: Edit, line: Targets, task: Task | None, making: Making
) -> tuple[tuple[TargetFile, ...], tuple[LeftOut, ...]]:
    """List and stage the patches that pay and that the role has room for; returns their entries, and what was left out."""
    if task is None:
        return (), ()
    made = making.make(task, partial(read_release, edit.layout))
    product = task.target.path.partition("/")[0]
    room = max_bytes(product) - ROOM - len(encoding.file_bytes(line, {}, product))
    kept, left = [], list(made.left_out)
    for patch in made.kept:
        entry = patch.target
        room -= len(canonical.dumps({entry.path: entry.to_dict()}))
        if room < 0 or len(line.targets) >= MAX_KEYS:
            left.append(LeftOut(patch.base, task.target.path, NO_ROOM, entry.length))
            continue
        edit.stage(patch.read())
        line.targets[entry.path] = entry
        kept.append(entry)
    return tuple(kept), tuple(left)


def not_made(left: Sequence[LeftOut]) -> list[str]:
    """Return, in words, the patches that somebody should look after: those that could not be made."""
    return [f"{item.makes}: no patch from {item.base or 'nothing'}: {item.reason}" for item in left if item.failed]


def _is_free(line: Targets, target: TargetFile, base: bytes) -> bool:
    return patch_path(target.path, base) not in line.targets


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
