"""A restored service goes on: first it takes over what was published since the back-up, or goes past it; then it is held no longer.

The back-up is older than what devices have seen. Two things would be wrong from then on: metadata of a version that a device knows with
other content, and a log that contradicts a checkpoint which somebody keeps. So before anything is signed

- the published tree as devices see it is verified as what follows from ours (its roots from our root, each role by its quorum), and taken
  over: files, and the target files that they name. Nothing is taken on the server's word: whoever serves it could at most withhold the
  newest. Where ours and theirs have one version with two contents, or each is newer in something, nothing is changed.
- where nobody has that tree any more, an operator states the highest versions of timestamp and snapshot that anybody has seen. The next
  ones are above them. This is right only if nothing but timestamp and snapshot was published since the back-up: what people have signed
  comes from the people again, and would have the same number.
- the log must go on from the newest checkpoint that anybody keeps. Its lost part comes from a copy of the log, tile by tile, verified by
  that checkpoint. If there is none, this log has ended: another one begins, under another name and key, and its first entry says so.

Then timestamp (and what else is due) is signed anew, and all of the tree is exported once more. It is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from sqlalchemy import select
from tuf.api.metadata import Snapshot, Targets, Timestamp

from hillhold_signer import encoding
from hillhold_signer.chain import Chain, verify_chain
from hillhold_signer.errors import RepositoryRefused, StorageError
from hillhold_signer.layout import file_name
from hillhold_signer.log.events import Kind
from hillhold_signer.log.note import NoteSigner, Verifier
from hillhold_signer.log.tree import Reader
from hillhold_signer.publish import OnlineSigners, renew
from hillhold_signer.repository import Repository
from hillhold_signer.service.dbstore import TIMESTAMP, add_blob, blob_key
from hillhold_signer.service.holding import HeldRefused, holding, let_go
from hillhold_signer.service.journal import KEPT
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.resuming_log import end_log, resume_log
from hillhold_signer.service.setup import OPERATOR
from hillhold_signer.service.tables import (
    BLOBS,
    FILES,
    PUBLICATION_FILES,
    PUBLICATIONS,
    TARGETS,
)
from hillhold_signer.service.unit import Data, Unit
from hillhold_signer.state import State
from hillhold_signer.storage import CHUNK
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.sources import Content, Source, target_name


@dataclass(frozen=True, slots=True)
class Newest:
    """The highest versions that anybody has seen, where nobody has the files any more."""

    timestamp: int
    snapshot: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the time after the back-up.

    Attributes:
        published: the tree as devices see it, from one place or several; or the highest versions, where it is lost.
        checkpoint: the newest checkpoint of the log that anybody keeps, as a signed note; None where there was no log, or nobody has one:
            then its log ends.
        log: a copy of the log that goes at least as far.
    """

    published: Sequence[Source] | Newest
    checkpoint: bytes | None = None
    log: Reader | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """What came of it: versions of the roles that were taken over, entries of the log likewise, and the timestamp that was signed."""

    adopted: Mapping[str, int]
    entries: int
    timestamp: int


