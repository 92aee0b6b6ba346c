"""A repository in a database behaves as one in a folder does."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, func, select

from hillhold_signer import Repository, Wish, add_product, add_release
from hillhold_signer.errors import FileRefused, StorageError
from hillhold_signer.patching import DEFAULT
from hillhold_signer.places import Entry
from hillhold_signer.requests import make_request
from hillhold_signer.service.database import Database
from hillhold_signer.service.dbview import Cache
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.tables import BLOBS, FILES, PUBLICATION_FILES, PUBLICATIONS, TARGETS
from hillhold_signer.service.unit import Data
from hillhold_signer.storage import list_folder, place_file, read_optional, remove_file, there, walk_folder, write_file
from hillhold_verifier.errors import HillholdError, MisuseError
from workshop import ceremony, image, online, pump, release, sign_all, started


@pytest.fixture
def data(database: Database, tmp_path: Path) -> Data:
    return Data(database, FolderObjects(tmp_path / "objects"))


def start(data: Data) -> None:
    """A published repository with the line `pump`."""
    with data.writing() as unit:
        Repository.create(Entry(unit.store), ceremony(), unit.now, demo=True)
        add_product(unit.repository, pump(), unit.now)
        sign_all(unit.repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
        unit.repository.publish(online(), unit.now)


def test_the_same_files_come_to_be_as_in_a_folder(data: Data, clock: SimpleNamespace, tmp_path: Path) -> None:
    folder = started(tmp_path / "folder", clock.now)
    start(data)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        clock.now += 60
        release(folder, image(version), clock.now, patch_from=DEFAULT)
        with data.writing() as unit:
            add_release(unit.repository, "pump", image(version), Wish("app.bin", hardware=("nrf51-a",)), unit.now)
        with data.writing() as unit:
            sign_all(unit.repository, "release-1", "release-2")
        with data.writing() as unit:
            unit.repository.publish(online(), unit.now)
    clock.now += 60
    folder.refresh(online(), clock.now)
    with data.writing() as unit:
        unit.repository.refresh(online(), unit.now)
    with data.reading() as unit:
        place = Entry(unit.store)
        wanted = {
            str(item.relative_to(tmp_path / "folder")): item.read_bytes()
            for item in (tmp_path / "folder").rglob("*")
            if item.is_file() and item.name != ".lock"
        }
        names = {str(item) for item in walk_folder(place)}
        assert names == {name for name in wanted if not name.rpartition("/")[2].startswith(".")}
        for name, held in wanted.items():
            assert read_optional(place / name, 10**7) == held, name
            assert unit.store.digest(name) == (len(held), sha256(held).hexdigest())
            with unit.store.open(name) as file:
                assert file.read() == held


def test_random_work_does_to_a_database_what_it_does_to_a_folder(data: Data, tmp_path: Path) -> None:
    chance = random.Random(5)
    bodies = [bytes([65 + number]) * number for number in range(6)]
    targets = [f"staged/{sha256(body).hexdigest()}" for body in bodies]
    targets += [
        f"public/targets/pump/{number}.0.0/{sha256(body).hexdigest()}.app" for number, body in enumerate(bodies)
    ]
    plain = ["hillhold.toml", "people/a.x", "drafts/pump/notes", "drafts/pump/x.1.done", "drafts/vent/y", TIMESTAMP]
    plain += ["public/metadata/notes", "staged/.keep", "zebra"]
    folder = tmp_path / "folder"

    def seen(place: Any) -> list[Any]:
        every = [
            "",
            "drafts",
            "drafts/pump",
            "drafts/none",
            "public",
            "public/metadata",
            "public/targets",
            "staged",
            "people",
        ]
        found: list[Any] = [sorted(set(list_folder(place / one if one else place)) - {".lock"}) for one in every]
        found += [[str(item).removeprefix(f"{place}/") for item in walk_folder(place / one)] for one in every[1:]]
        return found + [(there(place / name), read_optional(place / name, 100)) for name in plain + targets]

    for _ in range(25):
        with data.writing() as unit:
            place = Entry(unit.store)
            for _ in range(chance.randrange(6)):
                kind, name, body = chance.randrange(4), chance.choice(plain), chance.randrange(6)
                other = chance.choice(plain + targets)
                for at in (place, folder):
                    if kind == 0:
                        write_file(at / name, bodies[body])
                    elif kind == 1:
                        remove_file(at / other)
                    elif kind == 2:
                        write_file(at / targets[body], bodies[body])
                    elif there(at / targets[body]):
                        place_file(at / targets[body], at / targets[body + 6])
            _prune(folder)
            assert seen(place) == seen(folder)
        with data.reading() as unit:
            assert seen(Entry(unit.store)) == seen(folder)


def _prune(folder: Path) -> None:
    """A database has no empty folders."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


