"""A disk that is full: of the database, or of the objects. Nothing is half-written, and all goes on once there is space again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from hillhold_signer.service.database import Database
from hillhold_signer.service.service import Service
from servicekit import Kit, make_kit, never_asked, serving, sign, states, submit, until, upload
from witness import Auditor, Device, check_published, quiet
from workshop import image

MANY = 12


class Disk:
    """A disk of a service, which a test fills: SQLite is told to take no page more, and folders take no byte more."""

    def __init__(self, database: Database, patch: pytest.MonkeyPatch) -> None:
        self._database, self._full, self._patch = database, False, patch
        event.listen(database.engine, "checkout", self._limit)

    def _limit(self, connection: Any, *_: Any) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages if self._full else 1 << 30}")

    @contextmanager
    def full(self, *, database: bool = False, objects: bool = False) -> Iterator[None]:
        """Be full meanwhile."""
        self._full = database
        with self._patch.context() as patch:
            if objects:
                patch.setattr("os.fsync", _no_space)  # where most file systems say so at the latest
            yield
        self._full = False


def _no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service")
    yield made
    made.data.database.close()


@pytest.fixture
def disk(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Disk, str]]:
    service = Service(kit.settings, never_asked, lambda name, error: kit.failures.append((name, error)))
    with serving(service) as url:
        yield Disk(service.data.database, monkeypatch), url


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_full_database_takes_nothing_and_loses_nothing(kit: Kit, disk: tuple[Disk, str], tmp_path: Path) -> None:
    the_disk, url = disk
    quiet(kit)
    device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
    before = auditor.read()
    with kit.client(url, "ci") as ci, kit.client(url, "ada") as ada, kit.client(url, "grace") as grace:
        uploaded = [upload(ci, image(f"1.{number}.0", seed=number)) for number in range(MANY)]
        with the_disk.full(database=True):
            told = []
            for digest in uploaded:  # the last pages that were free are taken before that
                value = {
                    "images": [{"sha256": digest, "file_name": "app.bin"}],
                    "hardware": ["nrf51-a"],
                    "patch_from": ["none"],
                }
                told.append(ci.post("/v1/lines/pump/releases", json=value))
            assert 503 in [answer.status_code for answer in told]
            for answer in told:
                if answer.status_code != 201:
                    refused(answer)
            taken = [f"1.{number}.0" for number, answer in enumerate(told) if answer.status_code == 201]
            assert sorted(states(ada)) == sorted(taken)  # looking needs no space
            device.look()
        for number, answer in enumerate(told):
            if answer.status_code != 201:
                assert submit(ci, image(f"1.{number}.0", seed=number), patch_from=["none"]).status_code == 201
        assert sign(ada, "release-1").status_code == 200
        assert sign(grace, "release-2").status_code == 200
        until(lambda: set(states(ada).values()) == {"available"})
        quiet(kit)
    paths = [f"pump/1.{number}.0/app.bin" for number in range(MANY)]
    assert device.look(*paths) == set(paths)
    auditor.check(*paths)
    assert auditor.read()[: len(before)] == before
    check_published(kit, tmp_path / "tree")


def test_a_full_disk_of_objects_takes_no_file_and_delays_what_devices_see(
    kit: Kit, disk: tuple[Disk, str], tmp_path: Path
) -> None:
    the_disk, url = disk
    quiet(kit)
    device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
    with kit.client(url, "ci") as ci, kit.client(url, "ada") as ada, kit.client(url, "grace") as grace:
        assert submit(ci, image("1.0.0")).status_code == 201
        assert sign(ada, "release-1").status_code == 200
        quiet(kit)
        data = image("1.1.0", seed=2)
        digest = sha256(data).hexdigest()
        with the_disk.full(objects=True):
            refused(ci.put(f"/v1/blobs/{digest}", content=data))
            place = ci.post("/v1/uploads", json={"sha256": digest, "length": len(data)}).headers["Location"]
            refused(ci.patch(place, content=data, headers={"Upload-Offset": "0"}))
            assert ci.head(place).headers["Upload-Offset"] == "0"
            assert sign(grace, "release-2").status_code == 200  # it is decided in the database
            until(lambda: any(name == "export" for name, _ in kit.failures))
            assert states(ada) == {"1.0.0": "published"}
            assert device.look("pump/1.0.0/app.bin") == set()
        until(lambda: states(ada) == {"1.0.0": "available"})
        assert ci.patch(place, content=data, headers={"Upload-Offset": "0"}).json()["complete"] is True
        assert submit(ci, data).status_code == 201
        quiet(kit)
    assert device.look("pump/1.0.0/app.bin") == {"pump/1.0.0/app.bin"}
    auditor.check("pump/1.0.0/app.bin")
    check_published(kit, tmp_path / "tree")
    # A service that runs may be writing one just now; one that is left would stay.
    until(lambda: not [path for path in kit.settings.folder.rglob("*") if path.is_file() and path.name.startswith(".")])