class ObjectsSource:
    """The published tree in the service's own object store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def metadata(self, name: str) -> bytes | None:
        """Read a file."""
        role = name.removesuffix(".json").rpartition(".")[2]
        found = self._objects.read(f"public/metadata/{name}", max_bytes(role))
        return None if found is None else found.data

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        """Open a target file."""
        yield _Pieces(self._objects, f"public/targets/{target_name(path, sha256)}")


class _Pieces:
    """An object that is read in order."""

    def __init__(self, objects: Objects, key: str) -> None:
        self._chunks, self._left, self._at = objects.get(key), b"", 0

    def read(self, offset: int, length: int) -> bytes:
        if offset != self._at:
            raise StorageError(f"expected byte {self._at} to be asked for, got {offset}")
        if not self._left:
            self._left = next(self._chunks, b"")
        data, self._left = self._left[:length], self._left[length:]
        self._at += len(data)
        return data


def resume(
    data: Data,
    seen: Seen,
    signers: Callable[[Repository], OnlineSigners],
    verifiers: Sequence[Verifier],
    *,
    begin: Sequence[NoteSigner] = (),
) -> Resumed:
    """Catch up, and let a held service go.

    Args:
        signers: opens the online keys of the newest root, which may be newer than the back-up's; what it writes into the settings is kept.
        verifiers: the log's public keys.
        begin: keys of a new log, where the lost part of this one is nowhere to be had: it ends, and its files go.

    Raises:
        HeldRefused: the service is not held.
        RepositoryRefused, VerifyRefused: the tree does not follow from ours.
        LogRefused, NoteRefused: the log does not go on from the checkpoint.
        SigningRefused: signers that the newest root does not name.
        StorageError: something cannot be read or written. After any error nothing was changed, and the service is still held.
    """
    newer = _look(data, seen.published)
    if newer is not None:
        _fetch_targets(data, *newer)
    with data.writing(held=True) as unit:
        found = holding(unit.connection)
        if found is None:
            raise HeldRefused("service", expected="one that is held", got="one that is not")
        adopted = _adopt(unit, *newer) if newer is not None else {}
        version = _sign(unit, seen.published, signers)
        if begin:
            end_log(unit, seen.checkpoint, verifiers, begin)
        entries = 0 if begin else resume_log(unit, data.objects, seen.checkpoint, seen.log, verifiers)
        _export_all(unit)
        roles = ", ".join(f"{role} {number}" for role, number in adopted.items()) or "nothing"
        unit.record(
            Kind.CONFIGURATION,
            OPERATOR,
            what=f"restored from {found.backup}; taken over: {roles}"[:1000],
            sha256=found.manifest,
        )
        let_go(unit.connection)
    if begin:
        data.objects.delete(KEPT)
    return Resumed(adopted, entries, version)


# --- what was published ---------------------------------------------------------------------------------------------------------------


def _look(data: Data, published: Sequence[Source] | Newest) -> tuple[Source, Chain] | None:
    """Verify all trees as what ours leads to, and return the newest; None where ours has all of it."""
    with data.reading() as unit:
        if not _published(unit):
            return None  # no device has seen anything
        own = [ObjectsSource(data.objects)] if data.objects.length(TIMESTAMP) is not None else []
        sources: list[Source] = [*own, *(() if isinstance(published, Newest) else published)]
        ours = _chain(unit.repository.state())
        found = [(source, _verified(source, ours, unit)) for source in sources]
    if not found:
        return None
    newest = max(found, key=lambda item: item[1].timestamp.version)
    for _, chain in found:
        if _is_newer(newest[1], chain):
            raise RepositoryRefused("published trees", expected="one that is the newest in all", got="none", hint=_TWO)
    if not _is_newer(ours, newest[1]):
        return None
    if isinstance(published, Newest):
        hint = "the object store has more than was restored: take that tree over"
        raise RepositoryRefused("what was published", expected="a tree", got="two numbers", hint=hint)
    return newest


def _published(unit: Unit) -> bool:
    return unit.store.digest(TIMESTAMP) is not None


def _chain(state: State) -> Chain:
    if state.chain is None or state.interrupted:
        hint = "make a back-up when no publication of a root is under way"
        raise RepositoryRefused("repository", expected="a publication that was ended", got="a root alone", hint=hint)
    return state.chain


def _verified(source: Source, ours: Chain, unit: Unit) -> Chain:
    """Their tree, from the root that we have; an older one has its roots in ours."""
    name = file_name("root", ours.root.version)
    theirs = source.metadata(name)
    if theirs is None:
        found = verify_chain(source.metadata, 0)
        name, theirs = file_name("root", found.root.version), found.raw["root"]
        held = unit.store.read(f"public/metadata/{name}", max_bytes("root"))
    else:
        found, held = verify_chain(source.metadata, 0, ours.raw["root"]), ours.raw["root"]
    if theirs != held:
        got = f"SHA-256 {_short(theirs)}"
        raise RepositoryRefused(name, expected=f"ours, {_short(held) if held else 'none'}", got=got, hint=_TWO)
    return found


_TWO: Final = "one version with two contents: keep both as evidence; a key may be stolen, or two services publish"


def _listing(chain: Chain) -> dict[str, tuple[int, str]]:
    """Version and hash of every role."""
    found = {
        "root": (chain.root.version, sha256(chain.raw["root"]).hexdigest()),
        "timestamp": (chain.timestamp.version, sha256(chain.raw["timestamp"]).hexdigest()),
        "snapshot": (chain.snapshot.version, sha256(chain.raw["snapshot"]).hexdigest()),
    }
    for name, meta in chain.snapshot.meta.items():
        found[name.removesuffix(".json")] = meta.version, (meta.hashes or {}).get("sha256", "")
    return found


def _is_newer(one: Chain, other: Chain) -> bool:
    """Say whether the other is newer; raises `RepositoryRefused` where they contradict each other."""
    ours, theirs = _listing(one), _listing(other)
    newer = [role for role, (version, _) in theirs.items() if version > ours.get(role, (0, ""))[0]]
    older = [role for role, (version, _) in ours.items() if role in theirs and version > theirs[role][0]]
    # A retired line leaves the snapshot with the keys that signed it, and so under a new root.
    missing = [role for role in ours if role not in theirs and other.root.version <= one.root.version]
    for role, (version, digest) in theirs.items():
        held = ours.get(role, (0, ""))
        if held[0] == version and held[1] != digest:
            what = f"{role} version {version}"
            raise RepositoryRefused(what, expected=f"SHA-256 {held[1][:16]}", got=digest[:16], hint=_TWO)
    if newer and (older or missing):
        what = f"the published tree: newer in {', '.join(newer[:5])}, older in {', '.join([*older, *missing][:5])}"
        raise RepositoryRefused(what, expected="one that is newer in all, or older", got="both", hint=_TWO)
    return bool(newer)


def _adopt(unit: Unit, source: Source, theirs: Chain) -> dict[str, int]:
    """Write what is newer of their tree into ours; all of it was verified."""
    ours = _chain(unit.repository.state())
    before, adopted = _listing(ours), dict[str, int]()
    for version in range(ours.root.version + 1, theirs.root.version + 1):
        _write(unit, source, "root", version)
        adopted["root"] = version
    for role, (version, digest) in _listing(theirs).items():
        if role in ("root", "timestamp") or version == before.get(role, (0, ""))[0]:
            continue
        _write(unit, source, role, version, digest)
        adopted[role] = version
    lines: Iterable[Targets] = (theirs.targets, *theirs.lines.values())
    for path, digest, _ in _targets(lines):
        name = f"public/targets/{target_name(path, bytes.fromhex(digest))}"
        if unit.store.digest(name) is None:
            unit.connection.execute(TARGETS.insert().values(name=name, sha256=digest))
    unit.store.write(TIMESTAMP, theirs.raw["timestamp"])
    adopted["timestamp"] = theirs.timestamp.version
    return adopted


def _write(unit: Unit, source: Source, role: str, version: int, digest: str | None = None) -> None:
    name = file_name(role, version)
    data = source.metadata(name)
    if data is None or (digest and sha256(data).hexdigest() != digest):
        raise RepositoryRefused(name, expected="the file that was just verified", got="another", hint="run it again")
    unit.store.write(f"public/metadata/{name}", data)


def _targets(lines: Iterable[Targets]) -> Iterator[tuple[str, str, int]]:
    for line in lines:
        for path, target in line.targets.items():
            yield path, target.hashes["sha256"], target.length


def _fetch_targets(data: Data, source: Source, theirs: Chain) -> None:
    """Bring the target files that we lack, before the lock is taken: they may be large."""
    for path, digest, length in _targets((theirs.targets, *theirs.lines.values())):
        with data.database.snapshot() as connection:
            if connection.execute(select(BLOBS.c.sha256).where(BLOBS.c.sha256 == digest)).first():
                continue
        with source.target(path, bytes.fromhex(digest)) as content:
            data.objects.put_stream(blob_key(digest), _chunks(content, path, length, digest))
        with data.database.transaction() as connection:
            add_blob(data.database, connection, digest, length, data.database.now(connection))


def _chunks(content: Content, path: str, length: int, digest: str) -> Iterator[bytes]:
    found, at = sha256(), 0
    while at <= length and (chunk := content.read(at, CHUNK)):
        found.update(chunk)
        at += len(chunk)
        yield chunk
    if (at, found.hexdigest()) != (length, digest):
        raise RepositoryRefused(f"target {path}", expected=f"{length} bytes, SHA-256 {digest[:16]}", got="others")


def _sign(unit: Unit, published: Sequence[Source] | Newest, signers: Callable[[Repository], OnlineSigners]) -> int:
    """Sign the next timestamp; after a statement of versions, the snapshot, too, both above what was stated."""
    if not _published(unit):
        return 0
    repository = Repository(unit.repository.layout.path)  # as it is now
    if not isinstance(published, Newest):
        repository.refresh(signers(repository), unit.now)
    else:
        with repository.writing() as state:
            ahead = replace(state, chain=_ahead(_chain(state), published, unit.now))
            publication = renew(repository.layout, ahead, signers(repository), repository.config().expiry, unit.now)
            for place, body in publication.metadata:
                unit.store.write(str(place), body)
    return _chain(repository.state()).timestamp.version


def _ahead(chain: Chain, newest: Newest, now: int) -> Chain:
    """Our chain, as if it had the versions that were stated, and a snapshot that is due."""
    old, listed = chain.timestamp, chain.snapshot
    if newest.timestamp < old.version or newest.snapshot < listed.version:
        expected = f"at least timestamp {old.version} and snapshot {listed.version}, which the back-up has"
        got = f"{newest.timestamp} and {newest.snapshot}"
        raise RepositoryRefused("the highest versions seen", expected=expected, got=got)
    fields = dict(old.unrecognized_fields)
    timestamp = Timestamp(newest.timestamp, None, old.expires, old.snapshot_meta, unrecognized_fields=fields)
    snapshot = Snapshot(newest.snapshot, None, encoding.utc(now), dict(listed.meta))
    return replace(chain, timestamp=timestamp, snapshot=snapshot)


def _export_all(unit: Unit) -> None:
    """Have all of the tree exported: the object store may be a new one."""
    where = TARGETS.c.name >= "public/", TARGETS.c.name < "public0"
    targets = unit.connection.execute(select(TARGETS.c.name, TARGETS.c.sha256).where(*where).order_by(TARGETS.c.name))
    rows: list[tuple[str, str | None]] = [(name, digest) for name, digest in targets]
    where = FILES.c.name >= "public/metadata/", FILES.c.name < "public/metadata0"
    files = unit.connection.execute(select(FILES.c.name).where(*where).order_by(FILES.c.name))
    rows += [(name, None) for (name,) in files if name != TIMESTAMP]
    if rows:
        made = PUBLICATIONS.insert().values(time=unit.now, roles="{}").returning(PUBLICATIONS.c.id)
        number = unit.connection.execute(made).scalar_one()
        unit.connection.execute(
            PUBLICATION_FILES.insert(),
            [
                {"publication": number, "place": place, "name": name, "data": None, "sha256": digest}
                for place, (name, digest) in enumerate(rows)
            ],
        )


def _short(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]
