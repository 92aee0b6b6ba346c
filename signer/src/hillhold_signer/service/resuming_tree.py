"""The published tree as devices see it, taken over by a restored service (`resuming`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sqlalchemy import select
from tuf.api.metadata import Targets

from hillhold_signer.chain import Chain, verify_chain
from hillhold_signer.errors import RepositoryRefused, StorageError
from hillhold_signer.layout import file_name
from hillhold_signer.service.blobs import add_blob, keep_blob
from hillhold_signer.service.names import TIMESTAMP, blob_key
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.tables import (
    SUBMISSIONS,
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


def look(data: Data, published: Sequence[Source] | Newest) -> tuple[Source, Chain] | None:
    """Verify all trees as what ours leads to, and return the newest; None where ours has all of it."""
    with data.reading() as unit:
        if not is_published(unit):
            return None  # no device has seen anything
        own = [ObjectsSource(data.objects)] if data.objects.length(TIMESTAMP) is not None else []
        sources: list[Source] = [*own, *(() if isinstance(published, Newest) else published)]
        ours = chain_of(unit.repository.state())
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


def is_published(unit: Unit) -> bool:
    return unit.store.digest(TIMESTAMP) is not None


def chain_of(state: State) -> Chain:
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


def adopt(unit: Unit, source: Source, theirs: Chain) -> tuple[dict[str, int], tuple[str, ...]]:
    """Write what is newer of their tree into ours; all of it was verified. Returns versions, and roles whose draft is dropped."""
    state = unit.repository.state()
    ours, drafted = chain_of(state), {*state.drafts, *state.clashes}
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
    for role in adopted:
        _drop(unit, role)
    return adopted, tuple(role for role in adopted if role in drafted)


def _drop(unit: Unit, role: str) -> None:
    """Give up the drafts of a role that was taken over, and have what was handed in for them, and is not published, handed in again."""
    for name in unit.store.walk(f"drafts/{role}"):
        unit.store.remove(name)
    for (path,) in unit.connection.execute(
        select(SUBMISSIONS.c.path).where(SUBMISSIONS.c.path.startswith(f"{role}/", autoescape=True))
    ).all():
        above, _, last = path.rpartition("/")
        where = TARGETS.c.name.startswith(f"public/targets/{above}/", autoescape=True)
        published = unit.connection.execute(select(TARGETS.c.name).where(where)).all()
        if not any(name.endswith(f".{last}") for (name,) in published):
            unit.connection.execute(SUBMISSIONS.delete().where(SUBMISSIONS.c.path == path))


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


def fetch_targets(data: Data, source: Source, theirs: Chain) -> None:
    """Bring the target files that we lack, before the lock is taken: they may be large."""
    for path, digest, length in _targets((theirs.targets, *theirs.lines.values())):
        if keep_blob(data.database, digest) is not None:
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


def _short(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]
