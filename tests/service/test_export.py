"""What is published gets to the object store: whole, in order, never an older timestamp over a newer one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from faultproxy import DROPPED, LOST, HttpProxy, seeded, status
from hillhold_signer import Repository, add_product, verify_tree
from hillhold_signer.errors import StorageError
from hillhold_signer.places import Entry
from hillhold_signer.service.database import Database
from hillhold_signer.service.export import Exporter
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.names import TIMESTAMP, version_of
from hillhold_signer.service.objects import Objects, RemoteObjects, Tagged
from hillhold_signer.service.tables import FILES, PUBLICATION_FILES, PUBLICATIONS
from hillhold_signer.service.unit import Data
from objectstore import S3, Bucket
from workshop import ceremony, image, online, pump, release, sign_all


class Watched:
    """Objects that note each write, and do something before it."""

    def __init__(self, objects: Objects, before: Callable[[str, str], object] = lambda *_: None) -> None:
        self.inner, self.before = objects, before
        self.seen: list[str] = []

    def _note(self, verb: str, key: str) -> None:
        self.before(verb, key)
        self.seen.append(key)

    def put(self, key: str, data: bytes) -> None:
        self._note("put", key)
        self.inner.put(key, data)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        self.inner.put_stream(key, chunks)

    def put_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        self._note("put_if", key)
        return self.inner.put_if(key, data, tag)

    def read(self, key: str, limit: int) -> Tagged | None:
        return self.inner.read(key, limit)

    def get(self, key: str, start: int = 0) -> Iterator[bytes]:
        return self.inner.get(key, start)

    def length(self, key: str) -> int | None:
        return self.inner.length(key)

    def copy(self, source: str, target: str) -> None:
        self._note("copy", target)
        self.inner.copy(source, target)

    def delete(self, key: str) -> None:
        self._note("delete", key)
        self.inner.delete(key)

    def list(self, prefix: str) -> Iterator[str]:
        return self.inner.list(prefix)


def start(data: Data) -> None:
    with data.writing() as unit:
        Repository.create(Entry(unit.store), ceremony(), unit.now, demo=True)
        add_product(unit.repository, pump(), unit.now)
        sign_all(unit.repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
        unit.repository.publish(online(), unit.now)


def publish(data: Data, version: str, seed: int = 1) -> None:
    with data.writing() as unit:
        release(unit.repository, image(version, seed=seed), unit.now)


def refresh(data: Data) -> None:
    with data.writing() as unit:
        unit.repository.refresh(online(), unit.now)


def fetched(objects: Objects, folder: Path) -> Path:
    """The published tree as a device would find it."""
    for key in objects.list("public"):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(objects.get(key)))
    return folder / "public"


def check(data: Data, objects: Objects, folder: Path, now: int) -> None:
    """The object store has what the database has, and it verifies."""
    tree = fetched(objects, folder)
    verify_tree(tree, now)
    with data.reading() as unit:
        wanted = {name: unit.store.digest(name) for name in unit.store.walk("public")}
    found = {key: (folder / key).read_bytes() for key in objects.list("public")}
    assert {key: (len(body), sha256(body).hexdigest()) for key, body in found.items()} == wanted


@pytest.fixture
def export() -> Iterator[Callable[[Data], Exporter]]:
    made: list[Exporter] = []

    def one(data: Data) -> Exporter:
        made.append(Exporter(data))
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_a_release_gets_to_devices(
    database: Database, objects: Objects, export: Any, clock: SimpleNamespace, tmp_path: Path
) -> None:
    data = Data(database, objects)
    exporter = export(data)
    assert exporter.run() == 0
    start(data)
    assert exporter.waiting().count == 1
    assert exporter.waiting().since == clock.now
    assert exporter.run() == 1
    publish(data, "1.0.0")
    assert exporter.run() == 1
    assert exporter.run() == 0
    check(data, objects, tmp_path / "tree", clock.now)
    with data.reading() as unit:
        assert unit.connection.execute(select(func.count()).select_from(PUBLICATION_FILES)).scalar() == 0


@pytest.fixture
def watched(database: Database, tmp_path: Path) -> tuple[Data, Watched]:
    objects = Watched(FolderObjects(tmp_path / "objects"))
    return Data(database, objects), objects


def test_the_order_is_targets_metadata_timestamp(watched: tuple[Data, Watched], export: Any) -> None:
    data, objects = watched
    start(data)
    exporter = export(data)
    exporter.run()
    assert objects.seen[-2:] == ["public/metadata/1.root.json", TIMESTAMP]
    objects.seen.clear()
    publish(data, "1.0.0", seed=1)
    publish(data, "1.1.0", seed=2)
    refresh(data)
    exporter.run()
    seen = [key for key in objects.seen if key.startswith("public")]
    assert [key.rpartition(".")[2] for key in seen[:2]] == ["bin", "bin"]
    assert sorted(seen[2:-1]) == [
        f"public/metadata/{name}.json" for name in ("2.pump", "2.snapshot", "3.pump", "3.snapshot")
    ]
    assert seen[-1] == TIMESTAMP
    held = objects.read(TIMESTAMP, 10**5)
    assert held is not None
    assert version_of(held.data) == 4


def test_whatever_fails_the_next_one_finishes(
    connect: Callable[[], Database], export: Any, clock: SimpleNamespace, tmp_path: Path
) -> None:
    objects = Watched(FolderObjects(tmp_path / "objects"))
    data = Data(connect(), objects)
    start(data)
    export(data).run()
    step, failed = 0, True
    while failed:
        publish(data, f"1.{step}.0", seed=step)
        publish(data, f"1.{step}.1", seed=step + 100)
        objects.seen.clear()
        failed = False

        def fail(verb: str, key: str, wanted: int = step) -> None:
            nonlocal failed
            if len(objects.seen) >= wanted:
                failed = True
                raise StorageError("the store is gone")

        objects.before = fail
        exporter = export(data)
        if failed_now := _raises(exporter.run):
            assert failed
            verify_tree(fetched(objects.inner, tmp_path / f"half{step}"), clock.now)
        assert failed_now == failed
        objects.before = lambda *_: None
        other = Data(connect(), objects)
        assert export(other).run() == (2 if failed else 0)
        check(data, objects.inner, tmp_path / f"tree{step}", clock.now)
        step += 1
    assert step >= 8


def _raises(call: Callable[[], object]) -> bool:
    try:
        call()
    except StorageError:
        return True
    return False


@pytest.mark.parametrize("objects", ["folder", "moto"], indirect=True)
def test_a_late_timestamp_does_not_replace_a_newer_one(
    connect: Callable[[], Database], objects: Objects, export: Any, clock: SimpleNamespace, tmp_path: Path
) -> None:
    late = Watched(objects)
    data, other = Data(connect(), late), Data(connect(), objects)
    start(data)
    export(other).run()
    publish(data, "1.0.0")
    exporter, second = export(data), export(other)

    def overtaken(verb: str, key: str) -> None:
        if verb == "put_if":
            late.before = lambda *_: None
            publish(other, "1.1.0")
            second._write(
                second._read(), objects.read(TIMESTAMP, 10**5)
            )  # as one whose lock was lost without its notice

    late.before = overtaken
    exporter.run()
    held = objects.read(TIMESTAMP, 10**5)
    assert held is not None
    assert version_of(held.data) == 3
    check(data, objects, tmp_path / "tree", clock.now)


def test_a_late_timestamp_in_a_store_without_conditions_is_made_good(
    connect: Callable[[], Database], rclone: Any, export: Any, clock: SimpleNamespace, tmp_path: Path
) -> None:
    bucket = rclone.bucket()
    objects = RemoteObjects(bucket.url, bucket.options)
    data = Data(connect(), objects)
    start(data)
    exporter = export(data)
    exporter.run()
    old = objects.read(TIMESTAMP, 10**5)
    assert old is not None
    refresh(data)
    first = exporter._read()
    refresh(data)
    export(Data(connect(), objects)).run()
    objects.put(TIMESTAMP, dict(first.steps)[TIMESTAMP] or b"")
    refresh(data)
    exporter.run()
    check(data, objects, tmp_path / "tree", clock.now)


def test_two_that_export_at_once_do_the_same(
    connect: Callable[[], Database], objects: Objects, export: Any, clock: SimpleNamespace, tmp_path: Path
) -> None:
    one, other = Data(connect(), objects), Data(connect(), objects)
    start(one)
    for version in range(4):
        publish(one, f"1.{version}.0", seed=version)
    first, second = export(one), export(other)
    batch = second._read()
    assert first.run() == 5
    second._write(batch, objects.read(TIMESTAMP, 10**5))
    second._mark(batch.numbers)
    assert second.run() == 0
    check(one, objects, tmp_path / "tree", clock.now)


def test_only_one_exports_at_a_time(connect: Callable[[], Database], export: Any, tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path / "objects")
    database = connect()
    one = Data(database, objects)
    other = Data(connect() if database.postgres else database, objects)
    start(one)
    with one.database.single("export") as single:
        assert single is not None
        assert export(other).run() == 0
    assert export(other).run() == 1


def test_a_database_that_was_set_back_writes_nothing(
    watched: tuple[Data, Watched], export: Any, clock: SimpleNamespace
) -> None:
    data, objects = watched
    start(data)
    exporter = export(data)
    exporter.run()
    refresh(data)
    ahead = exporter._read().newest
    exporter.run()
    with data.reading() as unit:
        before = unit.store.read(TIMESTAMP, 10**5)
    objects.seen.clear()
    # Another past: the same version with other bytes, or an older one.
    for newest in (before + b" " if before else b"", (before or b"").replace(b'"version":2', b'"version":1')):
        with data.database.transaction() as connection:
            connection.execute(update(FILES).where(FILES.c.name == TIMESTAMP).values(data=newest))
            connection.execute(PUBLICATIONS.insert().values(time=clock.now, roles="{}"))
        with pytest.raises(StorageError, match="expected at most"):
            exporter.run()
        with pytest.raises(StorageError, match="expected at most"):
            exporter.rebuild()
    assert objects.seen == []
    held = objects.read(TIMESTAMP, 10**5)
    assert held is not None
    assert held.data == ahead


def test_a_store_that_has_lost_everything_is_filled_again(
    database: Database, export: Any, clock: SimpleNamespace, tmp_path: Path
) -> None:
    objects = FolderObjects(tmp_path / "objects")
    data = Data(database, objects)
    start(data)
    publish(data, "1.0.0")
    exporter = export(data)
    exporter.run()
    for key in list(objects.list("public")):
        objects.delete(key)
    exporter.rebuild()
    check(data, objects, tmp_path / "tree", clock.now)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.deep) for n in (1, 2))])
def test_an_object_store_that_fails_by_chance(
    connect: Callable[[], Database],
    s3: S3,
    bucket: Bucket,
    export: Any,
    clock: SimpleNamespace,
    tmp_path: Path,
    seed: int,
) -> None:
    """Errors, broken connections, answers that are lost: in the end all is there, and it verified at all times."""
    plain = RemoteObjects(bucket.url, bucket.options)
    with HttpProxy(s3.port) as way:
        objects = RemoteObjects(bucket.url, bucket.through(way.port).options)
        data = Data(connect(), objects)
        start(data)
        exporter = export(data)
        way.script = seeded(seed, {status(500): 0.2, status(503): 0.1, LOST: 0.15, DROPPED: 0.15})
        for number in range(6):
            for _ in range(20):
                try:
                    publish(data, f"1.{number}.0", seed=number)
                    break
                except StorageError:  # nothing was changed
                    continue
            _raises(exporter.run)
            if plain.length(TIMESTAMP):
                verify_tree(fetched(plain, tmp_path / f"tree{number}"), clock.now)
        for _ in range(20):
            if not _raises(exporter.run):
                break
    check(Data(connect(), plain), plain, tmp_path / "tree", clock.now)
    with data.reading() as unit:
        assert len([path for path in unit.repository.state().line("pump").targets if path.endswith("app.bin")]) == 6