TIMESTAMP = "public/metadata/timestamp.json"


def test_a_publication_is_written_down_in_its_order(data: Data, clock: SimpleNamespace) -> None:
    start(data)
    with data.writing() as unit:
        release(unit.repository, image("1.0.0"), unit.now)
    assert unit.publication == 2
    with data.reading() as unit:
        files = unit.connection.execute(select(PUBLICATION_FILES).order_by(PUBLICATION_FILES.c.place)).all()
        made = [item.name.rpartition("/")[2] for item in files if item.publication == 1]
        assert made == ["1.targets.json", "1.pump.json", "1.snapshot.json", "1.root.json", "timestamp.json"]
        digest = sha256(image("1.0.0")).hexdigest()
        made = [item.name.removeprefix("public/") for item in files if item.publication == 2]
        assert made == [
            f"targets/pump/1.0.0/{digest}.app.bin",
            "metadata/2.pump.json",
            "metadata/2.snapshot.json",
            TIMESTAMP.removeprefix("public/"),
        ]
        rows = unit.connection.execute(select(PUBLICATIONS)).all()
        assert rows[1].roles == '{"pump":2,"snapshot":2,"timestamp":2}'
        assert (rows[1].time, rows[1].exported) == (clock.now, None)
        assert unit.connection.execute(select(func.count()).select_from(TARGETS)).scalar() == 1
    with data.writing() as unit:
        add_release(unit.repository, "pump", image("1.1.0"), Wish("app.bin", hardware=("nrf51-a",)), unit.now)
    assert unit.publication is None


def test_after_an_error_nothing_was_changed(data: Data) -> None:
    start(data)
    with data.reading() as unit:
        before = unit.connection.execute(select(FILES).order_by(FILES.c.name)).all()
    with contextlib.suppress(ZeroDivisionError), data.writing() as unit:
        release(unit.repository, image("1.0.0"), unit.now)
        _ = 1 // 0
    with data.reading() as unit:
        assert unit.connection.execute(select(FILES).order_by(FILES.c.name)).all() == before
        assert unit.repository.state().version("pump") == 1
    with data.writing() as unit:
        release(unit.repository, image("2.0.0", seed=2), unit.now)
    with data.reading() as unit:
        line = unit.repository.state().line("pump")
        assert list(line.targets) == ["pump/2.0.0/app.bin"]


def test_what_only_reads_writes_nothing(data: Data) -> None:
    start(data)
    with data.reading() as unit, pytest.raises(MisuseError, match="one that reads"):
        unit.repository.refresh(online(), unit.now)
    with data.reading() as unit, pytest.raises(MisuseError, match="one that reads"):
        unit.store.write("hillhold.toml", b"")


