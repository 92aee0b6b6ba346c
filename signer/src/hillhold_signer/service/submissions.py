"""Builds that are handed in: images with their SBOMs, notes and provenance become a draft of their line.

The files were uploaded before, and are named by their hashes. All rules of `hillhold add` hold, and devices are simulated before anyone is
asked to sign. Patches are made before the repository is locked, in processes that hold none of the service's keys. Where they cannot be
made, the release goes without them, and the answer says so.

Who sends the same again gets the same answer: CI repeats what it did not hear an answer to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import bindparam, select
from tuf.api.metadata import TargetFile

from hillhold_signer.adding import Added, draft_releases, wanted_patches
from hillhold_signer.documents import MAX_DOCUMENT, Document
from hillhold_signer.edit import Edit
from hillhold_signer.errors import ReleaseRefused, RepositoryRefused
from hillhold_signer.log.events import Kind
from hillhold_signer.making import Making
from hillhold_signer.patching import LeftOut, PatchFrom
from hillhold_signer.releases import MAX_IMAGE, Wish
from hillhold_signer.service.access import NotFoundRefused, Principal, Role, require
from hillhold_signer.service.blobs import note_line
from hillhold_signer.service.changes import nodes_of, note_changes
from hillhold_signer.service.names import blob_key
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.tables import SUBMISSIONS
from hillhold_signer.service.unit import Data, Unit
from hillhold_signer.service.uploads import usable
from hillhold_verifier import canonical
from hillhold_verifier.release import Release, Version

MAX_IMAGES: Final = 16
"""Images of one submission."""
MAX_TOTAL: Final = 4 * MAX_IMAGE
"""Bytes of all files of one submission, which are held in memory while it is looked at."""
_WISHED: Final = select(SUBMISSIONS).where(SUBMISSIONS.c.wish == bindparam("wanted"))


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a submission, by the hash of a file that was uploaded."""

    sha256: str
    file_name: str
    component: str = "app"
    requires: Mapping[str, str] | None = None
    downgrade_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A document that was uploaded, and what it is called."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Build:
    """What is handed in at once.

    Attributes:
        set: all of it is installed together, or none.
        source: the revision that it was built from.
        provenance: SHA-256 of an in-toto statement about the images, bare or in a DSSE envelope.
        patch_from: as `PatchFrom.parse` takes it.
        publish_documents: whether devices' servers get SBOMs and notes, too.
    """

    images: tuple[Image, ...]
    kind: str = "feature"
    hardware: tuple[str, ...] = ()
    set: str | None = None
    sbom: tuple[Named, ...] = ()
    notes: Named | None = None
    source: str | None = None
    provenance: str | None = None
    patch_from: tuple[str, ...] = ()
    publish_documents: bool = False

    def digest(self, line: str) -> str:
        """SHA-256 of all that is asked for, on a line."""
        value = {name: _plain(getattr(self, name)) for name in self.__slots__}
        return sha256(canonical.dumps({**value, "line": line})).hexdigest()


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission.

    Attributes:
        repeated: it was there already.
        version, digest: of the line's draft that has it; None where it is published already.
        releases: what metadata say of each image, by target path.
        patches: what was made to them, by path, with lengths.
        left_out: patches that were wanted, and are not there.
    """

    repeated: bool
    version: int | None
    digest: str | None
    releases: Mapping[str, Mapping[str, Any]]
    patches: Mapping[str, int]
    left_out: tuple[LeftOut, ...] = ()


def submit(data: Data, principal: Principal, line: str, build: Build, making: Making) -> Submitted:
    """Put a build into its line's draft.

    Args:
        making: makes the patches, while nothing is locked and no transaction is open.

    Raises:
        ForbiddenRefused: not a submitter of the line.
        NotFoundRefused: a file that was not uploaded.
        ProductRefused, ReleaseRefused, ContentRefused, PublicKeyMaterialRefused: as `add_releases`.
        RepositoryRefused, StorageError: the repository.
        ToolError: this replica is about to end.
    """
    require(principal, Role.SUBMITTER, line)
    if not 1 <= len(build.images) <= MAX_IMAGES:
        raise ReleaseRefused("images of a submission", expected=f"1 to {MAX_IMAGES}", got=len(build.images))
    wished = build.digest(line)
    with data.reading() as unit:
        if (found := _repeated(unit, line, wished)) is not None:
            return found
        lengths = _lengths(unit, principal.account_id, line, build)
    files = _read(data.objects, lengths)
    items = [(files[image.sha256], _wish(build, image, files)) for image in build.images]
    _make_before(data, line, items, build, making)
    with data.writing(line) as unit:
        if (found := _repeated(unit, line, wished)) is not None:
            return found
        before = nodes_of(unit, line)
        added = _add(unit, line, items, build, making)
        done = _answer(unit, line, added)
        if not done.repeated:
            note_changes(unit, principal, line, before, {"add": sorted(done.releases)})
            _note(unit, principal, wished, added)
        note_line(data.database, unit.connection, line, lengths, unit.now)
    return done


def _repeated(unit: Unit, line: str, wished: str) -> Submitted | None:
    """The answer to a submission that was made before, as long as the line still has what it brought."""
    rows = unit.connection.execute(_WISHED, {"wanted": wished}).all()
    if not rows:
        return None
    state = unit.repository.state()
    newest = state.line(line)
    listed = {row.path: newest.targets.get(row.path) for row in rows}
    if any(
        target is None or target.hashes["sha256"] != row.sha256
        for row, target in zip(rows, listed.values(), strict=True)
    ):
        return None
    targets = [target for target in listed.values() if target is not None]
    draft = state.drafts.get(line)
    return Submitted(
        True,
        draft.signed.version if draft else None,
        draft.digest if draft else None,
        {target.path: _shown(target) for target in targets},
        {},
    )


def _lengths(unit: Unit, account: int, line: str, build: Build) -> dict[str, int]:
    """The length of each file that a build names, once it is there, and not too much."""
    images = {image.sha256 for image in build.images}
    others = {item.sha256 for item in (*build.sbom, *((build.notes,) if build.notes else ()))}
    others |= {build.provenance} if build.provenance else set()
    wanted = images | others
    found = usable(unit.connection, account, [line], wanted)
    if missing := sorted(wanted - found.keys()):
        hint = "upload it first: PUT /v1/blobs/SHA256, or POST /v1/uploads"
        raise NotFoundRefused(
            f"file {missing[0][:16]}…", expected="one that you have uploaded whole", got="none", hint=hint
        )
    for digest, length in found.items():
        most = MAX_IMAGE if digest in images else MAX_DOCUMENT
        if length > most:
            raise ReleaseRefused(f"file {digest[:16]}…", expected=f"at most {most} bytes", got=length)
    if sum(found.values()) > MAX_TOTAL:
        raise ReleaseRefused("files of a submission", expected=f"at most {MAX_TOTAL} bytes", got=sum(found.values()))
    return found


def _read(objects: Objects, lengths: Mapping[str, int]) -> dict[str, bytes]:
    found = {}
    for digest, length in lengths.items():
        got = objects.read(blob_key(digest), length)
        if got is None or sha256(got.data).hexdigest() != digest:
            raise NotFoundRefused(
                f"file {digest[:16]}…", expected="its bytes in the object store", got="others, or none"
            )
        found[digest] = got.data
    return found


def _wish(build: Build, image: Image, files: Mapping[str, bytes]) -> Wish:
    return Wish(
        image.file_name,
        build.kind,
        build.hardware,
        image.component,
        False,
        {name: Version.parse(text) for name, text in (image.requires or {}).items()},
        build.set,
        tuple(map(Version.parse, image.downgrade_from)),
        tuple(Document(item.name, files[item.sha256]) for item in build.sbom),
        Document(build.notes.name, files[build.notes.sha256]) if build.notes else None,
        build.source,
        Document("provenance", files[build.provenance]) if build.provenance else None,
    )


_Items = Sequence[tuple[bytes, Wish]]


def _make_before(data: Data, line: str, items: _Items, build: Build, making: Making) -> None:
    """Make the patches that will be wanted, on the repository as it is now, and store them; what is refused later is refused here, too."""
    with data.reading(line) as unit:
        repository = unit.repository
        look = Edit(repository.layout, repository.state(), repository.config(), unit.now)
        wanted = PatchFrom.parse(build.patch_from)
        tasks = wanted_patches(look, line, items, wanted, with_documents=build.publish_documents)
    for task in tasks:
        making.make(task, partial(_base, data.objects))
    if tasks:
        with data.trying() as unit:
            _add(unit, line, items, build, making)


def _add(unit: Unit, line: str, items: _Items, build: Build, making: Making) -> tuple[Added, ...]:
    return draft_releases(
        unit.repository,
        line,
        items,
        unit.now,
        patch_from=PatchFrom.parse(build.patch_from),
        making=making,
        with_documents=build.publish_documents,
    )


def _base(objects: Objects, release: Release) -> bytes:
    """The bytes of a listed release, without the database."""
    digest = release.sha256.hex()
    got = objects.read(blob_key(digest), release.length)
    if got is None:
        raise RepositoryRefused(f"target {release.path}", expected="its bytes", got="none")
    return got.data


def _answer(unit: Unit, line: str, added: Sequence[Added]) -> Submitted:
    draft = unit.repository.state().drafts.get(line)
    releases = {item.target.path: _shown(item.target) for item in added}
    patches = {entry.path: entry.length for item in added for entry in item.patches}
    version, digest = (draft.signed.version, draft.digest) if draft else (None, None)
    left = tuple(left for item in added for left in item.left_out)
    return Submitted(added[0].repeated, version, digest, releases, patches, left)


def _shown(target: TargetFile) -> dict[str, Any]:
    return {"length": target.length, "sha256": target.hashes["sha256"], **target.custom["hillhold"]}


def _note(unit: Unit, principal: Principal, wished: str, added: Sequence[Added]) -> None:
    columns = ("sha256", "wish", "account", "time")
    for item in added:
        path, digest = item.target.path, item.target.hashes["sha256"]
        values = (digest, wished, principal.account_id, unit.now)
        row = {"path": path, **dict(zip(columns, values, strict=True))}
        unit.connection.execute(unit.store.database.upsert(SUBMISSIONS, *columns), row)
        unit.record(Kind.SUBMISSION, principal.name, path=path, length=item.target.length, sha256=digest)


def _plain(value: Any) -> Any:
    """A value of a build as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Image | Named):
        return {name: _plain(getattr(value, name)) for name in value.__slots__}
    return dict(value) if isinstance(value, Mapping) else value
