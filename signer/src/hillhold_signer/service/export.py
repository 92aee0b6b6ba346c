"""What was published in the database gets to the object store, from where devices fetch it.

The commit of a publication is the decision. The exporter carries it out, in the order in which it was written down: target files, metadata
with versions, then `timestamp.json` and a new root, one after the other. Each step may be done again. So whoever exports may be killed
at any time, and another goes on; and two at once do the same. Publications that wait are exported together: what only a later timestamp
names does no harm before that, and a timestamp that the next one replaces at once is left out.

A timestamp never replaces a newer one: its version is looked at first, and where the store can, it is written on condition that it
still is the one that was looked at. For stores that cannot, the exporter looks once more at its end.

A store that holds more than this database knows means that the database was restored from an older back-up. Then nothing is written: the
versions that are missing here were seen by devices, which refuse others of the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from hillhold_signer.errors import LockedError, StorageError
from hillhold_signer.service.dbstore import AT_ONCE
from hillhold_signer.service.holding import check_held
from hillhold_signer.service.names import TIMESTAMP, blob_key, version_of
from hillhold_signer.service.objects import Tagged
from hillhold_signer.service.tables import FILES, PUBLICATION_FILES, PUBLICATIONS, TARGETS
from hillhold_signer.service.unit import Data
from hillhold_verifier.metadata import max_bytes

TOGETHER: Final = 64
"""Publications that are exported together."""
WORKERS: Final = 8
"""Files that are written at once."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is not exported yet.

    Attributes:
        count: how many publications.
        since: Unix seconds of the oldest one; None without any.
    """

    count: int
    since: int | None


class Exporter:
    """Exports what was published; one for each process."""

    def __init__(self, data: Data) -> None:
        self._data, self._objects = data, data.objects
        self._pool = ThreadPoolExecutor(WORKERS, "export")

    def close(self) -> None:
        """Let go of its threads."""
        self._pool.shutdown()

    def waiting(self) -> Waiting:
        """Say what is not exported yet; raises `StorageError`."""
        with self._data.database.glance() as connection:
            query = select(func.count(), func.min(PUBLICATIONS.c.time)).where(PUBLICATIONS.c.exported.is_(None))
            count, since = connection.execute(query).one()
        return Waiting(count, since)

    def run(self) -> int:
        """Export all that waits, unless another replica is at it; call it again after an error.

        Returns:
            How many publications were exported.

        Raises:
            HeldRefused: the service was restored (`holding`).
            StorageError: the database or the object store fails, or does not belong to the other.
        """
        done = 0
        if not self.waiting().count:
            return done
        with self._data.database.glance() as connection:
            check_held(connection)
        with self._data.database.single("export") as single:
            while single is not None and single.held():
                held = self._objects.read(
                    TIMESTAMP, max_bytes("timestamp")
                )  # before the database: which is never behind, then
                batch = self._read()
                if not batch.numbers:
                    self._look_again(batch.newest, held)
                    break
                self._write(batch, held)
                self._mark(batch.numbers)
                done += len(batch.numbers)
        return done

    def rebuild(self) -> int:
        """Export everything anew, into a store that has lost something; returns how many files. Raises as `run` does, and `LockedError`."""
        with self._data.database.glance() as connection:
            check_held(connection)
        with self._data.database.single("export") as single:
            if single is None:
                raise LockedError("another replica exports", hint="try again")
            held = self._objects.read(TIMESTAMP, max_bytes("timestamp"))
            batch = self._read_all()
            self._write(batch, held)
        return len(batch.targets) + len(batch.metadata) + len(batch.steps)

    def _read_all(self) -> _Batch:
        with self._data.database.snapshot() as connection:
            where = TARGETS.c.name >= "public/", TARGETS.c.name < "public0"
            found = connection.execute(select(TARGETS.c.name, TARGETS.c.sha256).where(*where))
            targets = dict(found.all())
            where = FILES.c.name >= "public/metadata/", FILES.c.name < "public/metadata0"
            files = [name for (name,) in connection.execute(select(FILES.c.name).where(*where))]
            newest = bytes(connection.execute(select(FILES.c.data).where(FILES.c.name == TIMESTAMP)).scalar() or b"")
        steps: list[tuple[str, bytes | None]] = [(name, None) for name in sorted(filter(_is_root, files), key=_version)]
        names = [name for name in files if not _is_root(name) and name != TIMESTAMP]
        return _Batch((), targets, names, [*steps, *([(TIMESTAMP, newest)] if newest else [])], (), newest)

    def _read(self) -> _Batch:
        """Return what waits, as the database has it now: a file that was pruned meanwhile is not there to be written."""
        with self._data.database.snapshot() as connection:
            query = select(PUBLICATIONS.c.id).where(PUBLICATIONS.c.exported.is_(None))
            numbers = [
                int(number) for (number,) in connection.execute(query.order_by(PUBLICATIONS.c.id).limit(TOGETHER))
            ]
            table = PUBLICATION_FILES.c
            query = select(table.name, table.data).where(table.publication.in_(numbers))
            ordered = query.order_by(table.publication, table.place)
            rows = [(name, data) for name, data in connection.execute(ordered)] if numbers else []
            names = list(dict.fromkeys(name for name, _ in rows))
            targets, there = dict[str, str](), set[str]()
            for some in (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)):
                found = connection.execute(select(TARGETS.c.name, TARGETS.c.sha256).where(TARGETS.c.name.in_(some)))
                targets |= dict(found.all())
                there |= {name for (name,) in connection.execute(select(FILES.c.name).where(FILES.c.name.in_(some)))}
            newest = connection.execute(select(FILES.c.data).where(FILES.c.name == TIMESTAMP)).scalar()
        plain = [name for name in names if name in there and not _is_root(name) and name != TIMESTAMP]
        gone = [name for name in names if name not in there and name not in targets and name != TIMESTAMP]
        return _Batch(numbers, targets, plain, _steps(rows, there), gone, bytes(newest or b""))

    def _write(self, batch: _Batch, held: Tagged | None) -> None:
        self._check_ours(batch.newest, held)
        self._all(lambda name: self._objects.copy(blob_key(batch.targets[name]), name), batch.targets)
        self._all(self._put, batch.metadata)
        for name, timestamp in batch.steps:
            if timestamp is None:
                self._put(name)
            else:
                held = self._put_timestamp(timestamp, held)
        self._all(self._objects.delete, batch.gone)

    def _all(self, work: Callable[[str], None], names: Iterable[str]) -> None:
        """Do some work for all names, several at once; raises the first error once all have ended."""
        under_way = [self._pool.submit(work, name) for name in names]
        wait(under_way)  # what came late would be done to what another replica has written by then
        for future in under_way:
            future.result()

    def _put(self, name: str) -> None:
        if (data := self._data.versioned(name)) is not None:
            self._objects.put(name, data)

    def _put_timestamp(self, data: bytes, held: Tagged | None) -> Tagged:
        """Put a timestamp in the place of one that was looked at, unless a newer one is there by now."""
        while held is None or version_of(held.data) < version_of(data):
            tag = self._objects.put_if(TIMESTAMP, data, held.tag if held else None)
            if tag is not None:
                return Tagged(data, tag)
            before, held = held, self._objects.read(TIMESTAMP, max_bytes("timestamp"))
            if held == before:
                raise StorageError(f"{TIMESTAMP}: the object store refuses to replace it, and says that it was changed")
        return held

    def _look_again(self, newest: bytes, held: Tagged | None) -> None:
        """Nothing waits: so the newest timestamp was exported, and one that is older came late into a store without conditions."""
        if newest and held is not None and version_of(held.data) < version_of(newest):
            self._put_timestamp(newest, held)

    def _check_ours(self, newest: bytes, held: Tagged | None) -> None:
        if held is None or held.data == newest or version_of(held.data) < version_of(newest):
            return
        expected = f"at most the timestamp of version {version_of(newest)}, the newest of {self._data.database}"
        hint = "this database was restored from an older back-up, or another one publishes there: see the manual on restoring"
        got = f"version {version_of(held.data)}{', another one' if version_of(held.data) == version_of(newest) else ''}"
        raise StorageError(f"{TIMESTAMP} in the object store: expected {expected}, got {got}", hint=hint)

    def _mark(self, numbers: Sequence[int]) -> None:
        database = self._data.database
        with database.transaction() as connection:
            now = database.now(connection)
            update = PUBLICATIONS.update().where(PUBLICATIONS.c.id.in_(numbers), PUBLICATIONS.c.exported.is_(None))
            connection.execute(update.values(exported=now))
            connection.execute(PUBLICATION_FILES.delete().where(PUBLICATION_FILES.c.publication.in_(numbers)))


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is to be written, in this order.

    Attributes:
        numbers: the publications.
        targets: by name, their blobs.
        metadata: names of files that no client looks for yet.
        steps: names of roots, and timestamps with their bytes: one after the other.
        gone: names of what was pruned.
        newest: the newest timestamp that was published.
    """

    numbers: Sequence[int]
    targets: Mapping[str, str]
    metadata: Sequence[str]
    steps: Sequence[tuple[str, bytes | None]]
    gone: Sequence[str]
    newest: bytes


def _steps(rows: Iterable[tuple[str, bytes | None]], there: set[str]) -> list[tuple[str, bytes | None]]:
    """Roots and timestamps in their order; of timestamps with no root between them, the last."""
    steps: list[tuple[str, bytes | None]] = []
    for name, data in rows:
        if name == TIMESTAMP and data is not None:
            if steps and steps[-1][0] == TIMESTAMP:
                steps.pop()
            steps.append((name, bytes(data)))
        elif _is_root(name) and name in there:
            steps.append((name, None))
    return steps


def _is_root(name: str) -> bool:
    return name.startswith("public/metadata/") and name.endswith(".root.json")


def _version(name: str) -> int:
    return int(name.rpartition("/")[2].partition(".")[0])