NAMES = [
    "../x",
    "a/../b",
    "/a",
    "a//b",
    ".",
    "a/.",
    "a\\b",
    "a\x00b",
    "a/",
    "ä",
    "a b",
    "x" * 513,
    "a\n",
    "..",
    "%2e%2e/x",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_elsewhere(data: Data, name: str) -> None:
    with data.writing() as unit:
        store = unit.store
        for call in (
            lambda: store.read(name, 9),
            lambda: store.digest(name),
            lambda: store.open(name),
            lambda: store.list(name),
            lambda: store.walk(name),
            lambda: store.write(name, b""),
            lambda: store.remove(name),
            lambda: store.place(name, name),
        ):
            with pytest.raises(FileRefused, match="name of a file"):
                call()


def test_a_file_that_never_changes_is_not_replaced(data: Data) -> None:
    start(data)
    with data.writing() as unit:
        for name in ("public/metadata/1.root.json", "public/metadata/1.pump.json"):
            with pytest.raises(StorageError, match="expected a new file"):
                unit.store.write(name, b"{}")
        with pytest.raises(FileRefused, match="hash"):
            unit.store.write(f"staged/{'0' * 64}", b"{}")
        with pytest.raises(FileRefused, match="hash"):
            unit.store.write("public/targets/pump/app.bin", b"{}")


def test_bytes_that_the_object_store_changed_are_not_handed_out(data: Data) -> None:
    body = b"firmware"
    name = f"staged/{sha256(body).hexdigest()}"
    with data.writing() as unit:
        unit.store.write(name, body)
    for spoiled in (b"FIRMWARE", b"firm"):
        data.objects.put(f"blobs/{sha256(body).hexdigest()}", spoiled)
        with data.reading() as unit, pytest.raises(HillholdError):
            unit.store.read(name, 100)


def test_what_a_cache_holds_is_bounded_and_asked_for() -> None:
    cache = Cache(10)
    cache.put("a", b"12345")
    cache.put("b", b"12345")
    assert cache.get("a") == b"12345"
    cache.put("c", b"1")
    assert cache.get("b") is None
    cache.put("a", b"")
    cache.put("d", bytes(9))
    assert (cache.get("a"), cache.get("c"), cache.get("d")) == (b"", b"1", bytes(9))
    cache.put("e", bytes(11))
    assert cache.get("e") is None


def test_a_cached_file_that_another_replica_removed_is_gone(connect: Callable[[], Database], tmp_path: Path) -> None:
    one, other = (Data(connect(), FolderObjects(tmp_path / "objects")) for _ in range(2))
    start(one)
    with other.writing() as unit:
        assert unit.store.read("public/metadata/1.pump.json", 10**6)
    with one.writing() as unit:
        unit.store.remove("public/metadata/1.pump.json")
    with other.reading() as unit:
        assert unit.store.read("public/metadata/1.pump.json", 10**6) is None


@pytest.mark.parametrize("name", ["1.pump.json", "1.targets.json", "1.snapshot.json"])
def test_a_file_of_the_last_chain_is_looked_for_each_time(
    connect: Callable[[], Database], tmp_path: Path, name: str
) -> None:
    one, other = (Data(connect(), FolderObjects(tmp_path / "objects")) for _ in range(2))
    start(one)
    path = f"public/metadata/{name}"
    for data in (one, other):
        with data.reading("pump") as unit:
            unit.repository.state().published("pump")
            assert unit.store.read(path, 10**6)
    with one.writing("pump") as unit:
        unit.store.remove(path)
    for data in (one, other):
        with data.reading("pump") as unit:
            unit.repository.state()
            assert unit.store.read(path, 10**6) is None


def test_what_was_tried_leaves_only_blobs_and_needs_one_connection(data: Data, connect: Callable[[], Database]) -> None:
    start(data)
    data.database.engine.dispose()
    taken = 0

    def count(*_: object) -> None:
        nonlocal taken
        taken += 1

    event.listen(data.database.engine, "checkout", count)
    body = image("1.0.0")
    digest = sha256(body).hexdigest()
    with data.trying() as unit:
        add_release(unit.repository, "pump", body, Wish("app.bin", hardware=("nrf51-a",)), unit.now)
        assert "pump" in unit.repository.state().drafts
        assert taken == 1
    assert data.objects.length(f"blobs/{digest}") == len(body)
    with data.reading() as unit:
        assert unit.connection.execute(select(BLOBS.c.length).where(BLOBS.c.sha256 == digest)).scalar() == len(body)
        assert not there(Entry(unit.store, f"staged/{digest}"))
        assert "pump" not in unit.repository.state().drafts


def test_few_statements_are_asked(data: Data) -> None:
    start(data)
    with data.writing() as unit:
        add_release(unit.repository, "pump", image("1.0.0"), Wish("app.bin", hardware=("nrf51-a",)), unit.now)
    asked: list[str] = []
    event.listen(data.database.engine, "before_cursor_execute", lambda *found: asked.append(found[2]))

    def count(work: Callable[[Repository], object], line: str = "") -> int:
        with data.writing(line) as unit:
            asked.clear()
            work(unit.repository)
        return len(asked)

    assert count(lambda one: one.state()) <= 2
    assert count(lambda one: [(role, one.state().quorum(role)) for role in one.state().drafts]) <= 2
    assert count(lambda one: make_request(one, "pump")) <= 5
    assert count(lambda one: make_request(one, "pump"), "pump") == 1
    assert count(lambda one: sign_all(one, "release-1")) <= 4
    assert count(lambda one: sign_all(one, "release-2")) <= 4
    assert count(lambda one: one.publish(online(), 1_767_225_600)) <= 12
